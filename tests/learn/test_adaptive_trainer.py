"""AdaptiveTrainer: its steps against the formulas written plainly, and what it remembers, skips and refuses."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from loguru import logger
from torch import nn

from tests.learn.strategies_data import Data, linear, logistic
from trading_bot.errors import CheckpointError, TrainingError
from trading_bot.learn.optimizer import AdaptiveTrainer, EpochMetrics, TrainingConfig, TrainingDiverged
from trading_bot.learn.training_data import batch_order


def by_the_book(config: TrainingConfig, data: Data, epochs: int, rate: float) -> dict[str, Any]:
    """The specified steps, one line each, at one learning rate; weights and each epoch's loss."""
    X, y, *_ = data
    n, size = len(y), config.batch_size
    weight, bias = np.zeros(X.shape[1]), 0.0
    v_weight, v_bias = np.zeros(X.shape[1]), 0.0
    ramp = 0.5 + np.arange(n) / (n - 1) if config.sample_weights else np.ones(n)
    losses, norms = [], []
    for epoch in range(epochs):
        total = 0.0
        for batch in batch_order(config, epoch, math.ceil(n / size)):
            rows = slice(batch * size, (batch + 1) * size)
            z = X[rows] @ weight + bias
            if config.loss == "squared_error":
                row_losses, residual = (z - y[rows]) ** 2, 2 * (z - y[rows])
            else:
                p = 1 / (1 + np.exp(-z))
                row_losses, residual = -y[rows] * np.log(p) - (1 - y[rows]) * np.log(1 - p), p - y[rows]
            total += (ramp[rows] * row_losses).sum()
            residual = residual * ramp[rows] / len(z)
            g_weight, g_bias = X[rows].T @ residual, residual.sum()
            norms.append(math.sqrt((g_weight**2).sum() + g_bias**2))
            clip = min(1.0, config.gradient_clip / norms[-1])
            weight = weight - rate * config.weight_decay * weight
            v_weight = config.momentum * v_weight - rate * clip * g_weight
            v_bias = config.momentum * v_bias - rate * clip * g_bias
            weight, bias = weight + v_weight, bias + v_bias
        losses.append(total / n)
    return {"weight": weight, "bias": bias, "losses": losses, "norms": norms}


@pytest.mark.parametrize("sample_weights", [True, False])
@pytest.mark.parametrize("clip", [1.0, 0.05])
@pytest.mark.parametrize("loss", ["log_loss", "squared_error"])
def test_the_steps_are_those_specified(loss: Any, clip: float, sample_weights: bool) -> None:
    config = TrainingConfig(
        loss=loss, gradient_clip=clip, sample_weights=sample_weights, weight_decay=0.01, batch_size=256,
        use_adaptive_lr=False, learning_rate_decay=1.0, seed=3,
    )  # fmt: skip
    data = logistic(1) if loss == "log_loss" else linear(1)  # 700 rows: batches of 256, 256 and 188
    trainer = AdaptiveTrainer(config)
    found = [trainer.train_epoch(*data, epoch) for epoch in range(3)]
    wanted = by_the_book(config, data, 3, 0.1)
    state = trainer.state_dict()["weights"]
    np.testing.assert_allclose(state["weight"], wanted["weight"], rtol=1e-10)
    np.testing.assert_allclose(state["bias"], wanted["bias"], rtol=1e-10)
    np.testing.assert_allclose([metrics.loss for metrics in found], wanted["losses"], rtol=1e-10)
    assert found[0].grad_norm == pytest.approx(np.mean(wanted["norms"][:3]))
    X_val, y_val = data[2:]
    if loss == "log_loss":
        p = trainer.predict_proba(X_val)
        val_loss = -np.log(np.where(y_val == 1, p, 1 - p)).mean()
    else:
        val_loss = ((trainer.predict(X_val) - y_val) ** 2).mean()
    assert found[-1].val_loss == pytest.approx(val_loss)


