"""Weights that stay: the baseline every other policy is measured against."""

from __future__ import annotations

from collections.abc import Mapping

from trading_bot.training.weight_policies.policy import Seen, Setting, WeightPolicy, Wish
from trading_bot.training.weight_policies.simplex import equal, shares


class Fixed(WeightPolicy):
    """The weights that were given, in any unit; equal ones if none were.

    They come into force after the calibration, as far as one update may move at a time.
    """

    def __init__(self, setting: Setting, *, weights: Mapping[str, float] | None = None) -> None:
        super().__init__(setting)
        self.weights = equal(self.count) if weights is None else shares("weights", weights, setting.names)

    def weigh(self, seen: Seen) -> Wish:
        return Wish(self.weights)
