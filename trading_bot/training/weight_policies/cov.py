"""Weights by how much each loss still varies."""

from __future__ import annotations

import math

from trading_bot.training.weight_policies.policy import Seen, Setting, WeightPolicy, Wish


class CoV(WeightPolicy):
    """wᵢ ∝ σᵢ / μᵢ of the loss ratio rᵢ(t) = Lᵢ(t) / mean Lᵢ before t: a loss that still varies is not yet satisfied.

    Groenendijk et al., WACV 2021 (arXiv 2009.01717): mean and variance over all steps, by Welford's update; the
    weights of step t come from the steps before it, and are equal at the first two.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        zeros = [0.0] * self.count
        self.memory = {"seen": 0, "loss": zeros, "ratio": zeros, "squares": zeros}

    def weigh(self, seen: Seen) -> Wish:
        memory = self.memory
        before = memory["seen"]
        wish = Wish([1.0] * self.count) if before < 2 else Wish(self._variations(before))
        keep = before / (before + 1)
        means = seen.sizes if before == 0 else memory["loss"]
        ratios = [size / mean for size, mean in zip(seen.sizes, means, strict=True)]
        new = [keep * old + (1 - keep) * ratio for old, ratio in zip(memory["ratio"], ratios, strict=True)]
        memory["squares"] = [
            square + (ratio - old) * (ratio - now)
            for square, ratio, old, now in zip(memory["squares"], ratios, memory["ratio"], new, strict=True)
        ]
        memory["ratio"] = new
        memory["loss"] = [keep * old + (1 - keep) * size for old, size in zip(memory["loss"], seen.sizes, strict=True)]
        memory["seen"] = before + 1
        return wish

    def _variations(self, steps: int) -> list[float]:
        return [
            math.sqrt(square / steps + 1e-8) / mean
            for square, mean in zip(self.memory["squares"], self.memory["ratio"], strict=True)
        ]
