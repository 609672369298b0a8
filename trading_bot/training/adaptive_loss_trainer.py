"""A training with an adaptive loss: everything `Trainer` does, and what such a loss needs besides."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trading_bot.errors import TrainingError, unknown
from trading_bot.logs import event
from trading_bot.training.adaptive_loss_function import AdaptiveLossFunction
from trading_bot.training.adaptive_loss_inner import set_aside
from trading_bot.training.adaptive_loss_plots import draw_losses, draw_weights
from trading_bot.training.adaptive_loss_record import Effectiveness
from trading_bot.training.adaptive_loss_selection import Combination, create_adaptive_loss, options_of
from trading_bot.training.data_loaders import BatchLoader
from trading_bot.training.devices import pick_device
from trading_bot.training.history import TrainingHistory
from trading_bot.training.loss_frame import positive
from trading_bot.training.optimizers import create_scheduler
from trading_bot.training.tensorboard_log import TensorBoardLog
from trading_bot.training.trainer import METRICS, Trainer

__all__ = ["AdaptiveLossTrainer", "AdaptiveResults", "create_adaptive_trainer"]


@dataclass(frozen=True, slots=True)
class AdaptiveResults:
    """What a training with an adaptive loss came to.

    Attributes
    ----------
    history : by epoch; `val_loss` is the fixed metric, `val_combined` the loss with the weights of that epoch's end
    weights, scales, skipped : by loss, at the end
    redundant : pairs of losses that teach the same, and the cosine of their gradients
    effectiveness : what learning and what re-weighting did; None if the training ended before both could be told
    """

    history: TrainingHistory
    weights: Mapping[str, float]
    scales: Mapping[str, float]
    skipped: Mapping[str, int]
    redundant: tuple[tuple[str, str, float], ...]
    effectiveness: Effectiveness | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class AdaptiveLossTrainer:
    """Fits a model to an adaptive loss.

    It sets the newest fifth of the training rows aside where the policy wants inner-validation batches, gives learned
    weights a group of their own in the optimizer, sets σ to the standard deviation of the training targets, and judges
    every epoch by the loss's fixed metric: `val_loss`, by which the best weights are kept and training stops early,
    does not move with what adapts. The validation loader never moves a weight.

    Parameters
    ----------
    model, optimizer, device, max_grad_norm : as of `Trainer`
    loss : its weights, scales and policy go on from where they are if it trains twice
    model_id : the name in logs, pictures and files
    scheduler : name of a schedule, or a function that makes one of the optimizer, once its groups are complete
    gap : rows purged before those set aside: the label's horizon
    hold_out : set the rows aside even if the policy has no use for them, so that all policies train on the same
    fit_sigma : set σ from the training targets; else it stays as the loss has it
    learned_rate : learning rate of learned weights
    tensorboard : folder for TensorBoard's scalars

    Attributes
    ----------
    history : of the last training
    on_epoch : functions called with (epoch from 0, that epoch's numbers) after each

    Raises
    ------
    TrainingError
        If a number is out of range, or the device is absent.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss: AdaptiveLossFunction,
        device: str | torch.device = "auto",
        model_id: str = "adaptive",
        *,
        scheduler: str | Callable[[Optimizer], LRScheduler] | None = None,
        max_grad_norm: float | None = 1.0,
        gap: int = 0,
        hold_out: bool = False,
        fit_sigma: bool = True,
        learned_rate: float = 0.01,
        tensorboard: str | Path | None = None,
    ) -> None:
        if isinstance(gap, bool) or not isinstance(gap, int) or gap < 0:
            raise TrainingError(f"gap is {gap!r}; wanted a whole number ≥ 0: the label's horizon")
        if not isinstance(model_id, str) or not model_id or Path(model_id).name != model_id:
            raise TrainingError(f"model_id is {model_id!r}; wanted a word that can name a file")
        self.device = pick_device(device)
        self.model, self.optimizer, self.loss, self.model_id = model, optimizer, loss, model_id
        self.max_grad_norm, self.gap, self.hold_out, self.fit_sigma = max_grad_norm, gap, hold_out, fit_sigma
        self.history = TrainingHistory()
        self.on_epoch: list[Callable[[int, Mapping[str, float]], object]] = []
        self.show_progress = True
        self._tensorboard = None if tensorboard is None else Path(tensorboard)
        self._prepare: list[Callable[[Trainer], object]] = []
        self.model.to(self.device)
        self.loss.to(self.device)
        self._learn_weights(positive("learned_rate", learned_rate))
        make = (lambda made: create_scheduler(made, scheduler)) if isinstance(scheduler, str) else scheduler
        self.scheduler = None if make is None else make(optimizer)

    def _learn_weights(self, rate: float) -> None:
        """Put the policy's parameters into the optimizer, once."""
        known = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        wanted = [parameter for parameter in self.loss.learned if id(parameter) not in known]
        if wanted:  # not clipped: what the weights want must not shorten the model's step
            self.optimizer.add_param_group({"params": wanted, "lr": rate, "weight_decay": 0.0, "clip": False})

    # ── what is wished for: as of Trainer, for every training ──────────────────────────────────────────────────────

    def set_early_stopping(self, patience: int = 15, min_delta: float = 1e-4) -> None:
        """Stop once the fixed metric has not fallen by `min_delta` for `patience` epochs."""
        self._prepare.append(lambda trainer: trainer.set_early_stopping(patience, min_delta))

    def set_checkpoint(
        self,
        dirpath: str | Path,
        filename: str = "best_model",
        monitor: str = "val_loss",
        mode: Literal["min", "max"] = "min",
    ) -> None:
        """Write the model to `dirpath` whenever `monitor` is best."""
        facts = {"model_id": self.model_id}
        self._prepare.append(lambda trainer: trainer.set_checkpoint(dirpath, filename, monitor, mode, facts))

    def set_resume(self, path: str | Path) -> None:
        """Keep the whole state, that of the weights and their policy too, in `path` after every epoch.

        If it is there already when a training begins, that training goes on from it, with the same bits as one that
        was never interrupted.
        """
        self._prepare.append(lambda trainer: trainer.set_resume(path))

    # ── the training ───────────────────────────────────────────────────────────────────────────────────────────────

    def train(
        self, train_loader: Iterable[Any], val_loader: Iterable[Any], epochs: int, log_interval: int = 1
    ) -> AdaptiveResults:
        """Train for `epochs` epochs, fewer if stopped early; the model has the weights of the lowest metric then.

        Parameters
        ----------
        train_loader, val_loader : iterables of (X, y); if rows are to be set aside, the first is one of
            `create_data_loaders`, PyTorch's with its usual samplers, or a list of batches
        log_interval : epochs between lines in the log; 0 for none

        Raises
        ------
        TrainingError
            As `Trainer` and the loss do.
        """
        loss = self.loss
        if loss.policy.needs_inner or self.hold_out:
            train_loader, batch = set_aside(train_loader, self.gap, self.device)
            loss.set_inner_validation(self.model, batch)
        if self.fit_sigma:
            loss.fit_scale(_targets(train_loader))
        trainer = Trainer(
            self.model, train_loader, val_loader, loss, self.optimizer, self.device, self.scheduler, self.max_grad_norm,
            metrics={**METRICS, "combined": self._combined},
            val_loss_fn=loss.metric,
        )  # fmt: skip
        trainer.show_progress = self.show_progress
        trainer.on_epoch.extend(self.on_epoch)
        for prepare in self._prepare:
            prepare(trainer)
        if isinstance(epochs, int) and epochs > 0:
            loss.expect(epochs * len(train_loader))  # type: ignore[arg-type]
        if loss.total_steps <= loss.calibration_steps:
            event("training", self.model_id, f"{loss.total_steps} steps in all and {loss.calibration_steps} of equal "
                  "weights first: the weights will not adapt", level="WARNING")  # fmt: skip
        board = None if self._tensorboard is None else TensorBoardLog(self._tensorboard / self.model_id)
        if board is not None:
            trainer.on_epoch.append(lambda epoch, values: board.write(epoch, {**values, **self._scalars()}))
        try:
            self.history = trainer.fit(epochs, log_interval=log_interval)
        finally:
            self.history = trainer.history
            if board is not None:
                board.close()
        return self.results()

    def _combined(self, prediction: torch.Tensor, target: torch.Tensor) -> float:
        """The adaptive loss itself; NaN of what is not finite, which the fixed metric has told of already."""
        return float(self.loss(prediction, target)) if bool(torch.isfinite(prediction).all()) else math.nan

    def results(self) -> AdaptiveResults:
        """What the last training came to."""
        loss = self.loss
        return AdaptiveResults(
            self.history, loss.weights, loss.scales, dict(loss.skipped), tuple(loss.redundant), loss.effectiveness()
        )

    def _scalars(self) -> dict[str, float]:
        weights = {f"weight/{name}": weight for name, weight in self.loss.weights.items()}
        last = self.loss.record.lines[-1:]
        losses = [dict(zip(self.loss.names, line.components, strict=True)) for line in last]
        return weights | {f"loss/{name}": value for each in losses for name, value in each.items()}

    # ── what is shown ──────────────────────────────────────────────────────────────────────────────────────────────

    def save_history(self, path: str | Path) -> Path:
        """Write components and weights, a line for every ten steps, as JSON or CSV by the suffix of `path`."""
        self.loss.record.save(Path(path), list(self.loss.scales.values()))
        return Path(path)

    def plot_loss_evolution(self, path: str | Path | None = None) -> Path:
        """Draw losses and metric as a PNG; where it is. Left out, `path` is MODEL_ID-losses.png in this folder."""
        target = self._picture(path, "losses")
        loss = self.loss
        draw_losses(target, f"{self.model_id}: losses", loss.record.lines, loss.scales, loss.calibration_steps,
                    self.history)  # fmt: skip
        return target

    def plot_weight_evolution(self, path: str | Path | None = None) -> Path:
        """Draw the weights as a PNG; where it is. Left out, `path` is MODEL_ID-weights.png in this folder."""
        target, loss = self._picture(path, "weights"), self.loss
        draw_weights(target, f"{self.model_id}: weights, {type(loss.policy).__name__}", loss.names, loss.record.lines,
                     loss.calibration_steps)  # fmt: skip
        return target

    def _picture(self, path: str | Path | None, what: str) -> Path:
        if not self.loss.record.lines:
            raise TrainingError(
                f"there is nothing to draw: no {self.loss.record.every} steps were trained; train first"
            )
        target = Path(path) if path is not None else Path(f"{self.model_id}-{what}.png")
        if target.suffix != ".png":
            raise TrainingError(f"{target.name} ends with {target.suffix!r}; wanted .png")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


