"""Which of eight ways to trade would have paid over the next bars: the labels the TRM learns from.

Class 0 is flat, 1 long, 2 short (flat where shorting is off), then five strategies. At the close of bar t one class is
chosen, its position is taken at the open of t + 1, moves as the strategy's does, and is closed at the close of t + h. A
strategy's position on bar j follows from its signals up to j - 1 and changes at j's open, as a shadow book's does: +1
be long, -1 be flat (short where that is on), 0 keep. Every change costs `cost`, the first and the last one too: whoever
trusts a strategy that is long already has to buy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trading_bot.domain.market import Candles, Floats, Times
from trading_bot.errors import CandleDataError, TrainingError
from trading_bot.features.columns import Features
from trading_bot.features.compute import feature_matrix
from trading_bot.features.table import INDICATORS, column_names
from trading_bot.features.windows import by_rows, windows_of
from trading_bot.training.loss_frame import within
from trading_bot.training.walk_forward import Rows

Sides = npt.NDArray[np.int8]
Labels = npt.NDArray[np.int64]

FLAT, LONG, SHORT = 0, 1, 2
STRATEGIES = ("ema_trend", "atr_breakout", "rsi_mean_reversion", "bollinger_reversion", "macd_momentum")
CLASSES = ("flat", "long", "short", *STRATEGIES)
_SAME = 1e-9  # ratios closer than this differ by rounding


@dataclass(frozen=True, slots=True, eq=False)
class TRMData:
    """What a TRM is trained on; rows are consecutive bars.

    Attributes
    ----------
    X : float32 (n, length, F), a view; the window that ends with bar t
    pnl : float64 (n, 8), what each class earns over t + 1 … t + horizon, net of costs, a ratio of the stake
    labels : int64 (n,), the class to trust
    index : int64 (n,), the candles' row t
    time : int64 (n,), that bar's open, UTC ms
    names : F feature names
    """

    X: Features
    pnl: Floats
    labels: Labels
    index: Rows
    time: Times
    names: tuple[str, ...]
    symbol: str
    timeframe: str
    horizon: int
    cost: float
    shorting: bool

    @property
    def length(self) -> int:
        """Bars in a window."""
        return int(self.X.shape[1])


def prepare_trm_data(
    candles: Candles,
    sides: Mapping[str, Sides],
    horizon: int = 12,
    length: int = 30,
    cost: float = 0.001,
    shorting: bool = False,
    warmup: int = 0,
) -> TRMData:
    """Windows, what each class earned after them, and labels.

    Parameters
    ----------
    sides : by strategy, all of `STRATEGIES`: int8 (n,), its signal at each candle's close
    horizon : bars a choice is kept
    length : bars in a window
    cost : of buying or selling once, fee and slippage, a ratio
    warmup : rows before which a strategy has no opinion yet and no window is used

    Raises
    ------
    CandleDataError
        If the candles are too few or broken.
    TrainingError, ConfigurationError
        If a strategy is missing, its signals are of another length, or a number is out of range.
    """
    pnl = class_pnl(candles, sides, horizon, cost, shorting)
    X, index = windows_of(feature_matrix(candles), length)
    usable = (index >= warmup) & (index < len(pnl))
    keep = index[usable]
    if not len(keep):
        needed = max(int(index[0]) if len(index) else len(candles), warmup) + horizon + 1
        raise CandleDataError(
            f"{len(candles)} candles of {candles.symbol} leave no window of {length} bars after {warmup} bars of "
            f"warm-up with {horizon} bars after it; at least {needed} are needed: load more or shorten the horizon"
        )
    return TRMData(
        X=by_rows(X[int(np.argmax(usable)) :][: len(keep)]),
        pnl=pnl[keep],
        labels=labels_of(pnl[keep], cost),
        index=keep,
        time=candles.time[keep],
        names=column_names(INDICATORS),
        symbol=candles.symbol,
        timeframe=candles.timeframe,
        horizon=int(horizon),
        cost=float(cost),
        shorting=shorting,
    )


def class_pnl(
    candles: Candles, sides: Mapping[str, Sides], horizon: int = 12, cost: float = 0.001, shorting: bool = False
) -> Floats:
    """What each class earns over bars t + 1 … t + horizon, net of costs: float64 (n - horizon, 8), a ratio.

    Row t needs candles and signals up to t + horizon and no later ones. Gains are compounded bar by bar.

    Raises
    ------
    CandleDataError
        If there are no more than `horizon` candles, or a price is not above 0.
    TrainingError
        If a strategy is missing, its signals are of another length or no signals, or a number is out of range.
    """
    check_outcome(candles, horizon, cost)
    positions = class_positions(_stacked(sides, len(candles)), shorting)  # (8, n)
    opened, close = candles.open, candles.close
    onward = np.concatenate((opened[1:] / opened[:-1] - 1, [0.0]))  # from a bar's open to the next one's
    grown = _prefix(np.log1p(positions * onward))  # (8, n + 1), of bars before
    traded = _prefix(np.abs(np.diff(positions, axis=1, prepend=0.0)))  # in stakes
    first = np.arange(1, len(candles) - horizon + 1)  # t + 1
    last = first + horizon - 1  # t + h
    total = grown[:, last] - grown[:, first] + np.log1p(positions[:, last] * (close / opened - 1)[last])
    changes = traded[:, last + 1] - traded[:, first + 1]  # after the first bar's own
    changes += np.abs(positions[:, first]) + np.abs(positions[:, last])
    result: Floats = np.expm1(total + np.log1p(-cost) * changes).T
    return np.ascontiguousarray(result)


def class_positions(sides: Sides, shorting: bool) -> Floats:
    """The position of each class on each bar, float64 (8, n): 1, 0 or -1.

    Parameters
    ----------
    sides : int8 (5, n), the strategies' signals at each close; a position follows from those of earlier bars alone
    """
    rows = np.arange(sides.shape[1])
    newest = np.maximum.accumulate(np.where(sides != 0, rows, -1), axis=1)  # row of the newest opinion
    wanted = np.where(newest >= 0, np.take_along_axis(sides, np.maximum(newest, 0), axis=1), 0)
    held = np.concatenate((np.zeros((len(sides), 1)), wanted[:, :-1]), axis=1)
    least = -1.0 if shorting else 0.0
    still = np.broadcast_to(np.array([[0.0], [1.0], [least]]), (3, sides.shape[1]))
    positions: Floats = np.maximum(np.concatenate((still, held)), least)
    return positions


def labels_of(pnl: Floats, cost: float) -> Labels:
    """The class that earned most, int64 (n,); flat where that was not above 0 or not by `cost` more than the next best.

    Classes that earned the same count as one, the first of them: a strategy that was long all the time is long, and no
    rival of it. Else the margin would be 0 wherever two strategies agree, which is in most rows.

    Parameters
    ----------
    pnl : (n, 8), of which column 0, flat, is 0
    """
    most = pnl.max(axis=1, keepdims=True)  # (n, 1)
    same = pnl >= most - _SAME
    others = np.where(same, -np.inf, pnl).max(axis=1)
    clear = (most[:, 0] > 0) & (most[:, 0] - others >= cost)
    return np.where(clear, same.argmax(axis=1), FLAT).astype(np.int64)


def check_outcome(candles: Candles, horizon: int, cost: float) -> None:
    """Refuse what no outcome can be computed from."""
    if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1:
        raise TrainingError(f"horizon is {horizon!r}; wanted a whole number of bars ≥ 1")
    within("cost", cost, 0.0, 0.5)
    if len(candles) <= horizon:
        raise CandleDataError(
            f"{len(candles)} candles of {candles.symbol} have no outcome over {horizon} bars; at least {horizon + 1} "
            "are needed: load more candles or shorten the horizon"
        )
    bad = ~((candles.open > 0) & (candles.close > 0) & np.isfinite(candles.open) & np.isfinite(candles.close))
    if bad.any():
        row = int(np.argmax(bad))
        raise CandleDataError(
            f"candle {row} of {candles.symbol} opens at {candles.open[row]} and closes at {candles.close[row]}; wanted "
            "prices above 0: mend the candles"
        )


def _stacked(sides: Mapping[str, Sides], rows: int) -> Sides:
    """(5, n) in the order of `STRATEGIES`."""
    missing = [name for name in STRATEGIES if name not in sides]
    if missing:
        raise TrainingError(
            f"signals of {', '.join(missing)} are missing; wanted those of {', '.join(STRATEGIES)}: are the strategy "
            "files there?"
        )
    for name in STRATEGIES:
        side = np.asarray(sides[name])
        if side.shape != (rows,) or not np.isin(side, (-1, 0, 1)).all():
            raise TrainingError(
                f"signals of {name} have shape {side.shape} and values from {side.min(initial=0)} to "
                f"{side.max(initial=0)}; wanted ({rows},), one of -1, 0 and 1 for each candle"
            )
    return np.stack([np.asarray(sides[name], np.int8) for name in STRATEGIES])


def _prefix(values: Floats) -> Floats:
    """Sums of all columns before each: (k, n) → (k, n + 1)."""
    return np.concatenate((np.zeros((len(values), 1)), np.cumsum(values, axis=1)), axis=1)
