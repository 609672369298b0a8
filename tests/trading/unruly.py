"""A venue with books of its own that answers late, wrongly, twice or not at all, as it is told to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from tests.fakes import MemoryStore, MemoryTx
from trading_bot.domain.account import Balance
from trading_bot.domain.market import Instrument
from trading_bot.domain.orders import (
    TRANSITIONS,
    Accepted,
    Fill,
    Order,
    OrderReport,
    OrderStatus,
    Rejected,
    Side,
    SubmitOutcome,
    Unclear,
)
from trading_bot.errors import ExchangeUnreachable

OPEN = OrderStatus.OPEN
ZERO = Decimal(0)


@dataclass(slots=True)
class Placed:
    """An order in the venue's book."""

    number: int
    order: Order
    hidden_until: datetime  # look-ups say "not found" before
    status: OrderStatus = OPEN
    filled: Decimal = ZERO
    cost: Decimal = ZERO


@dataclass(slots=True)
class Mood:
    """How the venue behaves; probabilities."""

    lost: float = 0.0  # a submit that never arrives, and nobody knows
    unanswered: float = 0.0  # a submit that arrives, and nobody knows
    down: float = 0.0  # a question without an answer
    hidden: float = 0.0  # seconds an order stays unknown to look-ups
    late_fills: float = 0.0  # a fill that the list does not show yet
    at_once: float = 1.0  # how much of an order is filled when it arrives


