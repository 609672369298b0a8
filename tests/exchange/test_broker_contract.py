"""One contract for everything orders can go to: a broker over ccxt and HTTP, and the paper venue in this process."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import trading_bot.exchange
from tests.exchange.local import START, local_exchange, walks
from tests.fakes import MemoryStore
from trading_bot.domain.account import Balance
from trading_bot.domain.market import Instrument
from trading_bot.domain.orders import (
    Accepted,
    Fill,
    Order,
    OrderReport,
    OrderStatus,
    OrderType,
    Purpose,
    Rejected,
    Side,
    TimeInForce,
)
from trading_bot.errors import ExchangeError
from trading_bot.exchange.config import PaperConfig
from trading_bot.exchange.paper_venue import PaperVenue
from trading_bot.exchange.replay import ReplayMarket, default_balances, instruments_from
from trading_bot.exchange.venue import SimulatedVenue
from trading_bot.ports import Broker

HOUR = 3_600_000
HISTORY = 100
NOW = START + HISTORY * HOUR
VERBS = {name for name, _ in inspect.getmembers(Broker, inspect.isfunction) if not name.startswith("_")}
D = Decimal


@dataclass
class Bench:
    """A broker and the hand that closes its market's next bar."""

    broker: Broker
    advance: Callable[[], object]


def over_ccxt(stack: ExitStack, folder: Path) -> Bench:
    local = stack.enter_context(local_exchange(folder, history=HISTORY))
    assert local.exchange is not None
    return Bench(local.broker(), local.exchange.advance)


def on_paper(stack: ExitStack, folder: Path) -> Bench:
    candles, paper = walks(), PaperConfig()
    market = ReplayMarket(candles, history=HISTORY)
    balances = default_balances(candles, paper)
    venue = SimulatedVenue(MemoryStore(), instruments_from(candles, paper), name="paper", balances=balances)
    return Bench(PaperVenue(market, venue, market.timeframe), market.advance)


BENCHES = {"CcxtBroker": over_ccxt, "PaperVenue": on_paper}


@pytest.fixture(params=sorted(BENCHES))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield BENCHES[request.param](stack, tmp_path)


def order(name: str, **changes: Any) -> Order:
    fields: dict[str, Any] = {
        "client_order_id": name,
        "symbol": "BTC/USDT",
        "side": Side.BUY,
        "order_type": OrderType.LIMIT if changes.get("price") is not None else OrderType.MARKET,
        "quantity": D("0.5"),
        "purpose": Purpose.ENTRY,
        "bar_time": NOW - HOUR,
        "order_date": datetime(2024, 1, 1, tzinfo=UTC),
    }
    return Order(**{**fields, **changes})


def accepted(bench: Bench, wish: Order) -> Accepted:
    outcome = bench.broker.submit(wish)
    assert isinstance(outcome, Accepted), outcome
    return outcome


def look_up(bench: Bench, name: str, symbol: str = "BTC/USDT") -> OrderReport:
    report = bench.broker.look_up(name, symbol)
    assert report is not None
    return report


def totals(bench: Bench) -> dict[str, Decimal]:
    return {name: balance.total for name, balance in bench.broker.balances().items() if balance.total}


def test_every_broker_there_is_stands_in_this_contract() -> None:
    found = set()
    for module in pkgutil.walk_packages(trading_bot.exchange.__path__, "trading_bot.exchange."):
        for name, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if kind.__module__ == module.name and all(callable(getattr(kind, verb, None)) for verb in VERBS):
                found.add(name)
    assert len(VERBS) == 7
    assert found == set(BENCHES)
    assert len(found) == 2


def test_instruments_are_exact(bench: Bench) -> None:
    known: Mapping[str, Instrument] = bench.broker.instruments()
    wanted = instruments_from(walks(), PaperConfig())
    assert set(known) == set(wanted)
    for symbol, instrument in wanted.items():
        assert known[symbol] == instrument


