"""Confidence that means what it says: a probability found on rows the network never saw."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_bot.domain.market import Floats
from trading_bot.errors import CheckpointError, TrainingError
from trading_bot.training.calibration import Calibration, fit_calibration

SCALE = 0.02


def planted(n: int, intercept: float, slope: float, seed: int = 0) -> tuple[Floats, Floats]:
    """Forecasts whose sign is right with probability 1 / (1 + exp(-(intercept + slope · strength)))."""
    random = np.random.default_rng(seed)
    forecast = random.normal(0, SCALE, n)
    right = random.random(n) < 1 / (1 + np.exp(-(intercept + slope * np.abs(forecast) / SCALE)))
    return forecast, np.abs(random.normal(0, 0.01, n)) * np.where(right, 1, -1) * np.sign(forecast)


@pytest.mark.parametrize(("intercept", "slope"), [(0.0, 0.5), (-0.3, 1.0), (0.2, 0.1)])
def test_a_planted_relation_is_found(intercept: float, slope: float) -> None:
    n = 40_000
    forecast, target = planted(n, intercept, slope)
    found = fit_calibration(forecast, target, SCALE)
    # standard errors of a logistic regression, from its Fisher information
    strength = np.abs(forecast) / SCALE
    p = 1 / (1 + np.exp(-(intercept + slope * strength)))
    design = np.stack([np.ones(n), strength], axis=1)
    error = np.sqrt(np.diag(np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None]))))
    assert abs(found.intercept - intercept) < 4 * error[0]
    assert abs(found.slope - slope) < 4 * error[1]
    assert (found.rows, found.scale) == (n, SCALE)
    assert found.hit_rate == np.mean(np.sign(forecast) == np.sign(target))
    # and so the probability that is told is the frequency that comes, in rows of another draw too
    forecast, target = planted(n, intercept, slope, seed=1)
    told, right = found.probability(forecast), np.sign(forecast) == np.sign(target)
    for part in np.array_split(np.argsort(told), 5):
        assert abs(told[part].mean() - right[part].mean()) < 4 * 0.5 / np.sqrt(len(part)) + 0.005


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.floats(-1, 1), st.floats(-1, 2), st.floats(1e-6, 1e3))
def test_more_is_never_trusted_less(seed: int, intercept: float, slope: float, unit: float) -> None:
    forecast, target = planted(80, intercept, slope, seed)
    found = fit_calibration(forecast * unit, target, SCALE * unit)
    asked = np.concatenate(([0.0], np.geomspace(1e-9, 1e9, 60))) * unit
    confidence = found.confidence(asked)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    assert (np.diff(confidence) >= 0).all()
    assert (np.diff(found.probability(asked)) >= 0).all()
    assert np.array_equal(confidence, found.confidence(-asked))
    np.testing.assert_allclose(found.confidence(asked), np.maximum(2 * found.probability(asked) - 1, 0))


def test_where_larger_forecasts_are_worse_all_are_trusted_alike() -> None:
    forecast, target = planted(2000, 1.0, -0.8)
    found = fit_calibration(forecast, target, SCALE)
    assert found.slope == 0
    assert found.probability(forecast) == pytest.approx(found.hit_rate, abs=1e-3)


def test_a_forecast_beyond_any_seen_counts_as_the_largest_seen() -> None:
    forecast, target = planted(2000, 0.0, 1.0)
    found = fit_calibration(forecast, target, SCALE)
    assert found.most == np.quantile(np.abs(forecast) / SCALE, 0.99)
    largest = found.confidence(np.array([found.most * SCALE, 1.0, np.inf]))
    assert largest[0] == largest[1] == largest[2] < 1


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("rows", [50, 5000])
def test_a_single_class_is_no_certainty(right: bool, rows: int) -> None:
    forecast = np.random.default_rng(0).normal(size=rows)
    found = fit_calibration(forecast, forecast if right else -forecast, 1.0)
    wanted = (rows + 1) / (rows + 2)
    assert found.probability(forecast) == pytest.approx(wanted if right else 1 - wanted)
    assert found.confidence(forecast).max() == (pytest.approx(2 * wanted - 1) if right else 0)


def test_classes_that_can_be_told_apart_do_not_overflow() -> None:
    forecast = np.concatenate((np.full(40, 1.0), np.full(40, 1.0 + 1e-9)))
    target = np.concatenate((np.full(40, -1.0), np.full(40, 1.0)))
    assert np.isfinite(fit_calibration(forecast, target, 1.0).probability(forecast)).all()
    assert np.isfinite(Calibration(-1e5, 1.0, 1.0, 9.0, 50, 0.5).probability(forecast)).all()


def test_forecasts_of_one_size_tell_how_often_they_are_right() -> None:
    target = np.where(np.random.default_rng(0).random(1000) < 0.6, 0.1, -0.1)
    found = fit_calibration(np.full(1000, 0.5), target, 1.0)
    assert found.slope == 0
    assert found.probability(np.array([0.1, 2.0])) == pytest.approx(found.hit_rate, abs=1e-3)


def test_rows_that_tell_nothing_do_not_count() -> None:
    forecast, target = planted(200, 0.3, 0.5)
    whole = fit_calibration(forecast, target, SCALE)
    more = fit_calibration(np.append(forecast, [0.0, 0.01]), np.append(target, [0.1, 0.0]), SCALE)
    assert more == whole
    forecast[49:] = 0
    with pytest.raises(TrainingError, match="49 forecasts are too few to calibrate on; at least 50 are needed"):
        fit_calibration(forecast, target, SCALE)
    with pytest.raises(TrainingError, match="0 forecasts are too few"):
        fit_calibration(np.zeros(0), np.zeros(0), SCALE)


def test_json_round_trip() -> None:
    found = fit_calibration(*planted(200, 0.3, 0.5), SCALE)
    again = Calibration.from_json(json.loads(json.dumps(found.as_json())))
    assert again == found
    assert isinstance(again.rows, int)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"slope": -0.1}, "out of range"),
        ({"scale": 0.0}, "out of range"),
        ({"scale": -1}, "out of range"),
        ({"most": -1}, "out of range"),
        ({"intercept": float("nan")}, "out of range"),
        ({"most": float("inf")}, "out of range"),
        ({"intercept": None}, "incomplete"),
        ({"slope": "steep"}, "incomplete"),
        ({"slope": [1]}, "incomplete"),
        ({"rows": "many"}, "incomplete"),
        ({"rows": float("inf")}, "incomplete"),
        ({"scale": 10**400}, "incomplete"),
    ],
)
def test_damaged_json_is_refused(damage: dict[str, Any], words: str) -> None:
    good = Calibration(0.1, 0.2, 0.3, 4.0, 50, 0.6).as_json()
    with pytest.raises(CheckpointError, match=words):
        Calibration.from_json({**good, **damage})
    with pytest.raises(CheckpointError, match="incomplete"):
        Calibration.from_json({name: value for name, value in good.items() if name not in damage})
    others: list[Any] = [[], "text", None]
    for other in others:
        with pytest.raises(CheckpointError, match="incomplete"):
            Calibration.from_json(other)
