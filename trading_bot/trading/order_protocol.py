"""Orders leave only after they are written down, and are never sent again while anyone may have them.

intent (NEW) → durable SENT → submit → OPEN / FILLED / … | REJECTED (the venue said so) | UNKNOWN (nobody knows).
An UNKNOWN order is looked up under its client order id; "not found" is believed only after several healthy answers over
some time, and even then the id stays watched. Fills are booked once, by (venue, symbol, trade id), in the transaction
that moves order, position and trade.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from trading_bot.domain.account import Trade
from trading_bot.domain.market import Instrument
from trading_bot.domain.orders import (
    LIVE,
    Accepted,
    Fill,
    Order,
    OrderReport,
    OrderStatus,
    Purpose,
    Rejected,
    Side,
)
from trading_bot.errors import ExchangeDenied, ExchangeError
from trading_bot.logs import event
from trading_bot.ports import AtLeast, Broker, Store, Tx
from trading_bot.trading.config import UnclearOrders
from trading_bot.trading.portfolio import Account, apply, close, is_dust

WATCH_ABANDONED = timedelta(hours=24)
ENDED = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED})


@dataclass(slots=True)
class OrderDesk:
    """Sends orders, finds out what became of them, and books what they did to the account.

    `now` is the wall clock (patience with unclear answers only). `on_trade` hears every trade that a fill opened,
    changed or closed.
    """

    store: Store
    broker: Broker
    instruments: Mapping[str, Instrument]
    patience: UnclearOrders
    now: Callable[[], datetime]
    account: Account = field(default_factory=Account)
    live: dict[str, Order] = field(default_factory=dict)  # by client order id
    unsent: set[str] = field(default_factory=set)  # perhaps marked SENT (that commit failed), surely not on the wire
    on_trade: Callable[[Trade], None] = lambda trade: None
    may_enter: Callable[[], bool] = lambda: True  # asked before an entry decided earlier goes out
    annotate: Callable[[Tx, Trade, Order], Trade] = lambda tx, trade, order: trade  # notes on a trade just opened

    # ── intents ────────────────────────────────────────────────────────────────────────────────────────────────────

    def intend(self, tx: Tx, order: Order) -> bool:
        """Write an order down inside the decision's own transaction; False if this id was used before."""
        return tx.add(order)

    def finish_intents(self, market_time: int, bar_ms: int) -> None:
        """Send what was decided but never sent (the process or the database failed in between).

        Exits still go out while their trade is open; entries only while their bar is the newest (`market_time` in ms).
        """
        for order in [order for order in self.live.values() if order.status is OrderStatus.NEW]:
            if self.still_wanted(order, market_time, bar_ms):
                event("order", order.symbol, f"sending the {order.purpose.name.lower()} decided before",
                      order=order.client_order_id)  # fmt: skip
                self.send(order)
            else:
                self.abandon(order, "the bar it was decided on is no longer the newest, or its trade is over")

    def still_wanted(self, order: Order, market_time: int, bar_ms: int) -> bool:
        """Whether the decision behind an order still stands at `market_time` (ms)."""
        if order.purpose is Purpose.ENTRY:
            return self.may_enter() and market_time < order.bar_time + 2 * bar_ms
        return order.symbol in self.account.trades

    def send(self, order: Order) -> Order:
        """Send a NEW order: durably SENT first, then on the wire, then whatever came of it.

        An exit first clears its way: other orders of its symbol that still stand at the venue are cancelled. Then it
        sells what is held by now. While an earlier exit may still be executed it is given up: both together could
        sell what is not ours.
        """
        if order.side is Side.SELL:
            self._clear_way(order)
            instrument = self.instruments[order.symbol]
            held = instrument.quantity(instrument.lots(self.account.position(order.symbol).quantity))
            if self._exits(order):
                return self.abandon(order, "an earlier exit may still be executed")
            if held <= 0 or order.symbol not in self.account.trades:
                return self.abandon(order, "nothing is left to sell")
            order = dataclasses.replace(order, quantity=held)
        order = order.moved(OrderStatus.SENT, sent_date=self.now())
        self.unsent.add(order.client_order_id)
        self._write(order)
        self.unsent.discard(order.client_order_id)
        outcome = self.broker.submit(order)
        if isinstance(outcome, Accepted):
            try:
                return self.book(order, outcome.report, outcome.fills)
            except ExchangeDenied:
                raise
            except ExchangeError as error:  # it is there, but its executions could not be read: later looks book them
                event("order", order.symbol, f"accepted, fills not read: {error}", level="WARNING",
                      order=order.client_order_id)  # fmt: skip
                return order
        if isinstance(outcome, Rejected):
            event("order", order.symbol, f"rejected {outcome.code}: {outcome.message}", level="WARNING",
                  order=order.client_order_id)  # fmt: skip
            order = self._write(order.moved(OrderStatus.REJECTED, message=f"{outcome.code}: {outcome.message}"))
            if outcome.denied:
                raise ExchangeDenied(f"{self.broker.venue} refuses our key: {outcome.code} {outcome.message}")
            return order
        event("order", order.symbol, f"outcome unclear: {outcome.cause}; looking it up", level="WARNING",
              order=order.client_order_id)  # fmt: skip
        return self.resolve(self._write(order.moved(OrderStatus.UNKNOWN, message=outcome.cause)))

    def _clear_way(self, order: Order) -> None:
        for other in self.live_orders(order.symbol):
            if other.status is not OrderStatus.NEW:
                self.cancel(other)

    def _exits(self, order: Order) -> list[Order]:
        """Other exits of the symbol that the venue may have."""
        return [o for o in self.live_orders(order.symbol) if o.side is Side.SELL and o.status is not OrderStatus.NEW]

    def abandon(self, order: Order, why: str) -> Order:
        """Give up an order that was never sent, or that the venue does not have."""
        event("order", order.symbol, f"abandoned: {why}", level="WARNING", order=order.client_order_id)
        return self._write(order.moved(OrderStatus.ABANDONED, message=why))

    def cancel(self, order: Order) -> Order:
        """Ask the venue to end an order, then look at what it became."""
        try:
            self.broker.cancel(order)
        except ExchangeDenied:
            raise
        except ExchangeError as error:
            event("order", order.symbol, f"cancel: {error}", level="WARNING", order=order.client_order_id)
        return self.resolve(order)

    # ── finding out ────────────────────────────────────────────────────────────────────────────────────────────────

    def sync(self, symbols: Iterable[str] | None = None) -> list[Order]:
        """Ask after every live order (of `symbols`), in order of sending; those that are over."""
        wanted = None if symbols is None else set(symbols)
        orders = [order for order in self.live.values() if wanted is None or order.symbol in wanted]
        looked = [self.resolve(order) for order in orders if order.status is not OrderStatus.NEW]
        return [order for order in looked if not order.is_live]

    def resolve(self, order: Order) -> Order:
        """Look an order up by its client order id and book what is found."""
        try:
            report = self.broker.look_up(order.client_order_id, order.symbol)
            if report is not None:
                return self.book(order, report, ())
        except ExchangeDenied:
            raise
        except ExchangeError as error:
            event("order", order.symbol, f"look-up failed: {error}", level="WARNING", order=order.client_order_id)
            return order
        return self._not_found(order)

    def _not_found(self, order: Order) -> Order:
        if order.status is OrderStatus.OPEN:
            event("order", order.symbol, "the venue no longer knows an order it had accepted; still waiting for it",
                  level="ERROR", order=order.client_order_id)  # fmt: skip
            return order
        if order.status is OrderStatus.ABANDONED:
            return order
        order = self._write(order.moved(OrderStatus.UNKNOWN, not_found=order.not_found + 1))
        waited = (self.now() - order.sent_date).total_seconds() if order.sent_date else 0.0
        if order.not_found < self.patience.lookups or waited < self.patience.seconds or self._left_traces(order):
            return order
        return self.abandon(order, f"the venue did not know it {order.not_found} times in {waited:.0f} s")

    def _left_traces(self, order: Order) -> bool:
        """Whether the venue, which says it does not know the order, nevertheless lists executions of it."""
        try:
            since = int(order.order_date.timestamp() * 1000)
            found = any(f.client_order_id == order.client_order_id for f in self.broker.fills(order.symbol, since))
        except ExchangeDenied:
            raise
        except ExchangeError as error:
            event("order", order.symbol, f"executions not read: {error}", level="WARNING", order=order.client_order_id)
            return True  # not a healthy answer: not the time to believe the other one
        if found:
            event("order", order.symbol, "not known to the venue, which lists executions of it; still asking",
                  level="ERROR", order=order.client_order_id)  # fmt: skip
        return found

    def watch_abandoned(self) -> None:
        """Look after orders given up in the last day, in case the venue had them after all."""
        with self.store.reading() as tx:
            since = AtLeast(self.now() - WATCH_ABANDONED)
            orders = tx.find(Order, status=OrderStatus.ABANDONED, sent_date=since)
        for order in orders:
            found = self.resolve(order)
            if found.status is not OrderStatus.ABANDONED:
                event("order", order.symbol, f"an abandoned order turned up as {found.status}", level="ERROR",
                      order=order.client_order_id)  # fmt: skip

    # ── booking ────────────────────────────────────────────────────────────────────────────────────────────────────

    def book(self, order: Order, report: OrderReport, fills: Sequence[Fill]) -> Order:
        """Book a report and its fills (asking for those the report counts but does not carry), once, in one step."""
        order = dataclasses.replace(order, exchange_order_id=report.exchange_order_id)
        if order.filled + sum((fill.quantity for fill in fills), Decimal(0)) < report.filled:
            fills = self._missing_fills(order)
        account, trades, before = self.account, [], order
        with self.store.transaction() as tx:
            fresh = [fill for fill in (_ours(fill, order) for fill in fills) if tx.add(fill)]
            for fill in fresh:
                order = dataclasses.replace(
                    order,
                    filled=order.filled + fill.quantity,
                    cost=order.cost + fill.price * fill.quantity,
                    order_filled_date=fill.date,
                )
                # as `replay` says it: a venue's executions may be ahead of what it said of the order
                over = order.filled >= (report.filled if report.status in ENDED else order.quantity)
                done = apply(account, fill, order, self.instruments[fill.symbol], ends_order=over)
                account = done.account
                if done.trade is not None:
                    trade = done.trade
                    if order.side is Side.BUY and trade.amount == fill.quantity:
                        trade = self.annotate(tx, trade, order)
                        account = account.with_trade(trade)
                    tx.update(trade)
                    trades.append(trade)
            order = _moved_by(order, report)
            if order.status in ENDED and not fresh and order.side is Side.SELL:
                account, closed = self._close_dust(tx, account, order)
                trades += closed
            if order != before:
                tx.update(order)
        self.account = account
        self._keep(order)
        self._tell(order, before, fresh, trades)
        return order

    def _missing_fills(self, order: Order) -> Sequence[Fill]:
        since = int(order.order_date.timestamp() * 1000)
        return [
            fill for fill in self.broker.fills(order.symbol, since) if fill.exchange_order_id == order.exchange_order_id
        ]

    def _close_dust(self, tx: Tx, account: Account, order: Order) -> tuple[Account, list[Trade]]:
        """An exit ended without filling wholly: if only dust is left, the trade is over."""
        trade = account.trades.get(order.symbol)
        last = tx.find(Fill, last=1, symbol=order.symbol, client_order_id=order.client_order_id)
        if trade is None or not last:
            return account, []
        if not is_dust(account.position(order.symbol).quantity, last[0].price, self.instruments[order.symbol]):
            return account, []
        account, closed = close(account, trade, last[0].date)
        tx.update(closed)
        return account, [closed]

    def _tell(self, order: Order, before: Order, fills: Sequence[Fill], trades: Sequence[Trade]) -> None:
        for fill in fills:
            held = self.account.position(fill.symbol).quantity
            event("fill", fill.symbol, f"{fill.side} {fill.quantity} @ {fill.price}",
                  fee=f"{fill.fee} {fill.fee_currency}", position=held, **_slippage(fill, order),
                  order=order.client_order_id)  # fmt: skip
            instrument = self.instruments[fill.symbol]
            if fill.fee and fill.fee_currency not in (instrument.base, instrument.quote):
                event("fill", fill.symbol, f"its fee in {fill.fee_currency} is in no trade's profit: what a "
                      f"{fill.fee_currency} is worth is not known here", level="WARNING")  # fmt: skip
        if order.status is not before.status and order.status is not OrderStatus.FILLED:
            event("order", order.symbol, f"{order.side} {order.quantity} {order.order_type} is {order.status}",
                  filled=order.filled, order=order.client_order_id)  # fmt: skip
        for trade in {trade.id: trade for trade in trades}.values():
            self.on_trade(trade)

    # ── keeping ────────────────────────────────────────────────────────────────────────────────────────────────────

    def blocked(self, symbol: str) -> Order | None:
        """An order of `symbol` whose fate is unknown: no entry until it is known."""
        unclear = (OrderStatus.UNKNOWN, OrderStatus.SENT)
        return next((o for o in self.live.values() if o.symbol == symbol and o.status in unclear), None)

    def live_orders(self, symbol: str, *purposes: Purpose) -> list[Order]:
        """Orders of `symbol` that may still change the account."""
        return [o for o in self.live.values() if o.symbol == symbol and (not purposes or o.purpose in purposes)]

    def _write(self, order: Order) -> Order:
        with self.store.transaction() as tx:
            tx.update(order)
        self._keep(order)
        return order

    def _keep(self, order: Order) -> None:
        if order.status in LIVE:
            self.live[order.client_order_id] = order
        else:
            self.live.pop(order.client_order_id, None)


def _ours(fill: Fill, order: Order) -> Fill:
    """The fill under our own id (venues name only theirs in their list of executions)."""
    return dataclasses.replace(fill, client_order_id=order.client_order_id)


def _moved_by(order: Order, report: OrderReport) -> Order:
    """The order as the report says, but never over before all of its fills are booked."""
    status = report.status
    if status in ENDED and order.filled < report.filled:
        status = OrderStatus.OPEN
    if status is OrderStatus.REJECTED and order.status is OrderStatus.OPEN:
        status = OrderStatus.EXPIRED  # a venue that takes orders first and refuses them afterwards
    if status is order.status or (status is OrderStatus.REJECTED and order.status is OrderStatus.ABANDONED):
        return order
    return order.moved(status)


def _slippage(fill: Fill, order: Order) -> dict[str, str]:
    """Basis points lost against the stop that triggered an exit (bad is positive)."""
    if order.side is Side.BUY or order.stop_price is None or not order.stop_price:
        return {}
    lost = (order.stop_price - fill.price) / order.stop_price * 10_000
    return {"stop": str(order.stop_price), "slippage": f"{lost:.1f} bp"}
