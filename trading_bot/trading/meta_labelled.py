"""A rule strategy whose confidence comes from a learned model, once one is promoted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trading_bot.domain.market import Candles
from trading_bot.domain.models import ModelVersion
from trading_bot.errors import CheckpointError
from trading_bot.features.compute import SETTLED
from trading_bot.learn.affinity import Affinity
from trading_bot.learn.meta_labels import meta_features
from trading_bot.learn.meta_model import MetaModel
from trading_bot.learn.model_registry import checkpoint_path
from trading_bot.logs import event
from trading_bot.trading.strategy import Signals, Strategy, read_latest, read_signals


@dataclass(slots=True)
class MetaLabelled:
    """The rule gives the side; its confidence is the model's probability that taking it pays.

    Without a model, for symbols and timeframes the model does not know, for bars it has learned from (it has seen what
    came next), and where candles are too few for its features, the rule's own confidence stands.

    Parameters
    ----------
    rule : the strategy of a file
    model, version : what was promoted, and its id; may be replaced between bars
    """

    rule: Strategy
    model: MetaModel | None = None
    version: str | None = None
    model_version: str | None = None  # id of the model that judged the newest row of the latest answer, if one did

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def warmup(self) -> int:
        return self.rule.warmup

    @property
    def affinity(self) -> Affinity:
        return self.rule.affinity

    def use(self, model: MetaModel | None, version: str | None) -> None:
        """Answer with this model from the next bar on; None: with the rule's own confidence."""
        self.model, self.version = model, version

    def signals(self, candles: Candles) -> Signals:
        """Every row's side and confidence."""
        return self._judged(candles, read_signals(self.rule, candles))

    def latest(self, candles: Candles) -> Signals:
        """The newest row alone."""
        return self._judged(candles, read_latest(self.rule, candles))

    def _judged(self, candles: Candles, said: Signals) -> Signals:
        """The rule's newest rows, their confidences replaced where the model may speak."""
        model, rows = self.model, len(said.side)
        self.model_version = None
        if model is None or candles.symbol not in model.symbols or candles.timeframe != model.timeframe:
            return said
        time = candles.time[len(candles) - rows :]
        if not len(time) or time[-1] <= model.known_until:
            return said
        spoken = (said.side != 0) & (time > model.known_until)
        if len(candles) <= SETTLED or not spoken.any():
            return said
        features, first = meta_features(candles)
        places = np.flatnonzero(spoken) + len(candles) - rows - first
        spoken[np.flatnonzero(spoken)[places < 0]] = False
        places = places[places >= 0]
        self.model_version = self.version if spoken[-1] else None
        confidence = said.confidence.astype(np.float64)
        confidence[spoken] = model.probability(features[places], said.side[spoken], said.confidence[spoken])
        return Signals(said.side, confidence, said.note)


def load_model(folder: Path, version: ModelVersion) -> MetaModel | None:
    """A registered model of signals from its file; None, with an error in the log, if it cannot be used."""
    try:
        return MetaModel.from_bytes(checkpoint_path(folder, version).read_bytes())
    except CheckpointError as error:
        event("learn", version.strategy, f"model refused: {error}; the rule's own confidence stands", level="ERROR",
              model=version.id)  # fmt: skip
        return None
