"""Weights by each loss's rate of descent."""

from __future__ import annotations

from trading_bot.training.loss_frame import positive
from trading_bot.training.weight_policies.policy import Seen, Setting, WeightPolicy, Wish, no_periods, two_periods
from trading_bot.training.weight_policies.simplex import softmax


class DWA(WeightPolicy):
    """Dynamic weight averaging: w = softmax(r / T), rᵢ = L̄ᵢ(τ−1) / L̄ᵢ(τ−2): what fell least gains weight.

    Liu, Johns and Davison, CVPR 2019 (arXiv 1803.10704). L̄ᵢ(τ) is the mean over a period; the paper's is an epoch,
    here it is `adaptation_frequency` steps. Equal for two periods.

    Parameters
    ----------
    temperature : T
    """

    def __init__(self, setting: Setting, *, temperature: float = 2.0) -> None:
        super().__init__(setting)
        self.temperature = positive("temperature", temperature)
        self.memory = no_periods(self.count)

    def weigh(self, seen: Seen) -> Wish:
        periods = two_periods(self.memory, seen, self.setting.frequency)
        if periods is None:
            return Wish()
        means, before = periods
        return Wish(softmax([now / (then * self.temperature) for now, then in zip(means, before, strict=True)]))
