"""The books of a simulated venue: orders, fills and balances, exact, and durable before anyone hears of a change."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from decimal import ROUND_UP, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from typing import Any

from trading_bot.domain.journal import Snapshot
from trading_bot.domain.market import Instrument
from trading_bot.domain.orders import OrderStatus, OrderType, Side
from trading_bot.domain.venue import VenueBalance, VenueFill, VenueOrder
from trading_bot.errors import ConfigurationError, StorageError
from trading_bot.ports import AtLeast, Store

ZERO = Decimal(0)
# Every sum and product of money is exact in here: a result that would need rounding raises instead.
EXACT = Context(prec=80, traps=[InvalidOperation, DivisionByZero, Overflow, Inexact])
_ROUNDING = Context(prec=80)
_SMALLEST = Decimal(1).scaleb(-18)  # what the database keeps


def fee_of(amount: Decimal, rate: Decimal) -> Decimal:
    """`amount` x `rate`, rounded up at the 18th decimal place, in the venue's favour."""
    return (amount * rate).quantize(_SMALLEST, rounding=ROUND_UP, context=_ROUNDING).normalize(_ROUNDING)


class Ledger:
    """What is committed, with the open part of it in memory.

    Parameters
    ----------
    balances
        Start balances of a new ledger; a ledger that the store already has is continued and these are ignored.

    Raises
    ------
    ConfigurationError
        If a start balance is negative, not finite or finer than 18 decimal places.
    """

    def __init__(self, store: Store, name: str, balances: Mapping[str, Decimal]) -> None:
        self._store = store
        self._name = f"venue:{name}"
        self.open: dict[int, VenueOrder] = {}
        self.open_ids: dict[str, int] = {}  # client order id -> order id, open orders only
        self.time = 0  # newest market time of a committed change, or later
        self.bars: Mapping[str, int] = {}  # symbol -> open time of the last bar matched, as committed
        self.next_order = self.next_trade = 1
        self._last_fill: dict[str, int] = {}  # symbol -> time of its newest fill, as far as asked
        with store.reading() as tx:
            known = tx.get(Snapshot, self._name)
            if known is not None:
                self.balances = {balance.currency: balance for balance in tx.find(VenueBalance)}
                for order in sorted(tx.find(VenueOrder, status=OrderStatus.OPEN), key=lambda order: order.order_id):
                    self.open[order.order_id] = order
                    self.open_ids[order.client_order_id] = order.order_id
        self.is_new = known is None
        if known is None:
            self.balances = {
                currency: VenueBalance(currency, _start(currency, amount), ZERO)
                for currency, amount in balances.items()
            }
            with store.transaction() as tx:
                for balance in self.balances.values():
                    tx.add(balance)
                tx.add(Snapshot(self._name, self._position(1, 1, 0, {})))
            return
        self.time = int(known.value["time"])
        self.bars = {symbol: int(time) for symbol, time in known.value["bars"].items()}
        self.next_order, self.next_trade = int(known.value["next_order"]), int(known.value["next_trade"])

    def balance(self, currency: str) -> VenueBalance:
        return self.balances.get(currency) or VenueBalance(currency, ZERO, ZERO)

    def commit(self, draft: Draft, bars: Mapping[str, int], *, save: bool = False) -> None:
        """Make `draft` durable in one transaction, then adopt it. A draft without changes is only adopted.

        That is safe: matching is a function of the orders and the bars. Bars that changed nothing change nothing when
        they are matched again after a restart, and every change carries the cursor of its moment.

        Parameters
        ----------
        bars
            By symbol, open time of the last bar matched.
        save
            Write the market time and the cursor even so.
        """
        if draft.changed or save:
            with self._store.transaction() as tx:
                for order in draft.orders.values():
                    tx.update(order)
                for fill in draft.fills:
                    if not tx.add(fill):
                        raise StorageError(
                            f"trade {fill.trade_id} of {self._name} is in the database already; "
                            "do two processes work on the same ledger? Stop one of them"
                        )
                for balance in draft.balances.values():
                    tx.update(balance)
                tx.update(
                    Snapshot(self._name, self._position(draft.next_order, draft.next_trade, draft.time, bars)),
                )
            self.bars = dict(bars)
        for order in draft.orders.values():
            if order.status is OrderStatus.OPEN:
                self.open[order.order_id] = order
                self.open_ids[order.client_order_id] = order.order_id
            elif self.open.pop(order.order_id, None) is not None:
                self.open_ids.pop(order.client_order_id, None)
        for fill in draft.fills:
            self._last_fill[fill.symbol] = fill.time
        self.balances.update(draft.balances)
        self.time, self.next_order, self.next_trade = draft.time, draft.next_order, draft.next_trade

    def order(self, symbol: str, order_id: int | None, client_order_id: str | None) -> VenueOrder | None:
        """By either id; of several orders with one client order id the newest."""
        if order_id is None and client_order_id is not None:
            order_id = self.open_ids.get(client_order_id)
        found = self.open.get(order_id) if order_id is not None else None
        if found is None:
            with self._store.reading() as tx:
                if order_id is not None:
                    found = tx.get(VenueOrder, order_id)
                elif client_order_id is not None:
                    same = tx.find(VenueOrder, symbol=symbol, client_order_id=client_order_id)
                    found = max(same, key=lambda order: order.order_id, default=None)
        return found if found is not None and found.symbol == symbol else None

    def orders(self, symbol: str, **where: Any) -> list[VenueOrder]:
        with self._store.reading() as tx:
            return sorted(tx.find(VenueOrder, symbol=symbol, **where), key=lambda order: order.order_id)

    def fills(self, symbol: str, since: int = 0, **where: Any) -> list[VenueFill]:
        if symbol not in self._last_fill:
            with self._store.reading() as tx:
                newest = tx.find(VenueFill, symbol=symbol, last=1)
            self._last_fill[symbol] = newest[0].time if newest else -1
        if since > self._last_fill[symbol] or self._last_fill[symbol] < 0:
            return []  # asked after every bar: not worth a query
        if since:
            where["time"] = AtLeast(since)
        with self._store.reading() as tx:
            return sorted(tx.find(VenueFill, symbol=symbol, **where), key=lambda fill: fill.trade_id)

    @staticmethod
    def _position(next_order: int, next_trade: int, time: int, bars: Mapping[str, int]) -> dict[str, object]:
        return {"next_order": next_order, "next_trade": next_trade, "time": time, "bars": dict(bars)}


