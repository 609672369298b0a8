"""A real daemon in a process of its own: 3 synthetic symbols in lockstep over HTTP, SQLite commits and log included."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from trading_bot.errors import ExchangeError
from trading_bot.exchange.local_control import LocalControl
from trading_bot.exchange.simulator.server import find_server

ROOT = Path(__file__).parent.parent
SYMBOLS = ("BTC/USDT", "ETH/USDT", "ADA/USDT")
HISTORY = 600
START, BAR_MS = 1_704_067_200_000, 3_600_000  # 2024-01-01 and an hour, ms
START_SECONDS = 120.0


@dataclass
class Daemon:
    """One that runs. `pid` is the bot's; its exchange is a process of its own."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def log(self) -> Path:
        return self.folder / "logs" / "bot_debug.log"

    def exchange_pid(self) -> int | None:
        server = find_server(self.folder / "data" / "exchange")
        return None if server is None else server.pid

    def bars_closed(self) -> int | None:
        """Bars that have closed since the history; None while the exchange does not answer."""
        server = find_server(self.folder / "data" / "exchange")
        if server is None:
            return None
        control = LocalControl(server.url)
        try:
            clock = control.get("clock")
        except ExchangeError:
            return None
        finally:
            control.close()
        return int(clock["now"] - START) // BAR_MS - HISTORY

    def cpu_seconds(self) -> float:
        """Processor time of the bot (not of its exchange) so far; 0 when it is gone."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> dict[str, float]:
        """Resident memory in MB: all of it, of it the process' own, of it mapped files; empty when it is gone."""
        try:
            text = Path(f"/proc/{self.pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return {}
        rows = dict(line.split(":", 1) for line in text.splitlines())
        if "VmRSS" not in rows:
            return {}  # it has ended and was not waited for yet
        return {name: int(rows[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon", "RssFile")}


@contextmanager
def lockstep_daemon(folder: Path, bars: int) -> Iterator[Daemon]:
    """A daemon that will decide `bars` bars as fast as it can and then end by itself."""
    with paced_daemon(folder, bars, "lockstep") as daemon:
        yield daemon


@contextmanager
def paced_daemon(
    folder: Path, bars: int, pace: float | str, history: int = HISTORY, **learning: object
) -> Iterator[Daemon]:
    """A daemon whose market closes `pace` bars a second; `learning` are keys of that section."""
    config = folder / "bench.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "bot_id": "bench",
                "data_dir": "data",
                "strategy_path": str(ROOT / "strategies"),
                "market": {"candles": "synthetic", "candles_per_second": pace, "history": history, "max_bars": bars},
                "synthetic": {"seed": 7, "symbols": list(SYMBOLS), "timeframe": "1h", "start": "2024-01-01",
                              "bars": history + bars + 10},
                "learning": learning,
                "logging": {"console_level": "ERROR"},
            }
        )
    )  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRADING_BOT__")}
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "trading_bot", "run", "-c", config.name],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**environment, "PYTHONPATH": str(ROOT)},
        )
    daemon = Daemon(process, folder)
    try:
        yield daemon
    finally:
        end(daemon)


def end(daemon: Daemon) -> None:
    """Stop it if it has not ended by itself, and its exchange with it."""
    if daemon.running:
        daemon.process.send_signal(signal.SIGTERM)
        try:
            daemon.process.wait(15)
        except subprocess.TimeoutExpired:
            daemon.process.kill()
            daemon.process.wait()
    left = daemon.exchange_pid()
    if left is not None:
        with suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)


def wait_until_ended(daemon: Daemon, seconds: float) -> None:
    """Wait for its own end.

    Raises
    ------
    RuntimeError
        It took longer or failed; the text is what it said.
    """
    try:
        code = daemon.process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the daemon still ran after {seconds:g} s") from None
    if code != 0:
        raise RuntimeError(f"the daemon ended with code {code}: {(daemon.folder / 'output.txt').read_text()[-2000:]}")


def wait_for_first_decision(daemon: Daemon) -> None:
    """Wait until it trades."""
    deadline = time.monotonic() + START_SECONDS
    while not (daemon.log.exists() and " decision " in daemon.log.read_text()):
        if not daemon.running or time.monotonic() > deadline:
            raise RuntimeError(f"the daemon did not begin: {(daemon.folder / 'output.txt').read_text()[-2000:]}")
        time.sleep(0.05)
