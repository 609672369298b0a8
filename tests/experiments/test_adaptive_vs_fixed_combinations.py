"""Several combinations of losses: kept in one folder, compared on the same rows, told as found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.forecasting import swinging
from trading_bot.domain.market import Floats
from trading_bot.errors import TrainingError
from trading_bot.experiments.adaptive_vs_fixed import (
    EQUAL,
    FILE,
    STATIC,
    TUNED,
    Cell,
    Plan,
    Result,
    finished,
    measure,
)
from trading_bot.experiments.adaptive_vs_fixed_combinations import (
    BEST,
    CHOSEN,
    STRATEGIES,
    Measured,
    across,
    by_condition,
    gather,
    kept_folds,
    plans_of,
    within,
)
from trading_bot.experiments.adaptive_vs_fixed_combinations_report import write_combinations
from trading_bot.experiments.adaptive_vs_fixed_conditions import BULL, STABLE, VOLATILE, Conditions, conditions_of
from trading_bot.experiments.adaptive_vs_fixed_conditions_report import write_conditions
from trading_bot.experiments.weighted_fit import Budget
from trading_bot.training.adaptive_loss import COMBINATIONS
from trading_bot.training.evaluation import splits_of
from trading_bot.training.prepared_data import PreparedData, prepare_data

BUDGET = Budget(epochs=2, batches=3, batch_size=16, calibration=2, frequency=2)
ARMS = (EQUAL, TUNED, "rlw", "hybrid")
PLAN = Plan(seeds=(1, 2), folds=2, draws=1, budget=BUDGET)
BARS = (48, 24)
BARS_OF_ALL = 1600  # so that folds have ten blocks of every condition

Noise = Callable[[str, str, int], float | Floats]  # of combination, arm and fold: one size, or one for each row


@pytest.fixture(scope="module")
def data() -> PreparedData:
    return prepare_data(swinging(BARS_OF_ALL), 3)


@pytest.fixture(scope="module")
def conditions(data: PreparedData) -> tuple[Conditions, ...]:
    return conditions_of(swinging(BARS_OF_ALL), data, 2, *BARS)


def made(data: PreparedData, plans: tuple[Plan, ...], noise: Noise) -> dict[str, dict[Cell, Result]]:
    """Forecasts that are the target and so much noise, in units of its deviation; the more noise, the less valid."""
    random = np.random.default_rng(0)
    cells: dict[str, dict[Cell, Result]] = {plan.combination: {} for plan in plans}
    for plan in plans:
        losses = COMBINATIONS[plan.combination].losses
        for seed in plan.seeds:
            for fold, (_, held) in enumerate(splits_of(data, plan.folds)):
                target = data.y[held].astype(np.float64)
                for arm in plan.arms:
                    size = noise(plan.combination, arm, fold)
                    forecast = target + size * target.std() * random.standard_normal(len(target))
                    cells[plan.combination][seed, fold, arm] = Result(
                        seed, fold, arm, 1, 1.0, float(np.mean(size)), 2, dict.fromkeys(losses, 1 / len(losses)),
                        next(iter(losses)), forecast, forecast,
                    )  # fmt: skip
    return cells


def all_alike(combination: str, arm: str, fold: int) -> float:
    return 1.0


def of(data: PreparedData, noise: Noise, names: tuple[str, ...] = tuple(COMBINATIONS)) -> Measured:
    plans = plans_of(PLAN, names, ARMS)
    return gather(data, plans, made(data, plans, noise))


# what is asked for ----------------------------------------------------------------------------------------------------


def test_the_first_has_every_arm_and_the_others_the_four_strategies() -> None:
    plans = plans_of(PLAN, ("basic", "comprehensive", "basic", "trading_focused"))
    assert [plan.combination for plan in plans] == ["comprehensive", "basic", "trading_focused"]
    assert plans[0].arms == Plan().arms
    assert set(STRATEGIES) <= set(Plan().arms)
    assert {plan.arms for plan in plans[1:]} == {(*STATIC, *STRATEGIES)}
    assert {plan.arms for plan in plans_of(PLAN, ("basic", "trading_focused"), ARMS)} == {ARMS}
    assert [plan.arms for plan in plans_of(PLAN, ("basic",), ("rlw",))] == [("rlw",)]
    with pytest.raises(TrainingError, match="unknown combination 'basics'; did you mean 'basic'"):
        plans_of(PLAN, ("comprehensive", "basics"))
    with pytest.raises(TrainingError, match="found 2 combinations and the arms tuned static, rlw; wanted 'equal' and"):
        plans_of(PLAN, ("comprehensive", "basic"), (TUNED, "rlw"))


def test_several_combinations_in_one_folder(data: PreparedData, tmp_path: Path) -> None:
    plan = replace(PLAN, seeds=(1,))
    plans = plans_of(plan, ("basic", "robust_prediction"), (EQUAL, TUNED))
    for each in plans:
        measure(data, each, tmp_path / each.combination)
    apart = {each.combination: finished(data, each, tmp_path / each.combination) for each in plans}
    lines = [(tmp_path / each.combination / FILE).read_text() for each in plans]
    (tmp_path / FILE).write_text("".join(lines))
    together = {each.combination: finished(data, each, tmp_path) for each in plans}
    for name, cells in apart.items():
        assert cells.keys() == together[name].keys() == {(1, fold, arm) for fold in (0, 1) for arm in (EQUAL, TUNED)}
        for cell, result in cells.items():
            assert tuple(result.weights) == tuple(COMBINATIONS[name].losses)
            np.testing.assert_array_equal(result.chosen, together[name][cell].chosen)
    told = list[str]()
    measure(data, plans[1], tmp_path, told.append)
    assert told == []


# what is not finished -------------------------------------------------------------------------------------------------


def test_what_is_missing_is_said(data: PreparedData, tmp_path: Path) -> None:
    plans = plans_of(PLAN, ("basic", "trading_focused", "robust_prediction"), ARMS)
    cells = made(data, plans, all_alike)
    cells["robust_prediction"] = {}
    del cells["basic"][2, 1, "rlw"]
    found = gather(data, plans, cells)
    assert (found.combinations, found.seeds, found.arms) == (("basic", "trading_focused"), (1,), ARMS)
    assert found.missing == ("basic (rlw of seed 2)", "robust_prediction (all arms of seeds 1, 2)")
    write_combinations(found, tmp_path, "command")
    text = (tmp_path / "adaptive-loss.md").read_text()
    assert "**Not measured yet:** basic (rlw of seed 2); robust_prediction (all arms of seeds 1, 2)." in text
    without = {cell: result for cell, result in cells["trading_focused"].items() if cell[2] != "hybrid"}
    assert "hybrid" not in gather(data, plans, {**cells, "trading_focused": without}).arms
    with pytest.raises(TrainingError, match=r"not finished: .*trading_focused \(all arms of seeds 1, 2\).*run it for"):
        gather(data, plans, {**cells, "trading_focused": {}})


# comparisons ----------------------------------------------------------------------------------------------------------


def test_choices_are_by_validation_and_not_by_what_is_tested(data: PreparedData) -> None:
    plans = plans_of(PLAN, ("basic", "trading_focused"), ARMS)
    cells = made(data, plans, lambda name, arm, fold: 0.2 if (name, arm) == ("basic", "rlw") else 1.0)
    worst = {cell: replace(result, validation=9.0 if cell[2] == "rlw" else 1.0 - 0.1 * (cell[1] == 0))
             for cell, result in cells["basic"].items()}  # fmt: skip
    found = gather(data, plans, {**cells, "basic": worst})
    for fold in (0, 1):
        best = found.lost["basic", BEST][0][0][fold]
        np.testing.assert_array_equal(best, found.lost["basic", "hybrid"][0][0][fold], "rlw is better, but unseen")
    chosen, own, other = (found.lost[name, EQUAL][0][0] for name in (CHOSEN, "basic", "trading_focused"))
    np.testing.assert_array_equal(chosen[0], own[0])
    assert not np.array_equal(own[0], other[0])


def test_a_policy_that_gains_is_told_and_no_other(data: PreparedData, tmp_path: Path) -> None:
    def noise(name: str, arm: str, fold: int) -> float:
        return 0.3 if (name, arm) == ("basic", "rlw") else 1.0

    found = of(data, noise)
    pairs = within(found)
    family = [pair for pair in pairs if pair.error_holm is not None]
    assert len(family) == 5 * 2 * 2, "combinations × policies × tuned and equal"
    sure = {(pair.first, pair.second[1]) for pair in family if (pair.error_holm or 0) < 0.05}
    assert sure == {(("basic", "rlw"), TUNED), (("basic", "rlw"), EQUAL)}
    write_combinations(found, tmp_path, "the command")
    text = (tmp_path / "adaptive-loss.md").read_text()
    for words in (
        "## Every combination of losses", "Written by `the command`", "Holm is over all 20 of these",
        "**A gain over tuned weights is shown** for rlw of `basic`.",
        "### `directional_focused`: dlf, madl, asymmetric",
        "| trading_focused, rlw | dlf 0.33 ± 0.00 · trading 0.33 ± 0.00 · sharpe 0.33 ± 0.00 |", "| equal, chosen by",
    ):  # fmt: skip
        assert words in text, words
    assert (tmp_path / "adaptive-loss-combinations.png").read_bytes().startswith(b"\x89PNG")


def test_a_combination_that_forecasts_better_is_told_and_where_none_does_that(
    data: PreparedData, tmp_path: Path
) -> None:
    found = of(data, lambda name, arm, fold: 0.3 if name == "robust_prediction" else 1.0)
    pairs = across(found)
    assert len(pairs) == 3 * 5, "ways × four combinations and the chosen one, beside basic"
    sure = {pair.first[0] for pair in pairs if pair.error.high < 0 and (pair.error_holm or 0) < 0.05}
    assert sure == {"robust_prediction", CHOSEN}
    write_combinations(of(data, all_alike), tmp_path, "command")
    text = (tmp_path / "adaptive-loss.md").read_text()
    assert "**No gain is shown**" in text
    assert "**None is shown to have a lower error than `basic`.**" in text


@pytest.mark.filterwarnings("error")
def test_where_nothing_adapted_no_gain_is_told_and_none_is_denied(data: PreparedData, tmp_path: Path) -> None:
    names = ("basic", "trading_focused")
    static, long = plans_of(PLAN, names, (EQUAL, TUNED)), replace(PLAN, budget=replace(BUDGET, calibration=6))
    for plans, words in (
        (static, "**Nothing is said of adapting**: no policy is among the arms that all combinations have."),
        (plans_of(long, names, ARMS), "**Within a combination nothing was compared**: all 6 steps of a fit have equal"),
    ):
        write_combinations(gather(data, plans, made(data, plans, all_alike)), tmp_path, "command")
        text = (tmp_path / "adaptive-loss.md").read_text()
        assert words in text
        assert "No gain is shown" not in text
        assert "0 comparisons" not in text


def test_the_same_forecasts_are_no_difference(data: PreparedData) -> None:
    plans = plans_of(PLAN, ("basic", "trading_focused"), ARMS)
    cells = made(data, plans, all_alike)
    found = gather(data, plans, {"basic": cells["basic"], "trading_focused": cells["basic"]})
    assert all((pair.error.value, pair.error.p, pair.dm, pair.missed_holm) == (0, 1, 1, 1) for pair in across(found))


# conditions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [True, False])
def test_a_recommendation_is_supported_where_it_is_better_in_those_rows(
    data: PreparedData, conditions: tuple[Conditions, ...], tmp_path: Path, gain: bool
) -> None:
    def noise(name: str, arm: str, fold: int) -> Floats:
        good = conditions[fold].masks[BULL] if gain and name == "directional_focused" else False
        return np.where(good, 0.05, 4.0) * np.ones(len(conditions[fold].masks[BULL]))

    found = of(data, noise)
    pairs = write_conditions(found, conditions, BARS, tmp_path, "the command")
    assert pairs == by_condition(found, conditions)
    assert len(pairs) == 3 * 4 * 4, "conditions × equal, tuned and two policies × other combinations"
    sure = {pair.condition for pair in pairs if pair.error.high < 0 and (pair.error_holm or 0) < 0.05}
    assert sure == ({BULL} if gain else set())
    text = (tmp_path / "adaptive-loss.md").read_text()
    bull = text.split("**Bull market.**")[1].split("\n")[0]
    supported = "By the error the recommendation is **supported** with equal, tuned static, rlw, hybrid;"
    assert (supported in bull) == gain
    assert ("by the hits it is **supported** with equal, tuned static, rlw, hybrid." in bull) == gain
    assert text.count("is **supported**") == (2 if gain else 0), "in bull rows alone, by the error and by the hits"
    assert gain or text.count("**not supported**, and not contradicted") == 6
    for words in ("Holm is over all 48 comparisons", "48 bars up to it", "### High volatility", "Written by `the comm"):
        assert words in text, words
    assert (tmp_path / "adaptive-loss-conditions.png").read_bytes().startswith(b"\x89PNG")


def test_a_recommendation_is_contradicted_where_another_one_is_better(
    data: PreparedData, conditions: tuple[Conditions, ...], tmp_path: Path
) -> None:
    found = of(data, lambda name, arm, fold: 2.5 if (name, arm) == ("basic", "rlw") else 1.0)
    write_conditions(found, conditions, BARS, tmp_path, "command")
    stable = (tmp_path / "adaptive-loss.md").read_text().split("**Stable.**")[1].split("\n")[0]
    assert "By the error the recommendation is **contradicted** with rlw;" in stable
    assert "of 5 in these rows and number" in stable


def test_folds_with_too_few_rows_of_a_condition_are_left_out(
    data: PreparedData, conditions: tuple[Conditions, ...], tmp_path: Path
) -> None:
    def cut(each: Conditions, name: str, rows: int) -> Conditions:
        return replace(each, masks={**each.masks, name: np.arange(len(each.masks[name])) < rows})

    found = of(data, all_alike, ("basic", "robust_prediction"))
    short = (cut(cut(conditions[0], STABLE, 5), VOLATILE, 5), cut(cut(conditions[1], STABLE, 5), VOLATILE, 60))
    masks: Mapping[str, int] = {name: len(kept_folds(found, short, name)) for name in (BULL, VOLATILE, STABLE)}
    assert (masks[VOLATILE], masks[STABLE]) == (1, 0)
    pairs = write_conditions(found, short, BARS, tmp_path, "command")
    assert {pair.condition for pair in pairs} == {VOLATILE}
    text = (tmp_path / "adaptive-loss.md").read_text()
    assert "**Stable.** Nothing to say: no fold has enough test rows of it." in text
    assert "**Bull market.** Nothing to say: `directional_focused` is not measured." in text
    assert "60 rows of 1 of 2 folds; intervals by a bootstrap over 2 seeds, 1 fold and" in text
    assert "(of one fold alone: they say nothing of others)" in text
