"""Features of prices: trend, momentum, bands, returns. All are ratios: no feature knows the price's level."""

from __future__ import annotations

import numpy as np
import talib

from trading_bot.domain.market import Candles
from trading_bot.features.columns import (
    Features,
    blocks,
    excess,
    fill,
    fill_later,
    flat_rows,
    log_ratio,
    percent,
    quotient,
    still_rows,
    stretches,
)


def close_over_sma(candles: Candles, out: Features, *, period: int) -> None:
    """C / SMA - 1."""
    for rows, wide, new in stretches(len(candles), period - 1):
        mean = talib.SMA(candles.close[wide], period)[new]
        out[0, rows] = excess(candles.close[rows], mean, mean)


def close_over_ema(candles: Candles, out: Features, *, period: int) -> None:
    """C / EMA - 1, the EMA seeded by a simple mean."""
    fill(out[0], excess, candles.close, talib.EMA(candles.close, period))


def macd(candles: Candles, out: Features, *, fast: int, slow: int, signal: int) -> None:
    """MACD line, signal line and histogram, each over C."""
    lines = talib.MACD(candles.close, fast, slow, signal)
    for rows, (inverse, scaled) in blocks(len(candles), 2):
        np.divide(1, candles.close[rows], out=inverse)
        for row, line in zip(out, lines, strict=True):
            row[rows] = np.multiply(line[rows], inverse, out=scaled)


def rsi(candles: Candles, out: Features, *, period: int) -> None:
    """Wilder's relative strength index, 0..1; 0 while the price has never moved."""
    percent(out[0], talib.RSI(candles.close, period))


def stochastic(candles: Candles, out: Features, *, period: int, slowing: int, signal: int) -> None:
    """Slow %K and %D, 0..1, smoothed by simple means; a bar in a range of zero counts 0.

    The numbers of TA-Lib's STOCH, but from its MAX and MIN, which take a third of the time.
    """
    for rows, wide, new in stretches(len(candles), period + slowing + signal - 3):
        highest, lowest = talib.MAX(candles.high[wide], period), talib.MIN(candles.low[wide], period)
        span = np.subtract(highest, lowest, out=highest)
        place = np.divide(np.subtract(candles.close[wide], lowest, out=lowest), span, out=lowest)
        place[span == 0] = 0
        line = talib.SMA(place, slowing)
        out[0, rows] = line[new]
        out[1, rows] = talib.SMA(line, signal)[new]


def cci(candles: Candles, out: Features, *, period: int) -> None:
    """Lambert's commodity channel index over 100; 0 where the typical price has not moved."""
    for rows, wide, new in stretches(len(candles), period - 1):
        line = talib.CCI(candles.high[wide], candles.low[wide], candles.close[wide], period)
        percent(out[0, rows], line[new])
    out[0][still_rows(candles, period)] = 0


def rate_of_change(candles: Candles, out: Features, *, period: int) -> None:
    """ROC / 100: the simple return of `period` bars."""
    fill_later(out[0], period, excess, candles.close, candles.close)


def trix(candles: Candles, out: Features, *, period: int) -> None:
    """One-bar rate of change of a triple EMA, in percent as TA-Lib gives it."""
    out[0] = talib.TRIX(candles.close, period)


def atr(candles: Candles, out: Features, *, period: int) -> None:
    """Wilder's average true range over C."""
    fill(out[0], quotient, talib.ATR(candles.high, candles.low, candles.close, period), candles.close)


def bollinger(candles: Candles, out: Features, *, period: int, deviations: float) -> None:
    """Upper, middle and lower band over C - 1, width (U - L) / M, and %b (C - L) / (U - L); 0 if closes are equal.

    The numbers of TA-Lib's BBANDS, but from its SMA and VAR: two arrays to take to float32 and not three.
    """
    for rows, wide, new in stretches(len(candles), period - 1):
        upper, middle, lower, width, percent_b = out[:, rows]
        centre, spread = talib.SMA(candles.close[wide], period)[new], talib.VAR(candles.close[wide], period)[new]
        np.sqrt(np.maximum(spread, 0, out=spread), out=spread)
        middle[:] = excess(centre, candles.close[rows], centre)
        lower[:] = quotient(spread, candles.close[rows], spread)
        np.multiply(lower, deviations, out=width)  # from here on float32 is enough
        np.add(middle, width, out=upper)
        np.subtract(middle, width, out=lower)
        np.divide(middle, width, out=percent_b)  # (M - C) / (U - M)
        np.subtract(0.5, np.multiply(percent_b, 0.5, out=percent_b), out=percent_b)
        np.multiply(width, 2, out=width)
        np.divide(width, np.add(middle, 1), out=width)
        percent_b[width == 0] = 0
    out[:, flat_rows(candles, period)] = 0


