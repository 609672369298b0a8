"""A schedule, what serves the fixed metric, and what is learned, in one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from trading_bot.training.weight_policies.learning_based import LearningBased
from trading_bot.training.weight_policies.performance_based import PerformanceBased
from trading_bot.training.weight_policies.policy import Seen, Setting, WeightPolicy, Wish
from trading_bot.training.weight_policies.schedule_based import ScheduleBased
from trading_bot.training.weight_policies.simplex import equal, on_simplex

WORSE = 0.01  # of the best: more than that is worse
TIMES = 3  # adaptations in a row that are worse before it goes back


class Hybrid(WeightPolicy):
    """log w = ½ log schedule + ¼ log performance + ¼ log learned, and back when that does harm.

    At every adaptation the fixed metric, over the last `performance_window` inner-validation batches, is held against
    the best so far. Three times in a row more than 1 % worse, and the weights of the last time that was not so come
    back; they stay until it is not so again.

    Parameters
    ----------
    start, end, shape : of the schedule
    eta : of the performance
    """

    needs_inner = True

    def __init__(
        self,
        setting: Setting,
        *,
        start: Mapping[str, float] | None = None,
        end: Mapping[str, float] | None = None,
        shape: str = "linear",
        eta: float = 1.0,
    ) -> None:
        super().__init__(setting)
        self.schedule = ScheduleBased(setting, start=start, end=end, shape=shape)
        self.performance = PerformanceBased(setting, eta=eta)
        self.learned = LearningBased(setting)
        self.parameters = self.learned.parameters
        self.memory = {
            "performance": self.performance.memory,
            "learned": self.learned.memory,
            "serving": equal(self.count),  # the performance's own weights
            "best": None,
            "good": equal(self.count),
            "worse": 0,
        }

    def weigh(self, seen: Seen) -> Wish:
        memory = self.memory
        self.performance.memory, self.learned.memory = memory["performance"], memory["learned"]
        served = self.performance.weigh(replace(seen, weights=tuple(memory["serving"]))).weights
        if served is not None:
            memory["serving"] = on_simplex(served)
        learned = self.learned.weigh(seen)
        planned = self.schedule.weigh(seen).weights
        assert learned.weights is not None
        assert planned is not None
        if served is not None:
            self._judge(seen.weights)
        if memory["worse"] >= TIMES:
            return Wish(memory["good"], learned.objective)
        return Wish(_blend(planned, memory["serving"], on_simplex(learned.weights)), learned.objective)

    def _judge(self, weights: Sequence[float]) -> None:
        memory = self.memory
        metrics, best = memory["performance"]["metrics"], memory["best"]
        now = math.fsum(metrics) / len(metrics)
        if best is not None and now > best + WORSE * abs(best):
            memory["worse"] += 1
            return
        memory["worse"] = 0
        memory["good"] = list(weights)
        memory["best"] = now if best is None else min(best, now)


def _blend(planned: Sequence[float], serving: Sequence[float], learned: Sequence[float]) -> list[float]:
    return [a**0.5 * b**0.25 * c**0.25 for a, b, c in zip(planned, serving, learned, strict=True)]
