"""Comparing two models: on bars neither has seen, row by row, and no claim the interval does not carry."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tests.training.forecasting import FEATURES, QUICK, swinging
from trading_bot.domain.market import Candles
from trading_bot.errors import TrainingError
from trading_bot.learn.promotion import compare
from trading_bot.training.fitting import fit_forecaster
from trading_bot.training.forecaster import Forecaster, describe_features
from trading_bot.training.prepared_data import prepare_data
from trading_bot.training.scoring import block_interval

HOUR = 3_600_000
CANDLES = swinging(6_000)
SEEN = 3_000  # candles the models were trained on
HORIZON = 3


def trained(names: tuple[str, ...] = FEATURES, until: int = SEEN, epochs: int = 6, **facts: Any) -> Forecaster:
    data = prepare_data(CANDLES[:until], HORIZON, 10, names)
    config = dataclasses.replace(QUICK, epochs=epochs, batches_per_epoch=30)
    known = {
        "symbol": "BTC/USDT", "timeframe": "1h", "horizon": HORIZON, "trained_until": int(CANDLES.time[until - 1]),
        "features": describe_features(names, 10), **facts,
    }  # fmt: skip
    return fit_forecaster(data.X, data.y, HORIZON, config, facts=known).forecaster


@pytest.fixture(scope="module")
def good() -> Forecaster:
    return trained()


@pytest.fixture(scope="module")
def blind(good: Forecaster) -> Forecaster:
    """Worse than nothing: every sign is the wrong way round."""
    return dataclasses.replace(good, scale=-good.scale)


def test_the_better_one_is_found_either_way_round(good: Forecaster, blind: Forecaster) -> None:
    found = compare(blind, good, CANDLES)
    assert found.better
    assert found.hits > 0
    assert found.challenger.skill > 0 > found.champion.skill
    assert found.gain == pytest.approx(found.challenger.skill - found.champion.skill)
    assert found.gain_interval[0] < found.gain < found.gain_interval[1]
    other = compare(good, blind, CANDLES)
    assert not other.better
    assert other.gain == pytest.approx(-found.gain)


def test_equals_are_not_better_and_a_margin_has_to_be_exceeded(good: Forecaster, blind: Forecaster) -> None:
    same = compare(good, good, CANDLES)
    assert not same.better
    assert same.gain_interval == (0.0, 0.0)
    gain = compare(blind, good, CANDLES).gain
    assert not compare(blind, good, CANDLES, margin=2 * gain).better


def test_only_bars_after_both_and_an_embargo_count(good: Forecaster) -> None:
    later = trained(until=4_000, epochs=1)
    for pair in ((good, later), (later, good)):
        found = compare(*pair, CANDLES)
        assert found.start == CANDLES.time[3_999] + (HORIZON + 1) * HOUR
        assert found.end == CANDLES.time[-1] - HORIZON * HOUR
        assert found.champion.rows == found.challenger.rows == 6_000 - 4_000 - 2 * HORIZON


def test_what_came_before_changes_nothing(good: Forecaster, blind: Forecaster) -> None:
    """Other prices in the bars that were trained on, far enough back that no feature reaches them."""
    whole, part = compare(blind, good, CANDLES), compare(blind, good, CANDLES[2_000:])
    assert (whole.start, whole.end) == (part.start, part.end)
    assert part.gain == pytest.approx(whole.gain, rel=1e-4)


def test_each_has_its_own_features(good: Forecaster) -> None:
    other = trained(("rsi_14", "close_over_ema_100"), epochs=1)
    assert compare(good, other, CANDLES).challenger.rows > 1_000


@pytest.mark.parametrize(
    ("facts", "candles", "words"),
    [
        ({"horizon": 5}, CANDLES, "forecast different things: horizon 3 and 5"),
        ({"symbol": "ETH/USDT"}, CANDLES, "forecast different things: symbol BTC/USDT and ETH/USDT"),
        ({}, dataclasses.replace(CANDLES, symbol="ETH/USDT"), "the candles are of ETH/USDT 1h"),
        ({}, CANDLES[: SEEN + 40], r"\d+ bars come after both models' training .*at least 50 are needed"),
        ({}, CANDLES[:SEEN], "0 bars come after both"),
    ],
)
def test_what_cannot_be_compared(good: Forecaster, facts: dict[str, Any], candles: Candles, words: str) -> None:
    other = dataclasses.replace(good, facts={**good.facts, **facts})
    with pytest.raises(TrainingError, match=words):
        compare(good, other, candles)


def test_chance_is_seldom_taken_for_better() -> None:
    """Of two forecasts of pure noise neither is better: the lower end of a 95 % interval is above 0 once in forty."""
    random = np.random.default_rng(4)
    found = 0
    for draw in range(200):
        target, one, two = random.normal(size=(3, 600))
        gain = ((0.1 * one - target) ** 2 - (0.1 * two - target) ** 2) / (target**2).mean()
        found += block_interval(gain, 6, seed=draw)[0] > 0
    assert found <= 14, "200 draws at 1 in 40 give more than 14 with a chance below 1 in 4,000"
