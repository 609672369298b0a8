"""Losses of what a prediction earns when it is traded.

The position is a = tanh(κẑ), its net gain g = a·z − (c/σ)·ψ(Δa) with c the fee and slippage of one unit of turnover and
ψ a smooth |·|. Δa runs along the horizon; with a horizon of 1 it runs along the batch, and only if the caller declares
the batch contiguous: rows in time order, each one bar after the one before. Shuffled rows have no Δa, and then trading
costs nothing. What was held before the first row is unknown and not charged. |z| counts up to 1e6.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trading_bot.errors import TrainingError
from trading_bot.training.direction_losses import Z_MOST
from trading_bot.training.loss_frame import Loss, positive, within
from trading_bot.training.soft_position import SMOOTH, earned

_FLOOR = torch.tensor(0.1)  # σ: keeps the Sharpe ratio of a flat book finite
STD_WEIGHT_MOST = 0.05


class PositionLoss(Loss):
    """What the losses built on positions have in common.

    Parameters
    ----------
    kappa : how sharply a prediction becomes a position, per σ
    cost : fee and slippage per unit of turnover, in the target's units
    contiguous : whether each row of a batch is the bar after the one before
    """

    def __init__(self, kappa: float = 1.0, cost: float = 0.001, contiguous: bool = False, sigma: float = 1.0) -> None:
        super().__init__(sigma)
        self.kappa = positive("kappa", kappa)
        self.cost = within("cost", cost, 0.0, 1.0)
        self.contiguous = contiguous

    def gain(self, z_hat: Tensor, z: Tensor) -> Tensor:
        """g, elementwise."""
        axis = 1 if z.ndim == 2 and z.shape[1] > 1 else 0
        follows = (axis == 1 or self.contiguous) and z.shape[axis] > 1
        friction = self.cost / self.sigma if follows and self.cost > 0 else None
        return earned(z_hat, z, self.kappa, friction, axis)


class SharpeRatioLoss(PositionLoss):
    """1 − mean g / √(mean g² + 0.1²), in [0, 2].

    Monotone in the Sharpe ratio of the batch, which is not annualised: that is for reports.
    """

    additive = False
    saturates = True

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        z_hat, z = self.scaled(y_hat, y)
        g = self.gain(z_hat, z.clamp_(-Z_MOST, Z_MOST))
        # both times the count: Σg and √(count·Σg² + (0.1·count)²), in as few operations as there are
        count = float(g.numel())
        spread = torch.hypot(torch.linalg.vector_norm(g) * math.sqrt(count), _FLOOR * count)
        return 1.0 - g.sum() / spread


class ReturnVolatilityLoss(PositionLoss):
    """−mean g + (γ/2)·var g; mode `std`: −mean g + λ·√(var g + ε²).

    Mean and variance of the batch, ddof 0. Risk is that of the gain, never of the error. λ is at most 0.05: more, and a
    flat book would beat a good one.
    """

    additive = False
    saturates = True

    def __init__(
        self,
        mode: str = "variance",
        gamma: float = 1.0,
        std_weight: float = STD_WEIGHT_MOST,
        kappa: float = 1.0,
        cost: float = 0.001,
        contiguous: bool = False,
        sigma: float = 1.0,
    ) -> None:
        super().__init__(kappa, cost, contiguous, sigma)
        if mode not in ("variance", "std"):
            raise TrainingError(f"mode is {mode!r}; wanted 'variance' or 'std'")
        self.mode = mode
        self.gamma = within("gamma", gamma, 0.0, 1e6)
        self.std_weight = within("std_weight", std_weight, 0.0, STD_WEIGHT_MOST)

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        z_hat, z = self.scaled(y_hat, y)
        variance, mean = torch.var_mean(self.gain(z_hat, z.clamp_(-Z_MOST, Z_MOST)), correction=0)
        if self.mode == "std":
            return (variance + SMOOTH**2).sqrt() * self.std_weight - mean
        return variance * (0.5 * self.gamma) - mean


class TradingLoss(PositionLoss):
    """(1 − w)·MAE(z) + w·[mean(|z| − a·z) + (c/σ)·mean ψ(Δa)], w = `profit_weight`; never below 0.

    The bracket is what perfect foresight would have earned, less what was.
    """

    def __init__(
        self,
        profit_weight: float = 0.5,
        kappa: float = 1.0,
        cost: float = 0.001,
        contiguous: bool = False,
        sigma: float = 1.0,
    ) -> None:
        super().__init__(kappa, cost, contiguous, sigma)
        self.profit_weight = within("profit_weight", profit_weight, 0.0, 1.0)

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        z_hat, z = self.scaled(y_hat, y)
        error = F.l1_loss(z_hat, z)
        z = z.clamp_(-Z_MOST, Z_MOST)
        missed = (z.abs() - self.gain(z_hat, z)).mean()
        return error.lerp(missed, self.profit_weight)
