"""What may be set about the training of strategies' models."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Literal, get_args

from trading_bot.errors import TrainingError, unknown

LossName = Literal["log_loss", "squared_error"]
Executor = Literal["auto", "process", "thread", "batched", "ray"]

_WHOLE = {  # field → smallest, largest
    "max_workers": (1, 1024),
    "batch_size": (1, 10_000_000),
    "early_stopping_patience": (1, 1_000_000),
    "seed": (0, 2**63 - 1),
    "memory_limit_mb": (1, 16_777_216),
}
_MAY_BE_ABSENT = ("memory_limit_mb",)
_REAL = {  # field → smallest, largest, whether the smallest itself is refused
    "learning_rate_initial": (0.0, 1_000.0, True),
    "learning_rate_min": (0.0, 1_000.0, False),
    "learning_rate_decay": (0.0, 1.0, True),
    "early_stopping_threshold": (0.0, 1_000.0, False),
    "gradient_clip": (0.0, math.inf, True),
    "momentum": (0.0, 0.9999, False),
    "weight_decay": (0.0, 1.0, False),
    "timeout_seconds": (0.0, 604_800.0, True),
}


def _default_workers() -> int:
    return max(2, (os.cpu_count() or 1) - 1)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a strategy's model is trained, and how several are.

    Raises
    ------
    TrainingError
        If a value is outside its range; also a ValueError.
    """

    max_workers: int = field(default_factory=_default_workers)  # strategies trained at once in processes or threads
    learning_rate_initial: float = 0.1
    learning_rate_min: float = 0.001
    learning_rate_decay: float = 0.95  # factor an epoch, where not adaptive; 1 keeps the rate constant
    batch_size: int = 256  # rows
    early_stopping_patience: int = 20  # epochs without improvement that are waited for
    early_stopping_threshold: float = 1e-4  # how much lower a validation loss must be to count as an improvement
    gradient_clip: float = 1.0  # largest norm of the gradient over all parameters; infinite leaves it alone
    use_adaptive_lr: bool = True
    momentum: float = 0.9
    weight_decay: float = 1e-4  # share of learning rate × weight taken off at each step; biases are spared
    sample_weights: bool = True  # ramp from 0.5 (oldest) to 1.5 (newest)
    loss: LossName | None = None  # None: log_loss where all targets are 0 or 1, else squared_error
    timeout_seconds: float = 300.0  # a strategy's deadline, start of its worker included
    executor: Executor = "auto"
    seed: int = 0  # of the order of batches, and of dropout where a network has it
    # Address space a training may add to what its process maps when its job has been read; held on Linux, by
    # executor="process" alone. None: no limit. Not for a network on a GPU, whose driver maps far more than it uses.
    memory_limit_mb: int | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _WHOLE.items():
            value = getattr(self, name)
            if value is None and name in _MAY_BE_ABSENT:
                continue
            if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
                absent = ", or None" if name in _MAY_BE_ABSENT else ""
                raise TrainingError(
                    f"TrainingConfig.{name} is {value!r}; wanted a whole number from {low} to {high}{absent}"
                )
        for name, (least, most, open_) in _REAL.items():
            value = getattr(self, name)
            real = isinstance(value, Real) and not isinstance(value, bool)
            if not real or not least <= value <= most or (open_ and value == least):
                above = f"above {least:g}" if open_ else f"from {least:g}"
                raise TrainingError(f"TrainingConfig.{name} is {value!r}; wanted a number {above} to {most:g}")
        for name in ("use_adaptive_lr", "sample_weights"):
            if not isinstance(getattr(self, name), bool):
                raise TrainingError(f"TrainingConfig.{name} is {getattr(self, name)!r}; wanted True or False")
        if self.learning_rate_min > self.learning_rate_initial:
            raise TrainingError(
                f"TrainingConfig.learning_rate_min is {self.learning_rate_min!r}; wanted at most "
                f"learning_rate_initial, {self.learning_rate_initial!r}"
            )
        if self.loss is not None and self.loss not in get_args(LossName):
            raise TrainingError(f"TrainingConfig.loss: {unknown('loss', self.loss, get_args(LossName))}")
        if self.executor not in get_args(Executor):
            raise TrainingError(f"TrainingConfig.executor: {unknown('executor', self.executor, get_args(Executor))}")
