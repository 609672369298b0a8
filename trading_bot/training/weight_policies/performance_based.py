"""Weights that follow what each loss does for a fixed metric on rows set aside."""

from __future__ import annotations

import math

from trading_bot.training.loss_frame import positive
from trading_bot.training.weight_policies.policy import Seen, Setting, WeightPolicy, Wish

MEASURE_EVERY = 10  # steps between two looks at an inner-validation batch


class PerformanceBased(WeightPolicy):
    """wᵢ ← wᵢ·exp(η(ρ̄ᵢ − mean ρ̄)), ρᵢ = cos(∇θ M, ∇θ Lᵢ) on an inner-validation batch, M the fixed metric.

    A loss whose gradient points where the metric falls gains weight. ρ is measured every 10 steps; every
    `adaptation_frequency` steps the weights move by the mean of the last `performance_window` measurements. The
    multiplicative step is that of Hedge (Freund and Schapire, 1997), the cosine that of Du et al., arXiv 1812.02224.

    Parameters
    ----------
    eta : η, how far one adaptation goes
    """

    needs_inner = True

    def __init__(self, setting: Setting, *, eta: float = 1.0) -> None:
        super().__init__(setting)
        self.eta = positive("eta", eta)
        self.memory = {"measured": 0, "cosines": [], "metrics": []}

    def weigh(self, seen: Seen) -> Wish:
        memory, window = self.memory, self.setting.window
        if seen.step % MEASURE_EVERY == 0:
            found = seen.inner(memory["measured"])
            memory["measured"] += 1
            memory["cosines"] = [*memory["cosines"], list(found.cosines)][-window:]
            memory["metrics"] = [*memory["metrics"], found.metric][-window:]
        if seen.step % self.setting.frequency or not memory["cosines"]:
            return Wish()
        means = [math.fsum(column) / len(column) for column in zip(*memory["cosines"], strict=True)]
        centre = math.fsum(means) / self.count
        return Wish(
            [weight * math.exp(self.eta * (mean - centre)) for weight, mean in zip(seen.weights, means, strict=True)]
        )
