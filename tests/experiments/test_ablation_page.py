"""The page of the ablation: its tuned weights, its effects by hand, and that no more is told than was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.forecasting import swinging
from trading_bot.errors import TrainingError
from trading_bot.experiments.ablation import MODES, PLACEBOS, ablation
from trading_bot.experiments.ablation_analysis import analyze
from trading_bot.experiments.ablation_effects import ADAPTED, AblationFindings, effects_of, judge, plan_of
from trading_bot.experiments.ablation_kept import Cell, Run
from trading_bot.experiments.ablation_report import write
from trading_bot.experiments.ablation_tasks import MarketTask, RunConfig
from trading_bot.experiments.adaptive_vs_fixed import EQUAL, FILE, TUNED, Plan, measure
from trading_bot.experiments.weighted_fit import Budget
from trading_bot.training.checkpoint_file import file_sha256
from trading_bot.training.evaluation import splits_of
from trading_bot.training.loss_monitor import LossMonitorAgent, MonitorConfig
from trading_bot.training.meta_controller import PARAMETERS, MetaLearningController
from trading_bot.training.prepared_data import prepare_data

SEEDS, DRAWS = (1, 2), 2


@pytest.fixture(scope="module")
def task() -> MarketTask:
    return MarketTask(prepare_data(swinging(800), 3), batches=12, folds=2)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A monitor that acts whenever it prefers to, and a controller that proposes something."""
    folder = tmp_path_factory.mktemp("learned")
    LossMonitorAgent(MonitorConfig(margin=0.0, heads=1)).save(folder / "monitor.safetensors")
    MetaLearningController(np.full(PARAMETERS, 0.5)).save(folder / "controller.safetensors")
    return RunConfig(
        epochs=2, batch_size=16, calibration=2, frequency=4,
        monitor=folder / "monitor.safetensors", controller=folder / "controller.safetensors",
    )  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def runs(task: MarketTask, config: RunConfig, work: Path) -> Mapping[Cell, Run]:
    return ablation(task, SEEDS, config, work / "results", work=work)


@pytest.fixture(scope="module")
def findings(task: MarketTask, config: RunConfig, work: Path, runs: Mapping[Cell, Run]) -> AblationFindings:
    return judge(task, runs, config, work, DRAWS)


def test_the_modes_do_what_they_are_called(runs: Mapping[Cell, Run]) -> None:
    ends = {mode: runs[1, 0, mode].weights for mode in (*MODES, *PLACEBOS)}
    assert ends["baseline"] == pytest.approx(dict.fromkeys(ends["baseline"], 0.25))
    for mode in ADAPTED:
        assert ends[mode] != pytest.approx(ends["baseline"], abs=1e-6), mode
    assert ends["time_average"] == pytest.approx(runs[1, 0, "full_adaptive"].averages, abs=0.02)


def test_the_baseline_is_the_equal_weights_of_the_other_experiment(
    task: MarketTask, config: RunConfig, runs: Mapping[Cell, Run], tmp_path: Path
) -> None:
    """Steps between decisions differ there, and are nothing to weights that stay."""
    plan = replace(plan_of(task, (1,), config, DRAWS), arms=(EQUAL,))
    assert plan.budget.frequency != config.frequency
    for (seed, fold, _), result in measure(task.data, plan, tmp_path).items():
        run = runs[seed, fold, "baseline"]
        assert run.chosen is not None
        np.testing.assert_array_equal(run.chosen, result.chosen.astype(np.float32))
        assert run.validation == result.validation


def test_tuned_weights_are_those_of_the_other_experiment_and_not_fitted_twice(
    task: MarketTask, config: RunConfig, runs: Mapping[Cell, Run], findings: AblationFindings, work: Path
) -> None:
    told, lines = list[str](), (work / FILE).read_bytes()
    assert lines.count(b"\n") == len(SEEDS) * task.folds
    plan = Plan(
        arms=(TUNED,), seeds=SEEDS, folds=2, draws=DRAWS,
        budget=Budget(epochs=2, batches=12, batch_size=16, calibration=2),
    )  # fmt: skip
    measure(task.data, plan, work, told.append)
    judge(task, runs, config, work, DRAWS, told.append)
    assert told == []
    assert (work / FILE).read_bytes() == lines
    judge(task, runs, config, work, DRAWS + 1, told.append)
    assert len(told) == len(SEEDS) * task.folds, "of more draws another may be the best"
    (work / FILE).write_bytes(lines)


def test_effects_by_hand() -> None:
    random = np.random.default_rng(0)
    values = {arm: random.random((2, 3, 40)) for arm in (EQUAL, *ADAPTED)}
    losses = {arm: [list(seed) for seed in each] for arm, each in values.items()}
    found = effects_of(losses, 4)
    b, m, c, f = (float(values[arm].mean()) for arm in (EQUAL, "monitor_only", "controller_only", "full_adaptive"))
    assert found["monitor"].value == pytest.approx(0.5 * ((m - b) + (f - c)))
    assert found["controller"].value == pytest.approx(0.5 * ((c - b) + (f - m)))
    assert found["interaction"].value == pytest.approx(0.5 * ((f - c) - (m - b)))
    assert all(each.low < each.value < each.high and each.seeds == 2 for each in found.values())


