"""Several combinations of losses on the same folds and seeds: each one's arms, one beside another, and by condition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trading_bot.domain.market import Floats
from trading_bot.errors import TrainingError
from trading_bot.experiments.adaptive_vs_fixed import EQUAL, STATIC, TUNED, Cell, Plan, Result
from trading_bot.experiments.adaptive_vs_fixed_comparison import Losses, losses_of, over_seeds
from trading_bot.experiments.adaptive_vs_fixed_conditions import RECOMMENDED, Conditions, Mask
from trading_bot.experiments.statistics import Difference, diebold_mariano, holm, paired_difference
from trading_bot.training.evaluation import splits_of
from trading_bot.training.prepared_data import PreparedData

MAIN = "comprehensive"  # the combination on which every policy is measured
PLAINEST = "basic"  # … and the one that others are held against
STRATEGIES = ("schedule_based", "performance_based", "learning_based", "hybrid")  # the four of the description
BEST = "best policy"  # of a fold and seed, by the validation error
CHOSEN = "chosen by validation"  # the combination, likewise
DRAWS = 10_000  # of the bootstrap: Holm over 72 needs small p
BLOCKS = 10  # of rows of a condition in a fold, at least: of two blocks a true null was rejected in a third of samples

Arm = tuple[str, str]  # combination, arm


@dataclass(frozen=True, slots=True)
class Pair:
    """One arm beside another on the same rows.

    Attributes
    ----------
    condition : of the market; "" for all rows
    error, missed : mean absolute error and share of wrong signs, first − second
    dm : Diebold and Mariano's p of the errors averaged over seeds, where rows follow each other
    error_holm, missed_holm : p of `error` and `missed` within their family; None outside
    """

    first: Arm
    second: Arm
    condition: str
    error: Difference
    missed: Difference
    dm: float | None = None
    error_holm: float | None = None
    missed_holm: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What is finished of all combinations.

    Attributes
    ----------
    cells : by combination
    arms : those that every combination has
    seeds : those that have every arm of every combination on all folds
    missing : what the plans ask for besides, in words
    targets : of each fold's test rows, (rows,)
    lost : absolute errors, and wrong signs of the rows that moved; also of `BEST` and of the combination `CHOSEN`
    """

    data: PreparedData
    plans: tuple[Plan, ...]
    cells: Mapping[str, Mapping[Cell, Result]]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    missing: tuple[str, ...]
    targets: tuple[Floats, ...]
    lost: Mapping[Arm, tuple[Losses, Losses]]

    @property
    def combinations(self) -> tuple[str, ...]:
        return tuple(plan.combination for plan in self.plans)

    @property
    def policies(self) -> tuple[str, ...]:
        return tuple(arm for arm in self.arms if arm not in STATIC)

    @property
    def ways(self) -> tuple[str, ...]:
        """Arms in which combinations are held beside each other."""
        return (EQUAL, TUNED, *([BEST] if self.policies else []))

    @property
    def block(self) -> int:
        """Rows that hang together: two horizons."""
        return 2 * self.data.horizon

    @property
    def least(self) -> int:
        """Rows that moved which a fold must have of a condition, for its rows of it to count."""
        return BLOCKS * self.block


def plans_of(plan: Plan, combinations: Sequence[str], arms: Sequence[str] = ()) -> tuple[Plan, ...]:
    """A plan for each combination, the first with every arm and the others with the four strategies.

    The first is `MAIN`, if it is among them. `arms`, if given, are those of all.

    Raises
    ------
    TrainingError
        If a name is unknown, or several combinations are asked for without what they are compared by.
    """
    names = list(dict.fromkeys(combinations))
    first = MAIN if MAIN in names else names[0]
    if len(names) > 1 and arms and not {EQUAL, TUNED} <= set(arms):
        raise TrainingError(
            f"found {len(names)} combinations and the arms {', '.join(arms)}; wanted {EQUAL!r} and {TUNED!r} among "
            "them, by which combinations are compared"
        )
    main = replace(plan, combination=first, arms=tuple(arms) or plan.arms)
    others = tuple(arms) or (*STATIC, *STRATEGIES)
    return (main, *(replace(plan, combination=name, arms=others) for name in names if name != first))


