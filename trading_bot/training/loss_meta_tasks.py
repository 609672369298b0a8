"""Small regression tasks on which a monitor and a controller learn, and one training on such a task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trading_bot.training.loss_executor import DynamicLossExecutor
from trading_bot.training.loss_functions import create_loss_function
from trading_bot.training.weight_policies.policy import Setting, WeightPolicy

FEATURES, BATCH, HIDDEN = 6, 32, 12
TRAIN, REWARD, TEST = 192, 128, 400  # rows
MAINS = ("MSE", "MSE", "huber", "DLF")
AUXILIARIES = ("mae", "huber", "ASYMMETRIC", "MADL", "DLF", "TRADING_LOSS", "SHARPE_LOSS", "directional")
NOISES = ("normal", "heavy", "skewed", "outliers")
RATE = 0.01  # learning rate

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Rows of one origin in three parts that share none, and the losses to be combined, the main one first.

    Attributes
    ----------
    train, reward, test : (X, y); the monitor is judged on the second while it learns, everything on the third
    """

    number: int
    noise: str
    losses: tuple[str, ...]
    train: tuple[Tensor, Tensor]
    reward: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One training.

    Attributes
    ----------
    metrics : the fixed metric on the reward rows at each decision
    errors : |ŷ − y| / σ of each test row at the end
    actions : of the monitor, if there was one
    weights : by loss, their mean since the calibration
    """

    metrics: tuple[float, ...]
    errors: Floats
    actions: tuple[int, ...]
    weights: Mapping[str, float]

    @property
    def metric(self) -> float:
        """The fixed metric on the reward rows at the last decision, which is the end."""
        return self.metrics[-1]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a training is: `steps` after `calibration`, a decision every `frequency`.

    A decision at the last step comes too late to matter; it is there to see what the one before did.
    """

    steps: int = 350
    calibration: int = 20
    frequency: int = 50


def make_task(number: int, seed: int = 0) -> Task:
    """The task of that number, always the same one: its function, noise, level of noise and losses are drawn."""
    random = np.random.default_rng((seed, number))
    rows = TRAIN + REWARD + TEST
    X = random.normal(size=(rows, FEATURES))
    signal = np.tanh(X @ random.normal(size=(FEATURES, 3))) @ random.normal(size=3) + 0.5 * X @ random.normal(
        size=FEATURES
    )
    noise = str(random.choice(NOISES))
    y = signal / signal.std() + float(random.uniform(0.3, 2.0)) * _noise(noise, random, rows)
    count = int(random.integers(2, 5))
    main = str(random.choice(MAINS))
    others = [name for name in AUXILIARIES if name != main]
    losses = (main, *(str(name) for name in random.choice(others, count - 1, replace=False)))
    scale = float(y[:TRAIN].std())
    parts = np.split(np.arange(rows), (TRAIN, TRAIN + REWARD))
    pairs = [(torch.tensor(X[part], dtype=torch.float32), torch.tensor(y[part, None] / scale, dtype=torch.float32))
             for part in parts]  # fmt: skip
    return Task(number, noise, losses, *pairs)


def run(task: Task, kind: type[WeightPolicy], seed: int, budget: Budget, **options: Any) -> Run:
    """Train a small network on the task, with a policy of that kind; the same seed, the same first weights and batches.

    Only the training rows are trained on: the reward rows are looked at in evaluation, the test rows at the end.
    """
    names = names_of(task)
    losses = {key: create_loss_function(name) for key, name in zip(names, task.losses, strict=True)}
    policy = kind(Setting(names, budget.frequency, seed=seed), **options)
    executor = DynamicLossExecutor(
        losses, policy, sigma=1.0, calibration_steps=budget.calibration,
        total_steps=budget.calibration + budget.steps, record_every=budget.frequency,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the caller's chance is not ours to move
        model = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, budget.calibration + budget.steps, RATE / 10)
    executor.set_inner_validation(model, lambda number: task.reward)
    guard = executor.guard(model, optimizer)
    metrics, weights = [], [0.0] * len(names)
    order = np.random.default_rng((seed, task.number))
    X, y = task.train
    for step in range(1, budget.calibration + budget.steps + 1):
        rows = torch.from_numpy(order.integers(TRAIN, size=BATCH))
        optimizer.zero_grad(set_to_none=True)
        executor(model(X[rows]), y[rows]).backward()
        done = step - budget.calibration
        if done > 0:
            weights = [total + each for total, each in zip(weights, executor.weights.values(), strict=True)]
            if done % budget.frequency == 0:
                metrics.append(float(_errors(model, task.reward).mean()))
        optimizer.step()
        schedule.step()
    guard.remove()
    mean = {name: total / budget.steps for name, total in zip(names, weights, strict=True)}
    return Run(tuple(metrics), _errors(model, task.test), tuple(policy.memory.get("actions", ())), mean)


def names_of(task: Task) -> tuple[str, ...]:
    """What the losses are called in a training."""
    return tuple(f"{place}-{name}" for place, name in enumerate(task.losses))


@torch.no_grad()
def _errors(model: nn.Module, rows: tuple[Tensor, Tensor]) -> Floats:
    X, y = rows
    found: Floats = (model(X) - y).abs().flatten().double().numpy()
    return found


def _noise(kind: str, random: np.random.Generator, rows: int) -> Floats:
    """Of a size near 1."""
    if kind == "heavy":
        return random.standard_t(2.0, rows) / math.sqrt(3.0)
    if kind == "skewed":
        return random.exponential(1.0, rows) - 1.0
    plain = random.normal(size=rows)
    if kind == "outliers":
        return np.where(random.random(rows) < 0.08, 6.0 * plain, 0.7 * plain)
    return plain
