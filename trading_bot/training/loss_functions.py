"""Every loss by name, and the ready-made combinations.

>>> loss = create_loss_function("sharpe")
>>> value = loss(predictions, targets)                  # a float32 scalar, to be minimised

A name is a factory name or a class name, with or without its `Loss`; case, `_` and `-` do not count. `robust` and
`directional` name both a loss and a preset: those presets are these losses and nothing else, so that one name has one
meaning.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from trading_bot.errors import TrainingError, unknown
from trading_bot.training.combined_loss import CombinedLoss
from trading_bot.training.direction_losses import (
    AsymmetricLoss,
    DirectionalAccuracyLoss,
    DLFLoss,
    MADLLoss,
    madl,
)
from trading_bot.training.loss_frame import Loss
from trading_bot.training.pointwise_losses import HuberLoss, MAELoss, MSELoss, QuantileLoss, RobustLoss
from trading_bot.training.position_losses import ReturnVolatilityLoss, SharpeRatioLoss, TradingLoss

LOSSES: Mapping[str, type[Loss]] = MappingProxyType(
    {
        "mse": MSELoss,
        "mae": MAELoss,
        "huber": HuberLoss,
        "quantile": QuantileLoss,
        "directional": DirectionalAccuracyLoss,
        "sharpe": SharpeRatioLoss,
        "return_volatility": ReturnVolatilityLoss,
        "combined": CombinedLoss,
        "DLF": DLFLoss,
        "TRADING_LOSS": TradingLoss,
        "SHARPE_LOSS": SharpeRatioLoss,
        "ROBUST": RobustLoss,
        "ASYMMETRIC": AsymmetricLoss,
        "MADL": MADLLoss,
    }
)

# Weights of losses in units of σ, so that they compare as they stand. A loss of positions alone knows no magnitude, so
# each combination that has one also has a loss of the error.
LOSS_PRESETS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "regression": MappingProxyType({"mse": 0.7, "mae": 0.3}),
        "robust": MappingProxyType({"ROBUST": 1.0}),
        "financial": MappingProxyType({"sharpe": 0.4, "TRADING_LOSS": 0.4, "mse": 0.2}),
        "directional": MappingProxyType({"directional": 1.0}),
        "volatility_aware": MappingProxyType({"return_volatility": 0.5, "huber": 0.5}),
    }
)


def create_loss_function(name: str, **options: Any) -> Loss:
    """The loss, or the preset, of that name.

    Parameters
    ----------
    name : see the head of this file
    options : arguments of its class. `losses` of a combined one may name them: {"dlf": "DLF"}. A preset hands each
        option to those of its parts that know it

    Raises
    ------
    TrainingError
        If the name or an option is unknown, or as the class does.
    """
    key = _plain(name)
    if key in _CLASSES:
        return _made(_CLASSES[key], options)
    if key in _PRESETS:
        return _preset(LOSS_PRESETS[_PRESETS[key]], options)
    raise TrainingError(unknown("loss", name, dict.fromkeys([*LOSSES, *LOSS_PRESETS])))


def _made(kind: type[Loss], options: Mapping[str, Any]) -> Loss:
    known = inspect.signature(kind).parameters
    for option in options:
        if option not in known:
            raise TrainingError(unknown(f"argument of {kind.__name__}", option, known))
    if missing := [p.name for p in known.values() if p.default is p.empty and p.name not in options]:
        ready = f"; ready-made are {', '.join(LOSS_PRESETS)}" if kind is CombinedLoss else ""
        raise TrainingError(
            f"{kind.__name__} needs the argument {', '.join(missing)}; it takes {', '.join(known)}{ready}"
        )
    given = dict(options)
    if kind is CombinedLoss and isinstance(given["losses"], Mapping):
        given["losses"] = {
            name: create_loss_function(loss) if isinstance(loss, str) else loss
            for name, loss in given["losses"].items()
        }
    return kind(**given)


def _preset(weights: Mapping[str, float], options: Mapping[str, Any]) -> Loss:
    known = {name: inspect.signature(LOSSES[name]).parameters for name in weights}
    accepted = dict.fromkeys(option for options_known in known.values() for option in options_known)
    for option in options:
        if option not in accepted:
            raise TrainingError(unknown("argument of the preset's losses", option, accepted))
    losses = {
        name: LOSSES[name](**{option: value for option, value in options.items() if option in known[name]})
        for name in weights
    }
    return CombinedLoss(losses, weights)


def _plain(name: object) -> str:
    """A name as it is looked up: small letters and digits, without a final "loss"."""
    return str(name).lower().replace("_", "").replace("-", "").removesuffix("loss")


_CLASSES = {_plain(name): kind for each, kind in LOSSES.items() for name in (each, kind.__name__)}
_PRESETS = {_plain(name): name for name in LOSS_PRESETS}

__all__ = [
    "LOSSES",
    "LOSS_PRESETS",
    "AsymmetricLoss",
    "CombinedLoss",
    "DLFLoss",
    "DirectionalAccuracyLoss",
    "HuberLoss",
    "Loss",
    "MADLLoss",
    "MAELoss",
    "MSELoss",
    "QuantileLoss",
    "ReturnVolatilityLoss",
    "RobustLoss",
    "SharpeRatioLoss",
    "TradingLoss",
    "create_loss_function",
    "madl",
]
