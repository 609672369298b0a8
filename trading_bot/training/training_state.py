"""A training in the middle, on disk: enough to go on bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trading_bot.errors import CheckpointError
from trading_bot.training.checkpoint_file import read_checkpoint, write_checkpoint

KIND = "training state"
_TENSOR = "__tensor__"


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write nested dicts and lists of tensors, numbers and text.

    Raises
    ------
    CheckpointError
        If something in it is neither (a scheduler with a function of its own, say), or the file cannot be written.
    """
    tensors: dict[str, torch.Tensor] = {}
    try:
        facts = {"kind": KIND, "state": _flat(dict(state), "", tensors)}
        json.dumps(facts)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"this training cannot be saved to be resumed: {error}; wanted states of tensors, numbers and text"
        ) from None
    write_checkpoint(path, tensors, facts)


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote, tensors on the CPU.

    Raises
    ------
    CheckpointError
        If the file is absent, damaged, or no state of a training.
    """
    tensors, facts = read_checkpoint(path)
    if facts.get("kind") != KIND:
        raise CheckpointError(f"{path} is no state of a training but a {facts.get('kind', 'model')}; wanted the former")
    state: dict[str, Any] = _nested(facts["state"], tensors)
    return state


def _flat(value: Any, place: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        name = f"{len(tensors)}{place}"  # numbered: {1: …} and {"1": …} are two places of one name
        tensors[name] = value
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, bool | int | float | str):
                raise TypeError(f"{place} has a key that is a {type(key).__name__}")
        # keys may be numbers (an optimizer's parameters): pairs keep them as they are
        return {"items": [[key, _flat(item, f"{place}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        flat = [_flat(item, f"{place}/{number}", tensors) for number, item in enumerate(value)]
        return {"tuple": flat} if isinstance(value, tuple) else flat
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{place} is a {type(value).__name__}")


def _nested(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_nested(item, tensors) for item in value]
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        if "tuple" in value:
            return tuple(_nested(item, tensors) for item in value["tuple"])
        return {key: _nested(item, tensors) for key, item in value["items"]}
    return value
