"""Candles for the tests: random walks, and markets in which something is wrong."""

from __future__ import annotations

import numpy as np

from trading_bot.domain.market import Candles, Floats

HOUR = 3_600_000
START = 1_600_000_000_000 // HOUR * HOUR


def candles_of(close: Floats, *, spread: Floats | float = 0.004, volume: Floats | float = 10.0) -> Candles:
    """Bars around these closes; each opens where the one before closed."""
    n = len(close)
    opened = np.concatenate([close[:1], close[:-1]])
    return Candles(
        "BTC/USDT",
        "1h",
        START + HOUR * np.arange(n),
        opened,
        np.maximum(opened, close) * (1.0 + spread),
        np.minimum(opened, close) * (1.0 - spread),
        close,
        np.broadcast_to(np.asarray(volume, np.float64), n).copy(),
    )


def random_walk(n: int, seed: int = 7, volatility: float = 0.01) -> Candles:
    """Independent returns whose volatility wanders: trends, lulls and jumps enough for every rule to speak."""
    chance = np.random.default_rng(seed)
    level = np.exp(0.3 * np.sin(np.arange(n) / 90.0)) * volatility
    close = 20_000.0 * np.exp(np.cumsum(chance.standard_t(5, n) * level * 0.7))
    return candles_of(close, spread=np.abs(chance.normal(0, 0.3, n)) * level, volume=chance.gamma(2.0, 5.0, n))
