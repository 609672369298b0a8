"""Strategies trained together come out as if each had been trained alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.learn.strategies_data import Data, linear, logistic
from trading_bot.errors import TrainingError
from trading_bot.learn.optimizer import AdaptiveTrainer, ParallelStrategyTrainer, StrategyTrainingReport, TrainingConfig

LINEAR: dict[str, Any] = {  # whatever may differ between strategies does
    "plain": None,
    "impatient": {"early_stopping_patience": 2},
    "steep": {"learning_rate_initial": 0.5, "gradient_clip": 0.05},
    "heavy": {"weight_decay": 0.05, "momentum": 0.5, "sample_weights": False},
    "other order": {"seed": 9, "use_adaptive_lr": False},
    "short": {},
    "shorter than a batch": {},
}
ROWS = {"short": 300, "shorter than a batch": 77}


def alone(configs: Mapping[str, Any], data: Mapping[str, Data], config: TrainingConfig, epochs: int) -> dict[str, Any]:
    """Summary and best weights of each, trained by an AdaptiveTrainer of its own."""
    found = {}
    for name, given in configs.items():
        settings = {**vars(config), **(given or {})}
        model = settings.pop("model", None)
        trainer = AdaptiveTrainer(TrainingConfig(**settings), model)
        found[name] = (trainer.fit(*data[name], epochs=epochs), trainer.best_weights())
    return found


def check_same(reports: Mapping[str, StrategyTrainingReport], expected: Mapping[str, Any], tolerance: float) -> None:
    assert list(reports) == list(expected)
    for name, (summary, weights) in expected.items():
        report = reports[name]
        assert report.trained, report.error
        for key in ("epochs_trained", "best_epoch", "stopped_early", "final_learning_rate", "loss", "skipped_steps"):
            assert report[key] == summary[key], (name, key)
        assert report["best_val_loss"] == pytest.approx(summary["best_val_loss"], rel=tolerance)
        assert report["final_loss"] == pytest.approx(summary["final_loss"], rel=tolerance)
        assert report.weights is not None
        assert report.weights.keys() == weights.keys()
        for part in weights:
            np.testing.assert_allclose(report.weights[part], weights[part], atol=tolerance, err_msg=f"{name} {part}")


@pytest.mark.parametrize("make", [logistic, linear])
def test_linear_models_of_different_rows_and_settings(make: Any) -> None:
    data = {name: make(seed, ROWS.get(name, 700)) for seed, name in enumerate(LINEAR)}
    config = TrainingConfig(executor="batched", batch_size=128, early_stopping_patience=5)
    reports = ParallelStrategyTrainer(config).train_strategies(LINEAR, data, epochs=40)
    check_same(reports, alone(LINEAR, data, config, 40), 1e-9)
    assert len({report["epochs_trained"] for report in reports.values()}) > 2, "each stops when it likes"


def test_a_shared_matrix_of_features_is_one_product_and_the_same_result() -> None:
    X, _, X_val, _ = logistic(0, rows=1000)
    random = np.random.default_rng(1)
    labels = {f"{k}": (random.random((1300, 2)) < 0.5).astype(float)[:, 0] for k in range(5)}
    data = {name: (X, y[:1000], X_val, y[1000:]) for name, y in labels.items()}
    config = TrainingConfig(executor="batched")
    reports = ParallelStrategyTrainer(config).train_strategies(list(data), data, epochs=15)
    check_same(reports, alone(dict.fromkeys(data), data, config, 15), 1e-9)


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 8, bias=True), nn.ReLU(), nn.Linear(8, 1)).double()


def test_networks_of_one_architecture() -> None:
    names = {"plain": {}, "steep": {"learning_rate_initial": 0.3, "gradient_clip": 0.05}, "short": {},
             "impatient": {"early_stopping_patience": 1, "weight_decay": 0.05, "seed": 4}}  # fmt: skip
    models = {name: network(seed) for seed, name in enumerate(names)}
    before = {
        name: {part: value.clone() for part, value in model.state_dict().items()} for name, model in models.items()
    }
    configs = {name: {**given, "model": models[name]} for name, given in names.items()}
    data = {name: logistic(seed, ROWS.get(name, 700)) for seed, name in enumerate(names)}
    config = TrainingConfig(executor="batched", batch_size=128, early_stopping_patience=3)
    reports = ParallelStrategyTrainer(config).train_strategies(configs, data, epochs=8)
    for name, model in models.items():
        assert all(torch.equal(value, before[name][part]) for part, value in model.state_dict().items()), "a copy is"
    check_same(reports, alone(configs, data, config, 8), 1e-9)


@pytest.mark.parametrize("kind", ["linear", "network"])
def test_steps_are_skipped_one_strategy_at_a_time(kind: str) -> None:
    data = {name: logistic(seed) for seed, name in enumerate("abc")}
    data["b"][0][128:256] *= 1e200  # its second batch
    rectified = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    configs: dict[str, Any] = {name: {"model": copy.deepcopy(rectified)} if kind == "network" else {} for name in data}
    config = TrainingConfig(executor="batched", batch_size=128)
    reports = ParallelStrategyTrainer(config).train_strategies(configs, data, epochs=12)
    assert [report["skipped_steps"] for report in reports.values()] == [0, 12, 0]
    check_same(reports, alone(configs, data, config, 12), 1e-9)


@pytest.mark.parametrize("kind", ["linear", "network"])
def test_one_that_diverges_or_has_bad_data_harms_no_other(kind: str) -> None:
    names = ["good", "diverges", "bad", "fine"]
    data = {name: logistic(seed, 3000) for seed, name in enumerate(names)}
    X, y, X_val, y_val = data["diverges"]
    data["diverges"] = (X * 1e200, y, X_val, y_val)
    data["bad"] = (X, y[1:], X_val, y_val)
    rectified = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1)).double()  # a tanh would bound what is huge
    configs: dict[str, Any] = {name: {"model": rectified} if kind == "network" else {} for name in names}
    config = TrainingConfig(executor="batched")
    reports = ParallelStrategyTrainer(config).train_strategies(configs, data, epochs=5)
    assert [report.status for report in reports.values()] == ["trained", "failed", "failed", "trained"]
    assert "10 steps in a row" in str(reports["diverges"].error)
    assert "y_train has 2999 rows" in str(reports["bad"].error)
    only = {name: configs[name] for name in ("good", "fine")}
    again = ParallelStrategyTrainer(config).train_strategies(only, data, epochs=5)
    for name, report in again.items():
        assert report["best_val_loss"] == pytest.approx(reports[name]["best_val_loss"], rel=1e-12)


def test_what_is_not_done_at_its_deadline_is_given_up_alone() -> None:
    data = {name: logistic(seed) for seed, name in enumerate("ab")}
    configs = {"a": {"timeout_seconds": 1e-9}, "b": {}}
    reports = ParallelStrategyTrainer(TrainingConfig(executor="batched")).train_strategies(configs, data, epochs=3)
    assert [report.status for report in reports.values()] == ["timed_out", "trained"]
    assert "not done at its deadline of 1e-09 s" in str(reports["a"].error)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(5, 2), nn.Dropout(0.5), nn.Linear(2, 1)),  # draws of its own
        nn.Sequential(nn.Linear(5, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)),
        nn.Sequential(nn.Linear(5, 400), nn.Tanh(), nn.Linear(400, 400), nn.Tanh(), nn.Linear(400, 1)),  # large
        nn.Linear(5, 1),
    ],
)
def test_what_cannot_be_trained_together_is_told(model: nn.Module) -> None:
    with pytest.raises(TrainingError, match=r"b: its model, a .* cannot be trained in a batch; .*executor='process'"):
        ParallelStrategyTrainer(TrainingConfig(executor="batched")).train_strategies(
            {"a": None, "b": {"model": model}}, dict.fromkeys("ab", logistic(0))
        )
