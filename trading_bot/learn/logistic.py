"""Logistic regression of a few columns, exactly, by Newton's method; for calibration and for baselines."""

from __future__ import annotations

import numpy as np

from trading_bot.domain.market import Floats
from trading_bot.learn.linear_model import probabilities

RIDGE = 1e-3  # pulls coefficients of columns that tell nothing to 0, and keeps separable rows from infinite ones
STEPS = 50


def fit_logistic(X: Floats, y: Floats) -> Floats:
    """Coefficients (d + 1,), the intercept last, of P(y = 1) = 1 / (1 + exp(-(X·w + b))).

    Minimises the summed log loss and half of `RIDGE` times the squared coefficients, the intercept spared. Targets are
    Platt's (1999): (n₁ + 1) / (n₁ + 2) and 1 / (n₀ + 2) instead of 1 and 0, so that a few rows are never certain.

    Parameters
    ----------
    X : (n, d), n ≥ 1, of a spread near 1; where its middle lies does not matter
    y : (n,), 0 or 1
    """
    ones = float(y.sum())
    targets = np.where(y > 0, (ones + 1) / (ones + 2), 1 / (len(y) - ones + 2))
    middle = X.mean(axis=0)  # far from 0 a column and the intercept could hardly be told apart
    design = np.column_stack([X - middle, np.ones(len(X))])
    ridge = np.full(design.shape[1], RIDGE)
    ridge[-1] = 1e-9
    w: Floats = np.zeros(design.shape[1])
    w[-1] = np.log(targets.mean() / (1 - targets.mean()))

    def loss(w: Floats) -> float:
        scores = design @ w
        return float((np.logaddexp(0, scores) - targets * scores).sum() + 0.5 * (ridge * w * w).sum())

    for _ in range(STEPS):
        p = probabilities(design @ w)
        slope = design.T @ (p - targets) + ridge * w
        curve = (design * (p * (1 - p))[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(curve, slope)
        most = loss(w) + 1e-9  # near the minimum the loss is rounding and the whole step is right
        while loss(w - step) > most:  # far out the curve is flat and the step too long
            step = step / 2
        w = w - step
        if np.abs(step).max() < 1e-10:
            break
    w[-1] -= middle @ w[:-1]
    return w
