"""The simulated venue: what it takes, what it refuses, how it fills, and that money is conserved exactly."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.exchange.replays import HOUR, START, RolledVenue, Row, instrument, rows, wandering
from tests.fakes import MemoryStore, MemoryTx
from trading_bot.domain.account import Balance
from trading_bot.domain.market import Candles
from trading_bot.domain.orders import OrderStatus, OrderType, Side, TimeInForce
from trading_bot.domain.venue import VenueFill, VenueOrder
from trading_bot.errors import ConfigurationError
from trading_bot.exchange.venue import RejectReason, SimulatedVenue, VenueReject
from trading_bot.storage.store import open_store

BTC, ETH = "BTC/USDT", "ETH/USDT"
CALM: Row = (100.0, 100.0, 100.0, 100.0, 10.0)  # flat: taking costs one tick; a participation share of 1 coin
D = Decimal


def market_of(*bars: Row, store: MemoryStore | None = None, cash: str = "10000", coins: str = "0") -> RolledVenue:
    """One symbol: five calm bars, then `bars`, and a calm one to end on."""
    candles = rows(BTC, *[CALM] * 5, *bars, CALM)
    return RolledVenue(store or MemoryStore(), {BTC: candles}, {BTC: instrument()}, {"USDT": D(cash), "BTC": D(coins)})


def buy(exchange: RolledVenue, quantity: str | None = "0.5", **order: Any) -> tuple[VenueOrder, tuple[VenueFill, ...]]:
    return place(exchange, Side.BUY, quantity, **order)


def sell(exchange: RolledVenue, quantity: str | None = "0.5", **order: Any) -> tuple[VenueOrder, tuple[VenueFill, ...]]:
    return place(exchange, Side.SELL, quantity, **order)


def place(
    exchange: RolledVenue, side: Side, quantity: str | None, price: str | None = None, symbol: str = BTC, **order: Any
) -> tuple[VenueOrder, tuple[VenueFill, ...]]:
    return exchange.venue.place(
        symbol,
        side,
        OrderType.LIMIT if price else OrderType.MARKET,
        time=exchange.market.now(),
        quantity=D(quantity) if quantity else None,
        price=D(price) if price else None,
        **order,
    )


def refused(reason: RejectReason, exchange: RolledVenue, side: Side = Side.BUY, **order: Any) -> str:
    """`order` is rejected for `reason`, without a trace; the message."""
    before = (exchange.venue.balances(), exchange.venue.orders(BTC))
    with pytest.raises(VenueReject) as refusal:
        place(exchange, side, **{"quantity": "0.5", **order})
    assert refusal.value.reason is reason
    assert (exchange.venue.balances(), exchange.venue.orders(BTC)) == before
    return refusal.value.message


def test_a_market_order_fills_at_once_at_the_open_in_progress() -> None:
    exchange = market_of()
    order, (fill,) = buy(exchange, "0.5", client_order_id="mine")
    assert (order.status, order.filled, order.cost, order.reserved) == (OrderStatus.FILLED, D("0.5"), D("50.005"), D(0))
    assert fill == VenueFill(
        1, 1, "mine", BTC, Side.BUY, D("100.01"), D("0.5"), D("0.0005"), "BTC", False, exchange.market.now()
    )
    assert exchange.venue.balances() == {
        "USDT": Balance("USDT", D("9949.995")),
        "BTC": Balance("BTC", D("0.4995")),
    }
    _, (fill,) = sell(exchange, "0.4")
    assert (fill.price, fill.fee, fill.fee_currency) == (D("99.99"), D("0.039996"), "USDT")


def test_what_exceeds_the_share_of_the_bar_fills_at_the_following_opens() -> None:
    exchange = market_of((100.0, 101.0, 100.0, 101.0, 10.0), (102.0, 102.0, 102.0, 102.0, 10.0))
    order, fills = buy(exchange, "2.5")
    assert [fill.quantity for fill in fills] == [D(1)]
    assert order.status is OrderStatus.OPEN
    assert exchange.venue.balances()["USDT"].used == order.reserved >= D("150.015")
    assert buy(exchange, "0.1")[1] == ()  # the share of this bar is used up
    second = exchange.advance()
    assert [(fill.order_id, fill.quantity) for fill in second] == [(1, D(1))]
    assert second[0].price > 102
    assert second[0].time == exchange.market.now() == START + 6 * HOUR
    assert [(fill.order_id, fill.quantity) for fill in exchange.advance()] == [(1, D("0.5")), (2, D("0.1"))]
    assert exchange.venue.order(BTC, order_id=1).status is OrderStatus.FILLED  # type: ignore[union-attr]
    assert exchange.venue.balances()["USDT"].used == 0


def test_without_volume_a_market_order_waits() -> None:
    exchange = market_of((100.0, 100.0, 100.0, 100.0, 0.0), CALM)
    exchange.advance()
    order, fills = buy(exchange)
    assert (order.status, fills) == (OrderStatus.OPEN, ())
    (fill,) = exchange.advance()
    assert fill.quantity == D("0.5")


def test_a_market_buy_that_cash_no_longer_covers_expires() -> None:
    exchange = market_of((100.0, 150.0, 100.0, 150.0, 10.0), (200.0, 200.0, 200.0, 200.0, 10.0), cash="200.02")
    order, _ = buy(exchange, "2")
    (fill,) = exchange.advance()
    assert fill.quantity < 1
    ended = exchange.venue.order(BTC, order_id=order.order_id)
    assert ended is not None
    assert ended.status is OrderStatus.EXPIRED
    assert ended.filled == 1 + fill.quantity
    left = exchange.venue.balances()["USDT"]
    assert 0 <= left.free < fill.price * D("0.001")
    assert left.used == 0


def test_a_quote_quantity_is_never_overspent() -> None:
    exchange = market_of()
    order, (fill,) = buy(exchange, None, quote_quantity=D("50"))
    assert order.quantity == D("0.4999")
    assert fill.price * fill.quantity <= 50 < fill.price * (fill.quantity + D("0.0001"))


def test_a_marketable_limit_takes_within_its_price_and_rests() -> None:
    exchange = market_of((100.0, 100.5, 99.0, 100.0, 30.0))
    order, (fill,) = buy(exchange, "1.5", price="100.01")
    assert (fill.quantity, fill.price, fill.is_maker) == (D(1), D("100.01"), False)
    assert (order.status, order.reserved, order.queue_ahead) == (OrderStatus.OPEN, D("50.005"), 0)
    (rest,) = exchange.advance()
    assert (rest.quantity, rest.price, rest.is_maker) == (D("0.5"), D("100.01"), True)
    assert rest.fee == D("0.0004")


def test_a_limit_rests_until_traded_through() -> None:
    exchange = market_of((100.0, 100.0, 99.5, 100.0, 10.0), (100.0, 100.0, 99.4, 100.0, 10.0))
    order, fills = buy(exchange, "0.5", price="99.5")
    assert (fills, order.reserved, order.queue_ahead) == ((), D("49.75"), 2_000)
    (touched,) = exchange.advance()  # 0.5 coins traded there, 0.2 of them for those ahead
    assert (touched.quantity, touched.price) == (D("0.3"), D("99.5"))
    (through,) = exchange.advance()
    assert (through.quantity, through.price) == (D("0.2"), D("99.5"))
    assert exchange.venue.open_orders() == []


def test_a_gap_beyond_the_limit_fills_at_the_open() -> None:
    exchange = market_of((100.0, 100.0, 99.9, 100.0, 10.0), (98.0, 98.5, 97.0, 98.0, 10.0))
    buy(exchange, "0.5", price="99")
    assert exchange.advance() == ()
    (fill,) = exchange.advance()
    assert (fill.price, fill.time) == (D(98), START + 7 * HOUR)
    assert exchange.venue.balances()["USDT"] == Balance("USDT", D("10000") - 49)


def test_resting_orders_share_the_volume_of_a_bar_in_the_order_they_are_reached() -> None:
    exchange = market_of((100.0, 105.0, 95.0, 101.0, 10.0), coins="5")
    sell(exchange, "0.8", price="103")
    buy(exchange, "0.8", price="97")
    assert [(fill.side, fill.quantity) for fill in exchange.advance()] == [(Side.BUY, D("0.8")), (Side.SELL, D("0.2"))]


def test_an_order_that_came_late_into_a_bar_does_not_meet_it() -> None:
    exchange = market_of((100.0, 100.0, 90.0, 100.0, 10.0), (100.0, 100.0, 98.5, 100.0, 10.0))
    exchange.venue.place(
        BTC, Side.BUY, OrderType.LIMIT, time=exchange.market.now() + HOUR // 2, quantity=D("0.1"), price=D(99)
    )
    assert exchange.advance() == ()
    assert len(exchange.advance()) == 1


def test_ioc_keeps_what_it_gets_and_fok_wants_all() -> None:
    exchange = market_of(CALM, coins="5")
    some, (fill,) = sell(exchange, "1.5", price="99", time_in_force=TimeInForce.IOC)
    assert (some.status, some.filled, some.reserved, fill.quantity) == (OrderStatus.EXPIRED, D(1), D(0), D(1))
    exchange.advance()
    none, fills = sell(exchange, "1.5", price="99", time_in_force=TimeInForce.FOK)
    assert (none.status, none.filled, fills) == (OrderStatus.EXPIRED, D(0), ())
    every, fills = sell(exchange, "0.9", price="99", time_in_force=TimeInForce.FOK)
    assert (every.status, len(fills)) == (OrderStatus.FILLED, 1)
    missed, fills = sell(exchange, "0.1", price="100.5", time_in_force=TimeInForce.IOC)
    assert (missed.status, fills) == (OrderStatus.EXPIRED, ())
    assert exchange.venue.balances()["BTC"] == Balance("BTC", D("3.1"))


def test_refusals_say_found_and_wanted_and_change_nothing() -> None:
    exchange = market_of(coins="1")
    refused(RejectReason.UNKNOWN_SYMBOL, exchange, symbol="DOGE/USDT")
    assert "multiple of 0.01" in refused(RejectReason.PRICE_FILTER, exchange, price="99.999")
    refused(RejectReason.PRICE_FILTER, exchange, price="-1")
    for price in ("NaN", "-Infinity", "1E+999999", "1E-9999999", "99." + "0" * 90 + "1"):
        refused(RejectReason.PRICE_FILTER, exchange, price=price)
    assert "multiple of 0.0001" in refused(RejectReason.LOT_SIZE, exchange, quantity="0.12345")
    for quantity in ("0.00001", "-1", "1000000", "NaN", "Infinity", "1E+999999", "1E-9999999", "0.5" + "0" * 90 + "1"):
        refused(RejectReason.LOT_SIZE, exchange, quantity=quantity)
    assert "0.01 BTC at 100 is worth 1 USDT, wanted at least 5" in refused(
        RejectReason.NOTIONAL, exchange, quantity="0.01"
    )
    refused(RejectReason.NOTIONAL, exchange, quantity="0.01", price="499")
    assert "free is 10000" in refused(RejectReason.INSUFFICIENT_BALANCE, exchange, quantity="101")
    refused(RejectReason.INSUFFICIENT_BALANCE, exchange, quantity="101", price="99.01")
    refused(RejectReason.INSUFFICIENT_BALANCE, exchange, Side.SELL, quantity="1.0001", price="120")
    refused(RejectReason.BAD_PARAMETER, exchange, quantity=None)
    refused(RejectReason.BAD_PARAMETER, exchange, quote_quantity=D(50))
    for amount in ("0", "-5", "NaN", "1E+999999", "1E-9999999", "1." + "3" * 90):
        refused(RejectReason.BAD_PARAMETER, exchange, quantity=None, quote_quantity=D(amount))
    refused(RejectReason.LOT_SIZE, exchange, quantity=None, quote_quantity=D("1E-30"))
    refused(RejectReason.BAD_PARAMETER, exchange, price="99", quantity=None, quote_quantity=D(50))


def test_what_is_reserved_cannot_be_spent_twice() -> None:
    exchange = market_of(coins="1")
    sell(exchange, "0.6", price="120")
    refused(RejectReason.INSUFFICIENT_BALANCE, exchange, Side.SELL, quantity="0.5")
    sell(exchange, "0.4")


def test_no_price_before_the_first_candle_and_no_order_in_a_closed_market() -> None:
    venue = SimulatedVenue(MemoryStore(), {BTC: instrument()}, name="test", balances={"USDT": D(100)})
    assert venue.price(BTC) is None
    with pytest.raises(VenueReject) as refusal:
        venue.place(BTC, Side.BUY, OrderType.MARKET, time=0, quantity=D(1))
    assert refusal.value.reason is RejectReason.NO_PRICE
    venue.instruments[BTC] = instrument(active=False)
    with pytest.raises(VenueReject) as refusal:
        venue.place(BTC, Side.BUY, OrderType.MARKET, time=0, quantity=D(1))
    assert refusal.value.reason is RejectReason.MARKET_CLOSED


def test_a_client_order_id_is_unique_among_open_orders_and_the_newest_is_found() -> None:
    exchange = market_of(coins="1")
    sell(exchange, "0.1", price="120", client_order_id="same")
    refused(RejectReason.DUPLICATE_ORDER, exchange, client_order_id="same")
    exchange.venue.cancel(BTC, time=exchange.market.now(), client_order_id="same")
    buy(exchange, "0.2", client_order_id="same")
    found = exchange.venue.order(BTC, client_order_id="same")
    assert found is not None
    assert (found.order_id, found.side) == (2, Side.BUY)
    assert exchange.venue.order(BTC, client_order_id="other") is None
    assert exchange.venue.order(ETH, order_id=2) is None
    assert buy(exchange, "0.2")[0].client_order_id == "test-3"


def test_cancel_gives_back_what_was_reserved() -> None:
    exchange = market_of()
    order, _ = buy(exchange, "0.5", price="90")
    assert exchange.venue.balances()["USDT"] == Balance("USDT", D(9955), D(45))
    ended = exchange.venue.cancel(BTC, time=exchange.market.now(), order_id=order.order_id)
    assert (ended.status, ended.reserved) == (OrderStatus.CANCELED, D(0))
    assert exchange.venue.balances()["USDT"] == Balance("USDT", D(10000))
    for question in ({"order_id": order.order_id}, {"client_order_id": "nobody"}, {}):
        with pytest.raises(VenueReject) as refusal:
            exchange.venue.cancel(BTC, time=exchange.market.now(), **question)
        assert refusal.value.reason is RejectReason.UNKNOWN_ORDER


def test_orders_and_fills_are_listed_by_id_time_and_number() -> None:
    exchange = market_of(CALM, CALM)
    for _ in range(3):
        buy(exchange, "0.1")
        exchange.advance()
    venue = exchange.venue
    assert [order.order_id for order in venue.orders(BTC, limit=2)] == [2, 3]
    assert [order.order_id for order in venue.orders(BTC, from_id=2, limit=1)] == [2]
    assert [order.order_id for order in venue.orders(BTC, since=START + 6 * HOUR)] == [2, 3]
    assert [fill.trade_id for fill in venue.fills(BTC, limit=2)] == [2, 3]
    assert [fill.trade_id for fill in venue.fills(BTC, from_id=2, limit=1)] == [2]
    assert [fill.trade_id for fill in venue.fills(BTC, since=START + 6 * HOUR)] == [2, 3]
    assert [fill.trade_id for fill in venue.fills(BTC, order_id=3)] == [3]
    assert venue.fills(BTC, since=START + 9 * HOUR) == []
    assert venue.orders(ETH) == []
    assert venue.fills(ETH) == []


def test_a_bar_told_twice_counts_once() -> None:
    exchange = market_of((100.0, 100.0, 98.0, 100.0, 10.0))
    buy(exchange, "2", price="99")
    step = exchange.market.advance()
    assert len(exchange.venue.roll(step.closed, step.opened, step.time)) == 1
    assert exchange.venue.roll(step.closed, step.opened, step.time) == ()
    exchange.restart()
    assert exchange.venue.roll(step.closed, step.opened, step.time) == ()


def test_a_bar_that_closed_does_not_open_again_after_a_restart() -> None:
    store = MemoryStore()
    exchange = market_of(CALM, CALM, CALM, store=store)
    early = exchange.market.forming(BTC)
    assert early is not None
    buy(exchange, "3.5")
    exchange.advance()
    exchange.restart()
    again = SimulatedVenue(store, {BTC: instrument()}, name="test", balances={})
    again.remember(BTC, exchange.market.candles(BTC, "1h", None, 5)[:-1])
    assert again.roll({}, {BTC: (early[0], 55.0)}, exchange.market.now()) == ()
    assert again.price(BTC) == 100


def test_fees_finer_than_the_database_are_rounded_up() -> None:
    fine = instrument(lot=D("1E-8"), tick=D("1E-8"), min_quantity=D("1E-8"), taker_fee=D("0.00075"))
    exchange = RolledVenue(MemoryStore(), {BTC: rows(BTC, *[CALM] * 7)}, {BTC: fine}, {"BTC": D(1)})
    _, (fill,) = sell(exchange, "0.33333333")
    exact = fill.quantity * fill.price * D("0.00075")
    assert exact.as_tuple().exponent == -21
    assert 0 < fill.fee - exact < D("1E-18")
    assert exchange.venue.balances()["USDT"].free == fill.quantity * fill.price - fill.fee


@pytest.mark.parametrize("amount", ["-1", "NaN", "Infinity", "1E-19"])
def test_an_impossible_start_balance_is_refused(amount: str) -> None:
    with pytest.raises(ConfigurationError, match=r"balance of USDT is .*; wanted a number ≥ 0"):
        SimulatedVenue(MemoryStore(), {BTC: instrument()}, name="test", balances={"USDT": D(amount)})


class CountingStore(MemoryStore):
    """Counts transactions; fails the next one when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.transactions = 0
        self.fails = False

    @contextmanager
    def transaction(self) -> Iterator[MemoryTx]:
        self.transactions += 1
        if self.fails:
            raise OSError("disk full")
        with super().transaction() as tx:
            yield tx


