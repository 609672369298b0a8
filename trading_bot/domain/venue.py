"""A simulated venue's ledger (local exchange or paper venue): the venue's side of the truth, apart from ours."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from trading_bot.domain.orders import OrderStatus, OrderType, Side, TimeInForce


@dataclass(frozen=True, slots=True)
class VenueOrder:
    """One order in the venue's book. `order_id` counts up over all symbols; times are market time in UTC ms."""

    order_id: int
    client_order_id: str
    symbol: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    quantity: Decimal
    price: Decimal | None
    status: OrderStatus
    filled: Decimal
    cost: Decimal  # quote exchanged for `filled`, before fees
    reserved: Decimal  # still set aside: quote for a buy, base for a sell
    queue_ahead: int  # lots that stand before a resting limit order
    time: int
    update_time: int


@dataclass(frozen=True, slots=True)
class VenueFill:
    """One execution in the venue's books."""

    trade_id: int
    order_id: int
    client_order_id: str
    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    is_maker: bool
    time: int


@dataclass(frozen=True, slots=True)
class VenueBalance:
    """One currency in the venue's books."""

    currency: str
    free: Decimal
    used: Decimal
