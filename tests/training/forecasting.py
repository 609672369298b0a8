"""Candles in which something can be forecast, and fits that take a moment."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.features.market import candles
from trading_bot.domain.market import Candles
from trading_bot.training.fitting import FitConfig

TINY: dict[str, Any] = {"channels": (4, 4), "kernels": (3, 3), "dense": (8,), "dropout": 0.0}
QUICK = FitConfig(model="cnn", sizes=TINY, epochs=3, batches_per_epoch=15, batch_size=64, learning_rate=0.01)
FEATURES = ("close_over_sma_10", "log_return", "rsi_14", "log_high_over_low")


def swinging(rows: int = 1_500, seed: int = 1) -> Candles:
    """A price around a mean it returns to: what is far above falls, on average."""
    random = np.random.default_rng(seed)
    level = np.zeros(rows)
    for row in range(1, rows):
        level[row] = 0.9 * level[row - 1] + random.normal(0, 0.01)
    close = 100 * np.exp(level)
    opened = np.concatenate(([100.0], close[:-1]))
    high = np.maximum(opened, close) * (1 + random.exponential(0.002, rows))
    low = np.minimum(opened, close) * (1 - random.exponential(0.002, rows))
    columns = (close, opened, high, low, random.lognormal(3, 0.5, rows))
    return candles(*(column.round(4) for column in columns))  # an exchange has so many decimals
