"""The learning loop: past signals become labels, labels a challenger, and the better model the next bar's confidence.

`learn` is a pure function of the date: the job of the daemon and the walk-forward backtest call it alike. `take` puts
its result in force, in one transaction.
"""

from __future__ import annotations

import dataclasses
import re
import time as clock
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trading_bot.domain.account import Trade
from trading_bot.domain.journal import JobRun, Training
from trading_bot.domain.market import Candles, Instrument, hash_of, timeframe_ms
from trading_bot.domain.models import ModelStatus, ModelVersion
from trading_bot.errors import CheckpointError, StorageError, TrainingStopped
from trading_bot.features.compute import SETTLED
from trading_bot.learn.config import LearningConfig
from trading_bot.learn.meta_labels import SignalHistory, merged, round_trip_costs, signal_history
from trading_bot.learn.meta_model import MetaModel, described, sha256_of
from trading_bot.learn.model_registry import champions, is_meta_label, keep_file, make_champion, step_back
from trading_bot.learn.retraining import LiveScore, Verdict, live_score, retrain
from trading_bot.learn.training_config import Executor
from trading_bot.logs import event
from trading_bot.matching import MatchingConfig
from trading_bot.ports import Store, Tx
from trading_bot.trading.meta_labelled import MetaLabelled, load_model
from trading_bot.trading.strategy import in_one_line, read_signals

TRAIN, CHECK = "train", "check"  # names of the two market-time slots
SHADOW_TRADES = 5_000  # newest ones of a strategy that are looked through


