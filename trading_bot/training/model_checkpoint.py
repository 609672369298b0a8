"""The best model of a training, on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from trading_bot.errors import CheckpointError, ConfigurationError, TrainingError
from trading_bot.models.registry import label_of, model_config
from trading_bot.models.time_llm_backbone import Backbone
from trading_bot.training.checkpoint_file import SUFFIX, read_checkpoint, write_checkpoint

_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".json", SUFFIX)


class ModelCheckpoint:
    """Keeps the weights whose value is best, and nothing else.

    `FILENAME.safetensors` holds weights and facts (what rebuilds the model, value, whatever is passed as metadata);
    `FILENAME.json` repeats the facts for people and is never read.

    Parameters
    ----------
    dirpath : folder, made if absent
    filename : with or without a suffix such as .pt, which is dropped
    monitor : what the value is, for the facts and for `Trainer`
    mode : whether the lowest ("min") or highest ("max") value is best

    Attributes
    ----------
    path : of the file
    best : the best value so far, None before the first
    """

    def __init__(
        self,
        dirpath: str | Path,
        filename: str = "best_model",
        monitor: str = "val_loss",
        mode: Literal["min", "max"] = "min",
    ) -> None:
        if mode not in ("min", "max"):
            raise TrainingError(f"mode is {mode!r}; wanted 'min' (losses) or 'max' (scores)")
        name = filename
        while name.endswith(_SUFFIXES):
            name = name[: name.rindex(".")]
        if not name or Path(name).name != name:
            raise TrainingError(f"filename is {filename!r}; wanted the name of a file, without a folder")
        self.path = Path(dirpath) / f"{name}{SUFFIX}"
        self.monitor = monitor
        self.mode = mode
        self.best: float | None = None

    def improves(self, value: float) -> bool:
        """Whether a value is better than the best so far; one that is not finite never is."""
        if not math.isfinite(value):
            return False
        return self.best is None or (value < self.best if self.mode == "min" else value > self.best)

    def save(self, model: nn.Module, value: float, metadata: Mapping[str, Any] | None = None) -> bool:
        """Write the model if `value` is better than any before; whether it was.

        Raises
        ------
        CheckpointError
            If the file cannot be written, or `metadata` is not what JSON can say.
        """
        if not self.improves(value):
            return False
        facts = {"monitor": self.monitor, "mode": self.mode, "value": float(value), **describe(model)}
        facts["metadata"] = dict(metadata or {})
        try:
            text = json.dumps(facts, indent=2, sort_keys=True)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"metadata is not JSON ({error}); pass numbers, text and lists") from None
        write_checkpoint(self.path, model.state_dict(), facts)
        self.best = float(value)
        beside = self.path.with_suffix(".json")
        try:
            beside.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise CheckpointError(
                f"{beside} cannot be written: {error.strerror or error}; make room or choose another folder"
            ) from error
        return True

    def load_best(self, model: nn.Module) -> dict[str, Any]:
        """Put the best weights into `model`; the facts they were saved with.

        Raises
        ------
        CheckpointError
            If there is no file, it is damaged, or it was saved from another architecture.
        """
        tensors, facts = read_checkpoint(self.path)
        load_weights(model, tensors, self.path)
        return facts


def describe(model: nn.Module) -> dict[str, Any]:
    """What rebuilds a model: its configuration, if it is one of the table's; its class, if it is somebody's own.

    And the language model that it reads with, in words, if there is one.
    """
    try:
        config = model_config(model)
    except ConfigurationError:
        config = None
    label = label_of(model)
    return {"model": config, "class": type(model).__name__, **({} if label is None else {"language_model": label})}


def load_weights(model: nn.Module, tensors: Mapping[str, torch.Tensor], source: Path) -> None:
    """`load_state_dict`, with an error that says what does not fit."""
    for path, part in model.named_modules():
        if isinstance(part, Backbone):  # before any shape, which is another one where its language model is
            try:
                part.check(tensors.get(f"{path}.fingerprint"))
            except CheckpointError as error:
                raise CheckpointError(f"{source}: {error}") from None
    wanted = model.state_dict()
    missing, strange = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    other = [name for name in wanted if name in tensors and wanted[name].shape != tensors[name].shape]
    if missing or strange or other:
        what = (
            f"lacks {missing[0]}" if missing
            else f"has {strange[0]}, which the model lacks" if strange
            else f"has {other[0]} {tuple(tensors[other[0]].shape)}, the model {tuple(wanted[other[0]].shape)}"
        )  # fmt: skip
        raise CheckpointError(f"{source} belongs to another architecture than {type(model).__name__}: it {what}")
    model.load_state_dict(dict(tensors))
