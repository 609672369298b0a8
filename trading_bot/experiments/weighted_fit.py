"""One fit of the market task with one weighting of the losses: what every comparison of weightings is made of."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trading_bot.domain.market import Floats
from trading_bot.features.columns import Features
from trading_bot.models.registry import build_model
from trading_bot.training.adaptive_loss import AdaptiveLossFunction, create_adaptive_loss
from trading_bot.training.adaptive_loss_trainer import AdaptiveLossTrainer
from trading_bot.training.data_loaders import TimeSeriesDataset, create_data_loaders
from trading_bot.training.forecaster import ScaledForecast
from trading_bot.training.history import TrainingHistory
from trading_bot.training.loss_frame import Loss
from trading_bot.training.optimizers import create_optimizer
from trading_bot.training.prepared_data import PreparedData
from trading_bot.training.walk_forward import Rows

SIZES: Mapping[str, Any] = {"channels": (16, 32), "kernels": (3, 5), "dense": (32,)}  # 11,921 parameters of 40 features
_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What every arm gets alike.

    The learning rate and the number of steps were chosen by the validation rows of the first fold, with seeds 100 and
    101: larger rates are at their best before the weights have begun to move.

    Attributes
    ----------
    epochs, batches, batch_size : of `batches` batches each, in an order of the seed's
    learning_rate : of AdamW
    calibration : steps of equal weights in the beginning
    frequency, window : steps between adaptations, measurements that count
    validation : the newest share of the training rows, which chooses the epoch
    """

    epochs: int = 12
    batches: int = 25
    batch_size: int = 64
    learning_rate: float = 1e-4
    calibration: int = 25
    frequency: int = 25
    window: int = 10
    validation: float = 0.15

    @property
    def steps(self) -> int:
        """Of the optimizer."""
        return self.epochs * self.batches

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighting:
    """Losses by name, and the policy that weighs them."""

    losses: Mapping[str, str | Loss] | str
    policy: str = "fixed"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What came of it.

    Attributes
    ----------
    validation : mean |ẑ − z| over the validation rows, at its lowest
    epoch : of that, from 1
    weights : by loss, at the end
    averages : by loss, over all steps
    chosen : float64 (n,), forecasts of the test rows by the model of that epoch
    last : … and by the model of the last step
    history : by epoch
    seconds : of this process's CPU
    """

    validation: float
    epoch: int
    weights: Mapping[str, float]
    averages: Mapping[str, float]
    chosen: Floats
    last: Floats
    history: TrainingHistory
    seconds: float


def fit(
    data: PreparedData, train: Rows, held: Rows, weighting: Weighting, budget: Budget, seed: int,
    trainer_options: Mapping[str, Any] | None = None,
) -> Fit:  # fmt: skip
    """Train on rows `train`, oldest first, and forecast the rows `held` after them.

    The newest part of the training rows validates, and the newest fifth of the rest is set aside for policies that ask
    for it; `horizon` rows are purged wherever two parts meet. All arms train on the same rows in the same order from
    the same first weights.

    Parameters
    ----------
    trainer_options : more for `AdaptiveLossTrainer`, such as `tensorboard`

    Raises
    ------
    TrainingError
        As the trainer and the loss do.
    """
    began = time.process_time()
    past, test = slice(int(train[0]), int(train[-1]) + 1), slice(int(held[0]), int(held[-1]) + 1)
    loader, validation = create_data_loaders(
        data.X[past], data.y[past], budget.batch_size, budget.validation, gap=data.horizon, seed=seed
    )
    loader.max_batches = budget.batches
    older = loader.dataset
    torch.manual_seed(seed)
    model = ScaledForecast(
        build_model("cnn", **SIZES, time=data.length, features=len(data.names)), float(older.y.std(dtype=np.float64))
    )
    loss = create_adaptive_loss(
        weighting.losses, weighting.policy, budget.frequency, budget.window, seed=seed,
        calibration_steps=budget.calibration, **weighting.options,
    )  # fmt: skip
    trainer = AdaptiveLossTrainer(
        model, create_optimizer(model, "adamw", budget.learning_rate), loss, "cpu", weighting.policy,
        gap=data.horizon, hold_out=True, **(trainer_options or {}),
    )  # fmt: skip
    trainer.show_progress = False
    rows = TimeSeriesDataset(data.X[test], data.y[test], mean=older.mean, std=older.std)
    last: list[Floats] = []
    trainer.on_epoch.append(lambda epoch, _: last.append(forecast(model, rows)) if epoch + 1 == budget.epochs else None)
    history = trainer.train(loader, validation, budget.epochs, log_interval=0).history
    errors = history["val_loss"]
    return Fit(
        min(errors), errors.index(min(errors)) + 1, loss.weights, averages(loss), forecast(model, rows), last[0],
        history, time.process_time() - began,
    )  # fmt: skip


def averages(loss: AdaptiveLossFunction) -> dict[str, float]:
    """Its mean weights over what it recorded: all steps but the last few, if they fill no line."""
    lines = [line.weights for line in loss.record.lines] or [tuple(loss.weights.values())]
    return {
        name: math.fsum(column) / len(lines) for name, column in zip(loss.names, zip(*lines, strict=True), strict=True)
    }


@torch.inference_mode()
def forecast(model: nn.Module, rows: TimeSeriesDataset) -> Floats:
    """float64 (n,), of a model in evaluation mode."""
    parts = [
        model(rows.batch(slice(start, min(start + _BATCH, len(rows))))[0]) for start in range(0, len(rows), _BATCH)
    ]
    found: Floats = torch.cat(parts).squeeze(1).double().numpy()
    return found


def scores(found: Floats, target: Features | Floats) -> dict[str, float]:
    """Mean absolute error of forecasts (n,), and the share of the targets that moved whose sign was right."""
    wanted = np.asarray(target, np.float64)
    moved = wanted != 0
    right = np.sign(found[moved]) == np.sign(wanted[moved])
    return {"mae": float(np.abs(found - wanted).mean()), "hit_rate": float(right.mean()) if moved.any() else 0.0}
