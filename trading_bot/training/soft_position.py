"""The position a prediction amounts to, a = tanh(κẑ), what it earns, and how far its direction is wrong."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SMOOTH = 1e-3  # ε of ψ(d) = √(d² + ε²) − ε, a |d| without its kink
LET_GO = 1e-3  # least slope of the tanh where the position is wrong: where it loses
_STILL = 0.049999997  # the float32 below 0.05: |z| ≥ 0.05 has a direction, and hardshrink drops |z| ≤ λ

# Numbers as tensors: those of Python are made into one at every use. Any device takes a tensor of shape () from here.
_ONE, _TWO, _SMOOTH, _WRONG_LEAST = (torch.tensor(number) for number in (1.0, 2.0, SMOOTH, -LET_GO))

# a is computed as 2·sigmoid(2κẑ) − 1. PyTorch hands tanh on the processor to a library with threads of its own, even
# for 4,096 numbers: beside other busy processes each call then waits for a thread to be scheduled, 30 ms for 5 µs.


def position(signal: Tensor, gain: float | Tensor = 1.0) -> Tensor:
    """tanh(gain · signal), in [-1, 1]."""
    share = torch.sigmoid(signal * (2.0 * gain))
    return share.mul_(_TWO).sub_(_ONE)


class _Earned(torch.autograd.Function):
    """a·r − f·ψ(Δa) with a = tanh(gain · signal), and a tanh that lets go.

    Where a position is saturated, tanh's slope is 0 in float32 and a network that starts there never leaves. So where
    the position loses (a·r < 0) the slope is at least 1e-3. Elsewhere, and wherever |gain · signal| < 4.15, it is
    tanh's own.
    """

    @staticmethod
    def forward(
        ctx: Any, signal: Tensor, gain: float | Tensor, reward: Tensor, friction: Tensor | None, axis: int
    ) -> Tensor:
        held = position(signal, gain)
        earned = held * reward
        turn = None
        if friction is not None:
            count = held.shape[axis] - 1
            change = held.narrow(axis, 1, count) - held.narrow(axis, 0, count)
            smooth = torch.hypot(change, _SMOOTH)
            turn = change.div_(smooth)  # ψ'(Δa)
            earned.narrow(axis, 1, count).sub_(smooth.sub_(_SMOOTH).mul_(friction))
        ctx.save_for_backward(held, reward, turn, friction)
        ctx.gain, ctx.axis = gain, axis
        return earned

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None, None]:
        held, reward, turn, friction = ctx.saved_tensors
        pull = outer * reward  # of the loss, by position
        if turn is not None:
            count = turn.shape[ctx.axis]
            paid = (turn * outer.narrow(ctx.axis, 1, count)).mul_(friction)
            pull.narrow(ctx.axis, 1, count).sub_(paid)
            pull.narrow(ctx.axis, 0, count).add_(paid)
        least = (held * reward).sign_().mul_(_WRONG_LEAST)  # negative where the position is right: no bound at all
        slope = (held * held).neg_().add_(_ONE)
        return torch.maximum(slope, least, out=slope).mul_(pull).mul_(ctx.gain), None, None, None, None


def earned(
    signal: Tensor, reward: Tensor, gain: float | Tensor = 1.0, friction: Tensor | None = None, axis: int = 0
) -> Tensor:
    """What the position tanh(gain · signal) earns: a·r − f·ψ(Δa), elementwise.

    Parameters
    ----------
    signal, reward : one shape; no gradient is passed to the reward
    gain : number, or tensor of that shape
    friction : shape (), f; None where positions do not follow each other
    axis : along which they do. The first one's change is unknown and costs nothing
    """
    result: Tensor = _Earned.apply(signal, gain, reward, friction, axis)  # type: ignore[no-untyped-call]
    return result


def direction(z: Tensor) -> Tensor:
    """s: the sign of z, 0 where |z| < 0.05."""
    return torch.sign(F.hardshrink(z, _STILL))


def mean_mismatch(z_hat: Tensor, z: Tensor, kappa: float) -> Tensor:
    """Mean of m = ½(1 − tanh(κẑ)·s) over targets with a direction, in [0, 1]; 0 if there are none."""
    s = direction(z)
    count: Tensor = torch.linalg.vector_norm(s, 1)
    return (count - earned(z_hat, s, kappa).sum()) / (2.0 * count.clamp_min(1.0))
