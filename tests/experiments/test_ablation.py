"""The ablation: what is run, what is written, and what its analysis tells."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.training.forecasting import swinging
from trading_bot.errors import TrainingError
from trading_bot.experiments import ablation as module
from trading_bot.experiments.ablation import MODES, PLACEBOS, Row, ablation, phase1, run
from trading_bot.experiments.ablation_analysis import RESULTS, analyze, interval, told
from trading_bot.experiments.ablation_tasks import MarketTask, Outcome, RunConfig
from trading_bot.training.history import TrainingHistory
from trading_bot.training.prepared_data import prepare_data

HEAD = '{"task": "market", "metric": "mae", "lower_is_better": true, "runs":'
QUICK = RunConfig(epochs=2, batch_size=16)


class Known:
    """A task whose scores are known beforehand."""

    name, metric, lower = "market", "mae", True
    scores: Mapping[tuple[str, int], float] = {
        ("fixed", 1): 1.0, ("monitor_only", 1): 1.2, ("controller_only", 1): 0.7, ("full_adaptive", 1): 0.8,
        ("fixed", 2): 2.0, ("monitor_only", 2): 2.4, ("controller_only", 2): 1.6, ("full_adaptive", 2): 1.9,
    }  # fmt: skip

    def __init__(self) -> None:
        self.options: dict[tuple[str, int], Mapping[str, Any]] = {}

    def train(
        self, policy: str, options: Mapping[str, Any], seed: int, config: RunConfig, board: Path | None
    ) -> Outcome:
        self.options[policy, seed] = options
        columns = {"train_loss": [0.6, 0.5], "val_loss": [0.5, 0.4], "val_combined": [1.0, 0.9], "seconds": [0.1, 7.0]}
        average = {"a": 0.25 * seed, "b": 1 - 0.25 * seed}
        return Outcome(
            {"mae": self.scores.get((policy, seed), 1.5)}, 2, {"a": 0.5, "b": 0.5}, average, TrainingHistory(columns)
        )


@pytest.fixture
def every_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each mode had its weight policy."""
    monkeypatch.setattr(module, "POLICIES", dict.fromkeys((*MODES.values(), *PLACEBOS.values())))


