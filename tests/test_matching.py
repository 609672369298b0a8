"""One candle and one order at a time: what fills, how much, at what price."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.exchange.replays import instrument, rows
from trading_bot.errors import CandleDataError
from trading_bot.matching import (
    HISTORY,
    Bar,
    Liquidity,
    MatchingConfig,
    bar,
    bars,
    fill_limit,
    fill_market,
    liquidity,
    queue,
    reach,
    walk,
)

CONFIG = MatchingConfig()
FLAT = Bar(10_000, 10_000, 10_000, 10_000, 1_000)
WIDE = Bar(10_000, 10_300, 9_800, 10_100, 50_000)


@st.composite
def candles(draw: st.DrawFn) -> Bar:
    low, extra = draw(st.integers(1, 10**7)), draw(st.integers(0, 10**5))
    inside = st.integers(low, low + extra)
    return Bar(draw(inside), low + extra, low, draw(inside), draw(st.integers(0, 10**9)))


@pytest.mark.parametrize(
    ("key", "value"),
    [("participation", 1.1), ("participation", -0.1), ("window", 0), ("window", HISTORY), ("spread", math.nan)],
)
def test_a_coefficient_out_of_range_is_named(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"matching\.{key} should be between .*, is "):
        MatchingConfig(**{key: value})  # type: ignore[arg-type]


def test_an_unknown_path_is_named() -> None:
    with pytest.raises(ValueError, match=r"matching\.path should be body, low_first or high_first, is 'zigzag'"):
        MatchingConfig(path="zigzag")  # type: ignore[arg-type]


def test_candles_become_whole_ticks_and_lots() -> None:
    table = rows("BTC/USDT", (47.18, 60_000.12, 0.07, 1.15, 0.29), (1, 1, 1, 1, 0))
    assert bars(table, instrument()) == [Bar(4_718, 6_000_012, 7, 115, 2_900), Bar(100, 100, 100, 100, 0)]
    assert bars(table, instrument(), last=1) == [Bar(100, 100, 100, 100, 0)]
    assert bars(table[:0], instrument()) == []


@pytest.mark.parametrize("broken", [(math.nan, 1, 1, 1, 1), (1, math.inf, 1, 1, 1), (1, 1, 1, 1, math.nan)])
def test_a_candle_that_is_no_number_is_refused(broken: tuple[float, float, float, float, float]) -> None:
    with pytest.raises(CandleDataError, match=r"BTC/USDT bar .* should be finite"):
        bar(rows("BTC/USDT", broken), 0, instrument())


def test_no_bars_and_no_volume_offer_nothing() -> None:
    assert liquidity([], CONFIG).cap == 0
    assert liquidity([WIDE, WIDE._replace(volume=0)], CONFIG).cap == 0
    assert fill_market(True, 10, 10_000, liquidity([WIDE, WIDE._replace(volume=0)], CONFIG), CONFIG) == (0, 10_000)


def test_flat_prices_cost_one_tick() -> None:
    offered = liquidity([FLAT] * 5, CONFIG)
    assert offered == Liquidity(spread=1, volatility=0, depth=1_000, cap=100)
    assert fill_market(True, 100, 10_000, offered, CONFIG) == (100, 10_001)
    assert fill_market(False, 100, 10_000, offered, CONFIG) == (100, 9_999)


def test_the_range_of_a_bar_includes_its_gap() -> None:
    jumped = FLAT._replace(open=20_000, high=20_000, low=20_000, close=20_000)
    assert liquidity([FLAT, jumped], CONFIG).volatility == 5_000


def test_a_huge_gap_cannot_cost_more_than_the_bound() -> None:
    offered = liquidity([FLAT, Bar(10**9, 10**9, 10**9, 10**9, 1_000)], CONFIG)
    _, price = fill_market(True, 100, 10_000, offered, CONFIG)
    assert price == 10_500


def test_only_the_window_counts() -> None:
    assert liquidity([Bar(1, 10**6, 1, 10_000, 10**9), *[FLAT] * 21], CONFIG) == liquidity([FLAT] * 20, CONFIG)


@given(st.lists(candles(), min_size=1, max_size=40), st.booleans(), st.integers(0, 10**10), st.integers(1, 10**8))
def test_taking_costs_never_pays_and_never_exceeds_the_cap(
    recent: list[Bar], is_buy: bool, lots: int, price: int
) -> None:
    offered = liquidity(recent, CONFIG)
    filled, paid = fill_market(is_buy, lots, price, offered, CONFIG)
    assert 0 <= filled <= min(lots, offered.cap)
    assert filled <= recent[-1].volume * CONFIG.participation
    if filled:
        assert paid > price if is_buy else 1 <= paid < price or price == paid == 1
        more, worse = fill_market(is_buy, lots + 1_000, price, offered, CONFIG)
        assert more >= filled
        assert worse >= paid if is_buy else worse <= paid


@given(
    st.lists(candles(), min_size=1, max_size=5),
    st.booleans(),
    st.integers(1, 10**8),
    st.integers(1, 10**7),
    st.integers(-1_000, 1_000),
)
def test_a_limit_bounds_what_is_taken(recent: list[Bar], is_buy: bool, lots: int, price: int, away: int) -> None:
    offered, limit = liquidity(recent, CONFIG), max(1, price + away)
    filled, paid = fill_market(is_buy, lots, price, offered, CONFIG, limit)
    unbounded, _ = fill_market(is_buy, lots, price, offered, CONFIG)
    assert filled <= unbounded
    if filled:
        assert paid <= limit if is_buy else paid >= limit
    if filled < unbounded:  # one lot more would have been beyond the limit
        _, next_paid = fill_market(is_buy, filled + 1, price, offered, CONFIG)
        assert next_paid > limit if is_buy else next_paid < limit


def test_the_path_follows_the_body() -> None:
    assert walk(WIDE) == (10_000, 9_800, 10_300, 10_100)
    assert walk(WIDE._replace(close=9_900)) == (10_000, 10_300, 9_800, 9_900)
    assert walk(WIDE, "high_first") == (10_000, 10_300, 9_800, 10_100)
    assert walk(WIDE._replace(close=9_900), "low_first") == (10_000, 9_800, 10_300, 9_900)


def test_orders_are_reached_along_the_path() -> None:
    assert reach(True, 9_900, WIDE) == 100
    assert reach(False, 10_200, WIDE) == 200 + 400
    assert reach(True, 10_050, WIDE) == 0  # the open is better already
    assert reach(True, 9_000, WIDE) == 200 + 500 + 200 + 1  # never


def test_a_limit_is_filled_when_traded_through() -> None:
    assert fill_limit(True, 70, 9_900, WIDE, 500, CONFIG) == (70, 9_900, 0)
    assert fill_limit(False, 70, 10_299, WIDE, 500, CONFIG) == (70, 10_299, 0)
    assert fill_limit(True, 9_999, 9_900, WIDE, 0, CONFIG) == (5_000, 9_900, 0)  # a tenth of the volume


def test_a_limit_is_not_filled_when_missed() -> None:
    assert fill_limit(True, 70, 9_799, WIDE, 500, CONFIG) == (0, 9_799, 500)
    assert fill_limit(False, 70, 10_301, WIDE, 500, CONFIG) == (0, 10_301, 500)


def test_a_touch_serves_the_queue_first() -> None:
    assert fill_limit(True, 70, 9_800, WIDE, 6_000, CONFIG) == (0, 9_800, 3_500)  # 5 % of 50,000 traded there
    assert fill_limit(True, 70, 9_800, WIDE, 2_450, CONFIG) == (50, 9_800, 0)
    assert fill_limit(True, 40, 9_800, WIDE, 2_450, CONFIG) == (40, 9_800, 0)


def test_an_open_beyond_the_limit_is_a_better_price() -> None:
    assert fill_limit(True, 70, 10_200, WIDE, 500, CONFIG) == (70, 10_000, 0)
    assert fill_limit(False, 70, 9_850, WIDE, 500, CONFIG) == (70, 10_000, 0)


@given(candles(), st.booleans(), st.integers(0, 10**9), st.integers(1, 10**7), st.integers(0, 10**9))
def test_a_limit_never_fills_worse_than_its_limit_nor_without_volume(
    candle: Bar, is_buy: bool, lots: int, limit: int, ahead: int
) -> None:
    filled, price, left = fill_limit(is_buy, lots, limit, candle, ahead, CONFIG)
    assert 0 <= filled <= min(lots, candle.volume)
    assert 0 <= left <= ahead
    assert price <= limit if is_buy else price >= limit
    if filled:
        assert candle.low <= price <= candle.high
        assert candle.volume > 0


def test_the_queue_is_a_part_of_the_usual_volume() -> None:
    assert queue(liquidity([FLAT] * 3, CONFIG), CONFIG) == 20


def test_the_same_numbers_whatever_integer_type() -> None:
    plain = liquidity([WIDE] * 3, CONFIG)
    numpy_bars = [Bar(*(np.int64(value) for value in WIDE))] * 3  # type: ignore[arg-type]
    assert liquidity(numpy_bars, CONFIG) == plain
