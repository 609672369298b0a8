"""The daemon: lock, recover, then one loop that consumes one queue until it is told to stop."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Empty, Queue
from typing import Any

from loguru import logger

from trading_bot.bootstrap import Bot, build_bot, new_bot_id
from trading_bot.domain.journal import Command, Decision, EquityPoint, JobRun, Run, Snapshot
from trading_bot.errors import AlreadyRunning, ExchangeDenied, ExchangeError, StorageError
from trading_bot.logs import event
from trading_bot.service.jobs import Jobs
from trading_bot.service.learning import LearningJob
from trading_bot.service.stopping import handling
from trading_bot.settings import Settings
from trading_bot.storage.lock import DataLock
from trading_bot.trading.commands import obey
from trading_bot.trading.events import (
    BarsClosed,
    CommandGiven,
    Event,
    OrdersDue,
    Promoted,
    ReconcileDue,
    Stop,
    TrainingFailed,
    TrainingFinished,
)
from trading_bot.trading.memory import STATUS
from trading_bot.trading.recovery import Surroundings, reconcile, recover, reload_books

DAY_MS = 86_400_000
STORAGE_PAUSE = 1.0  # seconds between tries to write what the database refused


@dataclass(slots=True)
class Daemon:
    """One life of the bot."""

    bot: Bot
    lock: DataLock | None = None
    queue: Queue[Event] = field(default_factory=Queue)
    stop_reason: str = ""
    doubtful: bool = False  # the database failed: it may have kept what memory does not know of
    shown: dict[str, Any] = field(default_factory=dict)  # troubles and trainings that `status` shows
    learning: LearningJob | None = None

    def run(self) -> str:
        """Recover, trade until stopped, leave everything in order; why it stopped."""
        bot = self.bot
        bot.trader.stopping = self._stopping
        if bot.learner is not None:
            self.learning = LearningJob(bot, bot.learner, self.queue, self._stopping)
        jobs = Jobs(bot, self.queue, self._stopping, self.learning)
        with handling(self._asked, bot.settings.service.shutdown_seconds), self._recorded():
            self._expire_old_commands()
            recover(
                bot.trader,
                bot.quote,
                Surroundings(bot.clock.now(), _now, self._wait, new_bot_id, self._stopping),
            )
            if self.learning is not None and bot.trader.memory.time >= 0:
                self.learning.after_bar(bot.trader.memory.time)  # what an earlier life did not get done
            jobs.start()
            try:
                self._consume()
            finally:
                jobs.stop()
                if self.learning is not None:
                    self.learning.stop()
                event("stop", bot.trader.mode, f"stopping: {self.stop_reason}")
                bot.feed.flush()
        return self.stop_reason

    def _consume(self) -> None:
        while not self.stop_reason:
            with suppress(Empty):
                happened = self.queue.get(timeout=0.2)
                try:
                    self._deal_with(happened)
                finally:
                    self.queue.task_done()
            self._show_troubles()

    def _show_troubles(self) -> None:
        """What has become degraded or works again since the last bar, and trainings that begin or end, are shown by
        `status` now, not at the next bar."""
        memory = self.bot.trader.memory
        news: dict[str, Any] = {"degraded": dict(memory.degraded), "learning": dict(memory.learning)}
        if news == self.shown:
            return
        with suppress(StorageError), self.bot.store.transaction() as tx:
            saved = tx.get(Snapshot, STATUS)
            if saved is not None:
                tx.update(Snapshot(STATUS, {**saved.value, **news}))
            self.shown = news

    def _deal_with(self, happened: Event) -> None:
        """One event; nothing it can raise ends the daemon, and nothing the database refused is dropped."""
        memory = self.bot.trader.memory
        while not self.stop_reason:
            try:
                if self.doubtful:
                    reload_books(self.bot.trader)
                    self.doubtful = False
                self._handle(happened)
            except StorageError as error:
                self.doubtful = True
                self._degrade("storage", f"{error}; trading waits", "ERROR")
                self._wait(STORAGE_PAUSE)
                continue
            except AlreadyRunning as error:  # the database's lock was lost and somebody else has it now
                self.stop_reason = str(error)
            except ExchangeDenied as error:
                memory.paused = True
                with suppress(StorageError), self.bot.store.transaction() as tx:
                    self.bot.trader.save_in(tx)
                self._degrade("exchange", f"{error}; paused until the key is mended and `trading-bot resume`", "ERROR")
            except ExchangeError as error:
                self._degrade("exchange", str(error), "WARNING")
            except Exception as error:
                logger.opt(exception=error).error("a defect: {} could not be dealt with", type(happened).__name__)
                memory.degraded["defect"] = f"{type(error).__name__}: {error}"
            else:
                for part in ("storage", "exchange"):
                    if memory.degraded.pop(part, None):
                        event("daemon", part, "works again")
            return

    def _degrade(self, part: str, cause: str, level: str) -> None:
        known = self.bot.trader.memory.degraded
        if known.get(part) != cause:
            event("daemon", part, cause, level=level)
        known[part] = cause

    def _handle(self, happened: Event) -> None:
        trader = self.bot.trader
        if isinstance(happened, BarsClosed):
            trader.on_bars(happened)
            self._prune(happened.time)
            if self.learning is not None and not happened.late:
                self.learning.after_bar(happened.time)
        elif isinstance(happened, OrdersDue):
            trader.desk.sync()
        elif isinstance(happened, ReconcileDue):
            if self.lock is not None:
                self.lock.check()
            trader.desk.watch_abandoned()
            reconcile(trader)
        elif isinstance(happened, CommandGiven):
            self._command(happened.command)
        elif self.learning is not None and isinstance(happened, TrainingFinished):
            self.learning.finished(happened)
        elif self.learning is not None and isinstance(happened, TrainingFailed):
            self.learning.failed(happened)
        elif self.learning is not None and isinstance(happened, Promoted):
            self.learning.learner.reload()
        elif isinstance(happened, Stop):
            self.stop_reason = happened.reason

    def _command(self, command: Command) -> None:
        if command.name == "stop":
            self._answer(command, "stopping")
            self.stop_reason = "told to by `trading-bot stop`"
        elif command.name == "train":
            self._answer(command, self._train())
        else:
            obey(self.bot.trader, command, _now())

    def _train(self) -> str:
        if self.learning is None:
            return "nothing is trained: learning.enabled is false, or no strategy is a rule of the strategy folder"
        return self.learning.demand(self.bot.trader.memory.time)

    def _answer(self, command: Command, text: str) -> None:
        with self.bot.store.transaction() as tx:
            tx.update(dataclasses.replace(command, handled=_now(), answer=text))

    def _expire_old_commands(self) -> None:
        """What was asked of an earlier life and never answered is not carried out in this one."""
        with self.bot.store.transaction() as tx:
            for command in tx.find(Command, handled=None):
                tx.update(dataclasses.replace(command, handled=_now(), answer="expired: the bot was not running"))

    def _prune(self, bar_time: int) -> None:
        """Once a day of market time: rows older than the retention go."""
        slot = bar_time // DAY_MS
        store, keep = self.bot.store, self.bot.settings.service.retention_days
        if slot == self.bot.pruned_day:
            return
        with store.transaction() as tx:
            if tx.add(JobRun("prune", slot, _now())):
                for kind in (Decision, EquityPoint):
                    tx.prune(kind, bar_time - keep * DAY_MS)
        self.bot.pruned_day = slot

    # ── one life ───────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """The run's row: what ran, from when to when, and why it ended."""
        bot = self.bot
        run = Run(
            id=bot.trader.run_id,
            mode=bot.trader.mode,
            started=_now(),
            configuration=bot.configuration,
            version=bot.version,
            candles_hash=bot.candles_hash,
            models=bot.models,
        )
        with bot.store.transaction() as tx:
            tx.add(run)
        try:
            yield
        except BaseException as error:
            self.stop_reason = self.stop_reason or f"{type(error).__name__}: {error}"
            raise
        finally:
            with suppress(StorageError), bot.store.transaction() as tx:
                tx.update(dataclasses.replace(run, ended=_now(), end_reason=self.stop_reason))
                shown = tx.get(Snapshot, STATUS)
                if shown is not None:
                    tx.update(Snapshot(STATUS, {**shown.value, "state": "stopped", "stop_reason": self.stop_reason}))

    def _asked(self, name: str) -> None:
        self.stop_reason = self.stop_reason or name

    def _stopping(self) -> bool:
        return bool(self.stop_reason)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.stop_reason and (left := end - time.monotonic()) > 0:
            time.sleep(min(0.05, left))


def run_bot(settings: Settings) -> int:
    """Build the bot, hold its data alone, run it until it is told to stop; the exit code."""
    run_id = f"{_now():%Y%m%dT%H%M%S}-{os.getpid()}"
    lock = DataLock(settings.data_dir, run_id=run_id, db_url=settings.db_url)
    with lock, build_bot(settings, run_id) as bot:
        Daemon(bot, lock).run()
    return 0


def _now() -> datetime:
    return datetime.now(UTC)
