"""Which of four regimes a market is in, bar by bar, with a confidence: trending, ranging, volatile or choppy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trading_bot.domain.market import Candles, Floats, Regime
from trading_bot.errors import CandleDataError
from trading_bot.learn.config import RegimeConfig
from trading_bot.learn.regime_features import LOOK_BACK, NAMES, features_of
from trading_bot.learn.regime_filter import filtered, settled

if TYPE_CHECKING:
    import pandas as pd

REGIMES: tuple[Regime, ...] = tuple(Regime)  # the order of every array over regimes
_COLUMNS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class RegimeReading:
    """The regime after one bar. `confidence` is the probability the detector gives it; `features` what it looked at."""

    regime: Regime
    confidence: float
    features: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RegimeSeries:
    """The regime after every bar; before row `first` there is too little to judge.

    Attributes
    ----------
    codes : int8 (n,), place of the regime in `Regime`; -1 before `first`
    confidence : float64 (n,), NaN before `first`
    features : name -> float64 (n,), NaN while warming up
    """

    codes: npt.NDArray[np.int8]
    confidence: Floats
    features: Mapping[str, Floats]
    first: int

    @property
    def regimes(self) -> npt.NDArray[np.object_]:
        """The `Regime` of every bar, None before `first`; object (n,)."""
        return np.array([*REGIMES, None], dtype=object)[self.codes]

    def __len__(self) -> int:
        return len(self.codes)


class RegimeDetector:
    """Tells the regime of a market from its candles alone; row t from rows ≤ t, free of price scale and timeframe.

    Attributes
    ----------
    warmup : candles `detect` needs at least
    """

    def __init__(self, config: RegimeConfig | None = None) -> None:
        self.config = config or RegimeConfig()
        self.warmup = LOOK_BACK + self.config.min_bars

    def detect(self, market_data: Candles | pd.DataFrame) -> RegimeReading:
        """The regime after the newest bar: the last row of `detect_series`.

        Parameters
        ----------
        market_data
            At least `warmup` candles, or an OHLCV DataFrame (open, high, low, close, volume), oldest first.

        Raises
        ------
        CandleDataError
            If candles are missing, too few, not finite, not positive or inconsistent.
        """
        series = self.detect_series(market_data)
        return RegimeReading(
            REGIMES[int(series.codes[-1])],
            float(series.confidence[-1]),
            {name: float(values[-1]) for name, values in series.features.items()},
        )

    def detect_series(self, candles: Candles | pd.DataFrame) -> RegimeSeries:
        """The regime after every bar, equal row by row to `detect` on the window from the same first bar to that row.

        Raises
        ------
        CandleDataError
            As `detect`.
        """
        opened, high, low, close, volume = self._columns(candles)
        del opened
        features = features_of(high, low, close, volume)
        posterior = filtered(features)
        codes, confidence = settled(posterior, self.config.min_bars)
        first = self.warmup - 1
        codes[:first], confidence[:first] = -1, np.nan
        return RegimeSeries(codes, confidence, dict(zip(NAMES, features, strict=True)), first)

    def _columns(self, candles: Candles | pd.DataFrame) -> list[Floats]:
        missing = [name for name in _COLUMNS if not hasattr(candles, name)]
        if missing:
            raise CandleDataError(
                f"regime detection wants Candles or a DataFrame with columns {', '.join(_COLUMNS)}; "
                f"found {type(candles).__name__} without {', '.join(missing)}"
            )
        if len(candles) < self.warmup:
            raise CandleDataError(
                f"regime detection needs at least {self.warmup} candles, found {len(candles)}; wait for more or load more"
            )
        return [np.ascontiguousarray(getattr(candles, name), dtype=np.float64) for name in _COLUMNS]