@dataclass(frozen=True, slots=True)
class Lesson:
    """What was learned as of the bar that opened at `time`; nothing of it is in force yet.

    `fallen` are champions whose live score left its interval; `champions` the models all of it was judged against.
    """

    time: int
    trigger: str  # schedule drift demand
    verdicts: Mapping[str, Verdict]
    fallen: Mapping[str, LiveScore]
    champions: Mapping[str, str | None]
    data_hash: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class Learner:
    """One account's learning.

    Parameters
    ----------
    folder : of the checkpoints; None: models live in memory alone, as in a backtest
    executor : how strategies are trained; results do not depend on it
    """

    strategies: Sequence[MetaLabelled]
    store: Store
    folder: Path | None
    instruments: Mapping[str, Instrument]
    matching: MatchingConfig
    config: LearningConfig
    timeframe: str
    run_id: str
    executor: Executor = "process"
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    done: dict[str, int] = field(default_factory=dict)  # job → slot last dealt with
    models: dict[str, MetaModel] = field(default_factory=dict)  # by id, those that were in use in this life

    def __post_init__(self) -> None:
        with self.store.reading() as tx:
            for job in (TRAIN, CHECK):
                found = tx.find(JobRun, last=1, job=job)
                if found:
                    self.done[job] = found[-1].slot
        self.reload(told=[strategy.name for strategy in self.strategies])

    # ── when ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def due(self, time: int) -> str | None:
        """What is to be done after the bar that opened at `time`: schedule, check, or nothing."""
        if self._slot(TRAIN, time) > self.done.get(TRAIN, -1):
            return "schedule"
        return "check" if self._slot(CHECK, time) > self.done.get(CHECK, -1) else None

    def next_training(self, time: int) -> int:
        """Open of the bar after which strategies are trained next, seen from the bar at `time`."""
        return self._slot(TRAIN, time) + self._span(TRAIN)

    def since(self, time: int) -> int:
        """Open of the first candle that is looked at for a training as of `time`."""
        return time - (self.config.train_bars + self._warmup) * timeframe_ms(self.timeframe)

    def put_off(self, time: int) -> None:
        """Leave the slots of `time` out in this life: what failed is not tried at every bar."""
        self.done.update({job: self._slot(job, time) for job in (TRAIN, CHECK)})

    def _slot(self, job: str, time: int) -> int:
        """Where the slot begins, ms: a number would mean another date once the configuration or timeframe changes."""
        return time // self._span(job) * self._span(job)

    def _span(self, job: str) -> int:
        every = self.config.every_bars if job == TRAIN else self.config.check_bars
        return every * timeframe_ms(self.timeframe)

    @property
    def _warmup(self) -> int:
        return max([SETTLED, *(strategy.warmup for strategy in self.strategies)])

    # ── what is learned ────────────────────────────────────────────────────────────────────────────────────────────

    def learn(
        self, candles: Mapping[str, Candles], time: int, trigger: str, stopping: Callable[[], bool] = lambda: False
    ) -> Lesson:
        """Look at the champions, then train: every strategy, or at a check those whose champion has fallen.

        Changes nothing and may run beside the decisions. The same candles, shadow trades and champions give the same
        lesson.

        Parameters
        ----------
        candles : by symbol; those from `since(time)` to `time` are used

        Raises
        ------
        TrainingStopped
            When `stopping` says so.
        """
        began, first = clock.monotonic(), self.since(time)
        seen = {symbol: rows for symbol, given in candles.items() if len(rows := _between(given, first, time))}
        known = tuple(symbol for symbol, rows in sorted(seen.items()) if len(rows) > self._warmup)
        used = {strategy.name: strategy.version for strategy in self.strategies}
        models = {strategy.name: strategy.model for strategy in self.strategies}  # the user may promote meanwhile
        incumbents = dict(models)
        histories, verdicts, fallen = dict[str, SignalHistory](), dict[str, Verdict](), dict[str, LiveScore]()
        for strategy in self.strategies:
            if stopping():
                raise TrainingStopped("the training was given up before it began")
            try:
                histories[strategy.name] = self._history(strategy, seen)
            except StorageError:
                raise
            except (Exception, SystemExit) as error:  # a strategy's own code
                verdicts[strategy.name] = Verdict(strategy.name, "failed", f"no signals: {in_one_line(error)}")
                continue
            model = models[strategy.name]
            if model is None or not model.answers(self.timeframe, self.config.horizon, known):
                continue  # the configuration has changed: what it promised cannot be compared with what is asked now
            score = live_score(histories[strategy.name], model)
            if score is not None and score.fallen:
                fallen[strategy.name] = score
                incumbents[strategy.name] = self._parent_of(used[strategy.name])
        wanted = histories if trigger != CHECK else {name: histories[name] for name in fallen}
        if wanted:
            opponents = {name: model for name, model in incumbents.items() if model is not None}
            verdicts |= retrain(wanted, opponents, self.timeframe, known, self.config, self.executor, stopping)
        return Lesson(
            time,
            "drift" if trigger == CHECK else trigger,
            verdicts,
            fallen,
            used,
            hash_of(seen) if verdicts else "",
            clock.monotonic() - began,
        )

    def _history(self, strategy: MetaLabelled, candles: Mapping[str, Candles]) -> SignalHistory:
        """The rule's past signals on every symbol with enough candles."""
        trades = self._shadow_trades(strategy.name)
        parts = []
        for symbol, rows in sorted(candles.items()):
            instrument = self.instruments[symbol]
            if len(rows) <= max(SETTLED, strategy.warmup):
                continue
            said = read_signals(strategy.rule, rows)
            costs = round_trip_costs(rows, float(instrument.taker_fee), self.matching)
            parts.append(
                signal_history(rows, said.side, said.confidence, self.config.horizon, costs, trades.get(symbol, {}))
            )
        return merged(parts) if parts else SignalHistory.empty()

    def _shadow_trades(self, strategy: str) -> dict[str, dict[int, tuple[int, float]]]:
        """Round trips of the strategy's shadow books: symbol → open of the entry's bar → the exit's bar, net profit.

        Those that were sold in parts are left out: their parts are trades of their own.
        """
        with self.store.reading() as tx:
            closed = tx.find(Trade, last=SHADOW_TRADES, book="shadow", strategy=strategy, is_open=False)
        found: dict[str, dict[int, tuple[int, float]]] = {}
        times = Counter((trade.symbol, trade.open_date) for trade in closed)
        for trade in closed:
            if times[trade.symbol, trade.open_date] > 1:
                continue
            assert trade.close_date is not None
            assert trade.close_profit is not None
            ends = _ms(trade.close_date), float(trade.close_profit)
            found.setdefault(trade.symbol, {})[_ms(trade.open_date)] = ends
        return found

    def _parent_of(self, version: str | None) -> MetaModel | None:
        """The model that `version` replaced."""
        with self.store.reading() as tx:
            current = None if version is None else tx.get(ModelVersion, version)
            parent = tx.get(ModelVersion, current.parent) if current is not None and current.parent else None
        return None if parent is None else self._model(parent)

    def _model(self, version: ModelVersion) -> MetaModel | None:
        if version.id not in self.models and self.folder is not None:
            model = load_model(self.folder, version)
            if model is not None:
                self.models[version.id] = model
        return self.models.get(version.id)

    # ── putting it in force ────────────────────────────────────────────────────────────────────────────────────────

    def take(self, lesson: Lesson) -> list[Training]:
        """Roll back what has fallen, promote what is better, and write down why; used from the next bar on.

        Raises
        ------
        StorageError
            If the database refuses it, or its answer was lost; called again, it ends as if it had been called once.
        """
        kept = [self._kept(lesson, verdict) for verdict in lesson.verdicts.values()]
        told: list[Training] = []
        with self.store.transaction() as tx:
            moved = {name for name, used in lesson.champions.items() if _id(_champion(tx, name)) != used}
            for name, live in lesson.fallen.items():
                if name not in moved:
                    told.append(self._rolled_back(tx, lesson, name, live))
            for verdict, version in kept:
                told.append(self._settled(tx, lesson, verdict, version, moved))
            for training in told:
                tx.update(training)
            jobs = {"drift": (CHECK,), "schedule": (CHECK, TRAIN)}.get(lesson.trigger, ())
            slots = {job: self._slot(job, lesson.time) for job in jobs}
            for job, slot in slots.items():
                tx.add(JobRun(job, slot, self.now()))
        self.done.update(slots)
        for training in told:
            tell(training)
        self.reload(told={each.strategy for each in told if each.outcome in ("promoted", "rolled_back")})
        return told

    def reload(self, told: Collection[str] = ()) -> None:
        """Use the champions of the registry, whoever made them that; changes of strategies not `told` of are told."""
        found = {version.strategy: version for version in champions(self.store) if is_meta_label(version)}
        for strategy in self.strategies:
            version, before = found.get(strategy.name), strategy.version
            if _id(version) == before:
                continue
            strategy.use(None if version is None else self._model(version), _id(version))
            if strategy.name not in told:
                event("learn", strategy.name, f"uses {_id(version) or 'its own confidence'} from the next bar",
                      level="WARNING", before=before or "its own confidence")  # fmt: skip

    def outdated(self) -> bool:
        """Whether the registry has other champions than those in use."""
        found = {version.strategy: version.id for version in champions(self.store) if is_meta_label(version)}
        return any(found.get(strategy.name) != strategy.version for strategy in self.strategies)

    @property
    def in_use(self) -> dict[str, str]:
        """Strategy → id of the model behind its confidence; a champion whose file is of no use is none."""
        return {
            each.name: each.version for each in self.strategies if each.version is not None and each.model is not None
        }

    def _kept(self, lesson: Lesson, verdict: Verdict) -> tuple[Verdict, ModelVersion | None]:
        """The challenger as a version, its file written; None if there is none, or none can be: then it failed."""
        if verdict.model is None:
            return verdict, None
        content = verdict.model.to_bytes()
        digest = sha256_of(content)
        features, config = described(verdict.model)
        version = ModelVersion(
            id=f"{_word(verdict.strategy)}-{_utc(lesson.time):%Y%m%dT%H%M}-{digest[:6]}",
            strategy=verdict.strategy,
            status=ModelStatus.REJECTED,
            created=self.now(),
            parent=None,
            sha256=digest,
            data_hash=lesson.data_hash,
            features=features,
            config={**config, "learning": dataclasses.asdict(self.config)},
            scores=verdict.scores,
        )
        try:
            if self.folder is not None:
                keep_file(self.folder, version, content)
        except CheckpointError as error:
            return dataclasses.replace(verdict, outcome="failed", reason=f"trained, but not kept: {error}"), None
        self.models[version.id] = verdict.model
        return verdict, version

    def _rolled_back(self, tx: Tx, lesson: Lesson, name: str, live: LiveScore) -> Training:
        facts = {"gain": live.gain, "low": live.low, "bars": live.bars}
        current = _champion(tx, name)
        assert current is not None  # it is the one that has fallen
        note = Training(name, lesson.time, "rolled_back", "drift", live.words(), lesson.champions[name], facts,
                        lesson.seconds, self.run_id)  # fmt: skip
        if current.pinned:
            return dataclasses.replace(note, outcome="fallen", reason=f"pinned, so it stays: {live.words()}")
        older, _ = step_back(tx, name, lesson.time, or_none=True)
        back = "the rule's own confidence is back"
        if older is not None:
            back = (
                f"{older.id} is back"
                if self._model(older)
                else f"{older.id} should be, but its file is of no use: {back}"
            )
        return dataclasses.replace(note, reason=f"{live.words()}; {back}")

    def _settled(
        self, tx: Tx, lesson: Lesson, verdict: Verdict, version: ModelVersion | None, moved: Collection[str]
    ) -> Training:
        note = Training(
            verdict.strategy, lesson.time, verdict.outcome, lesson.trigger, verdict.reason,
            version.id if version is not None else None, verdict.scores, verdict.seconds, self.run_id,
        )  # fmt: skip
        if version is None:
            return note
        current = _champion(tx, verdict.strategy)
        if verdict.outcome == "promoted" and current is not None and current.pinned:
            note = dataclasses.replace(note, outcome="pinned", reason=f"{current.id} is pinned: {verdict.reason}")
        elif verdict.outcome == "promoted" and verdict.strategy in moved and _id(current) != version.id:
            note = dataclasses.replace(note, outcome="rejected", reason="the champion was replaced meanwhile")
        if note.outcome == "promoted":
            make_champion(tx, version, lesson.time)
        else:
            tx.add(version)
        return note


def tell(training: Training) -> None:
    """One line of the log."""
    level = {"failed": "ERROR", "rolled_back": "WARNING", "fallen": "WARNING", "pinned": "WARNING"}.get(
        training.outcome, "INFO"
    )
    facts: dict[str, Any] = {"model": training.model} if training.model else {}
    event("learn", training.strategy, f"{training.outcome.replace('_', ' ')}: {training.reason}", level=level,
          trigger=training.trigger, bar=f"{_utc(training.time):%Y-%m-%dT%H:%M}", **facts)  # fmt: skip


def _champion(tx: Tx, strategy: str) -> ModelVersion | None:
    found = tx.find(ModelVersion, strategy=strategy, status=ModelStatus.CHAMPION)
    return found[-1] if found else None


def _word(name: str) -> str:
    """A strategy's name as the beginning of a file's."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:60] or "model"


def _id(version: ModelVersion | None) -> str | None:
    return None if version is None else version.id


def _between(candles: Candles, first: int, last: int) -> Candles:
    """The candles that opened from `first` to `last`, both included."""
    time = candles.time
    return candles[int(time.searchsorted(first)) : int(time.searchsorted(last, "right"))]


def _ms(date: datetime) -> int:
    return round(date.timestamp() * 1000)


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
