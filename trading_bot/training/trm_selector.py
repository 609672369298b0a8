"""A fitted TRM with everything it needs to choose: scaler, when to stop thinking, what its classes are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from trading_bot.domain.market import Floats
from trading_bot.errors import CheckpointError, TradingBotError, TrainingError
from trading_bot.features.columns import Features
from trading_bot.models.trm import TinyRecursiveModel, rebuild_trm, trm_config
from trading_bot.training.checkpoint_file import read_checkpoint, write_described
from trading_bot.training.forecaster import check_features
from trading_bot.training.model_checkpoint import load_weights
from trading_bot.training.walk_forward import Rows

KIND = "strategy selector"
NEVER, AT_ONCE = 1.0, 0.0  # thresholds: no probability is above 1, all are above 0
_BATCH = 256


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """What was said of each window.

    Attributes
    ----------
    probabilities : (n, classes), of each class being the one to trust; rows add up to 1
    steps : int64 (n,), supervision steps used, from 1
    """

    probabilities: Floats
    steps: Rows

    @property
    def classes(self) -> Rows:
        """The most probable class, int64 (n,)."""
        chosen: Rows = self.probabilities.argmax(axis=1)
        return chosen


@dataclass(frozen=True, slots=True, eq=False)
class Selector:
    """A fitted network that chooses among strategies.

    Attributes
    ----------
    network : (B, time, features), normalised → logits
    mean, std : float32 (features,), of the rows it was trained on
    threshold : probability of the halt head above which a window is thought about no more
    facts : what it was trained on and how: classes, features, symbol, timeframe, horizon, …; JSON
    """

    network: TinyRecursiveModel
    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    threshold: float
    facts: Mapping[str, Any]

    def choose(self, X: Features, most: int | None = None) -> Choices:
        """Think about windows (n, time, features), each until its halt head says so.

        Parameters
        ----------
        most : supervision steps at most; the network's own number if absent

        Raises
        ------
        TrainingError
            If a value is not finite or the shape is another.
        """
        most = self.network.config.supervision_steps if most is None else most
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise TrainingError(f"most is {most!r}; wanted a whole number of supervision steps ≥ 1")
        if not np.isfinite(X).all():
            raise TrainingError("a window holds a value that is not finite; mend the candles")
        parts = [self._chosen(X[at : at + _BATCH], most) for at in range(0, len(X), _BATCH)]
        if not parts:
            return Choices(np.empty((0, self.network.config.classes)), np.empty(0, np.int64))
        logits = torch.cat([logits for logits, _ in parts]).double()
        return Choices(logits.softmax(dim=1).numpy(), np.concatenate([steps for _, steps in parts]))

    @torch.inference_mode()
    def _chosen(self, X: Features, most: int) -> tuple[Tensor, Rows]:
        """Logits of each window's last step, and how many it took; those that are done are left out of later steps."""
        self.network.eval()
        device = self.network.positions.device
        x = normalised_windows(X, self.mean, self.std).to(device)
        answers = torch.empty(len(x), self.network.config.classes)
        steps = np.zeros(len(x), np.int64)
        open_rows, carry = np.arange(len(x)), None
        for step in range(1, most + 1):
            task, halt, carry = self.network(x, carry)
            answers[open_rows], steps[open_rows] = task.cpu(), step
            going = halt[:, 0].sigmoid() <= self.threshold
            if step == most or not bool(going.any()):
                break
            if not bool(going.all()):
                open_rows, x, carry = open_rows[going.cpu().numpy()], x[going], carry.take(going)
        return answers, steps

    def save(self, path: Path) -> str:
        """Write it, atomically; the file's SHA-256. The facts are repeated beside it as JSON, for people."""
        facts = {
            "kind": KIND,
            **self.facts,
            "model": trm_config(self.network),
            "scaler": {"mean": self.mean.tolist(), "std": self.std.tolist()},
            "threshold": self.threshold,
        }
        return write_described(path, self.network.state_dict(), facts)

    @classmethod
    def load(cls, path: Path) -> Selector:
        """What `save` wrote, on the CPU.

        Raises
        ------
        CheckpointError
            If the file is absent, damaged, no selector, or for features this program computes otherwise or not.
        """
        tensors, facts = read_checkpoint(path)
        if facts.get("kind") != KIND:
            raise CheckpointError(f"{path} is no selector but a {facts.get('kind', 'model')}; `train-trm` writes them")
        check_features(facts["features"], path)
        try:
            network = rebuild_trm(facts["model"])
        except TradingBotError as error:
            raise CheckpointError(f"{path}: its model cannot be rebuilt: {error}; train again") from None
        load_weights(network, tensors, path)
        network.eval()
        mean, std = (np.array(facts["scaler"][name], np.float32) for name in ("mean", "std"))
        return cls(network, mean, std, float(facts["threshold"]), facts)


def normalised_windows(X: Features, mean: npt.NDArray[np.float32], std: npt.NDArray[np.float32]) -> Tensor:
    """Windows (n, time, features) as the network sees them, float32, a copy."""
    return torch.from_numpy((np.ascontiguousarray(X, np.float32) - mean) / std)


@torch.inference_mode()
def every_step(network: TinyRecursiveModel, x: Tensor) -> tuple[Tensor, Tensor]:
    """All steps of all windows, on the CPU: task logits (steps, n, classes) and halt probabilities (steps, n)."""
    network.eval()
    tasks, halts = [], []
    for part in torch.split(x, _BATCH):
        carry, answers = None, []
        for _ in range(network.config.supervision_steps):
            task, halt, carry = network(part, carry)
            answers.append((task.cpu(), halt[:, 0].sigmoid().cpu()))
        tasks.append(torch.stack([task for task, _ in answers]))
        halts.append(torch.stack([halt for _, halt in answers]))
    return torch.cat(tasks, dim=1), torch.cat(halts, dim=1)


def steps_taken(halts: Tensor, threshold: float) -> Tensor:
    """Steps each window takes, int64 (n,), from 1: the first whose halt probability (steps, n) is above the threshold,
    or the last."""
    stops = halts > threshold
    stops[-1] = True
    return stops.int().argmax(dim=0) + 1


def pick_threshold(tasks: Tensor, halts: Tensor, labels: Tensor) -> float:
    """The halt threshold with the lowest mean cross-entropy; of equals the one that takes the fewest steps.

    Tried are stopping at once, never stopping early, and the deciles of the probabilities that were said.

    Parameters
    ----------
    tasks, halts : of validation rows, as `every_step` returns them
    labels : (n,)
    """
    entropy = torch.stack([F.cross_entropy(task, labels, reduction="none") for task in tasks]).double()  # (steps, n)
    said = halts[:-1].flatten().double().numpy()  # what the last step says changes nothing
    deciles = np.quantile(said, np.linspace(0.1, 0.9, 9)).tolist() if said.size else []
    tried = list[tuple[float, float, float]]()
    for threshold in (AT_ONCE, NEVER, *deciles):
        steps = steps_taken(halts, threshold)
        loss = entropy.gather(0, steps[None] - 1).mean().item()
        tried.append((loss, steps.double().mean().item(), threshold))
    return min(tried)[2]
