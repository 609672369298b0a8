"""Losses that count a wrong direction as well as, or in place of, the error.

Direction is soft: m = ½(1 − tanh(κẑ)·s), s the sign of z where |z| ≥ 0.05. A hard sign has no gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trading_bot.errors import TrainingError
from trading_bot.training.loss_frame import Loss, agree, positive, require_finite, within
from trading_bot.training.pointwise_losses import pinball
from trading_bot.training.soft_position import direction, earned, mean_mismatch, position

Z_MOST = 1e6  # σ: a larger return is taken for one of that size where it multiplies a position


class DirectionalAccuracyLoss(Loss):
    """½·MSE(z) + ½·mean m; `direction_weight` is the second ½, and the first is what it leaves."""

    def __init__(self, direction_weight: float = 0.5, kappa: float = 1.0, sigma: float = 1.0) -> None:
        super().__init__(sigma)
        self.direction_weight = within("direction_weight", direction_weight, 0.0, 1.0)
        self.kappa = positive("kappa", kappa)

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        z_hat, z = self.scaled(y_hat, y)
        error = F.mse_loss(z_hat, z)
        return error.lerp(mean_mismatch(z_hat, z, self.kappa), self.direction_weight)


class DLFLoss(Loss):
    """Directional loss function: λ·mean m + (1 − λ)·MAE(z), λ = `direction_weight`."""

    def __init__(self, direction_weight: float = 0.5, kappa: float = 1.0, sigma: float = 1.0) -> None:
        super().__init__(sigma)
        self.direction_weight = within("direction_weight", direction_weight, 0.0, 1.0)
        self.kappa = positive("kappa", kappa)

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        z_hat, z = self.scaled(y_hat, y)
        error = F.l1_loss(z_hat, z)
        return error.lerp(mean_mismatch(z_hat, z, self.kappa), self.direction_weight)


class AsymmetricLoss(Loss):
    """Mean (1 + penalty·m)·|ẑ − z|: errors in the wrong direction weigh more. m is a weight here, without gradient.

    Mode `pinball` is the quantile loss at 0.7, in the target's own units. It biases long: what it teaches is the return
    that three of ten exceed, whatever the direction. `penalty`, `kappa` and σ have no part in it.
    """

    def __init__(self, mode: str = "direction", penalty: float = 1.0, kappa: float = 1.0, sigma: float = 1.0) -> None:
        super().__init__(sigma)
        if mode not in ("direction", "pinball"):
            raise TrainingError(f"mode is {mode!r}; wanted 'direction' or 'pinball'")
        self.mode = mode
        self.penalty = within("penalty", penalty, 0.0, 1e6)
        self.kappa = positive("kappa", kappa)

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        if self.mode == "pinball":
            return pinball(y_hat, y, 0.7)
        z_hat, z = self.scaled(y_hat, y)
        with torch.no_grad():
            s = direction(z)
            mismatch = s.abs().sub_(position(z_hat, self.kappa).mul_(s))  # 2m, and 0 without a direction
            weight = mismatch.mul_(0.5 * self.penalty).add_(1.0)
        return (z_hat - z).abs().mul(weight).mean()


class MADLLoss(Loss):
    """Generalised mean absolute directional loss, arXiv 2412.18405: 2·mean[(½ − sigmoid(a·ẑ·z))·|z|ᵇ].

    Rewards the direction by the size of the return it caught, and asks for no magnitude. |z| counts up to 1e6. The
    original (`madl`) has no gradient.
    """

    saturates = True

    def __init__(self, a: float = 5.0, b: float = 1.0, sigma: float = 1.0) -> None:
        super().__init__(sigma)
        self.a = positive("a", a)
        self.b = within("b", b, 0.0, 4.0)

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        z_hat, z = self.scaled(y_hat, y)
        z = z.clamp_(-Z_MOST, Z_MOST)
        size = z.abs() if self.b == 1.0 else z.abs().pow_(self.b)
        # 2·(½ − sigmoid(x)) = −tanh(x / 2)
        return -earned(z_hat, size, z * (0.5 * self.a)).mean()


def madl(predictions: Tensor, targets: Tensor) -> float:
    """Mean absolute directional loss, arXiv 2309.10546: −mean sign(ŷ·y)·|y|, in the target's units.

    A metric: its gradient is 0 wherever it has one.
    """
    y_hat, y = agree(predictions, targets)
    require_finite("predictions", y_hat)
    require_finite("targets", y)
    return -float((y_hat.detach().sign() * y.double()).mean())