def create_adaptive_trainer(
    model: nn.Module,
    optimizer: Optimizer,
    device: str | torch.device = "auto",
    loss_combination: Combination | AdaptiveLossFunction = "comprehensive",
    model_id: str = "adaptive",
    **options: Any,
) -> AdaptiveLossTrainer:
    """A trainer with an adaptive loss of its own.

    Parameters
    ----------
    loss_combination : as of `create_adaptive_loss`, or a loss that was made already
    options : of `create_adaptive_loss` (adaptation_strategy, adaptation_frequency, …) and of `AdaptiveLossTrainer`

    Raises
    ------
    TrainingError
        If an option is unknown, or as those two do.
    """
    own = {name: options.pop(name) for name in _OWN if name in options}
    if isinstance(loss_combination, AdaptiveLossFunction):
        if options:
            raise TrainingError(f"the loss is made already; leave {', '.join(options)} out, or give its combination")
        return AdaptiveLossTrainer(model, optimizer, loss_combination, device, model_id, **own)
    known = options_of(options.get("adaptation_strategy", "performance_based"))
    for option in options:
        if option not in known:
            raise TrainingError(unknown("option of an adaptive training", option, [*_OWN, *known]))
    loss = create_adaptive_loss(loss_combination, **options)
    return AdaptiveLossTrainer(model, optimizer, loss, device, model_id, **own)


_OWN = tuple(
    name for name, each in inspect.signature(AdaptiveLossTrainer).parameters.items() if each.kind == each.KEYWORD_ONLY
)


def _targets(loader: Iterable[Any]) -> torch.Tensor:
    """The targets of all training rows."""
    if isinstance(loader, BatchLoader):
        return torch.from_numpy(loader.dataset.y)
    return torch.cat([torch.as_tensor(y).reshape(len(y), -1) for _, y in loader])