def test_bars_that_change_nothing_need_no_transaction() -> None:
    store = CountingStore()
    exchange = market_of((100.0, 100.0, 98.0, 100.0, 10.0), store=store)
    buy(exchange, "0.1", price="95")
    before = store.transactions
    exchange.advance()
    assert store.transactions == before
    exchange.venue.roll({}, {}, exchange.market.now() + 1, save=True)
    assert store.transactions == before + 1
    again = SimulatedVenue(store, {BTC: instrument()}, name="test", balances={})
    assert again.time == exchange.market.now() + 1
    assert again.last_bar(BTC) == START + 5 * HOUR


def test_a_failed_transaction_leaves_no_trace() -> None:
    store = CountingStore()
    exchange = market_of((100.0, 100.0, 98.0, 100.0, 10.0), store=store)
    buy(exchange, "0.5", price="99")
    step = exchange.market.advance()
    before = (exchange.venue.balances(), exchange.venue.open_orders())
    store.fails = True
    with pytest.raises(OSError, match="disk full"):
        exchange.venue.roll(step.closed, step.opened, step.time)
    assert (exchange.venue.balances(), exchange.venue.open_orders()) == before
    store.fails = False
    assert len(exchange.venue.roll(step.closed, step.opened, step.time)) == 1


# ── laws, over random orders and bars ────────────────────────────────────────────────────────────────────────────

