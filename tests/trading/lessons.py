"""What trainings are made of: rules of a known word, models that say little, verdicts and lessons written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tests.trading.stage import HOUR, START, candles, instrument
from trading_bot.domain.market import Candles
from trading_bot.domain.models import ModelStatus
from trading_bot.learn.affinity import Affinity, by_regime
from trading_bot.learn.config import LearningConfig
from trading_bot.learn.meta_labels import META_FEATURES
from trading_bot.learn.meta_model import MetaModel
from trading_bot.learn.model_registry import versions
from trading_bot.learn.retraining import LiveScore, Verdict
from trading_bot.matching import MatchingConfig
from trading_bot.ports import Store
from trading_bot.trading.learning import Learner, Lesson
from trading_bot.trading.meta_labelled import MetaLabelled
from trading_bot.trading.strategy import Signals

BTC, ETH = "BTC/USDT", "ETH/USDT"
CONFIG = LearningConfig(every_bars=48, check_bars=12, train_bars=900, horizon=1, epochs=20, max_workers=1)
FALLEN = LiveScore(bars=500, gain=-0.3, low=0.1)


@dataclass
class Rule:
    """Has an opinion on most bars, by their time alone; raises `trouble` if there is one."""

    name: str = "rule"
    warmup: int = 0
    trouble: BaseException | None = None

    @property
    def affinity(self) -> Affinity:
        return by_regime(trending=1.0, ranging=1.0, volatile=1.0, choppy=1.0)

    def signals(self, candles: Candles) -> Signals:
        if self.trouble is not None:
            raise self.trouble
        side = np.array([1, 0, -1, -1, 0, 1, 1])[candles.time // HOUR % 7]
        return Signals(side, np.where(side == 0, 0.0, 0.25 + candles.time // HOUR % 5 / 10))


def to_and_fro(bars: int, seed: int, symbol: str = BTC) -> Candles:
    """A walk in which most of a move is taken back by the next: there is something to learn."""
    steps = np.random.default_rng(seed).normal(0, 0.01, bars)
    for bar in range(1, bars):
        steps[bar] -= 0.7 * steps[bar - 1]
    return candles(100 * np.exp(np.cumsum(steps)), symbol)


MARKET = {BTC: to_and_fro(1_300, 1, BTC), ETH: to_and_fro(1_300, 2, ETH)}
NEWEST = START + 1_100 * HOUR  # open of the newest bar that trainings here know


def model(strategy: str = "rule", **differing: Any) -> MetaModel:
    """A model whose test was nothing special; `bias` makes another of it."""
    count = len(META_FEATURES)
    known: dict[str, Any] = {
        "strategy": strategy, "names": META_FEATURES, "mean": (0.0,) * count, "std": (1.0,) * count,
        "weights": (0.01,) * (2 * count + 3), "bias": 0.1, "intercept": 0.0, "slope": 1.0, "baseline": (0.0,) * 4,
        "timeframe": "1h", "horizon": 1, "symbols": (BTC,), "trained_from": 0, "fitted_until": 0, "known_until": 0,
        "gain": 0.0, "gain_deviation": 5.0, "bars": 900,
    }  # fmt: skip
    return MetaModel(**{**known, **differing})


def verdict(outcome: str = "promoted", bias: float = 0.1, strategy: str = "rule", reason: str = "because") -> Verdict:
    """Judged so; with a model where there would be one."""
    made = model(strategy, bias=bias) if outcome in ("promoted", "rejected") else None
    return Verdict(strategy, outcome, reason, made, {"gain": 0.02} if made else {}, 1.5)


def lesson(
    learner: Learner,
    *verdicts: Verdict,
    bar: int = 600,
    trigger: str = "schedule",
    fallen: Mapping[str, LiveScore] | None = None,
) -> Lesson:
    """A lesson as of so many bars after the start, judged against the models in use now."""
    used = {strategy.name: strategy.version for strategy in learner.strategies}
    return Lesson(
        START + bar * HOUR, trigger, {each.strategy: each for each in verdicts}, fallen or {}, used, "d47a", 2.0
    )


def learner_of(
    store: Store, folder: Path | None, rules: Sequence[Rule] | None = None, kind: type[Learner] = Learner, **given: Any
) -> Learner:
    """A learner of these rules, of one named `rule` by default."""
    strategies = [MetaLabelled(rule) for rule in ([Rule()] if rules is None else rules)]
    known: dict[str, Any] = {
        "instruments": {symbol: instrument(symbol) for symbol in (BTC, ETH)}, "matching": MatchingConfig(),
        "config": CONFIG, "timeframe": "1h", "run_id": "run-1", "executor": "thread", "now": _now,
    }  # fmt: skip
    return kind(strategies=strategies, store=store, folder=folder, **{**known, **given})


def _now() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)


def found(store: Store, kind: type[Any]) -> list[Any]:
    """Every record of a kind."""
    with store.reading() as tx:
        return list(tx.find(kind))


def champion(store: Store) -> str | None:
    """Id of the one champion."""
    ids = [version.id for version in versions(store) if version.status is ModelStatus.CHAMPION]
    assert len(ids) < 2
    return ids[0] if ids else None


def taught(learner: Learner, *biases: float) -> list[str]:
    """Promote models one after another, ten bars apart; their ids."""
    told = []
    for number, bias in enumerate(biases):
        told += learner.take(lesson(learner, verdict(bias=bias), bar=100 + 10 * number, trigger="demand"))
    assert [each.outcome for each in told] == ["promoted"] * len(biases)
    return [str(each.model) for each in told]
