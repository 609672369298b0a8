"""What a network is fed: windows of features, and the return that followed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trading_bot.domain.market import Candles, Floats
from trading_bot.errors import CandleDataError, ConfigurationError
from trading_bot.features.columns import Features, RowNumbers
from trading_bot.features.compute import WARM_UP, FeatureMatrix, check, feature_matrix, require
from trading_bot.features.table import INDICATORS, Indicator


def feature_windows(
    candles: Candles, length: int = 30, table: Mapping[str, Indicator] = INDICATORS
) -> tuple[Features, RowNumbers]:
    """Every window of `length` candles after the warm-up.

    Returns
    -------
    X : float32 (n, length, F), a read-only view of the feature matrix: nothing is copied before a batch is taken
    index : int64 (n,), the row in `candles` of each window's **last** candle; the target is what follows that close

    Raises
    ------
    CandleDataError
        If there are fewer than 250 + length candles, or as `feature_matrix` does.
    ConfigurationError
        If `length` is not positive.
    """
    _positive("length", length)
    require(candles, max(WARM_UP, *(indicator.warmup for indicator in table.values()), 0) + length)
    return windows_of(feature_matrix(candles, table), length)


def windows_of(matrix: FeatureMatrix, length: int = 30) -> tuple[Features, RowNumbers]:
    """The same windows over a matrix that is there already."""
    _positive("length", length)
    if len(matrix.index) < length:
        raise CandleDataError(f"{len(matrix.index)} rows of features hold no window of {length}; load more")
    by_row = np.lib.stride_tricks.sliding_window_view(matrix.values, length, axis=1)  # (F, n, length)
    return by_row.transpose(1, 2, 0), matrix.index[length - 1 :]


def by_rows(windows: Features) -> Features:
    """The same windows as a view of another matrix, in which the features of one candle lie side by side.

    A shuffled batch `X[rows]` of it takes a third of the time, for the cost of one more matrix (N, F). No window is
    copied. What is not a view of overlapping windows, or lies so already, is returned as it is.

    Parameters
    ----------
    windows : (n, length, F), of `windows_of` or `feature_windows` (a slice of them in order is fine)
    """
    count, length, width = windows.shape
    step, along, across = windows.strides
    if step != along or across == windows.itemsize or not count:
        return windows
    matrix = np.empty((count + length - 1, width), windows.dtype)
    matrix[:length], matrix[length:] = windows[0], windows[1:, -1]  # each later window adds one candle
    return np.lib.stride_tricks.sliding_window_view(matrix, length, axis=0).transpose(0, 2, 1)


def forward_returns(candles: Candles, horizon: int) -> Floats:
    """Simple return of the close from t to t + horizon, for every t that has one.

    Returns
    -------
    float64 (len(candles) - horizon,): the last `horizon` candles have no target and none is made up. With `X, index =
    feature_windows(…)`, the pairs are `X[:len(keep)]` and `forward_returns(…)[keep]`, `keep = index[index < len(y)]`.

    Raises
    ------
    CandleDataError
        If there are no more than `horizon` candles, or one of them is not a candle.
    ConfigurationError
        If `horizon` is not positive.
    """
    _positive("horizon", horizon)
    if len(candles) <= horizon:
        raise CandleDataError(
            f"{len(candles)} candles of {candles.symbol} have no return over {horizon} bars; at least {horizon + 1} "
            f"are needed: load more candles or shorten the horizon"
        )
    check(candles)
    returns: Floats = candles.close[horizon:] / candles.close[:-horizon] - 1
    return returns


def _positive(name: str, number: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
        raise ConfigurationError(f"{name} is {number!r}; wanted a whole number ≥ 1")
