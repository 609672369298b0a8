"""The ablation: what is run, what is written, and what its analysis tells."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.forecasting import swinging
from trading_bot.errors import CheckpointError, TrainingError
from trading_bot.experiments import ablation as module
from trading_bot.experiments.ablation import MODES, PLACEBOS, ablation, phase1, run
from trading_bot.experiments.ablation_analysis import RESULTS, analyze, interval, told
from trading_bot.experiments.ablation_kept import FILE, Row
from trading_bot.experiments.ablation_tasks import MarketTask, Outcome, RunConfig
from trading_bot.training.history import TrainingHistory
from trading_bot.training.prepared_data import prepare_data

HEAD = '{"task": "market", "metric": "mae", "lower_is_better": true, "runs":'
TWICE = '{"mode": "baseline", "seed": 1, "fold": 2, "mae": 0.5}'
QUICK = RunConfig(epochs=2, batch_size=16)


class Known:
    """A task whose scores are known beforehand; each fold's are above those of the one before it by 1."""

    name, metric, lower = "market", "mae", True
    scores: Mapping[tuple[str, int], float] = {
        ("fixed", 1): 1.0, ("monitor_only", 1): 1.2, ("controller_only", 1): 0.7, ("full_adaptive", 1): 0.8,
        ("fixed", 2): 2.0, ("monitor_only", 2): 2.4, ("controller_only", 2): 1.6, ("full_adaptive", 2): 1.9,
    }  # fmt: skip

    def __init__(self, folds: int = 1, stops: int | None = None) -> None:
        self.folds, self.stops = folds, stops
        self.options: dict[tuple[str, int], Mapping[str, Any]] = {}
        self.trained = list[tuple[str, int, int]]()

    def identity(self) -> list[Any]:
        return [self.folds]

    def train(
        self, policy: str, options: Mapping[str, Any], seed: int, fold: int, config: RunConfig, board: Path | None
    ) -> Outcome:
        if len(self.trained) == self.stops:
            raise KeyboardInterrupt
        self.trained.append((policy, seed, fold))
        self.options[policy, seed] = options
        columns = {"train_loss": [0.6, 0.5], "val_loss": [0.5, 0.4], "val_combined": [1.0, 0.9], "seconds": [0.1, 7.0]}
        average = {"a": 0.25 * seed, "b": 1 - 0.25 * seed}
        return Outcome(
            {"mae": self.scores.get((policy, seed), 1.5) + fold}, 2, {"a": 0.5, "b": 0.5}, average,
            TrainingHistory(columns), 0.4,
        )  # fmt: skip


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
        rows.append(run(task, "baseline", seed, QUICK, tmp_path / folder).row)
        curves.append((tmp_path / folder / f"baseline-seed-{seed}.csv").read_bytes())
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
    monitor, controller = tmp_path / "m", tmp_path / "c"
    for path in (monitor, controller):
        path.write_bytes(path.name.encode())
    task, learned = Known(), RunConfig(epochs=1, monitor=monitor, controller=controller)
    ablation(task, [1], learned, tmp_path)
    assert {policy: dict(options) for (policy, _), options in task.options.items() if policy != "time_average"} == {
        "fixed": {}, "monitor_only": {"agent": monitor}, "controller_only": {"controller": controller},
        "full_adaptive": {"agent": monitor, "controller": controller}, "random_monitor": {},
    }  # fmt: skip


def test_phase1_writes_one_table(tmp_path: Path, every_policy: None) -> None:
    phase1(Known(), [1, 2], QUICK, tmp_path / "results.csv")
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert [",".join(line.split(",")[:3]) for line in lines[1:]] == [
        "baseline,1,1.0", "full_adaptive,1,0.8", "baseline,2,2.0", "full_adaptive,2,1.9",
    ]  # fmt: skip
    assert (tmp_path / "results/full_adaptive-seed-2.csv").is_file()


