"""What the regime detector looks at: a few causal, scale-free measures of trend, reversal and volatility."""

from __future__ import annotations

import numpy as np
import talib

from trading_bot.domain.market import Floats

NAMES = ("adx", "efficiency", "choppiness", "volatility_ratio")
LOOK_BACK = 240  # rows before the first one judged


def features_of(high: Floats, low: Floats, close: Floats, volume: Floats) -> list[Floats]:
    """One float64 (n,) per name in `NAMES`."""
    move = np.abs(np.diff(np.log(close), prepend=np.log(close[:1])))
    path = talib.SUM(move, 24)
    efficiency = np.abs(talib.MOM(np.log(close), 24)) / np.maximum(path, 1e-300)
    true_range = np.log(high / low)
    spread = talib.MAX(np.log(high), 24) - talib.MIN(np.log(low), 24)
    choppiness = np.log(np.maximum(talib.SUM(true_range, 24), 1e-300) / np.maximum(spread, 1e-300)) / np.log(24)
    ratio = np.log(np.maximum(talib.SMA(true_range, 24), 1e-300) / np.maximum(talib.SMA(true_range, 216), 1e-300))
    return [talib.ADX(high, low, close, 14), efficiency, choppiness, ratio]
