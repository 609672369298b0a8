"""The meta-learning controller: one schedule of the weights per task, learned across tasks, then frozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trading_bot.errors import CheckpointError, TrainingError
from trading_bot.training.checkpoint_file import read_checkpoint, write_checkpoint
from trading_bot.training.cma_es import CMAES
from trading_bot.training.monitor_state import REACH

KIND = "meta controller"
DESCRIPTORS = ("constant", "cosine", "norm", "variation")  # of one auxiliary loss, against the main one
PARAMETERS = 2 * len(DESCRIPTORS) + 2

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScheduleParameters:
    """The weight of one auxiliary loss in units of the main one's: log start, moved to log end along a logistic curve.

    Attributes
    ----------
    start, end : log ratios, within ± log 5
    midpoint : the progress at which half of the way is done, 0 to 1
    slope : of the curve there; 2 is nearly a line, 50 a step
    """

    start: float
    end: float
    midpoint: float
    slope: float

    def ratio(self, progress: float) -> float:
        """The weight at this progress, 0 to 1."""
        done = 1 / (1 + math.exp(-self.slope * (progress - self.midpoint)))
        return math.exp(self.start + (self.end - self.start) * done)


class MetaLearningController:
    """Proposes schedules from a task's descriptors: start and end are linear in them, midpoint and slope are shared.

    So a new task begins with what did well for tasks like it. What it proposes before it has learned is a ratio of 1
    throughout: equal weights.

    Attributes
    ----------
    parameters : (PARAMETERS,), float64
    frozen : whether it has learned what it will

    Raises
    ------
    TrainingError
        If there are other than PARAMETERS finite numbers, or a frozen one is asked to learn.
    """

    def __init__(self, parameters: Sequence[float] | Floats | None = None) -> None:
        self.parameters = np.zeros(PARAMETERS) if parameters is None else np.array(parameters, np.float64)
        if self.parameters.shape != (PARAMETERS,) or not np.isfinite(self.parameters).all():
            raise TrainingError(
                f"found parameters of shape {self.parameters.shape}, "
                f"{int((~np.isfinite(self.parameters)).sum())} of them not finite; wanted {PARAMETERS} finite numbers"
            )
        self.frozen = False

    def propose(self, descriptors: Sequence[Sequence[float]]) -> list[ScheduleParameters]:
        """A schedule for each auxiliary loss.

        Parameters
        ----------
        descriptors : (auxiliary losses, DESCRIPTORS)
        """
        width = len(DESCRIPTORS)
        if bad := [row for row in descriptors if len(row) != width or not all(map(math.isfinite, row))]:
            raise TrainingError(f"a loss is described by {list(bad[0])}; wanted {width} finite numbers")
        start, end = self.parameters[:width], self.parameters[width : 2 * width]
        midpoint, slope = (float(number) for number in self.parameters[2 * width :])
        most = math.log(REACH)
        return [
            ScheduleParameters(
                most * math.tanh(math.fsum(start * row)),
                most * math.tanh(math.fsum(end * row)),
                0.5 * (1 + math.tanh(midpoint)),
                10 * math.exp(1.6 * math.tanh(slope)),
            )
            for row in descriptors
        ]

    def learn(
        self,
        cost: Callable[[MetaLearningController, int], float],
        generations: int,
        *,
        sigma: float = 0.3,
        population: int | None = None,
        seed: int = 0,
    ) -> list[float]:
        """Look for parameters of lower cost, from those it has, by CMA-ES; the mean cost of each generation.

        Parameters
        ----------
        cost : (a controller, generation) → what it did to the fixed metric, averaged over tasks and seeds
        """
        if self.frozen:
            raise TrainingError("the controller is frozen and learns no more; make a new one with its parameters")
        search = CMAES(self.parameters, sigma, population, seed)
        curve = []
        for generation in range(generations):
            candidates = search.ask()
            costs = [cost(MetaLearningController(each), generation) for each in candidates]
            search.tell(candidates, costs)
            curve.append(math.fsum(costs) / len(costs))
        self.parameters = search.mean
        return curve

    def freeze(self) -> None:
        """Let it learn no more."""
        self.frozen = True

    def save(self, path: str | Path, facts: dict[str, Any] | None = None) -> str:
        """Write it; the file's SHA-256."""
        kept = {"parameters": torch.from_numpy(self.parameters)}
        named = {"kind": KIND, "descriptors": list(DESCRIPTORS), "frozen": self.frozen, "facts": facts or {}}
        return write_checkpoint(Path(path), kept, named)

    @classmethod
    def load(cls, path: str | Path) -> MetaLearningController:
        """What `save` wrote.

        Raises
        ------
        CheckpointError
            If it is absent, damaged, or no controller.
        """
        tensors, facts = read_checkpoint(Path(path))
        if facts.get("kind") != KIND or facts.get("descriptors") != list(DESCRIPTORS) or "parameters" not in tensors:
            raise CheckpointError(
                f"{path} is {facts.get('kind') or 'something else'} of {facts.get('descriptors')}; wanted a {KIND} of "
                f"{', '.join(DESCRIPTORS)}: give a file that MetaLearningController.save wrote, or learn again"
            )
        controller = cls(tensors["parameters"].numpy())
        controller.frozen = bool(facts["frozen"])
        return controller