@pytest.mark.parametrize("loss", ["log_loss", "squared_error"])
def test_a_network_of_one_layer_takes_the_same_steps_as_the_linear_model(loss: Any) -> None:
    data = logistic(2) if loss == "log_loss" else linear(2)
    config = TrainingConfig(loss=loss, gradient_clip=0.1, weight_decay=0.01)
    layer = nn.Linear(5, 1, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    plain, network = AdaptiveTrainer(config), AdaptiveTrainer(config, layer)
    for epoch in range(4):
        a, b = (trainer.train_epoch(*data, epoch) for trainer in (plain, network))
        assert (a.loss, a.val_loss, a.grad_norm) == pytest.approx((b.loss, b.val_loss, b.grad_norm), rel=1e-9)
        assert (a.learning_rate, a.patience_counter) == (b.learning_rate, b.patience_counter)
    np.testing.assert_allclose(layer.weight.detach().numpy()[0], plain.state_dict()["weights"]["weight"], rtol=1e-9)
    np.testing.assert_allclose(plain.predict(data[2]), network.predict(data[2]), rtol=1e-9)


def test_the_loss_is_told_by_the_targets() -> None:
    for data, loss in ((logistic(0), "log_loss"), (linear(0), "squared_error")):
        trainer = AdaptiveTrainer()
        trainer.train_epoch(*data, 0)
        assert trainer.get_training_summary()["loss"] == loss
    with pytest.raises(TrainingError, match="has no probabilities; use predict"):
        trainer.predict_proba(data[2])


def test_targets_may_be_a_column_of_whole_numbers_and_float32_stays_float32() -> None:
    X, y, X_val, y_val = logistic(4)
    first, second, third = AdaptiveTrainer(), AdaptiveTrainer(), AdaptiveTrainer()
    a = first.train_epoch(X, y, X_val, y_val, 0)
    b = second.train_epoch(X.tolist(), y.astype(int)[:, None], X_val, y_val[:, None], 0)
    c = third.train_epoch(X.astype(np.float32), y, X_val, y_val, 0)
    assert (a.loss, a.val_loss) == (b.loss, b.val_loss)
    assert a.val_loss == pytest.approx(c.val_loss, rel=1e-5)
    assert third.predict_proba(X_val.astype(np.float32)).dtype == np.float32


def test_patience_running_out_brings_the_best_weights_back() -> None:
    X, y, *_ = linear(5, rows=300)
    against = -y  # what is learned from the training rows is wrong for these
    trainer = AdaptiveTrainer(TrainingConfig(early_stopping_patience=4, learning_rate_initial=0.01))
    seen: list[tuple[EpochMetrics, Any]] = []
    for epoch in range(50):
        metrics = trainer.train_epoch(X, y, X, against, epoch)
        seen.append((metrics, trainer.state_dict()["weights"]))
        if trainer.should_stop():
            break
    summary = trainer.get_training_summary()
    assert [each.patience_counter for each, _ in seen] == [0, 1, 2, 3, 4]
    assert (summary["best_epoch"], summary["epochs_trained"], summary["stopped_early"]) == (0, 5, True)
    assert summary["best_val_loss"] == seen[0][0].val_loss
    assert [each.improvement for each, _ in seen[1:]] == [seen[0][0].val_loss - each.val_loss for each, _ in seen[1:]]
    np.testing.assert_array_equal(trainer.state_dict()["weights"]["weight"], seen[0][1]["weight"])
    assert not trainer.state_dict()["momentum"]["weight"].any()


def test_a_training_cut_in_two_ends_where_a_whole_one_does() -> None:
    data = logistic(6, dtype=np.float32)
    for model in (lambda: None, lambda: small_network(7, dropout=0.3)):
        config = TrainingConfig(batch_size=100, seed=5, early_stopping_patience=3)
        whole, first, second = (AdaptiveTrainer(config, model()) for _ in range(3))
        expected = [whole.train_epoch(*data, epoch) for epoch in range(8)]
        for epoch in range(4):
            first.train_epoch(*data, epoch)
        second.load_state_dict(first.state_dict())
        for epoch in range(4, 8):
            metrics = second.train_epoch(*data, epoch)
            assert (metrics.loss, metrics.val_loss, metrics.learning_rate, metrics.patience_counter) == (
                expected[epoch].loss, expected[epoch].val_loss, expected[epoch].learning_rate,
                expected[epoch].patience_counter,
            )  # fmt: skip
        np.testing.assert_array_equal(whole.predict_proba(data[2]), second.predict_proba(data[2]))
        assert {**whole.get_training_summary(), "seconds": 0} == {**second.get_training_summary(), "seconds": 0}


def small_network(seed: int, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))


