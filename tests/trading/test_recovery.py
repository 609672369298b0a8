"""Start-up is recovery: store and venue agree afterwards, or the difference is named and nothing is guessed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.service.stand import log_lines
from tests.trading.stage import HOUR, START, WARMUP, Stage, candles, instrument, wander
from tests.trading.test_trader import QUIET, found, script, started
from trading_bot.domain.account import Balance, Trade
from trading_bot.domain.journal import Snapshot
from trading_bot.domain.orders import Fill, Order, OrderStatus, OrderType, Purpose, Side, client_order_id
from trading_bot.errors import ConfigurationError, ExchangeDenied, ExchangeUnreachable, StorageError
from trading_bot.trading.config import OrderTypes
from trading_bot.trading.recovery import Surroundings, reconcile, recover
from trading_bot.trading.trader import Trader

BTC, ETH = "BTC/USDT", "ETH/USDT"
FIRST = START + (WARMUP + 9) * HOUR


def deep(symbol: str, seed: int, bars: int = 80) -> Any:
    """A random walk with volume enough for any order."""
    return candles(wander(bars, seed).close, symbol, volume=1e6)


def two(btc: Mapping[int, int] | None = None, eth: Mapping[int, int] | None = None, **fields: Any) -> Stage:
    return Stage({BTC: deep(BTC, 1), ETH: deep(ETH, 2)}, {BTC: btc or {}, ETH: eth or {}}, config=QUIET, **fields)


def intend(made: Stage, trader: Trader, purpose: Purpose, bar_time: int, quantity: str = "10") -> Order:
    """An order decided and written down, and then the process was killed."""
    side = Side.BUY if purpose is Purpose.ENTRY else Side.SELL
    order = Order(
        client_order_id("test", BTC, bar_time, purpose, 1), BTC, side, OrderType.MARKET, Decimal(quantity), purpose,
        bar_time, datetime.fromtimestamp((bar_time + HOUR) / 1000, UTC), reason="test",
    )  # fmt: skip
    with made.store.transaction() as tx:
        trader.desk.intend(tx, order)
    return order


def order_now(made: Stage, order: Order) -> Order:
    with made.store.reading() as tx:
        kept = tx.get(Order, order.client_order_id)
    assert kept is not None
    return kept


# ── orders ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_fills_that_arrived_while_down_are_booked_once() -> None:
    config = dataclasses.replace(QUIET, order_types=OrderTypes(entry="limit"))
    rows = candles([100.0] * 30 + [101.0, 99.0, 98.0, 99.0], volume=1e6)  # type: ignore[arg-type]
    made = Stage({BTC: rows}, {BTC: script(1)}, config=config)
    trader = started(made)
    made.step(trader)
    assert [o.status for o in found(made, Order)] == [OrderStatus.OPEN]
    made.market.advance()
    made.market.advance()
    for _ in range(2):
        again = started(made)
        assert BTC in again.desk.account.trades
        assert len(found(made, Fill)) == len(made.venue.fills(BTC)) > 0
        assert again.desk.account.balances["BTC"] == made.venue.balances()["BTC"].total


def test_an_entry_that_was_never_sent_goes_out_while_its_bar_is_the_newest() -> None:
    made = two()
    order = intend(made, started(made), Purpose.ENTRY, FIRST)
    trader = started(made)
    assert order_now(made, order).status is OrderStatus.FILLED
    assert BTC in trader.desk.account.trades


def test_an_entry_that_was_never_sent_is_given_up_later() -> None:
    made = two()
    order = intend(made, started(made), Purpose.ENTRY, FIRST)
    made.market.advance()
    started(made)
    assert order_now(made, order).status is OrderStatus.ABANDONED
    assert not made.venue.orders(BTC)


def test_an_exit_that_was_never_sent_goes_out_whenever_its_trade_is_open() -> None:
    made = two(script(1))
    trader = started(made)
    made.step(trader)
    held = trader.desk.account.position(BTC).quantity
    order = intend(made, trader, Purpose.EXIT, FIRST + HOUR, str(held + 5))  # it was planned for more than there is
    for _ in range(3):
        made.market.advance()
    again = started(made)
    sold = order_now(made, order)
    assert (sold.status, sold.quantity) == (OrderStatus.FILLED, instrument().quantity(instrument().lots(held)))
    assert not again.desk.account.trades


def test_an_exit_of_a_trade_that_is_over_is_given_up() -> None:
    made = two()
    order = intend(made, started(made), Purpose.EXIT, FIRST)
    started(made)
    assert order_now(made, order).status is OrderStatus.ABANDONED
    assert not made.venue.orders(BTC)


def test_orders_that_are_not_ours_are_left_alone_and_reported() -> None:
    made = two()
    made.broker.catch_up()
    made.venue.place(
        BTC, Side.BUY, OrderType.LIMIT, time=made.market.now(), quantity=Decimal(1), price=Decimal(50),
        client_order_id="by-hand",
    )  # fmt: skip
    with log_lines() as log:
        started(made)
    assert [line for line in log if "not our order, left alone: buy 1" in line and "order=by-hand" in line]
    assert len(made.venue.open_orders()) == 1


# ── differences ─────────────────────────────────────────────────────────────────────────────────────────────────────


def by_hand(made: Stage, side: Side, quantity: str) -> None:
    """The user trades on the same account."""
    made.broker.catch_up()
    forming = made.market.forming(BTC)
    assert forming is not None
    made.venue.roll({}, {BTC: forming}, made.market.now())
    made.venue.place(BTC, side, OrderType.MARKET, time=made.market.now(), quantity=Decimal(quantity))


def test_a_manual_trade_is_quarantined_until_the_books_agree_and_others_go_on() -> None:
    made = two(script(0, 1, 1, 1), script(0, 1))
    trader = started(made)
    made.step(trader)
    by_hand(made, Side.BUY, "1")
    with log_lines() as log:
        reconcile(trader)
        reconcile(trader)
    assert list(trader.memory.quarantine) == [BTC]
    assert len([line for line in log if "no entries until they agree" in line]) == 1
    said = {decision.symbol: decision for decision in made.step(trader)}
    assert said[BTC].outcome == "denied"
    assert said[BTC].reason == "quarantine: the venue holds 0.99900 BTC, our fills make 0"
    assert said[ETH].outcome == "buy"
    by_hand(made, Side.SELL, "0.999")
    with log_lines() as log:
        reconcile(trader)
    assert not trader.memory.quarantine
    assert [line for line in log if "agrees again" in line]


def test_a_quarantine_is_found_again_at_the_next_start() -> None:
    made = two()
    started(made)
    by_hand(made, Side.BUY, "1")
    assert list(started(made).memory.quarantine) == [BTC]


def test_coins_that_were_there_before_are_nobody_s_difference_and_never_sold() -> None:
    made = two(script(1, 0, -1), balances={"USDT": Decimal(10_000), "BTC": Decimal(3)})
    trader = made.live()
    assert not trader.memory.quarantine
    assert trader.desk.account.position(BTC).quantity < Decimal("0.01")
    assert Decimal(3) <= made.venue.balances()["BTC"].total < Decimal("3.01")


def test_cash_that_differs_is_shown() -> None:
    made = two()
    trader = started(made)
    by_hand(made, Side.BUY, "1")
    reconcile(trader)
    assert trader.memory.degraded["cash"].endswith("USDT, our fills make 10000")


class Deaf:
    """A venue whose balances cannot be read."""

    def __init__(self, made: Stage, error: Exception) -> None:
        self.venue = made.broker.venue
        self.deaf = False
        self._made = made
        self._error = error

    def balances(self) -> Mapping[str, Balance]:
        if self.deaf:
            raise self._error
        return self._made.broker.balances()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made.broker, name)


def test_balances_that_cannot_be_read_are_not_taken_for_zero() -> None:
    made = two(script(1))
    broker: Any = Deaf(made, ExchangeUnreachable("no answer"))
    trader = started(made, broker)
    made.step(trader)
    broker.deaf = True
    reconcile(trader)
    assert not trader.memory.quarantine
    assert trader.memory.degraded["reconcile"] == "no answer"
    broker.deaf = False
    reconcile(trader)
    assert "reconcile" not in trader.memory.degraded


def test_a_refused_key_is_not_swallowed() -> None:
    made = two()
    broker: Any = Deaf(made, ExchangeDenied("revoked"))
    trader = started(made, broker)
    broker.deaf = True
    with pytest.raises(ExchangeDenied):
        reconcile(trader)


# ── the account ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_account_is_opened_once() -> None:
    made = two(script(1))
    trader = started(made)
    made.step(trader)
    again = started(made)
    assert again.memory.start_equity == Decimal(10_000)
    assert again.memory.bot_id == "test"
    (opened,) = [s for s in found(made, Snapshot) if s.name == "account"]
    assert opened.value["start"] == {"USDT": "10000"}


def test_another_quote_currency_is_refused() -> None:
    made = two()
    started(made)
    trader = made.make_trader()
    with pytest.raises(ConfigurationError, match="account in USDT at stage, the configuration asks for EUR at stage"):
        recover(trader, "EUR", Surroundings(made.market.now(), lambda: datetime.now(UTC), lambda s: None, lambda: "x"))


def without(made: Stage, symbol: str) -> Trader:
    """The next life, with a pair taken out of the configuration."""
    rest = {s: rows for s, rows in made.candles.items() if s != symbol}
    less = Stage(rest, {}, config=QUIET, store=made.store)
    less.venue, less.broker, less.market = made.venue, made.broker, made.market
    trader = less.make_trader()
    less.recover(trader)
    return trader


def test_a_pair_with_an_open_trade_cannot_be_taken_out() -> None:
    made = two(script(1))
    made.step(started(made))
    with pytest.raises(ConfigurationError, match="BTC/USDT has an open trade or order but is not among the configured"):
        without(made, BTC)


def test_a_pair_whose_trades_are_over_can_be_taken_out() -> None:
    made = two(script(1, -1), script(0, 0, 1))
    trader = started(made)
    for _ in range(4):
        made.step(trader)
    assert set(trader.desk.account.trades) == {ETH}
    again = without(made, BTC)
    assert set(again.desk.account.trades) == {ETH}
    assert again.desk.account.balances == trader.desk.account.balances


def test_a_fill_without_its_order_is_a_broken_ledger() -> None:
    made = two(script(1))
    made.step(started(made))
    fill = found(made, Fill)[0]
    with made.store.transaction() as tx:
        tx.add(dataclasses.replace(fill, trade_id="99", client_order_id="nobody's"))
    with pytest.raises(StorageError, match=r"fill 99 of BTC/USDT belongs to order nobody's, which is not there"):
        started(made)


def test_a_trade_that_the_fills_do_not_have_is_a_broken_ledger() -> None:
    made = two(script(1))
    made.step(started(made))
    trade = found(made, Trade)[0]
    with made.store.transaction() as tx:
        tx.update(
            dataclasses.replace(trade, is_open=False, close_date=trade.open_date, close_profit=Decimal(0),
                                close_profit_abs=Decimal(0))
        )  # fmt: skip
    with pytest.raises(StorageError, match="the ledger contradicts itself"):
        started(made)


def test_numbers_of_trades_are_never_given_twice() -> None:
    """A purchase whose fill became known after its trade had ended folds into that trade when told in order."""
    made = two(script(1, -1))
    trader = started(made)
    made.step(trader)
    made.step(trader)
    (trade,) = found(made, Trade, book="account")
    entry = next(o for o in found(made, Order) if o.purpose is Purpose.ENTRY)
    first = next(f for f in found(made, Fill) if f.side is Side.BUY)
    late = dataclasses.replace(first, trade_id="0", quantity=Decimal(1), fee=Decimal(0))
    with made.store.transaction() as tx:
        tx.add(late)
        tx.update(dataclasses.replace(entry, quantity=entry.quantity + 1, filled=entry.filled + 1))
        tx.add(dataclasses.replace(trade, id="T2", is_open=True, close_date=None, close_profit=None,
                                   close_profit_abs=None, close_rate=None, close_amount=Decimal(0)))  # fmt: skip
    again = started(made)
    assert again.desk.account.trade_count == 2
    assert again.desk.account.trades[BTC].id == "T2"
