"""The one input contract of all networks."""

from __future__ import annotations

import torch

from trading_bot.errors import TrainingError


def check_batch(x: torch.Tensor, row: tuple[int, ...], training: bool) -> None:
    """Refuse what is not a float32 batch of rows of this shape.

    Shapes and types alone are looked at, which costs about a microsecond and leaves one graph to `torch.compile`.
    Whether the numbers are finite is the data set's concern: it is asked once there, not at every step here.

    Parameters
    ----------
    x : (B, *row)
    row : such as (time, features)
    training : whether BatchNorm will take its statistics from this batch, which one row alone does not have

    Raises
    ------
    TrainingError
        With the shape and type that were found, those that were wanted, and what to do.
    """
    if not isinstance(x, torch.Tensor):
        raise TrainingError(
            f"a network takes a torch.Tensor, found {type(x).__name__}; convert it with torch.as_tensor"
        )
    if x.shape[1:] != row or x.shape[0] < 1:
        raise TrainingError(f"found an input of shape {tuple(x.shape)}; wanted {_wanted(row)}{_advice(x, row)}")
    if x.dtype != torch.float32:
        raise TrainingError(f"found an input of {x.dtype}; wanted torch.float32: convert it with x.float()")
    if training and x.shape[0] < 2:
        raise TrainingError(
            "found 1 row to train on; BatchNorm needs at least 2: merge the last batch into the one before it, "
            "or call eval() for a forecast"
        )


def _wanted(row: tuple[int, ...]) -> str:
    return f"(batch, {', '.join(map(str, row))}) with a batch of at least 1"


def _advice(x: torch.Tensor, row: tuple[int, ...]) -> str:
    """What to do about the commonest mistakes."""
    if tuple(x.shape) == row:
        return ": a single one becomes a batch with x[None]"
    if x.ndim == 3 and tuple(x.shape[1:]) == row[::-1]:
        return ": the candles come before the features, x.transpose(1, 2) puts them there"
    if x.ndim == len(row) + 1 and x.shape[0]:
        return ": build the model with these sizes or cut the input to the model's"
    return ""
