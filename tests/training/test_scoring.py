"""Scores by hand, and intervals that hold what they promise where neighbours overlap."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trading_bot.domain.market import Floats
from trading_bot.errors import TrainingError
from trading_bot.training import scoring
from trading_bot.training.scoring import block_interval, score


def test_by_hand() -> None:
    found = score(np.array([1.0, -1.0, 2.0, 0.0, -1.0]), np.array([2.0, -2.0, -1.0, 1.0, 0.0]), horizon=1)
    assert found.rows == 5
    assert found.mae == pytest.approx((1 + 1 + 3 + 1 + 1) / 5)
    assert found.rmse == pytest.approx(np.sqrt((1 + 1 + 9 + 1 + 1) / 5))
    assert found.skill == pytest.approx(1 - 13 / 10)
    assert found.hit_rate == pytest.approx(2 / 3), "a forecast of 0 and a return of 0 tell nothing of the sign"
    # deviations from 0.2 and 0: 0.8 -1.2 1.8 -0.2 -1.2 and 2 -2 -1 1 0
    assert found.correlation == pytest.approx((1.6 + 2.4 - 1.8 - 0.2) / np.sqrt(6.8 * 10))
    json.dumps(found.as_json())


def test_the_perfect_the_opposite_and_none() -> None:
    target = np.random.default_rng(0).normal(size=400)
    perfect = score(target, target, 1)
    assert (perfect.mae, perfect.rmse, perfect.skill, perfect.hit_rate) == (0, 0, 1, 1)
    assert perfect.hit_rate_interval == (1, 1)
    assert perfect.skill_interval == pytest.approx((1, 1), abs=0.3)
    assert perfect.correlation == pytest.approx(1)
    assert score(-target, target, 1).hit_rate == 0
    none = score(np.zeros(400), target, 1)
    assert (none.skill, none.skill_interval) == (0, (0, 0))
    assert (none.hit_rate, none.hit_rate_interval, none.correlation) == (None, None, None)
    still = score(target, np.zeros(400), 1)
    assert (still.hit_rate, still.correlation) == (None, None)
    assert np.isfinite(still.skill)


def test_what_cannot_be_compared_is_refused() -> None:
    for forecast, target in ((np.zeros(3), np.zeros(4)), (np.zeros((3, 1)), np.zeros(3)), (np.zeros(0), np.zeros(0))):
        with pytest.raises(TrainingError, match=r"forecasts have shape .* wanted \(n,\) of both, n ≥ 1"):
            score(forecast, target, 1)


HORIZON = 12


def hits(random: np.random.Generator, n: int) -> Floats:
    """Whether the sign was right, row by row, where it is right by chance: labels overlap and forecasts move slowly."""
    bars = np.cumsum(random.normal(size=n + HORIZON + 1))
    forecast = np.convolve(random.normal(size=n + 39), np.ones(40), "valid")
    target = bars[HORIZON:-1] - bars[: -HORIZON - 1]
    right: Floats = (np.sign(forecast) == np.sign(target)).astype(np.float64)
    return right


def test_the_interval_covers_where_neighbours_overlap_and_one_of_single_rows_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring, "DRAWS", 300)
    random, markets = np.random.default_rng(11), 300
    covered = single = 0
    for seed in range(markets):
        values = hits(random, 1500)
        low, high = block_interval(values, 2 * HORIZON, seed)
        covered += low <= 0.5 <= high
        rows = random.choice(values, (300, len(values))).mean(axis=1)
        low, high = np.quantile(rows, [0.025, 0.975])
        single += low <= 0.5 <= high
    assert 0.88 <= covered / markets <= 0.98
    assert single / markets < 0.7


def test_of_independent_rows_it_is_the_textbooks_interval() -> None:
    values = np.random.default_rng(2).normal(3, 1, 4000)
    low, high = block_interval(values, 1)
    assert (low, high) == pytest.approx(values.mean() + np.array([-1.96, 1.96]) / np.sqrt(4000), abs=5e-3)


def test_every_value_is_drawn_as_often() -> None:
    """A value at the very end moves the interval's middle as much as one between."""
    ends, between = np.zeros(600), np.zeros(600)
    ends[-1] = between[300] = 600.0
    middles = [np.mean(block_interval(values, 20)) for values in (ends, between)]
    assert middles[0] == pytest.approx(middles[1], rel=0.1)


@pytest.mark.parametrize("n", [1, 2, 20, 95])
def test_of_too_few_rows_nothing_is_claimed(n: int) -> None:
    values = np.resize([0.0, 1.0], 96)
    assert block_interval(values[:n], 24) == (0, min(1, n - 1))
    low, high = block_interval(values, 24)
    assert 0 < low <= high < 1


def test_the_same_seed_is_the_same_interval() -> None:
    values = hits(np.random.default_rng(0), 500)
    assert block_interval(values, 24, 1) == block_interval(values, 24, 1) != block_interval(values, 24, 2)
