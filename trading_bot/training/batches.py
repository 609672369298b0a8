"""Whether the batches a trainer is given are large enough for its model and its loss."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from torch import nn

from trading_bot.errors import TrainingError

LEAST = 8  # rows below which a batch statistic (a Sharpe ratio) means nothing
FEW = 64  # … and below which it is told that it means little
_NORMS = (nn.modules.batchnorm._BatchNorm,)


def check_batches(model: nn.Module, train: Iterable[Any], val: Iterable[Any], loss_fn: Any) -> None:
    """Refuse what cannot be trained on; let a loader of ours join a last batch that is too small to the one before.

    Raises
    ------
    TrainingError
    """
    statistic, wanted = _statistic(loss_fn), least_rows(model, loss_fn)
    for name, loader in (("training", train), ("validation", val)):
        if not _length(loader):
            raise TrainingError(f"the {name} loader is empty or has no length; wanted at least one batch of (X, y)")
    rows = _length(getattr(train, "sampler", getattr(train, "dataset", ())))  # a sampler may take a part of the rows
    size = getattr(train, "batch_size", None)
    if size is None or not rows:
        return  # somebody's own iterable: its batches are looked at when they come
    check_size(model, loss_fn, min(size, rows))
    if hasattr(train, "least"):
        train.least = wanted
    elif 0 < rows % size < wanted and not getattr(train, "drop_last", False):
        raise TrainingError(
            f"the last batch would have {rows % size} rows, fewer than the {wanted} needed; pass drop_last=True to the "
            "DataLoader, or use create_data_loaders, which joins it to the one before"
        )
    if statistic and min(size, rows) < FEW:
        warnings.warn(
            f"{describe_loss(loss_fn)} is a statistic of the batch, and {min(size, rows)} rows a batch make a noisy "
            f"one; {FEW} or more are better",
            stacklevel=3,
        )


def check_size(model: nn.Module, loss_fn: Any, rows: int) -> None:
    """Refuse batches of so many rows if they are too few.

    Raises
    ------
    TrainingError
    """
    if rows < (wanted := least_rows(model, loss_fn)):
        statistic = _statistic(loss_fn)
        why = f"{describe_loss(loss_fn)} is a statistic of the batch" if statistic else "the model has BatchNorm"
        raise TrainingError(
            f"batches have {rows} rows; wanted at least {wanted}, for {why}: raise batch_size or load more"
        )


def least_rows(model: nn.Module, loss_fn: Any) -> int:
    """How many rows a batch needs at least."""
    if _statistic(loss_fn):
        return LEAST
    return 2 if any(isinstance(part, _NORMS) for part in model.modules()) else 1


def _statistic(loss_fn: Any) -> bool:
    """Whether the loss is one number of the batch rather than a mean over its rows."""
    return not getattr(loss_fn, "additive", True)


def _length(loader: Any) -> int:
    """How many it holds; 0 if it cannot tell, as PyTorch's loader of an IterableDataset cannot."""
    try:
        return len(loader)
    except TypeError:
        return 0


def describe_loss(loss_fn: Any) -> str:
    """A loss's name for people."""
    return (
        type(loss_fn).__name__ if isinstance(loss_fn, nn.Module) else getattr(loss_fn, "__name__", str(type(loss_fn)))
    )
