"""Networks by name: built, described as JSON, and built again from it.

Compile with `model.compile()`, which keeps the object that is in the table; `torch.compile(model)` returns another one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from trading_bot.errors import ConfigurationError, unknown
from trading_bot.models.ensemble import MEMBERS, EnsembleConfig, EnsembleForecaster
from trading_bot.models.sizes import Architecture, configured
from trading_bot.models.time_llm import TimeLLM, TimeLLMConfig

MODELS = MEMBERS | {
    "ensemble": Architecture(EnsembleConfig, EnsembleForecaster),
    "time_llm": Architecture(TimeLLMConfig, TimeLLM),
}  # the TRM's output is no return: it has a builder of its own


def build_model(name: str, **sizes: Any) -> nn.Module:
    """A network of this name, with PyTorch's global seed deciding its first weights.

    Parameters
    ----------
    name : of `MODELS`, in capitals or not
    sizes : fields of its configuration that differ from their defaults; `time` and `features` are common to all

    Raises
    ------
    ConfigurationError
        If there is no such network or size (the message names the nearest and lists all), or a size is out of range.
    """
    entry = MODELS.get(str(name).lower())
    if entry is None:
        raise ConfigurationError(unknown("model", name, MODELS))
    return entry.module(configured(entry.config, sizes))


def model_config(model: nn.Module) -> dict[str, Any]:
    """The name and all sizes of a network, as JSON has them: `rebuild` makes an equal one.

    Raises
    ------
    ConfigurationError
        If it is not a network of the table.
    """
    for name, entry in MODELS.items():
        if type(model) is entry.module:
            sizes: dict[str, Any] = json.loads(json.dumps(vars(model.config)))  # tuples become lists
            return {"name": name, **sizes}
    raise ConfigurationError(
        f"{type(model).__name__} cannot be described; wanted a network that build_model made: {', '.join(MODELS)}"
    )


def rebuild(config: Mapping[str, Any]) -> nn.Module:
    """A new network of the architecture that `model_config` described; its weights are random.

    Raises
    ------
    ConfigurationError
        If there is no name in it, or as `build_model` does.
    """
    if not isinstance(config, Mapping) or "name" not in config:
        raise ConfigurationError(f"found {config!r}; wanted a model's name and sizes, as model_config returns them")
    return build_model(**config)


def label_of(model: nn.Module) -> str | None:
    """What has to be told wherever a network's results are told: of Time-LLM, which language model reads for it."""
    label = getattr(model, "label", None)
    return label if isinstance(label, str) else None  # somebody's own network may call anything so


def count_parameters(model: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
