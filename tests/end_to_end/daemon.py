"""A bot in a folder of its own, run as a real process: start, wait for something, stop or kill, read both ledgers.

with home(tmp_path, market={"max_bars": 50}) as bot:
    finished = bot.run()
    assert finished.code == 0, finished.said
    bot.ledgers().assert_agree()
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.end_to_end.ledgers import Ledgers, read_ledgers
from trading_bot.exchange.local_control import LocalControl
from trading_bot.exchange.simulator.server import ServerInfo, find_server
from trading_bot.settings import Settings, load_settings
from trading_bot.storage.store import SqlStore, open_readonly

ROOT = Path(__file__).parents[2]
STRATEGIES = ROOT / "strategies"
DEADLINE = 60.0  # seconds for anything to happen on a busy machine

_BASE: dict[str, Any] = {
    "bot_id": "e2e",
    "data_dir": "data",
    "strategy_path": str(STRATEGIES),
    "market": {"candles": "synthetic", "candles_per_second": "lockstep", "history": 600, "max_bars": 60},
    "synthetic": {"seed": 7, "bars": 1200},
    "learning": {"enabled": False},
    "unclear_orders": {"lookups": 3, "seconds": 0.5},
    "service": {"poll_seconds": 0.5, "heartbeat_seconds": 1.0, "reconcile_seconds": 1.0},
}


def until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds:g} s: {what}"
        pause(0.01)


def pause(seconds: float) -> None:
    """Let this process rest between two looks; nothing relies on how long."""
    threading.Event().wait(seconds)


@dataclass(frozen=True)
class Finished:
    """A program that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        return f"exit code {self.code}\n{self.stdout[-2000:]}\n{self.stderr[-6000:]}"


class Life:
    """One process of the daemon."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process, self._out, self._err = process, out, err

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def ended(self, seconds: float = DEADLINE) -> Finished:
        """Wait for the end."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it still ran after {seconds:g} s; {self.finished(-9).said}") from None
        return self.finished(code)

    def finished(self, code: int) -> Finished:
        return Finished(code, self._out.read_text(errors="replace"), self._err.read_text(errors="replace"))


@dataclass
class Home:
    """A folder with a configuration, and whatever the bot leaves there."""

    folder: Path
    lives: list[Life] = field(default_factory=list)

    def write(self, **changes: Any) -> None:
        """The configuration: what every test has, with `changes` key by key."""
        self.config.write_text(yaml.safe_dump(_merged(_BASE, changes)))

    @property
    def config(self) -> Path:
        return self.folder / "bot.yaml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def state(self) -> Path:
        return self.data / "exchange"

    @property
    def logfile(self) -> Path:
        return self.folder / "logs" / "bot_debug.log"

    def settings(self) -> Settings:
        """As the daemon reads them, with paths that hold from here."""
        return load_settings([self.config], {"data_dir": str(self.data)}, {})

    # ── processes ──────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, *flags: str) -> Life:
        """A daemon in a process of its own."""
        number = len(self.lives)
        out, err = self.folder / f"out-{number}.txt", self.folder / f"err-{number}.txt"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "trading_bot", "run", "-c", self.config.name, *flags],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment(),
            )
        life = Life(process, out, err)
        self.lives.append(life)
        return life

    def run(self, *flags: str, seconds: float = 2 * DEADLINE) -> Finished:
        """A whole life, to its own end."""
        return self.start(*flags).ended(seconds)

    def verb(self, *words: str) -> Finished:
        """Another verb, while the daemon runs or after."""
        done = subprocess.run(
            [sys.executable, "-m", "trading_bot", *words, "-c", self.config.name],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            env=environment(),
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def exchange(self) -> ServerInfo | None:
        """The local exchange that serves this folder now."""
        return find_server(self.state)

    def control(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask (or with `body` tell) the running local exchange."""
        info = self.exchange()
        assert info is not None, "no local exchange runs"
        control = LocalControl(info.url)
        try:
            return control.get(path) if body is None else control.post(path, body)
        finally:
            control.close()

    def clean_up(self) -> None:
        """End what a failed test left running: our own children, and the exchange that holds this folder."""
        for life in self.lives:
            if life.running:
                life.kill()
        info = self.exchange() if self.state.exists() else None
        if info is not None:
            with suppress(ProcessLookupError):
                os.kill(info.pid, signal.SIGKILL)
            until(lambda: self.exchange() is None, "the exchange's end")

    # ── what it wrote ──────────────────────────────────────────────────────────────────────────────────────────────

    def log(self) -> str:
        return self.logfile.read_text() if self.logfile.exists() else ""

    def lines(self, pattern: str) -> list[str]:
        """The log's lines that match, without date and level."""
        found = re.compile(pattern)
        return [line[32:] for line in self.log().splitlines() if found.search(line[32:])]

    def wait_for(self, pattern: str, count: int = 1, seconds: float = DEADLINE) -> None:
        """Wait until the log has so many lines that match; the daemon must not end before."""
        life = self.lives[-1]

        def there() -> bool:
            ended = not life.running
            if len(self.lines(pattern)) >= count:
                return True
            assert not ended, f"it ended before {pattern!r}: {life.ended().said}"
            return False

        until(there, f"{count} lines {pattern!r} in the log", seconds)

    @contextmanager
    def store(self) -> Iterator[SqlStore]:
        """The bot's database, to read."""
        store = open_readonly(self.settings().database_url)
        try:
            yield store
        finally:
            store.close()

    def rows(self, kind: type[Any], **where: Any) -> list[Any]:
        """Records of the bot's database."""
        with self.store() as store, store.reading() as tx:
            return list(tx.find(kind, **where))

    def ledgers(self) -> Ledgers:
        """Both sides' books as they stand in their databases."""
        venue = open_readonly(f"sqlite:///{self.state / 'exchange.sqlite'}")
        try:
            with self.store() as store:
                return read_ledgers(store, venue)
        finally:
            venue.close()


@contextmanager
def home(folder: Path, **changes: Any) -> Iterator[Home]:
    """A new home with this configuration; nothing of it runs any more afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    bot = Home(folder)
    bot.write(**changes)
    try:
        yield bot
    finally:
        bot.clean_up()


def environment() -> dict[str, str]:
    """Ours without what would change the configuration or warn about it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRADING_BOT__")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def gone(pid: int) -> bool:
    """Whether no process has this id (one that ended and was never waited for is gone too)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            merged[key] = _merged(base[key], value)
        else:
            merged[key] = value
    return merged
