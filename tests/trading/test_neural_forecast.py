"""A network as a strategy: causal to the bit, silent where it must be, and its part in the decision is on record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.service.stand import log_lines
from tests.strategies.markets import random_walk
from trading_bot.domain.market import Candles
from trading_bot.domain.models import ModelStatus, ModelVersion
from trading_bot.features.compute import SETTLED, SETTLED_CANDIDATES
from trading_bot.features.table import INDICATORS, column_names
from trading_bot.models.registry import build_model
from trading_bot.trading.neural_forecast import DAY_MS, NeuralForecast, load_network
from trading_bot.trading.strategy import read_latest, read_signals
from trading_bot.training.calibration import Calibration
from trading_bot.training.forecaster import Forecaster, describe_features

LENGTH = 10
MARKET = random_walk(700)
TRUSTED = Calibration(intercept=0.0, slope=1.0, scale=0.01, most=3.0, rows=500, hit_rate=0.6)
SIZES: Mapping[str, Mapping[str, Any]] = {
    "cnn": {"channels": (4, 4), "kernels": (3, 3), "dense": (8,)},
    "lstm": {"hidden": 4, "dense": 4},
    "attention": {"width": 8, "heads": 2, "layers": 1, "feed_forward": 8, "dense": 4},
    "ensemble": {},
    "time_llm": {"llm": "attention", "width": 8, "heads": 2},
}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """As the daemon has it: a sum then has one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def forecaster(
    model: str = "cnn", names: tuple[str, ...] = column_names(INDICATORS), until: int = 0, **facts: Any
) -> Forecaster:
    """A network with random weights that speaks out: what it says is not what is tested here."""
    torch.manual_seed(3)
    network = build_model(model, time=LENGTH, features=len(names), **SIZES[model]).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.0)
    known = {
        "symbol": "BTC/USDT", "timeframe": "1h", "horizon": 12, "trained_until": until,
        "features": describe_features(names, LENGTH), "calibration": TRUSTED.as_json(),
    }  # fmt: skip
    zeros, ones = np.zeros(len(names), np.float32), np.full(len(names), 0.02, np.float32)
    return Forecaster(network, zeros, ones, 0.01, {**known, **facts})


def strategy(made: Forecaster | None = None, max_age_days: float = 1e5) -> NeuralForecast:
    return NeuralForecast("neural_forecast", "nf-1", made or forecaster(), max_age_days)


def age(days: float) -> int:
    """`trained_until` so many days before the newest candle."""
    return int(MARKET.time[-1] - days * DAY_MS)


@pytest.mark.parametrize("model", SIZES)
def test_a_row_has_the_same_bits_whoever_asks_for_it(model: str) -> None:
    neural = strategy(forecaster(model))
    rows = 400 if model != "ensemble" else 345
    whole = read_signals(neural, MARKET[:rows])
    assert np.abs(whole.side[neural.warmup :]).sum() > 5, "it has opinions"
    for end in (1, SETTLED, neural.warmup + 1, neural.warmup + 7, rows - 1, rows):
        part = read_signals(neural, MARKET[:end])
        np.testing.assert_array_equal(part.side, whole.side[:end])
        np.testing.assert_array_equal(part.confidence, whole.confidence[:end])
        latest = read_latest(neural, MARKET[:end])
        assert (latest.side[0], latest.confidence[0]) == (part.side[-1], part.confidence[-1])


def test_moving_the_first_bar_moves_no_signal() -> None:
    neural = strategy()
    whole = read_signals(neural, MARKET[:500])
    for first in (1, 13, 100):
        later = read_signals(neural, MARKET[first:500])
        judged = slice(first + neural.warmup, 500)
        np.testing.assert_array_equal(later.side[neural.warmup :], whole.side[judged])
        np.testing.assert_allclose(later.confidence[neural.warmup :], whole.confidence[judged], rtol=0, atol=1e-5)


