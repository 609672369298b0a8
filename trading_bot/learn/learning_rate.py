"""The learning rate of a training, decided once an epoch from the validation losses so far."""

from __future__ import annotations

import math
from typing import Any

from trading_bot.learn.training_config import TrainingConfig

FACTOR = 0.5  # what a stall multiplies the rate by
SMOOTHING = 0.5  # weight of the newest improvement in their moving average


class LearningRate:
    """Plain: times `learning_rate_decay` each epoch. Adaptive: times FACTOR when the validation loss has stalled.

    The adaptive rule keeps a moving average of how much each epoch lowered the validation loss (negative where it
    rose). When that average falls below `early_stopping_threshold`, steps have become too large for how near the
    minimum is: the rate is cut and the average begins anew. A rate never falls below `learning_rate_min` and never
    rises. A validation loss that is not finite is a stall. `experiments/learning_rate.py` chose and judged the rule.

    Attributes
    ----------
    value : the rate of the next epoch
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self.value = float(config.learning_rate_initial)
        self._last = math.inf
        self._pace: float | None = None

    def observe(self, val_loss: float) -> None:
        """Take in the validation loss of the epoch just trained."""
        if not self._config.use_adaptive_lr:
            self._multiply(self._config.learning_rate_decay)
        elif self._stalled(val_loss):
            self._multiply(FACTOR)
            self._pace = None

    def _stalled(self, val_loss: float) -> bool:
        if not math.isfinite(val_loss):
            return True
        improvement, self._last = self._last - val_loss, val_loss
        if not math.isfinite(improvement):
            return False  # the first
        self._pace = improvement if self._pace is None else self._pace + SMOOTHING * (improvement - self._pace)
        return self._pace < self._config.early_stopping_threshold

    def _multiply(self, factor: float) -> None:
        self.value = max(self.value * factor, float(self._config.learning_rate_min))

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from."""
        return {"value": self.value, "last": self._last, "pace": self._pace}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value, self._last, self._pace = state["value"], state["last"], state["pace"]
