"""Weights under which all losses fall at the same rate."""

from __future__ import annotations

import math

from trading_bot.training.loss_frame import positive, within
from trading_bot.training.weight_policies.policy import Seen, Setting, WeightPolicy, Wish
from trading_bot.training.weight_policies.simplex import softmax


class FAMO(WeightPolicy):
    """z = softmax(ξ), wᵢ ∝ zᵢ / Lᵢ; ξ ← ξ − β(Jᵀ(log L(t) − log L(t+1)) + γξ), J the softmax's derivative at ξ.

    Liu et al., NeurIPS 2023 (arXiv 2306.03792), algorithm 1. The paper measures L(t+1) on the batch of step t again,
    which costs a forward pass; here it is the next batch's: noisier.

    Parameters
    ----------
    beta : β, the step of ξ
    gamma : γ, its decay
    """

    def __init__(self, setting: Setting, *, beta: float = 0.025, gamma: float = 0.001) -> None:
        super().__init__(setting)
        self.beta, self.gamma = positive("beta", beta), within("gamma", gamma, 0.0, 1.0)
        self.memory = {"xi": [0.0] * self.count, "logs": None}

    def weigh(self, seen: Seen) -> Wish:
        memory = self.memory
        logs = [math.log(size) for size in seen.sizes]
        if memory["logs"] is not None:
            z = softmax(memory["xi"])
            falls = [before - now for before, now in zip(memory["logs"], logs, strict=True)]
            mean = math.fsum(share * fall for share, fall in zip(z, falls, strict=True))
            memory["xi"] = [
                xi - self.beta * (share * (fall - mean) + self.gamma * xi)
                for xi, share, fall in zip(memory["xi"], z, falls, strict=True)
            ]
        memory["logs"] = logs
        return Wish(softmax([math.log(share) - log for share, log in zip(softmax(memory["xi"]), logs, strict=True)]))
