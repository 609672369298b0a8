"""What every loss shares: its arguments, its scale, float32, and the check of its one number.

Symbols, here and beside it: y the target, ŷ the prediction (both per-bar returns), σ the standard deviation of the
target over the training fold, z = y / σ and ẑ = ŷ / σ.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from trading_bot.errors import TrainingError

SIGMA_LEAST, SIGMA_MOST = 1e-12, 1e12
FAR = 1e15  # σ: its square, summed over a hundred million numbers, is still a float32


class Loss(nn.Module, ABC):
    """A number to minimise: `loss(predictions, targets)`.

    Predictions and targets are floating point of shape (B, H); (B,) and (B, H, 1) will do, and the two need not be
    written the same way. What is not float32 is cast to it, and the formula is computed in float32 under autocast too.
    The result is a float32 scalar with a gradient towards the predictions alone.

    Where the formula overflows float32 though all arguments are finite, it is computed with ŷ and y held within
    ±1e15 σ; the gradient passes through that limit, so that it is finite and still points home.

    Attributes
    ----------
    sigma : buffer of shape (), σ; kept with the weights in a checkpoint
    additive : whether it averages over samples. One that does not (a Sharpe ratio) needs batches of some size
    heads : numbers predicted per target, 1 unless it takes several quantiles

    Raises
    ------
    TrainingError
        If the shapes differ, the batch is empty, the predictions are whole numbers, or NaN or infinity is among the
        arguments. Only a result that is not finite makes it look for the cause: on an accelerator that is one wait for
        one number per call.
    """

    additive: bool = True
    saturates: bool = False  # whether its formula would hide an infinite prediction
    heads: int = 1
    sigma: Tensor

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("sigma", torch.tensor(_checked_sigma(sigma)))

    def fit_scale(self, targets: object) -> float:
        """Set σ to the standard deviation of `targets`, the training fold's alone, of any shape; returns it."""
        numbers = torch.as_tensor(targets).detach().to(torch.float64)
        if numbers.numel() < 2:
            raise TrainingError(f"{numbers.numel()} targets have no standard deviation; at least 2 are needed")
        require_finite("targets", numbers)
        spread = float(numbers.std(correction=0))
        if not SIGMA_LEAST <= spread <= SIGMA_MOST:
            raise TrainingError(
                f"the targets have a standard deviation of {spread:g}; wanted {SIGMA_LEAST:g} to {SIGMA_MOST:g}: "
                f"give targets that vary, or set sigma yourself"
            )
        self.set_scale(spread)
        return spread

    def set_scale(self, sigma: float) -> None:
        """Set σ itself, in the target's units."""
        with torch.no_grad():
            self.sigma.fill_(_checked_sigma(sigma))

    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """The loss, a float32 scalar."""
        loss = self.checked(predictions, targets)
        self.settle()
        return loss

    def checked(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """`forward` but for what the loss learns from a batch."""
        y_hat, y = agree(predictions, targets, self.heads)
        device = y_hat.device.type
        with torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext():
            single_hat, single = y_hat.float(), y.float()
            loss = self.measure(single_hat, single)
            witness = loss.detach() + (single_hat.detach() - single).sum() if self.saturates else loss
            if math.isfinite(witness.item()):
                return loss
            return self._overflowed(y_hat, y)

    @abstractmethod
    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        """The formula: float32 tensors of one shape, (B,) or (B, H), in; a scalar, finite or not, out."""

    def measure_within(self, y_hat: Tensor, y: Tensor) -> Tensor:
        """The formula with both arguments, finite but of any size, held within ±1e15 σ."""
        limit = FAR * float(self.sigma)
        return self.measure(_within(y_hat, limit), _within(y, limit))

    def settle(self) -> None:
        """Keep what the last batch taught; called once its result is known to be finite."""

    def scaled(self, y_hat: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """ẑ and z."""
        per_sigma = self.sigma.reciprocal()
        return y_hat * per_sigma, y * per_sigma

    def _overflowed(self, y_hat: Tensor, y: Tensor) -> Tensor:
        require_finite("predictions", y_hat)
        require_finite("targets", y)
        loss = self.measure_within(y_hat, y)
        if not math.isfinite(loss.item()):
            raise TrainingError(
                f"{type(self).__name__} is {loss.item()} of finite predictions and targets; "
                f"look at its settings and at sigma, which is {float(self.sigma):g}"
            )
        return loss


def agree(predictions: Tensor, targets: Tensor, heads: int = 1) -> tuple[Tensor, Tensor]:
    """Both with one shape, (B,) or (B, H), on one device; with several heads the predictions (B, H, heads)."""
    for name, given in (("predictions", predictions), ("targets", targets)):
        if not isinstance(given, Tensor):
            raise TrainingError(
                f"{name} are a {type(given).__name__}; wanted a torch.Tensor: torch.as_tensor makes one"
            )
    if not predictions.is_floating_point():
        raise TrainingError(
            f"predictions are {predictions.dtype}; wanted floating point: nothing can be learned through other numbers"
        )
    if targets.is_complex():
        raise TrainingError(f"targets are {targets.dtype}; wanted real numbers")
    if predictions.device != targets.device:
        raise TrainingError(
            f"predictions are on {predictions.device}, targets on {targets.device}; move both to the same device"
        )
    if heads > 1:
        y_hat, y = predictions, _rows(targets)
        fits = y_hat.ndim == 3 and y_hat.shape == (*y.shape, heads)
    else:
        y_hat, y = predictions, targets
        if y_hat.shape != y.shape or not 1 <= y_hat.ndim <= 2:
            y_hat, y = _rows(predictions), _rows(targets)
        fits = y_hat.shape == y.shape and 1 <= y_hat.ndim <= 2
    if not fits:
        raise TrainingError(_shapes(predictions, targets, heads))
    if y_hat.numel() == 0:
        raise TrainingError(f"predictions of shape {tuple(predictions.shape)} are an empty batch; leave it out")
    return y_hat, y.detach() if y.requires_grad else y


def require_finite(name: str, numbers: Tensor) -> None:
    """Raise a TrainingError that says where `numbers` holds NaN or infinity, if it does."""
    finite = torch.isfinite(numbers)
    if bool(finite.all()):
        return
    where = (~finite).nonzero()[0].tolist()
    found = "NaN" if math.isnan(numbers[tuple(where)].item()) else "infinity"
    raise TrainingError(
        f"{name} hold {found} in row {where[0]} ({int((~finite).sum())} of {finite.numel()} numbers are not finite); "
        f"drop or repair such rows before they come here"
    )


def positive(name: str, number: float) -> float:
    """`number` as a float, if it is finite and above 0."""
    if not (is_number(number) and 0 < number < math.inf):
        raise TrainingError(f"{name} is {number!r}; wanted a finite number above 0")
    return float(number)


def at_least_one(settings: object, names: Sequence[str]) -> None:
    """Refuse settings whose fields of these names are not whole numbers ≥ 1."""
    for name in names:
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise TrainingError(f"{name} is {value!r}; wanted a whole number ≥ 1")


def within(name: str, number: float, least: float, most: float) -> float:
    """`number` as a float, if it is in [least, most]."""
    if not (is_number(number) and least <= number <= most):
        raise TrainingError(f"{name} is {number!r}; wanted a number from {least:g} to {most:g}")
    return float(number)


def is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool)


def _checked_sigma(sigma: float) -> float:
    return within("sigma", sigma, SIGMA_LEAST, SIGMA_MOST)


def _rows(given: Tensor) -> Tensor:
    """(B,) and (B, H, 1) as (B, H); other shapes as they are."""
    if given.ndim == 1:
        return given.unsqueeze(1)
    return given.squeeze(2) if given.ndim == 3 and given.shape[2] == 1 else given


def _within(numbers: Tensor, limit: float) -> Tensor:
    """Clamped, in float32, with the gradient passed through: x − x is 0, and its derivative 1."""
    exact = numbers if numbers.dtype == torch.float64 else numbers.float()
    return (exact.detach().clamp(-limit, limit) + (exact - exact.detach())).float()


def _shapes(predictions: Tensor, targets: Tensor, heads: int) -> str:
    found = f"predictions have shape {tuple(predictions.shape)}, targets {tuple(targets.shape)}; "
    if heads > 1:
        return f"{found}wanted predictions (batch, horizon, {heads}), one per quantile, and targets (batch, horizon)"
    return f"{found}wanted the same (batch, horizon); (batch,) and (batch, horizon, 1) will do"
