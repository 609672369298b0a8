"""Each test of two arms against another way to its numbers, and against simulations whose truth is known."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from tests.training.forecasting import FEATURES, QUICK, swinging
from trading_bot.errors import TrainingError
from trading_bot.experiments.forecast_report import Findings, ModelFindings, write
from trading_bot.experiments.statistics import (
    diebold_mariano,
    holm,
    long_run_variance,
    paired_difference,
)
from trading_bot.training.evaluation import walk_forward
from trading_bot.training.prepared_data import prepare_data

Array = npt.NDArray[np.float64]


def autoregressive(random: np.random.Generator, *shape: int, memory: float = 0.4) -> Array:
    """Series of mean 0 along the last axis, each value `memory` times the one before plus noise of variance 1."""
    noise = random.standard_normal((*shape[:-1], shape[-1] + 60))
    series: Array = lfilter([1.0], [1.0, -memory], noise, axis=-1)[..., 60:]
    return series


# Paired bootstrap


def all_outcomes(first: Array, second: Array, block: int) -> list[float]:
    """What each equally likely draw of seeds, folds and blocks comes to; arms of (seeds, folds, rows)."""
    seeds, folds, rows = first.shape
    found = []
    for chosen in itertools.product(range(seeds), repeat=seeds):
        for slots in itertools.product(range(folds), repeat=folds):
            for starts in itertools.product(range(rows), repeat=folds * (rows // block)):
                begins = iter(starts)
                total = 0.0
                for fold in slots:
                    for _ in range(rows // block):
                        begin = next(begins)
                        for step in range(block):
                            row = (begin + step) % rows
                            total += sum(first[s, fold, row] - second[s, fold, row] for s in chosen)
                found.append(total / (seeds * folds * rows))
    return found


@pytest.mark.parametrize(("seeds", "folds", "rows", "block"), [(2, 2, 4, 2), (3, 1, 6, 3), (1, 2, 4, 2), (1, 1, 5, 1)])
def test_the_interval_is_that_of_all_possible_draws(seeds: int, folds: int, rows: int, block: int) -> None:
    random = np.random.default_rng(7)
    first = random.normal(0.2, 1, (seeds, folds, rows)) + random.normal(0, 1, (seeds, 1, 1))
    second = random.normal(0, 1, (seeds, folds, rows))
    outcomes = np.sort(all_outcomes(first, second, block))
    draws = 20_000
    found = paired_difference(first, second, block, draws, coverage=0.8)
    assert found.value == pytest.approx((first - second).mean())
    assert (found.seeds, found.folds, found.rows) == (seeds, folds, folds * rows)
    error = math.sqrt(0.1 * 0.9 / draws)  # of the share of draws below the tenth percentile
    for bound, share in ((found.low, 0.1), (found.high, 0.9)):
        below, up_to = (outcomes < bound - 1e-12).mean(), (outcomes <= bound + 1e-12).mean()
        assert below - 4 * error <= share <= up_to + 4 * error
    beyond = min((outcomes <= 1e-12).mean(), (outcomes >= -1e-12).mean())
    assert found.p == pytest.approx(min(1.0, 2 * beyond), abs=8 * math.sqrt(0.25 / draws))


def test_the_market_all_seeds_saw_counts_once() -> None:
    market = autoregressive(np.random.default_rng(3), 4, 120)
    nothing = np.zeros_like(market)
    one = paired_difference([market], [nothing], 10, 4_000)
    ten = paired_difference([market] * 10, [nothing] * 10, 10, 4_000)
    assert ten.value == pytest.approx(one.value)
    assert ten.high - ten.low == pytest.approx(one.high - one.low, rel=0.06), "ten copies tell no more than one"


def test_what_moves_both_arms_alike_cancels() -> None:
    random = np.random.default_rng(4)
    shared, better = 100 * random.standard_normal((3, 4, 60)), 0.1 * random.standard_normal((3, 4, 60)) - 1
    found = paired_difference(shared + better, shared, 6, 500)
    alone = paired_difference(better, np.zeros_like(better), 6, 500)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    assert found.high < -0.9
    assert found.p == pytest.approx(2 / 501)
    turned = paired_difference(shared, shared + better, 6, 500)
    assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low))
    same = paired_difference(shared, shared, 6, 500)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_folds_of_other_lengths_count_by_their_rows_and_the_seed_decides() -> None:
    random = np.random.default_rng(5)
    first = [[random.normal(size=40), random.normal(size=90)] for _ in range(2)]
    second = [[random.normal(size=40), random.normal(size=90)] for _ in range(2)]
    found = paired_difference(first, second, 8, seed=1)
    rows = [np.concatenate(a) - np.concatenate(b) for a, b in zip(first, second, strict=True)]
    assert found.value == pytest.approx(np.mean(rows))
    assert found.low < found.value < found.high
    assert found == paired_difference(first, second, 8, seed=1)
    assert found != paired_difference(first, second, 8, seed=2)
    one_more = [[fold + 1 for fold in seed] for seed in first]
    always = paired_difference(one_more, first, 8)
    assert (always.low, always.high) == pytest.approx((1, 1)), "whichever folds are drawn"


def covered(seeds: int, folds: int, rows: int, block: int, times: int) -> float:
    """How often a 95 % interval holds the true difference of 0.3 between arms that hang together over time."""
    random, hits = np.random.default_rng(1), 0
    for time in range(times):
        shared = 5 * autoregressive(random, seeds, folds, rows)
        market, own = autoregressive(random, 1, folds, rows), 0.2 * autoregressive(random, seeds, folds, rows)
        found = paired_difference(shared + market + own + 0.3, shared, block, 400, seed=time)
        hits += found.low <= 0.3 <= found.high
    return hits / times


def test_coverage_with_known_truth() -> None:
    times = 400
    error = math.sqrt(0.95 * 0.05 / times)  # of a share of 95 %
    assert abs(covered(1, 1, 2_000, 40, times) - 0.95) < 3 * error
    assert covered(3, 5, 100, 20, times) > 0.95 - 2 * error, "folds that differ by chance alone make it wider"
    assert covered(1, 1, 300, 1, times) < 0.95 - 6 * error, "rows one by one: too narrow for what hangs together"


FOLD = [1.0, 2.0, 0.5, 3.0]


@pytest.mark.parametrize(
    ("first", "second", "block", "words"),
    [
        ([], [], 1, r"found folds of \[\] rows.*wanted at least one seed"),
        ([[]], [[]], 1, r"found folds of \[\[\]\] rows.*with one fold"),
        ([[FOLD]], [[FOLD[1:]]], 1, r"\[\[4\]\] rows by seed in the first arm and \[\[3\]\].*pair what"),
        ([[FOLD], [FOLD, FOLD]], [[FOLD], [FOLD, FOLD]], 1, "the same folds in every seed"),
        ([[[1.0]]], [[[2.0]]], 1, r"seed 0, fold 0: found shapes \(1,\) and \(1,\); wanted .* at least 2 rows: give"),
        ([[FOLD], [[1.0, math.nan, 2.0, 3.0]]], [[FOLD], [FOLD]], 1, "seed 1, fold 0: found 1 NaN.*leave out, in both"),
        ([[FOLD]], [[FOLD]], 3, "found blocks of 3 rows and a fold of 4; wanted 1 to 2.*shorten the blocks"),
        ([[FOLD]], [[FOLD]], 0, "found blocks of 0 rows"),
    ],
)
def test_arms_that_do_not_pair_are_refused(first: list[object], second: list[object], block: int, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        paired_difference(first, second, block)  # type: ignore[arg-type]  # that is the point


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"found 0 draws and a coverage of 0\.95; wanted ≥ 1"):
        paired_difference([[FOLD]], [[FOLD]], 1, draws=0)
    with pytest.raises(TrainingError, match=r"coverage of 95; wanted"):
        paired_difference([[FOLD]], [[FOLD]], 1, coverage=95)


# Diebold–Mariano


def by_hand(first: Array, second: Array, horizon: int, lags: int) -> tuple[float, float]:
    """Statistic and two-sided p as a double sum over all pairs of rows."""
    d = [float(a) - float(b) for a, b in zip(first, second, strict=True)]
    n = len(d)
    mean = math.fsum(d) / n
    if not any(d):
        return 0.0, 1.0
    terms = [(d[i] - mean) * (d[j] - mean) * max(0.0, 1 - abs(i - j) / (lags + 1)) for i in range(n) for j in range(n)]
    plain = mean / math.sqrt(math.fsum(terms) / n / n)
    statistic = plain * math.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    return statistic, float(2 * stats.t.sf(abs(statistic), n - 1))


@pytest.mark.parametrize(("rows", "horizon", "lags"), [(30, 1, 0), (30, 3, 2), (61, 12, 20), (80, 2, 79)])
def test_diebold_mariano_as_a_double_sum(rows: int, horizon: int, lags: int) -> None:
    random = np.random.default_rng(rows)
    first, second = random.normal(size=rows) ** 2 + 0.3, autoregressive(random, rows) ** 2
    found = diebold_mariano(first, second, horizon, lags)
    statistic, p = by_hand(first, second, horizon, lags)
    assert (found.statistic, found.p) == pytest.approx((statistic, p))
    assert (found.rows, found.lags) == (rows, lags)
    assert found.p_less == pytest.approx(stats.t.cdf(statistic, rows - 1))


def test_one_step_without_lags_is_the_paired_t_test() -> None:
    random = np.random.default_rng(2)
    first, second = random.normal(size=25), random.normal(size=25)
    for side, name in (("two-sided", "p"), ("less", "p_less")):
        wanted = stats.ttest_rel(first, second, alternative=side)
        found = diebold_mariano(first, second, 1, 0)
        assert found.statistic == pytest.approx(wanted.statistic)
        assert getattr(found, name) == pytest.approx(wanted.pvalue)


def test_long_run_variance_of_a_known_process() -> None:
    series = autoregressive(np.random.default_rng(6), 200_000, memory=0.5)
    assert long_run_variance(series, 60) == pytest.approx(1 / (1 - 0.5) ** 2, rel=0.06)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=12, max_size=40), st.integers(1, 4))
def test_turned_around_it_says_the_opposite(pairs: list[tuple[float, float]], horizon: int) -> None:
    first, second = np.array(pairs).T
    if np.ptp(first - second) < 1e-6:
        first = first + np.arange(len(first))
    one, other = diebold_mariano(first, second, horizon), diebold_mariano(second, first, horizon)
    assert one.statistic == -other.statistic
    assert one.p == other.p
    assert 0 <= one.p <= 1
    assert one.p_less == pytest.approx(1 - other.p_less)
    assert one.p == pytest.approx(2 * min(one.p_less, other.p_less))


def test_a_true_null_is_seldom_rejected_and_a_false_one_often() -> None:
    random, horizon, rows, times = np.random.default_rng(8), 6, 1_000, 400
    null = random.standard_normal((times, rows + horizon - 1))
    overlapping = lfilter(np.ones(horizon), [1.0], null, axis=1)[:, horizon - 1 :]
    nothing = np.zeros(rows)
    rejected = np.mean([diebold_mariano(each, nothing, horizon).p < 0.05 for each in overlapping])
    assert abs(rejected - 0.05) < 0.02 + 3 * math.sqrt(0.05 * 0.95 / times), "two points for the weights cut short"
    naive = np.mean([stats.ttest_rel(each, nothing).pvalue < 0.05 for each in overlapping])
    assert naive > 0.3, "rows that hang together, taken one by one"
    found = np.mean([diebold_mariano(each - 1, nothing, horizon).p_less < 0.05 for each in overlapping])
    assert found > 0.95


def test_lags_follow_the_horizon_and_the_rows() -> None:
    def lags(rows: int, horizon: int) -> int:
        series = np.random.default_rng(9).normal(size=(2, rows))
        return diebold_mariano(series[0], series[1], horizon).lags

    assert [lags(100, 1), lags(20_000, 1), lags(20_000, 12), lags(100, 12), lags(100, 3)] == [4, 12, 44, 11, 8]


def test_arms_that_never_differ() -> None:
    found = diebold_mariano([1.0, 2.0, 5.0], [1.0, 2.0, 5.0])
    assert (found.statistic, found.p, found.p_less) == (0, 1, 0.5)
    with pytest.raises(TrainingError, match=r"differ by -0\.3 on all of 3 rows; wanted differences that vary"):
        diebold_mariano([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])


@pytest.mark.parametrize(
    ("first", "second", "horizon", "lags", "words"),
    [
        ([], [], 1, None, r"losses: found shapes \(0,\) and \(0,\); wanted .*at least 2 rows: give"),
        ([1.0], [2.0], 1, None, "at least 2 rows"),
        ([1.0, 2.0], [2.0], 1, None, r"shapes \(2,\) and \(1,\)"),
        ([1.0, math.nan, math.inf], [2.0, 1.0, 1.0], 1, None, "found 2 NaN or infinite values in 3 rows.*leave out"),
        ([1.0, 2.0, 4.0], [2.0, 1.0, 1.0], 2, None, "horizon of 2 and 1 lags for 3 rows; wanted a horizon of 1 to 1"),
        ([1.0, 2.0, 4.0], [2.0, 1.0, 1.0], 0, 0, "horizon of 0"),
        ([1.0, 2.0, 4.0], [2.0, 1.0, 1.0], 1, 3, "3 lags for 3 rows; wanted .*fewer lags than rows: test over more"),
    ],
)
def test_losses_that_cannot_be_tested_are_refused(
    first: list[float], second: list[float], horizon: int, lags: int | None, words: str
) -> None:
    with pytest.raises(TrainingError, match=words):
        diebold_mariano(first, second, horizon, lags)


# Holm


def rejected_by_steps(ps: list[float], level: float) -> list[bool]:
    """Holm's procedure as he wrote it: the smallest p first, stop at the first that is too large."""
    left, rejected = list(range(len(ps))), [False] * len(ps)
    while left:
        smallest = min(left, key=lambda each: ps[each])
        if ps[smallest] * len(left) > level:
            break
        rejected[smallest] = True
        left.remove(smallest)
    return rejected


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.999))
def test_holm_rejects_what_his_steps_reject(ps: list[float], level: float) -> None:
    assert (holm(ps) <= level).tolist() == rejected_by_steps(ps, level)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_never_below_the_raw_p_nor_above_bonferroni_and_keeps_their_order(ps: list[float]) -> None:
    adjusted, raw = holm(ps), np.array(ps)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(1, len(ps) * raw)).all()
    order = np.argsort(raw, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    turned = np.argsort(np.sin(np.arange(len(ps)) + 1))  # some other order of the arms
    np.testing.assert_array_equal(holm(raw[turned]), adjusted[turned])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.2]).tolist() == [0.2]
    assert holm([0.6, 0.5, 0.9]).tolist() == [1, 1, 1]


