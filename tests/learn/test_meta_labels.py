"""What became of past signals: against a plain loop, and with nothing known before its time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.markets import HOUR, random_walk
from trading_bot.domain.market import Candles, Floats
from trading_bot.errors import CandleDataError
from trading_bot.features.compute import SETTLED
from trading_bot.features.table import column_names
from trading_bot.learn.meta_labels import (
    META_FEATURES,
    Sides,
    SignalHistory,
    merged,
    meta_features,
    round_trip_costs,
    signal_history,
)
from trading_bot.market_data.config import SyntheticConfig
from trading_bot.market_data.synthetic import SyntheticMarket
from trading_bot.matching import MatchingConfig

FEE = 0.001


def with_gaps(candles: Candles, seed: int = 3) -> Candles:
    """The venue was away now and then: bars are missing, the clock went on."""
    chance = np.random.default_rng(seed)
    away = np.cumsum(chance.choice([0, 1, 30], len(candles), p=[0.97, 0.02, 0.01]))
    return dataclasses.replace(candles, time=candles.time + HOUR * away, _cache={})


def with_jumps(candles: Candles, seed: int = 4) -> Candles:
    """Bars open elsewhere than where the one before closed."""
    opened = candles.open * np.exp(np.random.default_rng(seed).normal(0, 0.003, len(candles)))
    high, low = np.maximum(candles.high, opened), np.minimum(candles.low, opened)
    return dataclasses.replace(candles, open=opened, high=high, low=low, _cache={})


MARKET = with_jumps(with_gaps(random_walk(420)))
COLUMNS = [each.name for each in dataclasses.fields(SignalHistory)]


def sides(n: int, seed: int, quiet: float = 0.5) -> Sides:
    """Runs of one side with silence between, as rules speak."""
    chance = np.random.default_rng(seed)
    side = np.repeat(chance.choice([-1, 1], n), chance.integers(1, 9, n))[:n]
    return np.where(chance.random(n) < quiet, 0, side).astype(np.int8)


def own_word(n: int) -> Floats:
    return np.linspace(0, 1, n)


def slowly(
    candles: Candles, side: Sides, horizon: int, costs: Floats, trades: dict[int, tuple[int, float]]
) -> list[tuple[int, int, float]]:
    """(row, end, outcome) of each signal whose outcome is known, one after another."""
    found = []
    for row in range(SETTLED, len(candles)):
        if side[row] == 0:
            continue
        leave = None
        for bar in range(row + 2, row + 2 + horizon):  # the opens it may be given up at, the nearest first
            if side[min(bar - 1, len(candles) - 1)] == -side[row] or bar == row + 1 + horizon:
                leave = bar
                break
        if leave is None or leave >= len(candles):
            continue
        bought, sold = candles.open[row + 1], candles.open[leave]
        outcome = int(side[row]) * (sold / bought - 1) - costs[row]
        end = int(candles.time[leave])
        if side[row] > 0 and trades.get(int(candles.time[row + 1]), (0, 0.0))[0] == end:
            outcome = trades[int(candles.time[row + 1])][1]
        found.append((row, end, float(outcome)))
    return found


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(0, 10_000), st.integers(1, 15), st.integers(SETTLED + 1, len(MARKET)), st.sampled_from([0, 0.5, 0.9])
)
def test_outcomes_are_those_of_a_plain_loop(seed: int, horizon: int, n: int, quiet: float) -> None:
    candles, side = MARKET[:n], sides(n, seed, quiet)
    costs = round_trip_costs(candles, FEE, MatchingConfig())
    history = signal_history(candles, side, own_word(n), horizon, costs, {})
    wanted = slowly(candles, side, horizon, costs, {})
    rows = np.array([row for row, _, _ in wanted], int)
    np.testing.assert_array_equal(history.time, candles.time[rows])
    np.testing.assert_array_equal(history.end, np.array([end for _, end, _ in wanted], int))
    np.testing.assert_array_equal(history.outcome, [outcome for _, _, outcome in wanted])
    np.testing.assert_array_equal(history.side, side[rows])
    np.testing.assert_array_equal(history.own, own_word(n)[rows])
    np.testing.assert_array_equal(history.paid, [float(outcome > 0) for _, _, outcome in wanted])
    X, first = meta_features(candles)
    np.testing.assert_array_equal(history.X, X[rows - first])


def told(*signals: tuple[int, int], horizon: int = 5, n: int = 400) -> SignalHistory:
    """Without costs, signals (row, side) alone."""
    side = np.zeros(n, np.int8)
    for row, each in signals:
        side[row] = each
    return signal_history(MARKET[:n], side, own_word(n), horizon, np.zeros(n), {})


def test_a_signal_is_taken_at_the_next_open_and_given_up_at_the_horizon() -> None:
    history = told((350, 1), horizon=5)
    assert history.end[0] == MARKET.time[356]
    assert history.outcome[0] == MARKET.open[356] / MARKET.open[351] - 1


def test_an_opposite_signal_ends_it_at_the_open_after() -> None:
    history = told((350, 1), (351, -1))
    assert history.end.tolist() == [MARKET.time[352], MARKET.time[357]]
    assert history.outcome[0] == MARKET.open[352] / MARKET.open[351] - 1
    assert history.outcome[1] == -(MARKET.open[357] / MARKET.open[352] - 1)
    at_the_horizon, beyond = told((350, 1), (355, -1)), told((350, 1), (356, -1))
    assert at_the_horizon.end[0] == beyond.end[0] == MARKET.time[356]


def test_one_more_of_its_own_side_does_not_end_it() -> None:
    assert told((350, -1), (352, -1)).end.tolist() == [MARKET.time[356], MARKET.time[358]]


@pytest.mark.parametrize(("last", "known"), [(355, 0), (356, 0), (357, 1)])
def test_it_is_known_once_the_bar_it_is_given_up_in_has_closed(last: int, known: int) -> None:
    assert len(told((350, 1), n=last)) == known


def test_costs_are_those_at_the_signal_s_bar_and_paid_on_both_sides() -> None:
    side = np.zeros(400, np.int8)
    side[350], side[351] = 1, -1
    costs: Floats = np.arange(400, dtype=np.float64) * 1e-4
    history = signal_history(MARKET[:400], side, own_word(400), 5, costs, {})
    free = told((350, 1), (351, -1))
    np.testing.assert_array_equal(history.outcome, free.outcome - costs[[350, 351]])
    assert told((350, 1)).paid[0] == float(MARKET.open[356] > MARKET.open[351])


@pytest.mark.parametrize(
    ("entry", "leave", "side", "taken"),
    [(351, 356, 1, True), (351, 355, 1, False), (352, 356, 1, False), (350, 356, 1, False), (351, 356, -1, False)],
    ids=["both agree", "left earlier", "entered later", "entered at the signal's own bar", "a signal to be out"],
)
def test_a_shadow_trade_tells_the_outcome_only_where_it_was_this_signal_s(
    entry: int, leave: int, side: int, taken: bool
) -> None:
    sides_ = np.zeros(400, np.int8)
    sides_[350] = side
    trades = {int(MARKET.time[entry]): (int(MARKET.time[leave]), 0.123)}
    history = signal_history(MARKET[:400], sides_, own_word(400), 5, np.zeros(400), trades)
    own = side * (MARKET.open[356] / MARKET.open[351] - 1)
    assert history.outcome[0] == (0.123 if taken else own)


def test_shadow_trades_among_many_signals() -> None:
    n, side = 400, sides(400, 8)
    costs = round_trip_costs(MARKET[:n], FEE, MatchingConfig())
    plain = slowly(MARKET[:n], side, 6, costs, {})
    chance = np.random.default_rng(0)
    trades = {
        int(MARKET.time[row + 1]): (end if chance.random() < 0.5 else end + HOUR, float(chance.normal()))
        for row, end, _ in plain
        if chance.random() < 0.5
    }
    history = signal_history(MARKET[:n], side, own_word(n), 6, costs, trades)
    wanted = [outcome for _, _, outcome in slowly(MARKET[:n], side, 6, costs, trades)]
    np.testing.assert_array_equal(history.outcome, wanted)
    changed = sum(now != before for now, (_, _, before) in zip(wanted, plain, strict=True))
    assert 2 < changed < len(plain) / 2


def history_of(candles: Candles, side: Sides) -> SignalHistory:
    costs = round_trip_costs(candles, FEE, MatchingConfig())
    return signal_history(candles, side, own_word(2_000)[: len(candles)], 12, costs, {})


def test_the_past_does_not_change_when_the_future_is_taken_away() -> None:
    """Rows that end within the candles left are there, to the bit, and no others."""
    market = with_gaps(random_walk(1_000, seed=5))
    side = sides(len(market), 6)
    whole = history_of(market, side)
    for cut in (SETTLED + 1, SETTLED + 2, *range(SETTLED + 14, len(market), 37)):
        part = history_of(market[:cut], side[:cut])
        known = whole.take(whole.end <= market.time[cut - 1])
        for name in COLUMNS:
            np.testing.assert_array_equal(getattr(part, name), getattr(known, name), err_msg=f"{name} at {cut}")


def test_moving_the_first_candle_moves_no_outcome_and_hardly_a_feature() -> None:
    market = random_walk(1_000, seed=5)
    side, first = sides(len(market), 6), 100
    whole, later = history_of(market, side), history_of(market[first:], side[first:])
    settled = market.time[first + SETTLED]
    whole, later = whole.take(whole.time >= settled), later.take(later.time >= settled)
    np.testing.assert_array_equal(later.time, whole.time)
    np.testing.assert_array_equal(later.end, whole.end)
    np.testing.assert_allclose(later.outcome, whole.outcome, rtol=0, atol=1e-14)  # running sums of the spread
    allowed = 1e-6 * whole.X.std(axis=0) + np.spacing(np.abs(whole.X))
    assert (np.abs(later.X - whole.X) <= allowed).all()


def test_the_features_are_named_and_finite() -> None:
    candles = SyntheticMarket(SyntheticConfig(bars=400, symbols=("BTC/USDT",))).candles("BTC/USDT", "1h")
    X, first = meta_features(candles)
    assert first == SETTLED
    assert X.shape == (400 - SETTLED, len(META_FEATURES))
    assert X.dtype == np.float32
    assert np.isfinite(X).all()
    assert len(set(META_FEATURES)) == len(META_FEATURES)
    assert set(META_FEATURES) <= set(column_names())
    assert meta_features(candles)[0] is X, "computed once"
    np.testing.assert_allclose(X[-1, 0], np.log(candles.close[-1] / candles.close[-2]), rtol=1e-6)


def test_too_few_candles_are_an_error_that_says_how_many_are_wanted() -> None:
    n = SETTLED
    with pytest.raises(CandleDataError, match=f"{n} candles of BTC/USDT are too few .* at least {n + 1} are needed"):
        signal_history(MARKET[:n], sides(n, 1), own_word(n), 5, np.zeros(n), {})


def test_no_signal_at_all_is_an_empty_history() -> None:
    nothing, empty = told(), SignalHistory.empty()
    assert len(nothing) == 0
    for name in COLUMNS:
        one, other = getattr(nothing, name), getattr(empty, name)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
    both = merged([nothing, SignalHistory.empty()])
    assert (len(both), both.X.shape) == (0, (0, len(META_FEATURES)))


def test_histories_are_merged_in_order_of_time_then_of_the_parts() -> None:
    n = 400
    one, other = (history_of(random_walk(n, seed), sides(n, seed)) for seed in (1, 2))
    both = merged([one, other])
    rows = [(int(t), part, place) for part, each in enumerate((one, other)) for place, t in enumerate(each.time)]
    for name in COLUMNS:
        wanted = [getattr((one, other)[part], name)[place] for _, part, place in sorted(rows)]
        np.testing.assert_array_equal(getattr(both, name), wanted)
        assert getattr(both, name).dtype == getattr(one, name).dtype


def test_costs_are_two_fees_and_the_spread_of_the_last_bars() -> None:
    config = MatchingConfig(window=7, spread=0.5, max_cost=0.004)
    costs = round_trip_costs(MARKET, FEE, config)
    capped = 0
    for row in range(0, len(MARKET), 13):
        ranges = []
        for bar in range(max(0, row - 6), row + 1):
            before = MARKET.close[bar - 1] if bar else MARKET.open[0]
            ranges.append(max(MARKET.high[bar], before) - min(MARKET.low[bar], before))
        spread = 0.5 * np.mean(ranges) / MARKET.close[row]
        capped += spread > 0.008
        np.testing.assert_allclose(costs[row], 2 * FEE + min(spread, 0.008), rtol=1e-9)
    assert 0 < capped < len(MARKET) / 13, "both kinds are here"
    np.testing.assert_array_equal(round_trip_costs(MARKET[:100], FEE, config), costs[:100])
    assert len(round_trip_costs(MARKET[:0], FEE, config)) == 0
