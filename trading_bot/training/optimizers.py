"""Optimizers and learning-rate schedules by name; the fused kernel where there is one."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, ReduceLROnPlateau, StepLR

from trading_bot.errors import TrainingError, unknown

_FUSED_DEVICES = ("cpu", "cuda", "mps")

OPTIMIZERS: dict[str, tuple[Callable[..., Optimizer], Mapping[str, Any]]] = {  # name → class, defaults beside PyTorch's
    "adam": (Adam, {"fused": True}),
    "adamw": (AdamW, {"fused": True}),
    "sgd": (SGD, {"momentum": 0.9, "fused": True}),
    "rmsprop": (RMSprop, {}),  # has no fused kernel
}
SCHEDULERS: dict[str, tuple[Callable[..., LRScheduler], Mapping[str, Any]]] = {
    "step": (StepLR, {"step_size": 10}),
    "cosine": (CosineAnnealingLR, {"T_max": 100}),
    "plateau": (ReduceLROnPlateau, {}),
}


def create_optimizer(
    model: nn.Module | Iterable[nn.Parameter], name: str = "adam", lr: float = 0.001, **options: Any
) -> Optimizer:
    """An optimizer over a model's parameters (or over those given) that have a gradient.

    Parameters
    ----------
    name : adam, adamw, sgd (momentum 0.9 unless given) or rmsprop; case does not matter
    lr : learning rate
    options : as of PyTorch's class, such as weight_decay

    Raises
    ------
    TrainingError
        If the name or an option is unknown, a number is out of range, or there is nothing to train.
    """
    make, defaults = _entry("optimizer", name, OPTIMIZERS)
    if isinstance(lr, bool) or not isinstance(lr, int | float) or not (0 < lr < math.inf):
        raise TrainingError(f"lr is {lr!r}; wanted a learning rate above 0, such as 0.001")
    given = model.parameters() if isinstance(model, nn.Module) else model
    parameters = [parameter for parameter in given if parameter.requires_grad]
    if not parameters:
        raise TrainingError("there is no parameter to train: wanted a model with at least one that requires a gradient")
    arguments = {**defaults, **options}
    on = {parameter.device.type for parameter in parameters}
    floats = all(torch.is_floating_point(parameter) for parameter in parameters)
    other = {"fused", "foreach", "differentiable"} & options.keys()  # another way to step was chosen
    if "fused" in defaults and "fused" not in options and (other or not (floats and on <= set(_FUSED_DEVICES))):
        del arguments["fused"]
    made: Optimizer = _made("optimizer", name, make, parameters, {"lr": float(lr), **arguments})
    return made


def create_scheduler(optimizer: Optimizer, name: str = "cosine", **options: Any) -> LRScheduler:
    """A learning-rate schedule, stepped once an epoch by `Trainer`.

    Parameters
    ----------
    name : step (every 10 epochs × 0.1), cosine (over 100 epochs) or plateau (× 0.1 after 10 epochs without improvement
        of val_loss); case does not matter
    options : as of PyTorch's class: step_size, gamma; T_max, eta_min; factor, patience

    Raises
    ------
    TrainingError
        If the name or an option is unknown or out of range.
    """
    make, defaults = _entry("scheduler", name, SCHEDULERS)
    for option in ("step_size", "T_max"):  # PyTorch divides by them, but only after the first epoch
        value = options.get(option, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise TrainingError(f"scheduler {name!r}: {option} is {value!r}; wanted a whole number of epochs ≥ 1")
    made: LRScheduler = _made("scheduler", name, make, optimizer, {**defaults, **options})
    return made


def _entry(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    entry = table.get(name.lower()) if isinstance(name, str) else None
    if entry is None:
        raise TrainingError(unknown(kind, name, table))
    return entry


def _made(kind: str, name: str, make: Callable[..., Any], subject: Any, arguments: dict[str, Any]) -> Any:
    accepted = [each for each in inspect.signature(make).parameters if each not in ("self", "params", "optimizer")]
    for option in arguments:
        if option not in accepted:
            raise TrainingError(f"{kind} {name!r}: {unknown('option', option, accepted)}")
    try:
        return make(subject, **arguments)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TrainingError(f"{kind} {name!r} cannot be made of {arguments}: {error}") from None
