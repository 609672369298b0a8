"""Adaptive against fixed weights: what is tried, what is kept, and that no more is told than was found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.forecasting import swinging
from trading_bot.errors import TrainingError
from trading_bot.experiments.adaptive_vs_fixed import (
    EQUAL,
    FILE,
    RANDOM,
    SINGLE,
    STATIC,
    TUNED,
    Cell,
    Plan,
    Result,
    draws,
    finished,
    measure,
    weightings,
)
from trading_bot.experiments.adaptive_vs_fixed_comparison import compare
from trading_bot.experiments.adaptive_vs_fixed_report import write
from trading_bot.experiments.feature_choice import ARMS, compare_features, step_seconds, summary, write_features
from trading_bot.experiments.weighted_fit import Budget, Weighting, fit
from trading_bot.training.adaptive_loss import POLICIES
from trading_bot.training.evaluation import splits_of
from trading_bot.training.prepared_data import PreparedData, prepare_data

BUDGET = Budget(epochs=2, batches=3, batch_size=16, calibration=2, frequency=2)
PLAN = Plan(
    combination="basic", arms=(*STATIC, "rlw", "performance_based"), seeds=(1, 2), folds=2, draws=2, budget=BUDGET
)  # fmt: skip


@pytest.fixture(scope="module")
def data() -> PreparedData:
    return prepare_data(swinging(800), 3)


@pytest.fixture(scope="module")
def kept(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything of the plan, finished."""
    folder = tmp_path_factory.mktemp("fits")
    measure(data, PLAN, folder)
    return folder


# what is tried --------------------------------------------------------------------------------------------------------


def test_every_policy_is_an_arm_and_every_arm_is_known() -> None:
    assert set(Plan().arms) == {*STATIC, *POLICIES} - {"fixed", "time_average"}
    assert len(Plan().arms) >= 14
    with pytest.raises(TrainingError, match="unknown arm 'rwl'; did you mean 'rlw'"):
        Plan(arms=("rwl",))
    with pytest.raises(TrainingError, match="found 0 draws, 5 folds and 2 seeds"):
        Plan(draws=0)


def test_what_each_arm_tries() -> None:
    assert [each.losses for _, each in weightings(PLAN, 1, 0, SINGLE)] == [{"mse": "MSE"}, {"mae": "MAE"}]
    tuned, random = ([each.options["weights"] for _, each in weightings(PLAN, 1, 0, arm)] for arm in (TUNED, RANDOM))
    assert (len(tuned), len(random)) == (2, 1)
    assert random[0] not in tuned
    (only,) = weightings(PLAN, 1, 0, "rlw")
    assert only[1].policy == "rlw"
    drawn = draws(("a", "b", "c", "d"), 200, 1, 0)
    assert all(sum(each.values()) == pytest.approx(1) and min(each.values()) >= 0.05 for each in drawn)
    assert np.mean([each["a"] for each in drawn]) == pytest.approx(0.25, abs=0.03)
    assert drawn[0] != draws(("a", "b", "c", "d"), 1, 1, 1)[0] != draws(("a", "b", "c", "d"), 1, 2, 1)[0]


def test_a_fit_does_not_see_the_rows_it_forecasts(data: PreparedData) -> None:
    train, held = splits_of(data, 2)[0]
    weighting = Weighting(losses={"mae": "MAE"})
    changed = replace(data, y=data.y.copy())
    changed.y[held[0] :] = 0.5
    one, other = (fit(each, train, held, weighting, BUDGET, 3) for each in (data, changed))
    np.testing.assert_array_equal(one.chosen, other.chosen)
    np.testing.assert_array_equal(one.last, other.last)
    assert len(one.chosen) == len(held)
    assert one.validation == min(one.history["val_loss"])
    assert not np.array_equal(one.chosen, fit(data, train, held, weighting, BUDGET, 4).chosen)


# what is kept ---------------------------------------------------------------------------------------------------------


