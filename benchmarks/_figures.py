"""What every benchmark prints: a figure, its goal, and whether it was met."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

RAM_DISK = Path("/dev/shm")  # where Linux has one


def say(text: str) -> None:
    """One line of the table."""
    print(f"   {text}", flush=True)


def goal(name: str, found: float, unit: str, *, most: float | None = None, least: float | None = None) -> bool:
    """Print a figure beside its goal; whether it was met."""
    met = (most is None or found <= most) and (least is None or found >= least)
    wanted = f"≤ {most:g}" if most is not None else f"≥ {least:g}"
    say(f"{name:<46} {found:10.4g} {unit:<9} goal {wanted:<7} {'met' if met else 'MISSED'}")
    return met


def times(name: str, seconds: Sequence[float]) -> None:
    """Median and 99th percentile of durations, in milliseconds."""
    if seconds:
        say(f"{name:<46} median {median_ms(seconds):8.3f} ms   p99 {high_ms(seconds):8.3f} ms   n={len(seconds)}")


def median_ms(seconds: Sequence[float]) -> float:
    return statistics.median(seconds) * 1000


def high_ms(seconds: Sequence[float]) -> float:
    """The 99th percentile, in milliseconds."""
    ranked = sorted(seconds)
    return ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))] * 1000


def interleaved(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds each work took in each round, taken in turns so that the machine's mood meets all of them."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            spent[name].append(time.perf_counter() - began)
    return spent


def sync_seconds(folder: Path, count: int = 100) -> list[float]:
    """How long this disk takes to make 4 kB of a file durable: no commit of any database is faster.

    The file has its size already, as a database's log has after its first round.
    """
    spent = []
    with (folder / "sync.probe").open("w+b") as file:
        file.write(bytes(4096 * 16))
        file.flush()
        os.fsync(file.fileno())
        for turn in range(count):
            file.seek(4096 * (turn % 16))
            file.write(os.urandom(4096))
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            spent.append(time.perf_counter() - began)
    return spent


@contextmanager
def folders() -> Iterator[dict[str, Path]]:
    """A temporary folder on the disk and, where there is one, on a RAM disk: what is the disk's and what is ours."""
    with tempfile.TemporaryDirectory() as disk:
        if not (RAM_DISK.is_dir() and os.access(RAM_DISK, os.W_OK)):
            say(f"skipped: the same on a RAM disk, since {RAM_DISK} cannot be written")
            yield {"disk": Path(disk)}
            return
        with tempfile.TemporaryDirectory(dir=RAM_DISK) as ram:
            yield {"disk": Path(disk), "RAM disk": Path(ram)}
