"""Weights by each loss's progress since the start and since the last step, with a random look back."""

from __future__ import annotations

import numpy as np

from trading_bot.training.loss_frame import positive, within
from trading_bot.training.weight_policies.policy import Seen, Setting, WeightPolicy, Wish
from trading_bot.training.weight_policies.simplex import softmax


class ReLoBRaLo(WeightPolicy):
    """λ(t) = α·(ρ·λ(t−1) + (1−ρ)·λ̂(t; 0)) + (1−α)·λ̂(t; t−1), λ̂(t; t′) = K·softmax(L(t) / (T·L(t′))); w = λ / K.

    Bischof and Kraus, arXiv 2110.09813. ρ is 1 with probability `rho`, 0 otherwise: then the step looks back to the
    start. t = 0 is the first step after the calibration; λ(0) = 1.

    Parameters
    ----------
    alpha, rho : α, and the expectation of ρ, in [0, 1]
    temperature : T
    """

    def __init__(self, setting: Setting, *, alpha: float = 0.999, rho: float = 0.999, temperature: float = 1.0) -> None:
        super().__init__(setting)
        self.alpha, self.rho = within("alpha", alpha, 0.0, 1.0), within("rho", rho, 0.0, 1.0)
        self.temperature = positive("temperature", temperature)
        self.memory = {"first": None, "last": None, "lambdas": [1.0] * self.count}

    def weigh(self, seen: Seen) -> Wish:
        memory, sizes = self.memory, list(seen.sizes)
        if memory["first"] is None:
            memory["first"] = memory["last"] = sizes
            return Wish(memory["lambdas"])
        rho = float(np.random.default_rng((self.setting.seed, seen.step)).random() < self.rho)
        start, last = self._balance(sizes, memory["first"]), self._balance(sizes, memory["last"])
        memory["lambdas"] = [
            self.alpha * (rho * old + (1.0 - rho) * a) + (1.0 - self.alpha) * b
            for old, a, b in zip(memory["lambdas"], start, last, strict=True)
        ]
        memory["last"] = sizes
        return Wish(memory["lambdas"])

    def _balance(self, now: list[float], then: list[float]) -> list[float]:
        ratios = [a / (self.temperature * b) for a, b in zip(now, then, strict=True)]
        return [self.count * share for share in softmax(ratios)]
