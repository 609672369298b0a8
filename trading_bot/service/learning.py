"""The daemon's training job: beside the decisions, in a thread that waits and processes that work."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Queue

from trading_bot.bootstrap import Bot
from trading_bot.domain.journal import Training
from trading_bot.domain.market import Candles
from trading_bot.errors import CandleDataError, ExchangeError, StorageError, TradingBotError, TrainingStopped
from trading_bot.logs import event
from trading_bot.trading.events import Event, Promoted, TrainingFailed, TrainingFinished
from trading_bot.trading.learning import CHECK, TRAIN, Learner


@dataclass(slots=True)
class LearningJob:
    """Begins trainings when they are due and puts their results on the queue; the consumer puts them in force.

    `busy` from the bar that began a training until its result is in force or given up.
    """

    bot: Bot
    learner: Learner
    queue: Queue[Event]
    stopping: Callable[[], bool]
    busy: bool = False
    trigger: str = ""  # of the training under way, or of the last one: schedule check demand
    failing: dict[str, str] = field(default_factory=dict)  # strategy → why nothing came of its newest training
    given_up: dict[str, str] = field(default_factory=dict)  # train or check → why nothing came of the newest of all
    _thread: threading.Thread | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """What failed in an earlier life has failed still."""
        with self.learner.store.reading() as tx:
            for strategy in self.learner.strategies:
                told = tx.find(Training, last=4, strategy=strategy.name)  # more than a training leaves
                self._note([each for each in told if each.time == told[-1].time])
        self._degrade()

    # ── told by the consumer ───────────────────────────────────────────────────────────────────────────────────────

    def after_bar(self, time: int) -> None:
        """Begin what is due after the bar that opened at `time`."""
        trigger = self.learner.due(time)
        if trigger is not None and not self.busy:
            self._begin(time, trigger)
        self._show(time)

    def demand(self, time: int) -> str:
        """Train every strategy now; the answer for the user."""
        if self.busy:
            return "a training is under way already; `trading-bot status` tells when it is done"
        if time < 0:
            return "no bar has closed yet: there is nothing to learn from"
        self._begin(time, "demand")
        names = ", ".join(strategy.name for strategy in self.learner.strategies)
        return f"training {names}; the log and `trading-bot models trainings` tell what comes of it"

    def finished(self, done: TrainingFinished) -> None:
        """Put a lesson in force.

        Raises
        ------
        StorageError
            If the database refuses it; told again, it is as if for the first time.
        """
        lesson, memory = done.lesson, self.bot.trader.memory
        try:
            told = self.learner.take(lesson)
        except StorageError:
            raise
        except Exception as error:  # whatever it is, it must not leave the market waiting for the end of this training
            self.failed(TrainingFailed(lesson.time, _cause(error)))
            return
        self.busy = False
        if self.trigger == "check":  # says nothing of the strategies that it did not train
            self.given_up.pop(CHECK, None)
        else:
            self.given_up.clear()
        self._note(told)
        self._degrade()
        if told:
            counted = Counter(each.outcome for each in told)
            memory.learning |= {"last": lesson.time, "outcomes": dict(counted)}
            words = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(counted.items()))
            event("learn", "all", words, trigger=lesson.trigger, seconds=lesson.seconds)
        self._show(memory.time)

    def failed(self, failure: TrainingFailed) -> None:
        """Tell that nothing came of it; the next slot tries again."""
        self.busy = False
        self.learner.put_off(failure.time)
        self.given_up[CHECK if self.trigger == "check" else TRAIN] = failure.cause
        self._degrade()
        event("learn", "all", f"failed, what was in use stays: {failure.cause}", level="ERROR")
        self._show(self.bot.trader.memory.time)

    def _note(self, told: Sequence[Training]) -> None:
        for each in told:
            if each.outcome == "failed":
                self.failing[each.strategy] = each.reason
            elif each.outcome != "rolled_back":
                self.failing.pop(each.strategy, None)

    def _degrade(self) -> None:
        """What has failed is shown until that succeeds: a look at the models in use is no training."""
        degraded = self.bot.trader.memory.degraded
        causes = [*self.given_up.values(), *(f"{name}: {cause}" for name, cause in self.failing.items())]
        if causes:
            degraded["learning"] = f"training failed, what was in use stays: {'; '.join(dict.fromkeys(causes))}"
        elif degraded.pop("learning", None):
            event("learn", "all", "works again")

    # ── beside it ──────────────────────────────────────────────────────────────────────────────────────────────────

    def watch(self) -> None:
        """A job: whether the user promoted another model."""
        if self.learner.outdated():
            self.queue.put(Promoted())

    def stop(self) -> None:
        """Wait until the training under way has noticed and ended its processes."""
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def _begin(self, time: int, trigger: str) -> None:
        if trigger != "check":
            event("learn", "all", "training begins", trigger=trigger, strategies=len(self.learner.strategies))
        thread = threading.Thread(target=self._work, args=(time, trigger), name="learning", daemon=True)
        thread.start()
        self.busy, self.trigger, self._thread = True, trigger, thread

    def _work(self, time: int, trigger: str) -> None:
        try:
            lesson = self.learner.learn(self._candles(time), time, trigger, self.stopping)
        except TrainingStopped:
            return
        except BaseException as error:  # a strategy's code may raise anything, and somebody waits for an end
            self.queue.put(TrainingFailed(time, _cause(error)))
        else:
            self.queue.put(TrainingFinished(lesson))

    def _candles(self, time: int) -> dict[str, Candles]:
        """What is stored of every symbol; after a restart the newest bars have to be fetched again first.

        Raises
        ------
        ExchangeError, CandleDataError
            If no symbol's candles can be fetched. One symbol alone, delisted perhaps, does not end all learning.
        """
        feed, timeframe = self.bot.feed, self.bot.timeframe
        found, troubles = dict[str, Candles](), list[TradingBotError]()
        for symbol in self.bot.symbols:
            newest = feed.newest(symbol, timeframe)
            if newest is None or newest < time:
                try:
                    feed.pull(symbol, timeframe)
                except (ExchangeError, CandleDataError) as error:
                    troubles.append(error)
                    event("learn", symbol, f"newest candles not fetched, learns without them: {error}", level="WARNING")
            if feed.newest(symbol, timeframe) is not None:
                found[symbol] = feed.candles(symbol, timeframe, since=self.learner.since(time))
        if troubles and len(troubles) == len(self.bot.symbols):
            raise troubles[0]
        return found

    def _show(self, time: int) -> None:
        self.bot.trader.memory.learning |= {
            "models": self.learner.in_use,
            "strategies": len(self.learner.strategies),
            "busy": self.busy,
            "next": self.learner.next_training(time),
        }


def _cause(error: BaseException) -> str:
    return str(error) if isinstance(error, TradingBotError) else f"{type(error).__name__}: {error}"
