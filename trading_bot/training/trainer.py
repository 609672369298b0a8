"""The training loop: batches, clipping, schedules, validation, early stopping, checkpoints, exact resumption."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from trading_bot.errors import CheckpointError, TrainingError
from trading_bot.logs import event
from trading_bot.training.batches import check_batches, describe_loss
from trading_bot.training.devices import pick_device
from trading_bot.training.early_stopping import EarlyStopping
from trading_bot.training.epoch_bar import EpochBar
from trading_bot.training.history import TrainingHistory
from trading_bot.training.model_checkpoint import ModelCheckpoint, load_weights
from trading_bot.training.optimizers import create_optimizer, create_scheduler
from trading_bot.training.training_state import load_state, save_state

__all__ = [
    "EarlyStopping",
    "ModelCheckpoint",
    "Trainer",
    "TrainingHistory",
    "create_optimizer",
    "create_scheduler",
]

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Metric = Callable[[torch.Tensor, torch.Tensor], float]


def mean_absolute_error(prediction: torch.Tensor, target: torch.Tensor) -> float:
    """Mean |prediction - target|."""
    return float((prediction - target).abs().mean())


def hit_rate(prediction: torch.Tensor, target: torch.Tensor) -> float:
    """Share of the targets that are not 0 whose sign the prediction has; NaN if all are 0."""
    moved = target != 0
    return float((torch.sign(prediction[moved]) == torch.sign(target[moved])).float().mean())


METRICS: Mapping[str, Metric] = {"mae": mean_absolute_error, "hit_rate": hit_rate}


class Trainer:
    """Fits a model.

    Parameters
    ----------
    model : (B, …) → (B, H)
    train_dataloader, val_dataloader : iterables of (X, y), again at each epoch: ours or PyTorch's
    loss_fn : (prediction, target) → scalar; as a module it may have state, which is saved too
    optimizer : over the model's parameters
    device : "auto" (CUDA, then MPS, then CPU) or a device's name
    scheduler : stepped once an epoch
    max_grad_norm : gradients are scaled down to this norm; None leaves them alone
    metrics : name → function of all validation predictions and targets
    val_loss_fn : what `val_loss` measures, if not `loss_fn`: a loss that adapts is no judge of itself

    Attributes
    ----------
    history : of the fit in progress, or of the last one
    on_epoch : functions called with (epoch from 0, that epoch's numbers) after each
    show_progress : a bar on a terminal

    Raises
    ------
    TrainingError
        Before anything is trained: a device that is absent, loaders without batches, batches too small for the loss.
    """

    def __init__(
        self,
        model: nn.Module,
        train_dataloader: Iterable[Any],
        val_dataloader: Iterable[Any],
        loss_fn: Loss,
        optimizer: Optimizer,
        device: str | torch.device = "auto",
        scheduler: LRScheduler | None = None,
        max_grad_norm: float | None = 1.0,
        *,
        metrics: Mapping[str, Metric] = METRICS,
        val_loss_fn: Loss | None = None,
    ) -> None:
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise TrainingError(f"max_grad_norm is {max_grad_norm!r}; wanted a number above 0, or None for no clipping")
        self.device = pick_device(device)
        check_batches(model, train_dataloader, val_dataloader, loss_fn)
        self.model = model.to(self.device)
        self.train_dataloader = train_dataloader
        self.val_dataloader = val_dataloader
        self.loss_fn = loss_fn.to(self.device) if isinstance(loss_fn, nn.Module) else loss_fn
        self.val_loss_fn = self.loss_fn if val_loss_fn is None else val_loss_fn
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.max_grad_norm = max_grad_norm
        self.metrics = dict(metrics)
        self.history = TrainingHistory()
        self.on_epoch: list[Callable[[int, Mapping[str, float]], object]] = []
        self.show_progress = True
        groups = [group for group in optimizer.param_groups if group.get("clip", True)]
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        self._early_stopping: EarlyStopping | None = None
        self._checkpoint: ModelCheckpoint | None = None
        self._metadata: Mapping[str, Any] = {}
        self._state_path: Path | None = None
        self._best: tuple[float, dict[str, torch.Tensor]] | None = None
        self._stopped = False
        self._saved: dict[str, Any] | None = None  # the state an interrupted fit left, until the next one takes it up

    # ── what is wished for ─────────────────────────────────────────────────────────────────────────────────────────

    def set_early_stopping(self, patience: int = 15, min_delta: float = 1e-4) -> None:
        """Stop once val_loss has not fallen by `min_delta` for `patience` epochs."""
        self._early_stopping = EarlyStopping(patience, min_delta)

    def set_checkpoint(
        self,
        dirpath: str | Path,
        filename: str = "best_model",
        monitor: str = "val_loss",
        mode: Literal["min", "max"] = "min",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the model to `dirpath` whenever `monitor` (a name of the history) is best; see `ModelCheckpoint`."""
        known = ("train_loss", "val_loss", "grad_norm", *(f"val_{name}" for name in self.metrics))
        if monitor not in known:
            raise TrainingError(f"monitor is {monitor!r}; wanted one of {', '.join(known)}")
        self._checkpoint = ModelCheckpoint(dirpath, filename, monitor, mode)
        self._metadata = metadata or {}

    def set_resume(self, path: str | Path) -> bool:
        """Keep the whole state in `path` after every epoch; if there is one already, go on from it. Whether there was.

        A fit that is interrupted or killed and begun again with the same data then ends with the same bits as one that
        was not, on the same machine with as many threads, on the CPU. On a GPU it goes on with the same order of rows
        and state, but cuDNN keeps a state of its own for dropout within an LSTM and may add up in another order. The
        order of a foreign loader is the same only if it follows PyTorch's global seed.

        Raises
        ------
        CheckpointError
            If the file is damaged, or, by `fit`, if it belongs to another model, optimizer or loss.
        """
        self._state_path = Path(path)
        self._saved = load_state(self._state_path) if self._state_path.exists() else None
        return self._saved is not None

    # ── the loop ───────────────────────────────────────────────────────────────────────────────────────────────────

    def fit(self, epochs: int, early_stopping_patience: int | None = None, log_interval: int = 1) -> TrainingHistory:
        """Train for `epochs` epochs, fewer if stopped early; the model has the weights of the lowest val_loss then.

        Parameters
        ----------
        epochs : those of an interrupted fit that is resumed count
        early_stopping_patience : shorthand for `set_early_stopping(patience)`
        log_interval : epochs between lines in the log; 0 for none

        Raises
        ------
        TrainingError
            If a number is out of range, or a loss ceases to be finite: the model then has the best weights so far.
        """
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise TrainingError(f"epochs is {epochs!r}; wanted a whole number ≥ 1")
        if early_stopping_patience is not None and self._early_stopping is None:
            self.set_early_stopping(early_stopping_patience)
        self._begin()
        try:
            with EpochBar(epochs, len(self.train_dataloader), shown=self.show_progress) as bar:  # type: ignore[arg-type]
                while self.history.epochs < epochs and not self._stopped:
                    self._epoch(bar, log_interval)
        finally:
            self._restore_best()
        return self.history

    def _begin(self) -> None:
        """From the state that was saved, or anew."""
        if self._saved is not None:
            saved, self._saved = self._saved, None
            self._restore(saved)
            return
        self.history, self._best, self._stopped = TrainingHistory(), None, False
        if self._early_stopping is not None:
            self._early_stopping.load_state_dict({"best": math.inf, "waited": 0})

    def _epoch(self, bar: EpochBar, log_interval: int) -> None:
        epoch, began = self.history.epochs, time.perf_counter()
        rate = float(self.optimizer.param_groups[0]["lr"])
        train_loss, grad_norm = self._train(epoch, bar)
        values = {"train_loss": train_loss, **self._validate()}
        self._check_finite(epoch, values, grad_norm)
        values |= {"learning_rate": rate, "grad_norm": grad_norm, "seconds": time.perf_counter() - began}
        self.history.add(values)
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(values["val_loss"])
        elif self.scheduler is not None:
            self.scheduler.step()
        if self._best is None or values["val_loss"] < self._best[0]:
            self._best = values["val_loss"], {name: t.clone() for name, t in self.model.state_dict().items()}
        if self._checkpoint is not None:
            self._checkpoint.save(self.model, values[self._checkpoint.monitor], {**self._metadata, "epoch": epoch})
        self._stopped = self._early_stopping is not None and self._early_stopping(values["val_loss"])
        if self._state_path is not None:
            save_state(self._state_path, self._state())
        if log_interval and ((epoch + 1) % log_interval == 0 or self._stopped):
            event("training", type(self.model).__name__, f"epoch {epoch + 1}", level="DEBUG", **values)
        bar.epoch(values)
        for tell in self.on_epoch:
            tell(epoch, values)

    def _train(self, epoch: int, bar: EpochBar) -> tuple[float, float]:
        """One pass over the training batches: mean loss a row, mean norm of the gradient."""
        self._switch(training=True)
        if hasattr(self.train_dataloader, "epoch"):
            self.train_dataloader.epoch = epoch
        model, loss_fn, optimizer, device = self.model, self.loss_fn, self.optimizer, self.device
        parameters, most = self._parameters, self.max_grad_norm
        total = torch.zeros((), device=device)
        norms = torch.zeros((), device=device)
        rows = batches = 0
        for X, y in self.train_dataloader:
            X, y = X.to(device), y.to(device)
            optimizer.zero_grad(set_to_none=True)
            loss = loss_fn(model(X), y)
            loss.backward()
            if most is not None:
                norms += nn.utils.clip_grad_norm_(parameters, most)
            optimizer.step()
            total += loss.detach() * len(X)
            rows += len(X)
            batches += 1
            bar.batch()
        if not batches:
            raise TrainingError("the training loader gave no batch at all; wanted one that can be iterated every epoch")
        return float(total) / rows, float(norms) / batches if most is not None else math.nan

    @torch.inference_mode()
    def _validate(self) -> dict[str, float]:
        """Loss and metrics over all validation rows at once: a Sharpe ratio is no mean of batches."""
        self._switch(training=False)
        pairs = [(self.model(X.to(self.device)), y.to(self.device)) for X, y in self.val_dataloader]
        if not pairs:
            raise TrainingError(
                "the validation loader gave no batch at all; wanted one that can be iterated every epoch"
            )
        prediction, target = torch.cat([p for p, _ in pairs]), torch.cat([y for _, y in pairs])
        try:
            loss = float(self.val_loss_fn(prediction, target))
        except TrainingError:
            if bool(torch.isfinite(prediction).all()):
                raise
            loss = math.nan  # told below, with the epoch
        values = {"val_loss": loss}
        if prediction.numel() == target.numel():  # several quantiles have no error
            target = target.reshape(prediction.shape)
            values |= {f"val_{name}": metric(prediction, target) for name, metric in self.metrics.items()}
        return values

    def _switch(self, *, training: bool) -> None:
        self.model.train(training)
        if isinstance(self.loss_fn, nn.Module):
            self.loss_fn.train(training)

    def _check_finite(self, epoch: int, values: Mapping[str, float], grad_norm: float) -> None:
        for name in ("train_loss", "val_loss"):
            if not math.isfinite(values[name]):
                raise TrainingError(
                    f"{name} is {values[name]} in epoch {epoch + 1} (gradient norm {grad_norm:.3g}, learning rate "
                    f"{self.optimizer.param_groups[0]['lr']:.3g}); lower the learning rate or look for extremes in the "
                    "data: the model has its best weights so far"
                )

    # ── what is remembered ─────────────────────────────────────────────────────────────────────────────────────────

    def _restore_best(self) -> None:
        if self._best is not None:
            self.model.load_state_dict(self._best[1])
        self._switch(training=False)

    def _state(self) -> dict[str, Any]:
        generators = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            generators["cuda"] = torch.cuda.get_rng_state(self.device)
        elif self.device.type == "mps":
            generators["mps"] = torch.mps.get_rng_state()
        best = None if self._best is None else {"value": self._best[0], "weights": self._best[1]}
        stopping, checkpoint = self._early_stopping, self._checkpoint
        return {
            "model": self.model.state_dict(),
            "loss": self.loss_fn.state_dict() if isinstance(self.loss_fn, nn.Module) else {},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "generators": generators,
            "history": dict(self.history),
            "best": best,
            "early_stopping": None if stopping is None else stopping.state_dict(),
            "checkpoint": None if checkpoint is None else checkpoint.best,
            "stopped": self._stopped,
            "loss_name": describe_loss(self.loss_fn),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        source = self._state_path or Path()
        load_weights(self.model, state["model"], source)
        if state["loss_name"] != describe_loss(self.loss_fn):
            raise CheckpointError(
                f"{source} was trained with the loss {state['loss_name']}, this is {describe_loss(self.loss_fn)}; "
                "go on with the same one, or begin anew in another folder"
            )
        if (state["scheduler"] is None) != (self.scheduler is None):
            raise CheckpointError(f"{source} and this training differ in having a scheduler; go on with the same")
        try:
            self.optimizer.load_state_dict(state["optimizer"])
            if self.scheduler is not None:
                self.scheduler.load_state_dict(state["scheduler"])
            if isinstance(self.loss_fn, nn.Module):
                self.loss_fn.load_state_dict(state["loss"])
        except (ValueError, KeyError, RuntimeError) as error:
            raise CheckpointError(f"{source} belongs to another optimizer or loss: {error}") from None
        torch.set_rng_state(state["generators"]["cpu"])
        if "cuda" in state["generators"] and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["generators"]["cuda"], self.device)
        elif "mps" in state["generators"] and self.device.type == "mps":
            torch.mps.set_rng_state(state["generators"]["mps"])
        self.history = TrainingHistory(state["history"])
        best = state["best"]
        self._best = (
            None if best is None else (best["value"], {n: t.to(self.device) for n, t in best["weights"].items()})
        )
        if self._early_stopping is not None and state["early_stopping"] is not None:
            self._early_stopping.load_state_dict(state["early_stopping"])
        if self._checkpoint is not None:
            self._checkpoint.best = state["checkpoint"]
        self._stopped = bool(state["stopped"])
