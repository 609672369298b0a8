"""The modes of the market's ablation beside equal and tuned static weights, and the effects of monitor and controller,
row by row of what they forecast."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trading_bot.domain.market import Floats
from trading_bot.errors import TrainingError
from trading_bot.experiments import adaptive_vs_fixed as fixed
from trading_bot.experiments.ablation import AVERAGE, BASELINE, FULL, MODES, PLACEBOS
from trading_bot.experiments.ablation_analysis import Interval, by_mode, effects_over_seeds
from trading_bot.experiments.ablation_kept import Cell, Run, learned
from trading_bot.experiments.ablation_tasks import COMBINATION, MARKET_RATE, MarketTask, RunConfig
from trading_bot.experiments.adaptive_vs_fixed import EQUAL, TUNED, Plan, Result
from trading_bot.experiments.adaptive_vs_fixed_comparison import Findings, Losses, compare, losses_of
from trading_bot.experiments.statistics import Difference, paired_difference
from trading_bot.experiments.weighted_fit import Budget
from trading_bot.training.evaluation import splits_of

ADAPTED = tuple(mode for mode in (*MODES, *PLACEBOS) if mode != BASELINE)
SIDES: Mapping[str, tuple[tuple[str, str], tuple[str, str]]] = {  # the mean of two less the mean of two
    "monitor": (("monitor_only", FULL), (EQUAL, "controller_only")),
    "controller": (("controller_only", FULL), (EQUAL, "monitor_only")),
    "interaction": ((FULL, EQUAL), ("controller_only", "monitor_only")),
}
PAIRS = (("monitor_only", "random_monitor"), (FULL, AVERAGE))  # with what it is to beat


@dataclass(frozen=True, slots=True, eq=False)
class AblationFindings:
    """Everything the page shows.

    Attributes
    ----------
    found : each mode beside tuned static weights and equal ones; the baseline goes by the name of equal weights
    runs : by seed, fold, mode
    learned : SHA-256 of the monitor and of the controller, None where there is none
    hits : by adapted mode, share of wrong signs beside equal weights
    effects, hit_effects : of monitor, controller and both together, on the mean absolute error and on wrong signs
    over_seeds : the effects on the mean absolute error as `experiment analyze` tells them
    placebos : mean absolute error of each of `PAIRS`
    """

    found: Findings
    config: RunConfig
    runs: Mapping[Cell, Run]
    learned: Mapping[str, str | None]
    hits: Mapping[str, Difference]
    effects: Mapping[str, Difference]
    hit_effects: Mapping[str, Difference]
    over_seeds: Mapping[str, Interval]
    placebos: Mapping[tuple[str, str], Difference]


def plan_of(task: MarketTask, seeds: Sequence[int], config: RunConfig, draws: int) -> Plan:
    """What the tuned weights are tried with: as the modes, but for numbers that matter only to weights that move.

    Those stay as `adaptive-vs-fixed` has them, so that each takes the fits that the other finished.
    """
    budget = Budget(
        epochs=config.epochs, batches=task.batches, batch_size=config.batch_size,
        learning_rate=config.learning_rate or MARKET_RATE, calibration=config.calibration,
    )  # fmt: skip
    return Plan(
        combination=COMBINATION, arms=(EQUAL, TUNED, *ADAPTED), seeds=tuple(seeds), folds=task.folds, draws=draws,
        budget=budget,
    )  # fmt: skip


def judge(
    task: MarketTask, runs: Mapping[Cell, Run], config: RunConfig, work: Path, draws: int = 20,
    tell: Callable[[str], object] = lambda line: None,
) -> AblationFindings:  # fmt: skip
    """Fit the tuned static weights for every seed and fold of `runs`, and compare.

    Parameters
    ----------
    runs : of all modes and placebos
    work : folder in which finished fits are kept, those of `adaptive-vs-fixed` too
    draws : random weights the tuned ones are chosen from

    Raises
    ------
    TrainingError
        If a mode is missing, or as a fit does.
    """
    seeds = tuple(dict.fromkeys(seed for seed, _, _ in runs))
    wanted = [(seed, fold, mode) for seed in seeds for fold in range(task.folds) for mode in (*MODES, *PLACEBOS)]
    if missing := [cell for cell in wanted if cell not in runs]:
        raise TrainingError(f"the run {missing[0]} and {len(missing) - 1} others are missing; run all modes first")
    plan = plan_of(task, seeds, config, draws)
    tuned = replace(plan, arms=(TUNED,))
    fixed.measure(task.data, tuned, work, tell)
    kept = fixed.finished(task.data, tuned, work)  # as they will be read again, to the last bit
    results = [*kept.values(), *(_result(cell, runs[cell]) for cell in wanted)]
    cells = {(each.seed, each.fold, each.arm): each for each in results}
    found = compare(task.data, plan, cells)
    targets = [task.data.y[held].astype(np.float64) for _, held in splits_of(task.data, task.folds)]
    losses = {arm: losses_of(arm, cells, seeds, targets, last=False) for arm in (EQUAL, *ADAPTED)}
    errors, missed = ({arm: each[place] for arm, each in losses.items()} for place in (0, 1))
    block = 2 * task.data.horizon
    return AblationFindings(
        found, config, runs, learned(config),
        {arm: paired_difference(missed[arm], missed[EQUAL], block) for arm in ADAPTED},
        effects_of(errors, block), effects_of(missed, block),
        effects_over_seeds(by_mode([run.row for run in runs.values()], task.metric)),
        {pair: paired_difference(errors[pair[0]], errors[pair[1]], block) for pair in PAIRS},
    )  # fmt: skip


def effects_of(losses: Mapping[str, Losses], block: int) -> dict[str, Difference]:
    """Mon = ½[(M−B)+(F−C)] and so on, by `SIDES`, each the difference of two means of two arms, paired by row."""
    return {
        name: paired_difference(_mean_of_two(losses[a], losses[b]), _mean_of_two(losses[c], losses[d]), block)
        for name, ((a, b), (c, d)) in SIDES.items()
    }


def _mean_of_two(first: Losses, second: Losses) -> list[list[Floats]]:
    return [[0.5 * (a + b) for a, b in zip(one, other, strict=True)] for one, other in zip(first, second, strict=True)]


def _result(cell: Cell, run: Run) -> Result:
    seed, fold, mode = cell
    if run.chosen is None or run.last is None:
        raise TrainingError(f"the run {cell} has no forecasts; the page is of the market")
    return Result(
        seed, fold, EQUAL if mode == BASELINE else mode, 1, math.nan, run.validation, run.row["epoch"], run.weights, "",
        run.chosen, run.last,
    )  # fmt: skip
