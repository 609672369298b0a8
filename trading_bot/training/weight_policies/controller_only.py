"""Weights along a schedule that a learned controller proposes for the task."""

from __future__ import annotations

from pathlib import Path

from trading_bot.training.controller_schedule import Schedule
from trading_bot.training.meta_controller import MetaLearningController
from trading_bot.training.monitor_shipped import controller as chosen
from trading_bot.training.weight_policies.policy import Seen, Setting, WeightPolicy, Wish


class ControllerOnly(WeightPolicy):
    """The main loss, which is the first, has weight 1, each other one the ratio of its schedule.

    The first 20 steps, of equal weights, describe the task; then the controller proposes, once.

    Parameters
    ----------
    controller : it, or its file; left out, the one that is shipped, and equal weights if none is
    """

    def __init__(self, setting: Setting, *, controller: MetaLearningController | str | Path | None = None) -> None:
        super().__init__(setting)
        self._schedule = Schedule(self.count, chosen(controller))
        self.memory = self._schedule.begin()

    def weigh(self, seen: Seen) -> Wish:
        return Wish([1.0, *self._schedule.look(self.memory, seen)])
