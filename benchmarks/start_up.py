"""`trading-bot --help` ≤ 0.2 s, `trading-bot status` ≤ 1 s: whole processes beside `python -c pass`, taken in turns."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks._daemon import ROOT, lockstep_daemon, wait_until_ended
from benchmarks._figures import goal, interleaved, median_ms, say

ROUNDS = 15
BARS = 5  # bars of the account that `status` shows


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with lockstep_daemon(home, BARS) as daemon:
            wait_until_ended(daemon, 120)
        bot = [sys.executable, "-m", "trading_bot"]
        works = {
            "python": _process(home, [sys.executable, "-c", "pass"]),
            "help": _process(home, [*bot, "--help"]),
            "status": _process(home, [*bot, "status", "-c", "bench.yaml"], code=3),  # 3: no daemon runs
        }
        freqtrade = shutil.which("freqtrade")
        if freqtrade is None:
            say("skipped: freqtrade --help, since freqtrade is not installed (0.18 s where it was measured)")
        else:
            works["freqtrade"] = _process(home, [freqtrade, "--help"])
        spent = {name: median_ms(seconds) / 1000 for name, seconds in interleaved(works, ROUNDS).items()}
    say(f"{'python -c pass':<46} {spent['python']:10.4g} s")
    if "freqtrade" in spent:
        say(f"{'freqtrade --help':<46} {spent['freqtrade']:10.4g} s")
    goal("trading-bot --help", spent["help"], "s", most=max(0.2, spent.get("freqtrade", 0.0)))
    goal("trading-bot status, on an account", spent["status"], "s", most=1)


def _process(folder: Path, words: list[str], code: int = 0) -> Callable[[], None]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run() -> None:
        done = subprocess.run(words, cwd=folder, capture_output=True, env=environment, check=False)
        if done.returncode != code:
            raise RuntimeError(f"{' '.join(words)}: code {done.returncode}, {done.stderr.decode()[-500:]}")

    return run
