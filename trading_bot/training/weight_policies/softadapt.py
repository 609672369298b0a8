"""Weights by how each loss is changing."""

from __future__ import annotations

import math

from trading_bot.errors import TrainingError
from trading_bot.training.loss_frame import is_number
from trading_bot.training.weight_policies.policy import Seen, Setting, WeightPolicy, Wish, no_periods, two_periods
from trading_bot.training.weight_policies.simplex import softmax

TINY = 1e-8


class SoftAdapt(WeightPolicy):
    """wᵢ ∝ exp(β·ŝᵢ), sᵢ the change of Lᵢ, ŝᵢ = sᵢ / Σ|sⱼ|: what falls least, or rises, gains weight.

    Heydari, Thompson and Mehmood, arXiv 1912.12355, in its normalised form. A change is the difference of two means,
    each over `adaptation_frequency` steps: single batches differ by chance.

    Parameters
    ----------
    beta : β; below 0 it favours what falls fastest
    loss_weighted : multiply by Lᵢ, the paper's second variant
    """

    def __init__(self, setting: Setting, *, beta: float = 0.1, loss_weighted: bool = False) -> None:
        super().__init__(setting)
        if not is_number(beta) or not math.isfinite(beta):
            raise TrainingError(f"beta is {beta!r}; wanted a finite number, such as 0.1")
        self.beta, self.loss_weighted = float(beta), loss_weighted
        self.memory = no_periods(self.count)

    def weigh(self, seen: Seen) -> Wish:
        periods = two_periods(self.memory, seen, self.setting.frequency)
        if periods is None:
            return Wish()
        means, before = periods
        changes = [now - then for now, then in zip(means, before, strict=True)]
        size = math.fsum(abs(change) for change in changes) + TINY
        weights = softmax([self.beta * change / size for change in changes])
        return Wish([w * mean for w, mean in zip(weights, means, strict=True)] if self.loss_weighted else weights)
