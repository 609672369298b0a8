"""What the user tells a running bot: carried out once, written down with its orders, safe while orders are unclear."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.trading.stage import Crash, Fuse, Stage
from tests.trading.test_recovery import deep
from tests.trading.test_trader import QUIET, found, script, started
from trading_bot.domain.journal import Command
from trading_bot.domain.orders import Order, OrderStatus, Purpose, Side, SubmitOutcome, Unclear
from trading_bot.errors import ExchangeUnreachable
from trading_bot.trading.commands import obey
from trading_bot.trading.risk import Latch, RiskState
from trading_bot.trading.trader import Trader

BTC, ETH = "BTC/USDT", "ETH/USDT"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def tell(trader: Trader, name: str, key: str = "1") -> str:
    return obey(trader, Command(key, name, NOW), NOW)


def two() -> Stage:
    return Stage({BTC: deep(BTC, 1), ETH: deep(ETH, 2)}, {BTC: script(1, 0, 1, 1), ETH: script(1)}, config=QUIET)


def entered(made: Stage, broker: Any = None) -> Trader:
    trader = started(made, broker)
    made.step(trader)
    assert set(trader.desk.account.trades) == {BTC, ETH}
    return trader


def test_a_pause_stops_entries_and_watches_what_is_open() -> None:
    made = Stage({BTC: deep(BTC, 1)}, {BTC: script(0, 1, -1)}, config=QUIET)
    trader = started(made)
    made.step(trader)
    tell(trader, "pause")
    (denied,) = made.step(trader)
    assert (denied.outcome, denied.reason) == ("denied", "paused by the user; `trading-bot resume` goes on")
    assert tell(trader, "resume", "2") == "resumed"


def test_resume_releases_the_latch_and_says_so() -> None:
    trader = started(two())
    trader.memory.risk = RiskState(latch=Latch.HALT, peak=Decimal(10_000), equity=Decimal("8432.1"))
    assert tell(trader, "resume") == ("was not paused; drawdown latch halt released, drawdown counts from 8432.10")
    assert trader.memory.risk.latch is Latch.NONE
    assert trader.memory.risk.peak == Decimal("8432.1")


def test_flatten_sells_everything_once_and_pauses() -> None:
    made = two()
    trader = entered(made)
    answer = tell(trader, "flatten")
    assert answer == "flatten: selling 2 of 2 open trades; paused"
    assert tell(trader, "flatten") == answer
    made.step(trader)
    assert not trader.desk.account.trades
    sold = [o for o in found(made, Order) if o.side is Side.SELL]
    assert [o.purpose for o in sold] == [Purpose.FLATTEN] * 2
    assert len(found(made, Command, id="1")) == 1
    assert found(made, Command)[0].handled == NOW


def test_two_flattens_of_one_bar_have_ids_of_their_own() -> None:
    made = two()

    class Refusing:
        venue = made.broker.venue
        unclear = False

        def submit(self, order: Order) -> SubmitOutcome:
            return Unclear("no answer") if self.unclear else made.broker.submit(order)

        def look_up(self, *about: Any) -> Any:
            if self.unclear:
                raise ExchangeUnreachable("no answer")
            return made.broker.look_up(*about)

        def __getattr__(self, name: str) -> Any:
            return getattr(made.broker, name)

    broker: Any = Refusing()
    trader = entered(made, broker)
    broker.unclear = True
    tell(trader, "flatten", "1")
    tell(trader, "flatten", "2")
    orders = [o for o in found(made, Order) if o.purpose is Purpose.FLATTEN]
    assert sorted(o.status for o in orders) == [OrderStatus.ABANDONED] * 2 + [OrderStatus.UNKNOWN] * 2
    assert len({o.client_order_id for o in orders}) == 4
    broker.unclear = False
    for _ in range(3):
        made.step(trader)
    assert not trader.desk.account.trades, "what was lost on the way is sent again"
    assert all(position.quantity < Decimal("0.1") for position in trader.desk.account.positions.values())


def test_an_unknown_word_is_answered() -> None:
    assert tell(started(two()), "sing").startswith("unknown command 'sing'; known are pause")


def test_killed_anywhere_inside_flatten_everything_is_sold_once() -> None:
    at = 0
    while True:
        at += 1
        made, fuse = two(), Fuse()
        trader = made.make_trader(fuse)
        made.recover(trader)
        made.step(trader)
        fuse.passed, fuse.at = 0, at
        try:
            tell(trader, "flatten")
        except Crash:
            trader = started(made)
            tell(trader, "flatten")
        else:
            break
        made.step(trader)
        made.step(trader)
        assert not trader.desk.account.trades, f"point {at}"
        sold = sum(f.quantity for s in (BTC, ETH) for f in made.venue.fills(s) if f.side is Side.SELL)
        assert sold == sum(o.filled for o in found(made, Order) if o.side is Side.SELL)
        held = {c: b.total for c, b in made.venue.balances().items() if b.total}
        assert {c: t for c, t in trader.desk.account.balances.items() if t} == held, f"point {at}"
    assert at > 8


def test_a_command_that_could_not_be_written_has_not_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    made = two()
    trader = entered(made)

    def refuse(tx: Any) -> None:
        raise RuntimeError("no")

    with monkeypatch.context() as patch:
        patch.setattr(type(trader), "save_in", lambda self, tx: refuse(tx))
        with pytest.raises(RuntimeError):
            tell(trader, "flatten")
    assert not [o for o in found(made, Order) if o.side is Side.SELL]
    assert not found(made, Command)
    assert dataclasses.asdict(trader.desk.account) == dataclasses.asdict(started(made).desk.account)