CASH = {"USDT": D("5000"), "BTC": D("3.5"), "ETH": D("1000.123")}
SYMBOLS = {
    BTC: instrument(BTC),
    ETH: instrument(ETH, tick=D("0.01"), lot=D("0.01"), min_quantity=D("0.01"), taker_fee=D("0.00075")),
}
CANDLES: Mapping[str, Candles] = {BTC: wandering(BTC, 60, 11, gaps=True), ETH: wandering(ETH, 60, 12, gaps=True)}

orders = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from([BTC, ETH]),
        "side": st.sampled_from(list(Side)),
        "lots": st.integers(1, 60_000),
        "quote": st.booleans(),
        "away": st.none() | st.integers(-300, 300),  # of the current price, in ticks; None: a market order
        "time_in_force": st.sampled_from([TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK]),
    }
)
actions = st.lists(
    st.one_of(st.just("advance"), st.just("advance"), orders, st.integers(0, 5), st.just("restart")),
    min_size=20,
    max_size=80,
)


def act(exchange: RolledVenue, action: Any) -> None:
    """One action; what the venue refuses is nothing to worry about here."""
    if action == "advance":
        if not exchange.market.ended:
            exchange.advance()
    elif isinstance(action, int):
        open_orders = exchange.venue.open_orders()
        if action < len(open_orders):
            chosen = open_orders[action]
            exchange.venue.cancel(chosen.symbol, time=exchange.market.now(), order_id=chosen.order_id)
    elif isinstance(action, dict):
        wanted = SYMBOLS[action["symbol"]]
        now = exchange.venue.price(wanted.symbol)
        assert now is not None
        amount = wanted.quantity(action["lots"])
        by_quote = action["quote"] and action["away"] is None
        with suppress(VenueReject):
            exchange.venue.place(
                wanted.symbol,
                action["side"],
                OrderType.MARKET if action["away"] is None else OrderType.LIMIT,
                time=exchange.market.now(),
                time_in_force=action["time_in_force"],
                quantity=None if by_quote else amount,
                quote_quantity=D(action["lots"]) / 10 if by_quote else None,
                price=None if action["away"] is None else now + wanted.price(action["away"]),
            )


