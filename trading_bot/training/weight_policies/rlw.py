"""Weights by chance: what an adaptive policy has to beat."""

from __future__ import annotations

import numpy as np

from trading_bot.training.weight_policies.policy import Seen, WeightPolicy, Wish
from trading_bot.training.weight_policies.simplex import softmax


class RLW(WeightPolicy):
    """w = softmax(ε), ε ~ N(0, 1), anew at every step, and taken as far as one update may move.

    Lin et al., TMLR 2022 (arXiv 2111.10603).
    """

    def weigh(self, seen: Seen) -> Wish:
        drawn = np.random.default_rng((self.setting.seed, seen.step)).standard_normal(self.count)
        return Wish(softmax(drawn.tolist()))
