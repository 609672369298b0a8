"""What became of a strategy's past signals: the rows its model learns from.

A rule gives the side; whether taking it pays after costs is the label ("meta-label", Lopez de Prado, "Advances in
financial machine learning", 2018, chapter 3). A signal at the close of bar t is taken at the open of bar t + 1 and
given up where a shadow book would: at the open after the strategy's next opposite signal, at the latest `horizon` bars
on. A long signal earns what the price rose by, a signal to be out what it fell by; both pay a buyer's and a seller's
costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from trading_bot.domain.market import Candles, Floats, Times
from trading_bot.features.columns import Features
from trading_bot.features.compute import SETTLED, feature_matrix, require
from trading_bot.features.table import INDICATORS
from trading_bot.matching import MatchingConfig

Sides = npt.NDArray[np.int8]
Rows = npt.NDArray[np.int64]

META_FEATURES = (
    "log_return",
    "roc_12",
    "close_over_sma_20",
    "close_over_sma_50",
    "macd_histogram",
    "rsi_14",
    "stochastic_k",
    "bollinger_20_percent_b",
    "bollinger_20_width",
    "adx_14",
    "atr_14",
    "realised_volatility_20",
    "log_high_over_low",
    "mfi_14",
    "log1p_relative_volume_20",
    "log_volume_20_over_100",
    "hour_of_week_sine",
    "hour_of_week_cosine",
)
_TABLE = {name: entry for name, entry in INDICATORS.items() if set(entry.columns) & set(META_FEATURES)}


@dataclass(frozen=True, slots=True, eq=False)
class SignalHistory:
    """One strategy's past signals whose outcome is known, on all symbols, in order of time.

    Attributes
    ----------
    X : float32 (n, F), `META_FEATURES` at the signal's bar
    side : int8 (n,), +1 or -1
    own : (n,), the rule's own confidence
    time : int64 (n,), open of the signal's bar, UTC ms
    end : int64 (n,), open of the bar at whose open it was given up; known once that bar has closed
    outcome : (n,), net of costs, a ratio of the stake
    """

    X: Features
    side: Sides
    own: Floats
    time: Times
    end: Times
    outcome: Floats

    def __len__(self) -> int:
        return len(self.time)

    @property
    def paid(self) -> Floats:
        """The labels: 1 where the signal paid, else 0."""
        return (self.outcome > 0).astype(np.float64)

    @classmethod
    def empty(cls) -> SignalHistory:
        """No signal at all."""
        none, times = np.empty(0), np.empty(0, np.int64)
        return cls(np.empty((0, len(META_FEATURES)), np.float32), np.empty(0, np.int8), none, times, times, none)

    def take(self, rows: npt.NDArray[np.bool_]) -> SignalHistory:
        """The rows of a mask."""
        return SignalHistory(*(getattr(self, each.name)[rows] for each in fields(self)))


def meta_features(candles: Candles) -> tuple[Features, int]:
    """`META_FEATURES` of every candle from row `SETTLED` on, float32 (m, F), and that row; computed once.

    Raises
    ------
    CandleDataError
        As `features.compute.feature_matrix`: too few candles, most often.
    """

    def compute() -> tuple[Features, int]:
        require(candles, SETTLED + 1)
        matrix = feature_matrix(candles, _TABLE)
        rows = [matrix.names.index(name) for name in META_FEATURES]
        unsettled = SETTLED - int(matrix.index[0])  # of these the first candle still shows
        return np.ascontiguousarray(matrix.values[rows, unsettled:].T), SETTLED

    return candles.once("meta features", compute)


def signal_history(
    candles: Candles,
    side: Sides,
    own: Floats,
    horizon: int,
    costs: Floats,
    trades: Mapping[int, tuple[int, float]],
) -> SignalHistory:
    """The signals of one symbol whose outcome the candles tell.

    Parameters
    ----------
    side, own : (n,), the rule's answer for each candle
    costs : (n,), of buying and selling, a ratio
    trades : shadow trades that closed: open of the entry's bar → open of the exit's bar, net profit. Where one began
        with a signal and ended as the signal did, its profit is the outcome: it was traded with every cost there is
    """
    X, first = meta_features(candles)
    rows, exits = _taken(side, horizon)
    rows, exits = rows[rows >= first], exits[rows >= first]
    entry = candles.open[rows + 1]
    signs = side[rows].astype(np.float64)
    outcome = signs * (candles.open[exits] / entry - 1) - costs[rows]
    end = candles.time[exits]
    for place in np.flatnonzero(signs > 0) if trades else ():
        done = trades.get(int(candles.time[rows[place] + 1]))
        if done is not None and done[0] == end[place]:
            outcome[place] = done[1]
    return SignalHistory(X[rows - first], side[rows].astype(np.int8), own[rows], candles.time[rows], end, outcome)


def merged(parts: Sequence[SignalHistory]) -> SignalHistory:
    """The histories of several symbols as one, in order of time, then of the parts."""
    whole = [np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(SignalHistory)]
    time = SignalHistory(*whole).time
    order = np.argsort(time, kind="stable")
    return SignalHistory(*(column[order] for column in whole))


def round_trip_costs(candles: Candles, fee: float, config: MatchingConfig) -> Floats:
    """What buying and selling costs after each bar, a ratio: two taker fees and the spread; (n,).

    The spread is matching's, of the mean true range of the last `window` bars; the impact of a small stake is left out.
    """
    before = np.concatenate((candles.open[:1], candles.close[:-1]))
    ranges = np.maximum(candles.high, before) - np.minimum(candles.low, before)
    sums = np.concatenate(([0.0], np.cumsum(ranges)))
    last = np.arange(1, len(ranges) + 1)
    first = np.maximum(0, last - config.window)
    spread: Floats = config.spread * (sums[last] - sums[first]) / (last - first) / candles.close
    return 2 * fee + np.minimum(spread, 2 * config.max_cost)


def _taken(side: Sides, horizon: int) -> tuple[Rows, Rows]:
    """Rows with a signal whose end is among the candles, and the row at whose open each is given up."""
    n = len(side)
    never = 2 * n + horizon
    turns = {sign: _next(side == sign, never) for sign in (1, -1)}
    rows = np.flatnonzero(side != 0)
    opposite = np.where(side[rows] > 0, turns[-1][rows], turns[1][rows])
    exits = np.minimum(opposite + 1, rows + 1 + horizon)
    known = exits < n
    return rows[known], exits[known]


def _next(mask: npt.NDArray[np.bool_], never: int) -> Rows:
    """For each row the first later one where the mask holds."""
    places = np.where(mask, np.arange(len(mask)), never)
    later: Rows = np.minimum.accumulate(places[::-1])[::-1]
    return np.concatenate((later[1:], [never]))
