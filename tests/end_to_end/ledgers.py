"""The two books of one account, the bot's and the venue's, in one form, so that every row can be compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from trading_bot.domain.journal import Decision, Snapshot
from trading_bot.domain.orders import Fill, Order, OrderStatus, Side
from trading_bot.domain.venue import VenueBalance, VenueFill, VenueOrder
from trading_bot.ports import Store
from trading_bot.trading.recovery import ACCOUNT

Row = tuple[Any, ...]
_NEVER_THERE = frozenset({OrderStatus.NEW, OrderStatus.ABANDONED, OrderStatus.REJECTED})


@dataclass(frozen=True)
class Book:
    """Orders by client order id, fills by symbol and trade id, balances that are not zero, all exact."""

    orders: dict[str, Row]
    fills: dict[tuple[str, str], Row]
    balances: dict[str, Decimal]


@dataclass(frozen=True)
class Ledgers:
    bot: Book
    venue: Book
    never_there: tuple[Order, ...]  # the bot's orders that the venue does not have, as it believes

    def assert_agree(self) -> None:
        """No order lost or sent twice, no fill booked twice, balances equal to the last decimal."""
        lost = [order.client_order_id for order in self.never_there if order.client_order_id in self.venue.orders]
        assert not lost, f"not sent or given up, but the venue has them: {lost}"
        assert not [order for order in self.never_there if order.filled], "not sent or given up, but filled"
        assert self.bot.orders == self.venue.orders
        assert self.bot.fills == self.venue.fills
        assert self.bot.balances == self.venue.balances

    def story(self) -> list[Row]:
        """What was traded, whatever the orders' ids: see `story_of`."""
        return sorted((row[1], row[2], row[3], row[4], row[5], row[7]) for row in self.bot.fills.values())


def read_ledgers(bot: Store, venue: Store) -> Ledgers:
    """Both books from both databases.

    The bot's balances are not taken from any table of its own: they are what its account was opened with and its fills.
    """
    with bot.reading() as tx:
        orders, fills = tx.find(Order), tx.find(Fill)
        opened = tx.get(Snapshot, ACCOUNT)
    assert opened is not None, "the bot has no account"
    with venue.reading() as tx:
        venue_orders, venue_fills, balances = tx.find(VenueOrder), tx.find(VenueFill), tx.find(VenueBalance)
    twice = [name for name, count in Counter(order.client_order_id for order in venue_orders).items() if count > 1]
    assert not twice, f"sent twice: {twice}"
    start = {currency: Decimal(amount) for currency, amount in opened.value["start"].items()}
    return Ledgers(
        bot=Book(
            {order.client_order_id: _order(order) for order in orders if order.status not in _NEVER_THERE},
            {(fill.symbol, fill.trade_id): _fill(fill, milliseconds(fill.date)) for fill in fills},
            _folded(start, fills),
        ),
        venue=Book(
            {order.client_order_id: _order(order) for order in venue_orders},
            {(fill.symbol, str(fill.trade_id)): _fill(fill, fill.time) for fill in venue_fills},
            {row.currency: row.free + row.used for row in balances if row.free + row.used},
        ),
        never_there=tuple(order for order in orders if order.status in _NEVER_THERE),
    )


def story_of(store: Store) -> list[Row]:
    """A store's fills as (symbol, side, price, quantity, fee, market time)."""
    with store.reading() as tx:
        fills = tx.find(Fill)
    return sorted((f.symbol, f.side, f.price, f.quantity, f.fee, milliseconds(f.date)) for f in fills)


def fills_of(store: Store) -> list[Row]:
    """A store's fills without what a venue or a run numbers by itself, in the order they were made."""
    with store.reading() as tx:
        fills = tx.find(Fill)
    rows = [
        (milliseconds(f.date), f.symbol, f.client_order_id, f.side, f.price, f.quantity, f.fee, f.fee_currency)
        for f in fills
    ]
    return sorted(rows)


def decisions_of(store: Store) -> list[Row]:
    """A store's decisions, all but the run's name; floats are compared bit for bit."""
    with store.reading() as tx:
        decisions = tx.find(Decision)
    return sorted(
        (
            d.time,
            d.symbol,
            d.regime,
            tuple(sorted((name, weight.hex()) for name, weight in d.weights.items())),
            tuple(sorted((name, side, float(confidence).hex()) for name, (side, confidence) in d.signals.items())),
            d.score.hex(),
            d.side,
            d.outcome,
            d.reason,
            tuple(sorted(d.model_versions.items())),
            tuple(sorted(d.notes.items())),
            d.client_order_id or "",
        )
        for d in decisions
    )


def milliseconds(date: datetime) -> int:
    return round(date.timestamp() * 1000)


def _order(order: Order | VenueOrder) -> Row:
    return (order.symbol, order.side, order.order_type, order.quantity, order.status, order.filled, order.cost)


def _fill(fill: Fill | VenueFill, time: int) -> Row:
    return (
        fill.client_order_id,
        fill.symbol,
        fill.side,
        fill.price,
        fill.quantity,
        fill.fee,
        fill.fee_currency,
        time,
    )


def _folded(start: dict[str, Decimal], fills: list[Fill]) -> dict[str, Decimal]:
    held = dict(start)
    for fill in fills:
        base, _, quote = fill.symbol.partition("/")
        sign = 1 if fill.side is Side.BUY else -1
        for currency, change in (
            (base, sign * fill.quantity),
            (quote, -sign * fill.price * fill.quantity),
            (fill.fee_currency, -fill.fee),
        ):
            held[currency] = held.get(currency, Decimal(0)) + change
    return {currency: amount for currency, amount in held.items() if amount}
