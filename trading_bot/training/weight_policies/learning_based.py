"""Weights learned by gradient, as parameters of the training."""

from __future__ import annotations

import torch
from torch import nn

from trading_bot.errors import TrainingError
from trading_bot.training.weight_policies.policy import Seen, Setting, WeightPolicy, Wish

REACH = 3.0  # |u| at most, so that a weight's factor e^(−u) stays within 1/20 and 20
PATIENCE = 10  # steps in which a parameter that has a gradient must have moved


class LearningBased(WeightPolicy):
    """Uncertainty weighting: minimise Σ ½(e^(−u)·L/s + u) in u = 3·tanh(v); w ∝ e^(−u).

    Kendall, Gal and Cipolla, CVPR 2018 (arXiv 1705.07115), with u, the log variance, kept in ±3. v is a parameter of
    the policy alone: it sees the losses as numbers, and the model sees the weights as numbers.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.v = nn.Parameter(torch.zeros(self.count))
        self.parameters = (self.v,)
        self.memory = {"called": 0, "pulled": False}

    def weigh(self, seen: Seen) -> Wish:
        u = REACH * torch.tanh(self.v)
        losses = torch.tensor(seen.losses, device=self.v.device)
        shrunk = torch.exp(-u)
        weights = shrunk.detach().tolist()
        self._check(seen, weights)
        return Wish(weights, 0.5 * (shrunk * losses + u).sum())

    def _check(self, seen: Seen, weights: list[float]) -> None:
        """That somebody optimises v: a learned weight that never moves looks just like a fixed one."""
        memory = self.memory
        if memory["called"] > PATIENCE:
            return
        if memory["called"] == PATIENCE and memory["pulled"] and all(weight == 1.0 for weight in weights):
            raise TrainingError(
                f"the learned weights have not moved in {PATIENCE} steps: they are in no optimizer; use "
                "create_adaptive_trainer, or optimizer.add_param_group({'params': loss.policy.parameters})"
            )
        memory["called"] += 1
        memory["pulled"] = memory["pulled"] or any(abs(loss - 1.0) > 1e-3 for loss in seen.losses)