def test_dropout_draws_from_the_seed_and_leaves_the_global_generator_alone() -> None:
    data = logistic(0, rows=200)  # one batch, whatever the seed
    losses = []
    for seed, elsewhere in ((1, 10), (1, 20), (2, 20)):
        trainer = AdaptiveTrainer(TrainingConfig(seed=seed), small_network(0, dropout=0.5))
        torch.manual_seed(elsewhere)
        before = torch.get_rng_state()
        losses.append([trainer.train_epoch(*data, epoch).loss for epoch in range(2)])
        assert torch.equal(before, torch.get_rng_state())
    assert losses[0] == losses[1]
    assert losses[1] != losses[2]


def test_buffers_are_part_of_the_best_weights_and_any_layout_of_rows_will_do() -> None:
    X, y, X_val, y_val = logistic(11, rows=200)
    network = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 1))
    trainer = AdaptiveTrainer(TrainingConfig(early_stopping_patience=2, batch_size=50), network)
    frozen = X[::-1]
    frozen.flags.writeable = False
    states = []
    for epoch in range(30):
        trainer.train_epoch(frozen, y[::-1], X_val, 1 - y_val, epoch)
        states.append(trainer.state_dict()["best"])
        if trainer.should_stop():
            break
    assert trainer.should_stop()
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), states[-1][name], err_msg=name)
    assert states[-1]["0.num_batches_tracked"] == 4 * (trainer.get_training_summary()["best_epoch"] + 1)


def test_an_object_with_forward_and_parameters_is_enough() -> None:
    class Scorer:
        def __init__(self) -> None:
            self.slope = torch.zeros(5, 1, requires_grad=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.slope

        def parameters(self) -> list[torch.Tensor]:
            return [self.slope]

    trainer = AdaptiveTrainer(model=Scorer())
    summary = trainer.fit(*logistic(12), epochs=5)
    assert summary["best_val_loss"] < 0.6
    other = AdaptiveTrainer(model=Scorer())
    other.load_state_dict(trainer.state_dict())
    np.testing.assert_array_equal(other.predict(X), trainer.predict(X))


class Broken(nn.Module):
    """A forecast that is NaN at the training steps named."""

    def __init__(self, *steps: int) -> None:
        super().__init__()
        self.linear, self.steps, self.step = nn.Linear(5, 1), steps, -1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.step += self.training
        scores: torch.Tensor = self.linear(x)
        return scores * math.nan if self.training and self.step in self.steps else scores


def test_a_step_that_is_not_finite_is_skipped_and_counted() -> None:
    data = logistic(8)
    trainer = AdaptiveTrainer(TrainingConfig(batch_size=70), Broken(*range(9), 10, 11))
    metrics = [trainer.train_epoch(*data, epoch) for epoch in range(2)]
    assert trainer.get_training_summary()["skipped_steps"] == 11
    assert all(math.isfinite(value) for each in metrics for value in (each.loss, each.val_loss, each.grad_norm))


def test_steps_skipped_now_and_then_end_no_training() -> None:
    X, y, X_val, y_val = logistic(8)
    X[:100] *= 1e200  # the first of seven batches
    trainer = AdaptiveTrainer(TrainingConfig(batch_size=100, early_stopping_patience=100))
    metrics = [trainer.train_epoch(X, y, X_val, y_val, epoch) for epoch in range(12)]
    assert trainer.get_training_summary()["skipped_steps"] == 12
    assert all(math.isfinite(each.loss) for each in metrics)
    assert metrics[-1].val_loss < metrics[0].val_loss


@pytest.mark.parametrize("network", [False, True])
def test_ten_skipped_in_a_row_end_the_training(network: bool) -> None:
    X, y, X_val, y_val = logistic(9)
    model = Broken(*range(100)) if network else None
    trainer = AdaptiveTrainer(TrainingConfig(batch_size=100), model)  # seven steps an epoch
    huge = X if network else X * 1e200
    first = trainer.train_epoch(huge, y, X_val, y_val, 0)
    assert math.isnan(first.loss)
    with pytest.raises(TrainingDiverged, match=r"10 steps in a row, last in epoch 1, batch \d, at learning rate 0\.1;"):
        trainer.train_epoch(huge, y, X_val, y_val, 1)


X, Y, V, W = logistic(10, rows=20)
NAN = X.copy()
NAN[3, 2] = math.nan


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((X[0], Y, V, W), r"X_train has shape \(5,\); wanted \(n, d\)"),
        ((X[:, :, None], Y, V, W), r"X_train has shape \(20, 5, 1\); wanted \(n, d\)"),
        ((X[:0], Y[:0], V, W), "X_train is empty"),
        ((X, Y, V[:0], W[:0]), "X_val is empty"),
        ((X, Y[:-1], V, W), "y_train has 19 rows, X_train has 20"),
        ((X, Y, V[:, :4], W), "X_val has rows of shape"),
        ((X, np.stack([Y, Y], 1), V, W), r"y_train has shape \(20, 2\); wanted \(n,\) or \(n, 1\)"),
        ((NAN, Y, V, W), r"X_train holds 1 numbers that are not finite, the first at \(3, 2\)"),
        ((X, Y, V, np.where(W > 0, np.inf, W)), "y_val holds"),
        ((X.astype(str), Y, V, W), "X_train has dtype <U"),
        ((X + 1j, Y, V, W), "X_train has dtype complex128"),
        (([[1.0], [1.0, 2.0]], Y, V, W), "X_train is no array of numbers"),
        ((X, Y + 0.5, V, W), "y_train holds .*5, but log_loss wants 0 and 1 only"),
    ],
)
def test_data_that_are_not_as_wanted_are_refused_before_anything_is_trained(data: Any, words: str) -> None:
    trainer = AdaptiveTrainer(TrainingConfig(loss="log_loss"))
    with pytest.raises(TrainingError, match=words):
        trainer.train_epoch(data[0], data[1], data[2], data[3], epoch=0)
    assert trainer.get_training_summary()["epochs_trained"] == 0
    assert trainer.state_dict()["weights"] is None


