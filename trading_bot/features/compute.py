"""The feature matrix: every column of a table, for every candle after the warm-up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trading_bot.domain.market import Candles, Times
from trading_bot.errors import CandleDataError, ConfigurationError
from trading_bot.features.columns import Features, RowNumbers, blocks
from trading_bot.features.table import BUILT_IN, INDICATORS, Indicator, column_names

WARM_UP = 250  # rows dropped: the longest window, and long enough for recursive means to forget most of their beginning

SETTLED = 320
"""Rows after which it does not matter which candle was the first: moving it changes no column of `INDICATORS` by more
than 1e-6 of that column's standard deviation (or the last bit of its float32). Keltner's bands, by Wilder's mean of
20 ranges, need most: 265 on a random walk, 313 where the first candle is one of the widest ever seen.
"""

SETTLED_CANDIDATES = 820
"""The same for `CANDIDATES`, where the EMA of 100 needs most and ADX 28, ATR 28, EMA 50 and RSI 21 from 365 to 542."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMatrix:
    """Features by row, candles by column.

    Attributes
    ----------
    values : float32 (F, N), row f is the feature `names[f]`; `values.T` is (N, F) without copying
    names : F column names
    index : int64 (N,), the row of the candles each column belongs to
    time : int64 (N,), the open of those candles, UTC ms
    """

    values: Features
    names: tuple[str, ...]
    index: RowNumbers
    time: Times


def feature_matrix(
    candles: Candles, table: Mapping[str, Indicator] = INDICATORS, out: Features | None = None
) -> FeatureMatrix:
    """Compute all columns of `table` straight into one float32 array.

    Parameters
    ----------
    candles : n of them, more than 250 (or than the table's longest warm-up, whichever is longer)
    table : which features
    out : float32 (F, n) to write into, the warm-up's columns included; made if absent

    Raises
    ------
    CandleDataError
        If the candles are too few, out of order, or hold a price that is not positive or a volume that is not ≥ 0;
        or if a function that is not one of ours leaves something that is not finite after its warm-up.
    ConfigurationError
        If two columns have one name, or `out` does not fit.
    """
    names = column_names(table)
    if not names or len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ConfigurationError(f"the table of features has the columns {twice} twice; give each a name of its own")
    warmup = max(WARM_UP, *(indicator.warmup for indicator in table.values()))
    require(candles, warmup + 1)
    check(candles)
    shape = (len(names), len(candles))
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32:
        raise ConfigurationError(f"out is {out.dtype} {out.shape}; wanted float32 {shape} (features, candles)")
    fresh = candles[:]  # what features share is kept while the matrix is computed, and no longer
    row = 0
    with np.errstate(divide="ignore", invalid="ignore"):  # ranges of zero are dealt with by each function
        for name, indicator in table.items():
            rows = out[row : row + len(indicator.columns)]
            indicator.function(fresh, rows, **indicator.parameters)
            if id(indicator) not in BUILT_IN:  # those are proved by tests; to look costs as much as to compute
                _check_finite(name, indicator, rows[:, warmup:])
            row += len(rows)
    return FeatureMatrix(out[:, warmup:], names, np.arange(warmup, len(candles)), candles.time[warmup:])


def require(candles: Candles, wanted: int) -> None:
    """Raise a CandleDataError that says how many candles are needed if there are fewer."""
    if len(candles) < wanted:
        raise CandleDataError(
            f"{len(candles)} candles of {candles.symbol} are too few for features: at least {wanted} are needed, since "
            f"the first {WARM_UP} only warm the indicators up; load {wanted - len(candles)} more"
        )


def check(candles: Candles) -> None:
    """Raise a CandleDataError at the first candle no feature can be computed from."""
    for name in ("open", "high", "low", "close", "volume"):
        column = getattr(candles, name)
        parts = [column[rows] for rows, _ in blocks(len(column), 0)]
        ends = np.array([(np.minimum.reduce(part), np.maximum.reduce(part)) for part in parts])
        least, most = float(ends.min()), float(ends.max())  # NaN, as of any row, makes the comparisons false
        if (least >= 0 if name == "volume" else least > 0) and most < np.inf:
            continue
        bad = ~np.isfinite(column) | (column < 0 if name == "volume" else column <= 0)
        row = int(np.flatnonzero(bad)[0])
        raise CandleDataError(
            f"candle {row} of {candles.symbol} (open time {candles.time[row]}) has {name} {column[row]}; wanted a "
            f"finite number {'≥' if name == 'volume' else '>'} 0: mend or drop that candle first"
        )
    later = candles.time[1:] > candles.time[:-1]
    if not later.all():
        row = int(np.flatnonzero(~later)[0]) + 1
        raise CandleDataError(
            f"candle {row} of {candles.symbol} opens at {candles.time[row]}, not after the one before it "
            f"({candles.time[row - 1]}); sort the candles and drop doubles"
        )


def _check_finite(name: str, indicator: Indicator, rows: Features) -> None:
    for column, values in zip(indicator.columns, rows, strict=True):
        if np.isfinite(values).all():
            continue
        first = int(np.flatnonzero(~np.isfinite(values))[0])
        raise CandleDataError(
            f"indicator {name!r} gives {values[first]} in column {column!r}, {first} rows after the warm-up; wanted a "
            f"finite number: let its function say what a range or a volume of zero means"
        )