def keltner(candles: Candles, out: Features, *, period: int, ranges: float) -> None:
    """EMA + ranges·ATR, EMA, EMA - ranges·ATR, each over C - 1."""
    upper, middle, lower = out
    fill(middle, excess, talib.EMA(candles.close, period), candles.close)
    fill(lower, quotient, talib.ATR(candles.high, candles.low, candles.close, period), candles.close)
    for rows, _ in blocks(len(candles), 0):
        np.multiply(lower[rows], ranges, out=lower[rows])
        np.add(middle[rows], lower[rows], out=upper[rows])
        np.subtract(middle[rows], lower[rows], out=lower[rows])


def adx(candles: Candles, out: Features, *, period: int) -> None:
    """Wilder's average directional index, 0..1."""
    percent(out[0], talib.ADX(candles.high, candles.low, candles.close, period))


def simple_return(candles: Candles, out: Features) -> None:
    """C / C₋₁ - 1."""
    fill_later(out[0], 1, excess, candles.close, candles.close)


def log_return(candles: Candles, out: Features, *, lag: int = 0) -> None:
    """ln(C / C₋₁) of the bar `lag` bars ago."""
    out[0][:lag] = np.nan
    closes = candles.close[: max(0, len(candles) - lag)]
    fill_later(out[0][lag:], 1, log_ratio, closes, closes)


def high_over_low(candles: Candles, out: Features) -> None:
    """ln(H / L)."""
    fill(out[0], log_ratio, candles.high, candles.low)


def close_over_open(candles: Candles, out: Features) -> None:
    """ln(C / O)."""
    fill(out[0], log_ratio, candles.close, candles.open)


def gap(candles: Candles, out: Features) -> None:
    """ln(O / C₋₁)."""
    fill_later(out[0], 1, log_ratio, candles.open, candles.close)


def realised_volatility(candles: Candles, out: Features, *, period: int) -> None:
    """Root of the mean squared log return of `period` returns; 0 where the closes are equal."""
    returns = np.zeros(len(candles))
    np.log(candles.close[1:] / candles.close[:-1], out=returns[1:])
    sums = talib.SUM(returns * returns, period)
    fill(out[0], lambda s, _: np.sqrt(np.maximum(s, 0) / period), sums)
    out[0][:period] = np.nan  # the first bar has no return
    out[0][flat_rows(candles, period + 1)] = 0


def parkinson_volatility(candles: Candles, out: Features, *, period: int) -> None:
    """Parkinson (1980): the root of the mean of ln(H/L)² / (4 ln 2); 0 where no bar had a range."""
    spans = np.log(candles.high / candles.low)
    sums = talib.SUM(spans * spans, period)
    fill(out[0], lambda s, _: np.sqrt(np.maximum(s, 0) / (period * 4 * np.log(2))), sums)
    out[0][talib.MAX(spans, period) == 0] = 0


def williams(candles: Candles, out: Features, *, period: int) -> None:
    """Williams %R over 100, -1..0; 0 in a range of zero."""
    percent(out[0], talib.WILLR(candles.high, candles.low, candles.close, period))


def aroon(candles: Candles, out: Features, *, period: int) -> None:
    """Aroon up - Aroon down, -1..1."""
    percent(out[0], talib.AROONOSC(candles.high, candles.low, period))


def ultimate(candles: Candles, out: Features, *, short: int, middle: int, long: int) -> None:
    """Williams' ultimate oscillator, 0..1; 0 where nothing moved."""
    percent(out[0], talib.ULTOSC(candles.high, candles.low, candles.close, short, middle, long))
    out[0][still_rows(candles, long + 1)] = 0


def efficiency(candles: Candles, out: Features, *, period: int) -> None:
    """Kaufman's efficiency ratio: the way made over the way gone, 0..1; 0 where the closes are equal."""
    steps = np.zeros(len(candles))
    np.abs(candles.close[1:] - candles.close[:-1], out=steps[1:])
    gone = talib.SUM(steps, period)
    out[0][:period] = np.nan
    made = np.abs(candles.close[period:] - candles.close[: max(0, len(candles) - period)])
    fill(out[0][period:], lambda m, g, _: np.minimum(m / g, 1), made, gone[period:])
    out[0][flat_rows(candles, period + 1)] = 0


def close_over_highest(candles: Candles, out: Features, *, period: int) -> None:
    """C / highest high - 1."""
    fill(out[0], excess, candles.close, talib.MAX(candles.high, period))


def close_over_lowest(candles: Candles, out: Features, *, period: int) -> None:
    """C / lowest low - 1."""
    fill(out[0], excess, candles.close, talib.MIN(candles.low, period))


def shape(candles: Candles, out: Features) -> None:
    """Body (C - O), upper shadow, lower shadow and the close's place, each over H - L; 0 in a bar without range."""
    columns = (candles.open, candles.high, candles.low, candles.close)
    fill(out[0], lambda o, h, low, c, _: (c - o) / (h - low), *columns)
    fill(out[1], lambda o, h, low, c, _: (h - np.maximum(o, c)) / (h - low), *columns)
    fill(out[2], lambda o, h, low, c, _: (np.minimum(o, c) - low) / (h - low), *columns)
    fill(out[3], lambda o, h, low, c, _: (c - low) / (h - low), *columns)
    out[:, candles.high == candles.low] = 0
