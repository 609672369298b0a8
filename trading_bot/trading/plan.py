"""From views to a plan for one bar: a decision per symbol and the orders they lead to. Exits first, then entries by
strength. Pure: reads the books, changes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from trading_bot.domain.account import Trade
from trading_bot.domain.journal import Decision
from trading_bot.domain.market import Candles, Instrument
from trading_bot.domain.orders import Denied, Order, OrderType, Purpose, Side, client_order_id
from trading_bot.features.indicators import atr
from trading_bot.trading.config import TradingConfig
from trading_bot.trading.portfolio import Account, is_dust
from trading_bot.trading.risk import (
    Latch,
    Leave,
    RiskState,
    Situation,
    entry_gate,
    entry_size,
    must_leave,
    protective_stop,
    raised_stop,
    var_gate,
)
from trading_bot.trading.views import View

PERSISTENT = frozenset({"stop_loss", "trailing_stop_loss", "drawdown_stop", "force_exit", "time_stop"})
DUST = "dust"  # exit reason of a trade that ended unsold: its position is less than the venue takes


@dataclass(frozen=True, slots=True)
class Standing:
    """Everything a plan is made from, besides the views."""

    bot_id: str
    run_id: str
    quote: str
    time: int  # open of the bar decided on, ms
    bar_ms: int
    late: bool
    paused: bool
    account: Account
    risk: RiskState
    prices: Mapping[str, Decimal]  # last closes
    instruments: Mapping[str, Instrument]
    obstacles: Mapping[str, str]  # symbol -> why no entry may be made (quarantine, order of unknown fate)
    live: Sequence[Order]
    leaving: Mapping[str, Leave]  # exits that must happen, decided on earlier bars
    config: TradingConfig
    threshold: float

    @property
    def close_time(self) -> int:
        return self.time + self.bar_ms


@dataclass(slots=True)
class Plan:
    """What is to be written and sent for one bar."""

    decisions: list[Decision] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)  # open trades whose stop or best price moved
    dust: list[Trade] = field(default_factory=list)  # open trades that should end and are too small to be sold
    leaving: dict[str, Leave] = field(default_factory=dict)


def make_plan(views: Mapping[str, View], at: Standing) -> Plan:
    """Decide every symbol of one bar."""
    plan = Plan(leaving={symbol: leave for symbol, leave in at.leaving.items() if symbol in at.account.trades})
    entries: list[View] = []
    for symbol in sorted(views):
        view = views[symbol]
        if symbol in at.account.trades:
            _manage(view, at.account.trades[symbol], at, plan)
        elif view.side > 0:
            entries.append(view)
        else:
            plan.decisions.append(_decided(view, at, "hold", _why_flat(view, at)))
    for view in sorted(entries, key=lambda view: (-abs(view.score), view.symbol)):
        _enter(view, views, at, plan)
    plan.decisions.sort(key=lambda decision: decision.symbol)
    return plan


def sell_all(trade: Trade, leave: Leave, at: Standing, price: Decimal, attempt: int = 1) -> Order | Denied:
    """The order that ends a trade, or why there is none."""
    instrument = at.instruments[trade.symbol]
    quantity = at.account.position(trade.symbol).quantity
    if is_dust(quantity, price, instrument):
        return Denied(f"dust: {quantity} {instrument.base} is less than the venue takes")
    purposes = {
        "exit_signal": Purpose.EXIT,
        "roi": Purpose.EXIT,
        "drawdown_stop": Purpose.FLATTEN,
        "force_exit": Purpose.FLATTEN,
    }
    purpose = purposes.get(leave.exit_reason, Purpose.STOP)
    limit = at.config.order_types.exit == "limit" and purpose is Purpose.EXIT
    return Order(
        client_order_id=client_order_id(at.bot_id, trade.symbol, at.time, purpose, attempt),
        symbol=trade.symbol,
        side=Side.SELL,
        order_type=OrderType.LIMIT if limit else OrderType.MARKET,
        quantity=instrument.quantity(instrument.lots(quantity)),
        price=price if limit else None,
        purpose=purpose,
        bar_time=at.time,
        order_date=_date(at.close_time),
        reason=leave.exit_reason,
        attempt=attempt,
        stop_price=leave.stop_price,
        run_id=at.run_id,
    )


def _manage(view: View, trade: Trade, at: Standing, plan: Plan) -> None:
    """A trade is open: leave, or keep it and bring its stop up."""
    leave = _reason_to_leave(view, trade, at)
    selling = [order for order in at.live if order.symbol == view.symbol and order.side is Side.SELL]
    urgent = leave is not None and leave.exit_reason in PERSISTENT
    if leave is not None and urgent:
        plan.leaving[view.symbol] = leave
    if leave is None or (at.late and not urgent):
        raised = raised_stop(trade, view.candles, at.instruments[view.symbol], at.config, view.unseen)
        if raised != trade:
            plan.trades.append(raised)
        why = f"score {view.score:+.2f}: keeps its position" if leave is None else f"late bar: {leave.because}"
        plan.decisions.append(_decided(view, at, "hold", why))
    elif any(order.order_type is OrderType.MARKET or not urgent for order in selling):
        plan.decisions.append(_decided(view, at, "hold", f"exit under way: {selling[0].client_order_id}"))
    else:
        order = sell_all(trade, leave, at, at.prices[view.symbol])
        if isinstance(order, Denied):
            if not selling:
                plan.dust.append(dataclasses.replace(trade, exit_reason=DUST))
            plan.decisions.append(_decided(view, at, "denied", f"{order.reason}; {leave.because}"))
            return
        plan.orders.append(order)
        plan.decisions.append(_decided(view, at, "sell", leave.because, order))


def _reason_to_leave(view: View, trade: Trade, at: Standing) -> Leave | None:
    if view.symbol in at.leaving:
        earlier = at.leaving[view.symbol]
        return dataclasses.replace(earlier, because=f"again: {earlier.because}")
    leave = must_leave(trade, view.candles, at.bar_ms, at.instruments[view.symbol], at.config, view.unseen)
    if leave is not None:
        return leave
    if at.risk.latch is Latch.FLATTEN:
        return Leave("drawdown_stop", f"drawdown_stop: {at.risk.drawdown:.2%} from the peak")
    if view.side < 0:
        return Leave("exit_signal", f"score {view.score:+.2f} at or below -{at.threshold:.2f}")
    return None


def _enter(view: View, views: Mapping[str, View], at: Standing, plan: Plan) -> None:
    """No trade is open and the ensemble wants one: through the gates."""
    symbol, instrument = view.symbol, at.instruments[view.symbol]
    waiting = next((order for order in at.live if order.symbol == symbol), None)
    if waiting is not None and not at.obstacles.get(symbol):
        plan.decisions.append(_decided(view, at, "hold", f"order under way: {waiting.client_order_id}"))
        return
    price = at.prices[symbol]
    stop = protective_stop(price, float(atr(view.candles, at.config.risk.atr_period)[-1]), instrument, at.config)
    situation = _situation(view, at, plan, price, stop)
    verdict: Denied | Decimal | None = entry_gate(situation, at.risk, at.config)
    if verdict is None:
        verdict = entry_size(situation, at.risk, instrument, at.config)
    if isinstance(verdict, Decimal):
        candles: dict[str, Candles] = {name: other.candles for name, other in views.items()}
        no = var_gate(at.account, situation, verdict * price, candles, at.prices, at.risk, at.bar_ms, at.config.risk)
        verdict = no or verdict
    if isinstance(verdict, Denied):
        outcome = "late" if at.late else "denied"
        plan.decisions.append(_decided(view, at, outcome, verdict.reason))
        return
    limit = at.config.order_types.entry == "limit"
    order = Order(
        client_order_id=client_order_id(at.bot_id, symbol, at.time, Purpose.ENTRY, 1),
        symbol=symbol,
        side=Side.BUY,
        order_type=OrderType.LIMIT if limit else OrderType.MARKET,
        quantity=verdict,
        price=price if limit else None,
        purpose=Purpose.ENTRY,
        bar_time=at.time,
        order_date=_date(at.close_time),
        reason=max(view.shares, key=lambda name: (view.shares[name], name), default=""),
        stop_price=stop,
        run_id=at.run_id,
    )
    plan.orders.append(order)
    plan.decisions.append(
        _decided(view, at, "buy", f"score {view.score:+.2f} reached {at.threshold:.2f}; stop {stop}", order)
    )


def _situation(view: View, at: Standing, plan: Plan, price: Decimal, stop: Decimal) -> Situation:
    """The account as it will be once the entries under way and those already planned are filled."""
    buys = [order for order in (*at.live, *plan.orders) if order.side is Side.BUY]
    pledged = sum((order.remaining * (order.price or at.prices[order.symbol]) for order in buys), Decimal(0))
    return Situation(
        symbol=view.symbol,
        close_time=at.close_time,
        late=at.late,
        paused=at.paused,
        obstacle=at.obstacles.get(view.symbol, ""),
        open_trades=len({*at.account.trades, *(order.symbol for order in buys)}),
        cash=at.account.balances.get(at.quote, Decimal(0)) - pledged * Decimal("1.01"),
        exposure=at.account.exposure(at.prices) + pledged,
        price=price,
        stop=stop,
    )


def _why_flat(view: View, at: Standing) -> str:
    if view.note:
        return view.note
    if not view.signals:
        return "no strategy answered"
    if view.side < 0:
        return f"score {view.score:+.2f}: wants out and is flat already"
    return f"score {view.score:+.2f} within ±{at.threshold:.2f}"


def _decided(view: View, at: Standing, outcome: str, reason: str, order: Order | None = None) -> Decision:
    return Decision(
        symbol=view.symbol,
        time=at.time,
        regime=view.regime,
        weights=view.weights,
        signals=view.signals,
        score=view.score,
        side=view.side,
        outcome=outcome,
        reason=reason,
        model_versions=view.model_versions,
        notes=view.notes,
        client_order_id=order.client_order_id if order else None,
        run_id=at.run_id,
    )


def _date(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