def gather(data: PreparedData, plans: Sequence[Plan], cells: Mapping[str, Mapping[Cell, Result]]) -> Measured:
    """The arms and seeds that all combinations have finished, and what they lost.

    Raises
    ------
    TrainingError
        If fewer than two combinations have a seed in common; the message says what is not finished.
    """
    folds = range(plans[0].folds)
    shared = [arm for arm in plans[0].arms if all(arm in plan.arms for plan in plans)]
    done: dict[Arm, set[int]] = {
        (plan.combination, arm): {
            seed for seed in plan.seeds if all((seed, fold, arm) in cells[plan.combination] for fold in folds)
        }
        for plan in plans
        for arm in shared
    }
    begun = tuple(plan for plan in plans if done[plan.combination, EQUAL] and done[plan.combination, TUNED])
    arms = tuple(arm for arm in shared if all(done[plan.combination, arm] for plan in begun))
    seeds = tuple(
        seed for seed in plans[0].seeds if all(seed in done[plan.combination, arm] for plan in begun for arm in arms)
    )
    missing = tuple(_missing(plans, done))
    if len(begun) < 2 or not seeds:
        raise TrainingError(
            f"no two combinations have {EQUAL!r}, {TUNED!r} and a seed on all {len(folds)} folds in common; not "
            f"finished: {'; '.join(missing)}: run it for longer, or name only `--combinations` that are finished"
        )
    targets = tuple(data.y[held].astype(np.float64) for _, held in splits_of(data, len(folds)))
    wider = _with_choices({plan.combination: cells[plan.combination] for plan in begun}, arms, seeds, folds)
    lost = {
        (name, arm): losses_of(arm, found, seeds, targets, last=False)
        for name, found in wider.items()
        for arm in (*arms, BEST)
        if (seeds[0], 0, arm) in found
    }
    return Measured(data, begun, cells, arms, seeds, missing, targets, lost)


def _missing(plans: Sequence[Plan], done: Mapping[Arm, set[int]]) -> Iterator[str]:
    """Each combination that is not finished, with the arms and seeds it lacks."""
    for plan in plans:
        lacking: dict[str, list[str]] = {}  # by seeds
        arms = [arm for name, arm in done if name == plan.combination]
        for arm in arms:
            left = [str(seed) for seed in plan.seeds if seed not in done[plan.combination, arm]]
            if left:
                lacking.setdefault(", ".join(left), []).append(arm)
        if lacking:
            told = (f"{'all arms' if names == arms else ', '.join(names)} of seed{'s' * (',' in seeds)} {seeds}"
                    for seeds, names in lacking.items())  # fmt: skip
            yield f"{plan.combination} ({'; '.join(told)})"


def _with_choices(
    cells: Mapping[str, Mapping[Cell, Result]], arms: Sequence[str], seeds: Sequence[int], folds: Sequence[int]
) -> dict[str, dict[Cell, Result]]:
    """With `BEST` of each combination and with the combination `CHOSEN`: of each seed and fold what validates best."""
    policies = [arm for arm in arms if arm not in STATIC]
    wider: dict[str, dict[Cell, Result]] = {name: dict(found) for name, found in cells.items()}
    wider[CHOSEN] = {}
    for seed in seeds:
        for fold in folds:
            for found in list(wider.values())[:-1]:
                if policies:
                    found[seed, fold, BEST] = _lowest([found[seed, fold, arm] for arm in policies])
            for arm in (EQUAL, TUNED, *([BEST] if policies else [])):
                wider[CHOSEN][seed, fold, arm] = _lowest([wider[name][seed, fold, arm] for name in cells])
    return wider


def _lowest(results: Sequence[Result]) -> Result:
    return min(results, key=lambda each: each.validation)


# comparisons ----------------------------------------------------------------------------------------------------------