def test_the_page(task: MarketTask, config: RunConfig, findings: AblationFindings, tmp_path: Path) -> None:
    page = tmp_path / "ablation.md"
    written = []
    for _ in range(2):
        write(findings, tmp_path, "the command", "800 candles", "f00")
        written.append((page.read_bytes(), (tmp_path / "ablation.png").read_bytes()))
    assert written[0] == written[1]
    assert config.monitor is not None
    text = page.read_text()
    for words in (
        "the command", "2 seeds (1, 2), 24 steps of 16 rows", "24 fits of modes and 8 to tune",
        "best of 2 random draws", "What decides here was given, and is not shipped", "| tuned static |",
        "| time_average |", "| interaction |", "| full_adaptive − time_average |", "every 4 steps",
        "sha256 `f00`", "| monitor_only | −0.3 |",
        "| controller_only | +0.8 |", "| full_adaptive | −0.1 |", "was **not run**", "--task cifar10",
        f"monitor sha256 `{file_sha256(config.monitor)}`",
    ):  # fmt: skip
        assert words in text, words
    assert written[0][1].startswith(b"\x89PNG")
    baseline = next(line for line in text.splitlines() if line.startswith("| baseline | ") and "%" in line)
    assert baseline.split(" | ")[3:6] == ["–", "–", "–"], "it is what the others are held against"


def test_the_errors_are_those_of_the_rows(
    task: MarketTask, runs: Mapping[Cell, Run], findings: AblationFindings
) -> None:  # fmt: skip
    mode = next(each for each in findings.found.comparisons if each.arm == "monitor_only")
    target = [task.data.y[held] for _, held in splits_of(task.data, 2)]
    errors = [np.abs(run.chosen - target[fold]) for (_, fold, name), run in runs.items()
              if name == "monitor_only" and run.chosen is not None]  # fmt: skip
    assert len(errors) == 4
    assert mode.mae == pytest.approx(np.concatenate(errors).mean())
    assert mode.beside_equal is not None
    baseline = next(each for each in findings.found.comparisons if each.arm == EQUAL)
    assert mode.beside_equal.value == pytest.approx(mode.mae - baseline.mae)


@pytest.mark.parametrize("gain", [True, False])
def test_a_gain_is_told_where_there_is_one_and_only_there(
    task: MarketTask, config: RunConfig, runs: Mapping[Cell, Run], findings: AblationFindings, work: Path,
    tmp_path: Path, gain: bool,
) -> None:  # fmt: skip
    made = dict(runs)
    if gain:  # both forecast the targets themselves, but for a little
        target = [task.data.y[held].astype(np.float64) for _, held in splits_of(task.data, 2)]
        for cell, run in runs.items():
            if cell[2] == "full_adaptive":
                made[cell] = replace(run, chosen=target[cell[1]] * 0.9, last=target[cell[1]] * 0.9)
    write(judge(task, made, config, work, DRAWS), tmp_path, "command", "candles", "f00")
    text = (tmp_path / "ablation.md").read_text()
    assert ("This is a null result" in text) != gain
    assert ("below 0: full_adaptive (of these by Holm's p < 0.05: full_adaptive)" in text) == gain


def test_where_no_mode_moved_a_weight_nothing_is_said_of_it(
    task: MarketTask, config: RunConfig, runs: Mapping[Cell, Run], work: Path, tmp_path: Path
) -> None:  # fmt: skip
    still = {cell: replace(runs[cell[0], cell[1], "baseline"], row=run.row) if cell[2] in ADAPTED else run
             for cell, run in runs.items()}  # fmt: skip
    found = replace(judge(task, still, config, work, DRAWS), learned={"monitor": "f00", "controller": None})
    write(found, tmp_path, "command", "candles", "f00")
    text = (tmp_path / "ablation.md").read_text()
    assert "**Nothing is said of monitor and controller**" in text
    assert "null result" not in text
    assert "There is no controller: where it would decide, weights stay equal." in text
    one = {cell: run for cell, run in still.items() if cell[2] == "monitor_only"}
    write(judge(task, {**runs, **one}, config, work, DRAWS), tmp_path, "command", "candles", "f00")
    text = (tmp_path / "ablation.md").read_text()
    assert "The same as the baseline in every fit: monitor_only." in text
    assert "This is a null result" in text


def test_effects_over_seeds_are_those_of_the_analysis(findings: AblationFindings, work: Path) -> None:
    found = analyze(work / "results")
    assert dict(findings.over_seeds) == found.effects
    assert findings.effects["monitor"].value == pytest.approx(found.effects["monitor"].mean, rel=0.05, abs=1e-9)


def test_what_is_missing_is_told(task: MarketTask, config: RunConfig, runs: Mapping[Cell, Run], work: Path) -> None:
    part = {cell: run for cell, run in runs.items() if cell[2] != "time_average"}
    with pytest.raises(TrainingError, match=r"the run \(1, 0, 'time_average'\) and 3 others are missing"):
        judge(task, part, config, work, DRAWS)
