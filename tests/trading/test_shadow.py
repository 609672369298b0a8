"""Shadow books: a signal at one close is filled at the next open, with costs, whoever else trades."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trading.stage import HOUR, START, candles, instrument
from trading_bot.domain.market import Candles
from trading_bot.matching import Bar, MatchingConfig, fill_market, liquidity
from trading_bot.trading.events import BarsClosed
from trading_bot.trading.shadow import (
    ShadowFill,
    ShadowShelf,
    ShadowState,
    shadow_trade,
    stake_in_lots,
    step,
    valued,
    wish,
)
from trading_bot.trading.views import View

BTC = "BTC/USDT"
KNOWN = instrument(BTC)
CONFIG = MatchingConfig()
FREE = MatchingConfig(spread=0, impact=0)


def view(rows: Candles, sides: dict[str, int], regime: str = "trending") -> View:
    signals = {name: (side, 1.0) for name, side in sides.items()}
    return View(BTC, rows, regime, 1.0, {}, {}, signals, 0.0, 0, {})


def play(shelf: ShadowShelf, rows: Candles, script: dict[int, dict[str, int]], config: MatchingConfig = CONFIG) -> Any:
    """Every bar of `rows` from the second on; the trades that were closed."""
    trades = []
    for row in range(1, len(rows)):
        bars = BarsClosed(int(rows.time[row]), {BTC: rows[: row + 1]})
        said = view(rows[: row + 1], script.get(row, {}), regime=f"regime-{row}")
        trades += shelf.step(bars, {BTC: said}, {BTC: KNOWN}, config, "run")
    return trades


def test_a_round_trip_by_hand() -> None:
    rows = candles(np.array([100.0, 100, 101, 105, 110, 111]), volume=1e6)
    (trade,) = play(ShadowShelf(["s"]), rows, {1: {"s": 1}, 3: {"s": -1}}, FREE)
    entry, exit_ = float(rows.open[2]), float(rows.open[4])
    assert float(trade.open_rate) == pytest.approx(entry, abs=0.011)  # the least spread is a tick
    assert float(trade.close_rate) == pytest.approx(exit_, abs=0.011)
    assert (trade.open_date.timestamp() * 1000, trade.close_date.timestamp() * 1000) == (rows.time[2], rows.time[4])
    gross = trade.close_rate / trade.open_rate - 1
    costs = KNOWN.taker_fee * (1 + trade.close_rate / trade.open_rate)
    assert trade.close_profit == (gross - costs).quantize(Decimal("1E-12"))
    assert (trade.book, trade.strategy, trade.regime, trade.is_open) == ("shadow", "s", "regime-1", False)
    assert (
        trade.close_profit_abs
        == trade.close_rate * trade.amount - trade.stake_amount - trade.fee_open - trade.fee_close
    )


def test_spread_and_impact_are_paid_on_both_sides() -> None:
    rows = candles(np.linspace(100, 101, 40), volume=1e4)
    script = {30: {"s": 1}, 34: {"s": -1}}
    (dear,), (cheap,) = (play(ShadowShelf(["s"]), rows, script, config) for config in (CONFIG, FREE))
    assert dear.open_rate > cheap.open_rate
    assert dear.close_rate < cheap.close_rate


def test_zero_keeps_what_is_held_and_repeated_signals_do_nothing() -> None:
    rows = candles(np.full(12, 100.0), volume=1e6)
    shelf = ShadowShelf(["s"])
    script = {1: {"s": 1}, 2: {"s": 0}, 3: {"s": 1}, 4: {"s": 1}, 6: {"s": -1}, 7: {"s": -1}, 8: {"s": 0}}
    (trade,) = play(shelf, rows, script)
    assert trade.open_date.timestamp() * 1000 == rows.time[2]
    assert shelf.books["s", BTC].lots == 0


def test_each_strategy_has_a_book_of_its_own() -> None:
    rows = candles(np.linspace(100, 110, 12), volume=1e6)
    script = {1: {"a": 1, "b": -1}, 5: {"a": -1, "b": 1}, 8: {"b": -1}}
    trades = play(ShadowShelf(["a", "b"]), rows, script)
    assert [(t.strategy, t.symbol) for t in trades] == [("a", BTC), ("b", BTC)]
    assert len({t.id for t in trades}) == 2


def test_without_volume_a_book_waits() -> None:
    volumes = np.array([1e6, 1e6, 0.0, 0.0, 1e6, 1e6])
    rows = dataclasses.replace(candles(np.full(6, 100.0)), volume=volumes, _cache={})
    shelf = ShadowShelf(["s"])
    play(shelf, rows, {2: {"s": 1}})
    assert shelf.books["s", BTC].entry_time == rows.time[5], "the first open after a bar that had volume"


def test_an_exit_larger_than_the_market_goes_in_parts() -> None:
    few = [Bar(1000, 1001, 999, 1000, 100)] * 5
    state = ShadowState(want=-1, lots=25, entry_ticks=900, entry_time=START, regime="r")
    after, fill = step(state, few, START + HOUR, 0, CONFIG)
    assert fill is not None
    assert (fill.lots, after.lots, after.want) == (10, 15, -1)
    after, fill = step(after, few, START + 2 * HOUR, 0, CONFIG)
    after, fill = step(after, few, START + 3 * HOUR, 0, CONFIG)
    assert fill is not None
    assert (fill.lots, after.lots, after.want) == (5, 0, 0)


@given(st.lists(st.sampled_from((-1, 0, 1)), min_size=1, max_size=30), st.integers(0, 29))
def test_a_restart_changes_nothing(sides: list[int], stop: int) -> None:
    rows = candles(np.linspace(100, 120, len(sides) + 2), volume=1e5)
    script = {row: {"s": side} for row, side in enumerate(sides, 1)}
    whole = ShadowShelf(["s"])
    wanted = play(whole, rows, script)
    shelf, trades = ShadowShelf(["s"]), []
    for row in range(1, len(rows)):
        bars = BarsClosed(int(rows.time[row]), {BTC: rows[: row + 1]})
        said = view(rows[: row + 1], script.get(row, {}), regime=f"regime-{row}")
        trades += shelf.step(bars, {BTC: said}, {BTC: KNOWN}, CONFIG, "run")
        if row == stop:
            saved = json.loads(json.dumps(shelf.snapshot()))
            shelf = ShadowShelf(["s"])
            shelf.restore(saved)
    assert trades == wanted
    assert shelf.snapshot() == whole.snapshot()


def test_books_of_strategies_that_are_gone_are_dropped() -> None:
    shelf = ShadowShelf(["a"])
    shelf.restore({"a BTC/USDT": [1, 0, 0, 0, ""], "b BTC/USDT": [1, 0, 0, 0, ""]})
    assert set(shelf.books) == {("a", BTC)}


@given(
    st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 10**6), st.integers(0, 10**4), st.integers(1, 10**4)
)
def test_a_shadow_trade_is_exact_money(entry: int, exit_: int, lots: int, opened: int, held: int) -> None:
    fill = ShadowFill(entry, exit_, lots, START + opened * HOUR, START + (opened + held) * HOUR, "r")
    trade = shadow_trade("s", KNOWN, fill, "run")
    assert trade.amount == KNOWN.quantity(lots)
    assert trade.stake_amount == KNOWN.price(entry) * trade.amount
    assert trade.close_profit_abs is not None
    proceeds = KNOWN.price(exit_) * trade.amount
    assert trade.close_profit_abs == proceeds - trade.stake_amount - trade.fee_open - trade.fee_close


def test_a_stake_is_worth_what_rounding_cannot_spoil() -> None:
    lots = stake_in_lots(KNOWN, Decimal(100))
    assert KNOWN.quantity(lots) * 100 >= 199 * KNOWN.min_notional


def test_a_wish_of_zero_keeps_the_one_that_waits() -> None:
    waiting = wish(ShadowState(), 1, "ranging")
    assert wish(waiting, 0, "choppy") == waiting
    assert wish(waiting, -1, "choppy").want == 0, "flat already"
    held = ShadowState(lots=5)
    assert (wish(held, -1, "choppy").want, wish(held, 1, "choppy").want) == (-1, 0)


def test_a_step_fills_as_matching_does() -> None:
    bars = [Bar(1000, 1010, 990, 1000, 10_000)] * 20 + [Bar(1005, 1006, 1004, 1005, 10_000)]
    after, _ = step(ShadowState(want=1), bars, START, 50, CONFIG)
    lots, ticks = fill_market(True, 50, 1005, liquidity(bars[:-1], CONFIG), CONFIG)
    assert (after.lots, after.entry_ticks) == (lots, ticks)


# What a book earns bar by bar


def earnings(rows: Candles, script: dict[int, dict[str, int]], config: MatchingConfig = CONFIG) -> list[float]:
    """The gain of strategy "s" on every bar from the second on."""
    shelf, gains = ShadowShelf(["s"]), []
    for row in range(1, len(rows)):
        bars = BarsClosed(int(rows.time[row]), {BTC: rows[: row + 1]})
        shelf.step(bars, {BTC: view(rows[: row + 1], script.get(row, {}))}, {BTC: KNOWN}, config, "run")
        gains.append(shelf.gains(BTC)["s"])
    return gains


def test_gains_by_hand() -> None:
    rows = candles(np.array([100.0, 100, 101, 105, 110, 111, 90]), volume=1e6)
    flat, bought, held, sold, *after = earnings(rows, {1: {"s": 1}, 3: {"s": -1}}, FREE)
    assert flat == 0.0
    assert bought == pytest.approx(101 / 100.01 - 1 - 0.001), "in at the open of 100, the least spread is a tick"
    assert held == pytest.approx(105 / 101 - 1)
    assert sold == pytest.approx(104.99 / 105 * (1 - 0.001) - 1), "out at the open, not at the close of 110"
    assert after == [0.0, 0.0]


def test_gains_of_a_book_that_was_sold_in_parts() -> None:
    before = ShadowState(want=-1, lots=25, entry_ticks=900, mark=1000)
    after = valued(before, ShadowState(want=-1, lots=15, entry_ticks=900, mark=1000), 990, 980, 0.001)
    assert after.gain == pytest.approx((10 * 990 * 0.999 + 15 * 980) / (25 * 1000) - 1)
    assert after.mark == 980


@given(st.lists(st.tuples(st.integers(50, 200), st.sampled_from((-1, 0, 1))), min_size=4, max_size=30))
def test_gains_are_the_profit_of_the_trades(story: list[tuple[int, int]]) -> None:
    """Each a part of what was held before its bar, they add up to what the shadow trades made, to the last fee."""
    rows = candles(np.array([float(close) for close, _ in story] + [100.0, 100.0, 100.0]), volume=2e4)
    script = {row: {"s": side} for row, (_, side) in enumerate(story) if row} | {len(story): {"s": -1}}
    shelf, trades, earned, worth = ShadowShelf(["s"]), [], 0.0, 0.0
    for row in range(1, len(rows)):
        bars = BarsClosed(int(rows.time[row]), {BTC: rows[: row + 1]})
        said = view(rows[: row + 1], script.get(row, {}))
        trades += shelf.step(bars, {BTC: said}, {BTC: KNOWN}, CONFIG, "run")
        book = shelf.books["s", BTC]
        at_stake = worth or float(KNOWN.price(book.entry_ticks) * KNOWN.quantity(book.lots))
        earned += book.gain * at_stake
        worth = float(KNOWN.price(book.mark) * KNOWN.quantity(book.lots))
    assert worth == 0.0, "all was sold"
    assert earned == pytest.approx(float(sum(trade.close_profit_abs or 0 for trade in trades)), abs=1e-9)


def test_bars_that_were_missed_are_in_the_next_gain() -> None:
    rows = candles(np.array([100.0, 100, 100, 100, 110, 120]), volume=1e6)
    shelf = ShadowShelf(["s"])
    play(shelf, rows[:4], {1: {"s": 1}})
    shelf.step(BarsClosed(int(rows.time[5]), {BTC: rows}), {BTC: view(rows, {})}, {BTC: KNOWN}, CONFIG, "run")
    assert shelf.gains(BTC) == {"s": pytest.approx(0.2)}
    play(shelf, rows[:1], {})
    assert shelf.gains("ETH/USDT") == {"s": 0.0}


def test_a_book_written_before_there_were_gains_has_none_on_its_first_bar() -> None:
    rows = candles(np.array([100.0, 100, 110, 121]), volume=1e6)
    shelf = ShadowShelf(["s"])
    shelf.restore({"s BTC/USDT": [0, 5, 10_000, START, "ranging"]})
    gains = []
    for row in (2, 3):
        bars = BarsClosed(int(rows.time[row]), {BTC: rows[: row + 1]})
        shelf.step(bars, {BTC: view(rows[: row + 1], {})}, {BTC: KNOWN}, CONFIG, "run")
        gains.append(shelf.gains(BTC)["s"])
    assert gains == [0.0, pytest.approx(0.1)]
