"""Weights that a learned monitor moves, a step at a time."""

from __future__ import annotations

from pathlib import Path

from trading_bot.training.monitor_decisions import Decider, Decisions, Told
from trading_bot.training.monitor_shipped import monitor
from trading_bot.training.weight_policies.policy import Seen, Setting, WeightPolicy, Wish


class MonitorOnly(Told, WeightPolicy):
    """The main loss, which is the first, has weight 1; every `adaptation_frequency` steps a monitor may multiply or
    divide one other loss's weight by 1.25.

    A frozen monitor is undone after two bad decisions in a row; one that learns is not, so that it sees what it did.

    Parameters
    ----------
    agent : the monitor, or its file; left out, the one that is shipped, and equal weights if none is
    """

    needs_inner = True

    def __init__(self, setting: Setting, *, agent: Decider | str | Path | None = None) -> None:
        super().__init__(setting)
        self._decisions = Decisions(self.count, setting.frequency, monitor(agent))
        self.memory = self._decisions.begin()

    def weigh(self, seen: Seen) -> Wish:
        return Wish([1.0, *self._decisions.look(self.memory, seen)])
