"""The paper venue: the same fills as a venue that is told every bar, whenever it looks, and after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.exchange.replays import HOUR, START, RolledVenue, Row, instrument, rows, wandering
from tests.fakes import MemoryStore
from trading_bot.domain.account import Balance
from trading_bot.domain.market import Candles
from trading_bot.domain.orders import (
    Accepted,
    Order,
    OrderReport,
    OrderStatus,
    OrderType,
    Purpose,
    Rejected,
    Side,
    TimeInForce,
)
from trading_bot.errors import CandleDataError, ExchangeUnreachable
from trading_bot.exchange.paper_venue import PaperVenue, PriceSource
from trading_bot.exchange.replay import ReplayMarket
from trading_bot.exchange.venue import SimulatedVenue, VenueReject
from trading_bot.ports import Broker, CandleSource, MarketClock

BTC, ETH = "BTC/USDT", "ETH/USDT"
D = Decimal
CASH = {"USDT": D("5000"), "BTC": D("3.5"), "ETH": D(1000)}
SYMBOLS = {BTC: instrument(BTC), ETH: instrument(ETH, lot=D("0.01"), min_quantity=D("0.01"))}
CANDLES = {BTC: wandering(BTC, 60, 21, gaps=True), ETH: wandering(ETH, 55, 22, first=4, gaps=True)}
CALM: Row = (100.0, 100.0, 100.0, 100.0, 10.0)


def paper(source: PriceSource, store: MemoryStore, balances: Mapping[str, Decimal] = CASH) -> PaperVenue:
    return PaperVenue(source, SimulatedVenue(store, SYMBOLS, name="paper", balances=balances), "1h")


def order(name: str, side: Side = Side.BUY, quantity: str | Decimal = "0.5", **facts: Any) -> Order:
    kind = OrderType.LIMIT if facts.get("price") is not None else OrderType.MARKET
    common = {"symbol": BTC, "purpose": Purpose.ENTRY, "bar_time": 0, "order_date": datetime(2024, 1, 1, tzinfo=UTC)}
    return Order(name, side=side, order_type=kind, quantity=D(quantity), **{**common, **facts})


class LiveSource:
    """Live candles and prices: they come when the test says so, and sometimes not at all."""

    def __init__(self, candles: Mapping[str, Candles], now: int) -> None:
        self.closed = dict(candles)
        self.prices: dict[str, float] = dict.fromkeys(candles, 100.0)
        self.time = now
        self.reachable = True
        self.garbled = False
        self.asked = 0

    def now(self) -> int:
        return self.time

    def candles(self, symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> Candles:
        self._answer()
        closed = self.closed[symbol]
        if since is None:
            return closed if limit is None else closed.tail(limit)
        return closed[int(closed.time.searchsorted(since)) :][slice(limit)]

    def forming(self, symbol: str, timeframe: str) -> tuple[int, float] | None:
        self._answer()
        return self.time // HOUR * HOUR, self.prices[symbol]

    def _answer(self) -> None:
        self.asked += 1
        if not self.reachable:
            raise ExchangeUnreachable("no route to the venue")
        if self.garbled:
            raise CandleDataError("a low above its high")


def live(*bars: Row, store: MemoryStore | None = None) -> tuple[LiveSource, PaperVenue]:
    bars = bars or (CALM,) * 5
    source = LiveSource({BTC: rows(BTC, *bars), ETH: rows(ETH, *bars)}, START + len(bars) * HOUR)
    return source, paper(source, store or MemoryStore())


def test_it_is_a_broker_and_a_candle_source() -> None:
    market = ReplayMarket(CANDLES, history=10)
    venue = paper(market, MemoryStore())
    broker: Broker = venue
    source: CandleSource = venue
    clock: MarketClock = market
    assert broker.venue == "paper"
    assert broker.instruments() == SYMBOLS
    assert source.candles(BTC, "1h", None, 3).time.tolist() == market.candles(BTC, "1h", None, 3).time.tolist()
    assert venue.now() == clock.now()


def test_a_market_order_is_accepted_with_its_fills() -> None:
    source, broker = live()
    outcome = broker.submit(order("a"))
    assert isinstance(outcome, Accepted)
    assert outcome.report == OrderReport("a", "1", BTC, Side.BUY, OrderStatus.FILLED, D("0.5"), D("0.5"), D("50.005"))
    (fill,) = outcome.fills
    assert (fill.venue, fill.trade_id, fill.exchange_order_id) == ("paper", "1", "1")
    assert (fill.price, fill.fee, fill.fee_currency) == (D("100.01"), D("0.0005"), "BTC")
    assert fill.date == datetime.fromtimestamp(source.time / 1000, UTC)
    assert broker.fills(BTC, source.time) == [fill]
    assert broker.fills(BTC, source.time + 1) == []
    assert broker.balances()["USDT"] == Balance("USDT", D("4949.995"))


def test_the_price_is_that_of_the_moment() -> None:
    source, broker = live()
    source.time += HOUR // 2
    source.prices[BTC] = 120.0
    outcome = broker.submit(order("a"))
    assert isinstance(outcome, Accepted)
    assert outcome.fills[0].price == D("120.01")


def test_a_refusal_is_a_value_and_changes_nothing() -> None:
    _, broker = live()
    outcomes = [
        broker.submit(order("a", quantity="1000")),
        broker.submit(order("b", quantity="0.00001")),
        broker.submit(order("c", symbol="DOGE/USDT")),
        broker.submit(order("d", price=D("99.999"))),
        broker.submit(order("e", Side.SELL, "4")),
    ]
    codes = [outcome.code for outcome in outcomes if isinstance(outcome, Rejected)]
    assert codes == ["INSUFFICIENT_BALANCE", "LOT_SIZE", "UNKNOWN_SYMBOL", "PRICE_FILTER", "INSUFFICIENT_BALANCE"]
    assert broker.open_orders() == []
    assert broker.look_up("a", BTC) is None
    assert broker.balances()["USDT"] == Balance("USDT", D(5000))


def test_without_a_price_nothing_is_done() -> None:
    source, broker = live()
    source.reachable = False
    refusal = broker.submit(order("a"))
    assert refusal == Rejected("NO_PRICE", "no price of BTC/USDT could be had: no route to the venue")
    for question in (broker.open_orders, broker.balances, broker.catch_up, lambda: broker.look_up("a", BTC)):
        with pytest.raises(ExchangeUnreachable):
            question()
    source.reachable, source.garbled = True, True
    assert broker.submit(order("a")) == Rejected("NO_PRICE", "no price of BTC/USDT could be had: a low above its high")
    source.garbled = False
    assert broker.look_up("a", BTC) is None
    assert isinstance(broker.submit(order("a")), Accepted)


def test_before_the_first_candle_there_is_no_price() -> None:
    source = LiveSource({symbol: Candles.empty(symbol, "1h") for symbol in SYMBOLS}, START)
    broker = paper(source, MemoryStore())
    source.prices = dict.fromkeys(SYMBOLS, 100.0)
    outcome = broker.submit(order("a"))
    assert isinstance(outcome, Accepted)  # the price of the moment suffices …
    assert outcome.fills == ()  # … but without volume nothing fills
    source.closed = {BTC: rows(BTC, CALM), ETH: rows(ETH, CALM)}
    source.time += HOUR
    assert [fill.quantity for fill in broker.catch_up()] == [D("0.5")]


def test_cancel_ends_what_is_open_and_minds_nothing_else() -> None:
    _, broker = live()
    resting = order("a", price=D(90))
    broker.submit(resting)
    assert [report.client_order_id for report in broker.open_orders()] == ["a"]
    broker.cancel(resting)
    broker.cancel(resting)
    broker.cancel(order("never sent"))
    report = broker.look_up("a", BTC)
    assert report is not None
    assert report.status is OrderStatus.CANCELED
    assert broker.balances()["USDT"] == Balance("USDT", D(5000))


def test_a_candle_that_comes_late_is_matched_when_it_comes() -> None:
    source, broker = live()
    broker.submit(order("a", price=D(95)))
    source.time += HOUR
    asked = source.asked
    assert len(broker.open_orders()) == 1
    assert source.asked == asked + 2  # once for either symbol
    broker.open_orders()
    assert source.asked == asked + 2  # not again at once
    fell = rows(BTC, *(CALM,) * 5, (100.0, 100.0, 94.0, 100.0, 10.0))
    source.closed[BTC] = fell
    source.time += HOUR // 60
    assert broker.open_orders() == []
    (fill,) = broker.fills(BTC, 0)
    assert (fill.price, fill.date) == (D(95), datetime.fromtimestamp(START / 1000 + 6 * 3_600, UTC))


def test_what_happened_while_it_was_down_is_matched_once() -> None:
    store = MemoryStore()
    source, broker = live(store=store)
    broker.submit(order("a", price=D(95)))
    broker.submit(order("b", quantity="1.5"))
    bars = ((CALM,) * 5, (CALM,) * 40, ((100.0, 100.0, 94.0, 100.0, 10.0), CALM))
    for symbol in SYMBOLS:
        source.closed[symbol] = rows(symbol, *(bar for part in bars for bar in part))
    source.time = START + 47 * HOUR
    for _ in range(3):
        broker = paper(source, store, {"USDT": D(1)})
        assert broker.open_orders() == []
        hours = [(fill.client_order_id, (fill.date.timestamp() * 1000 - START) / HOUR) for fill in broker.fills(BTC, 0)]
        assert hours == [("b", 5), ("b", 6), ("a", 46)]


# ── the decisive law: whoever is told of the bars, and when, the fills are the same ──────────────────────────────

orders = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from([BTC, ETH]),
        "side": st.sampled_from(list(Side)),
        "lots": st.integers(1, 60_000),
        "away": st.none() | st.integers(-300, 300),
        "time_in_force": st.sampled_from([TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK]),
    }
)
streams = st.lists(
    st.one_of(st.just("advance"), st.just("advance"), orders, st.integers(0, 5), st.sampled_from(["restart", "look"])),
    min_size=20,
    max_size=80,
)


class Pair:
    """The same wishes to a venue rolled bar by bar and to a paper venue that looks when it is asked."""

    def __init__(self) -> None:
        self.rolled = RolledVenue(MemoryStore(), CANDLES, SYMBOLS, CASH, history=6)
        self.market = ReplayMarket(CANDLES, history=6)
        self.store = MemoryStore()
        self.broker = paper(self.market, self.store)
        self.sent = 0

    def act(self, action: Any) -> None:
        if action == "advance":
            if not self.market.ended:
                self.rolled.advance()
                self.market.advance()
        elif action == "restart":
            self.broker = paper(self.market, self.store)
        elif action == "look":
            self.broker.catch_up()
        elif isinstance(action, int):
            standing = self.rolled.venue.open_orders()
            if action < len(standing):
                name, symbol = standing[action].client_order_id, standing[action].symbol
                self.rolled.venue.cancel(symbol, time=self.rolled.market.now(), client_order_id=name)
                self.broker.cancel(order(name, symbol=symbol))
        else:
            self.place(action)

    def place(self, wish: dict[str, Any]) -> None:
        now = self.rolled.venue.price(wish["symbol"])
        if now is None:  # its first candle is still to come
            return
        self.sent += 1
        made = order(
            f"order-{self.sent}",
            wish["side"],
            SYMBOLS[wish["symbol"]].quantity(wish["lots"]),
            symbol=wish["symbol"],
            price=None if wish["away"] is None else now + D(wish["away"]) / 100,
            time_in_force=wish["time_in_force"],
        )
        outcome = self.broker.submit(made)
        try:
            self.rolled.venue.place(
                made.symbol,
                made.side,
                made.order_type,
                time=self.rolled.market.now(),
                time_in_force=made.time_in_force,
                quantity=made.quantity,
                price=made.price,
                client_order_id=made.client_order_id,
            )
        except VenueReject as refusal:
            wanted: Rejected | None = Rejected(refusal.reason, refusal.message)
        else:
            wanted = None
        assert outcome == wanted if wanted else isinstance(outcome, Accepted)

    def fills(self) -> int:
        """Compare the books; how many fills there are."""
        count = 0
        for symbol in SYMBOLS:
            theirs = self.rolled.venue.fills(symbol)
            ours = self.broker.fills(symbol, 0)
            facts = [
                (int(fill.trade_id), int(fill.exchange_order_id), fill.price, fill.quantity, fill.fee, fill.is_maker)
                for fill in ours
            ]
            assert facts == [
                (fill.trade_id, fill.order_id, fill.price, fill.quantity, fill.fee, fill.is_maker) for fill in theirs
            ]
            assert [round(fill.date.timestamp() * 1000) for fill in ours] == [fill.time for fill in theirs]
            count += len(ours)
        assert self.broker.balances() == self.rolled.venue.balances()
        assert [report.client_order_id for report in self.broker.open_orders()] == [
            standing.client_order_id for standing in self.rolled.venue.open_orders()
        ]
        return count


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(streams)
def test_fills_are_those_of_a_venue_rolled_bar_by_bar(stream: list[Any]) -> None:
    pair = Pair()
    for action in stream:
        pair.act(action)
    pair.fills()


def test_the_law_is_tested_on_fills() -> None:
    pair = Pair()
    for number in range(40):
        for symbol in SYMBOLS:
            wish = {"symbol": symbol, "side": list(Side)[number % 2], "lots": 4_000 if symbol == BTC else 900}
            pair.act({**wish, "away": [None, 40, -120][number % 3], "time_in_force": TimeInForce.GTC})
        pair.act("advance")
        if number % 7 == 0:
            pair.act("restart")
    assert pair.fills() > 50
