"""Features of volume and of the clock. Where nothing was traded in a window they are 0.

Running sums keep a rounding error of what has left the window. After a volume of 1e15 in a thin market it is larger
than what is left, so shares are held in the range they have by definition.
"""

from __future__ import annotations

import numpy as np
import talib

from trading_bot.domain.market import Candles
from trading_bot.features.columns import (
    Features,
    dry_rows,
    excess,
    fill,
    quotient,
    signed_by,
    stretches,
    unchanged_closes,
    volume_mean,
)

HOUR_MS = 3_600_000
HOURS_A_WEEK = 168
EPOCH_HOUR = 72  # 1970-01-01 was a Thursday: three days after a Monday
LEAST_RATIO = 1e-6  # of two mean volumes: its logarithm exists


def on_balance(candles: Candles, out: Features, *, period: int) -> None:
    """Change of the on-balance volume in `period` bars over their volume, -1..1.

    The change is the sum of the volumes, signed by the close's direction: half the time of the difference of OBVs.
    """
    volume, unchanged = volume_mean(candles, period), unchanged_closes(candles)
    for rows, wide, new in stretches(len(candles), period):
        signed = signed_by(candles.volume[wide], candles.close[wide], unchanged[wide])
        change = talib.SMA(signed, period)[new]
        out[0, rows] = quotient(change, volume[rows], change)
    np.clip(out[0], -1, 1, out=out[0])
    out[0][:period] = np.nan  # the first bar has no direction
    out[0][dry_rows(candles, period)] = 0


def accumulation(candles: Candles, out: Features, *, period: int) -> None:
    """Change of Chaikin's accumulation/distribution line in `period` bars over their volume, -1..1."""
    volume = volume_mean(candles, period)
    for rows, wide, _ in stretches(len(candles), period):
        line = talib.AD(candles.high[wide], candles.low[wide], candles.close[wide], candles.volume[wide])
        change = np.subtract(line[period:], line[: max(0, len(line) - period)])
        late = slice(rows.stop - len(change), rows.stop)
        out[0, late] = quotient(change, volume[late], change)
    out[0][:period] = np.nan
    np.divide(out[0], period, out=out[0])  # a mean volume so far
    np.clip(out[0], -1, 1, out=out[0])
    out[0][dry_rows(candles, period)] = 0


def money_flow(candles: Candles, out: Features, *, period: int) -> None:
    """Money flow index, 0..1; as TA-Lib's, 0 where less than 1 (price × volume) flowed.

    What flowed up over all that flowed is (1 + net flow / all flow) / 2.
    """
    for rows, wide, new in stretches(len(candles), period):
        price = talib.TYPPRICE(candles.high[wide], candles.low[wide], candles.close[wide])
        unchanged = np.zeros(len(price), np.bool_)
        np.equal(price[1:], price[:-1], out=unchanged[1:])
        flow = signed_by(np.multiply(price, candles.volume[wide]), price, unchanged)
        net = talib.SUM(flow, period)[new]
        gross = talib.SUM(np.abs(flow, out=flow), period)[new]
        out[0, rows] = quotient(net, gross, net)
        out[0, rows][gross < 1] = -1
    np.multiply(np.add(np.clip(out[0], -1, 1, out=out[0]), 1, out=out[0]), 0.5, out=out[0])
    out[0][:period] = np.nan


def close_over_vwap(candles: Candles, out: Features, *, period: int) -> None:
    """C over the volume-weighted mean of the typical price of `period` bars, - 1."""
    volume = volume_mean(candles, period)
    for rows, wide, new in stretches(len(candles), period - 1):
        price = talib.TYPPRICE(candles.high[wide], candles.low[wide], candles.close[wide])
        mean = talib.SMA(np.multiply(price, candles.volume[wide], out=price), period)[new]
        quotient(mean, volume[rows], mean)
        out[0, rows] = excess(candles.close[rows], mean, mean)
    out[0][dry_rows(candles, period)] = 0


def volume_trend(candles: Candles, out: Features, *, fast: int, slow: int) -> None:
    """ln(mean volume of `fast` bars / of `slow` bars)."""
    fill(out[0], quotient, volume_mean(candles, fast), volume_mean(candles, slow))
    np.log(np.clip(out[0], LEAST_RATIO, slow / fast, out=out[0]), out=out[0])
    dry = dry_rows(candles, fast)
    out[0][dry[dry >= slow - 1]] = 0


def relative_volume(candles: Candles, out: Features, *, period: int) -> None:
    """ln(1 + V / mean volume of `period` bars)."""
    fill(out[0], quotient, candles.volume, volume_mean(candles, period))
    np.log1p(np.clip(out[0], 0, period, out=out[0]), out=out[0])
    out[0][dry_rows(candles, period)] = 0


def volume_change(candles: Candles, out: Features) -> None:
    """ln((1 + V / mean of 20) / (1 + the same one bar ago))."""
    level = np.empty((1, len(candles)), np.float32)
    relative_volume(candles, level, period=20)
    out[0][:1] = np.nan
    np.subtract(level[0][1:], level[0][:-1], out=out[0][1:])


def amihud(candles: Candles, out: Features, *, period: int) -> None:
    """Amihud (2002) illiquidity: mean |return| a million of quote currency traded; a bar without volume counts 0."""
    moves = np.zeros(len(candles))
    traded = candles.close[1:] * candles.volume[1:]
    np.divide(np.abs(candles.close[1:] / candles.close[:-1] - 1) * 1e6, traded, out=moves[1:], where=traded > 0)
    fill(out[0], lambda s, _: np.maximum(s, 0) / period, talib.SUM(moves, period))
    out[0][:period] = np.nan  # the first bar has no return
    out[0][dry_rows(candles, period)] = 0


def hour_of_week(candles: Candles, out: Features) -> None:
    """Sine and cosine of the bar's opening time in the week, which begins on Monday 00:00 UTC."""
    turn = 2 * np.pi / HOURS_A_WEEK
    hours = (candles.time / HOUR_MS + EPOCH_HOUR) % HOURS_A_WEEK
    fill(out[0], lambda h, _: np.sin(h * turn), hours)
    fill(out[1], lambda h, _: np.cos(h * turn), hours)
