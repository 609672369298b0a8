"""Trainings on Ray: what is asked of it, with a stand-in for the library that runs tasks when they are waited for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.learn.strategies_data import logistic
from trading_bot.learn.optimizer import ParallelStrategyTrainer, TrainingConfig


class RayError(Exception):
    pass


class FakeRay(ModuleType):
    """The part of Ray that is used: tasks are done one at each `wait`, the oldest first; some are lost or hang."""

    def __init__(self, *, lost: Sequence[str] = (), hanging: Sequence[str] = ()) -> None:
        super().__init__("ray")
        self.__spec__ = ModuleSpec("ray", None)
        self.exceptions = SimpleNamespace(RayError=RayError)
        self.lost, self.hanging = lost, hanging
        self.begun = False
        self.cancelled: list[str] = []
        self.most_at_once = 0

    def is_initialized(self) -> bool:
        return self.begun

    def init(self, **_: Any) -> None:
        self.begun = True

    def remote(self, **options: Any) -> Callable[[Callable[..., Any]], Any]:
        assert options == {"num_cpus": 1, "max_retries": 0}
        return lambda function: SimpleNamespace(remote=lambda job: _Task(function, job))

    def wait(self, tasks: list[_Task], *, num_returns: int, timeout: float) -> tuple[list[_Task], list[_Task]]:
        self.most_at_once = max(self.most_at_once, len(tasks))
        ready = [task for task in tasks if task.job.name not in self.hanging][:num_returns]
        return ready, [task for task in tasks if task not in ready]

    def get(self, task: _Task) -> Any:
        if task.job.name in self.lost:
            raise RayError("its node is gone")
        return task.function(task.job)

    def cancel(self, task: _Task, *, force: bool) -> None:
        assert force
        self.cancelled.append(task.job.name)


class _Task:
    def __init__(self, function: Callable[..., Any], job: Any) -> None:
        self.function, self.job = function, job


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRay]:
    fake = FakeRay(lost=["lost"], hanging=["hangs"])
    monkeypatch.setitem(sys.modules, "ray", fake)
    sys.modules.pop("trading_bot.learn.ray_training", None)
    yield fake
    sys.modules.pop("trading_bot.learn.ray_training", None)


def test_tasks_that_are_lost_or_late_fail_alone(ray: FakeRay) -> None:
    names = ["one", "lost", "hangs", "two"]
    data = {name: logistic(seed) for seed, name in enumerate(names)}
    configs = dict.fromkeys(names) | {"hangs": {"timeout_seconds": 0.05}}
    trainer = ParallelStrategyTrainer(TrainingConfig(executor="ray", max_workers=2))
    reports = trainer.train_strategies(configs, data, epochs=2)
    assert [report.status for report in reports.values()] == ["trained", "died", "timed_out", "trained"]
    assert reports["lost"].error == "RayError: its node is gone"
    assert ray.cancelled == ["hangs"]
    assert ray.most_at_once == 2
    assert ray.begun


def test_an_interruption_cancels_what_runs(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(ray, "wait", interrupted)
    train_on_ray = importlib.import_module("trading_bot.learn.ray_training").train_on_ray
    trainer = ParallelStrategyTrainer(TrainingConfig())
    with pytest.raises(KeyboardInterrupt):
        train_on_ray(trainer._jobs(["one", "two"], dict.fromkeys(("one", "two"), logistic(0)), 2), 2)
    assert ray.cancelled == ["one", "two"]
