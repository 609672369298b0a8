"""Weights that go from one mixture to another as the training proceeds."""

from __future__ import annotations

import math
from collections.abc import Mapping

from trading_bot.errors import TrainingError
from trading_bot.training.weight_policies.policy import Seen, Setting, WeightPolicy, Wish
from trading_bot.training.weight_policies.simplex import shares

SHAPES = ("linear", "cosine")


class ScheduleBased(WeightPolicy):
    """w = (1 − h(p))·start + h(p)·end, p the progress of the training, h(p) = p or ½(1 − cos πp).

    Parameters
    ----------
    start, end : weights by loss, in any unit. Left out, the start favours the first of the losses as K : … : 2 : 1,
        and the end the last of them: combinations are named from the plainest loss to the most particular
    shape : of h, "linear" or "cosine"
    """

    def __init__(
        self,
        setting: Setting,
        *,
        start: Mapping[str, float] | None = None,
        end: Mapping[str, float] | None = None,
        shape: str = "linear",
    ) -> None:
        super().__init__(setting)
        if shape not in SHAPES:
            raise TrainingError(f"shape is {shape!r}; wanted one of {', '.join(SHAPES)}")
        rising = {name: place + 1.0 for place, name in enumerate(setting.names)}
        falling = {name: self.count - place + 0.0 for place, name in enumerate(setting.names)}
        self.start = shares("start", falling if start is None else start, setting.names)
        self.end = shares("end", rising if end is None else end, setting.names)
        self.shape = shape

    def weigh(self, seen: Seen) -> Wish:
        h = seen.progress if self.shape == "linear" else 0.5 * (1.0 - math.cos(math.pi * seen.progress))
        return Wish([(1.0 - h) * a + h * b for a, b in zip(self.start, self.end, strict=True)])
