"""Orders over real ccxt against the real local exchange, with everything going wrong that can."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.exchange.local import Local, local_exchange
from trading_bot.domain.orders import (
    Accepted,
    Order,
    OrderStatus,
    OrderType,
    Purpose,
    Rejected,
    Side,
    TimeInForce,
    Unclear,
)
from trading_bot.errors import ExchangeDenied, ExchangeError, ExchangeThrottled, ExchangeUnreachable
from trading_bot.exchange.ccxt_broker import CcxtBroker
from trading_bot.exchange.simulator.faults import Kind

ROUTE = "/api/v3/order"
TIMEOUT = 0.6  # seconds the client waits
CANDLES = {Kind.NAN_CANDLES, Kind.DUPLICATE_CANDLES, Kind.MISSING_CANDLES, Kind.LATE_CANDLES}
STORMS = sorted(set(Kind) - CANDLES - {Kind.DELAY})  # what can become of a reply to an order
REASONS = (ExchangeUnreachable, ExchangeThrottled, ExchangeError)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with local_exchange(tmp_path_factory.mktemp("exchange")) as running:
        yield running


@pytest.fixture
def broker(local: Local) -> CcxtBroker:
    local.control.post("faults", {"clear": True})
    broker = local.broker(TIMEOUT)
    broker.instruments()
    return broker


def order(name: str, **changes: Any) -> Order:
    fields: dict[str, Any] = {
        "client_order_id": name,
        "symbol": "BTC/USDT",
        "side": Side.BUY,
        "order_type": OrderType.MARKET,
        "quantity": Decimal("0.02"),
        "purpose": Purpose.ENTRY,
        "bar_time": 0,
        "order_date": datetime(2024, 1, 1, tzinfo=UTC),
    }
    return Order(**{**fields, **changes})


def limit(name: str, price: str, **changes: Any) -> Order:
    return order(name, order_type=OrderType.LIMIT, price=Decimal(price), **{"quantity": Decimal("0.1"), **changes})


def placed(local: Local, name: str) -> list[dict[str, Any]]:
    return [row for row in local.ledger()["orders"] if row["client_order_id"] == name]


# ── what is clear ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_market_order_is_accepted_with_exact_numbers(local: Local, broker: CcxtBroker) -> None:
    outcome = broker.submit(order("exact", quantity=Decimal("1.234")))
    assert isinstance(outcome, Accepted)
    report, (fill,) = outcome.report, outcome.fills
    (row,) = placed(local, "exact")
    assert (report.status, report.filled) == (OrderStatus.FILLED, Decimal("1.234"))
    assert report.cost == Decimal(row["cost"]) == fill.price * fill.quantity
    assert fill.fee == Decimal("0.001234")
    assert (fill.fee_currency, fill.venue, fill.client_order_id) == ("BTC", "local", "exact")
    assert broker.look_up("exact", "BTC/USDT") == report
    assert broker.fills("BTC/USDT", int(fill.date.timestamp() * 1000))[-1] == fill


def test_a_resting_order_is_reported_cancelled_and_reported_again(local: Local, broker: CcxtBroker) -> None:
    resting = limit("resting", "200", time_in_force=TimeInForce.GTC)
    outcome = broker.submit(resting)
    assert isinstance(outcome, Accepted)
    assert (outcome.report.status, outcome.fills) == (OrderStatus.OPEN, ())
    assert broker.open_orders() == [outcome.report]
    assert broker.balances()["USDT"].used == Decimal("20")
    broker.cancel(resting)
    broker.cancel(resting)  # asking twice does no harm
    report = broker.look_up("resting", "BTC/USDT")
    assert report is not None
    assert report.status is OrderStatus.CANCELED
    assert broker.open_orders() == []


@pytest.mark.parametrize("policy", [TimeInForce.IOC, TimeInForce.FOK])
def test_what_cannot_fill_at_once_expires(broker: CcxtBroker, policy: TimeInForce) -> None:
    outcome = broker.submit(limit(f"late-{policy}", "200", time_in_force=policy))
    assert isinstance(outcome, Accepted)
    assert (outcome.report.status, outcome.report.filled) == (OrderStatus.EXPIRED, Decimal(0))


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"quantity": Decimal(500)}, "-2010"),
        ({"side": Side.SELL, "quantity": Decimal(500)}, "-2010"),
        ({"quantity": Decimal("0.001")}, "-1013"),
        ({"symbol": "DOGE/USDT"}, "LOCAL"),
        ({"quantity": Decimal("NaN")}, "LOCAL"),
        ({"quantity": Decimal("-1")}, "LOCAL"),
        ({"quantity": Decimal(0)}, "LOCAL"),
        ({"quantity": Decimal("0.0201")}, "LOCAL"),  # 0.0001 more than a lot: ccxt would drop it without a word
        ({"quantity": Decimal("1.0000001")}, "LOCAL"),
        ({"order_type": OrderType.LIMIT, "price": None}, "LOCAL"),
        ({"order_type": OrderType.LIMIT, "price": Decimal("-5")}, "LOCAL"),
        ({"order_type": OrderType.LIMIT, "price": Decimal("NaN")}, "LOCAL"),
        ({"order_type": OrderType.LIMIT, "price": Decimal("300.001")}, "LOCAL"),
        ({"client_order_id": "a b"}, "-1100"),
    ],
)
def test_a_parsed_refusal_is_a_rejection(local: Local, broker: CcxtBroker, wrong: dict[str, Any], code: str) -> None:
    before = local.ledger()
    outcome = broker.submit(order("refused", **wrong) if "client_order_id" not in wrong else order("a b"))
    assert isinstance(outcome, Rejected)
    assert outcome.code == code
    assert outcome.message
    assert local.ledger() == before


def test_filters_are_refused_by_the_venue_too(local: Local) -> None:
    """A broker that has not loaded the instruments lets ccxt and the venue judge."""
    broker = local.broker()
    outcome = broker.submit(limit("far", "1", quantity=Decimal("0.1")))
    assert outcome == Rejected("-1013", "Filter failure: NOTIONAL")


def test_a_duplicate_is_looked_up_not_rejected(broker: CcxtBroker) -> None:
    twice = limit("twice", "200")
    assert isinstance(broker.submit(twice), Accepted)
    outcome = broker.submit(twice)
    assert isinstance(outcome, Unclear)
    assert "Duplicate" in outcome.cause
    report = broker.look_up("twice", "BTC/USDT")
    assert report is not None
    assert report.status is OrderStatus.OPEN
    broker.cancel(twice)


# ── what is not ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_there_are_many_ways_to_lose_an_answer() -> None:
    assert len(STORMS) >= 12


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("kind", STORMS)
def test_no_answer_that_can_be_trusted_is_unclear_and_the_look_up_tells(
    local: Local, broker: CcxtBroker, kind: Kind, moment: str
) -> None:
    name = f"{kind.name.lower().replace('_', '')}-{moment}"
    local.fault(kind, ROUTE, method="POST", moment=moment, seconds=5)
    outcome = broker.submit(order(name))
    assert isinstance(outcome, Unclear), outcome
    assert outcome.cause
    assert "signature" not in outcome.cause
    report = broker.look_up(name, "BTC/USDT")
    rows = placed(local, name)
    if moment == "before":
        assert (report, rows) == (None, [])
    else:
        assert report is not None
        assert (report.client_order_id, report.filled) == (name, Decimal("0.02"))
        assert len(rows) == 1
        fills = [fill for fill in broker.fills("BTC/USDT", 0) if fill.client_order_id == name]
        assert sum(fill.quantity for fill in fills) == Decimal("0.02")


def test_a_slow_answer_is_an_answer(local: Local, broker: CcxtBroker) -> None:
    for moment in ("before", "after"):
        local.fault(Kind.DELAY, ROUTE, method="POST", moment=moment, seconds=0.1)
        assert isinstance(broker.submit(order(f"slow-{moment}")), Accepted)


@pytest.mark.parametrize(
    "change",
    [
        {"clientOrderId": "somebody-else"},
        {"symbol": "ETHUSDT"},
        {"side": "SELL"},
        {"origQty": "7"},
        {"orderId": None},
        {"status": "FILLED", "executedQty": "NaN"},
        {"cummulativeQuoteQty": "-"},
        {"fills": [{"price": "1"}]},
    ],
)
def test_an_answer_about_something_else_is_unclear(broker: CcxtBroker, change: dict[str, Any]) -> None:
    client: Any = broker._client
    real = client.privatePostOrder
    client.privatePostOrder = lambda request: {**real(request), **change}
    name = f"odd-{next(iter(change)).lower()}"
    assert isinstance(broker.submit(order(name)), Unclear)
    client.privatePostOrder = real
    report = broker.look_up(name, "BTC/USDT")
    assert report is not None


@pytest.mark.parametrize("kind", STORMS)
def test_a_look_up_without_a_trustworthy_answer_raises_and_never_says_none(
    local: Local, broker: CcxtBroker, kind: Kind
) -> None:
    local.fault(kind, ROUTE, moment="before", seconds=5)
    with pytest.raises(ExchangeError):
        broker.look_up("nobody", "BTC/USDT")
    assert broker.look_up("nobody", "BTC/USDT") is None


@pytest.mark.parametrize("kind", STORMS)
@pytest.mark.parametrize("question", ["account", "openOrders", "myTrades"])
def test_garbage_never_reads_as_an_empty_account(local: Local, broker: CcxtBroker, kind: Kind, question: str) -> None:
    ask: dict[str, Callable[[], object]] = {
        "account": broker.balances,
        "openOrders": broker.open_orders,
        "myTrades": lambda: broker.fills("BTC/USDT", 0),
    }
    local.fault(kind, f"/api/v3/{question}", moment="before", seconds=5)
    with pytest.raises(ExchangeError) as caught:
        ask[question]()
    assert "signature=" not in str(caught.value)
    ask[question]()


def test_a_question_that_was_throttled_says_how_long_to_wait(local: Local, broker: CcxtBroker) -> None:
    for kind, seconds in ((Kind.THROTTLED, 3.0), (Kind.BANNED, 120.0)):
        local.fault(kind, "/api/v3/account")
        with pytest.raises(ExchangeThrottled) as caught:
            broker.balances()
        assert caught.value.retry_after == seconds


@pytest.mark.parametrize("used_before", [False, True])
def test_a_revoked_key_is_denied_whether_or_not_it_ever_worked(local: Local, used_before: bool) -> None:
    broker = local.broker()
    if used_before:
        broker.balances()
    broker.instruments()
    broker._client.apiKey = "revoked"
    with pytest.raises(ExchangeDenied, match="check the key"):
        broker.balances()
    with pytest.raises(ExchangeDenied):
        broker.look_up("x", "BTC/USDT")
    outcome = broker.submit(order("revoked"))
    assert isinstance(outcome, Rejected)
    assert outcome.code == "-2015"


@pytest.mark.parametrize("skew", [-30_000, 30_000])
def test_a_wrong_clock_is_told_apart(local: Local, broker: CcxtBroker, skew: int) -> None:
    local.control.post("faults", {"clock_skew": skew})
    with pytest.raises(ExchangeUnreachable, match="clock"):
        broker.balances()
    assert isinstance(broker.submit(order("early")), Unclear)
    local.control.post("faults", {"clear": True})
    assert broker.look_up("early", "BTC/USDT") is None


def test_threads_that_share_a_client_take_turns(local: Local, broker: CcxtBroker) -> None:
    """Whose answer was read last decides whether an order was refused, so nobody may answer in between."""
    with ThreadPoolExecutor(4) as pool:
        reads = [pool.submit(broker.balances) for _ in range(40)]
        sent = [pool.submit(broker.submit, order(f"shared-{n}", quantity=Decimal(500))) for n in range(40)]
        assert all(isinstance(future.result(), Rejected) for future in sent)
        assert all("USDT" in future.result() for future in reads)


def test_a_redirect_is_not_followed(local: Local, broker: CcxtBroker) -> None:
    local.fault(Kind.REDIRECT, ROUTE, method="POST", moment="before", count=50)
    assert isinstance(broker.submit(order("redirected")), Unclear)
    assert local.control.get("faults")["armed"][0]["count"] == 49
    local.control.post("faults", {"clear": True})


@pytest.mark.parametrize(
    "balance",
    [{"free": "-1"}, {"free": "NaN"}, {"free": None}, {"locked": "many"}, {"locked": "Infinity"}],
)
def test_a_balance_that_cannot_be_raises(broker: CcxtBroker, balance: dict[str, Any]) -> None:
    client = broker._client
    row = {"asset": "USDT", "free": "1", "locked": "0", **balance}
    client.privateGetAccount = lambda params: {"balances": [row], "updateTime": 0}
    with pytest.raises(ExchangeError):
        broker.balances()


def test_executions_of_many_pages_come_once_each(tmp_path_factory: pytest.TempPathFactory) -> None:
    with local_exchange(tmp_path_factory.mktemp("pages")) as local:
        broker = local.broker()
        client = broker._client
        client.load_markets()
        assert local.exchange is not None
        for _ in range(7):
            client.create_order("BTC/USDT", "market", "buy", 0.05)
            client.create_order("BTC/USDT", "market", "buy", 0.05)
            local.exchange.advance()
        import trading_bot.exchange.ccxt_broker as module

        page = module._PAGE
        module._PAGE = 3
        try:
            fills = broker.fills("BTC/USDT", 0)
        finally:
            module._PAGE = page
        assert [fill.trade_id for fill in fills] == [str(number) for number in range(1, 15)]
        assert all(fill.client_order_id for fill in fills)
        assert fills == broker.fills("BTC/USDT", 0)
        later = int(fills[4].date.timestamp() * 1000)
        assert broker.fills("BTC/USDT", later) == fills[4:]


def test_instruments_are_exact_and_carry_the_accounts_fees(broker: CcxtBroker) -> None:
    known = broker.instruments()["BTC/USDT"]
    assert (known.tick, known.lot, known.min_notional) == (Decimal("0.01"), Decimal("0.001"), Decimal(5))
    assert (known.maker_fee, known.taker_fee) == (Decimal("0.001"), Decimal("0.001"))
    assert (known.base, known.quote, known.active) == ("BTC", "USDT", True)
    assert dataclasses.asdict(known)["min_quantity"] == Decimal("0.001")
