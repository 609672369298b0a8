"""Which losses teach the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trading_bot.logs import event

REDUNDANT = 0.99  # cosine of two losses' gradients at the output


class Redundancy:
    """The mean cosine of each pair of losses over the steps that were looked at."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._sums = [[0.0] * len(names) for _ in names]
        self._looks = 0

    def look(self, slopes: Tensor) -> None:
        """One step: gradients at the output (K, N), all finite."""
        units = torch.nn.functional.normalize(slopes, dim=1)
        for row, cosines in zip(self._sums, (units @ units.T).tolist(), strict=True):
            for place, cosine in enumerate(cosines):
                row[place] += cosine
        self._looks += 1

    @property
    def pairs(self) -> list[tuple[str, str, float]]:
        """Those whose mean cosine is above 0.99, and that cosine."""
        means = [
            (first, second, self._sums[i][i + 1 + j] / max(self._looks, 1))
            for i, first in enumerate(self.names)
            for j, second in enumerate(self.names[i + 1 :])
        ]
        return [(first, second, cosine) for first, second, cosine in means if cosine > REDUNDANT]

    def tell(self) -> None:
        """A warning in the log for each of them."""
        for first, second, cosine in self.pairs:
            text = f"{first} and {second} pull the same way; one of them may go"
            event("training", "adaptive loss", text, level="WARNING", cosine=cosine)

    def state(self) -> dict[str, Any]:
        """What `restore` goes on from."""
        return {"sums": [list(row) for row in self._sums], "looks": self._looks}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._sums, self._looks = [list(row) for row in state["sums"]], state["looks"]
