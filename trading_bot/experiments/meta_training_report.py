"""The page of the loss monitor's meta-training."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from trading_bot import __version__
from trading_bot.experiments.report_section import table
from trading_bot.experiments.statistics import Difference, holm, paired_difference
from trading_bot.training.loss_meta_tasks import Run, make_task
from trading_bot.training.loss_meta_training import ARMS, TEST_SEEDS, TEST_TASKS, Learned, MetaConfig

PAIRS = (
    *((arm, "no-op") for arm in ARMS[1:]),
    ("monitor_only", "random_monitor"),
    ("full_adaptive", "time_average"),
)
COVERAGE = 0.975  # two things may be shipped: both intervals hold together with 95 %
LEAST_TASKS, LEAST_SEEDS = 15, 2  # with fewer the interval is too narrow to ship anything by
SHIPPED = ("monitor_only", "controller_only")

Runs = Mapping[str, Sequence[Sequence[Run]]]


@dataclass(frozen=True, slots=True, eq=False)
class MetaFindings:
    """Everything the page says.

    Attributes
    ----------
    runs : by arm, [seed][task]
    comparisons : by (arm, the other), of the absolute error on test rows, in σ; negative: the first is better
    learning, testing : seconds of one core
    elapsed : seconds by the clock
    """

    config: MetaConfig
    learned: Learned
    runs: Runs
    comparisons: Mapping[tuple[str, str], Difference]
    command: str
    learning: float
    testing: float
    elapsed: float

    def decides(self) -> bool:
        """Whether there were tasks enough for the intervals to be trusted; a smaller test changes nothing."""
        return self.config.test_tasks >= LEAST_TASKS and self.config.test_seeds >= LEAST_SEEDS

    def ships(self, arm: str) -> bool:
        """Whether it is better than no-op beyond chance."""
        return self.decides() and self.comparisons[arm, "no-op"].high < 0

    def verdict(self) -> str:
        """In words, for both that could be shipped."""
        words = []
        for arm in SHIPPED:
            found = self.comparisons[arm, "no-op"]
            said = "is shipped" if self.ships(arm) else "is not shipped: no-op ships in its place"
            words.append(f"{arm} {said} ({_interval(found)} against no-op)")
        return "; ".join(words)


def compare(runs: Runs) -> dict[tuple[str, str], Difference]:
    """The pairs the page shows, by a hierarchical bootstrap over seeds, tasks and test rows."""
    errors = {arm: [[each.errors for each in seed] for seed in found] for arm, found in runs.items()}
    return {(a, b): paired_difference(errors[a], errors[b], block=1, coverage=COVERAGE) for a, b in PAIRS}


def write(findings: MetaFindings, folder: Path) -> None:
    """loss-monitor.md and loss-monitor.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "loss-monitor.md").write_text(page(findings), encoding="utf-8")
    _picture(findings, folder / "loss-monitor.png")


def page(findings: MetaFindings) -> str:
    config, budget = findings.config, findings.config.budget
    kept = [arm for arm in SHIPPED if findings.ships(arm)]
    return "\n\n".join([
        "# Loss monitor and controller",
        f"    {findings.command}",
        f"**Verdict.** {findings.verdict()}." + (
            "" if kept else " This is a null result: neither is shown to lower the fixed metric."
        ),
        "Where nothing is shipped, `monitor_only`, `controller_only` and `full_adaptive` keep equal weights unless "
        "they are given a monitor or controller of one's own: `agent=FILE`, `controller=FILE`. The command leaves the "
        "two it trained in `--work`, shipped or not.",
        f"Learned in {findings.learning:.0f} s and tested in {findings.testing:.0f} s of one core "
        f"({findings.elapsed:.0f} s by the clock, other work beside it; trading_bot {__version__}, numpy "
        f"{np.__version__}, torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores, one thread). The "
        f"test tasks hash to {_hash(config)}.",
        "## What was done",
        "Small regressions, each with its own function, noise (normal, heavy-tailed, skewed, outliers), level of "
        f"noise and 2 to 4 losses. A training is {budget.calibration} steps of equal weights, then {budget.steps}, "
        f"with a decision every {budget.frequency}: {budget.steps // budget.frequency} decisions. The monitor explored "
        f"{config.episodes} trainings on {config.tasks} tasks; its reward is the drop of the mean absolute error on "
        "rows set aside for it, less the drop with equal weights, in standard deviations, clipped. The controller is "
        f"the mean of CMA-ES after {config.generations} generations of {config.population} candidates, each judged on "
        f"{config.judged} tasks. Then both were frozen: no exploration, the monitor behind its gate and undone after "
        "two bad decisions.",
        f"The test: {config.test_tasks} tasks that nobody learned on × {config.test_seeds} seeds ({TEST_SEEDS} and on; "
        f"learning has seed {config.seed}); all arms have the same first weights and batches. The metric, fixed "
        "before: mean |ŷ − y| / σ over test rows that neither the training nor the monitor ever saw.",
        "## Test",
        _arms(findings),
        _pairs(findings),
        "## Learning",
        _learning(findings),
        "![learning](loss-monitor.png)",
        "It says nothing about markets or images: that is the ablation's to say. A larger budget is an option of the "
        "same command (`--episodes`, `--generations`, `--test-tasks`, `--steps`).",
    ]) + "\n"  # fmt: skip


