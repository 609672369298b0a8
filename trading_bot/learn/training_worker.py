"""What a process does that was started to train strategies. Imports nothing heavy: first it sets how many threads."""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from trading_bot.durable import replacing

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from loguru import Message

_PAGES = Path("/proc/self/statm")  # its first number: how many are mapped
JOB, RESULT, LOG = "job.pickle", "result.pickle", "log.jsonl"


def work(pipe: Connection, everything: Path) -> None:
    """Train the job in each folder that is named on the pipe, leave the report there and say so; until it closes.

    Parameters
    ----------
    everything : what holds those folders; removed if the parent ends before it could
    """
    if hasattr(os, "setsid"):
        os.setsid()  # a group of our own, out of reach of Ctrl-C: the parent ends all of it
    _guard(pipe, everything)
    with contextlib.suppress(OSError):  # if memory runs out, the system should take this process, not the bot
        Path("/proc/self/oom_score_adj").write_text("500")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # read when numpy and torch are loaded: one core for each of several processes
    logger.remove()
    with contextlib.suppress(EOFError):
        while True:
            _train(pipe.recv())
            pipe.send(True)


def _train(folder: Path) -> None:
    with (folder / LOG).open("a", encoding="utf-8", buffering=1) as log:
        sink = logger.add(lambda message: _write(message, log), format="{message}", backtrace=False, diagnose=False)
        report = _report(folder)
        logger.remove(sink)
    with replacing(folder / RESULT, durable=False) as file:
        file.write(pickle.dumps(report))


def _report(folder: Path) -> Any:
    training = importlib.import_module("trading_bot.learn.strategy_report")
    try:
        job = pickle.loads((folder / JOB).read_bytes())  # noqa: S301 our parent wrote it
    except Exception as error:
        return training.StrategyTrainingReport(
            "", "failed", error=f"its model cannot be rebuilt in a process: {training.say(error)}"
        )
    limit = job.config.memory_limit_mb
    try:
        with _at_most(limit):
            report = training.train_job(job)
    except MemoryError:  # so little was left that the error could not be told
        return training.StrategyTrainingReport(job.name, "failed", error=f"MemoryError{_beyond(limit)}")
    if limit is not None and any(words in (report.error or "") for words in ("MemoryError", "allocate memory")):
        return replace(report, error=report.error + _beyond(limit))
    return report


def _beyond(limit: int | None) -> str:
    return "" if limit is None else f"; it may take {limit} MB: raise memory_limit_mb, or train on fewer rows"


@contextlib.contextmanager
def _at_most(limit: int | None) -> Iterator[None]:
    """Let what happens within map so many megabytes more than are mapped now; any number where no limit can be held.

    A limit on what is mapped is the one the system holds for a process by itself: an allocation beyond it fails, which
    Python tells as a MemoryError.
    """
    if limit is None or sys.platform == "win32" or not _PAGES.exists():
        yield
        return
    before, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = int(_PAGES.read_text().split()[0]) * resource.getpagesize() + int(limit) * 2**20
    bounds = [each for each in (wanted, before, most) if each != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, most))


def _write(message: Message, log: Any) -> None:
    record = message.record
    line = {"time": record["time"].isoformat(), "level": record["level"].name, "message": record["message"]}
    log.write(json.dumps(line) + "\n")


def _guard(pipe: Connection, everything: Path) -> None:
    """End with the process that started this one, in whatever way that ends; nobody else would.

    By a process of its own where there can be one: a worker that hangs in a library gives none of its threads a turn.
    It is in the worker's group and ends with it.
    """
    parent, worker = multiprocessing.parent_process(), os.getpid()
    if parent is None:
        return
    if not hasattr(os, "fork"):
        threading.Thread(target=_end_with_parent, args=(parent.sentinel, worker, everything), daemon=True).start()
    elif os.fork() == 0:
        pipe.close()  # whose end tells that the worker has died
        _end_with_parent(parent.sentinel, worker, everything)


def _end_with_parent(sentinel: int, worker: int, everything: Path) -> None:
    """Once the parent is gone: end the worker, tidy up, end all that it began, this process too."""
    while not wait([sentinel], 1.0):
        if os.getpid() != worker and os.getppid() != worker:
            os._exit(0)  # the worker has ended
    if os.getpid() != worker:
        os.kill(worker, signal.SIGKILL)
    deadline = time.monotonic() + 2.0
    while everything.exists() and time.monotonic() < deadline:  # other workers may be writing still
        shutil.rmtree(everything, ignore_errors=True)
    if hasattr(os, "killpg"):
        os.killpg(worker, signal.SIGKILL)
    os._exit(1)
