"""When a training has stopped getting better."""

from __future__ import annotations

import math
from typing import Any

from trading_bot.errors import TrainingError


class EarlyStopping:
    """Says stop once a loss has not fallen for `patience` epochs.

    Parameters
    ----------
    patience : epochs without improvement that are waited for
    min_delta : how much lower than the best so far a value must be to count

    Attributes
    ----------
    best : the lowest value so far, infinite before the first
    waited : epochs since
    """

    def __init__(self, patience: int = 15, min_delta: float = 1e-4) -> None:
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise TrainingError(f"patience is {patience!r}; wanted a whole number of epochs ≥ 1")
        if not math.isfinite(min_delta) or min_delta < 0:
            raise TrainingError(f"min_delta is {min_delta!r}; wanted a number ≥ 0")
        self.patience = patience
        self.min_delta = min_delta
        self.best = math.inf
        self.waited = 0

    def __call__(self, value: float) -> bool:
        """Take in an epoch's value; whether to stop. A value that is not finite is no improvement."""
        if math.isfinite(value) and value < self.best - self.min_delta:
            self.best, self.waited = float(value), 0
        else:
            self.waited += 1
        return self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited = float(state["best"]), int(state["waited"])
