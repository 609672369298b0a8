"""How a monitor and a controller learn on many small tasks, and the paired test that decides whether they are used."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trading_bot.training.loss_frame import at_least_one
from trading_bot.training.loss_meta_tasks import Budget, Run, Task, make_task, run
from trading_bot.training.loss_monitor import LossMonitorAgent, MonitorConfig
from trading_bot.training.meta_controller import MetaLearningController
from trading_bot.training.weight_policies.controller_only import ControllerOnly
from trading_bot.training.weight_policies.fixed import Fixed
from trading_bot.training.weight_policies.full_adaptive import FullAdaptive
from trading_bot.training.weight_policies.monitor_only import MonitorOnly
from trading_bot.training.weight_policies.random_monitor import RandomMonitor
from trading_bot.training.weight_policies.time_average import TimeAverage

ARMS = ("no-op", "monitor_only", "controller_only", "full_adaptive", "random_monitor", "time_average")
CLIP = 2.0  # of a reward, in standard deviations
TEST_TASKS = 10_000  # number of the first task of the test: none of them is learned on
TEST_SEEDS = 5_000  # the first

Tell = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class MetaConfig:
    """How much is learned on, and tested with.

    Attributes
    ----------
    episodes : trainings in which the monitor explores, over and over the same `tasks`
    updates : of its network for each decision of an episode
    generations, population, judged : of CMA-ES, and the tasks by which a candidate is judged
    test_tasks, test_seeds : of the test, each task with each seed
    controller_steps : of a training by which a candidate is judged
    """

    tasks: int = 20
    episodes: int = 120
    updates: int = 10
    generations: int = 6
    population: int = 8
    judged: int = 4
    test_tasks: int = 16
    test_seeds: int = 2
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    controller_steps: int = 200

    def __post_init__(self) -> None:
        counts = ("tasks", "episodes", "updates", "population", "judged", "test_tasks", "test_seeds")
        at_least_one(self, counts)


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What came of it.

    Attributes
    ----------
    returns : of each episode, Σ of its rewards before they were clipped: how much lower the metric ended than with
        equal weights, in standard deviations of a reward
    costs : mean of each generation: the metric at the end, relative to equal weights, − 1
    """

    monitor: LossMonitorAgent
    controller: MetaLearningController
    returns: tuple[float, ...]
    costs: tuple[float, ...]


def rewards(metrics: Sequence[float], equal: Sequence[float], spread: float) -> list[float]:
    """The drop of the metric after each decision but the last, less that with equal weights, over `spread`.

    They are clipped to ±2. `metrics` and `equal` are of the same times, one more than there are rewards.
    """
    drops, others = -np.diff(metrics), -np.diff(equal)
    return [float(each) for each in np.clip((drops - others) / spread, -CLIP, CLIP)]


def meta_train(config: MetaConfig, tell: Tell = lambda text: None) -> Learned:
    """A monitor and a controller, both frozen; the same configuration gives the same bytes with as many threads."""
    tasks = [make_task(number, config.seed) for number in range(config.tasks)]
    monitor, returns = train_monitor(tasks, config, tell)
    controller, costs = train_controller(tasks, config, tell)
    return Learned(monitor, controller, tuple(returns), tuple(costs))


