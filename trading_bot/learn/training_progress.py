"""How one training stands: its learning rate, its best epoch, its patience, the steps it had to skip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from trading_bot.errors import TrainingDiverged
from trading_bot.learn.learning_rate import LearningRate
from trading_bot.learn.training_config import TrainingConfig
from trading_bot.logs import event
from trading_bot.training.early_stopping import EarlyStopping

MOST_SKIPPED = 10  # steps in a row that may be skipped, the last of which ends the training


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochMetrics:
    """What one epoch came to.

    Attributes
    ----------
    epoch : as it was given
    loss : weighted mean over the training rows, each at the weights its step began with
    val_loss : unweighted mean over the validation rows, at the weights after the epoch
    learning_rate : that this epoch was trained with
    improvement : how much lower val_loss is than the best before (negative: higher); infinite in the first epoch
    patience_counter : epochs since the last improvement greater than the threshold
    grad_norm : mean over the steps of the gradient's norm before clipping
    seconds : wall time
    """

    epoch: int
    loss: float
    val_loss: float
    learning_rate: float
    improvement: float
    patience_counter: int
    grad_norm: float
    seconds: float


class Progress:
    """The same book-keeping whether a model is trained alone or in a batch of several.

    Attributes
    ----------
    skipped_in_a_row : steps skipped since the last one that was taken; whoever takes one sets it to 0
    """

    def __init__(self, config: TrainingConfig, name: str = "") -> None:
        self.name = name
        self.skipped_in_a_row = 0
        self._rate = LearningRate(config)
        self._stopping = EarlyStopping(config.early_stopping_patience, config.early_stopping_threshold)
        self._best_val_loss = math.inf
        self._best_epoch: int | None = None
        self._epochs = 0
        self._skipped = 0
        self._seconds = 0.0
        self._last_loss = math.nan

    @property
    def learning_rate(self) -> float:
        """Of the next epoch."""
        return self._rate.value

    @property
    def stopped(self) -> bool:
        """Whether patience has run out."""
        return self._stopping.waited >= self._stopping.patience

    def skip(self, epoch: int, batch: int) -> None:
        """Count a step whose loss or gradient was not finite.

        Raises
        ------
        TrainingDiverged
            At the tenth in a row.
        """
        self._skipped += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= MOST_SKIPPED:
            raise TrainingDiverged(
                f"the loss was not finite in {self.skipped_in_a_row} steps in a row, last in epoch {epoch}, batch "
                f"{batch}, at learning rate {self.learning_rate:g}; wanted finite numbers: lower "
                "learning_rate_initial, or look for extremes in the data"
            )

    def finish_epoch(
        self, epoch: int, loss: float, val_loss: float, grad_norm: float, seconds: float
    ) -> tuple[EpochMetrics, bool]:
        """Take in an epoch and log it; its metrics, and whether its weights are the best so far."""
        learning_rate = self.learning_rate
        improvement = self._best_val_loss - val_loss
        best = val_loss < self._best_val_loss
        if best:
            self._best_val_loss, self._best_epoch = val_loss, epoch
        self._stopping(val_loss)
        self._rate.observe(val_loss)
        self._epochs += 1
        self._seconds += seconds
        self._last_loss = loss
        metrics = EpochMetrics(
            epoch=epoch,
            loss=loss,
            val_loss=val_loss,
            learning_rate=learning_rate,
            improvement=improvement,
            patience_counter=self._stopping.waited,
            grad_norm=grad_norm,
            seconds=seconds,
        )
        self._log(metrics)
        return metrics, best

    def _log(self, metrics: EpochMetrics) -> None:
        event(
            "learn", self.name, f"epoch {metrics.epoch}", level="DEBUG",
            loss=metrics.loss, val_loss=metrics.val_loss, learning_rate=metrics.learning_rate,
            patience=f"{self._stopping.waited}/{self._stopping.patience}",
        )  # fmt: skip
        if self.stopped:
            event(
                "learn", self.name, f"stopped early after epoch {metrics.epoch}", level="DEBUG",
                best_val_loss=self._best_val_loss, best_epoch=self._best_epoch,
            )  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """The training so far, in numbers a person asks for."""
        return {
            "best_val_loss": self._best_val_loss,
            "best_epoch": self._best_epoch,
            "epochs_trained": self._epochs,
            "final_loss": self._last_loss,
            "final_learning_rate": self.learning_rate,
            "stopped_early": self.stopped,
            "skipped_steps": self._skipped,
            "seconds": self._seconds,
        }

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from; JSON but for infinity."""
        return {
            "rate": self._rate.state_dict(),
            "stopping": self._stopping.state_dict(),
            "best_val_loss": self._best_val_loss,
            "best_epoch": self._best_epoch,
            "epochs": self._epochs,
            "skipped": self._skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "seconds": self._seconds,
            "last_loss": self._last_loss,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rate.load_state_dict(state["rate"])
        self._stopping.load_state_dict(state["stopping"])
        self._best_val_loss, self._best_epoch = state["best_val_loss"], state["best_epoch"]
        self._epochs, self._skipped = state["epochs"], state["skipped"]
        self.skipped_in_a_row, self._seconds = state["skipped_in_a_row"], state["seconds"]
        self._last_loss = state["last_loss"]
