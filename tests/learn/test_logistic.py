"""Logistic regression by Newton's method, against a general minimiser."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize

from trading_bot.domain.market import Floats
from trading_bot.learn.logistic import RIDGE, fit_logistic


def platt(y: Floats) -> Floats:
    ones = y.sum()
    return np.asarray(np.where(y > 0, (ones + 1) / (ones + 2), 1 / (len(y) - ones + 2)))


def loss(w: Floats, X: Floats, y: Floats) -> float:
    score = X @ w[:-1] + w[-1]
    return float((np.logaddexp(0, score) - platt(y) * score).sum() + 0.5 * RIDGE * (w[:-1] ** 2).sum())


def slopes(w: Floats, X: Floats, y: Floats) -> Floats:
    residual = 0.5 * (1 + np.tanh(0.5 * (X @ w[:-1] + w[-1]))) - platt(y)
    return np.concatenate((X.T @ residual + RIDGE * w[:-1], [residual.sum()]))


def minimised(X: Floats, y: Floats) -> Floats:
    found = minimize(loss, np.zeros(X.shape[1] + 1), (X, y), "BFGS", slopes, options={"gtol": 1e-8, "maxiter": 5_000})
    return np.asarray(found.x)


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_what_a_general_minimiser_finds(seed: int) -> None:
    chance = np.random.default_rng(seed)
    X = chance.normal(size=(300, 3)) * [0.3, 1.0, 3.0]
    y = (chance.random(300) < 1 / (1 + np.exp(-(X @ [1.0, -1.0, 0.5] - 1)))).astype(float)
    np.testing.assert_allclose(fit_logistic(X, y), minimised(X, y), atol=1e-5)


@pytest.mark.parametrize("imbalance", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("middle", [0.0, 100.0, -1e4])
def test_it_arrives_wherever_the_columns_lie(middle: float, imbalance: float) -> None:
    """Columns far from 0 look like the intercept: without their middle taken off the steps end short of the minimum."""
    chance = np.random.default_rng(1)
    X = chance.normal(size=(200, 2))
    y = (X[:, 0] + 0.3 * chance.normal(size=200) > np.quantile(X[:, 0], 1 - imbalance)).astype(float)
    near, far = fit_logistic(X, y), fit_logistic(X + middle, y)
    np.testing.assert_allclose(far[:-1], near[:-1], rtol=1e-6)
    np.testing.assert_allclose(far[-1] + middle * far[:-1].sum(), near[-1], atol=1e-5)
    assert np.abs(slopes(near, X, y)).max() < 1e-6


def test_rows_that_can_be_told_apart_exactly_leave_finite_coefficients() -> None:
    X = np.linspace(-1, 1, 60)[:, None]
    y = (X[:, 0] > 0).astype(float)
    w = fit_logistic(X, y)
    assert np.abs(slopes(w, X, y)).max() < 1e-6
    assert 5 < w[0] < 1_000


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_alone_is_likely_but_not_certain(label: float) -> None:
    n = 40
    chance = np.random.default_rng(2)
    w = fit_logistic(chance.normal(size=(n, 2)), np.full(n, label))
    np.testing.assert_allclose(w[:-1], 0, atol=1e-9)
    share = (n + 1) / (n + 2) if label else 1 / (n + 2)
    np.testing.assert_allclose(1 / (1 + np.exp(-w[-1])), share, atol=1e-9)


def test_a_column_that_does_not_move_gets_nothing() -> None:
    chance = np.random.default_rng(3)
    X = chance.normal(size=(200, 2))
    y = (chance.random(200) < 1 / (1 + np.exp(-X[:, 0]))).astype(float)
    alone = fit_logistic(X, y)
    for constant in (0.0, 1.0, 0.1):
        with_it = fit_logistic(np.column_stack((X, np.full(200, constant))), y)
        np.testing.assert_allclose(with_it[:2], alone[:2], atol=1e-9)
        np.testing.assert_allclose(with_it[2], 0, atol=1e-9)


def test_twice_the_same_column_is_no_reason_to_fail() -> None:
    chance = np.random.default_rng(4)
    x = chance.normal(size=150)
    y = (chance.random(150) < 1 / (1 + np.exp(-x))).astype(float)
    w = fit_logistic(np.column_stack((x, x)), y)
    np.testing.assert_allclose(w[0], w[1], rtol=1e-6)
    np.testing.assert_allclose(w[0] + w[1], fit_logistic(x[:, None], y)[0], rtol=1e-3)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_rows_and_no_column(n: int) -> None:
    x: Floats = np.arange(n, dtype=np.float64)
    y: Floats = (x % 2 == 1).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        w = fit_logistic(np.empty((n, 0)), y)
        assert np.isfinite(fit_logistic(x[:, None], y)).all()
    np.testing.assert_allclose(1 / (1 + np.exp(-w[0])), platt(y).mean(), atol=1e-9)


def test_no_start_is_too_far() -> None:
    """Odd shapes, a row far from all others among them: at the minimum of a convex sum its slopes vanish."""
    chance = np.random.default_rng(0)
    for each in range(300):
        n, d = int(chance.integers(2, 80)), int(chance.integers(1, 3))
        X = chance.standard_t(1.5, (n, d)) if each % 2 else chance.normal(size=(n, d))
        X[0] *= chance.choice([1, 10, 100])
        y = (chance.random(n) < chance.choice([0.03, 0.3, 0.5])).astype(float)
        if chance.random() < 0.3:
            y = (X[:, 0] > np.quantile(X[:, 0], chance.random())).astype(float)
        assert np.abs(slopes(fit_logistic(X, y), X, y)).max() < 1e-5, each