def test_a_market_order_moves_money_exactly(bench: Bench) -> None:
    before = totals(bench)
    outcome = accepted(bench, order("buy"))
    (fill,) = outcome.fills
    assert outcome.report.status is OrderStatus.FILLED
    assert (fill.price * fill.quantity, fill.quantity) == (outcome.report.cost, D("0.5"))
    assert (fill.venue, fill.client_order_id, fill.side) == (bench.broker.venue, "buy", Side.BUY)
    assert fill.date == datetime.fromtimestamp(NOW / 1000, UTC)
    assert totals(bench) == {"USDT": before["USDT"] - outcome.report.cost, "BTC": fill.quantity - fill.fee}
    assert fill.fee_currency == "BTC"


def test_the_look_up_and_the_fills_repeat_what_the_answer_said(bench: Bench) -> None:
    outcome = accepted(bench, order("buy"))
    assert look_up(bench, "buy") == outcome.report
    assert list(bench.broker.fills("BTC/USDT", 0)) == list(outcome.fills)
    assert list(bench.broker.fills("BTC/USDT", NOW)) == list(outcome.fills)
    assert list(bench.broker.fills("BTC/USDT", NOW + 1)) == []
    assert list(bench.broker.fills("ETH/USDT", 0)) == []


def test_an_order_nobody_placed_is_none(bench: Bench) -> None:
    accepted(bench, order("here"))
    assert bench.broker.look_up("nowhere", "BTC/USDT") is None
    assert bench.broker.look_up("here", "ETH/USDT") is None


def test_a_resting_order_reserves_and_its_end_gives_back(bench: Bench) -> None:
    wish = order("rest", price=D("200"))
    outcome = accepted(bench, wish)
    assert (outcome.report.status, outcome.fills) == (OrderStatus.OPEN, ())
    assert list(bench.broker.open_orders()) == [outcome.report]
    assert bench.broker.balances()["USDT"] == Balance("USDT", D("9900"), D("100"))
    bench.broker.cancel(wish)
    bench.broker.cancel(wish)
    assert look_up(bench, "rest").status is OrderStatus.CANCELED
    assert bench.broker.balances()["USDT"] == Balance("USDT", D("10000"))
    assert list(bench.broker.open_orders()) == []


def test_cancelling_what_is_not_there_is_quiet(bench: Bench) -> None:
    bench.broker.cancel(order("never", price=D("200")))
    filled = order("filled")
    accepted(bench, filled)
    bench.broker.cancel(filled)
    assert look_up(bench, "filled").status is OrderStatus.FILLED


def test_a_limit_order_fills_when_the_market_comes_to_it(bench: Bench) -> None:
    candles = walks()["BTC/USDT"]
    price = D(str(round(candles.open[HISTORY] * 0.99, 2)))
    accepted(bench, order("patient", price=price))
    while look_up(bench, "patient").status is OrderStatus.OPEN:
        bench.advance()
    report = look_up(bench, "patient")
    fills = bench.broker.fills("BTC/USDT", NOW)
    assert (report.status, report.filled) == (OrderStatus.FILLED, D("0.5"))
    assert all(fill.is_maker and fill.price <= price for fill in fills)
    assert sum(fill.quantity for fill in fills) == report.filled


