"""Market conditions: what a row is called comes from candles up to it, the bounds from the rows trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.training.forecasting import swinging
from trading_bot.domain.market import Candles
from trading_bot.errors import TrainingError
from trading_bot.experiments.adaptive_vs_fixed_conditions import (
    BULL,
    RECOMMENDED,
    STABLE,
    VOLATILE,
    conditions_of,
    trailing,
)
from trading_bot.training.adaptive_loss import COMBINATIONS
from trading_bot.training.evaluation import splits_of
from trading_bot.training.prepared_data import PreparedData, prepare_data

TREND, VOLATILITY = 48, 24


@pytest.fixture(scope="module")
def candles() -> Candles:
    return swinging(800)


@pytest.fixture(scope="module")
def data(candles: Candles) -> PreparedData:
    return prepare_data(candles, 3)


def test_the_values_are_those_of_the_bars_before(candles: Candles, data: PreparedData) -> None:
    returns, moves = trailing(candles.close, data.index, TREND, VOLATILITY)
    for row in (0, 100, len(data.index) - 1):
        at = data.index[row]
        assert returns[row] == pytest.approx(candles.close[at] / candles.close[at - TREND] - 1)
        bars = np.log(candles.close[at - VOLATILITY + 1 : at + 1] / candles.close[at - VOLATILITY : at])
        assert moves[row] == pytest.approx(np.sqrt((bars**2).mean()))
    early = trailing(candles.close, np.array([10, 23, 24, 47, 48]), TREND, VOLATILITY)
    assert np.isnan(early[0]).tolist() == [True, True, True, True, False]
    assert np.isnan(early[1]).tolist() == [True, True, False, False, False]


def test_later_candles_change_nothing(candles: Candles, data: PreparedData) -> None:
    whole = trailing(candles.close, data.index, TREND, VOLATILITY)
    for end in (400, 555, 700):
        known = data.index < end
        cut = trailing(candles.close[:end], data.index[known], TREND, VOLATILITY)
        np.testing.assert_array_equal(cut[0], whole[0][known])
        np.testing.assert_array_equal(cut[1], whole[1][known])


def test_bounds_are_of_the_training_rows_and_masks_of_the_past(candles: Candles, data: PreparedData) -> None:
    first = splits_of(data, 2)[0][1]  # test rows of the first fold
    middle = int(data.index[first[len(first) // 2]])
    close = candles.close.copy()
    close[middle:] *= np.linspace(1, 40, len(close) - middle)  # a wild market from there on
    was = conditions_of(candles, data, 2, TREND, VOLATILITY)
    became = conditions_of(replace(candles, close=close), data, 2, TREND, VOLATILITY)
    assert (was[0].bull, was[0].volatile, was[0].stable) == (became[0].bull, became[0].volatile, became[0].stable)
    before = data.index[first] < middle
    for name in RECOMMENDED:
        np.testing.assert_array_equal(was[0].masks[name][before], became[0].masks[name][before])
    assert became[0].masks[BULL][~before].mean() > was[0].masks[BULL][~before].mean()
    assert became[1].bull > was[1].bull, "the second fold trains on those rows"


def test_thirds(candles: Candles, data: PreparedData) -> None:
    returns, moves = trailing(candles.close, data.index, TREND, VOLATILITY)
    folds = conditions_of(candles, data, 2, TREND, VOLATILITY)
    for (train, held), found in zip(splits_of(data, 2), folds, strict=True):
        assert (returns[train] >= found.bull).mean() == pytest.approx(1 / 3, abs=0.01)
        assert (moves[train] >= found.volatile).mean() == pytest.approx(1 / 3, abs=0.01)
        assert (moves[train] <= found.stable).mean() == pytest.approx(1 / 3, abs=0.01)
        np.testing.assert_array_equal(found.masks[VOLATILE], moves[held] >= found.volatile)
        assert not (found.masks[VOLATILE] & found.masks[STABLE]).any()
        assert {len(mask) for mask in found.masks.values()} == {len(held)}


def test_every_recommended_combination_exists() -> None:
    assert set(RECOMMENDED.values()) <= set(COMBINATIONS)
    assert set(RECOMMENDED) == {BULL, VOLATILE, STABLE}


def test_mistakes(candles: Candles, data: PreparedData) -> None:
    with pytest.raises(TrainingError, match="found 0 bars of trend and 24 of volatility"):
        conditions_of(candles, data, 2, 0, VOLATILITY)
    with pytest.raises(TrainingError, match=r"trains on \d+ rows with 575 bars before them; wanted at least 30"):
        conditions_of(candles, data, 2, 575, VOLATILITY)
    with pytest.raises(TrainingError, match="trains on 0 rows with 5000 bars before"):
        conditions_of(candles, data, 2, TREND, 5000)
    for others in (swinging(600), replace(candles, time=candles.time + 1)):
        with pytest.raises(TrainingError, match="are not those the"):
            conditions_of(others, data, 2, TREND, VOLATILITY)