@pytest.fixture
def no_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if only weights that stay were there."""
    monkeypatch.setattr(module, "POLICIES", {"fixed": None})


# runs -----------------------------------------------------------------------------------------------------------------


def test_seeds_differ_and_reruns_are_the_same_bytes(tmp_path: Path) -> None:
    task = MarketTask(prepare_data(swinging(700), 3), batches=3)
    curves, rows = [], []
    for folder, seed in (("one", 1), ("again", 1), ("other", 2)):
        row, _ = run(task, "baseline", seed, QUICK, tmp_path / folder)
        curves.append((tmp_path / folder / f"baseline-seed-{seed}.csv").read_bytes())
        rows.append(row)
    assert curves[0] == curves[1]
    assert rows[0] == rows[1]
    assert curves[0] != curves[2]
    assert rows[0]["mae"] != rows[2]["mae"]
    head, *lines = curves[0].decode().splitlines()
    assert head == "epoch,train_loss,val_loss,val_mae,val_hit_rate,learning_rate,grad_norm"
    assert [line.split(",")[0] for line in lines] == ["1", "2"]
    assert set(rows[0]) >= {"mode", "seed", "mae", "hit_rate", "epoch", "weight_mse", "weight_dlf"}


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra [tensorboard] is not installed")
    task = MarketTask(prepare_data(swinging(700), 3), batches=2)
    run(task, "baseline", 1, RunConfig(epochs=1, batch_size=16), tmp_path, tensorboard=True)
    assert list((tmp_path / "tensorboard/baseline-seed-1").rglob("events*"))


def test_a_mode_without_its_policy_is_told_before_anything_is_trained(tmp_path: Path, no_policy: None) -> None:
    task = Known()
    with pytest.raises(
        TrainingError,
        match="the mode 'monitor_only' needs the weight policy 'monitor_only', and there is none among fixed; choose a "
        "mode that can be run: baseline",
    ):
        ablation(task, [1], QUICK, tmp_path)
    with pytest.raises(TrainingError, match="the mode 'full_adaptive' needs"):
        phase1(task, [1], QUICK, tmp_path / "results.csv")
    assert task.options == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("modes", "seeds", "words"),
    [
        (["basline"], [1], "unknown mode 'basline'; did you mean 'baseline'?"),
        (["baseline"], [], r"found the seeds \[\]; wanted at least one"),
        (["baseline"], [1, 1], r"found the seeds \[1, 1\]; wanted at least one, each once"),
        (["baseline", "time_average"], [1], "found time_average without full_adaptive, whose mean weights it takes"),
    ],
)
def test_what_cannot_be_run(
    tmp_path: Path, every_policy: None, modes: list[str], seeds: list[int], words: str
) -> None:  # fmt: skip
    with pytest.raises(TrainingError, match=words):
        ablation(Known(), seeds, QUICK, tmp_path, modes=modes)


def test_the_constant_placebo_alone_has_no_weights(tmp_path: Path, every_policy: None) -> None:
    with pytest.raises(TrainingError, match="time_average has no weights of its own; run the ablation"):
        run(Known(), "time_average", 1, QUICK, tmp_path)


def test_everything_is_written_the_same_each_time(tmp_path: Path, every_policy: None) -> None:
    heard = list[Row]()
    for folder in ("one", "again"):
        ablation(Known(), [1, 2], QUICK, tmp_path / folder, heard.append)
    assert len(heard) == 2 * 2 * (len(MODES) + len(PLACEBOS))
    one, again = (
        {path.relative_to(tmp_path / folder): path.read_bytes() for path in (tmp_path / folder).rglob("*.*")}
        for folder in ("one", "again")
    )
    assert one == again
    assert {str(path) for path in one} >= {"results.csv", RESULTS, "curves/full_adaptive-seed-2.csv"}
    assert one[Path("curves/baseline-seed-1.csv")] == b"epoch,train_loss,val_loss\n1,0.6,0.5\n2,0.5,0.4\n"
    assert one[Path("results.csv")].decode().splitlines()[:2] == [
        "mode,seed,mae,epoch,weight_a,weight_b", "baseline,1,1.0,2,0.5,0.5",
    ]  # fmt: skip


def test_the_constant_placebo_takes_the_mean_weights_of_the_adaptive_run(tmp_path: Path, every_policy: None) -> None:
    task = Known()
    ablation(task, [1, 2], QUICK, tmp_path)
    assert task.options["time_average", 1] == {"weights": {"a": 0.25, "b": 0.75}}
    assert task.options["time_average", 2] == {"weights": {"a": 0.5, "b": 0.5}}
    assert task.options["full_adaptive", 1] == {}


def test_what_was_learned_goes_to_the_modes_that_use_it(tmp_path: Path, every_policy: None) -> None:
    task, learned = Known(), RunConfig(epochs=1, monitor=Path("m"), controller=Path("c"))
    ablation(task, [1], learned, tmp_path)
    assert {policy: dict(options) for (policy, _), options in task.options.items() if policy != "time_average"} == {
        "fixed": {}, "monitor_only": {"agent": Path("m")}, "controller_only": {"controller": Path("c")},
        "full_adaptive": {"agent": Path("m"), "controller": Path("c")}, "random_monitor": {},
    }  # fmt: skip


def test_phase1_writes_one_table(tmp_path: Path, every_policy: None) -> None:
    phase1(Known(), [1, 2], QUICK, tmp_path / "results.csv")
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert [",".join(line.split(",")[:3]) for line in lines[1:]] == [
        "baseline,1,1.0", "full_adaptive,1,0.8", "baseline,2,2.0", "full_adaptive,2,1.9",
    ]  # fmt: skip
    assert (tmp_path / "results/full_adaptive-seed-2.csv").is_file()


# analysis -------------------------------------------------------------------------------------------------------------


def test_effects_are_those_of_the_formulas(tmp_path: Path, every_policy: None) -> None:
    ablation(Known(), [1, 2], QUICK, tmp_path)
    found = analyze(tmp_path)
    # seed 1: ½[(1.2−1)+(0.8−0.7)] = 0.15; seed 2: ½[(2.4−2)+(1.9−1.6)] = 0.35; t of one degree of freedom is 12.706
    monitor = found.effects["monitor"]
    assert monitor.mean == pytest.approx(0.25)
    assert monitor.high == pytest.approx(0.25 + 12.706 * math.sqrt(0.02) / math.sqrt(2))
    assert found.effects["controller"].mean == pytest.approx(((-0.3 - 0.4) / 2 + (-0.4 - 0.5) / 2) / 2)
    assert found.effects["interaction"].mean == pytest.approx(((0.1 - 0.2) / 2 + (0.3 - 0.4) / 2) / 2)
    assert found.differences["full_adaptive"].mean == pytest.approx(-0.15)
    assert found.means["baseline"].mean == pytest.approx(1.5)
    assert set(found.means) == {*MODES, *PLACEBOS}
    words = told(found)
    assert "market: mae by mode, less is better" in words
    assert "changed nothing" not in words
    assert "monitor           +0.250000   -1.020600 … +1.520600   not shown" in words


def test_an_effect_that_is_sure_is_told_by_which_way_is_better(tmp_path: Path) -> None:
    runs = [
        {"mode": mode, "seed": seed, "accuracy": 0.5 + gain + 0.001 * seed}
        for seed in range(5)
        for mode, gain in zip(MODES, (0.0, -0.003, 0.008, 0.005), strict=True)
    ]
    facts = {"task": "cifar10", "metric": "accuracy", "lower_is_better": False, "runs": runs}
    (tmp_path / RESULTS).write_text(json.dumps(facts))
    words = told(analyze(tmp_path))
    assert "more is better" in words
    assert [line.split()[-1] for line in words.splitlines()[-3:]][:2] == ["harms", "helps"]


def test_one_seed_has_no_interval_and_missing_modes_no_effect(tmp_path: Path) -> None:
    runs = [{"mode": "baseline", "seed": 1, "mae": 0.5}, {"mode": "monitor_only", "seed": 1, "mae": 0.25}]
    facts = {"task": "market", "metric": "mae", "lower_is_better": True, "runs": runs}
    (tmp_path / RESULTS).write_text(json.dumps(facts))
    found = analyze(tmp_path)
    assert found.effects == {}
    assert (found.differences["monitor_only"].mean, found.differences["monitor_only"].low) == (-0.25, None)
    assert "one seed: no interval" in told(found)
    assert "no seed was run in all of baseline" in told(found)


def test_intervals_are_student_s() -> None:
    found = interval([1.0, 2.0, 3.0, 4.0])
    assert found.low == pytest.approx(2.5 - 3.182 * math.sqrt(5 / 3) / 2)
    wide = interval([float(number) for number in range(41)])  # 40 degrees of freedom: 2.021
    assert wide.high is not None
    assert (wide.high - wide.mean) / (math.sqrt(41 * 42 / 12) / math.sqrt(41)) == pytest.approx(2.021, abs=2e-3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read .*; wanted a folder that `trading-bot experiment ablation` wrote"),
        ("no JSON", "is no result of an ablation"),
        ('{"task": "market"}', "is no result of an ablation .KeyError: 'metric'"),
        (f"{HEAD} []}}", "holds no runs"),
        (f'{HEAD} [{{"mode": "baseline", "seed": 1, "mae": NaN}}]}}', "baseline with seed 1 has mae nan"),
    ],
)  # fmt: skip
def test_what_is_no_result(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / RESULTS).write_text(content)
    with pytest.raises(TrainingError, match=words):
        analyze(tmp_path)


def test_the_analysis_needs_nothing_but_python(tmp_path: Path) -> None:
    script = (
        "import sys; before = set(sys.modules)\nimport trading_bot.experiments.ablation_analysis\n"
        "tops = {name.partition('.')[0] for name in set(sys.modules) - before} - {'trading_bot'}\n"
        "print(sorted(tops - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
