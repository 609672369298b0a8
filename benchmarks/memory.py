"""Resident memory of the daemon over 50,000 candles in lockstep; goal ≤ 300 MB and flat: < 1 MB for 10,000 bars.

The slope is a least-squares line through the samples after the warm-up. No peer: it is a promise, not a race.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmarks._daemon import SYMBOLS, Daemon, lockstep_daemon, wait_for_first_decision, wait_until_ended
from benchmarks._figures import goal, say

CANDLES = 50_000
WARM_UP = 0.2  # part of the run in which caches may still fill
SAMPLE_SECONDS = 1.0
ROWS = 10  # of the printed table
LIMIT = 1800.0  # seconds

Sample = tuple[int, dict[str, float]]  # bars closed, MB


def main() -> None:
    bars = CANDLES // len(SYMBOLS)
    with tempfile.TemporaryDirectory() as folder:
        with lockstep_daemon(Path(folder), bars) as daemon:
            wait_for_first_decision(daemon)
            samples = _watch(daemon)
            wait_until_ended(daemon, LIMIT)
        files = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
    say(f"{bars} bars of {len(SYMBOLS)} symbols, {len(samples)} samples; it left {files:.0f} MB of files")
    _table(samples)
    settled = [sample for sample in samples if sample[0] >= WARM_UP * bars]
    goal("most resident memory", max(memory["VmRSS"] for _, memory in samples), "MB", most=300)
    if len(settled) < 3:
        say("skipped: the slope, since too few samples are left after the warm-up")
        return
    goal("growth after warm-up", slope(settled, "VmRSS"), "MB/10k bars", most=1)
    say(f"  of it the process' own {slope(settled, 'RssAnon'):+.2f}, mapped files {slope(settled, 'RssFile'):+.2f}")


def _watch(daemon: Daemon) -> list[Sample]:
    samples: list[Sample] = []
    while daemon.running:
        bars, memory = daemon.bars_closed(), daemon.memory()
        if bars is not None and memory:
            samples.append((bars, memory))
        with suppress(subprocess.TimeoutExpired):
            daemon.process.wait(SAMPLE_SECONDS)
    return samples


def _table(samples: Sequence[Sample]) -> None:
    say(f"{'bars':>8} {'resident':>9} {'own':>7} {'mapped':>7}   MB")
    for index in np.unique(np.linspace(0, len(samples) - 1, ROWS).astype(int)):
        bars, memory = samples[index]
        say(f"{bars:>8} {memory['VmRSS']:>9.1f} {memory['RssAnon']:>7.1f} {memory['RssFile']:>7.1f}")


def slope(samples: Sequence[Sample], kind: str) -> float:
    """MB for 10,000 bars, by least squares."""
    bars = np.array([bars for bars, _ in samples], float)
    values = np.array([memory[kind] for _, memory in samples])
    return float(np.polyfit(bars, values, 1)[0] * 10_000) if np.ptp(bars) else 0.0
