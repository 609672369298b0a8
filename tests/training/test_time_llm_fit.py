"""Time-LLM in the one fit there is: checked before it begins, saved and loaded with the same bits, never mixed up."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models.test_time_llm import every_reader, needs_transformers, save_language_model
from tests.training.forecasting import FEATURES, swinging
from trading_bot.errors import CheckpointError, ConfigurationError
from trading_bot.models.registry import build_model
from trading_bot.training.adaptive_loss_run import AdaptiveRunConfig, run_adaptive
from trading_bot.training.adaptive_loss_selection import AdaptiveLossConfig
from trading_bot.training.fitting import FitConfig, check_config, fit_forecaster
from trading_bot.training.forecaster import Forecaster, describe_features
from trading_bot.training.model_checkpoint import ModelCheckpoint
from trading_bot.training.prepared_data import prepare_data

CANDLES = swinging(700)
DATA = prepare_data(CANDLES, 3, 10, FEATURES)
SIZES = {"llm_layers": 1, "description": "", "width": 8, "heads": 2}
FIT = FitConfig(model="time_llm", epochs=2, batches_per_epoch=2, batch_size=16)
FACTS = {"features": describe_features(DATA.names, DATA.length)}


def fit_config(llm: str, **sizes: object) -> FitConfig:
    return dataclasses.replace(FIT, sizes={**SIZES, "llm": llm, **sizes})


@every_reader
def test_a_fit_is_saved_and_loaded_with_the_same_bits(tmp_path: Path, llm: str) -> None:
    fitted = fit_forecaster(DATA.X[:300], DATA.y[:300], 3, fit_config(llm), facts=FACTS).forecaster
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    loaded = Forecaster.load(path)
    np.testing.assert_array_equal(loaded.forecast(DATA.X[300:]), fitted.forecast(DATA.X[300:]))
    assert loaded.label == fitted.label == loaded.facts["language_model"]
    assert ("never trained" in str(loaded.label)) == (llm == "backbone")


@every_reader
def test_looking_at_settings_moves_no_chance_and_trains_nothing(llm: str) -> None:
    before = torch.get_rng_state()
    check_config(fit_config(llm), 10, 4)
    assert torch.equal(torch.get_rng_state(), before)


@needs_transformers
def test_a_directory_is_looked_into_before_the_fit(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    save_language_model(folder, "GPT2")
    before = torch.get_rng_state()
    check_config(fit_config("backbone", llm_path=str(folder)), 10, 4)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ConfigurationError, match="channels is 64; wanted at most 48, the width of tiny"):
        check_config(fit_config("backbone", llm_path=str(folder), channels=64), 10, 4)
    (folder / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(ConfigurationError, match="tiny cannot be read as a language model"):
        check_config(fit_config("backbone", llm_path=str(folder)), 10, 4)


@needs_transformers
def test_a_checkpoint_says_what_reads_and_refuses_another(tmp_path: Path) -> None:
    kept = ModelCheckpoint(tmp_path)
    kept.save(build_model("time_llm", time=10, features=4, **SIZES), 1.0)
    assert kept.load_best(build_model("time_llm", time=10, features=4, **SIZES))["language_model"] == (
        "random GPT-2 (seed 0, 1 layers, never trained)"
    )
    for other in ({"llm_seed": 1}, {"llm_layers": 2}):
        with pytest.raises(CheckpointError, match=r"best_model.safetensors: these weights were fitted to another lang"):
            kept.load_best(build_model("time_llm", time=10, features=4, **{**SIZES, **other}))
    with pytest.raises(CheckpointError, match="belongs to another architecture than TimeLLM"):
        kept.load_best(build_model("time_llm", time=10, features=4, llm="none"))


@every_reader
@pytest.mark.parametrize("policy", ["performance_based", "learning_based"])
def test_an_adaptive_run_goes_on_bit_for_bit(tmp_path: Path, llm: str, policy: str) -> None:
    """With enough steps for the weights of the losses to move, where that is cheap."""
    batch = 64 if llm == "backbone" else 16
    loss = AdaptiveLossConfig(
        combination="comprehensive", adaptation_strategy=policy, adaptation_frequency=5, performance_window=5
    )
    config = AdaptiveRunConfig(
        model="time_llm", sizes={**SIZES, "llm": llm}, features=FEATURES, horizon=3, length=10, batch_size=batch,
        epochs=2 if llm == "backbone" else 12, patience=12, loss=loss,
    )  # fmt: skip
    whole = run_adaptive(tmp_path / "whole", config, CANDLES)

    def stop(epoch: int, _: object) -> None:
        if epoch == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_adaptive(tmp_path / "parts", config, CANDLES, stop)
    resumed = run_adaptive(tmp_path / "parts", config, CANDLES)
    assert resumed.scores == whole.scores
    assert resumed.results.weights == whole.results.weights
    np.testing.assert_array_equal(resumed.forecaster.forecast(DATA.X[-50:]), whole.forecaster.forecast(DATA.X[-50:]))
    if llm != "backbone":
        assert whole.steps > 100
        assert len(set(whole.results.weights.values())) > 1, "they moved"
