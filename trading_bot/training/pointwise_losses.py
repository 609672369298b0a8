"""Losses of the error alone, number by number: squared, absolute, Huber, pinball, and Huber with a learned width."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from trading_bot.errors import TrainingError
from trading_bot.training.loss_frame import Loss, is_number, positive, within


class MSELoss(Loss):
    """Mean (ẑ − z)²."""

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(*self.scaled(y_hat, y))


class MAELoss(Loss):
    """Mean |ẑ − z|."""

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        return F.l1_loss(*self.scaled(y_hat, y))


class HuberLoss(Loss):
    """½e² where |e| ≤ δ, δ(|e| − ½δ) beyond, e = ẑ − z; δ in σ, 1.345 for 95 % efficiency on normal errors."""

    def __init__(self, delta: float = 1.345, sigma: float = 1.0) -> None:
        super().__init__(sigma)
        self.delta = positive("delta", delta)

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        return F.huber_loss(*self.scaled(y_hat, y), delta=self.delta)


class QuantileLoss(Loss):
    """Pinball: mean max(q·u, (q − 1)·u), u = y − ŷ in the target's own units; σ has no part in it.

    It is least where ŷ is the q-quantile of y: q above ½ makes too low a prediction the dearer error.

    Parameters
    ----------
    q : number in (0, 1), or several, for predictions of shape (B, H, number of quantiles); the mean over all of them
    """

    levels: Tensor

    def __init__(self, q: float | Sequence[float] = 0.5, sigma: float = 1.0) -> None:
        super().__init__(sigma)
        levels = tuple(q) if isinstance(q, Sequence) and not isinstance(q, str) else (q,)
        if not levels or not all(is_number(level) and 0 < level < 1 for level in levels):
            raise TrainingError(f"q is {q!r}; wanted a number between 0 and 1, or several")
        self.heads = len(levels)
        self.q = float(levels[0])
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32), persistent=False)

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        if self.heads == 1:
            return pinball(y_hat, y, self.q)
        under = y.unsqueeze(2) - y_hat  # (B, H, Q)
        return torch.maximum(under * self.levels, under * (self.levels - 1.0)).mean()


class RobustLoss(Loss):
    """Huber of e = ẑ − z divided by its δ, which follows the errors: the mean over time of the 75 % quantile of |e|.

    δ is state: `delta`, a buffer that moves (by 1 − decay of the way) in training mode alone and is saved with the
    weights. Before any training a batch is measured by its own quantile. It is never under `floor`, in σ, and no
    gradient passes through it.
    """

    delta: Tensor

    def __init__(self, decay: float = 0.99, quantile: float = 0.75, floor: float = 0.05, sigma: float = 1.0) -> None:
        super().__init__(sigma)
        self.decay = within("decay", decay, 0.0, 1.0)
        self.quantile = within("quantile", quantile, 0.0, 1.0)
        self.floor = positive("floor", floor)
        self.register_buffer("delta", torch.zeros(()))  # 0: nothing seen yet
        self._next = 0.0

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        sigma = self.sigma.item()
        self._next = self._width(y_hat.detach() - y, sigma)
        delta = max(self._next, self.floor) if math.isfinite(self._next) else 1.0  # then nor is the loss finite
        # smooth_l1 is Huber / δ; in the target's units, so that the scale is one operation on the result
        return F.smooth_l1_loss(y_hat, y, beta=delta * sigma) * (1.0 / sigma)

    def settle(self) -> None:
        if self.training:
            self.delta.fill_(self._next)

    def _width(self, errors: Tensor, sigma: float) -> float:
        """What δ becomes in training, or is in evaluation, before the floor."""
        known = self.delta.item()
        if known > 0 and not self.training:
            return known
        sizes = errors.abs_().flatten().numpy(force=True)
        rank = max(math.ceil(self.quantile * sizes.size), 1) - 1
        sizes.partition(rank)  # several times faster than what PyTorch has for it
        seen = float(sizes[rank]) / sigma
        return self.decay * known + (1.0 - self.decay) * seen if known > 0 else seen


def pinball(y_hat: Tensor, y: Tensor, q: float) -> Tensor:
    """Mean max(q·u, (q − 1)·u), u = y − ŷ: a leaky ReLU of slope (q − 1) / q, times q, is one pass for three."""
    return F.leaky_relu(y - y_hat, (q - 1.0) / q).mean() * q
