"""Training rows set aside, and how well each loss serves a fixed metric there."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, Subset

from trading_bot.errors import TrainingError
from trading_bot.training.adaptive_loss_measure import slope
from trading_bot.training.batches import LEAST
from trading_bot.training.data_loaders import BatchLoader
from trading_bot.training.loss_frame import Loss, agree
from trading_bot.training.weight_policies.policy import Alignment

SHARE = 0.2  # of the training rows, the newest
ROWS = 64  # of an inner-validation batch

Batch = tuple[Tensor, Tensor]
Numbered = Callable[[int], Batch]


def alignment(model: nn.Module, batch: Batch, metric: Loss, losses: Sequence[Loss]) -> Alignment:
    """The metric on a batch, and cos(∇θ metric, ∇θ Lᵢ) of each loss there.

    The model is in evaluation mode meanwhile: neither its running statistics nor any chance is touched. A loss whose
    gradient is 0 or not finite has cosine 0.
    """
    X, y = batch
    modules = [*model.modules(), *(module for loss in (metric, *losses) for module in loss.modules())]
    modes = [(module, module.training) for module in modules]
    for module in modules:
        module.training = False
    try:
        with torch.backends.cudnn.flags(enabled=False) if X.is_cuda else nullcontext():  # its LSTM has no gradient then
            prediction = model(X)
            output = prediction.detach().requires_grad_()
            y_hat, y = agree(output, y, metric.heads)
            values = [loss.measure(y_hat.float(), y.float()) for loss in (metric, *losses)]
            slopes = [slope(value, output) for value in values]
            gradients = _through(model, prediction, slopes)
    finally:
        for module, training in modes:
            module.training = training
    units = nn.functional.normalize(gradients, dim=1)
    found = (units[1:] @ units[0]).tolist()
    cosines = tuple(min(1.0, max(-1.0, cosine)) if math.isfinite(cosine) else 0.0 for cosine in found)
    return Alignment(float(values[0].detach()), cosines)


def set_aside(loader: Iterable[Any], gap: int, device: torch.device) -> tuple[Iterable[Any], Numbered]:
    """The loader without the newest fifth of its rows, and batches of those, by number.

    Each batch takes every so-many-th of the rows set aside, about 64 of them; after the last comes the first again.

    Parameters
    ----------
    loader : ours, PyTorch's with its usual samplers, or a list of batches
    gap : rows purged between the two: the label's horizon (of a list of batches none)

    Raises
    ------
    TrainingError
        If it is another kind, or a part would have fewer than 8 rows.
    """
    if isinstance(loader, BatchLoader):
        older, rows = _cut(len(loader.dataset), gap)
        part = copy.copy(loader)
        part.dataset = copy.copy(loader.dataset)
        part.dataset.y = loader.dataset.y[:older]  # a dataset is as long as its targets
        return part, _numbered(loader.dataset.batch, rows, device)
    if isinstance(loader, DataLoader):
        return _of_torch(loader, gap, device)
    if isinstance(loader, list) and len(loader) > 1:
        held = max(1, round(len(loader) * SHARE))
        kept: list[Batch] = loader[-held:]
        return loader[:-held], lambda number: _on(device, kept[number % held])
    raise TrainingError(
        f"the training loader is a {type(loader).__name__}; wanted one of create_data_loaders, PyTorch's DataLoader or "
        "a list of at least two batches, so that its newest rows can be set aside"
    )


def _of_torch(loader: DataLoader[Any], gap: int, device: torch.device) -> tuple[Iterable[Any], Numbered]:
    sampler = loader.sampler
    if loader.batch_size is None or type(sampler) not in (RandomSampler, SequentialSampler):
        raise TrainingError(
            f"the training loader draws by a {type(sampler).__name__}; wanted shuffle=True or False, so that its "
            "newest rows can be set aside"
        )
    data: Any = loader.dataset
    older, rows = _cut(len(data), gap)
    collate: Callable[[list[Any]], Batch] = loader.collate_fn
    part: DataLoader[Any] = DataLoader(
        Subset(data, range(older)), loader.batch_size, shuffle=isinstance(sampler, RandomSampler),
        drop_last=loader.drop_last, collate_fn=collate, num_workers=loader.num_workers, generator=loader.generator,
    )  # fmt: skip
    return part, _numbered(lambda chosen: collate([data[int(row)] for row in chosen]), rows, device)


def _cut(count: int, gap: int) -> tuple[int, Any]:
    """How many rows are left to train on, and the numbers of those set aside."""
    held = round(count * SHARE)
    older = count - held - gap
    if min(held, older) < LEAST:
        raise TrainingError(
            f"{count} training rows, of which {held} are set aside and {gap} purged, leave {max(0, older)}; wanted at "
            f"least {LEAST} on both sides: load more, or choose a strategy that sets none aside"
        )
    return older, np.arange(count - held, count)


def _numbered(take: Callable[[Any], Batch], rows: Any, device: torch.device) -> Numbered:
    count = max(1, len(rows) // ROWS)
    return lambda number: _on(device, take(rows[number % count :: count]))


def _on(device: torch.device, batch: Batch) -> Batch:
    return batch[0].to(device), batch[1].to(device)


def _through(model: nn.Module, prediction: Tensor, slopes: Sequence[Tensor]) -> Tensor:
    """Each slope at the output carried to the parameters: (len(slopes), number of parameters)."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rows = []
    for place, begin in enumerate(slopes):
        found = torch.autograd.grad(
            prediction, parameters, begin, retain_graph=place + 1 < len(slopes), allow_unused=True,
            materialize_grads=True,
        )  # fmt: skip
        rows.append(torch.cat([gradient.flatten() for gradient in found]))
    return torch.stack(rows)
