"""A daemon over a replayed market in this process: real loop, jobs and trader; fake candles, clock and venue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from loguru import logger

from tests.trading.stage import HOUR, WARMUP, Stage
from trading_bot.backtest.engine import windows_at
from trading_bot.bootstrap import Bot
from trading_bot.domain.journal import Command
from trading_bot.domain.market import Candles
from trading_bot.ports import Store
from trading_bot.service.daemon import Daemon
from trading_bot.settings import Settings, load_settings

DEADLINE = 20.0  # seconds for anything to happen


@dataclass
class Feed:
    """`CachedCandles` over a stage's market, failing where it is told to."""

    stage: Stage
    troubles: dict[str, list[Exception | None]] = field(default_factory=dict)  # symbol -> what its next pulls raise
    pulls: list[str] = field(default_factory=list)
    flushed: int = 0
    late: dict[str, int] = field(default_factory=dict)  # symbol -> pulls until its newest bar shows

    def pull(self, symbol: str, timeframe: str) -> None:
        self.pulls.append(symbol)
        self.late[symbol] = self.late.get(symbol, 0) - 1
        waiting = self.troubles.get(symbol)
        if waiting and (trouble := waiting.pop(0)) is not None:
            raise trouble

    def window(self, symbol: str, timeframe: str, end_time: int, warmup: int) -> Candles:
        if self.late.get(symbol, 0) > 0:
            return Candles.empty(symbol, timeframe)
        rows = {symbol: self.stage.candles[symbol]}
        return windows_at(rows, end_time, HOUR, WARMUP).get(symbol, Candles.empty(symbol, timeframe))

    def newest(self, symbol: str, timeframe: str) -> int | None:
        rows = self.candles(symbol, timeframe)
        return int(rows.time[-1]) if len(rows) else None

    def candles(self, symbol: str, timeframe: str, since: int | None = None) -> Candles:
        rows = self.stage.candles[symbol]
        first, end = rows.time.searchsorted((since or 0, self.stage.market.now() - HOUR + 1))
        return rows[int(first) : int(end)]

    def flush(self) -> None:
        self.flushed += 1


@dataclass
class Clock:
    """Market time of a stage, in lockstep: asking again closes the next bar."""

    stage: Stage
    reported: int | None = None
    still: bool = False  # no more bars close, but the market has not ended
    jump: int = 0  # bars that close unseen at the next look
    settle_ms: int = 0
    waits: bool = False

    def now(self) -> int:
        return self.stage.market.now()

    def next_close(self, timeout: float) -> int | None:
        if self.reported == self.now():
            if self.still:
                threading.Event().wait(0.001)
                return None
            for _ in range(1 + self.jump):
                self.stage.market.advance()
            self.jump = 0
        self.reported = self.now()
        return self.reported


def settings(**service: Any) -> Settings:
    quick = {"heartbeat_seconds": 0.1, "poll_seconds": 0.02, "reconcile_seconds": 0.1, **service}
    flags = {f"service.{name}": str(value) for name, value in quick.items()}
    environment = {f"TRADING_BOT__{name.upper().replace('.', '__')}": value for name, value in flags.items()}
    return load_settings([], {}, environment)


def bot_on(stage: Stage, store: Store | None = None, **service: Any) -> Bot:
    """A bot over a stage that has a trader."""
    feed: Any = Feed(stage)
    return Bot(
        settings=settings(**service), store=store or stage.store, trader=stage.make_trader(), feed=feed,
        clock=Clock(stage), symbols=tuple(stage.candles), timeframe="1h", bar_ms=HOUR, warmup=WARMUP, quote="USDT",
        market="stage", configuration={},
    )  # fmt: skip


@dataclass
class Running:
    """A daemon in a thread of its own."""

    daemon: Daemon
    thread: threading.Thread
    outcome: list[str | BaseException]

    def command(self, name: str, number: int = 1) -> Callable[[], Command | None]:
        """Give a command as the command line does; the function tells it once it is handled."""
        key = f"{name}-{number}"
        with self.daemon.bot.store.transaction() as tx:
            tx.add(Command(key, name, datetime.now(UTC)))

        def handled() -> Command | None:
            with self.daemon.bot.store.reading() as tx:
                command = tx.get(Command, key)
            return command if command is not None and command.handled is not None else None

        return handled

    def obeyed(self, name: str, number: int = 1) -> str:
        """The answer to a command."""
        handled = self.command(name, number)
        until(lambda: handled() is not None, f"{name} was not handled")
        done = handled()
        assert done is not None
        return done.answer

    def stop(self) -> None:
        self.daemon.stop_reason = self.daemon.stop_reason or "the test is over"
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive(), "the daemon did not stop"


@contextmanager
def running(bot: Bot) -> Iterator[Running]:
    """The daemon's whole life in a thread; stopped at the end."""
    outcome: list[str | BaseException] = []
    daemon = Daemon(bot)

    def life() -> None:
        try:
            outcome.append(daemon.run())
        except BaseException as error:
            outcome.append(error)

    alive = Running(daemon, threading.Thread(target=life, name="daemon under test"), outcome)
    alive.thread.start()
    try:
        yield alive
    finally:
        alive.stop()


@contextmanager
def log_lines() -> Iterator[list[str]]:
    """Everything logged meanwhile."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), format="{level} {message}", level="DEBUG")
    try:
        yield lines
    finally:
        logger.remove(sink)


def until(condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.005)
