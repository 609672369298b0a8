"""Indicators on candles, computed by TA-Lib once per set of candles however often they are asked for.

Every function returns float64 of length n, NaN during its warm-up; row t uses rows ≤ t only.
"""

from __future__ import annotations

import numpy as np
import talib

from trading_bot.domain.market import Candles, Floats


def sma(candles: Candles, period: int) -> Floats:
    """Simple moving average of the close."""
    return candles.once(("sma", period), lambda: talib.SMA(candles.close, period))


def ema(candles: Candles, period: int) -> Floats:
    """Exponential moving average of the close (seeded by a simple mean, as TA-Lib does)."""
    return candles.once(("ema", period), lambda: talib.EMA(candles.close, period))


def rsi(candles: Candles, period: int = 14) -> Floats:
    """Wilder's relative strength index, 0..100."""
    return candles.once(("rsi", period), lambda: talib.RSI(candles.close, period))


def macd(candles: Candles, fast: int = 12, slow: int = 26, signal: int = 9) -> tuple[Floats, Floats, Floats]:
    """MACD line, signal line and histogram, in price units."""
    return candles.once(("macd", fast, slow, signal), lambda: talib.MACD(candles.close, fast, slow, signal))


def atr(candles: Candles, period: int = 14) -> Floats:
    """Wilder's average true range, in price units."""
    return candles.once(("atr", period), lambda: talib.ATR(candles.high, candles.low, candles.close, period))


def adx(candles: Candles, period: int = 14) -> Floats:
    """Wilder's average directional index, 0..100."""
    return candles.once(("adx", period), lambda: talib.ADX(candles.high, candles.low, candles.close, period))


def bollinger(candles: Candles, period: int = 20, deviations: float = 2.0) -> tuple[Floats, Floats, Floats]:
    """Upper, middle and lower Bollinger band."""
    return candles.once(
        ("bollinger", period, deviations), lambda: talib.BBANDS(candles.close, period, deviations, deviations)
    )


def highest(candles: Candles, period: int) -> Floats:
    """Highest high of the last `period` bars, this one included."""
    return candles.once(("highest", period), lambda: talib.MAX(candles.high, period))


def lowest(candles: Candles, period: int) -> Floats:
    """Lowest low of the last `period` bars, this one included."""
    return candles.once(("lowest", period), lambda: talib.MIN(candles.low, period))


def previous(values: Floats) -> Floats:
    """The value one row earlier; NaN in the first row."""
    shifted = np.empty_like(values)
    shifted[:1] = np.nan
    shifted[1:] = values[:-1]
    return shifted
