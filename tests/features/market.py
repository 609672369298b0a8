"""Candles to compute features from."""

from __future__ import annotations

import numpy as np

from trading_bot.domain.market import Candles

HOUR_MS = 3_600_000
MONDAY = 1_704_067_200_000  # 2024-01-01 00:00 UTC


def candles_of(rows: int, seed: int = 1) -> Candles:
    """A random walk with gaps between bars, every tenth bar without volume."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, rows)))
    opened = np.concatenate(([100.0], close[:-1])) * np.exp(random.normal(0, 0.002, rows))
    high = np.maximum(opened, close) * (1 + random.exponential(0.004, rows))
    low = np.minimum(opened, close) * (1 - random.exponential(0.004, rows))
    volume = random.lognormal(3, 1, rows) * (random.random(rows) > 0.1)
    return candles(close, opened, high, low, volume)


def candles(
    close: np.ndarray,
    opened: np.ndarray | None = None,
    high: np.ndarray | None = None,
    low: np.ndarray | None = None,
    volume: np.ndarray | None = None,
) -> Candles:
    """Hourly candles; bars without range and a volume of 1 where nothing else is said."""
    rows = len(close)
    time = MONDAY + HOUR_MS * np.arange(rows, dtype=np.int64)
    opened, high, low = (close if column is None else column for column in (opened, high, low))
    return Candles("BTC/USDT", "1h", time, opened, high, low, close, np.ones(rows) if volume is None else volume)


def replaced(whole: Candles, column: str, row: int, value: float) -> Candles:
    """The same candles but for one number."""
    changed = {name: getattr(whole, name).copy() for name in ("open", "high", "low", "close", "volume")}
    changed[column][row] = value
    return Candles(whole.symbol, whole.timeframe, whole.time, **changed)