def test_a_run_that_was_stopped_goes_on(data: PreparedData, kept: Path, tmp_path: Path) -> None:
    lines = (kept / FILE).read_text().splitlines(keepends=True)
    assert len(lines) == 2 * 2 * len(PLAN.arms)
    (tmp_path / FILE).write_text("".join(lines[:-2]) + lines[-2][: len(lines[-2]) // 2])  # killed in writing
    told = list[str]()
    again = measure(data, PLAN, tmp_path, told.append)
    assert [line.split(":")[0] for line in told] == [
        "seed 2  fold 2/2  rlw", "seed 2  fold 2/2  performance_based",
    ]  # fmt: skip
    whole = finished(data, PLAN, kept)
    assert again.keys() == whole.keys() == finished(data, PLAN, tmp_path).keys()
    for cell, result in whole.items():
        np.testing.assert_array_equal(result.chosen, again[cell].chosen.astype("<f4"))
    assert (whole[1, 0, TUNED].fits, whole[1, 0, SINGLE].fits, whole[1, 0, EQUAL].fits) == (2, 2, 1)
    assert whole[1, 0, SINGLE].about in ("mse", "mae")


def test_lines_that_are_no_fits_are_passed_over(data: PreparedData, kept: Path, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"key": "x"}\n[1]\n\n' + (kept / FILE).read_text())
    assert finished(data, PLAN, tmp_path).keys() == finished(data, PLAN, kept).keys()


def test_fits_of_something_else_are_not_taken(data: PreparedData, kept: Path) -> None:
    assert finished(data, replace(PLAN, budget=replace(BUDGET, epochs=3)), kept) == {}
    assert finished(prepare_data(swinging(800, seed=2), 3), PLAN, kept) == {}
    assert len(finished(data, replace(PLAN, seeds=(1, 2, 3)), kept)) == 24


# what is told ---------------------------------------------------------------------------------------------------------


def test_the_page(data: PreparedData, kept: Path, tmp_path: Path) -> None:
    found = compare(data, PLAN, finished(data, PLAN, kept))
    page = tmp_path / "adaptive-loss.md"
    page.write_text("# Adaptive loss\n\n## Another section\n\nstays\n")
    for _ in range(2):
        write(found, tmp_path, "the command", "800 candles", "f00")
    text = page.read_text()
    assert text.count("## Adaptive against fixed weights") == 1
    assert "## Another section\n\nstays" in text
    for words in (
        "the command", "2 seeds (1, 2), 6 steps of 16 rows", "32 fits", "| tuned static |", "| performance_based |",
        "best of 2 random draws", "89.8 %", "losses were simulated", "sha256 `f00`", "### Verdict",
    ):  # fmt: skip
        assert words in text, words
    assert (tmp_path / "adaptive-loss.png").read_bytes().startswith(b"\x89PNG")


def test_seeds_that_are_not_finished_are_left_out(data: PreparedData, kept: Path) -> None:
    cells = finished(data, PLAN, kept)
    part = {cell: result for cell, result in cells.items() if cell != (2, 1, "rlw")}
    assert compare(data, PLAN, part).seeds == (1,)
    alone = {cell: result for cell, result in cells.items() if cell[2] != "rlw"}
    found = compare(data, PLAN, alone)
    assert (found.seeds, "rlw" in found.arms) == ((1, 2), False)
    with pytest.raises(TrainingError, match=r"no seed of \[1, 2\] is finished"):
        compare(data, PLAN, {})


def made(data: PreparedData, noise: dict[str, float]) -> dict[Cell, Result]:
    """Arms whose forecasts are the target and so much noise, in units of its deviation."""
    random, cells = np.random.default_rng(0), dict[Cell, Result]()
    for seed in PLAN.seeds:
        for fold, (_, held) in enumerate(splits_of(data, PLAN.folds)):
            target = data.y[held].astype(np.float64)
            for arm, size in noise.items():
                forecast = target + size * target.std() * random.standard_normal(len(target))
                cells[seed, fold, arm] = Result(
                    seed, fold, arm, 1, 1.0, 0.5, 2, {"mse": 0.5, "mae": 0.5}, "mse", forecast, forecast
                )
    return cells


@pytest.mark.parametrize(("noise", "gain"), [(0.3, True), (1.0, False)])
def test_a_gain_is_told_where_there_is_one_and_only_there(
    data: PreparedData, tmp_path: Path, noise: float, gain: bool
) -> None:
    arms = {EQUAL: 1.0, TUNED: 1.0, "rlw": noise}
    plan = replace(PLAN, arms=tuple(arms))
    found = compare(data, plan, made(data, arms))
    rlw = next(each for each in found.comparisons if each.arm == "rlw")
    assert rlw.error is not None
    assert rlw.missed is not None
    assert rlw.dm is not None
    assert (rlw.error.high < 0, rlw.missed.high < 0, rlw.dm < 0.05) == (gain, gain, gain)
    write(found, tmp_path, "command", "candles", "f00")
    text = (tmp_path / "adaptive-loss.md").read_text()
    assert ("This is a null result" in text) != gain
    assert ("the 95 % interval without 0: rlw; of these by Holm's p < 0.05 over 1 policies: rlw" in text) == gain


def test_a_policy_that_does_nothing_is_told_so(data: PreparedData, kept: Path, tmp_path: Path) -> None:
    cells = finished(data, PLAN, kept)
    assert compare(data, PLAN, cells).idle == ("performance_based",), "six steps, and it looks every ten"
    same = {cell: cells[cell[0], cell[1], EQUAL] if cell[2] == "rlw" else result for cell, result in cells.items()}
    found = compare(data, PLAN, same)
    assert found.idle == ("rlw", "performance_based")
    write(found, tmp_path, "command", "candles", "f00")
    assert (
        "The same as equal weights in every fit: rlw, performance_based; nothing made"
        in (tmp_path / "adaptive-loss.md").read_text()
    )


def test_where_nothing_adapted_no_null_result_is_told(data: PreparedData, kept: Path, tmp_path: Path) -> None:
    cells = finished(data, PLAN, kept)
    still = {cell: cells[cell[0], cell[1], EQUAL] if cell[2] not in STATIC else each for cell, each in cells.items()}
    long = replace(PLAN, budget=replace(BUDGET, calibration=6))
    alone = {cell: each for cell, each in cells.items() if cell[2] in STATIC}
    for plan, part, words in (
        (PLAN, still, "**Nothing was compared**: no policy moved a weight in any fit."),
        (long, cells, "**Nothing was compared**: all 6 steps of a fit have equal weights, for the scales take 6,"),
        (PLAN, alone, "**Nothing is said of adapting**: no policy is among the arms."),
    ):
        write(compare(data, plan, part), tmp_path, "command", "candles", "f00")
        text = (tmp_path / "adaptive-loss.md").read_text()
        assert words in text
        assert "null result" not in text


# features -------------------------------------------------------------------------------------------------------------


def test_all_features_chosen_ones_and_random_ones(tmp_path: Path) -> None:
    market = swinging(800)
    one, again = (compare_features(market, 3, (1,), 2, BUDGET, k=5) for _ in range(2))
    for arm in ARMS:
        for a, b in zip(one.errors[arm][0], again.errors[arm][0], strict=True):
            np.testing.assert_array_equal(a, b)
    assert [len(names) for names in one.names] == [5, 5]
    assert not np.array_equal(one.errors["chosen"][0][0], one.errors["random"][0][0])
    write_features(one, tmp_path, "the command", "800 candles", "f00")
    text = (tmp_path / "features.md").read_text()
    for words in ("the command", "| 5 chosen |", "| 5 at random |", "times as fast", "sha256 `f00`"):
        assert words in text, words
    assert set(summary(one)["arms"]) == set(ARMS)
    with pytest.raises(TrainingError, match="found k 0 and 1 seeds; wanted 1 to"):
        compare_features(market, 3, (1,), 2, BUDGET, k=0)


def test_a_step_is_timed_for_each_number_of_features() -> None:
    found = step_seconds((8, 4), 30, rounds=2, steps=1)
    assert {count: len(each) for count, each in found.items()} == {8: 2, 4: 2}
    assert min(each.min() for each in found.values()) > 0
