"""A trained selector beside the ensemble: how far it trusts each strategy over the next bars, by one window a bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from trading_bot.domain.market import Candles
from trading_bot.domain.models import ModelVersion
from trading_bot.errors import CheckpointError
from trading_bot.features.compute import SETTLED, SETTLED_CANDIDATES
from trading_bot.features.table import INDICATORS, column_names
from trading_bot.features.windows import windows_of
from trading_bot.learn.model_registry import checkpoint_path
from trading_bot.learn.trust import Trust, trust_factors
from trading_bot.logs import event
from trading_bot.trading.strategy import SILENT, in_one_line
from trading_bot.training.prepared_data import select_features
from trading_bot.training.trm_selector import Choices, Selector

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class StrategySelector:
    """Reads one window of features, the newest, by itself: a bar then has the same bits whoever asks, now or later.

    Silent, with the reason in words and every factor 1, for a symbol or timeframe it was not trained on, for bars it
    was trained on (it has seen what came next), once it is too old, for too few candles and broken ones.

    Parameters
    ----------
    model_version : id of the version; None: there is none
    selector : the network; None if it was refused
    max_age_days : of market time, after the last candle it was trained on
    refusal : why there is no selector
    """

    model_version: str | None
    selector: Selector | None
    max_age_days: float
    refusal: str = ""

    @property
    def warmup(self) -> int:
        """Bars until features have forgotten where they began, and one window."""
        if self.selector is None:
            return 0
        features = self.selector.facts["features"]
        usual = set(features["names"]) <= set(column_names(INDICATORS))
        return (SETTLED if usual else SETTLED_CANDIDATES) + int(features["length"])

    def trust(self, candles: Candles, strategies: Sequence[str]) -> Trust:
        """What it says after the newest of `candles`, of those of `strategies` that it knows."""
        if self.selector is None:
            return Trust(words=f"{SILENT}: {self.refusal}")
        if why := self._unfit(self.selector, candles):
            return Trust(words=f"{SILENT}: {why}")
        try:
            said = self._choice(self.selector, candles)
        except Exception as error:  # whatever a window can hold: trades that are open have to be watched
            return Trust(words=f"{SILENT}: {in_one_line(error)}")
        if not np.isfinite(said.probabilities).all():
            return Trust(words=f"{SILENT}: its model answers with {said.probabilities[0].tolist()}; train again")
        probabilities = dict(zip(self.selector.facts["classes"], said.probabilities[0].tolist(), strict=True))
        factors = trust_factors(probabilities, strategies)
        if not factors:
            return Trust(words=f"{SILENT}: its model knows none of {', '.join(strategies)}")
        return Trust(factors, self._told(factors, probabilities, int(said.steps[0])))

    def _choice(self, selector: Selector, candles: Candles) -> Choices:
        features = selector.facts["features"]
        windows, _ = windows_of(select_features(candles, features["names"]), features["length"])
        return selector.choose(windows[-1:])

    def _told(self, factors: dict[str, float], probabilities: dict[str, float], steps: int) -> str:
        """Steps, factors, then the probabilities of what moves no weight, and the model's id."""
        moved = " ".join(f"{name} {factor:.2f}" for name, factor in factors.items())
        rest = " ".join(f"{name} {p:.0%}" for name, p in probabilities.items() if name not in factors)
        taken = f"after {steps} step{'s' if steps > 1 else ''}: {moved}"
        return f"{taken} (moving no weight: {rest}) model={self.model_version}"

    def _unfit(self, selector: Selector, candles: Candles) -> str:
        """Why nothing can be said of the newest candle."""
        facts = selector.facts
        if candles.symbol != facts["symbol"]:
            return f"its model was trained on {facts['symbol']}"
        if candles.timeframe != facts["timeframe"]:
            return f"its model was trained on {facts['timeframe']} candles"
        if len(candles) <= self.warmup:
            return f"its model wants more than {self.warmup} candles"
        time, until = int(candles.time[-1]), int(facts["trained_until"])
        if time <= until:
            moment = datetime.fromtimestamp(until / 1000, UTC)
            return f"its model was trained on candles up to {moment:%Y-%m-%d %H:%M}, this one among them"
        age = (time - until) / DAY_MS
        if age > self.max_age_days:
            return f"its model is {age:.0f} days old, neural.max_age_days is {self.max_age_days:g}; train again"
        return ""


def load_selector(folder: Path, version: ModelVersion, max_age_days: float) -> StrategySelector:
    """A promoted version, its checkpoint in `folder`.

    One that cannot be used (absent, damaged, no selector, for other features) is silent and says why in every decision,
    with an error in the log: the weights are then those of the table.
    """
    try:
        selector = Selector.load(checkpoint_path(folder, version))
        _check(selector, version)
    except CheckpointError as error:
        event("selector", version.strategy, f"refused: {error}; weights as with ensemble.method table", level="ERROR",
              model=version.id)  # fmt: skip
        return StrategySelector(version.id, None, max_age_days, refusal=f"refused: {error}")
    facts = selector.facts
    event("selector", version.strategy, f"weighs strategies on {facts['symbol']} {facts['timeframe']}",
          model=version.id)  # fmt: skip
    return StrategySelector(version.id, selector, max_age_days)


def _check(selector: Selector, version: ModelVersion) -> None:
    """Refuse one that does not say what it was trained on, or what its answers mean."""
    for name in ("symbol", "timeframe", "trained_until", "classes"):
        if name not in selector.facts:
            raise CheckpointError(f"checkpoint of model {version.id} lacks its {name}; train again")
    classes, answers = len(selector.facts["classes"]), selector.network.config.classes
    if classes != answers:
        raise CheckpointError(
            f"checkpoint of model {version.id} names {classes} classes, its network answers with {answers}; train again"
        )
