"""How a feature's row is written: block by block, so that what is in between stays in the processor's cache.

A function of the table gets candles of length n and `out`, float32 of shape (columns, n) with anything in it, and
writes every row of it: NaN while it warms up, a finite number ever after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import talib

from trading_bot.domain.market import Candles, Floats

Features = npt.NDArray[np.float32]
RowNumbers = npt.NDArray[np.int64]

BLOCK = 32_768  # rows; float64: 256 kB each; smaller ones cost calls, larger ones leave the second-level cache


def fill(out: Features, formula: Callable[..., Floats], *inputs: Floats) -> None:
    """Write `formula(*inputs, into)`, computed in float64, to `out`.

    Parameters
    ----------
    out : shape (n,)
    formula : elementwise, takes as many arrays as there are inputs and one to put its result into, which it returns
    inputs : each of shape (n,)
    """
    for rows, (scratch,) in blocks(len(out), 1):
        out[rows] = formula(*(column[rows] for column in inputs), scratch)


def blocks(count: int, scratches: int) -> Iterator[tuple[slice, Floats]]:
    """Consecutive slices of `count` rows, each with as many scratch arrays of its length (used again by the next)."""
    scratch = np.empty((scratches, min(BLOCK, count)))
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        yield slice(start, end), scratch[:, : end - start]


def stretches(count: int, before: int) -> Iterator[tuple[slice, slice, slice]]:
    """Blocks for functions of a window, whose TA-Lib call then writes to the cache and not to fresh memory.

    Yields
    ------
    rows : the block
    wide : the block and the `before` rows ahead of it (as many as there are)
    new : where, in what is computed from `wide`, the block is

    Blocks begin at the same rows whatever follows, so that the future changes nothing in the past.
    """
    for rows, _ in blocks(count, 0):
        first = max(0, rows.start - before)
        yield rows, slice(first, rows.stop), slice(rows.start - first, None)


def quotient(a: Floats, b: Floats, into: Floats) -> Floats:
    """a / b."""
    return np.divide(a, b, out=into)


def excess(a: Floats, b: Floats, into: Floats) -> Floats:
    """a / b - 1."""
    np.divide(a, b, out=into)
    return np.subtract(into, 1, out=into)


def log_ratio(a: Floats, b: Floats, into: Floats) -> Floats:
    """ln(a / b)."""
    np.divide(a, b, out=into)
    return np.log(into, out=into)


def percent(out: Features, values: Floats) -> None:
    """Write `values`, which run from 0 to 100, as 0 to 1 (a single operation needs no scratch)."""
    np.multiply(values, 0.01, out=out, casting="unsafe")


def fill_later(out: Features, lag: int, formula: Callable[..., Floats], now: Floats, then: Floats) -> None:
    """Write `formula(now[t], then[t - lag])`; the first `lag` rows are NaN."""
    out[:lag] = np.nan
    fill(out[lag:], formula, now[lag:], then[: max(0, len(then) - lag)])


def ends_of_runs(mask: npt.NDArray[np.bool_], length: int) -> RowNumbers:
    """The rows t for which `mask` holds in all of t - length + 1 … t. Cheap where it holds seldom."""
    rows = np.flatnonzero(mask)
    last, first = rows[length - 1 :], rows[: max(0, len(rows) - length + 1)]
    ends: RowNumbers = last[last - first == length - 1]
    return ends


def flat_rows(candles: Candles, period: int) -> RowNumbers:
    """Rows whose last `period` closes are equal.

    Running sums keep a rounding error of what has left the window, so a spread computed from them is not exactly
    zero there: these rows have to be known from the prices.
    """
    return ends_of_runs(unchanged_closes(candles), period - 1)


def still_rows(candles: Candles, period: int) -> RowNumbers:
    """Rows in whose last `period` bars high, low and close are each the same."""
    if not len(flat_rows(candles, period)):
        return np.empty(0, np.int64)
    same = unchanged_closes(candles).copy()
    for column in (candles.high, candles.low):
        same[1:] &= column[1:] == column[:-1]
    return ends_of_runs(same, period - 1)


def unchanged_closes(candles: Candles) -> npt.NDArray[np.bool_]:
    """Whether a close equals the one before it; False in the first row."""

    def compute() -> npt.NDArray[np.bool_]:
        same = np.zeros(len(candles), np.bool_)
        np.equal(candles.close[1:], candles.close[:-1], out=same[1:])
        return same

    return candles.once("unchanged closes", compute)


def signed_by(amounts: Floats, prices: Floats, unchanged: npt.NDArray[np.bool_]) -> Floats:
    """The amounts, negative where the price is below the one before it and 0 where it is `unchanged` or the first."""
    signed = np.empty(len(prices))
    np.subtract(prices[1:], prices[:-1], out=signed[1:])
    np.copysign(amounts, signed, out=signed)
    signed[unchanged] = 0
    signed[:1] = 0
    return signed


def dry_rows(candles: Candles, period: int) -> RowNumbers:
    """Rows in whose last `period` bars nothing was traded, or less than the rounding error of its running sum."""

    def compute() -> RowNumbers:
        dry = ends_of_runs(candles.once("no volume", lambda: candles.volume == 0), period)
        lost = np.flatnonzero(volume_mean(candles, period) <= 0)
        return np.union1d(dry, lost) if len(lost) else dry

    return candles.once(("dry rows", period), compute)


def volume_mean(candles: Candles, period: int) -> Floats:
    """Mean volume of the last `period` bars; features of the same period share it."""
    return candles.once(("volume mean", period), lambda: talib.SMA(candles.volume, period))
