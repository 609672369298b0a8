"""What is done when: jobs look outside (clock, candles, database) and put events on the one queue. None of them trades.

Market-time work follows bars; heartbeat and polls follow the wall clock. A job that fails is logged with its cause,
counted, shown as degraded and tried again with growing pauses; it never ends the daemon.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Queue

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent
from apscheduler.schedulers.background import BackgroundScheduler

from trading_bot.bootstrap import Bot
from trading_bot.domain.journal import Command
from trading_bot.domain.market import Candles
from trading_bot.errors import CandleDataError, ExchangeError, ExchangeThrottled, TradingBotError
from trading_bot.logs import event
from trading_bot.ports import MarketEnded
from trading_bot.service.learning import LearningJob
from trading_bot.trading.events import BarsClosed, CommandGiven, Event, OrdersDue, ReconcileDue, Stop

COMMAND_SECONDS = 0.5  # how soon a command is noticed
MODELS_SECONDS = 1.0  # how soon a promotion by the user is noticed
LONGEST_PAUSE = 60.0  # seconds between tries of a failing job
LATE_BAR_PAUSE = 0.5  # seconds between looks for a bar that a venue has not shown yet
STALE_BARS = 3  # so many bars without a new candle are a warning


@dataclass(slots=True)
class Jobs:
    """The schedule of one daemon. `stopping` is asked by everything that may wait."""

    bot: Bot
    queue: Queue[Event]
    stopping: Callable[[], bool]
    learning: LearningJob | None = None
    scheduler: BackgroundScheduler = field(default_factory=lambda: BackgroundScheduler(timezone=UTC))
    failures: dict[str, int] = field(default_factory=dict)
    not_before: dict[str, float] = field(default_factory=dict)  # monotonic seconds
    commands_seen: set[str] = field(default_factory=set)
    newest_close: int = 0
    unfetched: int | None = None  # a close that was reported and could not be fetched yet, ms
    troubled: frozenset[str] = frozenset()  # symbols whose candles could not be fetched at the last look

    def start(self) -> None:
        """Begin the schedule: each job at most once at a time, late rather than never."""
        service = self.bot.settings.service
        self.scheduler.add_listener(self._heard, EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)
        every: tuple[tuple[str, Callable[[], None], float], ...] = (
            ("commands", self.poll_commands, COMMAND_SECONDS),
            ("orders", self.poll_orders, service.poll_seconds),
            ("reconcile", lambda: self.queue.put(ReconcileDue()), service.reconcile_seconds),
            ("heartbeat", self.heartbeat, service.heartbeat_seconds),
        )
        if self.learning is not None:
            every += (
                ("models", self.learning.watch, MODELS_SECONDS),
            )  # fmt: skip
        for name, work, seconds in every:
            self.scheduler.add_job(
                self.guarded, "interval", (name, work), id=name, seconds=seconds, coalesce=True, max_instances=1,
                misfire_grace_time=max(1, int(seconds / 2)),
            )  # fmt: skip
        # Not a job for one date: that would be taken off the schedule once begun, and a stop in that instant ends the
        # scheduler's thread with a traceback.
        self.scheduler.add_job(
            self._follow_bars, "interval", id="candles", weeks=5200, next_run_time=datetime.now(UTC),
            misfire_grace_time=None,
        )  # fmt: skip
        self.scheduler.start()

    def stop(self) -> None:
        """No new job begins; one that hangs is not waited for."""
        self.scheduler.shutdown(wait=False)

    def guarded(self, name: str, work: Callable[[], None]) -> None:
        """Run a job's work; a failure is told, counted and followed by a growing pause."""
        if self.stopping() or time.monotonic() < self.not_before.get(name, 0.0):
            return
        degraded = self.bot.trader.memory.degraded
        try:
            work()
        except MarketEnded as end:
            self.queue.put(Stop(f"the candles have ended: {end}"))
        except Exception as error:
            if not self.stopping():  # whatever was asked for may be gone already
                self._failed(name, error)
        else:
            if self.failures.pop(name, 0):
                degraded.pop(name, None)
                event("job", name, "works again")

    def _failed(self, name: str, error: Exception) -> None:
        count = self.failures[name] = self.failures.get(name, 0) + 1
        pause = min(LONGEST_PAUSE, 0.5 * 2 ** min(count, 10))
        if isinstance(error, ExchangeThrottled):
            pause = max(pause, error.retry_after)
        self.not_before[name] = time.monotonic() + pause
        cause = str(error) if isinstance(error, TradingBotError) else f"{type(error).__name__}: {error}"
        self.bot.trader.memory.degraded[name] = cause
        event("job", name, f"failed {count}x: {cause}; again in {pause:.0f} s", level="WARNING")

    # ── candles ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _follow_bars(self) -> None:
        """One look at the clock after another: each waits for a close and deals with it. One job that lasts."""
        while not self.stopping():
            self.guarded("candles", self.on_bar_close)
            while not self.stopping() and (rest := self.not_before.get("candles", 0.0) - time.monotonic()) > 0:
                time.sleep(min(0.05, rest))

    def on_bar_close(self) -> None:
        """When a bar has closed: fetch it for all symbols and put one event on the queue (more, if some were missed).

        Asking the clock says that the last bar has been dealt with, so the queue is waited for first.
        """
        if not self._drained():
            return
        clock = self.bot.clock
        if self.unfetched is None or clock.now() >= self.unfetched + self.bot.bar_ms:
            self.unfetched = clock.next_close(timeout=1.0)
        if self.unfetched is None:
            self._watch_staleness()
            return
        self.newest_close = self.unfetched
        self.pull(self.unfetched)
        self.unfetched = None

    def pull(self, close: int) -> None:
        """Fetch what has closed by `close` (ms) and queue every bar not yet dealt with, oldest first.

        Raises
        ------
        ExchangeError, CandleDataError
            If no symbol's candles could be fetched, or not those of a symbol that gave no trouble before: worth
            another try. A symbol that fails again is left out, the others go on.
        """
        bot = self.bot
        newest, troubles = close - bot.bar_ms, dict[str, TradingBotError]()
        for symbol in bot.symbols:
            try:
                bot.feed.pull(symbol, bot.timeframe)
            except (ExchangeError, CandleDataError) as error:
                if self.stopping():
                    return
                troubles[symbol] = error
                event("candles", f"{symbol} {bot.timeframe}", f"not fetched: {error}", level="WARNING")
        fresh = set(troubles) - self.troubled
        self.troubled = frozenset(troubles)
        if fresh or len(troubles) == len(bot.symbols):
            raise next(iter(troubles.values()))
        self._wait_for_late_bars(close)
        done = bot.trader.memory.time
        for moment in self._moments(done, newest):
            windows = self._windows(moment)
            if windows:
                self.queue.put(BarsClosed(moment, windows, late=moment != newest))

    def _wait_for_late_bars(self, close: int) -> None:
        """Some venues show a closed bar only seconds later: ask again for the symbols without it, for a while."""
        bot = self.bot
        while bot.clock.now() < close + bot.clock.settle_ms and not self.stopping():
            there = self._windows(close - bot.bar_ms)
            missing = [symbol for symbol in bot.symbols if symbol not in there and symbol not in self.troubled]
            if not missing:
                return
            time.sleep(LATE_BAR_PAUSE)
            for symbol in missing:
                with suppress(ExchangeError, CandleDataError):  # then it is left out, like any symbol without its bar
                    bot.feed.pull(symbol, bot.timeframe)

    def _moments(self, done: int, newest: int) -> list[int]:
        """Open times of the bars to deal with: the newest alone at the very first start, else all that were missed."""
        if done < 0:
            return [newest]
        return list(range(done + self.bot.bar_ms, newest + 1, self.bot.bar_ms))

    def _windows(self, moment: int) -> dict[str, Candles]:
        bot = self.bot
        windows = {s: bot.feed.window(s, bot.timeframe, moment, bot.warmup) for s in bot.symbols}
        return {s: candles for s, candles in windows.items() if len(candles) and candles.time[-1] == moment}

    def _drained(self) -> bool:
        """Wait for everything that bears on the next bar: events, and where the market waits, a training."""
        while (self.queue.unfinished_tasks or self._training()) and not self.stopping():
            time.sleep(0.001)
        return not self.stopping()

    def _training(self) -> bool:
        return self.learning is not None and self.learning.busy and self.bot.clock.waits

    def _watch_staleness(self) -> None:
        memory, bar_ms = self.bot.trader.memory, self.bot.bar_ms
        if memory.time < 0:
            return
        age = self.bot.clock.now() - memory.time - bar_ms
        if age > STALE_BARS * bar_ms:
            memory.degraded["stale"] = f"no new candle for {age // 1000} s of market time"
        else:
            memory.degraded.pop("stale", None)

    # ── the rest ───────────────────────────────────────────────────────────────────────────────────────────────────

    def poll_commands(self) -> None:
        """Look for wishes of the user in the database."""
        with self.bot.store.reading() as tx:
            commands = tx.find(Command, handled=None)
        for command in commands:
            if command.id not in self.commands_seen:
                self.commands_seen.add(command.id)
                self.queue.put(CommandGiven(command))

    def poll_orders(self) -> None:
        """Ask after open orders between bars, if there are any."""
        if self.bot.trader.desk.live:
            self.queue.put(OrdersDue())

    def heartbeat(self) -> None:
        """One line that says the bot is alive and how it is."""
        memory, account = self.bot.trader.memory, self.bot.trader.desk.account
        age = "-" if memory.time < 0 else f"{(self.newest_close - memory.time) // self.bot.bar_ms} bars"
        state = "paused" if memory.paused else "degraded" if memory.degraded else "running"
        event("heartbeat", state, f"{len(self.bot.symbols)} symbols", equity=f"{memory.risk.equity:.2f}",
              drawdown=f"{memory.risk.drawdown:.2%}", latch=memory.risk.latch.name.lower(), open=len(account.trades),
              newest_candle=age, queue=self.queue.qsize(), models=", ".join(self._models()) or "none",
              **({"degraded": "; ".join(f"{k}: {v}" for k, v in memory.degraded.items())} if memory.degraded else {}),
              )  # fmt: skip

    def _models(self) -> list[str]:
        """Ids of the models in use now."""
        if self.learning is None:
            return list(self.bot.models.values())
        learned = self.learning.learner
        names = {strategy.name for strategy in learned.strategies}
        return [
            *(model for name, model in self.bot.models.items() if name not in names), *learned.in_use.values()
        ]  # fmt: skip

    def _heard(self, happened: JobEvent) -> None:
        words = {EVENT_JOB_MISSED: "was missed", EVENT_JOB_MAX_INSTANCES: "is still running, this turn is skipped"}
        text = words.get(happened.code, f"raised {getattr(happened, 'exception', '')}")
        event("job", str(happened.job_id), text, level="WARNING")