def books(venue: SimulatedVenue) -> tuple[Any, ...]:
    return (
        venue.balances(),
        [venue.orders(symbol) for symbol in SYMBOLS],
        [venue.fills(symbol) for symbol in SYMBOLS],
    )


def check_conservation(venue: SimulatedVenue) -> None:
    totals: dict[str, Decimal] = defaultdict(Decimal, CASH)
    reserved: dict[str, Decimal] = defaultdict(Decimal)
    filled: dict[int, Decimal] = defaultdict(Decimal)
    for symbol, traded in SYMBOLS.items():
        for fill in venue.fills(symbol):
            sign = 1 if fill.side is Side.BUY else -1
            totals[traded.base] += sign * fill.quantity
            totals[traded.quote] -= sign * fill.quantity * fill.price
            totals[fill.fee_currency] -= fill.fee
            filled[fill.order_id] += fill.quantity
        for order in venue.orders(symbol):
            assert order.filled == filled[order.order_id] <= order.quantity
            assert (order.status is OrderStatus.FILLED) == (order.filled == order.quantity)
            assert order.reserved == 0 or order.status is OrderStatus.OPEN
            reserved[traded.quote if order.side is Side.BUY else traded.base] += order.reserved
    for currency, balance in venue.balances().items():
        assert balance.free >= 0
        assert balance.used == reserved[currency]
        assert balance.total == totals[currency]


