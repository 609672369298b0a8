"""Each statistic against an independent computation, by hand on small cases, and where it is undefined."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from trading_bot import metrics

PROFITS = [0.10, -0.05, 0.02, 0.0, -0.04, -0.01, 0.03]
DAY = metrics.DAY_MS


def some_returns(n: int = 400, seed: int = 3) -> list[float]:
    values: list[float] = np.random.default_rng(seed).standard_t(4, n).tolist()
    return [0.01 * value + 0.0005 for value in values]


# Trades


def test_trades_by_hand() -> None:
    assert metrics.win_rate(PROFITS) == pytest.approx(3 / 7)
    assert metrics.average_win(PROFITS) == pytest.approx(0.05)
    assert metrics.average_loss(PROFITS) == pytest.approx(0.10 / 3)
    assert metrics.profit_factor(PROFITS) == pytest.approx(1.5)
    assert metrics.best_trade(PROFITS) == 0.10
    assert metrics.worst_trade(PROFITS) == -0.05
    assert metrics.longest_losing_streak(PROFITS) == 2
    assert metrics.current_losing_streak(PROFITS) == 0
    assert metrics.current_losing_streak(PROFITS[:-1]) == 2


def test_expectancy_is_win_rate_times_win_minus_loss_rate_times_loss() -> None:
    wins = [p for p in PROFITS if p > 0]
    losses = [-p for p in PROFITS if p < 0]
    wanted = len(wins) / 7 * (sum(wins) / len(wins)) - len(losses) / 7 * (sum(losses) / len(losses))
    assert metrics.expectancy(PROFITS) == pytest.approx(wanted)
    ratio = (1 + (sum(wins) / len(wins)) / (sum(losses) / len(losses))) * len(wins) / 7 - 1
    assert metrics.expectancy_ratio(PROFITS) == pytest.approx(ratio)


def test_expectancy_ratio_of_losers_alone_is_minus_one() -> None:
    assert metrics.expectancy_ratio([-0.1, -0.2]) == -1.0


def test_sqn_and_trade_sharpe_agree_with_a_t_statistic() -> None:
    t = stats.ttest_1samp(PROFITS, 0.0).statistic
    assert metrics.sqn(PROFITS) == pytest.approx(t)
    assert metrics.trade_sharpe(PROFITS) == pytest.approx(t / math.sqrt(7))


def test_trade_drawdown_compounds_from_the_start() -> None:
    assert metrics.trade_max_drawdown([-0.1]) == pytest.approx(0.1)
    assert metrics.trade_max_drawdown([0.5, -0.2, 0.1, -0.5, 0.2]) == pytest.approx(1 - 0.8 * 1.1 * 0.5)
    assert metrics.trade_max_drawdown([0.1, 0.2]) == 0.0
    assert metrics.trade_max_drawdown([0.1, -1.0, 3.0]) == 1.0
    assert metrics.trade_max_drawdown([0.1, -1.7, 3.0]) == 1.0


@given(st.lists(st.floats(-0.9, 2.0), max_size=30))
def test_losing_streaks_as_counted_by_itertools(profits: list[float]) -> None:
    runs = [(lost, len(list(group))) for lost, group in itertools.groupby(p < 0 for p in profits)]
    assert metrics.longest_losing_streak(profits) == max((length for lost, length in runs if lost), default=0)
    assert metrics.current_losing_streak(profits) == (runs[-1][1] if runs and runs[-1][0] else 0)


@given(st.lists(st.floats(-0.9, 2.0), max_size=30))
def test_no_trades_statistic_is_ever_nan_or_infinite(profits: list[float]) -> None:
    for statistic in (
        metrics.win_rate,
        metrics.average_win,
        metrics.average_loss,
        metrics.profit_factor,
        metrics.expectancy,
        metrics.expectancy_ratio,
        metrics.sqn,
        metrics.trade_sharpe,
        metrics.trade_max_drawdown,
        metrics.best_trade,
        metrics.worst_trade,
    ):
        value = statistic(profits)
        assert value is None or math.isfinite(value)


@pytest.mark.parametrize(
    ("statistic", "values"),
    [
        (metrics.win_rate, []),
        (metrics.average_win, [-0.1, 0.0]),
        (metrics.average_loss, [0.1, 0.0]),
        (metrics.profit_factor, [0.1, 0.2]),
        (metrics.profit_factor, []),
        (metrics.expectancy, []),
        (metrics.expectancy_ratio, [0.1]),
        (metrics.sqn, [0.1]),
        (metrics.sqn, [0.1, 0.1, 0.1]),
        (metrics.trade_sharpe, []),
        (metrics.trade_sharpe, [0.1]),
        (metrics.trade_max_drawdown, []),
        (metrics.best_trade, []),
        (metrics.worst_trade, []),
        (metrics.sharpe, [0.1]),
        (metrics.sharpe, [0.3, 0.3, 0.3, 0.3]),
        (metrics.sortino, [0.1, 0.2]),
        (metrics.sortino, [-0.1]),
        (metrics.historical_var, []),
        (metrics.historical_cvar, []),
        (metrics.cornish_fisher_var, [0.1, 0.2, 0.3]),
        (metrics.cornish_fisher_var, [0.1] * 10),
        (metrics.cornish_fisher_cvar, []),
        (metrics.max_drawdown, []),
        (metrics.max_drawdown, [0.0, 1.0]),
        (metrics.exposure, []),
    ],
)
def test_what_is_undefined_is_none(statistic: Callable[[list[float]], object], values: list[float]) -> None:
    assert statistic(values) is None


@pytest.mark.parametrize("statistic", [metrics.win_rate, metrics.sharpe, metrics.historical_var, metrics.max_drawdown])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_are_refused(statistic: Callable[[list[float]], object], bad: float) -> None:
    with pytest.raises(ValueError, match="should be finite, has 1"):
        statistic([1.0, bad])


# Equity


def test_sharpe_and_sortino_as_written_in_the_books() -> None:
    returns = some_returns()
    mean = sum(returns) / len(returns)
    deviation = math.sqrt(sum((r - mean) ** 2 for r in returns) / (len(returns) - 1))
    downside = math.sqrt(sum(r * r for r in returns if r < 0) / len(returns))
    assert metrics.sharpe(returns) == pytest.approx(math.sqrt(365) * mean / deviation)
    assert metrics.sharpe(returns, days=252) == pytest.approx(math.sqrt(252) * mean / deviation)
    assert metrics.sharpe(returns) == pytest.approx(math.sqrt(365) / stats.variation(returns, ddof=1))
    assert metrics.sortino(returns) == pytest.approx(math.sqrt(365) * mean / downside)


def test_growth_by_hand() -> None:
    assert metrics.cagr(100, 121, 730) == pytest.approx(0.10)
    assert metrics.cagr(100, 0, 365) == -1.0
    assert metrics.cagr(100, 50, 365) == pytest.approx(-0.5)
    for start, end, days in ((100, 110, 0), (0, 110, 10), (100, -5, 10), (1, 1e9, 0.01)):
        assert metrics.cagr(start, end, days) is None


def test_calmar_takes_either_sign_of_drawdown() -> None:
    assert metrics.calmar(0.2, 0.1) == metrics.calmar(0.2, -0.1) == pytest.approx(2.0)
    assert metrics.calmar(None, 0.1) is None
    assert metrics.calmar(0.2, None) is None
    assert metrics.calmar(0.2, 0.0) is None


def test_drawdown_by_hand() -> None:
    fall = metrics.max_drawdown([100, 120, 90, 130, 1300, 1200, 1310], time=range(0, 70, 10))
    assert fall is not None
    assert fall.account == pytest.approx(0.25)
    assert (fall.start, fall.end, fall.duration, fall.recovered) == (10, 20, 10, 30)
    assert fall.absolute == pytest.approx(100)  # another fall, smaller as a share


def test_drawdown_that_has_not_ended_has_not_recovered() -> None:
    fall = metrics.max_drawdown([100, 80, 90])
    assert fall is not None
    assert fall.account == pytest.approx(0.2)
    assert (fall.absolute, fall.start, fall.end, fall.recovered) == (20.0, 0, 1, None)


def test_equity_that_only_rises_has_a_drawdown_of_zero() -> None:
    fall = metrics.max_drawdown([100, 110, 120])
    assert fall is not None
    assert (fall.account, fall.absolute, fall.duration, fall.recovered) == (0.0, 0.0, 0, 0)


@given(st.lists(st.floats(1.0, 1e6), min_size=1, max_size=40))
def test_drawdown_is_the_worst_of_all_pairs(equity: list[float]) -> None:
    fall = metrics.max_drawdown(equity)
    assert fall is not None
    pairs = [(i, j) for i in range(len(equity)) for j in range(i, len(equity))]
    assert fall.account == pytest.approx(max(1 - equity[j] / equity[i] for i, j in pairs), abs=1e-12)
    assert fall.absolute == pytest.approx(max(equity[i] - equity[j] for i, j in pairs))
    assert 1 - equity[fall.end] / equity[fall.start] == pytest.approx(fall.account, abs=1e-12)


def test_daily_equity_takes_the_last_point_of_each_day_and_fills_days_without() -> None:
    hour = DAY // 24
    time = [5 * hour, 23 * hour, DAY, 3 * DAY + hour]
    days, equity = metrics.daily_equity(time, [1.0, 2.0, 3.0, 4.0])
    assert days.tolist() == [0, DAY, 2 * DAY, 3 * DAY]
    assert equity.tolist() == [2.0, 3.0, 3.0, 4.0]


def test_daily_equity_of_nothing_is_nothing() -> None:
    days, equity = metrics.daily_equity([], [])
    assert len(days) == len(equity) == 0


def test_daily_equity_refuses_what_is_out_of_order_or_of_two_lengths() -> None:
    with pytest.raises(ValueError, match="time should rise"):
        metrics.daily_equity([2 * DAY, DAY], [1.0, 2.0])
    with pytest.raises(ValueError, match="one length, have 2 and 1"):
        metrics.daily_equity([1, 2], [1.0])
    with pytest.raises(ValueError, match="one length"):
        metrics.max_drawdown([1.0, 2.0], time=[1])


def test_returns_need_positive_equity() -> None:
    assert metrics.returns_of([100, 110, 99]).tolist() == pytest.approx([0.1, -0.1])
    assert metrics.returns_of([100]).tolist() == []
    assert metrics.returns_of([100, 0]).tolist() == [-1.0]
    with pytest.raises(ValueError, match="stay positive"):
        metrics.returns_of([100, 0, 5])


def test_exposure_turnover_and_market_change_by_hand() -> None:
    assert metrics.exposure([True, False, False, True]) == 0.5
    assert metrics.turnover(300.0, [100, 200]) == pytest.approx(2.0)
    assert metrics.turnover(300.0, []) is None
    assert metrics.market_change([[100.0, 90.0, 150.0], [10.0, 9.0]]) == pytest.approx(0.2)
    assert metrics.market_change([[], [0.0, 1.0]]) is None


# Value at risk


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99, 0.999])
@pytest.mark.parametrize("n", [1, 2, 3, 50, 481])
def test_historical_var_is_numpys_quantile_with_the_sign_turned(confidence: float, n: int) -> None:
    returns = some_returns(n)
    value = metrics.historical_var(returns, confidence)
    assert value == pytest.approx(-np.quantile(returns, 1 - confidence), abs=1e-15)
    beyond = [r for r in returns if value is not None and r <= -value + 1e-15]
    assert metrics.historical_cvar(returns, confidence) == pytest.approx(-sum(beyond) / len(beyond))


@given(st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=60), st.floats(0.5, 0.99))
def test_the_tail_is_never_milder_than_where_it_begins(returns: list[float], confidence: float) -> None:
    var, cvar = metrics.historical_var(returns, confidence), metrics.historical_cvar(returns, confidence)
    assert var is not None
    assert cvar is not None
    assert cvar >= var - 1e-12


def _bent_quantile(returns: list[float], share: float) -> float:
    skew, kurtosis = float(stats.skew(returns)), float(stats.kurtosis(returns))
    z = float(stats.norm.ppf(share))
    bent = z + (z**2 - 1) / 6 * skew + (z**3 - 3 * z) / 24 * kurtosis - (2 * z**3 - 5 * z) / 36 * skew**2
    return float(np.mean(returns) + bent * np.std(returns, ddof=1))


@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_cornish_fisher_agrees_with_scipys_moments(confidence: float) -> None:
    returns = some_returns()
    assert metrics.cornish_fisher_var(returns, confidence) == pytest.approx(-_bent_quantile(returns, 1 - confidence))


@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_cornish_fisher_tail_is_the_mean_of_its_quantiles(confidence: float) -> None:
    returns = some_returns()
    tail = 1 - confidence
    area, _ = integrate.quad(lambda share: _bent_quantile(returns, share), 0.0, tail, limit=200)
    assert metrics.cornish_fisher_cvar(returns, confidence) == pytest.approx(-area / tail, rel=1e-5)


def test_cornish_fisher_of_a_normal_sample_is_the_normal_one() -> None:
    sample = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000, 0.001, 0.02)
    assert metrics.cornish_fisher_var(sample, 0.95) == pytest.approx(0.02 * 1.6449 - 0.001, rel=2e-3)
    assert metrics.cornish_fisher_cvar(sample, 0.95) == pytest.approx(0.02 * 2.0627 - 0.001, rel=2e-3)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, math.nan])
def test_a_confidence_outside_its_range_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match=r"such as 0\.95"):
        metrics.historical_var([0.1], confidence)


# Many trials


def test_deflated_sharpe_of_the_paper_that_defines_it() -> None:
    """Bailey and López de Prado, "The deflated Sharpe ratio" (2014), the numerical example.

    An annual ratio of 2.5 over five years of 250 days, skew −3, kurtosis 10, the best of 100 trials whose annual
    ratios vary by 1/2: hurdle 0.1132 a day, probability 0.9004. Of 46 trials it would be 0.9505, as it would be of 88
    were returns normal.
    """
    daily, spread = 2.5 / math.sqrt(250), math.sqrt(0.5 / 250)
    hurdle = metrics.luckiest_sharpe(100, spread)
    assert hurdle == pytest.approx(0.1132, abs=5e-5)
    for trials, skew, kurtosis, wanted in ((100, -3, 10, 0.9004), (46, -3, 10, 0.9505), (88, 0, 3, 0.9505)):
        hurdle = metrics.luckiest_sharpe(trials, spread)
        assert hurdle is not None
        found = metrics.sharpe_probability(daily, 1_250, skew, kurtosis, hurdle)
        assert found == pytest.approx(wanted, abs=5e-5)


def test_probabilistic_sharpe_agrees_with_scipys_moments() -> None:
    returns = some_returns()
    ratio = float(np.mean(returns) / np.std(returns, ddof=1))
    skew, kurtosis = stats.skew(returns), stats.kurtosis(returns, fisher=False)
    for hurdle in (-0.1, 0.0, 0.07):
        error = math.sqrt((1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2) / (len(returns) - 1))
        wanted = stats.norm.cdf(ratio, hurdle, error)
        assert metrics.probabilistic_sharpe(returns, hurdle) == pytest.approx(wanted)


def test_probabilistic_sharpe_of_worthless_returns_is_anywhere_alike() -> None:
    samples = np.random.default_rng(5).normal(0, 0.01, (1_000, 60))
    found = [metrics.probabilistic_sharpe(sample) for sample in samples]
    assert stats.kstest(found, "uniform").pvalue > 0.01


@pytest.mark.parametrize("trials", [5, 30, 200])
def test_luckiest_sharpe_is_about_what_the_best_of_so_many_shows(trials: int) -> None:
    best = np.random.default_rng(6).normal(0, 0.3, (4_000, trials)).max(axis=1)
    assert metrics.luckiest_sharpe(trials, 0.3) == pytest.approx(best.mean(), rel=0.03)


def test_deflated_sharpe_step_by_step_and_among_more_trials_lower() -> None:
    random = np.random.default_rng(7)
    trials = list(random.normal(0.0005, 0.01, (12, 300)))
    best = max(trials, key=lambda trial: trial.mean() / trial.std())
    ratios = [float(trial.mean() / trial.std(ddof=1)) for trial in trials]
    luck = [stats.norm.isf(1 / 12), stats.norm.isf(1 / (12 * math.e))]
    hurdle = np.std(ratios, ddof=1) * ((1 - np.euler_gamma) * luck[0] + np.euler_gamma * luck[1])
    found = metrics.deflated_sharpe(best, trials)
    assert found is not None
    assert found == pytest.approx(metrics.probabilistic_sharpe(best, hurdle))
    alone = metrics.probabilistic_sharpe(best)
    assert alone is not None
    assert found < alone
    more = metrics.deflated_sharpe(best, [*trials, *random.normal(0, 0.01, (200, 300))])
    assert more is not None
    assert more < found


def overfitting_by_loops(returns: list[list[float]], slices: int) -> float:
    """Share of splits whose best arm inside has a logit of its relative rank outside that is not above 0."""
    periods = len(returns[0])
    parts = [list(part) for part in np.array_split(range(periods), slices)]
    logits = []
    for half in itertools.combinations(range(slices), slices // 2):
        inside = [row for each in half for row in parts[each]]
        outside = [row for row in range(periods) if row not in inside]

        def ratios(rows: list[int]) -> list[float]:
            cut = [[arm[row] for row in rows] for arm in returns]
            return [float(np.mean(arm) / np.std(arm)) for arm in cut]

        within, beyond = ratios(inside), ratios(outside)
        best = within.index(max(within))
        rank = stats.rankdata(beyond)[best] / (len(returns) + 1)
        logits.append(math.log(rank / (1 - rank)))
    return sum(logit <= 1e-12 for logit in logits) / len(logits)


@pytest.mark.parametrize(("arms", "periods", "slices"), [(2, 40, 4), (5, 61, 6), (8, 96, 8)])
def test_overfitting_as_the_paper_says_it_in_words(arms: int, periods: int, slices: int) -> None:
    returns = np.random.default_rng(arms).normal(0.001, 0.01, (arms, periods))
    wanted = overfitting_by_loops(returns.tolist(), slices)
    assert metrics.backtest_overfitting(returns, slices) == pytest.approx(wanted)
    assert metrics.backtest_overfitting(returns.tolist(), slices) == pytest.approx(wanted)


def test_overfitting_is_a_half_among_the_worthless_and_nothing_beside_one_that_is_good() -> None:
    random = np.random.default_rng(9)
    worthless = [metrics.backtest_overfitting(random.normal(0, 0.01, (6, 120)), 6) for _ in range(60)]
    values = [value for value in worthless if value is not None]
    assert len(values) == 60
    assert np.mean(values) == pytest.approx(0.5, abs=0.1)
    good = random.normal(0, 0.01, (6, 300))
    good[2] += 0.01
    assert metrics.backtest_overfitting(good) == 0.0


def test_statistics_of_many_trials_are_undefined_where_there_are_not_many() -> None:
    returns = some_returns(40)
    assert metrics.probabilistic_sharpe([0.1, 0.2, 0.3]) is None
    assert metrics.probabilistic_sharpe([0.1] * 10) is None
    assert metrics.sharpe_probability(0.5, 1, 0, 3) is None
    assert metrics.sharpe_probability(2.0, 100, 1.0, 1.0) is None
    assert metrics.luckiest_sharpe(1, 0.1) is None
    assert metrics.deflated_sharpe(returns, []) is None
    assert metrics.deflated_sharpe(returns, [returns]) is None
    assert metrics.deflated_sharpe(returns, [returns, [0.0] * 40]) is None
    assert metrics.backtest_overfitting([]) is None
    assert metrics.backtest_overfitting([returns]) is None
    assert metrics.backtest_overfitting([returns[:19], returns[1:20]]) is None
    assert metrics.backtest_overfitting([[0.0] * 20, [0.0] * 20]) == 1.0, "nobody is above the middle of equals"


def test_statistics_of_many_trials_refuse_what_is_no_trial() -> None:
    with pytest.raises(ValueError, match="returns should be finite, has 1"):
        metrics.probabilistic_sharpe([0.1, math.nan, 0.2, 0.3])
    with pytest.raises(ValueError, match="returns should be finite, has 1"):
        metrics.backtest_overfitting([[0.1, 0.2], [0.1, math.nan]], 2)
    with pytest.raises(ValueError, match="same periods, have from 2 to 3"):
        metrics.backtest_overfitting([[0.1, 0.2], [0.1, 0.2, 0.3]], 2)
    for slices in (0, 3, -2):
        with pytest.raises(ValueError, match=f"an even number such as 10, is {slices}"):
            metrics.backtest_overfitting([[0.1, 0.2], [0.1, 0.2]], slices)
