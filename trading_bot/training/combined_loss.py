"""Several losses as one."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trading_bot.errors import TrainingError, unknown
from trading_bot.training.loss_frame import Loss, is_number

SCALE_LEAST = 1e-6


class CombinedLoss(Loss):
    """Σ wᵢ·Lᵢ/sᵢ.

    Weights are normalised to sum to 1; scales are 1 until they are set or measured, and keep units from deciding what
    a weight is worth. Both are buffers, saved with the model; so is the σ of every part, which `fit_scale` sets in all.

    Parameters
    ----------
    losses : by a name of the caller's
    weights : not negative, one for each loss; equal if left out
    scales : above 0, one for each loss
    sigma : of all parts; left out, each keeps its own

    Raises
    ------
    TrainingError
        If a weight or scale is missing, unknown or out of range, a name cannot be used, or the losses want heads of
        different width.
    """

    _weights: Tensor
    _scales: Tensor
    _last: Tensor

    def __init__(
        self,
        losses: Mapping[str, Loss],
        weights: Mapping[str, float] | None = None,
        scales: Mapping[str, float] | None = None,
        sigma: float | None = None,
    ) -> None:
        super().__init__(1.0 if sigma is None else sigma)
        _check_parts(losses)
        self.parts = nn.ModuleDict(losses)
        self.names = tuple(losses)
        parts = self._parts()
        self.heads = parts[0].heads
        self.additive = all(part.additive for part in parts)
        self.saturates = all(part.saturates for part in parts)
        count = len(parts)
        self.register_buffer("_weights", torch.full((count,), 1.0 / count))
        self.register_buffer("_scales", torch.ones(count))
        self.register_buffer("_last", torch.full((count,), math.nan), persistent=False)
        if weights is not None:
            self.set_weights(weights)
        if scales is not None:
            self.set_scales(scales)
        if sigma is not None:
            self.set_scale(sigma)

    @property
    def weights(self) -> dict[str, float]:
        """wᵢ by name; they sum to 1."""
        return self._by_name(self._weights)

    @property
    def scales(self) -> dict[str, float]:
        """sᵢ by name."""
        return self._by_name(self._scales)

    @property
    def components(self) -> dict[str, float]:
        """Lᵢ of the last forward by name, neither weighted nor scaled; NaN before the first."""
        return self._by_name(self._last)

    def set_weights(self, weights: Mapping[str, float]) -> None:
        """Set all wᵢ, in any unit: they are divided by their sum."""
        numbers = self._ordered("weight", weights, 0.0)
        total = sum(numbers)
        if not 0 < total < math.inf:
            raise TrainingError(f"the weights sum to {total}; wanted a finite number above 0")
        self._weights.copy_(torch.tensor([number / total for number in numbers]))

    def set_scales(self, scales: Mapping[str, float]) -> None:
        """Set all sᵢ."""
        self._scales.copy_(torch.tensor(self._ordered("scale", scales, SCALE_LEAST)))

    def calibrate(self, predictions: Tensor, targets: Tensor) -> dict[str, float]:
        """Set each sᵢ to |Lᵢ| of this batch, at least 1e-6, so that all parts are of size 1 there; returns them."""
        with torch.no_grad():
            self.checked(predictions, targets)
        self._scales.copy_(self._last.abs().clamp_min(SCALE_LEAST))
        return self.scales

    def set_scale(self, sigma: float) -> None:
        super().set_scale(sigma)
        for part in self._parts():
            part.set_scale(sigma)

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        return self._sum([part.measure(y_hat, y) for part in self._parts()])

    def measure_within(self, y_hat: Tensor, y: Tensor) -> Tensor:
        return self._sum([part.measure_within(y_hat, y) for part in self._parts()])

    def settle(self) -> None:
        for part in self._parts():
            part.settle()

    def _sum(self, values: list[Tensor]) -> Tensor:
        stacked = torch.stack(values)  # (K,)
        self._last = stacked.detach()
        return (stacked * (self._weights / self._scales)).sum()

    def _parts(self) -> list[Loss]:
        return [part for part in self.parts.values() if isinstance(part, Loss)]

    def _by_name(self, numbers: Tensor) -> dict[str, float]:
        return dict(zip(self.names, numbers.tolist(), strict=True))

    def _ordered(self, kind: str, given: Mapping[str, float], least: float) -> list[float]:
        """The numbers in the order of the losses, each at least `least`."""
        for name, number in given.items():
            if name not in self.names:
                raise TrainingError(unknown(f"loss in the {kind}s", name, self.names))
            if not (is_number(number) and least <= number < math.inf):
                raise TrainingError(f"the {kind} of {name!r} is {number!r}; wanted a finite number ≥ {least:g}")
        if missing := [name for name in self.names if name not in given]:
            raise TrainingError(f"no {kind} for {', '.join(missing)}; wanted one for each of {', '.join(self.names)}")
        return [float(given[name]) for name in self.names]


def _check_parts(losses: Mapping[str, Loss]) -> None:
    if not losses:
        raise TrainingError("there are no losses to combine; give at least one, by name")
    for name, loss in losses.items():
        if not isinstance(name, str) or not name or "." in name or hasattr(nn.ModuleDict, name):
            raise TrainingError(f"a combined loss cannot call its part {name!r}; wanted a plain word such as 'mse'")
        if not isinstance(loss, Loss):
            raise TrainingError(
                f"the loss {name!r} is a {type(loss).__name__}; wanted one of this package's or a subclass of its Loss"
            )
    heads = {name: loss.heads for name, loss in losses.items()}
    if len(set(heads.values())) > 1:
        found = ", ".join(f"{name} {count}" for name, count in heads.items())
        raise TrainingError(f"the losses want different numbers per target ({found}); combine those that agree")
