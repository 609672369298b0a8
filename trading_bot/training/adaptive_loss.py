"""Losses combined by weights that adapt in training.

>>> loss = create_adaptive_loss("trading_focused", adaptation_strategy="cov")
>>> value = loss(predictions, targets)                  # as any loss; `loss.weights` says how it is made up

`AdaptiveLossTrainer` (adaptive_loss_trainer.py) gives it everything it needs: rows set aside, a scale, a place in the
optimizer for weights that are learned.
"""

from __future__ import annotations

from trading_bot.training.adaptive_loss_advice import Recommendation
from trading_bot.training.adaptive_loss_function import AdaptiveLossFunction
from trading_bot.training.adaptive_loss_record import Effectiveness, Line, LossRecord
from trading_bot.training.adaptive_loss_selection import (
    COMBINATIONS,
    AdaptiveLossConfig,
    CombinationInfo,
    LossSelectionManager,
    create_adaptive_loss,
)
from trading_bot.training.weight_policies import POLICIES

__all__ = [
    "COMBINATIONS",
    "POLICIES",
    "AdaptiveLossConfig",
    "AdaptiveLossFunction",
    "CombinationInfo",
    "Effectiveness",
    "Line",
    "LossRecord",
    "LossSelectionManager",
    "Recommendation",
    "create_adaptive_loss",
]
