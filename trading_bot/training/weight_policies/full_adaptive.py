"""A controller's schedule, and a monitor that corrects it."""

from __future__ import annotations

from pathlib import Path

from trading_bot.training.controller_schedule import Schedule
from trading_bot.training.meta_controller import MetaLearningController
from trading_bot.training.monitor_decisions import Decider, Decisions, Told
from trading_bot.training.monitor_shipped import controller as chosen_controller
from trading_bot.training.monitor_shipped import monitor
from trading_bot.training.weight_policies.policy import Seen, Setting, WeightPolicy, Wish


class FullAdaptive(Told, WeightPolicy):
    """The main loss has weight 1, each other one the product of what `controller_only` and `monitor_only` give it.

    Parameters
    ----------
    agent, controller : as of those
    """

    needs_inner = True

    def __init__(
        self,
        setting: Setting,
        *,
        agent: Decider | str | Path | None = None,
        controller: MetaLearningController | str | Path | None = None,
    ) -> None:
        super().__init__(setting)
        self._decisions = Decisions(self.count, setting.frequency, monitor(agent))
        self._schedule = Schedule(self.count, chosen_controller(controller))
        self.memory = self._decisions.begin() | self._schedule.begin()

    def weigh(self, seen: Seen) -> Wish:
        factors = self._decisions.look(self.memory, seen)
        ratios = self._schedule.look(self.memory, seen)
        return Wish([1.0, *(a * b for a, b in zip(factors, ratios, strict=True))])
