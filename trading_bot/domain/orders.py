"""Orders and what becomes of them. The state machine is a table; money is Decimal."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from trading_bot.errors import InvalidTransition


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"


class TimeInForce(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class Purpose(StrEnum):
    """Why an order exists; its value is the letter in the client order id."""

    ENTRY = "e"
    EXIT = "x"
    STOP = "s"
    FLATTEN = "f"


class OrderStatus(StrEnum):
    """NEW: intended, durably. SENT: durably about to be on the wire. UNKNOWN: the venue's answer was not clear.

    ABANDONED: never reached the venue as far as it can tell, and no longer wanted; its id is still watched.
    """

    NEW = "new"
    SENT = "sent"
    OPEN = "open"
    UNKNOWN = "unknown"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    ABANDONED = "abandoned"


_S = OrderStatus
_ENDED = frozenset({_S.FILLED, _S.CANCELED, _S.EXPIRED})
TRANSITIONS: dict[OrderStatus, frozenset[OrderStatus]] = {
    _S.NEW: frozenset({_S.SENT, _S.ABANDONED}),
    _S.SENT: _ENDED | {_S.OPEN, _S.UNKNOWN, _S.REJECTED, _S.ABANDONED},
    _S.UNKNOWN: _ENDED | {_S.OPEN, _S.UNKNOWN, _S.REJECTED, _S.ABANDONED},
    _S.OPEN: _ENDED | {_S.OPEN},
    _S.FILLED: frozenset(),
    _S.CANCELED: frozenset(),
    _S.EXPIRED: frozenset(),
    _S.REJECTED: frozenset(),
    _S.ABANDONED: _ENDED | {_S.OPEN},  # it turned up after all
}
LIVE = frozenset({_S.NEW, _S.SENT, _S.OPEN, _S.UNKNOWN})  # may still change the account


@dataclass(frozen=True, slots=True)
class Order:
    """One order under our own client order id. `quantity` in base units, `price` in quote per base."""

    client_order_id: str
    symbol: str
    side: Side
    order_type: OrderType
    quantity: Decimal
    purpose: Purpose
    bar_time: int  # open of the bar whose close led to this order, UTC ms
    order_date: datetime
    reason: str = ""  # enter_tag of an entry, exit_reason of an exit
    price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    attempt: int = 1
    status: OrderStatus = OrderStatus.NEW
    filled: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)  # quote paid or received for `filled`, before fees
    exchange_order_id: str | None = None
    sent_date: datetime | None = None  # wall clock, for the patience with an unclear answer
    order_filled_date: datetime | None = None
    not_found: int = 0  # how often the venue said it does not know this order
    message: str = ""  # the venue's words, where it rejected
    stop_price: Decimal | None = None  # the protective stop an entry was sized by, or the stop an exit was triggered by
    run_id: str = ""

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.filled

    @property
    def average(self) -> Decimal | None:
        """Mean fill price, or None before the first fill."""
        return self.cost / self.filled if self.filled else None

    @property
    def is_live(self) -> bool:
        return self.status in LIVE

    def moved(self, status: OrderStatus, **changes: Any) -> Order:
        """This order in another state.

        Raises
        ------
        InvalidTransition
            If the table has no arrow from here to there.
        """
        if status is not self.status and status not in TRANSITIONS[self.status]:
            raise InvalidTransition(f"order {self.client_order_id} cannot go from {self.status} to {status}")
        return dataclasses.replace(self, status=status, **changes)


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution. Unique by (venue, symbol, trade_id)."""

    venue: str
    trade_id: str
    client_order_id: str
    exchange_order_id: str
    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    date: datetime  # market time
    is_maker: bool = False


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What a venue says of one order now."""

    client_order_id: str
    exchange_order_id: str
    symbol: str
    side: Side
    status: OrderStatus  # OPEN, FILLED, CANCELED, EXPIRED or REJECTED
    quantity: Decimal
    filled: Decimal
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Accepted:
    """The venue has the order; `fills` are those it told at once (there may be more)."""

    report: OrderReport
    fills: tuple[Fill, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """The venue definitely does not have the order, and says why."""

    code: str
    message: str
    denied: bool = False  # it refuses our key, not this order: nothing more should be sent


@dataclass(frozen=True, slots=True)
class Unclear:
    """Nobody knows yet whether the venue has the order."""

    cause: str


SubmitOutcome = Accepted | Rejected | Unclear


@dataclass(frozen=True, slots=True)
class Denied:
    """Our own risk said no (a venue *rejects*, we *deny*)."""

    reason: str


def client_order_id(bot_id: str, symbol: str, bar_time: int, purpose: Purpose, attempt: int) -> str:
    """Deterministic id of at most 36 characters out of [a-zA-Z0-9-], e.g. ``tb7f3a-BTCUSDT-1609459200-e-1``."""
    name = "".join(character for character in symbol if character.isascii() and character.isalnum())
    if len(name) > 12 or not name:
        name = name[:6] + hashlib.sha256(symbol.encode()).hexdigest()[:6]
    return f"{bot_id[:8]}-{name}-{bar_time // 1000}-{purpose.value}-{attempt}"
