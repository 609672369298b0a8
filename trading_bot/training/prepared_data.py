"""Candles → features → windows → targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trading_bot.domain.market import Candles, Times
from trading_bot.errors import CandleDataError, ConfigurationError, unknown
from trading_bot.features.columns import Features
from trading_bot.features.compute import FeatureMatrix, feature_matrix
from trading_bot.features.table import CANDIDATES, INDICATORS, Indicator, column_names
from trading_bot.features.windows import by_rows, forward_returns, windows_of
from trading_bot.training.walk_forward import Rows


@dataclass(frozen=True, slots=True, eq=False)
class PreparedData:
    """What a forecaster is trained on.

    Attributes
    ----------
    X : float32 (n, length, F), a view
    y : float32 (n,), simple return of the close from t to t + horizon
    past : float32 (n,), simple return of the close from t - horizon to t: what persistence forecasts
    index : int64 (n,), the candles' row t of each window's last bar
    time : int64 (n,), that bar's open, UTC ms
    names : F feature names
    """

    X: Features
    y: Features
    past: Features
    index: Rows
    time: Times
    names: tuple[str, ...]
    symbol: str
    timeframe: str
    horizon: int

    @property
    def length(self) -> int:
        """Bars in a window."""
        return int(self.X.shape[1])


def prepare_data(
    candles: Candles, horizon: int = 12, length: int = 30, features: Sequence[str] | None = None
) -> PreparedData:
    """Candles → features → windows → targets; the last `horizon` windows have no target and are dropped.

    Parameters
    ----------
    candles : at least 250 + length + horizon of them, and more than twice the horizon
    horizon : bars ahead
    length : bars in a window
    features : column names, of the 40 or of the wider candidates; the 40 if absent

    Raises
    ------
    CandleDataError
        If the candles are too few or broken.
    ConfigurationError
        If a name is unknown or twice, or a number is not positive.
    """
    returns = forward_returns(candles, horizon)
    X, index = windows_of(select_features(candles, features), length)
    usable = (index < len(returns)) & (index >= horizon)
    keep = index[usable]
    if not len(keep):
        needed = max(len(candles) - len(index), horizon) + horizon + 1
        raise CandleDataError(
            f"{len(candles)} candles of {candles.symbol} leave no window of {length} bars with a return over {horizon} "
            f"bars before and after it; at least {needed} are needed: load more or shorten the horizon"
        )
    past = candles.close[keep] / candles.close[keep - horizon] - 1
    return PreparedData(
        X=by_rows(X[int(np.argmax(usable)) :][: len(keep)]),
        y=returns[keep].astype(np.float32),
        past=past.astype(np.float32),
        index=keep,
        time=candles.time[keep],
        names=tuple(features) if features is not None else column_names(INDICATORS),
        symbol=candles.symbol,
        timeframe=candles.timeframe,
        horizon=int(horizon),
    )


def select_features(candles: Candles, features: Sequence[str] | None) -> FeatureMatrix:
    """The matrix of these columns, in this order; only what is needed is computed. None: the 40."""
    if features is None:
        return feature_matrix(candles)
    table = table_of(features)
    matrix = feature_matrix(candles, table)
    rows = [matrix.names.index(name) for name in features]
    return FeatureMatrix(matrix.values[rows], tuple(features), matrix.index, matrix.time)


def table_of(features: Sequence[str]) -> dict[str, Indicator]:
    """The entries of the candidates' table that these columns come from."""
    owners = {column: name for name, indicator in CANDIDATES.items() for column in indicator.columns}
    for name in features:
        if name not in owners:
            raise ConfigurationError(unknown("feature", name, owners))
    if not features or len(set(features)) < len(features):
        raise ConfigurationError(f"features are {list(features)!r}; wanted at least one, each once")
    wanted = {owners[name] for name in features}
    return {name: indicator for name, indicator in CANDIDATES.items() if name in wanted}
