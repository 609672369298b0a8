"""Each arm beside the tuned static weights: differences, intervals and tests, from the arms that are finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trading_bot.domain.market import Floats
from trading_bot.errors import TrainingError
from trading_bot.experiments.adaptive_vs_fixed import EQUAL, STATIC, TUNED, Cell, Plan, Result
from trading_bot.experiments.statistics import Difference, diebold_mariano, paired_difference
from trading_bot.training.evaluation import splits_of
from trading_bot.training.prepared_data import PreparedData

Losses = list[list[Floats]]  # [seed][fold] → (rows,)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One arm beside the tuned static weights, over all seeds and folds.

    Attributes
    ----------
    mae, hit_rate : of the arm, and `last_mae`, `last_hit_rate` of its models of the last step
    error, missed : mean absolute error and share of wrong signs, arm − tuned; below 0 the arm is better
    last : as `error`, of the models of the last step
    dm : Diebold and Mariano's p of the errors, averaged over seeds
    beside_equal : as `error`, arm − equal weights, where these were measured
    """

    arm: str
    mae: float
    hit_rate: float
    last_mae: float
    last_hit_rate: float
    error: Difference | None = None
    missed: Difference | None = None
    last: Difference | None = None
    dm: float | None = None
    beside_equal: Difference | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """Everything that is shown."""

    data: PreparedData
    plan: Plan
    cells: Mapping[Cell, Result]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    comparisons: tuple[Comparison, ...]
    zero: float  # mean absolute error of forecasting no move
    persistence: float  # … and of forecasting that the last move comes again

    @property
    def policies(self) -> tuple[str, ...]:
        return tuple(arm for arm in self.arms if arm not in STATIC)

    @property
    def idle(self) -> tuple[str, ...]:
        """Policies that forecast exactly what equal weights do, in every fit."""
        if EQUAL not in self.arms:
            return ()
        cells = [(seed, fold) for seed in self.seeds for fold in range(self.plan.folds)]
        return tuple(
            arm
            for arm in self.policies
            if all(np.array_equal(self.cells[*cell, arm].last, self.cells[*cell, EQUAL].last) for cell in cells)
        )


def compare(data: PreparedData, plan: Plan, cells: Mapping[Cell, Result]) -> Findings:
    """What is finished, compared: the arms that any seed has on all folds, over the seeds that have all of those.

    Raises
    ------
    TrainingError
        If no seed is finished.
    """

    def whole(seed: int, arm: str) -> bool:
        return all((seed, fold, arm) in cells for fold in range(plan.folds))

    begun = [arm for arm in plan.arms if any(whole(seed, arm) for seed in plan.seeds)]
    seeds = tuple(seed for seed in plan.seeds if begun and all(whole(seed, arm) for arm in begun))
    if not seeds or TUNED not in begun:
        raise TrainingError(
            f"no seed of {list(plan.seeds)} is finished with {TUNED!r} of {plan.combination!r} on all {plan.folds} "
            "folds; run it for longer"
        )
    targets = [data.y[held].astype(np.float64) for _, held in splits_of(data, plan.folds)]
    equal = losses_of(EQUAL, cells, seeds, targets, last=False)[0] if EQUAL in begun else None
    found = [_compare(arm, cells, seeds, targets, data.horizon, equal) for arm in begun]
    zero = float(np.abs(np.concatenate(targets)).mean())
    pasts = [data.past[held].astype(np.float64) for _, held in splits_of(data, plan.folds)]
    persistence = float(np.abs(np.concatenate(pasts) - np.concatenate(targets)).mean())
    return Findings(data, plan, cells, tuple(begun), seeds, tuple(found), zero, persistence)


def _compare(
    arm: str, cells: Mapping[Cell, Result], seeds: Sequence[int], targets: Sequence[Floats], horizon: int,
    equal: Losses | None,
) -> Comparison:  # fmt: skip
    own, last = (losses_of(arm, cells, seeds, targets, last=last) for last in (False, True))
    scores = (mean_of(own[0]), 1 - mean_of(own[1]), mean_of(last[0]), 1 - mean_of(last[1]))
    block = 2 * horizon
    beside_equal = None if equal is None or arm == EQUAL else paired_difference(own[0], equal, block)
    if arm == TUNED:
        return Comparison(arm, *scores, beside_equal=beside_equal)
    tuned, tuned_last = (losses_of(TUNED, cells, seeds, targets, last=last) for last in (False, True))
    first, second = (over_seeds(each) for each in (own[0], tuned[0]))
    return Comparison(
        arm, *scores,
        paired_difference(own[0], tuned[0], block), paired_difference(own[1], tuned[1], block),
        paired_difference(last[0], tuned_last[0], block), diebold_mariano(first, second, horizon).p, beside_equal,
    )  # fmt: skip


def losses_of(
    arm: str, cells: Mapping[Cell, Result], seeds: Sequence[int], targets: Sequence[Floats], *, last: bool
) -> tuple[Losses, Losses]:
    """Absolute errors of all rows, and 1 where the sign was wrong of those that moved."""
    errors, missed = Losses(), Losses()
    for seed in seeds:
        results = [cells[seed, fold, arm] for fold in range(len(targets))]
        forecasts = [result.last if last else result.chosen for result in results]
        pairs = list(zip(forecasts, targets, strict=True))
        errors.append([np.abs(forecast - target) for forecast, target in pairs])
        missed.append([
            (np.sign(forecast) != np.sign(target))[target != 0].astype(np.float64) for forecast, target in pairs
        ])  # fmt: skip
    return errors, missed


def mean_of(losses: Losses) -> float:
    return float(np.concatenate([fold for seed in losses for fold in seed]).mean())


def over_seeds(losses: Losses) -> Floats:
    """(rows,) of all folds, the mean of what each seed lost."""
    averaged: Floats = np.concatenate([np.mean(fold, axis=0) for fold in zip(*losses, strict=True)])
    return averaged