def test_each_fold_is_a_row_and_a_curve(tmp_path: Path, every_policy: None) -> None:
    runs = ablation(Known(2), [2], QUICK, tmp_path)
    rows = [each.row for each in runs.values()]
    assert [[row[name] for name in ("mode", "seed", "fold", "mae")] for row in rows[:2]] == [
        ["baseline", 2, 1, 2.0], ["monitor_only", 2, 1, 2.4],
    ]  # fmt: skip
    assert runs[2, 1, "full_adaptive"].row["mae"] == 2.9
    assert (tmp_path / "results.csv").read_text().splitlines()[7] == "baseline,2,2,3.0,2,0.5,0.5"
    assert (tmp_path / "curves/full_adaptive-seed-2-fold-2.csv").is_file()


# going on -------------------------------------------------------------------------------------------------------------


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.parametrize("stops", [0, 1, 5, 6, 11])
def test_what_was_stopped_goes_on_and_ends_the_same(tmp_path: Path, every_policy: None, stops: int) -> None:
    whole = Known(2)
    ablation(whole, [1], QUICK, tmp_path / "whole")
    assert len(whole.trained) == 2 * 6
    first, second = Known(2, stops), Known(2)
    with pytest.raises(KeyboardInterrupt):
        ablation(first, [1], QUICK, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / RESULTS).exists()
    told = list[Row]()
    ablation(second, [1], QUICK, tmp_path / "stopped", told.append)
    assert first.trained + second.trained == whole.trained, "nothing is trained twice, nothing left out"
    assert len(told) == len(second.trained)
    assert second.options.get(("time_average", 1), whole.options["time_average", 1]) == {
        "weights": {"a": 0.25, "b": 0.75}
    }
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")
    ablation(Known(2, 0), [1], QUICK, tmp_path / "stopped")  # it would stop at the first training
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")


def test_a_line_that_a_kill_cut_short_is_one_run_lost(tmp_path: Path, every_policy: None) -> None:
    ablation(Known(), [1], QUICK, tmp_path / "whole")
    lines = (tmp_path / "whole" / FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / FILE).write_bytes(b"".join(lines[:-2]) + lines[-2][:40])
    task = Known()
    ablation(task, [1], QUICK, tmp_path / "again")
    assert [policy for policy, _, _ in task.trained] == ["random_monitor", "time_average"]
    assert {**files(tmp_path / "again"), Path(FILE): b""} == {**files(tmp_path / "whole"), Path(FILE): b""}


def test_a_real_run_that_was_kept_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    task = MarketTask(prepare_data(swinging(700), 3), batches=2, folds=2)
    first, again = (
        ablation(task, [1], QUICK, tmp_path / folder, modes=["baseline", "random_monitor"], work=tmp_path / "work")
        for folder in ("first", "again")
    )
    assert files(tmp_path / "first") == files(tmp_path / "again")
    for cell, one in first.items():
        other = again[cell]
        for a, b in ((one.chosen, other.chosen), (one.last, other.last)):
            assert a is not None
            assert b is not None
            np.testing.assert_array_equal(a, b)
        assert (one.averages, one.validation) == (other.averages, other.validation)
    assert first[1, 0, "baseline"].row["mae"] != first[1, 1, "baseline"].row["mae"]


def test_runs_of_something_else_are_not_taken(tmp_path: Path, every_policy: None) -> None:
    monitor = tmp_path / "monitor"
    configs: Sequence[RunConfig] = [
        QUICK, replace(QUICK, epochs=3), replace(QUICK, calibration=5), replace(QUICK, monitor=monitor)
    ]  # fmt: skip
    monitor.write_bytes(b"one")
    for config in configs:
        task = Known()
        ablation(task, [1], config, tmp_path / "work")
        assert len(task.trained) == 6, config
    monitor.write_bytes(b"another")
    ablation(task := Known(), [1], configs[-1], tmp_path / "work")
    assert len(task.trained) == 6
    ablation(task := Known(2), [1], QUICK, tmp_path / "work")
    assert len(task.trained) == 12
    ablation(task := Known(), [1, 2], QUICK, tmp_path / "work")
    assert {seed for _, seed, _ in task.trained} == {2}, "seeds may be added"


