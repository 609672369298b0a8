"""What any forecast has to beat, apart from zero, the mean and the recent move: a straight line."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import Ridge

from trading_bot.domain.market import Floats
from trading_bot.features.columns import Features
from trading_bot.training.statistics import column_statistics

ALPHAS = tuple(10.0**power for power in range(7))
VALIDATION = 0.15


def ridge_forecast(X: Features, y: Features, held: Features, horizon: int) -> Floats:
    """Ridge regression on each window's last bar; its penalty chosen on the newest part of the training rows.

    Parameters
    ----------
    X, held : float32 (n, time, features), (m, time, features)
    y : float32 (n,)
    horizon : rows purged before the part that chooses

    Returns
    -------
    float64 (m,)
    """
    mean, std = column_statistics(X[:, -1])
    rows = ((X[:, -1] - mean) / std).astype(np.float64)
    start = len(rows) - max(1, round(len(rows) * VALIDATION))
    older, newer = slice(0, max(1, start - horizon)), slice(start, None)

    def error(alpha: float) -> float:
        fitted = Ridge(alpha).fit(rows[older], y[older])
        return float(np.mean((fitted.predict(rows[newer]) - y[newer]) ** 2))

    best = Ridge(min(ALPHAS, key=error)).fit(rows, y)
    forecast: Floats = best.predict(((held[:, -1] - mean) / std).astype(np.float64))
    return forecast