def test_side_and_confidence_are_the_forecast_s() -> None:
    neural = strategy()
    answer = read_signals(neural, MARKET[:400])
    said = answer.side != 0
    assert set(np.unique(answer.side[said])) == {-1, 1}
    assert ((answer.confidence > 0) == said).all()
    assert answer.confidence.max() < 1
    doubtful = dataclasses.replace(TRUSTED, intercept=-5.0, slope=0.0)  # P far below one half
    silent = strategy(forecaster(calibration=doubtful.as_json()))
    assert not read_signals(silent, MARKET[:400]).side.any()


@pytest.mark.parametrize(
    ("facts", "note"),
    [
        ({"until": age(0)}, "silent: its model was trained on candles up to 2020-10-12 15:00, this one among them"),
        ({"until": age(91)}, "silent: its model is 91 days old, neural.max_age_days is 90; train again"),
        ({"symbol": "ETH/USDT"}, "silent: its model was trained on ETH/USDT"),
        ({"timeframe": "5m"}, "silent: its model was trained on 5m candles"),
        ({"calibration": None}, "silent: its model was never calibrated"),
    ],
)
def test_it_is_silent_and_says_why(facts: dict[str, Any], note: str) -> None:
    latest = read_latest(strategy(forecaster(**facts), max_age_days=90), MARKET)
    assert (latest.side[0], latest.confidence[0]) == (0, 0)
    assert latest.note == note


def test_it_speaks_between_its_training_and_its_age() -> None:
    neural = strategy(forecaster(until=int(MARKET.time[400])), max_age_days=3)
    answer = read_signals(neural, MARKET[:600])
    assert not answer.side[:401].any(), "it has seen what came after these"
    assert np.abs(answer.side[401:473]).sum() > 10
    assert not answer.side[473:].any(), "72 hours later it is too old"
    assert "days old" in answer.note
    assert read_signals(neural, MARKET[:450]).note == ""


def test_warm_up_follows_the_features() -> None:
    assert strategy().warmup == SETTLED + LENGTH
    assert strategy(forecaster(names=("rsi_14", "close_over_ema_100"))).warmup == SETTLED_CANDIDATES + LENGTH
    assert not read_latest(strategy(), MARKET[: SETTLED + LENGTH]).side.any()


def version(sha256: str) -> ModelVersion:
    return ModelVersion(
        "nf-1", "neural_forecast", ModelStatus.CHAMPION, datetime(2024, 1, 1, tzinfo=UTC), None, sha256, "", {}, {}, {}
    )


def test_loaded_from_its_folder(tmp_path: Path) -> None:
    made = forecaster()
    digest = made.save(tmp_path / "nf-1.safetensors")
    loaded = load_network(tmp_path, version(digest), 1e5)
    assert (loaded.name, loaded.model_version) == ("neural_forecast", "nf-1")
    np.testing.assert_array_equal(
        read_signals(loaded, MARKET[:350]).confidence, read_signals(strategy(made), MARKET[:350]).confidence
    )


def test_one_that_cannot_be_used_is_silent_and_the_log_says_why(tmp_path: Path) -> None:
    other = forecaster(features={"names": ["moon"], "length": LENGTH, "definitions": {"moon": "moon()[0]"}})
    digest = other.save(tmp_path / "nf-1.safetensors")
    for made, words in (
        (version(digest), "its features differ: moon is unknown here; train again"),
        (version("0" * 64), "is not the one of model nf-1"),
        (dataclasses.replace(version(digest), id="gone"), "is not there"),
    ):
        with log_lines() as lines:
            refused = load_network(tmp_path, made, 90)
        assert [line for line in lines if "ERROR" in line and "neural_forecast" in line and words in line], words
        latest = read_latest(refused, MARKET)
        assert latest.side[0] == 0
        assert latest.note.startswith("silent: refused: ")
        assert words in latest.note
        assert refused.warmup == 0, "others do not wait for it"


def test_few_candles_are_no_reason_to_fail() -> None:
    for n in (0, 1, 30, 300):
        assert not read_signals(strategy(), MARKET[:n]).side.any()
    empty = Candles.empty("BTC/USDT", "1h")
    assert len(read_signals(strategy(), empty).side) == 0