def test_other_misuse_is_told() -> None:
    trainer = AdaptiveTrainer()
    with pytest.raises(TrainingError, match="nothing was trained yet"):
        trainer.predict_proba(X)
    with pytest.raises(TrainingError, match="epoch is -1; wanted a whole number"):
        trainer.train_epoch(X, Y, V, W, -1)
    with pytest.raises(TrainingError, match="epochs is 0"):
        trainer.fit(X, Y, V, W, epochs=0)
    with pytest.raises(TrainingError, match="model is a dict; wanted None for a linear model, or an object with"):
        AdaptiveTrainer(model={})
    with pytest.raises(TrainingError, match="no parameter that requires a gradient"):
        AdaptiveTrainer(model=nn.Tanh())
    with pytest.raises(TrainingError, match=r"model gave \(20, 2\) for 20 rows"):
        AdaptiveTrainer(model=nn.Linear(5, 2)).train_epoch(X, Y, V, W, 0)
    trainer.train_epoch(X, Y, V, W, 0)
    with pytest.raises(TrainingError, match="X has 4 columns; wanted the 5 this model began with"):
        trainer.train_epoch(X[:, :4], Y, V[:, :4], W, 1)
    with pytest.raises(CheckpointError, match="the state lacks 'loss'"):
        trainer.load_state_dict({})
    with pytest.raises(CheckpointError, match="the state is of a linear model, this trainer has a network"):
        AdaptiveTrainer(model=nn.Linear(5, 1)).load_state_dict(trainer.state_dict())
    other = AdaptiveTrainer(model=nn.Linear(4, 1))
    with pytest.raises(CheckpointError, match=r"weight is \(1, 5\), wanted \(1, 4\)"):
        other.load_state_dict(AdaptiveTrainer(model=nn.Linear(5, 1)).state_dict())


def test_every_epoch_is_a_line_and_so_is_the_stop() -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), format="{level} {message}")
    try:
        AdaptiveTrainer(TrainingConfig(early_stopping_patience=1), name="atr").fit(X, Y, V, 1 - W, epochs=30)
    finally:
        logger.remove(sink)
    assert len(lines) == 3
    for words in ("DEBUG learn", "atr", "epoch 0", "loss=", "val_loss=", "learning_rate=0.1", "patience=0/1"):
        assert words in lines[0], words
    assert "stopped early after epoch 1" in lines[2]
    assert "best_epoch=0" in lines[2]


def test_a_linear_model_is_trained_without_torch() -> None:
    program = (
        "import sys, numpy as np\nfrom trading_bot.learn.optimizer import AdaptiveTrainer, ParallelStrategyTrainer\n"
        "X = np.eye(4); y = np.array([0, 1, 0, 1])\nAdaptiveTrainer().train_epoch(X, y, X, y, 0)\n"
        "ParallelStrategyTrainer().train_strategies(['a', 'b'], dict.fromkeys('ab', (X, y, X, y)), epochs=2)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)
