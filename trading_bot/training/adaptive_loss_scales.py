"""The usual size of each loss, so that its unit does not decide what a weight is worth."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from typing import Any

SMALLEST = 1e-8  # of a size, in scales


class Scales:
    """sᵢ: the median of |Lᵢ| over the steps that were added; 1 while there is none, or where it is 0.

    Attributes
    ----------
    values : sᵢ
    """

    def __init__(self, count: int) -> None:
        self.values = [1.0] * count
        self._sorted: list[list[float]] = [[] for _ in range(count)]
        self._lowest = [0.0] * count  # Lᵢ so far, where it was ever below 0

    def add(self, numbers: Sequence[float]) -> None:
        """One step of the calibration; a number that is not finite is left out."""
        self.lower(numbers)
        for place, number in enumerate(numbers):
            if math.isfinite(number):
                known = self._sorted[place]
                bisect.insort(known, abs(number))
                middle = (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2
                self.values[place] = middle if middle > 0 else 1.0

    def lower(self, numbers: Sequence[float]) -> None:
        """Take note of how far below 0 each has been."""
        self._lowest = [
            min(low, number) if math.isfinite(number) else low
            for low, number in zip(self._lowest, numbers, strict=True)
        ]

    def scaled(self, numbers: Sequence[float]) -> list[float]:
        """Lᵢ/sᵢ."""
        return [number / scale for number, scale in zip(numbers, self.values, strict=True)]

    def above_zero(self, numbers: Sequence[float]) -> list[float]:
        """Lᵢ/sᵢ, moved up by twice its lowest where it has been negative: then it is at least that far above 0."""
        return [
            max((number - 2.0 * low) / scale, SMALLEST)
            for number, low, scale in zip(numbers, self._lowest, self.values, strict=True)
        ]

    def state(self) -> dict[str, Any]:
        """What `restore` goes on from."""
        return {
            "values": list(self.values), "sorted": [list(each) for each in self._sorted], "lowest": list(self._lowest),
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        self.values, self._lowest = list(state["values"]), list(state["lowest"])
        self._sorted = [list(each) for each in state["sorted"]]
