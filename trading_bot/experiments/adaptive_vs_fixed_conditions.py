"""What the market was like when a forecast was made: told from the past alone, with bounds from the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trading_bot.domain.market import Candles, Floats
from trading_bot.errors import TrainingError
from trading_bot.training.evaluation import splits_of
from trading_bot.training.prepared_data import PreparedData
from trading_bot.training.walk_forward import Rows

Mask = npt.NDArray[np.bool_]

BULL, VOLATILE, STABLE = "bull market", "high volatility", "stable"
RECOMMENDED: Mapping[str, str] = {  # by the description this feature began with
    BULL: "directional_focused", VOLATILE: "robust_prediction", STABLE: "basic",
}  # fmt: skip
TREND_BARS, VOLATILITY_BARS = 720, 168  # a month and a week of hours
LEAST = 30  # training rows that thirds are taken of


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """The test rows of one fold by condition; a row may be in two of them, or in none.

    Attributes
    ----------
    masks : by condition, bool (rows,)
    bull : a return from which on it is a bull market: the training rows' upper third begins there
    volatile, stable : per-bar volatility from which on it is high, and up to which it is stable: the same, of thirds
    """

    masks: Mapping[str, Mask]
    bull: float
    volatile: float
    stable: float


def conditions_of(
    candles: Candles, data: PreparedData, folds: int, trend: int = TREND_BARS, volatility: int = VOLATILITY_BARS
) -> tuple[Conditions, ...]:
    """The conditions of each fold's test rows.

    A row is judged by candles up to the one its forecast is made at, and by thirds of the rows its fold trains on.

    Parameters
    ----------
    candles : those the rows were prepared from
    trend : bars of the return that tells a bull market
    volatility : bars whose realised volatility is taken

    Raises
    ------
    TrainingError
        If the candles are others, a number of bars is not positive, or a fold trains on fewer than 30 rows with that
        many bars before them.
    """
    if trend < 1 or volatility < 1:
        raise TrainingError(f"found {trend} bars of trend and {volatility} of volatility; wanted at least 1 of each")
    if len(candles) <= data.index[-1] or not np.array_equal(candles.time[data.index], data.time):
        raise TrainingError(
            f"these {len(candles):,} candles of {candles.symbol} are not those the {len(data.y):,} rows were prepared "
            "from; wanted the same: give both the same file"
        )
    returns, moves = trailing(candles.close, data.index, trend, volatility)
    return tuple(
        _of_fold(returns, moves, train, held, max(trend, volatility)) for train, held in splits_of(data, folds)
    )


def trailing(close: Floats, index: Rows, trend: int, volatility: int) -> tuple[Floats, Floats]:
    """At each candle of `index`: the return over the `trend` bars up to it, the volatility of the `volatility` last.

    The volatility is √ of the mean squared log return of a bar. NaN where there are not so many bars before.
    """
    returns, moves = np.full(len(close), np.nan), np.full(len(close), np.nan)
    returns[trend:] = close[trend:] / close[:-trend] - 1
    squares = np.diff(np.log(close)) ** 2
    if len(squares) >= volatility:
        moves[volatility:] = np.sqrt(np.lib.stride_tricks.sliding_window_view(squares, volatility).mean(axis=1))
    return returns[index], moves[index]


def _of_fold(returns: Floats, moves: Floats, train: Rows, held: Rows, needed: int) -> Conditions:
    known = train[np.isfinite(returns[train]) & np.isfinite(moves[train])]
    if len(known) < LEAST:
        raise TrainingError(
            f"a fold trains on {len(known)} rows with {needed} bars before them; wanted at least {LEAST}, so that "
            "their thirds say something: load more candles, or tell conditions from fewer bars"
        )
    bull = float(np.quantile(returns[known], 2 / 3))
    stable, volatile = (float(each) for each in np.quantile(moves[known], (1 / 3, 2 / 3)))
    masks = {BULL: returns[held] >= bull, VOLATILE: moves[held] >= volatile, STABLE: moves[held] <= stable}
    return Conditions(masks, bull, volatile, stable)
