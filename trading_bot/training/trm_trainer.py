"""One TRM fitted: several updates a batch, an average of the weights, and when to stop thinking.

A batch is thought about up to N_sup times. Each time the loss is taken and the optimizer steps; the thoughts go on to
the next time, their gradients do not (deep supervision, arXiv 2510.04871). What is kept is the exponential average of
the weights, at the look at which it did best on validation rows.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trading_bot.domain.market import Floats
from trading_bot.errors import TrainingDiverged, TrainingError
from trading_bot.models.trm import TinyRecursiveModel, build_trm
from trading_bot.training.devices import pick_device
from trading_bot.training.fitting import Watcher
from trading_bot.training.forecaster import describe_features
from trading_bot.training.history import TrainingHistory
from trading_bot.training.loss_frame import positive, within
from trading_bot.training.optimizers import create_optimizer
from trading_bot.training.statistics import column_statistics
from trading_bot.training.trm_labels import CLASSES, TRMData
from trading_bot.training.trm_loss_functions import TRMLoss, class_weights_from
from trading_bot.training.trm_selector import NEVER, Selector, every_step, normalised_windows, pick_threshold
from trading_bot.training.walk_forward import Rows

LEAST_TRAINED = 8  # rows


@dataclass(frozen=True, kw_only=True)
class TRMFitConfig:
    """How a TRM is fitted. The defaults take about a minute on one core: 60 batches of 32 rows, four updates each."""

    sizes: Mapping[str, Any] = field(default_factory=dict)  # of TRMConfig, time and features excepted
    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    ema: float = 0.999  # of the weights, reached after 9,000 updates; before that the average is over fewer
    max_grad_norm: float = 1.0
    batches: int = 60
    batch_size: int = 32
    looks: int = 3  # at the validation rows, evenly spread
    validation: float = 0.15  # the newest part of the training rows, for weights and threshold
    validation_rows: int = 256  # of it, evenly spread
    lambda_halt: float = 0.01
    lambda_profit: float = 1.0
    lambda_task: float = 0.0
    halt_target: str = "seed"
    confidence_threshold: float = 0.7
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, least in (("batches", 1), ("batch_size", 1), ("looks", 1), ("validation_rows", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
                raise TrainingError(f"{name} is {value!r}; wanted a whole number ≥ {least}")
        if not 0 < self.validation < 1:
            raise TrainingError(f"validation is {self.validation!r}; wanted a share above 0 and below 1, such as 0.15")
        within("ema", self.ema, 0.0, 1.0)
        positive("learning_rate", self.learning_rate)
        positive("max_grad_norm", self.max_grad_norm)
        object.__setattr__(self, "betas", tuple(self.betas))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class FittedTRM:
    """A selector, and the curves of its fit: train_loss, val_loss, val_accuracy, steps, seconds at each look."""

    selector: Selector
    history: TrainingHistory


class Average:
    """The exponential moving average of a network's weights.

    The decay is min(`decay`, (1 + t) / (10 + t)) after t updates: with 0.999 alone, an average after a hundred updates
    would still be nine tenths of the random start.
    """

    def __init__(self, network: TinyRecursiveModel, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, network: TinyRecursiveModel) -> None:
        """Take in the weights as they are now."""
        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mean, weight in zip(self.network.parameters(), network.parameters(), strict=True):
            mean.lerp_(weight, share)


def pnl_scale_from(pnl: Floats) -> float:
    """The root mean square of what was earned or lost where something was held, of the training fold alone.

    Raises
    ------
    TrainingError
        If nothing ever moved.
    """
    moved = pnl[pnl != 0]
    if not len(moved):
        raise TrainingError("no class ever earned or lost anything: the price never moves; wanted candles that do")
    return float(np.sqrt((moved.astype(np.float64) ** 2).mean()))


def split_rows(rows: int, horizon: int, validation: float) -> tuple[int, int]:
    """How many of so many rows are trained on, and the first that validates; those between are purged.

    Raises
    ------
    TrainingError
        If that leaves too few.
    """
    first = rows - round(rows * validation)
    trained = first - horizon
    if trained < LEAST_TRAINED or first >= rows:
        raise TrainingError(
            f"{rows} rows, of which {rows - first} validate and {horizon} are purged, leave {max(0, trained)} to train "
            f"on; wanted at least {LEAST_TRAINED}, and one that validates: load more candles, judge on fewer folds or "
            "shorten the horizon"
        )
    return trained, first


def fit_trm(
    data: TRMData,
    config: TRMFitConfig,
    rows: int | None = None,
    watch: Watcher = lambda fit, epoch, values: None,
    facts: Mapping[str, Any] | None = None,
) -> FittedTRM:
    """Fit on the first `rows` rows (all if absent); the newest part of them chooses weights and threshold.

    Mean and deviation of the features, class weights and the scale of profits are of the trained rows alone. The same
    seed gives the same weights, on one device with as many threads.

    Raises
    ------
    TrainingError
        If the rows are too few, or hold what nothing can be learned from.
    TrainingDiverged
        If the loss ceased to be finite.
    """
    return _Fit(data, config, len(data.labels) if rows is None else rows).run(watch, dict(facts or {}))


class _Fit:
    """Everything one fit needs; `run` does it."""

    def __init__(self, data: TRMData, config: TRMFitConfig, rows: int) -> None:
        self.data, self.config = data, config
        self.trained, first = split_rows(rows, data.horizon, config.validation)
        self.device = pick_device(config.device)
        self.labels = torch.from_numpy(data.labels)
        self.pnl = torch.from_numpy(data.pnl).float()
        self.mean, self.std = column_statistics(data.X[: self.trained])
        self.loss = TRMLoss(
            config.lambda_halt, config.lambda_profit, config.lambda_task,
            class_weights=class_weights_from(data.labels[: self.trained], len(CLASSES)),
            confidence_threshold=config.confidence_threshold,
            pnl_scale=pnl_scale_from(data.pnl[: self.trained]),
            num_classes=len(CLASSES),
            halt_target=config.halt_target,
        ).to(self.device)  # fmt: skip
        held = rows - first
        self.val_rows = first + np.unique(np.linspace(0, held - 1, min(held, config.validation_rows)).astype(np.int64))
        self.val_x = normalised_windows(data.X[self.val_rows], self.mean, self.std).to(self.device)
        torch.manual_seed(config.seed)
        sizes = {**config.sizes, "time": data.length, "features": len(data.names), "classes": len(CLASSES)}
        self.model = build_trm(**sizes).to(self.device)
        self.average = Average(self.model, config.ema)
        self.optimizer = create_optimizer(
            self.model, "adamw", config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
        )

    def run(self, watch: Watcher, facts: dict[str, Any]) -> FittedTRM:
        config, history = self.config, TrainingHistory()
        looks = set(np.linspace(0, config.batches, config.looks + 1).round().astype(int)[1:].tolist())
        best, kept = np.inf, copy.deepcopy(self.average.network.state_dict())
        losses, steps, began = list[float](), list[int](), time.perf_counter()
        for number, rows in enumerate(self._batches(), start=1):
            found = self._train(rows)
            losses += found
            steps.append(len(found))
            if number not in looks:
                continue
            value, accuracy = self._validate()
            values = {
                "train_loss": float(np.mean(losses)), "val_loss": value, "val_accuracy": accuracy,
                "steps": float(np.mean(steps)), "seconds": time.perf_counter() - began,
            }  # fmt: skip
            history.add(values)
            watch("trm", history.epochs - 1, values)
            if value < best:
                best, kept = value, copy.deepcopy(self.average.network.state_dict())
            losses, steps, began = [], [], time.perf_counter()
        network = self.average.network
        network.load_state_dict(kept)
        return FittedTRM(self._selector(network, facts), history)

    def _batches(self) -> Iterator[Rows]:
        """Row numbers of each batch: all trained rows in a new order, again and again."""
        size, orders = min(self.config.batch_size, self.trained), np.random.default_rng(self.config.seed)
        order = orders.permutation(self.trained)
        for _ in range(self.config.batches):
            if len(order) < size:
                order = np.concatenate((order, orders.permutation(self.trained)))
            yield order[:size]
            order = order[size:]

    def _train(self, rows: Rows) -> list[float]:
        """One batch; the loss at each supervision step. It ends early once all its rows would stop."""
        self.model.train()
        x = normalised_windows(self.data.X[rows], self.mean, self.std).to(self.device)
        labels, pnl = self.labels[rows].to(self.device), self.pnl[rows].to(self.device)
        carry, losses, most = None, list[float](), self.model.config.supervision_steps
        for step in range(1, most + 1):
            task, halt, carry = self.model(x, carry)
            further = None
            if self.config.halt_target == "no_gain":
                with torch.no_grad():
                    further = task.detach() if step == most else self.model(x, carry)[0]
            loss = self.loss.components(task, halt, labels, earned(task, pnl), further)["total_loss"]
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
            if not bool(torch.isfinite(norm)):
                raise TrainingDiverged(
                    f"the gradient is {norm.item()} after {self.average.updates} updates; lower the learning rate "
                    f"({self.config.learning_rate:g})"
                )
            self.optimizer.step()
            self.average.update(self.model)
            losses.append(loss.item())
            if bool((halt > 0).all()):
                break
        return losses

    def _validate(self) -> tuple[float, float]:
        """Loss without its halting part, and accuracy, of the averaged weights at the last step."""
        tasks, _ = every_step(self.average.network, self.val_x)
        task, labels = tasks[-1].to(self.device), self.labels[self.val_rows].to(self.device)
        pnl = earned(task, self.pnl[self.val_rows].to(self.device))
        further = task if self.config.halt_target == "no_gain" else None
        parts = self.loss.components(task, torch.zeros(len(task), device=self.device), labels, pnl, further)
        value = (
            self.config.lambda_profit * parts["profit_weighted_task_loss"]
            + self.config.lambda_task * parts["task_loss"]
        )
        return float(value), float(parts["accuracy"])

    def _selector(self, network: TinyRecursiveModel, facts: dict[str, Any]) -> Selector:
        tasks, halts = every_step(network, self.val_x)
        threshold = NEVER if len(tasks) == 1 else pick_threshold(tasks, halts, self.labels[self.val_rows])
        data, weights = self.data, self.loss.class_weights
        known = {
            "classes": list(CLASSES), "features": describe_features(data.names, data.length), "symbol": data.symbol,
            "timeframe": data.timeframe, "horizon": data.horizon, "cost": data.cost, "shorting": data.shorting,
            "trained_rows": self.trained, "trained_from": int(data.time[0]),
            "pnl_scale": self.loss.pnl_scale, "class_weights": [] if weights is None else weights.tolist(),
            "training": self.config.as_json(),
        }  # fmt: skip
        return Selector(network.cpu(), self.mean, self.std, threshold, {**known, **facts})


def earned(task_logits: Tensor, pnl: Tensor) -> Tensor:
    """What the class that would be chosen earned: (B, classes) logits and profits → (B,), without a gradient."""
    return pnl.gather(1, task_logits.detach().argmax(dim=1, keepdim=True))[:, 0]