def within(found: Measured) -> tuple[Pair, ...]:
    """Each arm of a combination beside its tuned and its equal weights; Holm over all policies of all combinations."""
    pairs = [
        _pair(found, (name, arm), (name, other))
        for name in found.combinations for arm in found.arms for other in (TUNED, EQUAL) if arm != other
    ]  # fmt: skip
    return adjusted(pairs, lambda pair: pair.first[1] in found.policies)


def across(found: Measured) -> tuple[Pair, ...]:
    """Each combination beside the plainest, and beside it the one chosen by validation; Holm over all."""
    plainest = reference(found)
    return adjusted([
        _pair(found, (name, way), (plainest, way))
        for way in found.ways for name in (*found.combinations, CHOSEN) if name != plainest
    ])  # fmt: skip


def reference(found: Measured) -> str:
    """The combination that others are held against."""
    return PLAINEST if PLAINEST in found.combinations else found.combinations[0]


def beside_nothing(found: Measured) -> dict[Arm, Difference]:
    """The error of each combination − that of forecasting no move."""
    nothing: Losses = [[np.abs(target) for target in found.targets]] * len(found.seeds)
    return {
        (name, way): paired_difference(found.lost[name, way][0], nothing, found.block, DRAWS)
        for way in found.ways for name in (*found.combinations, CHOSEN)
    }  # fmt: skip


def by_condition(found: Measured, conditions: Sequence[Conditions]) -> tuple[Pair, ...]:
    """The combination recommended for a condition beside each other one, for equal, tuned and each policy's weights."""
    return adjusted([
        _pair(found, (recommended, arm), (name, arm), condition, conditions)
        for condition, recommended in RECOMMENDED.items()
        if recommended in found.combinations and kept_folds(found, conditions, condition)
        for arm in (EQUAL, TUNED, *found.policies)
        for name in found.combinations if name != recommended
    ])  # fmt: skip


def adjusted(pairs: Sequence[Pair], counts: Callable[[Pair], bool] = lambda pair: True) -> tuple[Pair, ...]:
    """With Holm's p over those that count, of errors and of signs apart."""
    family = [place for place, pair in enumerate(pairs) if counts(pair)]
    told = list(pairs)
    if family:
        errors, signs = (holm([getattr(pairs[place], name).p for place in family]) for name in ("error", "missed"))
        for place, error, sign in zip(family, errors, signs, strict=True):
            told[place] = replace(pairs[place], error_holm=float(error), missed_holm=float(sign))
    return tuple(told)


def _pair(
    found: Measured, first: Arm, second: Arm, condition: str = "", conditions: Sequence[Conditions] = ()
) -> Pair:  # fmt: skip
    lost = [inside(found, arm, conditions, condition) if condition else found.lost[arm] for arm in (first, second)]
    (errors, missed), (other, other_missed) = lost
    return Pair(
        first, second, condition, paired_difference(errors, other, found.block, DRAWS),
        paired_difference(missed, other_missed, found.block, DRAWS),
        None if condition else diebold_mariano(over_seeds(errors), over_seeds(other), found.data.horizon).p,
    )  # fmt: skip


def inside(
    found: Measured, arm: Arm, conditions: Sequence[Conditions], condition: str
) -> tuple[Losses, Losses]:  # fmt: skip
    """What an arm lost on the rows of a condition, of the folds that have enough of them."""
    errors, missed = found.lost[arm]
    folds = kept_folds(found, conditions, condition)
    masks = [conditions[fold].masks[condition] for fold in folds]
    moved = [mask[found.targets[fold] != 0] for fold, mask in zip(folds, masks, strict=True)]
    return (
        [[seed[fold][mask] for fold, mask in zip(folds, masks, strict=True)] for seed in errors],
        [[seed[fold][mask] for fold, mask in zip(folds, moved, strict=True)] for seed in missed],
    )


def kept_folds(found: Measured, conditions: Sequence[Conditions], condition: str) -> list[int]:
    """The folds with `least` rows in a condition: from a few blocks the bootstrap sees differences where none are."""
    masks: list[Mask] = [each.masks[condition] for each in conditions]
    return [
        fold for fold, (mask, target) in enumerate(zip(masks, found.targets, strict=True))
        if (mask & (target != 0)).sum() >= found.least
    ]  # fmt: skip
