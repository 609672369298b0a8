"""A monitor that knows nothing: what a learned one has to beat."""

from __future__ import annotations

import numpy as np

from trading_bot.training.loss_frame import within
from trading_bot.training.monitor_decisions import Decisions, Told
from trading_bot.training.monitor_state import NO_OP
from trading_bot.training.weight_policies.policy import Seen, Setting, WeightPolicy, Wish


class RandomMonitor(Told, WeightPolicy):
    """As `monitor_only`, with actions by chance, behind no gate, and never undone.

    Parameters
    ----------
    rate : probability of an action at a decision, all that there are being as likely; else no-op
    """

    needs_inner = True  # and so the same rows set aside as for the one it is compared with

    def __init__(self, setting: Setting, *, rate: float = 6 / 7) -> None:
        super().__init__(setting)
        self.rate = within("rate", rate, 0.0, 1.0)
        self._decisions = Decisions(self.count, setting.frequency, _Chance(setting.seed, self.rate))
        self.memory = self._decisions.begin()

    def weigh(self, seen: Seen) -> Wish:
        return Wish([1.0, *self._decisions.look(self.memory, seen)])


class _Chance:
    frozen = False

    def __init__(self, seed: int, rate: float) -> None:
        self.seed, self.rate = seed, rate

    def decide(self, state: list[float], allowed: list[bool], step: int = 0) -> int:
        random = np.random.default_rng((self.seed, step))
        actions = np.flatnonzero(allowed)[1:]
        return int(random.choice(actions)) if random.random() < self.rate and len(actions) else NO_OP
