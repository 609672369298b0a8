"""Adaptive against fixed weights of the losses: every arm on every walk-forward fold, with every seed.

What decides was fixed beforehand: mean absolute error and hit rate of the forecast over rows never trained on, of the
model of the epoch with the lowest validation error. Finished arms are kept as lines of a file, so that a run that was
stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trading_bot.domain.market import Floats
from trading_bot.errors import TrainingError, unknown
from trading_bot.experiments.kept_lines import append_line, packed, read_lines, unpacked
from trading_bot.experiments.weighted_fit import SIZES, Budget, Fit, Weighting, fit
from trading_bot.training.adaptive_loss import COMBINATIONS, POLICIES
from trading_bot.training.evaluation import splits_of
from trading_bot.training.forecaster import describe_features
from trading_bot.training.monitor_shipped import FOLDER
from trading_bot.training.prepared_data import PreparedData
from trading_bot.training.walk_forward import Rows
from trading_bot.training.weight_policies import policy_options
from trading_bot.training.weight_policies.simplex import FLOOR

EQUAL, SINGLE, TUNED, RANDOM = "equal", "best single loss", "tuned static", "random static"
STATIC = (EQUAL, SINGLE, TUNED, RANDOM)
UNMOVED = ("fixed", "time_average")  # policies that, told nothing, keep equal weights: no arms of their own
FILE = "fits.jsonl"

Cell = tuple[int, int, str]  # seed, fold, arm


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared, and on how much.

    Attributes
    ----------
    combination : of losses, by name
    arms : names of `STATIC` and of policies
    draws : random static weights the tuned ones are chosen from
    """

    combination: str = "comprehensive"
    arms: tuple[str, ...] = (*STATIC, *(name for name in POLICIES if name not in UNMOVED))
    seeds: tuple[int, ...] = (1, 2)
    folds: int = 5
    draws: int = 20
    budget: Budget = Budget()

    def __post_init__(self) -> None:
        if self.combination not in COMBINATIONS:
            raise TrainingError(unknown("combination", self.combination, COMBINATIONS))
        for arm in self.arms:
            if arm not in STATIC and arm not in POLICIES:
                raise TrainingError(unknown("arm", arm, (*STATIC, *POLICIES)))
        if self.draws < 1 or self.folds < 1 or not self.seeds:
            raise TrainingError(
                f"found {self.draws} draws, {self.folds} folds and {len(self.seeds)} seeds; wanted at least 1 of each"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One arm of one fold and seed.

    Attributes
    ----------
    fits : trainings it took, all but one of them to choose
    seconds : of CPU, of all of them
    validation, epoch, weights, chosen, last : as of `Fit`, of the one that was chosen
    about : what was chosen, in words
    """

    seed: int
    fold: int
    arm: str
    fits: int
    seconds: float
    validation: float
    epoch: int
    weights: Mapping[str, float]
    about: str
    chosen: Floats
    last: Floats

    def as_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in ("chosen", "last")}
        return {**plain, "chosen": packed(self.chosen), "last": packed(self.last)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Result:
        """What `as_json` gave."""
        plain = {name: values[name] for name in cls.__slots__ if name not in ("chosen", "last")}
        return cls(**plain, chosen=unpacked(values["chosen"]), last=unpacked(values["last"]))


def measure(
    data: PreparedData, plan: Plan, folder: Path, tell: Callable[[str], object] = lambda line: None
) -> dict[Cell, Result]:
    """Every arm of every fold and seed that is not in `folder` yet; all that are.

    Raises
    ------
    TrainingError
        If the rows do not allow these folds, or as a fit does.
    """
    folds = splits_of(data, plan.folds)
    done = finished(data, plan, folder)
    wanted = [(seed, fold, arm) for seed in plan.seeds for fold in range(plan.folds) for arm in plan.arms]
    for seed, fold, arm in wanted:
        if (seed, fold, arm) in done:
            continue
        result = judge(data, *folds[fold], plan, seed, fold, arm)
        append_line(folder / FILE, {"key": _key(data, plan) + _learned(arm), **result.as_json()})
        done[seed, fold, arm] = result
        tell(f"seed {seed}  fold {fold + 1}/{plan.folds}  {arm}: {result.fits} fits in {result.seconds:.1f} s, "
             f"validation {result.validation:.4f} at epoch {result.epoch}")  # fmt: skip
    return done


def judge(data: PreparedData, train: Rows, held: Rows, plan: Plan, seed: int, fold: int, arm: str) -> Result:
    """All fits of one arm, of which the one with the lowest validation error counts."""
    fits: list[tuple[str, Fit]] = [
        (about, fit(data, train, held, weighting, plan.budget, seed))
        for about, weighting in weightings(plan, seed, fold, arm)
    ]
    about, best = min(fits, key=lambda each: each[1].validation)
    return Result(
        seed, fold, arm, len(fits), round(sum(each.seconds for _, each in fits), 3), best.validation, best.epoch,
        dict(best.weights), about, best.chosen, best.last,
    )  # fmt: skip


def weightings(plan: Plan, seed: int, fold: int, arm: str) -> Iterator[tuple[str, Weighting]]:
    """What an arm tries: one weighting, but for those that choose among several by their validation error."""
    losses = COMBINATIONS[plan.combination].losses
    if arm == EQUAL:
        yield "", Weighting(losses=losses)
    elif arm == SINGLE:
        for name, loss in losses.items():
            yield name, Weighting(losses={name: loss})
    elif arm in (TUNED, RANDOM):
        drawn = draws(tuple(losses), plan.draws + 1, seed, fold)  # the last one is for the arm that does not choose
        for number, weights in enumerate(drawn[:-1] if arm == TUNED else drawn[-1:]):
            yield f"draw {number + 1}", Weighting(losses=losses, options={"weights": weights})
    else:
        yield "", Weighting(losses=losses, policy=arm)


def draws(names: Sequence[str], count: int, seed: int, fold: int) -> list[dict[str, float]]:
    """Weights drawn evenly from the simplex above the floor."""
    random = np.random.default_rng((seed, fold, 7))
    drawn = FLOOR + (1 - FLOOR * len(names)) * random.dirichlet(np.ones(len(names)), count)
    return [dict(zip(names, map(float, row), strict=True)) for row in drawn]


# what is kept --------------------------------------------------------------------------------------------------------


def finished(data: PreparedData, plan: Plan, folder: Path) -> dict[Cell, Result]:
    """What is in the folder of this data and budget, of whatever arms and seeds."""
    key = _key(data, plan)
    found = {}
    for values in read_lines(folder / FILE):
        if values.get("key") == key + _learned(str(values.get("arm"))):
            result = Result.from_json(values)
            found[result.seed, result.fold, result.arm] = result
    return found


def _key(data: PreparedData, plan: Plan) -> str:
    """So that fits of other data or of another budget are not taken for these; arms and seeds may be added."""
    what = [plan.combination, plan.folds, plan.draws, plan.budget.as_json(), data.horizon,
            describe_features(data.names, data.length), SIZES]  # fmt: skip
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    digest.update(data.y.tobytes())
    return digest.hexdigest()[:16]


def _learned(arm: str) -> str:
    """What comes with the program and decides the weights of that arm; nothing for those that learned nothing."""
    if arm not in POLICIES or not {"agent", "controller"} & set(policy_options(arm)):
        return ""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.glob("*")):
        digest.update(path.name.encode() + path.read_bytes())
    return f" {digest.hexdigest()[:16]}"