def train_monitor(
    tasks: Sequence[Task], config: MetaConfig, tell: Tell = lambda text: None
) -> tuple[LossMonitorAgent, list[float]]:
    """The double DQN, over all episodes; each task is met with the same seed, against its own equal-weight curve."""
    decisions = config.episodes * (config.budget.steps // config.budget.frequency)
    agent = LossMonitorAgent(MonitorConfig(seed=config.seed, explore=max(1, round(0.7 * decisions))))
    equal = [run(task, Fixed, task.number, config.budget).metrics for task in tasks]
    chance = [run(task, RandomMonitor, task.number, config.budget).metrics for task in tasks]
    spread = _spread(chance, equal)
    returns = []
    for episode in range(config.episodes):
        place = episode % len(tasks)
        recorder = _Recorder(agent)
        found = run(tasks[place], MonitorOnly, tasks[place].number, config.budget, agent=recorder)
        paid = rewards(found.metrics, equal[place], spread)
        recorder.hand_over(paid)
        agent.learn(config.updates * len(paid))
        returns.append((equal[place][-1] - found.metric) / spread)
        if (episode + 1) % 10 == 0:
            tell(f"episode {episode + 1}: mean return {math.fsum(returns[-10:]) / 10:+.3f}, ε {agent.epsilon:.2f}")
    agent.freeze()
    return agent, returns


def train_controller(
    tasks: Sequence[Task], config: MetaConfig, tell: Tell = lambda text: None
) -> tuple[MetaLearningController, list[float]]:
    """CMA-ES on the metric at the end; all candidates of a generation meet the same tasks and seeds."""
    controller = MetaLearningController()
    budget = Budget(
        steps=config.controller_steps, calibration=config.budget.calibration, frequency=config.controller_steps
    )
    known: dict[tuple[int, int], float] = {}

    def cost(candidate: MetaLearningController, generation: int) -> float:
        ratios = []
        for number in range(config.judged):
            task, seed = tasks[(generation * config.judged + number) % len(tasks)], 1000 + generation
            key = (task.number, seed)
            if key not in known:
                known[key] = run(task, Fixed, seed, budget).metric
            ratios.append(run(task, ControllerOnly, seed, budget, controller=candidate).metric / known[key] - 1)
        return math.fsum(ratios) / len(ratios)

    costs = controller.learn(cost, config.generations, population=config.population, seed=config.seed)
    for number, each in enumerate(costs, start=1):
        tell(f"generation {number}: metric {each:+.2%} against equal weights")
    controller.freeze()
    return controller, costs


def offline_test(learned: Learned, config: MetaConfig, tell: Tell = lambda text: None) -> dict[str, list[list[Run]]]:
    """Every arm on tasks that nobody learned on, [seed][task]; arms share the first weights and the batches."""
    found: dict[str, list[list[Run]]] = {arm: [] for arm in ARMS}
    for number in range(config.test_seeds):
        tell(f"test, seed {number + 1} of {config.test_seeds}")
        runs = [
            run_arms(learned, make_task(TEST_TASKS + task, config.seed), TEST_SEEDS + number, config.budget)
            for task in range(config.test_tasks)
        ]
        for arm in ARMS:
            found[arm].append([each[arm] for each in runs])
    return found


def run_arms(learned: Learned, task: Task, seed: int, budget: Budget) -> dict[str, Run]:
    """One training with each arm."""
    agent: dict[str, Any] = {"agent": learned.monitor}
    controller: dict[str, Any] = {"controller": learned.controller}
    full = run(task, FullAdaptive, seed, budget, **agent, **controller)
    return {
        "no-op": run(task, Fixed, seed, budget),
        "monitor_only": run(task, MonitorOnly, seed, budget, **agent),
        "controller_only": run(task, ControllerOnly, seed, budget, **controller),
        "full_adaptive": full,
        "random_monitor": run(task, RandomMonitor, seed, budget),
        "time_average": run(task, TimeAverage, seed, budget, weights=full.weights),
    }


class _Recorder:
    """Lets the agent decide, and keeps what its replay needs until the rewards are known."""

    frozen = False

    def __init__(self, agent: LossMonitorAgent) -> None:
        self.agent = agent
        self.seen: list[tuple[list[float], list[bool], int]] = []

    def decide(self, state: list[float], allowed: list[bool], step: int = 0) -> int:
        action = self.agent.decide(state, allowed, step)
        self.seen.append((state, allowed, action))
        return action

    def hand_over(self, rewards: Sequence[float]) -> None:
        """One reward fewer than there were decisions: nothing comes after the last."""
        for place, reward in enumerate(rewards):
            state, _, action = self.seen[place]
            following, allowed, _ = self.seen[place + 1]
            self.agent.remember(state, action, reward, following, allowed, last=place + 1 == len(rewards))


def _spread(runs: Sequence[Sequence[float]], equal: Sequence[Sequence[float]]) -> float:
    """Standard deviation of what a decision by chance adds to the drop of the metric."""
    differences: npt.NDArray[np.float64] = np.concatenate(
        [np.diff(one) - np.diff(other) for one, other in zip(runs, equal, strict=True)]
    )
    return max(float(differences.std()), 1e-9)
