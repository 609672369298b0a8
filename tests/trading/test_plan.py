"""Plans: what is decided for one bar, from views and books alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.trading.stage import HOUR, START, instrument, wander
from tests.trading.test_risk import trade
from trading_bot.domain.account import Position, Trade
from trading_bot.domain.orders import Denied, Order, OrderStatus, OrderType, Purpose, Side
from trading_bot.trading.config import OrderTypes, RiskConfig, TradingConfig
from trading_bot.trading.plan import Plan, Standing, make_plan, sell_all
from trading_bot.trading.portfolio import Account
from trading_bot.trading.risk import Latch, Leave, RiskState
from trading_bot.trading.views import View

BTC, ETH, ADA = "BTC/USDT", "ETH/USDT", "ADA/USDT"
TIME = START + 39 * HOUR
ROWS = {symbol: wander(40, seed, symbol) for seed, symbol in enumerate((BTC, ETH, ADA))}
FREE = TradingConfig(bot_id="test", stoploss=-0.5, risk=RiskConfig(risk_per_trade=0, var_limit=0, atr_stop_multiple=0))


def view(symbol: str, side: int = 0, score: float | None = None, **changes: Any) -> View:
    value = float(side) if score is None else score
    made = View(
        symbol, ROWS[symbol], "trending", 1.0, {}, {"s": 1.0}, {"s": (side, abs(value))}, value, side, {"s": 1.0}
    )
    return dataclasses.replace(made, **changes)


def standing(**changes: Any) -> Standing:
    made = Standing(
        bot_id="test", run_id="r", quote="USDT", time=TIME, bar_ms=HOUR, late=False, paused=False,
        account=Account({"USDT": Decimal(10_000)}), risk=RiskState(peak=Decimal(10_000), equity=Decimal(10_000)),
        prices={s: Decimal(repr(float(rows.close[-1]))) for s, rows in ROWS.items()},
        instruments={s: instrument(s) for s in ROWS}, obstacles={}, live=(), leaving={}, config=FREE, threshold=0.2,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def holding(*symbols: str, **changes: Any) -> Account:
    trades: dict[str, Trade] = {
        s: trade(id=f"T-{s}", symbol=s, stop_loss=Decimal(1), initial_stop_loss=Decimal(1), **changes) for s in symbols
    }
    positions = {s: Position(s, Decimal(10), Decimal(1000), f"T-{s}") for s in symbols}
    return Account({"USDT": Decimal(5_000), **{s[:3]: Decimal(10) for s in symbols}}, positions, trades, len(symbols))


def plan(views: Sequence[View], **changes: Any) -> Plan:
    return make_plan({one.symbol: one for one in views}, standing(**changes))


def said(made: Plan) -> Mapping[str, tuple[str, str]]:
    return {d.symbol: (d.outcome, d.reason) for d in made.decisions}


def live(symbol: str, side: Side, **changes: Any) -> Order:
    made = Order(
        f"live-{symbol}", symbol, side, OrderType.MARKET, Decimal(10), Purpose.ENTRY, TIME - HOUR,
        datetime.fromtimestamp(TIME / 1000, UTC), status=OrderStatus.OPEN,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def test_every_symbol_gets_one_decision_in_order_of_name() -> None:
    made = plan([view(ETH, 1), view(ADA), view(BTC, -1)])
    assert [d.symbol for d in made.decisions] == [ADA, BTC, ETH]
    assert said(made)[ADA] == ("hold", "score +0.00 within ±0.20")
    assert said(made)[BTC] == ("hold", "score -1.00: wants out and is flat already")
    assert said(made)[ETH][0] == "buy"
    assert [o.client_order_id for o in made.orders] == [made.decisions[2].client_order_id]


def test_no_strategy_answered_is_a_reason() -> None:
    assert said(plan([view(BTC, signals={})]))[BTC] == ("hold", "no strategy answered")


def test_the_stronger_one_gets_the_last_place_and_the_name_decides_between_equals() -> None:
    config = dataclasses.replace(FREE, max_open_trades=1)
    made = plan([view(ADA, 1, 0.5), view(BTC, 1, 0.8), view(ETH, 1, 0.8)], config=config)
    assert [o.symbol for o in made.orders] == [BTC]
    assert said(made)[ADA] == ("denied", "max_open_trades 1 of 1")
    assert said(made)[ETH] == ("denied", "max_open_trades 1 of 1")


def test_planned_entries_leave_less_cash_for_the_next() -> None:
    config = dataclasses.replace(FREE, risk=dataclasses.replace(FREE.risk, max_position=0.9, max_exposure=1.0))
    made = plan([view(BTC, 1, 0.9), view(ETH, 1, 0.5)], config=config)
    prices = standing().prices
    worth = {o.symbol: o.quantity * prices[o.symbol] for o in made.orders}
    assert worth[BTC] == pytest.approx(Decimal(9_000), rel=Decimal("0.01"))
    assert worth[BTC] * Decimal("1.01") + worth[ETH] <= 10_000


def test_exits_go_before_entries() -> None:
    made = plan([view(ADA, 1), view(BTC, -1)], account=holding(BTC))
    assert [o.side for o in made.orders] == [Side.SELL, Side.BUY]


def test_an_entry_under_way_is_waited_for_and_holds_a_place() -> None:
    config = dataclasses.replace(FREE, max_open_trades=1)
    made = plan([view(BTC, 1), view(ETH, 1)], live=[live(BTC, Side.BUY)], config=config)
    assert said(made) == {
        BTC: ("hold", "order under way: live-BTC/USDT"),
        ETH: ("denied", "max_open_trades 1 of 1"),
    }


def test_an_order_of_unknown_fate_denies_its_symbol_alone() -> None:
    made = plan([view(BTC, 1), view(ETH, 1)], live=[live(BTC, Side.BUY, status=OrderStatus.UNKNOWN)],
                obstacles={BTC: "order live-BTC/USDT is unknown: looking it up"})  # fmt: skip
    assert said(made)[BTC] == ("denied", "order live-BTC/USDT is unknown: looking it up")
    assert said(made)[ETH][0] == "buy"


def test_a_market_exit_under_way_is_waited_for() -> None:
    made = plan([view(BTC, -1)], account=holding(BTC), live=[live(BTC, Side.SELL)])
    assert said(made)[BTC] == ("hold", "exit under way: live-BTC/USDT")
    assert not made.orders


def test_a_stop_does_not_wait_for_a_limit_exit() -> None:
    resting = live(BTC, Side.SELL, order_type=OrderType.LIMIT)
    leaving = {BTC: Leave("stop_loss", "stop_loss: low", Decimal(1))}
    made = plan([view(BTC)], account=holding(BTC), live=[resting], leaving=leaving)
    assert [o.purpose for o in made.orders] == [Purpose.STOP]
    assert said(made)[BTC] == ("sell", "again: stop_loss: low")


def test_what_must_be_left_stays_so_until_the_trade_is_gone() -> None:
    leaving = {BTC: Leave("stop_loss", "x", None), ETH: Leave("time_stop", "y", None)}
    made = plan([view(BTC), view(ETH)], account=holding(BTC), leaving=leaving)
    assert set(made.leaving) == {BTC}


@pytest.mark.parametrize(("reason", "kept"), [("exit_signal", False), ("roi", False), ("drawdown_stop", True)])
def test_a_signal_lapses_a_drawdown_does_not(reason: str, kept: bool) -> None:
    risk = RiskState(peak=Decimal(10_000), equity=Decimal(7_000), latch=Latch.FLATTEN if kept else Latch.NONE)
    config = dataclasses.replace(FREE, minimal_roi={"0": -0.9}) if reason == "roi" else FREE
    made = plan([view(BTC, 0 if kept else -1)], account=holding(BTC), risk=risk, config=config)
    assert made.orders[0].reason == reason
    assert (BTC in made.leaving) is kept


def test_late_bars_enter_nothing_leave_by_signal_nothing_and_stop_at_once() -> None:
    account = holding(BTC, ETH)
    leaving = {ETH: Leave("stop_loss", "stop_loss: low", Decimal(1))}
    made = plan([view(ADA, 1), view(BTC, -1), view(ETH)], late=True, account=account, leaving=leaving)
    assert [said(made)[s][0] for s in (ADA, BTC, ETH)] == ["late", "hold", "sell"]


def test_dust_ends_its_trade_without_an_order() -> None:
    account = holding(BTC)
    account = dataclasses.replace(account, positions={BTC: Position(BTC, Decimal("0.00001"), Decimal(1), "T")})
    made = plan([view(BTC, -1)], account=account)
    assert not made.orders
    assert [t.exit_reason for t in made.dust] == ["dust"]
    assert said(made)[BTC][0] == "denied"
    waiting = plan([view(BTC, -1)], account=account, live=[live(BTC, Side.SELL, order_type=OrderType.LIMIT)])
    assert not waiting.dust, "not while an order may still change the position"


def test_an_exit_sells_whole_lots_of_what_is_held() -> None:
    account = dataclasses.replace(
        holding(BTC), positions={BTC: Position(BTC, Decimal("1.23456789"), Decimal(100), "T")}
    )
    at = standing(account=account, config=dataclasses.replace(FREE, order_types=OrderTypes(exit="limit")))
    signal = sell_all(account.trades[BTC], Leave("exit_signal", ""), at, Decimal(100))
    stop = sell_all(account.trades[BTC], Leave("stop_loss", "", Decimal(95)), at, Decimal(100), attempt=2)
    assert not isinstance(signal, Denied)
    assert not isinstance(stop, Denied)
    assert (signal.quantity, signal.order_type, signal.price) == (Decimal("1.23456"), OrderType.LIMIT, Decimal(100))
    assert (stop.order_type, stop.price, stop.stop_price) == (OrderType.MARKET, None, Decimal(95))
    assert stop.client_order_id.endswith("-s-2")


def test_a_plan_changes_nothing_it_was_given() -> None:
    account, leaving = holding(BTC), {BTC: Leave("stop_loss", "x", None)}
    at = standing(account=account, leaving=leaving)
    make_plan({BTC: view(BTC), ETH: view(ETH, 1)}, at)
    assert (at.account, dict(at.leaving)) == (holding(BTC), {BTC: Leave("stop_loss", "x", None)})
