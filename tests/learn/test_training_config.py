"""The settings of a training: what the first specification listed, and ranges that are held."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

import numpy as np
import pytest

from trading_bot.errors import TrainingError
from trading_bot.learn.optimizer import TrainingConfig


def test_defaults_are_those_of_the_specification() -> None:
    found = dataclasses.asdict(TrainingConfig())
    assert found.pop("max_workers") == max(2, (os.cpu_count() or 1) - 1)
    assert found == {
        "learning_rate_initial": 0.1, "learning_rate_min": 0.001, "learning_rate_decay": 0.95, "batch_size": 256,
        "early_stopping_patience": 20, "early_stopping_threshold": 1e-4, "gradient_clip": 1.0, "use_adaptive_lr": True,
        "momentum": 0.9, "weight_decay": 1e-4, "sample_weights": True, "loss": None, "timeout_seconds": 300.0,
        "executor": "auto", "seed": 0, "memory_limit_mb": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("max_workers", 0, "max_workers is 0; wanted a whole number from 1"),
        ("batch_size", 2.5, "batch_size is 2.5; wanted a whole number"),
        ("early_stopping_patience", True, "early_stopping_patience is True"),
        ("seed", -1, "seed is -1"),
        ("seed", None, "seed is None; wanted a whole number from 0 to 9223372036854775807"),
        ("memory_limit_mb", 0, "memory_limit_mb is 0; wanted a whole number from 1 to 16777216, or None"),
        ("memory_limit_mb", 512.0, "memory_limit_mb is 512.0; wanted a whole number"),
        ("memory_limit_mb", True, "memory_limit_mb is True"),
        ("learning_rate_initial", 0.0, "learning_rate_initial is 0.0; wanted a number above 0"),
        ("learning_rate_min", 0.2, "learning_rate_min is 0.2; wanted at most learning_rate_initial, 0.1"),
        ("learning_rate_decay", 1.01, "learning_rate_decay is 1.01; wanted a number above 0 to 1"),
        ("early_stopping_threshold", math.nan, "early_stopping_threshold is nan"),
        ("gradient_clip", -1, "gradient_clip is -1"),
        ("momentum", 1.0, "momentum is 1.0; wanted a number from 0 to 0.9999"),
        ("weight_decay", "much", "weight_decay is 'much'"),
        ("timeout_seconds", math.inf, "timeout_seconds is inf"),
        ("use_adaptive_lr", "yes", "use_adaptive_lr is 'yes'; wanted True or False"),
        ("sample_weights", 1, "sample_weights is 1"),
        ("loss", "logloss", "did you mean 'log_loss'?"),
        ("executor", "processes", "did you mean 'process'?"),
    ],
)
def test_a_wrong_value_is_told_with_its_name_and_range(name: str, value: Any, words: str) -> None:
    with pytest.raises(TrainingError, match=r"TrainingConfig\.") as told:
        TrainingConfig(**{name: value})
    assert words in str(told.value)
    assert isinstance(told.value, ValueError)


def test_numbers_of_numpy_will_do_and_nothing_can_be_changed() -> None:
    given: dict[str, Any] = {"batch_size": np.int64(8), "gradient_clip": np.inf, "memory_limit_mb": np.int64(64)}
    given["momentum"] = np.float32(0.5)
    config = TrainingConfig(**given)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1  # type: ignore[misc]