class Draft:
    """The changes of one operation on a ledger, nothing of which has happened until it is committed."""

    def __init__(self, ledger: Ledger, time: int) -> None:
        self._ledger = ledger
        self.time = max(time, ledger.time)  # market time never goes back
        self.orders: dict[int, VenueOrder] = {}
        self.fills: list[VenueFill] = []
        self.balances: dict[str, VenueBalance] = {}
        self.next_order, self.next_trade = ledger.next_order, ledger.next_trade

    @property
    def changed(self) -> bool:
        return bool(self.orders)

    def reach(self, time: int) -> None:
        """Market time is at least `time` from here on."""
        self.time = max(self.time, time)

    def open_orders(self, symbol: str, order_type: OrderType) -> list[VenueOrder]:
        """Open orders as this draft sees them, oldest first."""
        now = (self.orders.get(number, order) for number, order in self._ledger.open.items() if order.symbol == symbol)
        return [order for order in now if order.order_type is order_type and order.status is OrderStatus.OPEN]

    def free(self, currency: str) -> Decimal:
        return self._balance(currency).free

    def number(self) -> int:
        """A new order id."""
        self.next_order += 1
        return self.next_order - 1

    def put(self, order: VenueOrder) -> VenueOrder:
        """Note a change of `order` that moves no money."""
        self.orders[order.order_id] = order
        return order

    def execute(
        self, order: VenueOrder, instrument: Instrument, quantity: Decimal, price: Decimal, *, is_maker: bool
    ) -> VenueOrder:
        """Book a fill: coins against cash, the fee from what is received, and what stays reserved."""
        cost = quantity * price
        rate = instrument.maker_fee if is_maker else instrument.taker_fee
        filled = order.filled + quantity
        remaining = order.quantity - filled
        if order.side is Side.BUY:
            fee, fee_currency = fee_of(quantity, rate), instrument.base
            if not remaining:
                reserved = ZERO
            elif order.price is not None:
                reserved = order.price * remaining
            else:
                reserved = max(ZERO, order.reserved - cost)
            self._move(instrument.quote, order.reserved - reserved - cost, reserved - order.reserved)
            self._move(instrument.base, quantity - fee, ZERO)
        else:
            fee, fee_currency = fee_of(cost, rate), instrument.quote
            reserved = remaining
            self._move(instrument.base, order.reserved - reserved - quantity, reserved - order.reserved)
            self._move(instrument.quote, cost - fee, ZERO)
        self.fills.append(
            VenueFill(
                trade_id=self.next_trade,
                order_id=order.order_id,
                client_order_id=order.client_order_id,
                symbol=order.symbol,
                side=order.side,
                price=price,
                quantity=quantity,
                fee=fee,
                fee_currency=fee_currency,
                is_maker=is_maker,
                time=self.time,
            )
        )
        self.next_trade += 1
        return self.put(
            dataclasses.replace(
                order,
                filled=filled,
                cost=order.cost + cost,
                reserved=reserved,
                status=OrderStatus.OPEN if remaining else OrderStatus.FILLED,
                update_time=self.time,
            )
        )

    def reserve(self, order: VenueOrder, currency: str, amount: Decimal) -> VenueOrder:
        """Set aside `amount` in all for what is left of `order`."""
        self._move(currency, order.reserved - amount, amount - order.reserved)
        return self.put(dataclasses.replace(order, reserved=amount))

    def end(self, order: VenueOrder, instrument: Instrument, status: OrderStatus) -> VenueOrder:
        """Close an order that is not filled, and give back what it had reserved."""
        order = self.reserve(order, instrument.quote if order.side is Side.BUY else instrument.base, ZERO)
        return self.put(dataclasses.replace(order, status=status, update_time=self.time))

    def _balance(self, currency: str) -> VenueBalance:
        return self.balances.get(currency) or self._ledger.balance(currency)

    def _move(self, currency: str, free: Decimal, used: Decimal) -> None:
        before = self._balance(currency)
        after = VenueBalance(currency, before.free + free, before.used + used)
        if after.free < 0 or after.used < 0:
            raise AssertionError(f"{currency} would become {after}: an order was filled beyond its funds")
        if after != before:
            self.balances[currency] = after


def _start(currency: str, amount: Decimal) -> Decimal:
    exponent = amount.normalize(_ROUNDING).as_tuple().exponent
    if not amount.is_finite() or amount < 0 or not isinstance(exponent, int) or exponent < -18:
        raise ConfigurationError(
            f"balance of {currency} is {amount}; wanted a number ≥ 0 with at most 18 decimal places"
        )
    return amount
