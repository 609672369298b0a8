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
from trading_bot.learn.regime_features import FIRST, HISTORY, features_of, shown
from trading_bot.learn.regime_filter import BLOCK, Progress, judge_all, judge_newest, lead

if TYPE_CHECKING:
    import pandas as pd

REGIMES: tuple[Regime, ...] = tuple(Regime)  # the order of every array over regimes
_COLUMNS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class RegimeReading:
    """The regime after one bar. `confidence` is the probability the detector gives it, `features` what people know of
    what it looked at (see `regime_features.shown`)."""

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
        self._progress: dict[tuple[str, str], Progress] = {}
        # the history volatility is compared with, and rows enough for a filter to forget where it started
        self.warmup = max(HISTORY + BLOCK, FIRST + lead(self.config.min_bars) + BLOCK)

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
        columns = self._columns(market_data)
        features = features_of(*columns)
        code, confidence = judge_newest(features, len(columns[0]), self.config.min_bars, self._progress_of(market_data))
        return RegimeReading(REGIMES[code], confidence, {k: float(v[-1]) for k, v in shown(features).items()})

    def _progress_of(self, market_data: Candles | pd.DataFrame) -> Progress | None:
        """The filter's progress on this symbol, so that the next bar costs one step of it."""
        if not isinstance(market_data, Candles):
            return None
        return self._progress.setdefault((market_data.symbol, market_data.timeframe), Progress())

    def detect_series(self, candles: Candles | pd.DataFrame) -> RegimeSeries:
        """The regime after every bar, equal row by row to `detect` on the window from the same first bar to that row.

        Raises
        ------
        CandleDataError
            As `detect`.
        """
        columns = self._columns(candles)
        features = features_of(*columns)
        codes, confidence = judge_all(features, len(columns[0]), self.config.min_bars)
        first = self.warmup - 1
        codes[:first], confidence[:first] = -1, np.nan
        return RegimeSeries(codes, confidence, shown(features), first)

    def _columns(self, candles: Candles | pd.DataFrame) -> tuple[Floats, Floats, Floats, Floats]:
        """High, low, close and volume, found fit to judge."""
        missing = [name for name in _COLUMNS if not hasattr(candles, name)]
        if missing:
            raise CandleDataError(
                f"regime detection wants Candles or a DataFrame with columns {', '.join(_COLUMNS)}; "
                f"found {type(candles).__name__} without {', '.join(missing)}"
            )
        if len(candles) < self.warmup:
            raise CandleDataError(
                f"regime detection needs at least {self.warmup} candles, found {len(candles)}; wait for or load more"
            )
        opened, high, low, close, volume = (_numbers(candles, name) for name in _COLUMNS)
        lowest = np.minimum(np.minimum(opened, close), low)
        highest = np.maximum(np.maximum(opened, close), high)
        # comparisons with NaN are false, so that a NaN anywhere makes a row unfit
        fit = (
            (lowest > 0) & (low <= lowest) & (high >= highest) & (highest < np.inf) & (volume >= 0) & (volume < np.inf)
        )
        if not fit.all():
            row = int(np.argmin(fit))
            found = ", ".join(f"{name} {_numbers(candles, name)[row]:g}" for name in _COLUMNS)
            raise CandleDataError(
                f"candles hold {int((~fit).sum())} bars no regime can be told from, the first in row {row}: {found}; "
                "wanted finite numbers, prices above 0, low ≤ open and close ≤ high, volume ≥ 0"
            )
        return high, low, close, volume


def _numbers(candles: Candles | pd.DataFrame, name: str) -> Floats:
    try:
        return np.ascontiguousarray(getattr(candles, name), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CandleDataError(f"column {name!r} of the candles should hold numbers: {error}") from None
