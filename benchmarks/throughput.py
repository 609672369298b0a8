"""The real daemon replays 3 symbols in lockstep: HTTP, SQLite commits, log included; goal ≥ 20 closed candles a second.

No peer: no other bot replays through its exchange client. The processor time is the bot's own, without its exchange.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import tempfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from benchmarks._daemon import SYMBOLS, Daemon, lockstep_daemon, wait_for_first_decision, wait_until_ended
from benchmarks._figures import goal, median_ms, say, sync_seconds, times

BARS = 600
WARM_UP = 20  # bars at the beginning that are left out: first imports, first connections
LIMIT = 600.0  # seconds


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        probe = median_ms(sync_seconds(home))
        with lockstep_daemon(home, BARS) as daemon:
            wait_for_first_decision(daemon)
            processor = _watch(daemon)
        bars = bar_times(home / "logs")[WARM_UP:]
        lines = _log_lines(home / "logs")
    seconds = [later - earlier for earlier, later in itertools.pairwise(bars)]
    say(f"{len(bars)} bars of {len(SYMBOLS)} symbols, {lines} log lines; one sync of this disk {probe:.2f} ms")
    goal("closed candles a second, end to end", len(SYMBOLS) * len(seconds) / sum(seconds), "candles/s", least=20)
    times("one bar (3 candles fetched, decided, committed)", seconds)
    say(f"processor time of the bot, start-up included     {processor / BARS * 1000:8.2f} ms a bar")


def _watch(daemon: Daemon) -> float:
    """Processor seconds of the bot, last seen before its end."""
    seen = 0.0
    while daemon.running:
        seen = daemon.cpu_seconds() or seen
        with suppress(subprocess.TimeoutExpired):
            daemon.process.wait(0.2)
    wait_until_ended(daemon, LIMIT)
    return seen


def bar_times(logs: Path) -> list[float]:
    """When the decisions of each bar were logged, seconds: the first line of each set of symbols."""
    stamps = []
    for file in sorted(logs.glob("*.log"), key=lambda path: path.stat().st_mtime):
        lines = (line for line in file.read_text().splitlines() if re.match(r"\S+ \S+ INFO +decision ", line))
        stamps += [datetime.fromisoformat(f"{line[:23]}+00:00").timestamp() for line in lines]
    return stamps[:: len(SYMBOLS)]


def _log_lines(logs: Path) -> int:
    return sum(len(file.read_text().splitlines()) for file in logs.glob("*.log"))