def test_a_monitor_that_is_not_there_is_told_before_anything_is_trained(tmp_path: Path, every_policy: None) -> None:
    task = Known()
    with pytest.raises(CheckpointError, match="nowhere cannot be read: No such file"):
        ablation(task, [1], RunConfig(monitor=tmp_path / "nowhere"), tmp_path / "results")
    assert task.trained == []
    assert not (tmp_path / "results").exists()


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


def test_effects_over_folds_are_those_of_each_seed_s_mean(tmp_path: Path) -> None:
    """By hand: seed 1 has Mon 0.15 and 0.35 of its folds, so 0.25; seed 2 −0.1 and 0.3, so 0.1."""
    values = {  # baseline, monitor, controller, both
        (1, 1): (1.0, 1.2, 0.7, 0.8), (1, 2): (2.0, 2.4, 1.6, 1.9), (2, 1): (3.0, 2.9, 3.0, 2.9),
        (2, 2): (1.0, 1.3, 1.0, 1.3),
    }  # fmt: skip
    runs = [
        {"mode": mode, "seed": seed, "fold": fold, "mae": value}
        for (seed, fold), four in values.items()
        for mode, value in zip(MODES, four, strict=True)
    ]
    (tmp_path / RESULTS).write_text(f"{HEAD} {json.dumps(runs)}}}")
    found = analyze(tmp_path)
    assert found.folds == 2
    monitor, controller = found.effects["monitor"], found.effects["controller"]
    assert monitor.seeds == 2
    assert monitor.mean == pytest.approx(0.175)
    assert monitor.low == pytest.approx(0.175 - 12.706 * 0.075)  # deviation 0.075·√2 of two seeds, over √2
    # controller: ½[−0.3−0.4] = −0.35 and ½[−0.4−0.5] = −0.45 of seed 1, 0 of seed 2
    assert controller.mean == pytest.approx(-0.2)
    assert controller.high == pytest.approx(-0.2 + 12.706 * 0.2)
    assert found.effects["interaction"].mean == pytest.approx(-0.025)  # ½[0.1−0.2] = −0.05 twice of seed 1, 0 of seed 2
    assert found.differences["full_adaptive"].mean == pytest.approx(((-0.2 - 0.1) / 2 + (-0.1 + 0.3) / 2) / 2)
    assert found.means["baseline"].mean == pytest.approx(1.75)
    words = told(found)
    assert "baseline           1.750000   2 seeds × 2 folds" in words
    assert "paired by seed and fold, averaged over the folds of each seed" in words
    assert words.splitlines()[-1] == "over seeds alone: how sure it is on these very folds, and nothing of another time"


def test_folds_that_some_mode_lacks_are_left_out_of_what_is_paired(tmp_path: Path) -> None:
    runs = [
        {"mode": mode, "seed": seed, "fold": fold, "mae": fold + gain}
        for mode, gain in (("baseline", 0.0), ("monitor_only", 0.5))
        for seed in (1, 2)
        for fold in (1, 2, 3)
        if (mode, seed, fold) not in (("monitor_only", 1, 3), ("baseline", 2, 1))
    ]
    (tmp_path / RESULTS).write_text(f"{HEAD} {json.dumps(runs)}}}")
    found = analyze(tmp_path).differences["monitor_only"]
    assert (found.mean, found.low, found.seeds) == (0.5, 0.5, 2)


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


def test_one_seed_in_which_nothing_acted_is_told_so(tmp_path: Path) -> None:
    for gain in (0.0, 0.1):
        runs = [{"mode": mode, "seed": 1, "mae": 0.5 + gain * (mode == "full_adaptive")} for mode in MODES]
        (tmp_path / RESULTS).write_text(f"{HEAD} {json.dumps(runs)}}}")
        assert ("changed nothing at all" in told(analyze(tmp_path))) == (gain == 0)


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
        (f"{HEAD} [{TWICE}, {TWICE}]}}", "baseline with seed 1 and fold 2 is there twice"),
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