@dataclass
class UnrulyVenue:
    """`ports.Broker` with ground truth. `dedup`: when the venue refuses a client order id it has seen."""

    instruments_: Mapping[str, Instrument]
    random: Random
    dedup: str = "open"  # global, open, none
    balances_: dict[str, Decimal] = field(default_factory=dict)
    mood: Mood = field(default_factory=Mood)
    venue: str = "unruly"
    time: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    placed: list[Placed] = field(default_factory=list)
    executed: list[Fill] = field(default_factory=list)
    submits: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    on_submit: Callable[[Order], None] = lambda order: None
    outcome: Callable[[Order], SubmitOutcome] | None = None  # instead of what it would do by itself
    look: Callable[[str], OrderReport | None] | None = None

    # ── the broker's side ──────────────────────────────────────────────────────────────────────────────────────────

    def instruments(self) -> Mapping[str, Instrument]:
        return self.instruments_

    def submit(self, order: Order) -> SubmitOutcome:
        self.on_submit(order)
        self.submits[order.client_order_id] += 1
        return self.take(order) if self.outcome is None else self.outcome(order)

    def take(self, order: Order) -> SubmitOutcome:
        """What becomes of an order that was sent."""
        if self._happens(self.mood.lost):
            return Unclear("timed out on the way there")
        same = [p for p in self.placed if p.order.client_order_id == order.client_order_id]
        if (self.dedup == "global" and same) or (self.dedup == "open" and any(p.status is OPEN for p in same)):
            return Unclear("Duplicate order sent")
        if not self._affordable(order):
            return Rejected("-2010", "Account has insufficient balance for requested action.")
        hidden = timedelta(seconds=self.mood.hidden)
        placed = Placed(len(self.placed) + 1, order, self.time + hidden)
        self.placed.append(placed)
        fills = self.execute(placed, self.mood.at_once)
        if self._happens(self.mood.unanswered):
            return Unclear("timed out on the way back")
        told = tuple(fills if self.random.random() < 0.7 else ())
        return Accepted(self._report(placed), told * self.random.choice((1, 1, 2)))

    def cancel(self, order: Order) -> None:
        self._ask()
        for placed in self.placed:
            if placed.order.client_order_id == order.client_order_id and placed.status is OPEN:
                if self._happens(0.3):  # it fills while the cancel is on its way
                    self.execute(placed, self.random.choice((0.5, 1.0)))
                if placed.status is OPEN:
                    placed.status = OrderStatus.CANCELED
        self._ask()

    def look_up(self, client_order_id: str, symbol: str) -> OrderReport | None:
        if self.look is not None:
            return self.look(client_order_id)
        self._ask()
        same = [p for p in self.placed if p.order.client_order_id == client_order_id and p.order.symbol == symbol]
        visible = [p for p in same if self.time >= p.hidden_until]
        return self._report(visible[-1]) if visible else None

    def open_orders(self) -> Sequence[OrderReport]:
        self._ask()
        return [self._report(p) for p in self.placed if p.status is OPEN]

    def fills(self, symbol: str, since: int) -> Sequence[Fill]:
        """Executions, some of them not yet there, some twice, in any order, under the venue's own ids only."""
        self._ask()
        wanted = [f for f in self.executed if f.symbol == symbol and f.date.timestamp() * 1000 >= since]
        shown = [f for f in wanted if self.random.random() >= self.mood.late_fills]
        if self.mood.late_fills:
            shown += [f for f in shown if self.random.random() < 0.2]
            self.random.shuffle(shown)
        return shown

    def balances(self) -> Mapping[str, Balance]:
        self._ask()
        return {currency: Balance(currency, amount) for currency, amount in self.balances_.items()}

    # ── the market's side ──────────────────────────────────────────────────────────────────────────────────────────

    def execute(self, placed: Placed, part: float) -> list[Fill]:
        """Fill `part` of what is left of an order, in one or two executions."""
        instrument = self.instruments_[placed.order.symbol]
        left = placed.order.quantity - placed.filled
        lots = instrument.lots(left * Decimal(repr(part)))
        pieces = [lots // 3, lots - lots // 3] if lots > 3 and self.random.random() < 0.5 else [lots]
        fills = [self._fill(placed, instrument.quantity(piece)) for piece in pieces if piece]
        if placed.filled == placed.order.quantity:
            placed.status = OrderStatus.FILLED
        return fills

    def calm(self) -> None:
        """From now on everything works and everything is seen."""
        self.mood = Mood()
        for placed in self.placed:
            placed.hidden_until = self.time

    def _fill(self, placed: Placed, quantity: Decimal) -> Fill:
        order, instrument = placed.order, self.instruments_[placed.order.symbol]
        price = instrument.price(instrument.ticks(Decimal(100)) + self.random.randrange(-50, 50))
        buys = order.side is Side.BUY
        fee, currency = (
            (quantity * instrument.taker_fee, instrument.base)
            if buys
            else (quantity * price * instrument.taker_fee, instrument.quote)
        )
        fill = Fill(
            self.venue, str(len(self.executed) + 1), "", str(placed.number), order.symbol, order.side, price,
            quantity, fee, currency, self.time + timedelta(milliseconds=len(self.executed)),
        )  # fmt: skip
        sign = 1 if buys else -1
        for name, amount in (
            (instrument.base, sign * quantity),
            (instrument.quote, -sign * quantity * price),
            (currency, -fee),
        ):
            self.balances_[name] = self.balances_.get(name, ZERO) + amount
        self.executed.append(fill)
        placed.filled += quantity
        placed.cost += quantity * price
        return fill

    def _affordable(self, order: Order) -> bool:
        instrument = self.instruments_[order.symbol]
        if order.side is Side.SELL:
            pledged = sum(
                (p.order.quantity - p.filled for p in self.placed
                 if p.status is OPEN and p.order.side is Side.SELL and p.order.symbol == order.symbol), ZERO,
            )  # fmt: skip
            return self.balances_.get(instrument.base, ZERO) - pledged >= order.quantity
        return self.balances_.get(instrument.quote, ZERO) >= order.quantity * 110

    def _report(self, placed: Placed) -> OrderReport:
        order = placed.order
        return OrderReport(
            order.client_order_id, str(placed.number), order.symbol, order.side, placed.status, order.quantity,
            placed.filled, placed.cost,
        )  # fmt: skip

    def _happens(self, chance: float) -> bool:
        happens = self.random.random() < chance
        self.faults += happens
        return happens

    def _ask(self) -> None:
        if self._happens(self.mood.down):
            raise ExchangeUnreachable("no answer")


class WatchedStore(MemoryStore):
    """A store that refuses an order's illegal step, and remembers the moments an order was durably SENT."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: set[str] = set()

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        with super().transaction() as tx:
            yield _WatchedTx(tx)
        with self.reading() as now:
            self.sent |= {o.client_order_id for o in now.find(Order) if o.status is not OrderStatus.NEW}


class _WatchedTx:
    def __init__(self, inner: MemoryTx) -> None:
        self._inner = inner

    def update(self, record: Any) -> None:
        if isinstance(record, Order):
            before = self._inner.get(Order, record.client_order_id)
            assert before is not None, f"{record.client_order_id} was never intended"
            legal = record.status is before.status or record.status in TRANSITIONS[before.status]
            assert legal, f"{record.client_order_id} went from {before.status} to {record.status}"
            assert before.filled <= record.filled <= record.quantity, f"{record.client_order_id} is overfilled"
        self._inner.update(record)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def unchanged(fill: Fill) -> tuple[Any, ...]:
    """What the venue and we must agree on about an execution."""
    return (fill.symbol, fill.trade_id, fill.side, fill.price, fill.quantity, fill.fee, fill.fee_currency)
