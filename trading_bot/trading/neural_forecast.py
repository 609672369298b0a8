"""A trained network as one strategy of the ensemble: its forecast's sign, and how far that sign is to be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trading_bot.domain.market import Candles, Floats
from trading_bot.domain.models import ModelVersion
from trading_bot.errors import CheckpointError
from trading_bot.features.compute import SETTLED, SETTLED_CANDIDATES
from trading_bot.features.table import INDICATORS, column_names
from trading_bot.features.windows import windows_of
from trading_bot.learn.affinity import Affinity, by_regime
from trading_bot.learn.model_registry import checkpoint_path
from trading_bot.logs import event
from trading_bot.trading.strategy import SILENT, Signals
from trading_bot.training.forecaster import Forecaster
from trading_bot.training.prepared_data import select_features
from trading_bot.training.walk_forward import Rows

DAY_MS = 86_400_000

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class NeuralForecast:
    """Forecasts the return over the network's horizon from each window of features.

    Side is the forecast's sign, confidence 2·P - 1 with P the calibrated probability that this sign is right; where P
    does not exceed one half there is no opinion. It is silent, and says why, for a symbol or timeframe it was not
    trained on, for bars it was trained on (it has seen what came next), and once it is too old.

    Every window is forecast by itself, in a batch of one: a row then has the same bits whoever asks for it, alone or
    with a thousand others.

    Parameters
    ----------
    name : of the strategy
    model_version : id of the version
    forecaster : the network; None if it was refused
    max_age_days : of market time, after the last candle it was trained on
    refusal : why there is no forecaster
    """

    name: str
    model_version: str
    forecaster: Forecaster | None
    max_age_days: float
    refusal: str = ""

    @property
    def warmup(self) -> int:
        """Bars until features have forgotten where they began, and one window."""
        if self.forecaster is None:
            return 0
        features = self.forecaster.facts["features"]
        usual = set(features["names"]) <= set(column_names(INDICATORS))
        return (SETTLED if usual else SETTLED_CANDIDATES) + int(features["length"])

    @property
    def affinity(self) -> Affinity:
        """The same in every regime: which one suits it is for its record to tell."""
        return by_regime(trending=0.3, ranging=0.3, volatile=0.3, choppy=0.3)

    def signals(self, candles: Candles) -> Signals:
        """Every row's side and confidence; a forecast for each, so a long series takes its time."""
        return self._answer(candles, len(candles))

    def latest(self, candles: Candles) -> Signals:
        """The newest row alone."""
        return self._answer(candles, 1)

    def _answer(self, candles: Candles, rows: int) -> Signals:
        """The newest `rows` rows."""
        side, confidence = np.zeros(rows, np.int8), np.zeros(rows)
        if len(candles) <= self.warmup:
            return Signals(side, confidence)
        if self.forecaster is None or (why := self._unfit(candles)):
            return Signals(side, confidence, f"{SILENT}: {self.refusal if self.forecaster is None else why}")
        spoken = self._may_speak(candles)
        first = max(self.warmup, len(candles) - rows)  # the oldest row to answer
        wanted = np.flatnonzero(spoken[first:]) + first
        if len(wanted):
            forecast = self._forecasts(self.forecaster, candles, wanted)
            calibration = self.forecaster.calibration
            assert calibration is not None  # _unfit has looked
            trust = calibration.confidence(forecast)
            at = wanted - (len(candles) - rows)
            confidence[at] = np.where(forecast == 0, 0.0, trust)
            side[at] = np.where(confidence[at] > 0, np.sign(forecast), 0)
        return Signals(side, confidence, self._note(candles))

    def _forecasts(self, forecaster: Forecaster, candles: Candles, rows: Rows) -> Floats:
        features = forecaster.facts["features"]
        matrix = select_features(candles, features["names"])
        windows, index = windows_of(matrix, features["length"])
        places = rows - int(index[0])
        return np.concatenate([forecaster.forecast(windows[place : place + 1]) for place in places])

    def _unfit(self, candles: Candles) -> str:
        """Why nothing can be said of these candles at all."""
        assert self.forecaster is not None
        facts = self.forecaster.facts
        if candles.symbol != facts["symbol"]:
            return f"its model was trained on {facts['symbol']}"
        if candles.timeframe != facts["timeframe"]:
            return f"its model was trained on {facts['timeframe']} candles"
        if self.forecaster.calibration is None:
            return "its model was never calibrated"
        return ""

    def _may_speak(self, candles: Candles) -> Mask:
        until = self._trained_until
        speaks: Mask = (candles.time > until) & (candles.time - until <= self.max_age_days * DAY_MS)
        return speaks

    @property
    def _trained_until(self) -> int:
        assert self.forecaster is not None
        return int(self.forecaster.facts["trained_until"])

    def _note(self, candles: Candles) -> str:
        """Why nothing was said of the newest candle."""
        time, until = int(candles.time[-1]), self._trained_until
        if time <= until:
            moment = datetime.fromtimestamp(until / 1000, UTC)
            return f"{SILENT}: its model was trained on candles up to {moment:%Y-%m-%d %H:%M}, this one among them"
        age = (time - until) / DAY_MS
        if age > self.max_age_days:
            return (
                f"{SILENT}: its model is {age:.0f} days old, neural.max_age_days is {self.max_age_days:g}; train again"
            )
        return ""


def load_network(folder: Path, version: ModelVersion, max_age_days: float) -> NeuralForecast:
    """A promoted version as a strategy, its checkpoint in `folder`.

    One that cannot be used (absent, damaged, for other features) is silent and says why in every decision, with an
    error in the log: trades that are open have to be watched, with or without it.
    """
    try:
        forecaster = Forecaster.load(checkpoint_path(folder, version))
    except CheckpointError as error:
        event("strategy", version.strategy, f"refused: {error}", level="ERROR", model=version.id)
        return NeuralForecast(version.strategy, version.id, None, max_age_days, refusal=f"refused: {error}")
    facts = forecaster.facts
    text = f"forecasts {facts['symbol']} {facts['timeframe']} {facts['horizon']} bars ahead"
    label = {} if forecaster.label is None else {"reads_with": forecaster.label}
    event("strategy", version.strategy, text, model=version.id, **label)
    return NeuralForecast(version.strategy, version.id, forecaster, max_age_days)
