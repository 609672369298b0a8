"""The two tasks of the ablation: forecasting a market, and telling images apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from trading_bot.domain.market import Floats
from trading_bot.experiments.cifar10 import SHA256, SUBSET, URL, Tell, load_cifar10
from trading_bot.experiments.cifar10_cnn import Cifar10CNN, CrossEntropyLoss, accuracy, batches, cifar10_losses
from trading_bot.experiments.weighted_fit import SIZES, Budget, Weighting, averages, fit, scores
from trading_bot.training.adaptive_loss import COMBINATIONS, create_adaptive_loss
from trading_bot.training.adaptive_loss_trainer import AdaptiveLossTrainer
from trading_bot.training.evaluation import splits_of
from trading_bot.training.forecaster import describe_features
from trading_bot.training.history import TrainingHistory
from trading_bot.training.optimizers import create_optimizer
from trading_bot.training.prepared_data import PreparedData

WINDOW = 20
MARKET_RATE, IMAGE_RATE = 1e-4, 1e-3
COMBINATION = "comprehensive"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every mode gets alike.

    Attributes
    ----------
    learning_rate : the task's own if left out
    calibration : steps of equal weights in the beginning, for the scales
    frequency : steps between decisions
    monitor, controller : files of what was learned; what comes with the program if left out, and if nothing does, the
        modes that need it keep equal weights
    """

    epochs: int = 25
    batch_size: int = 128
    learning_rate: float | None = None
    calibration: int = 50
    frequency: int = 50
    monitor: Path | None = None
    controller: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """One run.

    Attributes
    ----------
    scores : on rows or images that were neither trained on nor chosen by; the task's metric is the first
    epoch : from 1, the one that was chosen
    weights, averages : by loss, at the end and over all steps
    history : by epoch
    validation : of the chosen epoch, what it was chosen by
    chosen, last : forecasts of the rows that judge, float64 (n,), by the models of that epoch and of the last step;
        None of images
    """

    scores: Mapping[str, float]
    epoch: int
    weights: Mapping[str, float]
    averages: Mapping[str, float]
    history: TrainingHistory
    validation: float
    chosen: Floats | None = None
    last: Floats | None = None


class Task(Protocol):
    """What is learned."""

    @property
    def name(self) -> str:
        """As on the command line."""
        ...

    @property
    def metric(self) -> str:
        """The first of the scores; fixed, and the same whatever the weights."""
        ...

    @property
    def lower(self) -> bool:
        """Whether less of the metric is better."""
        ...

    @property
    def folds(self) -> int:
        """Parts of the time that judge, each learned from what was before it."""
        ...

    def identity(self) -> list[Any]:
        """What runs of the same task have alike, for JSON."""
        ...

    def train(
        self, policy: str, options: Mapping[str, Any], seed: int, fold: int, config: RunConfig, board: Path | None
    ) -> Outcome:
        """One run of one fold, from 0; `board` is a folder for TensorBoard."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class MarketTask:
    """Returns some bars ahead, by a small CNN; the newest fifth of the rows judges, or each of several walk-forward
    folds.

    Attributes
    ----------
    batches : of an epoch
    """

    data: PreparedData
    batches: int = 25
    folds: int = 1
    name: str = "market"
    metric: str = "mae"
    lower: bool = True

    def identity(self) -> list[Any]:
        data = self.data
        return [
            self.name, self.batches, self.folds, data.horizon, describe_features(data.names, data.length), dict(SIZES),
            [[name, str(loss)] for name, loss in COMBINATIONS[COMBINATION].losses.items()],
            hashlib.sha256(data.y.tobytes()).hexdigest(),
        ]  # fmt: skip

    def train(
        self, policy: str, options: Mapping[str, Any], seed: int, fold: int, config: RunConfig, board: Path | None
    ) -> Outcome:
        train, held = splits_of(self.data, self.folds)[fold]
        budget = Budget(
            epochs=config.epochs, batches=self.batches, batch_size=config.batch_size,
            learning_rate=config.learning_rate or MARKET_RATE, calibration=config.calibration,
            frequency=config.frequency, window=WINDOW,
        )  # fmt: skip
        weighting = Weighting(losses=COMBINATIONS[COMBINATION].losses, policy=policy, options=options)
        found = fit(self.data, train, held, weighting, budget, seed, {"tensorboard": board})
        return Outcome(
            scores(found.chosen, self.data.y[held]), found.epoch, found.weights, found.averages, found.history,
            found.validation, found.chosen, found.last,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Cifar10Task:
    """What an image shows, by a small CNN; cross entropy is the main loss, label smoothing and focal beside it.

    The epoch is chosen by the cross entropy of the reward images; policies that ask for inner-validation batches get
    training images that are set aside.
    """

    folder: Path
    subset: int = SUBSET
    test: int | None = None
    tell: Tell = lambda done, total: None
    url: str = URL
    sha256: str = SHA256
    folds: int = 1
    name: str = "cifar10"
    metric: str = "accuracy"
    lower: bool = False

    def identity(self) -> list[Any]:
        return [self.name, self.subset, self.test, self.sha256]

    def train(
        self, policy: str, options: Mapping[str, Any], seed: int, fold: int, config: RunConfig, board: Path | None
    ) -> Outcome:
        images = load_cifar10(
            self.folder, seed, subset=self.subset, test=self.test, tell=self.tell, url=self.url, sha256=self.sha256
        )
        torch.manual_seed(seed)
        model = Cifar10CNN()
        loss = create_adaptive_loss(
            cifar10_losses(), policy, config.frequency, WINDOW, metric=CrossEntropyLoss(), seed=seed,
            calibration_steps=config.calibration, **options,
        )  # fmt: skip
        trainer = AdaptiveLossTrainer(
            model, create_optimizer(model, "adam", config.learning_rate or IMAGE_RATE), loss, "cpu", policy,
            hold_out=True, fit_sigma=False, tensorboard=board,
        )  # fmt: skip
        trainer.show_progress = False
        history = trainer.train(
            batches(images.train, images.train, config.batch_size, seed), batches(images.reward, images.train, 500),
            config.epochs, log_interval=0,
        ).history  # fmt: skip
        errors = history["val_loss"]
        return Outcome(
            {"accuracy": accuracy(model, images.test, images.train)}, errors.index(min(errors)) + 1, loss.weights,
            averages(loss), history, min(errors),
        )  # fmt: skip
