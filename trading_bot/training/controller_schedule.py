"""A task described in its first steps, and the schedule that a controller proposes for it."""

from __future__ import annotations

import math

import torch

from trading_bot.training.meta_controller import MetaLearningController, ScheduleParameters
from trading_bot.training.monitor_state import Memory, Sight, cosines_to_main

DESCRIBE = 20  # steps of equal weights


class Schedule:
    """A ratio to the main loss's weight for each auxiliary loss.

    Parameters
    ----------
    count : losses, the first of which is the main one
    controller : None proposes nothing: 1 throughout
    """

    def __init__(self, count: int, controller: MetaLearningController | None) -> None:
        self.count, self.controller = count, controller

    def begin(self) -> Memory:
        """What to remember before the first step."""
        return {"sums": [[0.0] * self.count for _ in range(4)], "described": 0, "plan": None}

    def look(self, memory: Memory, seen: Sight) -> list[float]:
        """The ratios after this step, (count − 1,)."""
        if self.controller is not None and memory["plan"] is None:
            self._describe(memory, seen)
            if memory["described"] == DESCRIBE:
                plan = self.controller.propose(_descriptors(memory))
                memory["plan"] = [[each.start, each.end, each.midpoint, each.slope] for each in plan]
        if memory["plan"] is None:
            return [1.0] * (self.count - 1)
        return [ScheduleParameters(*each).ratio(seen.progress) for each in memory["plan"]]

    def _describe(self, memory: Memory, seen: Sight) -> None:
        cosines, _ = cosines_to_main(seen)
        norms = torch.linalg.vector_norm(seen.gradients.detach().float(), dim=1).tolist()
        logs = [math.log(max(norm, 1e-12)) for norm in norms]
        rows = [cosines, logs, list(seen.sizes), [size * size for size in seen.sizes]]
        memory["sums"] = [
            [a + b for a, b in zip(total, row, strict=True)] for total, row in zip(memory["sums"], rows, strict=True)
        ]
        memory["described"] += 1


def _descriptors(memory: Memory) -> list[list[float]]:
    """One row for each auxiliary loss, see `meta_controller.DESCRIPTORS`."""
    cosines, logs, means, squares = ([total / DESCRIBE for total in row] for row in memory["sums"])
    variations = [
        math.sqrt(max(0.0, square - mean * mean)) / max(mean, 1e-12)
        for mean, square in zip(means, squares, strict=True)
    ]
    return [
        [1.0, cosines[place], math.tanh(logs[place] - logs[0]), math.tanh(variations[place] - variations[0])]
        for place in range(1, len(means))
    ]
