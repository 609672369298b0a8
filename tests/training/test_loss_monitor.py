"""The monitor learns what pays, is at work without chance, and is undone where it does harm."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trading_bot.errors import CheckpointError, TrainingError
from trading_bot.experiments import meta_training
from trading_bot.experiments.meta_training_report import MetaFindings
from trading_bot.experiments.statistics import Difference
from trading_bot.training import monitor_state
from trading_bot.training.loss_meta_tasks import Budget, make_task, names_of, run
from trading_bot.training.loss_meta_training import ARMS, Learned, MetaConfig, meta_train, rewards, run_arms
from trading_bot.training.loss_monitor import LossMonitorAgent, MonitorConfig
from trading_bot.training.meta_controller import PARAMETERS, MetaLearningController
from trading_bot.training.monitor_decisions import Decisions
from trading_bot.training.monitor_shipped import CONTROLLER, MONITOR
from trading_bot.training.weight_policies import Alignment, Seen, Setting, WeightPolicy
from trading_bot.training.weight_policies.controller_only import ControllerOnly
from trading_bot.training.weight_policies.fixed import Fixed
from trading_bot.training.weight_policies.full_adaptive import FullAdaptive
from trading_bot.training.weight_policies.monitor_only import MonitorOnly
from trading_bot.training.weight_policies.random_monitor import RandomMonitor
from trading_bot.training.weight_policies.time_average import TimeAverage

TOY = MonitorConfig(state=2, actions=3, width=16, learning_rate=5e-3, tau=0.05, explore=200, batch=32)
A, B, END = [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]
ALL = [True, True, True]
SHORT = Budget(steps=60, calibration=5, frequency=20)
KINDS: dict[str, type[WeightPolicy]] = {"monitor": MonitorOnly, "full": FullAdaptive, "random": RandomMonitor}


def play(agent: LossMonitorAgent, episodes: int) -> None:
    """From A, action 1 leads to B for nothing and action 2 ends it for 0.5; in B, action 2 pays 1, action 1 costs 1.

    No-op pays nothing, and ends it.
    """
    for _ in range(episodes):
        action = agent.decide(A, ALL)
        paid = 0.5 if action == 2 else 0.0
        agent.remember(A, action, paid, B if action == 1 else END, ALL, last=action != 1)
        if action == 1:
            second = agent.decide(B, ALL)
            agent.remember(B, second, (0.0, -1.0, 1.0)[second], END, ALL, last=True)
        agent.learn(2)


def sight(step: int, metric: float, count: int = 2) -> Seen:
    return Seen(
        step=step, progress=step / 100, losses=(1.0,) * count, sizes=(1.0,) * count, weights=(1 / count,) * count,
        gradients=torch.eye(count, 4), inner=lambda number: Alignment(metric, (0.0,) * count),
    )  # fmt: skip


class Always:
    """Decides the same."""

    def __init__(self, action: int, frozen: bool = True) -> None:
        self.action, self.frozen = action, frozen

    def decide(self, state: list[float], allowed: list[bool], step: int = 0) -> int:
        assert len(state) == monitor_state.STATE
        assert all(map(math.isfinite, state))
        return self.action


def never() -> LossMonitorAgent:
    """A frozen monitor that no lead convinces."""
    agent = LossMonitorAgent(MonitorConfig(margin=math.inf))
    agent.freeze()
    return agent


# ── it learns ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_learns_to_go_the_long_way() -> None:
    agent = LossMonitorAgent(TOY)
    assert agent.epsilon == 1.0
    play(agent, 300)
    assert agent.epsilon == pytest.approx(0.05)
    agent.freeze()
    assert agent.decide(A, ALL) == 1, "0.9 later is worth more than 0.5 at once"
    assert agent.decide(B, ALL) == 2
    assert agent.decide(B, [True, True, False]) == 0, "what is left costs"
    # what each is worth, by hand, to every head
    assert agent.values(B).numpy() == pytest.approx(np.tile([0.0, -1.0, 1.0], (3, 1)), abs=0.15)
    assert agent.values(A)[:, 1:].numpy() == pytest.approx(np.tile([0.9, 0.5], (3, 1)), abs=0.15)


def test_an_update_is_that_of_double_q_learning() -> None:
    agent = LossMonitorAgent(replace(TOY, batch=1, keep=1.0))
    with torch.no_grad():
        for parameter in agent.target.parameters():
            parameter.mul_(-1.5)  # so that the two networks disagree on what is best
    agent.remember(A, 1, 0.25, B, [True, False, True], last=False)
    found, online, target = agent.values(A), agent.values(B), agent.target(torch.tensor([B]))[0].detach()
    loss = 0.0
    for head in range(3):
        best = max((0, 2), key=lambda action: float(online[head, action]))
        error = float(found[head, 1]) - (0.25 + 0.9 * float(target[head, best]))
        loss += (0.5 * error**2 if abs(error) <= 1 else abs(error) - 0.5) / 3
    before = [parameter.clone() for parameter in agent.target.parameters()]
    assert agent.learn() == pytest.approx(loss, rel=1e-5)
    for old, new, online_now in zip(before, agent.target.parameters(), agent.online.parameters(), strict=True):
        assert torch.allclose(new, old + 0.05 * (online_now - old), atol=1e-7)


def test_the_defaults_are_those_agreed() -> None:
    c = MonitorConfig()
    assert (c.width, c.heads, c.gamma, c.learning_rate, c.tau) == (64, 3, 0.9, 5e-4, 0.005)
    assert (c.capacity, c.epsilon_start, c.epsilon_end) == (10_000, 1.0, 0.05)
    assert [tuple(p.shape) for p in LossMonitorAgent().online.parameters()][::2] == [
        (64, monitor_state.STATE), (64, 64), (3 * monitor_state.ACTIONS, 64),
    ]  # fmt: skip


def test_the_replay_forgets_the_oldest() -> None:
    agent = LossMonitorAgent(replace(TOY, capacity=5, batch=4))
    for number in range(8):
        agent.remember([float(number), 0.0], 0, 0.0, END, ALL, last=True)
    assert sorted(agent.replay.tensors()["states"][:, 0].tolist()) == [3, 4, 5, 6, 7]


# ── it is at work ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_gate_wants_every_head() -> None:
    agent = LossMonitorAgent(replace(TOY, margin=0.1))
    agent.freeze()

    def decide(heads: list[list[float]], allowed: list[bool] = ALL) -> int:
        with torch.no_grad():
            agent.online.heads.weight.zero_()
            agent.online.heads.bias.copy_(torch.tensor(heads).flatten())
        return agent.decide(A, allowed)

    assert decide([[0, 1, 0], [0, 1, 0], [0, 1, 0]]) == 1
    assert decide([[0, 9, 0], [0, 9, 0], [0, 0.05, 0]]) == 0, "one head is not convinced"
    assert decide([[0, 9, 0.2], [0, 9, 0.2], [0, -1, 0.2]]) == 2, "the best of what all of them prefer"
    assert decide([[5, 5.2, 0]] * 3) == 1, "by a margin, not by sign"
    assert decide([[0, 1, 0.5]] * 3, [True, False, True]) == 2
    assert decide([[0, 1, 0]] * 3, [True, False, False]) == 0


def test_a_frozen_monitor_neither_explores_nor_learns() -> None:
    agent = LossMonitorAgent(TOY)
    assert len({agent.decide(A, ALL) for _ in range(50)}) == 3, "before, it does"
    agent.freeze()
    before = agent.decisions
    assert agent.epsilon == 0.0
    assert len({agent.decide(A, ALL) for _ in range(200)}) == 1
    assert agent.decisions == before
    with pytest.raises(TrainingError, match="frozen and learns no more"):
        agent.learn()
    with pytest.raises(TrainingError, match="frozen and learns no more"):
        agent.remember(A, 0, 0.0, END, ALL, last=True)


def factors_after(metrics: list[float], frozen: bool = True) -> list[list[float]]:
    decisions = Decisions(2, 10, Always(1, frozen))
    memory = decisions.begin()
    found = []
    for number, metric in enumerate(metrics, start=1):
        found.append(decisions.look(memory, sight(10 * number, metric)))
    return found


def test_two_bad_decisions_are_undone_and_no_more_are_made() -> None:
    up = [[1.25**n] for n in range(5)]
    assert factors_after([1.0, 0.9, 0.8, 0.7]) == up[1:5], "while it does good it goes on"
    assert factors_after([1.0, 1.1, 1.0, 1.1]) == up[1:5], "bad, good, bad: not two in a row"
    # after the first bad one it may try once more; after the second all is as before the first
    assert factors_after([1.0, 0.9, 1.0, 1.1, 0.5, 0.4]) == [*up[1:4], up[1], up[1], up[1]]
    assert factors_after([1.0, 1.001, 1.002, 1.003]) == up[1:5], "chance is no harm"
    assert factors_after([1.0, 1.1, 1.2, 1.3], frozen=False) == up[1:5], "who learns must see what harm is"


def test_actions_and_their_reach() -> None:
    assert monitor_state.act([1.0, 2.0], 0) == [1.0, 2.0]
    assert monitor_state.act([1.0, 2.0], 1) == [1.25, 2.0]
    assert monitor_state.act([1.0, 2.0], 4) == [1.0, 1.6]
    assert monitor_state.allowed_actions([4.5, 0.21]) == [True, False, True, True, False, False, False]
    with pytest.raises(TrainingError, match="there are 5 losses; a monitor knows 2 to 4"):
        Decisions(5, 10, None)


def test_the_state_says_what_it_should() -> None:
    memory = Decisions(2, 10, Always(0)).begin()
    for step in range(1, 41):
        seen = replace(
            sight(step, 1.0), sizes=(1.0, 2.0 if step % 2 else 4.0), weights=(0.25, 0.75),
            gradients=torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]),
        )  # fmt: skip
        monitor_state.notice(memory, seen)
    for metric in (1.0, 0.9, 0.81):
        monitor_state.measure(memory, sight(40, metric))
    found = monitor_state.vector(memory, replace(seen, progress=0.75), 2, 0.5)
    assert len(found) == monitor_state.STATE
    assert found[:4] == pytest.approx([0.0, 0.0, 1.0, 0.0], abs=1e-6)
    assert found[5] == pytest.approx(1 / 3, abs=0.05), "3 ± 1"
    assert found[6] == pytest.approx((1 - 0.9**8) * math.sqrt(0.5), abs=1e-5)
    assert found[7] == pytest.approx(math.log(3))
    assert found[8:16] == [0.0] * 8, "there are no more losses"
    progress, rate, norm, before, last, gap = found[16:22]
    assert (progress, rate, norm) == pytest.approx((0.5, math.log(0.5), 0.0))
    assert before == pytest.approx(5 * math.log(0.9))
    assert last == pytest.approx(5 * math.log(0.9))
    assert gap == pytest.approx(math.log(0.81)), "the metric fell, the main loss did not"
    assert found[22:] == [0, 0, 1, 0, 0, 0, 0]


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_seed_the_same_bytes_across_a_stop(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in ("whole", "first", "second", "other")]
    whole = LossMonitorAgent(TOY)
    play(whole, 60)
    whole.save(files[0])
    part = LossMonitorAgent(TOY)
    play(part, 35)
    part.save(files[1])
    resumed = LossMonitorAgent.load(files[1])
    play(resumed, 25)
    resumed.save(files[2])
    assert files[0].read_bytes() == files[2].read_bytes()
    other = LossMonitorAgent(replace(TOY, seed=1))
    play(other, 60)
    other.save(files[3])
    assert not torch.equal(other.values(A), whole.values(A))


def test_a_frozen_file_is_the_network_alone(tmp_path: Path) -> None:
    agent = LossMonitorAgent(TOY)
    play(agent, 40)
    agent.save(tmp_path / "learning.safetensors")
    agent.freeze()
    agent.save(tmp_path / "frozen.safetensors", {"why": "a test"})
    assert (tmp_path / "frozen.safetensors").stat().st_size < (tmp_path / "learning.safetensors").stat().st_size
    again = LossMonitorAgent.load(tmp_path / "frozen.safetensors")
    assert again.frozen
    assert torch.equal(again.values(B), agent.values(B))
    with pytest.raises(CheckpointError, match="cannot be read"):
        LossMonitorAgent.load(tmp_path / "absent.safetensors")
    MetaLearningController().save(tmp_path / "controller.safetensors")
    with pytest.raises(CheckpointError, match="is no loss monitor but meta controller"):
        LossMonitorAgent.load(tmp_path / "controller.safetensors")


@pytest.mark.parametrize(
    ("options", "match"),
    [({"heads": 0}, "heads is 0"), ({"gamma": 1.5}, "from 0 to 1"), ({"margin": -1}, "margin is -1"),
     ({"learning_rate": 0}, "above 0")],
)  # fmt: skip
def test_settings_that_make_no_sense(options: dict[str, Any], match: str) -> None:
    with pytest.raises(TrainingError, match=match):
        MonitorConfig(**options)
    with pytest.raises(TrainingError, match="3 numbers; wanted 2"):
        LossMonitorAgent(TOY).decide([1.0, 2.0, 3.0], ALL)


# ── as a policy ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_that_never_acts_changes_no_bit() -> None:
    task = make_task(1)
    plain = run(task, Fixed, 3, SHORT)
    for options in ({"agent": never()}, {"agent": never(), "controller": MetaLearningController()}):
        kind = FullAdaptive if len(options) == 2 else MonitorOnly
        found = run(task, kind, 3, SHORT, **options)
        assert np.array_equal(found.errors, plain.errors)
        assert found.actions == (0, 0, 0)
    acting = run(task, MonitorOnly, 3, SHORT, agent=Always(1))
    assert not np.array_equal(acting.errors, plain.errors)
    assert acting.weights[names_of(task)[1]] > plain.weights[names_of(task)[1]]


def test_the_reward_rows_are_never_trained_on() -> None:
    task = make_task(1)
    rows = {part: {tuple(row) for row in getattr(task, part)[0].tolist()} for part in ("train", "reward", "test")}
    assert not rows["train"] & rows["reward"]
    assert not (rows["train"] | rows["reward"]) & rows["test"]
    other = replace(task, reward=make_task(2).reward)
    for kind, options in ((MonitorOnly, {"agent": Always(1, frozen=False)}), (RandomMonitor, {})):
        one, two = (run(each, kind, 0, SHORT, **options) for each in (task, other))
        assert one.metrics != two.metrics, "they are looked at"
        assert np.array_equal(one.errors, two.errors), "and teach nothing"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_its_memory_is_all_it_needs(kind: type[WeightPolicy]) -> None:
    def make() -> WeightPolicy:
        setting = Setting(("a", "b", "c"), frequency=5, seed=4)
        learned = {"controller": MetaLearningController(np.linspace(-1, 1, PARAMETERS))}
        if kind is RandomMonitor:
            return kind(setting)
        return kind(setting, agent=Always(3), **(learned if kind is FullAdaptive else {}))  # type: ignore[call-arg]

    sights = [replace(sight(step, 1.0 + 0.3 * math.sin(step), 3), sizes=(1.0, 1 + step % 3, 2.0))
              for step in range(1, 61)]  # fmt: skip
    policy = make()
    wishes = [policy.weigh(each).weights for each in sights]
    first, second = make(), make()
    for each in sights[:33]:
        first.weigh(each)
    second.memory = json.loads(json.dumps(first.memory))
    assert [second.weigh(each).weights for each in sights[33:]] == wishes[33:]
    kept = copy.deepcopy(make().memory)
    assert make().memory == kept
    assert all(wish is not None and wish[0] == 1.0 for wish in wishes), "the main loss stays 1"
    assert any(wish != wishes[0] for wish in wishes)


def test_the_placebos(tmp_path: Path) -> None:
    def curve(seed: int, rate: float = 6 / 7) -> list[Any]:
        policy = RandomMonitor(Setting(("a", "b"), 5, seed=seed), rate=rate)
        return [policy.weigh(sight(step, 1.0)).weights for step in range(1, 101)]

    assert curve(0) == curve(0)
    assert curve(0) != curve(1)
    assert curve(0, 0.0) == [[1.0, 1.0]] * 100
    history = tmp_path / "history.json"
    lines = [{"step": 10, "weight_a": 0.5, "weight_b": 0.5}, {"step": 20, "weight_a": 0.7, "weight_b": 0.3}]
    history.write_text(json.dumps({"scales": {}, "lines": lines}))
    policy = TimeAverage(Setting(("a", "b")), history=history)
    assert policy.weigh(sight(1, 1.0)).weights == pytest.approx([0.6, 0.4])
    assert TimeAverage(Setting(("a", "b")), weights={"a": 3, "b": 1}).weigh(sight(1, 1.0)).weights == [0.75, 0.25]
    with pytest.raises(TrainingError, match="no weights of a, c"):
        TimeAverage(Setting(("a", "c")), history=history)
    with pytest.raises(TrainingError, match="wanted one of them"):
        TimeAverage(Setting(("a", "b")), history=history, weights={"a": 1, "b": 1})


# ── meta-training ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rewards_are_drops_beyond_equal_weights() -> None:
    assert rewards([1.0, 0.8, 0.9], [1.0, 0.9, 0.7], 0.1) == pytest.approx([1.0, -2.0])  # −3, clipped
    equal = [1.0, 0.7, 0.6]
    assert rewards(equal, equal, 0.1) == [0.0, 0.0]


def test_meta_training_gives_the_same_bytes_and_ends_in_a_paired_test(tmp_path: Path) -> None:
    sizes = {"tasks": 1, "episodes": 2, "updates": 1, "generations": 1, "population": 4, "judged": 1,
             "test_tasks": 1, "test_seeds": 1}  # fmt: skip
    config = MetaConfig(**sizes, budget=Budget(steps=100), controller_steps=40)
    learned = meta_train(config)
    assert learned.monitor.frozen
    assert learned.controller.frozen
    assert (len(learned.returns), len(learned.costs)) == (2, 1)
    assert learned.monitor.replay.added == 2, "two decisions an episode, of which the last has nothing after it"
    learned.monitor.save(tmp_path / "monitor.safetensors")
    learned.controller.save(tmp_path / "controller.safetensors")
    words = [f"--{name.replace('_', '-')}={value}" for name, value in sizes.items()]
    folders = {name: tmp_path / name for name in ("output", "work", "ship")}
    meta_training.main(
        [*words, "--steps=100", "--controller-steps=40", *(f"--{name}={path}" for name, path in folders.items())]
    )
    for mine, its in (("monitor", MONITOR), ("controller", CONTROLLER)):
        assert (tmp_path / f"{mine}.safetensors").read_bytes() == (folders["work"] / its).read_bytes(), mine
    assert not folders["ship"].exists(), "one task is no test to ship anything by"
    page = (folders["output"] / "loss-monitor.md").read_text()
    assert "monitor_only is not shipped: no-op ships in its place" in page
    assert "--episodes 2" in page
    assert (folders["output"] / "loss-monitor.png").exists()


def test_arms_are_paired() -> None:
    controller = MetaLearningController([1.0] + [0.0] * (PARAMETERS - 1))
    runs = run_arms(Learned(never(), controller, (), ()), make_task(1), 0, SHORT)
    assert list(runs) == list(ARMS)
    assert np.array_equal(runs["monitor_only"].errors, runs["no-op"].errors)
    assert np.array_equal(runs["controller_only"].errors, runs["full_adaptive"].errors)
    assert not np.array_equal(runs["random_monitor"].errors, runs["no-op"].errors)
    assert runs["time_average"].weights == pytest.approx(runs["full_adaptive"].weights, abs=0.02)


@pytest.mark.parametrize(
    ("high", "tasks", "seeds", "ships"), [(-0.001, 16, 2, True), (0.0, 16, 2, False), (-1, 14, 2, False),
                                          (-1, 16, 1, False)],
)  # fmt: skip
def test_only_what_is_better_beyond_chance_ships(high: float, tasks: int, seeds: int, ships: bool) -> None:
    found = Difference(-2.0, -3.0, high, 0.01, seeds, tasks, 400)
    findings = MetaFindings(
        config=MetaConfig(test_tasks=tasks, test_seeds=seeds), runs={},
        learned=Learned(never(), MetaLearningController(), (), ()),
        comparisons={(arm, "no-op"): found for arm in ARMS}, command="", learning=0, testing=0, elapsed=0,
    )  # fmt: skip
    assert findings.ships("monitor_only") is ships
    assert ("monitor_only is shipped" in findings.verdict()) is ships


def test_a_controller_of_other_tasks_is_used_as_it_is() -> None:
    task = make_task(1)
    controller = MetaLearningController([1.0] + [0.0] * 3 + [1.0] + [0.0] * 5)
    found = run(task, ControllerOnly, 0, Budget(steps=60, calibration=5, frequency=20), controller=controller)
    assert found.weights[names_of(task)[0]] < 1 / len(task.losses), "all the others have gained"
