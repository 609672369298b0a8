"""A straight line: as good as it can be where the truth is one, and modest where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trading_bot.training.baselines import ridge_forecast


def rows(n: int, seed: int, weights: Any) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    X = (random.normal(size=(n, 4, 3)) * [1, 50, 0.01] + [0, 300, 7]).astype(np.float32)
    y = ((X[:, -1] - [0, 300, 7]) / [1, 50, 0.01]) @ np.array(weights) + random.normal(size=n)
    return X, y.astype(np.float32)


def test_a_straight_line_is_found_in_the_last_bar() -> None:
    X, y = rows(3000, 0, [0.5, -1.0, 2.0])
    held, truth = rows(500, 1, [0.5, -1.0, 2.0])
    forecast = ridge_forecast(X, y, held, horizon=5)
    assert forecast.dtype == np.float64
    assert np.mean((forecast - truth) ** 2) < 1.1, "the noise has a variance of 1, the line one of 5.25"


def test_where_there_is_nothing_it_forecasts_next_to_nothing() -> None:
    X, y = rows(3000, 2, [0.0, 0.0, 0.0])
    assert np.std(ridge_forecast(X, y, rows(500, 3, [0, 0, 0])[0], horizon=5)) < 0.05 * np.std(y)


def test_each_held_row_is_forecast_by_itself() -> None:
    X, y = rows(400, 4, [1.0, 0.0, 0.0])
    held, _ = rows(50, 5, [1.0, 0.0, 0.0])
    whole = ridge_forecast(X, y, held, 5)
    extreme = held.copy()
    extreme[25:] = 1e9
    np.testing.assert_allclose(ridge_forecast(X, y, extreme, 5)[:25], whole[:25], rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_few_rows_and_a_feature_that_does_not_move_do_no_harm(n: int) -> None:
    X, y = rows(n, 6, [1.0, 0.0, 0.0])
    X[:, :, 1] = 300.0
    assert np.isfinite(ridge_forecast(X, y, X, horizon=5)).all()
