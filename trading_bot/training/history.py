"""What a training looked like, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping


class TrainingHistory(dict[str, list[float]]):
    """A dict of lists, one value an epoch: train_loss val_loss learning_rate grad_norm seconds and the metrics.

    `grad_norm` is the mean over the epoch's steps of the gradient's norm before clipping; metrics are of the validation
    rows and named `val_…`.
    """

    def add(self, values: Mapping[str, float]) -> None:
        """One epoch more."""
        for name, value in values.items():
            self.setdefault(name, []).append(float(value))

    @property
    def epochs(self) -> int:
        """How many there are."""
        return len(self.get("train_loss", []))

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the lowest val_loss, counted from 0; None if there is none."""
        losses = [value if math.isfinite(value) else math.inf for value in self.get("val_loss", [])]
        return losses.index(min(losses)) if losses and min(losses) < math.inf else None