@pytest.mark.parametrize("ps", [[], [0.1, math.nan], [-0.1], [1.2], [[0.1]]])
def test_what_is_no_family_of_p_values_is_refused(ps: list[float]) -> None:
    with pytest.raises(TrainingError, match=r"wanted at least one, each from 0 to 1: leave out"):
        holm(ps)


# On the page


def test_the_forecast_page_shows_both_beside_its_intervals(tmp_path: Path) -> None:
    data, config = prepare_data(swinging(700), 3, 10, FEATURES), QUICK
    runs = [walk_forward(data, dataclasses.replace(config, seed=seed), 2) for seed in range(2)]
    models = tuple(ModelFindings(name, (run,)) for name, run in zip(("one", "two"), runs, strict=True))
    write(Findings("swings", "700 candles", "0" * 64, data, config, 2, 1, models, "the command"), tmp_path)
    page = (tmp_path / "forecast.md").read_text()
    lines = page[page.index("## Verdict") :].splitlines()[2:6]
    assert [cell.strip() for cell in lines[0].split("|")[4:6]] == ["p", "Holm"]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    told = []
    for run in runs:
        forecast, target = run.pooled("model")
        mean = run.pooled("mean")[0]
        error = by_hand((forecast - target) ** 2, target**2, 3, 8)[1]
        wrong, drift_wrong = (np.sign(each) != np.sign(target) for each in (forecast, mean))
        told.append((error, by_hand(wrong.astype(float), drift_wrong.astype(float), 3, 8)[1]))
    assert "over 8 lags" in page
    for column, ps in zip((3, 7), zip(*told, strict=True), strict=True):
        both = sorted(range(2), key=lambda row: ps[row])
        twice = min(1.0, 2 * ps[both[0]])
        adjusted = {both[0]: twice, both[1]: max(twice, ps[both[1]])}
        for row in range(2):
            assert cells[row][column : column + 2] == [
                f"{p:.3f}" if p >= 0.001 else "< 0.001" for p in (ps[row], adjusted[row])
            ]