def check_volume_and_price(exchange: RolledVenue) -> None:
    """A taker gets at most a tenth of the last closed bar, makers at most a tenth of theirs; no limit is overrun."""
    taken: Counter[tuple[str, int, bool]] = Counter()
    for symbol in SYMBOLS:
        limits = {order.order_id: order.price for order in exchange.venue.orders(symbol)}
        for fill in exchange.venue.fills(symbol):
            taken[symbol, fill.time, fill.is_maker] += fill.quantity  # type: ignore[assignment]
            limit = limits[fill.order_id]
            assert limit is None or (fill.price <= limit if fill.side is Side.BUY else fill.price >= limit)
    for (symbol, time, is_maker), quantity in taken.items():
        candles = CANDLES[symbol]
        row = int(candles.time.searchsorted(time - HOUR, "right")) - 1
        assert candles.time[row] == time - HOUR or not is_maker
        assert 0 < float(quantity) <= 0.1 * candles.volume[row] + 1e-9


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions)
def test_money_is_conserved_and_a_restart_changes_nothing(stream: list[Any]) -> None:
    restarted, steady = (RolledVenue(MemoryStore(), CANDLES, SYMBOLS, CASH, history=10) for _ in range(2))
    for action in stream:
        if action == "restart":
            restarted.restart()
        else:
            act(restarted, action)
            act(steady, action)
        check_conservation(restarted.venue)
    check_volume_and_price(steady)
    assert books(restarted.venue) == books(steady.venue)


