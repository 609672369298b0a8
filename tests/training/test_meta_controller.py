"""CMA-ES finds known minima; the controller turns a task's description into schedules."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from trading_bot.errors import CheckpointError, TrainingError
from trading_bot.training.cma_es import CMAES, Floats, minimise
from trading_bot.training.controller_schedule import DESCRIBE
from trading_bot.training.loss_monitor import LossMonitorAgent
from trading_bot.training.meta_controller import DESCRIPTORS, PARAMETERS, MetaLearningController, ScheduleParameters
from trading_bot.training.weight_policies import Alignment, Seen, Setting
from trading_bot.training.weight_policies.controller_only import ControllerOnly


def sphere(x: Floats) -> float:
    return float((x**2).sum())


def rosenbrock(x: Floats) -> float:
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


# ── CMA-ES ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(3))
def test_the_sphere(seed: int) -> None:
    assert sphere(minimise(sphere, np.full(8, 3.0), 1.0, 160, seed=seed)) < 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_rosenbrock(seed: int) -> None:
    """A bent valley, which only a covariance that adapts goes along in so few steps."""
    assert minimise(rosenbrock, np.zeros(4), 0.5, 350, seed=seed) == pytest.approx(np.ones(4), abs=1e-4)


def test_a_long_ellipsoid_is_no_harder_than_the_sphere_once_it_is_learned() -> None:
    scales = 10.0 ** np.linspace(0, 6, 6)
    found = minimise(lambda x: float((scales * x**2).sum()), np.ones(6), 1.0, 350)
    assert float((scales * found**2).sum()) < 1e-8


def test_the_same_seed_the_same_search() -> None:
    one, two, other = (CMAES(np.zeros(3), 1.0, seed=seed) for seed in (5, 5, 6))
    for _ in range(5):
        for search in (one, two, other):
            candidates = search.ask()
            assert np.array_equal(candidates, search.ask()), "until they are told, the same ones"
            search.tell(candidates, [rosenbrock(each) for each in candidates])
    assert one.mean.tobytes() == two.mean.tobytes()
    assert one.mean.tobytes() != other.mean.tobytes()


def test_what_failed_is_the_worst() -> None:
    search = CMAES(np.zeros(2), 1.0)
    candidates = search.ask()
    costs = np.where(candidates[:, 0] > 0, math.nan, candidates[:, 0])
    search.tell(candidates, costs)
    assert np.isfinite(search.mean).all()
    assert search.mean[0] < 0


def test_bad_searches() -> None:
    with pytest.raises(TrainingError, match="start of 1 numbers"):
        CMAES([0.0], 1.0)
    with pytest.raises(TrainingError, match="sigma is 0"):
        CMAES([0.0, 0.0], 0)
    search = CMAES([0.0, 0.0], 1.0)
    with pytest.raises(TrainingError, match="wanted 6 of both"):
        search.tell(search.ask()[:3], [1, 2, 3])


# ── the controller ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_schedule_goes_from_start_to_end() -> None:
    schedule = ScheduleParameters(math.log(2), math.log(0.5), 0.25, 40.0)
    assert schedule.ratio(0.0) == pytest.approx(2, rel=1e-3)
    assert schedule.ratio(0.25) == pytest.approx(1.0)
    assert schedule.ratio(1.0) == pytest.approx(0.5, rel=1e-3)


def test_before_it_has_learned_all_weights_are_equal() -> None:
    proposed = MetaLearningController().propose([[1.0, 0.3, -0.2, 0.5], [1.0, -0.9, 0.0, 0.0]])
    assert [each.ratio(p) for each in proposed for p in (0.0, 0.4, 1.0)] == [1.0] * 6


@pytest.mark.parametrize("seed", range(5))
def test_whatever_its_parameters_proposals_stay_in_bounds(seed: int) -> None:
    random = np.random.default_rng(seed)
    controller = MetaLearningController(100 * random.normal(size=PARAMETERS))
    for each in controller.propose(random.normal(size=(3, 4)).tolist()):
        assert 0 <= each.midpoint <= 1
        assert 2 <= each.slope <= 50
        assert all(0.2 - 1e-9 <= each.ratio(p) <= 5 + 1e-9 for p in np.linspace(0, 1, 11))


def test_it_learns_across_tasks_what_their_descriptors_call_for() -> None:
    """Losses that agree with the main one should end at twice its weight, those that oppose it at half."""
    tasks = [[[1.0, cosine, 0.1, 0.0]] for cosine in (-0.8, -0.3, 0.4, 0.9)]

    def cost(controller: MetaLearningController, generation: int) -> float:
        far = 0.0
        for task in tasks:
            wanted = math.log(2) * math.copysign(1, task[0][1])
            far += (math.log(controller.propose(task)[0].ratio(1.0)) - wanted) ** 2
        return far

    controller = MetaLearningController()
    before = cost(controller, 0)
    curve = controller.learn(cost, 40, seed=1)
    assert cost(controller, 0) < 0.3 * before
    assert curve[-1] < curve[0]
    unseen = [controller.propose([[1.0, cosine, 0.0, 0.0]])[0].ratio(1.0) for cosine in (-0.6, 0.6)]
    assert unseen[0] < 0.8 < 1.25 < unseen[1], "a task like those begins with what did well for them"
    again = MetaLearningController(controller.parameters)
    assert np.mean(again.learn(cost, 3)) < curve[0], "learning goes on from what is known"
    controller.freeze()
    with pytest.raises(TrainingError, match="frozen"):
        controller.learn(cost, 1)


def test_files(tmp_path: Path) -> None:
    controller = MetaLearningController(np.arange(PARAMETERS) / 7)
    controller.freeze()
    controller.save(tmp_path / "a.safetensors", {"why": "a test"})
    again = MetaLearningController.load(tmp_path / "a.safetensors")
    assert again.frozen
    assert again.parameters.tobytes() == controller.parameters.tobytes()
    again.save(tmp_path / "b.safetensors", {"why": "a test"})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    LossMonitorAgent().save(tmp_path / "monitor.safetensors")
    with pytest.raises(CheckpointError, match="is loss monitor of None; wanted a meta controller"):
        MetaLearningController.load(tmp_path / "monitor.safetensors")


def test_bad_controllers() -> None:
    with pytest.raises(TrainingError, match=f"wanted {PARAMETERS} finite numbers"):
        MetaLearningController([1.0])
    with pytest.raises(TrainingError, match=r"described by \[1.0\]"):
        MetaLearningController().propose([[1.0]])


# ── its policy ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_is_described_first_and_then_goes_by_its_schedule() -> None:
    width = len(DESCRIPTORS)
    parameters = np.zeros(PARAMETERS)
    parameters[:width] = (0.0, 1.0, 0.0, 0.0)  # start: as the cosine says
    parameters[width : 2 * width] = (-0.5, 0.0, 0.0, 0.0)
    policy = ControllerOnly(Setting(("main", "with", "against")), controller=MetaLearningController(parameters))
    gradients = torch.tensor([[1.0, 0.0], [3.0, 4.0], [-1.0, 0.0]])
    wishes = []
    for step in range(1, 101):
        seen = Seen(step, step / 100, (1.0,) * 3, (1.0,) * 3, (1 / 3,) * 3, gradients,
                    lambda number: Alignment(1.0, (0.0,) * 3))  # fmt: skip
        wishes.append(policy.weigh(seen).weights)
    assert wishes[: DESCRIBE - 1] == [[1.0, 1.0, 1.0]] * (DESCRIBE - 1)
    most = math.log(5)
    start, end = (most * math.tanh(0.6), most * math.tanh(-1.0)), most * math.tanh(-0.5)
    for progress in (0.2, 0.5, 1.0):
        done = 1 / (1 + math.exp(-10 * (progress - 0.5)))
        expected = [math.exp(each + (end - each) * done) for each in start]
        assert wishes[round(progress * 100) - 1] == pytest.approx([1.0, *expected], rel=1e-5)
