"""What is asked of one strategy's training and what came of it, whoever trains it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from trading_bot.errors import TradingBotError, TrainingError
from trading_bot.learn.adaptive_trainer import AdaptiveTrainer
from trading_bot.learn.training_config import TrainingConfig
from trading_bot.learn.training_data import Array
from trading_bot.logs import event

Status = Literal["trained", "failed", "timed_out", "died"]


@dataclass(frozen=True, eq=False)
class StrategyTrainingReport(Mapping[str, Any]):
    """One strategy's training; also a mapping of its fields and, beside them, those of the summary.

    Attributes
    ----------
    status : trained · failed (an error) · timed_out (killed at its deadline) · died (its process ended by itself)
    summary : as of `AdaptiveTrainer.get_training_summary`; empty unless trained
    weights : the best ones by name: weight (d,) and bias (1,) of a linear model, a network's state; None unless trained
    seconds : wall time, start of the worker included
    error : one sentence; None where trained
    """

    strategy: str
    status: Status
    summary: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Array] | None = None
    seconds: float = math.nan
    error: str | None = None

    @property
    def trained(self) -> bool:
        """Whether there are weights to use."""
        return self.status == "trained"

    def __getitem__(self, key: str) -> Any:
        return self._flat()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._flat())

    def __len__(self) -> int:
        return len(self._flat())

    def _flat(self) -> dict[str, Any]:
        return {**self.summary, **{each.name: getattr(self, each.name) for each in fields(self)}}


@dataclass(frozen=True, eq=False)
class StrategyJob:
    """One strategy's training, ready to begin.

    Attributes
    ----------
    model : as of `AdaptiveTrainer`; a copy of it is trained
    data : X_train, y_train, X_val, y_val
    """

    name: str
    config: TrainingConfig
    model: Any
    data: tuple[Any, Any, Any, Any]
    epochs: int


class OutOfTimeError(TrainingError):
    """The deadline passed while training where nothing can be killed."""


def train_job(job: StrategyJob, check_time: Callable[[], None] | None = None) -> StrategyTrainingReport:
    """Train one strategy here and now; what goes wrong is in the report.

    Parameters
    ----------
    check_time : called before each epoch; may raise `OutOfTimeError`
    """
    try:
        trainer = AdaptiveTrainer(job.config, copy.deepcopy(job.model), name=job.name)
        for epoch in range(job.epochs):
            if check_time is not None:
                check_time()
            trainer.train_epoch(*job.data, epoch)
            if trainer.should_stop():
                break
    except OutOfTimeError as error:
        return StrategyTrainingReport(job.name, "timed_out", error=str(error))
    except (Exception, SystemExit) as error:  # a model is the user's: one that calls sys.exit fails like any other
        return StrategyTrainingReport(job.name, "failed", error=say(error))
    return finished(job.name, trainer.get_training_summary(), trainer.best_weights())


def finished(name: str, summary: Mapping[str, Any], weights: Mapping[str, Array] | None) -> StrategyTrainingReport:
    """The report of a training that came to its end; failed where no epoch had a finite validation loss."""
    if weights is None:
        return StrategyTrainingReport(
            name, "failed", summary, error="no epoch had a finite validation loss; look for extremes in the data"
        )
    return StrategyTrainingReport(name, "trained", summary, weights)


def say(error: BaseException) -> str:
    """An error in one line; a foreign one with its kind."""
    text = " ".join(str(error).split())
    return text if isinstance(error, TradingBotError) and text else f"{type(error).__name__}: {text}".rstrip(": ")


def log_reports(reports: Mapping[str, StrategyTrainingReport], seconds: float, executor: str) -> None:
    """A summary table: a line for each strategy, a last one for all."""
    for name, report in reports.items():
        if report.trained:
            found = report.summary
            event(
                "learn", name, "trained", epochs=found["epochs_trained"], best_val_loss=found["best_val_loss"],
                best_epoch=found["best_epoch"], stopped_early=found["stopped_early"], seconds=report.seconds,
            )  # fmt: skip
        else:
            event(
                "learn", name, f"{report.status.replace('_', ' ')}: {report.error}", level="WARNING",
                seconds=report.seconds,
            )  # fmt: skip
    trained = sum(report.trained for report in reports.values())
    event("learn", "all", f"{trained} of {len(reports)} strategies trained", executor=executor, seconds=seconds)