def test_the_database_keeps_the_books_exactly(tmp_path: Path) -> None:
    """SQLite with a restart now and then, against a memory that never forgets."""
    url = f"sqlite:///{tmp_path}/exchange.sqlite"
    store = open_store(url)
    kept = RolledVenue(store, CANDLES, SYMBOLS, CASH, history=10)
    steady = RolledVenue(MemoryStore(), CANDLES, SYMBOLS, CASH, history=10)
    for number in range(12):
        side, away = list(Side)[number % 2], [None, 60, -150][number % 3]
        wish = {"symbol": BTC, "side": side, "lots": 4_321, "quote": False, "away": away}
        for exchange in (kept, steady):
            act(exchange, {**wish, "time_in_force": TimeInForce.GTC})
            act(exchange, "advance")
        if number % 4:
            continue
        store.close()
        store = open_store(url)
        kept = RolledVenue(store, CANDLES, SYMBOLS, CASH, history=10)
        kept.market.seek(steady.market.now())
        kept.restart()
        assert books(kept.venue) == books(steady.venue)
    store.close()
    assert len(steady.venue.fills(BTC)) > 5


def test_the_laws_are_tested_on_something() -> None:
    """The random streams reach every kind of ending (else the laws above would hold for want of trades)."""
    exchange = RolledVenue(MemoryStore(), CANDLES, SYMBOLS, CASH, history=10)
    for number in range(45):
        for symbol in SYMBOLS:
            side = Side.BUY if number % 3 else Side.SELL
            away = [None, 250, 30, -40, -200][number % 5]
            tif = [TimeInForce.GTC, TimeInForce.IOC, TimeInForce.GTC][number % 3]
            lots = 3_000 if symbol == BTC else 600
            order = {"symbol": symbol, "side": side, "lots": lots, "quote": False, "away": away, "time_in_force": tif}
            act(exchange, order)
        act(exchange, "advance")
    check_conservation(exchange.venue)
    check_volume_and_price(exchange)
    fills = [fill for symbol in SYMBOLS for fill in exchange.venue.fills(symbol)]
    statuses = {order.status for symbol in SYMBOLS for order in exchange.venue.orders(symbol)}
    assert statuses >= {OrderStatus.FILLED, OrderStatus.OPEN, OrderStatus.EXPIRED}
    assert Counter(fill.is_maker for fill in fills)[True] > 5
    assert Counter(fill.is_maker for fill in fills)[False] > 5
    assert max(Counter(fill.order_id for fill in fills).values()) > 1
    assert dataclasses.asdict(fills[0])["fee"] > 0