@pytest.mark.parametrize("policy", [TimeInForce.IOC, TimeInForce.FOK])
def test_what_must_fill_at_once_does_or_expires(bench: Bench, policy: TimeInForce) -> None:
    missed = accepted(bench, order("missed", price=D("200"), time_in_force=policy))
    assert (missed.report.status, missed.report.filled) == (OrderStatus.EXPIRED, D(0))
    taken = accepted(bench, order("taken", price=D("900"), time_in_force=policy))
    assert taken.report.status is OrderStatus.FILLED
    assert list(bench.broker.open_orders()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"quantity": D(500)},
        {"side": Side.SELL},
        {"quantity": D("0.001")},
        {"quantity": D("0.0001")},
        {"quantity": D("0.50001")},
        {"quantity": D("NaN")},
        {"quantity": D("-1")},
        {"quantity": D(0)},
        {"quantity": D("1e30")},
        {"quantity": D("1e300")},
        {"symbol": "DOGE/USDT"},
        {"price": D("-5")},
        {"price": D("NaN")},
        {"price": D(0)},
        {"price": D("300.001")},
    ],
)
def test_a_refused_order_is_rejected_with_reasons_and_leaves_no_trace(bench: Bench, wrong: dict[str, Any]) -> None:
    bench.broker.instruments()
    outcome = bench.broker.submit(order("refused", **wrong))
    assert isinstance(outcome, Rejected)
    assert outcome.code
    assert outcome.message
    assert totals(bench) == {"USDT": D(10_000)}
    if "symbol" not in wrong:
        assert bench.broker.look_up("refused", "BTC/USDT") is None


def test_the_same_order_twice_is_one_order(bench: Bench) -> None:
    wish = order("twice", price=D("200"))
    accepted(bench, wish)
    assert not isinstance(bench.broker.submit(wish), Accepted)
    assert [report.client_order_id for report in bench.broker.open_orders()] == ["twice"]
    assert look_up(bench, "twice").status is OrderStatus.OPEN


def test_unknown_symbols_are_no_crash(bench: Bench) -> None:
    for ask in (lambda: bench.broker.look_up("x", "DOGE/USDT"), lambda: bench.broker.fills("DOGE/USDT", 0)):
        with suppress(ExchangeError):
            assert not ask()


def test_a_large_market_order_takes_several_bars(bench: Bench) -> None:
    outcome = accepted(bench, order("large", symbol="ADA/USDT", quantity=D("200")))
    assert outcome.report.status is OrderStatus.OPEN
    assert 0 < outcome.report.filled < D(200)
    for _ in range(5):
        bench.advance()
    assert look_up(bench, "large", "ADA/USDT").status is OrderStatus.FILLED
    fills = bench.broker.fills("ADA/USDT", 0)
    assert len(fills) > 1
    assert [fill.date for fill in fills] == sorted(fill.date for fill in fills)


def traded(bench: Bench) -> tuple[list[OrderReport | None], list[Fill], dict[str, Decimal]]:
    """What one stream of orders comes to."""
    names = []
    for step in range(60):
        symbol = ("BTC/USDT", "ETH/USDT", "ADA/USDT")[step % 3]
        side = Side.SELL if step % 4 == 3 else Side.BUY
        wish = order(f"order-{step}", symbol=symbol, side=side, quantity=D(step % 7 + 2))
        if step % 5 == 0:
            tick = D(str(round(float(walks()[symbol].open[HISTORY + step]) * 0.995, 2)))
            wish = replace(wish, order_type=OrderType.LIMIT, price=tick)
        bench.broker.submit(wish)
        names.append((wish.client_order_id, symbol))
        bench.advance()
        if step % 10 == 9:
            bench.broker.cancel(order("order-0", price=D(1)))
    reports = [bench.broker.look_up(name, symbol) for name, symbol in names]
    fills = [
        replace(fill, venue="")
        for symbol in ("ADA/USDT", "BTC/USDT", "ETH/USDT")
        for fill in bench.broker.fills(symbol, 0)
    ]
    return reports, fills, totals(bench)


def test_all_brokers_come_to_the_same_result_on_the_same_candles(tmp_path: Path) -> None:
    results = {}
    with ExitStack() as stack:
        for name, make in BENCHES.items():
            results[name] = traded(make(stack, tmp_path / name))
    reports, fills, balances = results["PaperVenue"]
    assert len(fills) > 40
    assert any(report is None for report in reports)  # some were refused, by both
    assert results["CcxtBroker"][1] == fills
    assert results["CcxtBroker"] == (reports, fills, balances)
