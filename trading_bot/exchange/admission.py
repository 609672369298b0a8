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


_HIGHEST = Decimal(10**12)  # of a price or an amount of quote
_DIGITS = 40  # of any number that can be meant


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
    if not price.is_finite() or price <= 0 or price >= _HIGHEST or not _is_multiple(price, instrument.tick):
        raise VenueReject(
            RejectReason.PRICE_FILTER,
            f"price {plain(price)} should be above 0 and a multiple of {plain(instrument.tick)}",
        )
    return Wish(is_buy, whole_lots(instrument, quantity), int(price // instrument.tick))


def whole_lots(instrument: Instrument, quantity: Decimal | None) -> int:
    """`quantity` in lots, if it passes the quantity filter."""
    if quantity is None:
        raise VenueReject(RejectReason.BAD_PARAMETER, "an order wants a quantity")
    low, high = instrument.min_quantity, instrument.max_quantity
    is_in_range = quantity.is_finite() and low <= quantity <= high and quantity > 0
    if not is_in_range or not _is_multiple(quantity, instrument.lot):
        raise VenueReject(
            RejectReason.LOT_SIZE,
            f"quantity {plain(quantity)} should be between {plain(low)} and {plain(high)} "
            f"and a multiple of {plain(instrument.lot)}",
        )
    return int(quantity // instrument.lot)


def quote_amount(quantity: Decimal | None, quote_quantity: Decimal) -> Decimal:
    """An amount of quote to spend on (or get for) a market order."""
    is_in_range = _is_short(quote_quantity) and 0 < quote_quantity < _HIGHEST
    if quantity is not None or not is_in_range:
        raise VenueReject(
            RejectReason.BAD_PARAMETER, "a market order wants a quantity or a quote quantity above 0, not both"
        )
    return quote_quantity


def _is_multiple(number: Decimal, step: Decimal) -> bool:
    return _is_short(number) and number % step == 0


def _is_short(number: Decimal) -> bool:
    """Whether exact arithmetic can be done with it at all."""
    return number.is_finite() and abs(number.adjusted()) < _DIGITS and len(number.as_tuple().digits) <= _DIGITS


def plain(number: Decimal) -> str:
    """`number` without exponent or trailing zeros: the same words whether it comes from memory or a database."""
    return format(number.normalize(), "f") if _is_short(number) else str(number)


def check_notional(instrument: Instrument, wish: Wish, price_ticks: int) -> None:
    """A limit order is worth its limit, a market order the current price."""
    quantity, price = instrument.quantity(wish.lots), instrument.price(wish.limit or price_ticks)
    if quantity * price < instrument.min_notional:
        raise VenueReject(
            RejectReason.NOTIONAL,
            f"{plain(quantity)} {instrument.base} at {plain(price)} is worth {plain(quantity * price)} "
            f"{instrument.quote}, wanted at least {plain(instrument.min_notional)}",
        )
