"""What a simulated venue takes and what it refuses: its filters, and the reasons it gives."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from trading_bot.domain.market import Instrument


class RejectReason(StrEnum):
    """Why a venue refuses an order (or a question about one)."""

    UNKNOWN_SYMBOL = "UNKNOWN_SYMBOL"
    MARKET_CLOSED = "MARKET_CLOSED"
    NO_PRICE = "NO_PRICE"
    BAD_PARAMETER = "BAD_PARAMETER"
    PRICE_FILTER = "PRICE_FILTER"
    LOT_SIZE = "LOT_SIZE"
    NOTIONAL = "NOTIONAL"
    INSUFFICIENT_BALANCE = "INSUFFICIENT_BALANCE"
    DUPLICATE_ORDER = "DUPLICATE_ORDER"
    UNKNOWN_ORDER = "UNKNOWN_ORDER"


class VenueReject(Exception):
    """The venue said no, and nothing has changed."""

    def __init__(self, reason: RejectReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


_HIGHEST_PRICE = Decimal(10**12)


class Wish(NamedTuple):
    """An order in whole ticks and lots; `limit` 0 for a market order."""

    is_buy: bool
    lots: int
    limit: int


def tradable(instruments: Mapping[str, Instrument], symbol: str) -> Instrument:
    """The instrument of an open market."""
    instrument = instruments.get(symbol)
    if instrument is None:
        raise VenueReject(RejectReason.UNKNOWN_SYMBOL, f"no market {symbol!r}; there are {', '.join(instruments)}")
    if not instrument.active:
        raise VenueReject(RejectReason.MARKET_CLOSED, f"{symbol} is not being traded")
    return instrument


def limit_wish(
    is_buy: bool,
    quantity: Decimal | None,
    quote_quantity: Decimal | None,
    price: Decimal | None,
    instrument: Instrument,
) -> Wish:
    """A limit order that passes the price and quantity filters."""
    if quote_quantity is not None or price is None:
        raise VenueReject(RejectReason.BAD_PARAMETER, "a limit order wants a quantity and a price")
    if not price.is_finite() or price <= 0 or price >= _HIGHEST_PRICE or price % instrument.tick:
        raise VenueReject(
            RejectReason.PRICE_FILTER, f"price {price} should be above 0 and a multiple of {instrument.tick}"
        )
    return Wish(is_buy, whole_lots(instrument, quantity), int(price // instrument.tick))


def whole_lots(instrument: Instrument, quantity: Decimal | None) -> int:
    """`quantity` in lots, if it passes the quantity filter."""
    if quantity is None:
        raise VenueReject(RejectReason.BAD_PARAMETER, "an order wants a quantity")
    low, high = instrument.min_quantity, instrument.max_quantity
    if not quantity.is_finite() or not low <= quantity <= high or quantity <= 0 or quantity % instrument.lot:
        raise VenueReject(
            RejectReason.LOT_SIZE,
            f"quantity {quantity} should be between {low} and {high} and a multiple of {instrument.lot}",
        )
    return int(quantity // instrument.lot)


def check_notional(instrument: Instrument, wish: Wish, price_ticks: int) -> None:
    """A limit order is worth its limit, a market order the current price."""
    quantity, price = instrument.quantity(wish.lots), instrument.price(wish.limit or price_ticks)
    if quantity * price < instrument.min_notional:
        raise VenueReject(
            RejectReason.NOTIONAL,
            f"{quantity} {instrument.base} at {price} is worth {quantity * price} {instrument.quote}, "
            f"wanted at least {instrument.min_notional}",
        )