def _arms(findings: MetaFindings) -> str:
    rows = []
    for arm, seeds in findings.runs.items():
        runs = [each for seed in seeds for each in seed]
        acted = [action != 0 for each in runs for action in each.actions]
        moved = [max(each.weights.values()) * len(each.weights) for each in runs]
        rows.append([
            arm, f"{np.mean([each.errors.mean() for each in runs]):.4f}", f"{np.mean(moved):.2f}",
            f"{np.mean(acted):.0%}" if acted else "–",
        ])  # fmt: skip
    header = ["arm", "mean error, σ", "largest mean weight / equal", "decisions that act"]
    return table(header, rows)


def _pairs(findings: MetaFindings) -> str:
    adjusted = holm([each.p for each in findings.comparisons.values()])
    rows = [
        [f"{a} − {b}", f"{found.value:+.4f}", f"{found.low:+.4f} … {found.high:+.4f}", f"{found.p:.3f}", f"{p:.3f}"]
        for ((a, b), found), p in zip(findings.comparisons.items(), adjusted, strict=True)
    ]
    return (
        f"Differences, negative where the first is better; interval ({COVERAGE:.1%} each, so that the two that decide "
        "hold together with 95 %) of a bootstrap over seeds, tasks and rows:\n\n"
        + table(["pair", "difference, σ", "interval", "p", "Holm"], rows)
    )


def _learning(findings: MetaFindings) -> str:
    returns = np.array(findings.learned.returns)
    third = max(1, len(returns) // 3)
    costs = ", ".join(f"{each:+.2%}" for each in findings.learned.costs)
    return (
        f"Mean return of the monitor's episodes, in standard deviations of a reward: first third "
        f"{returns[:third].mean():+.2f}, last third {returns[-third:].mean():+.2f}; these are tasks it meets again and "
        "again, and say nothing about others. The metric of each generation's candidates against equal weights: "
        f"{costs or 'none'}."
    )


def _picture(findings: MetaFindings, path: Path) -> None:
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(8, 3), layout="constrained")
        left, right = figure.subplots(1, 2)
        returns = np.array(findings.learned.returns)
        left.plot(returns, ".", ms=3, alpha=0.5)
        width = min(20, len(returns))
        left.plot(np.arange(width - 1, len(returns)), np.convolve(returns, np.ones(width) / width, "valid"))
        left.axhline(0, color="grey", lw=0.8)
        left.set(xlabel="episode", ylabel="return, σ of a reward", title="monitor")
        right.plot(np.arange(1, len(findings.learned.costs) + 1), np.array(findings.learned.costs) * 100, "o-")
        right.axhline(0, color="grey", lw=0.8)
        right.set(xlabel="generation", ylabel="metric against equal weights, %", title="controller")
        figure.savefig(path, dpi=100, metadata={"Software": None})


def _interval(found: Difference) -> str:
    return f"{found.value:+.4f} σ, {found.low:+.4f} … {found.high:+.4f}"


def _hash(config: MetaConfig) -> str:
    digest = hashlib.sha256()
    for number in range(config.test_tasks):
        task = make_task(TEST_TASKS + number, config.seed)
        for part in (task.train, task.reward, task.test):
            for tensor in part:
                digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:12]
