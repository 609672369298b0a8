"""The trainer part of the first specification's usage example runs as it stands there."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.learn.strategies_data import linear, logistic
from trading_bot.learn import optimizer
from trading_bot.learn.optimizer import ParallelStrategyTrainer, TrainingConfig

TUNING = """
from trading_bot.learn.optimizer import TrainingConfig
config = TrainingConfig(
    max_workers=6,                      # Parallel threads
    learning_rate_initial=0.1,          # Starting learning rate
    learning_rate_min=0.001,            # Minimum allowed LR
    learning_rate_decay=0.95,           # Decay per epoch (if not adaptive)
    batch_size=256,                     # Mini-batch size
    early_stopping_patience=20,         # Epochs without improvement before stop
    early_stopping_threshold=0.0001,    # Min improvement to reset patience
    gradient_clip=1.0,                  # Max gradient magnitude
    use_adaptive_lr=True,               # Enable adaptive learning rate
    momentum=0.9,                       # Momentum multiplier
    weight_decay=0.0001,                # L2 regularization
    sample_weights=True,                # Weight recent samples higher
)
"""
EXAMPLE = """
from trading_bot.learn.optimizer import AdaptiveTrainer, TrainingConfig

# Configure training
config = TrainingConfig(
    max_workers=4,
    learning_rate_initial=0.1,
    early_stopping_patience=15
)

# Train adaptive
trainer = AdaptiveTrainer(config)
for epoch in range(100):
    metrics = trainer.train_epoch(X_train, y_train, X_val, y_val, epoch)
    print(f"Epoch {epoch}: loss={metrics.loss:.4f}, lr={metrics.learning_rate:.6f}")
    if trainer.should_stop():
        break

# Get training summary
summary = trainer.get_training_summary()
print(f"Best validation loss: {summary['best_val_loss']:.6f}")
print(f"Epochs trained: {summary['epochs_trained']}")
"""


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("make", [logistic, linear])
def test_the_example_runs(make: Any, column: bool, capsys: pytest.CaptureFixture[str]) -> None:
    X_train, y_train, X_val, y_val = make(0, rows=2000)
    if column:
        y_train, y_val = y_train[:, None], y_val[:, None]
    exec(EXAMPLE, {"X_train": X_train, "y_train": y_train, "X_val": X_val, "y_val": y_val})
    *epochs, best, count = capsys.readouterr().out.splitlines()
    losses = [float(re.fullmatch(r"Epoch \d+: loss=(\d+\.\d{4}), lr=0\.\d{6}", line)[1]) for line in epochs]  # type: ignore[index]
    assert losses[-1] < losses[0]
    assert count == f"Epochs trained: {len(epochs)}"
    assert 16 <= len(epochs) < 100, "it stops early"
    irreducible = 0.25 if make is linear else 0.0
    assert irreducible * 0.8 < float(best.removeprefix("Best validation loss: ")) < 0.69


def test_the_settings_it_lists_are_the_defaults() -> None:
    names: dict[str, Any] = {}
    exec(TUNING, names)
    assert names["config"] == TrainingConfig(max_workers=6)


def test_several_strategies_are_trained_in_one_call() -> None:
    data = {name: logistic(seed) for seed, name in enumerate(("atr_breakout", "rsi_mean_reversion", "macd_momentum"))}
    results = ParallelStrategyTrainer(TrainingConfig(max_workers=4)).train_strategies(
        strategy_configs=dict.fromkeys(data), training_data=data, epochs=30
    )
    assert list(results) == list(data)
    assert all(np.isfinite(result["best_val_loss"]) and result["error"] is None for result in results.values())


def test_the_names_it_imports_are_where_users_expect_them() -> None:
    for name in ("AdaptiveTrainer", "TrainingConfig", "ParallelStrategyTrainer", "EpochMetrics"):
        assert isinstance(getattr(optimizer, name), type)
