"""Several losses of one batch: values, gradients at the output, and one value with a gradient made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trading_bot.training.loss_frame import Loss, require_finite


def measure(parts: Sequence[Loss], y_hat: Tensor, y: Tensor) -> tuple[list[Tensor], list[float]]:
    """Values Lᵢ, and the same as numbers, NaN where one is not finite even within limits.

    Raises
    ------
    TrainingError
        If predictions or targets themselves are not finite.
    """
    values = [part.measure(y_hat, y) for part in parts]
    numbers = torch.stack([*(value.detach() for value in values), y_hat.detach().sum(), y.sum()]).tolist()
    if all(map(math.isfinite, numbers)):
        return values, numbers[: len(parts)]
    return _measure_within(parts, values, numbers, y_hat, y)


def measure_slopes(parts: Sequence[Loss], y_hat: Tensor, y: Tensor) -> tuple[list[Tensor], list[float], Tensor]:
    """As `measure`, and ∇Lᵢ at the output: (K, numbers in ŷ). NaN too where a gradient is not finite."""
    output = y_hat.detach().requires_grad_()
    values = [part.measure(output, y) for part in parts]
    slopes = torch.stack([slope(value, output).flatten() for value in values])
    seen = [*(value.detach() for value in values), output.detach().sum(), y.sum()]
    numbers = torch.cat([torch.stack(seen), torch.linalg.vector_norm(slopes, dim=1)]).tolist()  # one wait for all
    if all(map(math.isfinite, numbers)):
        return values, numbers[: len(parts)], slopes
    again, numbers = _measure_within(parts, values, numbers, output, y)
    redone = [place for place, value in enumerate(again) if value is not values[place]]
    for place in redone:
        slopes[place] = slope(again[place], output).flatten()
    sound = torch.isfinite(slopes).all(dim=1).tolist()
    return again, [number if good else math.nan for number, good in zip(numbers, sound, strict=True)], slopes


def slope(value: Tensor, output: Tensor) -> Tensor:
    """∂value / ∂output; 0 where it does not depend on it."""
    if not value.requires_grad:
        return torch.zeros_like(output)
    (gradient,) = torch.autograd.grad(value, output)
    return gradient


def total(values: Sequence[Tensor], numbers: Sequence[float], factors: Sequence[float]) -> Tensor:
    """Σ fᵢ·Lᵢ over those that are finite."""
    kept = finite(numbers)
    if not kept:
        return values[0].new_zeros(())
    stacked = torch.stack([values[place] for place in kept])
    return (stacked * torch.tensor([factors[place] for place in kept], device=stacked.device)).sum()


def joined(
    y_hat: Tensor, values: Sequence[Tensor], numbers: Sequence[float], slopes: Tensor, factors: Sequence[float]
) -> Tensor:
    """Σ fᵢ·Lᵢ over those that are finite, with Σ fᵢ·∇Lᵢ as its gradient at the output: one way back for all."""
    kept = finite(numbers)
    flat = slopes if len(kept) == len(numbers) else slopes[kept]
    gradient = torch.tensor([factors[place] for place in kept], device=y_hat.device) @ flat
    value = total([each.detach() for each in values], numbers, factors)
    loss: Tensor = _Joined.apply(y_hat, gradient.view_as(y_hat), value)  # type: ignore[no-untyped-call]
    return loss


def finite(numbers: Sequence[float]) -> list[int]:
    """The places of the finite ones."""
    return [place for place, number in enumerate(numbers) if math.isfinite(number)]


class _Joined(torch.autograd.Function):
    """A value whose gradient towards the prediction is known already."""

    @staticmethod
    def forward(ctx: Any, y_hat: Tensor, gradient: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return outer * gradient, None, None


def _measure_within(
    parts: Sequence[Loss], values: list[Tensor], numbers: Sequence[float], y_hat: Tensor, y: Tensor
) -> tuple[list[Tensor], list[float]]:
    require_finite("predictions", y_hat)
    require_finite("targets", y)
    again = list(values)
    for place, part in enumerate(parts):
        if not math.isfinite(numbers[place]):
            again[place] = part.measure_within(y_hat, y)
    found = [value.item() for value in again]
    return again, [number if math.isfinite(number) else math.nan for number in found]
