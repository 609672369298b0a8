"""The curves of a training for TensorBoard; the extra `[tensorboard]`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trading_bot.errors import ConfigurationError


def load_tensorboard() -> Any:
    """PyTorch's module that writes for it.

    Raises
    ------
    ConfigurationError
        If TensorBoard is not installed.
    """
    try:
        return importlib.import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise ConfigurationError(
            f"TensorBoard is not installed ({error}); pip install 'trading-bot[tensorboard]', or leave it out"
        ) from None


class TensorBoardLog:
    """Writes every epoch's numbers; give its `write` to `Trainer.on_epoch`.

    Raises
    ------
    ConfigurationError
        If TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        self._writer = load_tensorboard().SummaryWriter(str(folder))

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """One epoch's numbers, the epoch counted from 0."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
