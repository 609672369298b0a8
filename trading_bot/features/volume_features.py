"""Features of volume and of the clock. Where nothing was traded in a window they are 0."""

from __future__ import annotations

import numpy as np
import talib

from trading_bot.domain.market import Candles, Floats
from trading_bot.features.columns import (
    Features,
    blocks,
    dry_rows,
    excess,
    fill,
    log_ratio,
    percent,
    quotient,
    volume_sum,
)

HOUR_MS = 3_600_000
HOURS_A_WEEK = 168
EPOCH_HOUR = 72  # 1970-01-01 was a Thursday: three days after a Monday


def _change_over_volume(candles: Candles, out: Features, line: Floats, period: int) -> None:
    out[:period] = np.nan
    fill(
        out[period:],
        lambda now, then, volume, into: np.divide(np.subtract(now, then, out=into), volume, out=into),
        line[period:],
        line[: max(0, len(line) - period)],
        volume_sum(candles, period)[period:],
    )
    out[dry_rows(candles, period)] = 0


def on_balance(candles: Candles, out: Features, *, period: int) -> None:
    """Change of the on-balance volume in `period` bars over their volume, -1..1."""
    _change_over_volume(candles, out[0], talib.OBV(candles.close, candles.volume), period)


def accumulation(candles: Candles, out: Features, *, period: int) -> None:
    """Change of Chaikin's accumulation/distribution line in `period` bars over their volume, -1..1."""
    line = talib.AD(candles.high, candles.low, candles.close, candles.volume)
    _change_over_volume(candles, out[0], line, period)


def money_flow(candles: Candles, out: Features, *, period: int) -> None:
    """Money flow index, 0..1. TA-Lib gives 0 where less than 1 (price × volume) flowed."""
    percent(out[0], talib.MFI(candles.high, candles.low, candles.close, candles.volume, period))


def close_over_vwap(candles: Candles, out: Features, *, period: int) -> None:
    """C over the volume-weighted mean of the typical price of `period` bars, - 1."""
    flow = np.empty(len(candles))
    for rows, _ in blocks(len(candles), 0):
        part = flow[rows]
        np.add(candles.high[rows], candles.low[rows], out=part)
        np.add(part, candles.close[rows], out=part)
        np.multiply(part, candles.volume[rows], out=part)
    traded = talib.SUM(flow, period)
    fill(
        out[0],
        lambda c, v, t, into: excess(np.multiply(np.multiply(c, 3, out=into), v, out=into), t, into),
        candles.close,
        volume_sum(candles, period),
        traded,
    )
    out[0][: period - 1] = np.nan
    out[0][dry_rows(candles, period)] = 0


def volume_trend(candles: Candles, out: Features, *, fast: int, slow: int) -> None:
    """ln(mean volume of `fast` bars / of `slow` bars)."""
    ratio = slow / fast
    fill(
        out[0],
        lambda f, s, into: log_ratio(np.multiply(f, ratio, out=into), s, into),
        volume_sum(candles, fast),
        volume_sum(candles, slow),
    )
    rows = dry_rows(candles, fast)
    out[0][rows[rows >= slow - 1]] = 0


def relative_volume(candles: Candles, out: Features, *, period: int) -> None:
    """ln(1 + V / mean volume of `period` bars)."""
    fill(
        out[0],
        lambda v, s, into: np.log1p(quotient(np.multiply(v, period, out=into), s, into), out=into),
        candles.volume,
        volume_sum(candles, period),
    )
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
