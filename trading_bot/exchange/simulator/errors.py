"""Binance's error codes, and which of them a refusal of the simulated venue becomes."""

from __future__ import annotations

from collections.abc import Mapping

from trading_bot.exchange.venue import RejectReason, VenueReject

_REFUSALS = {
    RejectReason.UNKNOWN_SYMBOL: (-1121, "Invalid symbol."),
    RejectReason.MARKET_CLOSED: (-1013, "Market is closed."),
    RejectReason.NO_PRICE: (-1013, "Market is closed."),
    RejectReason.BAD_PARAMETER: (-1128, "Combination of optional parameters invalid."),
    RejectReason.PRICE_FILTER: (-1013, "Filter failure: PRICE_FILTER"),
    RejectReason.LOT_SIZE: (-1013, "Filter failure: LOT_SIZE"),
    RejectReason.NOTIONAL: (-1013, "Filter failure: NOTIONAL"),
    RejectReason.INSUFFICIENT_BALANCE: (-2010, "Account has insufficient balance for requested action."),
    RejectReason.DUPLICATE_ORDER: (-2010, "Duplicate order sent."),
    RejectReason.UNKNOWN_ORDER: (-2011, "Unknown order sent."),
}


class ApiError(Exception):
    """What the exchange answers instead of a result: an HTTP status and ``{"code": …, "msg": …}``."""

    def __init__(self, code: int, message: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.headers = dict(headers or {})


def missing(name: str) -> ApiError:
    """A parameter that has to be there is not."""
    return ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def illegal(name: str, legal: str) -> ApiError:
    """A parameter holds characters that it may not."""
    return ApiError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def invalid(name: str) -> ApiError:
    """A parameter is readable but makes no sense."""
    return ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")


def bad_symbol() -> ApiError:
    return ApiError(-1121, "Invalid symbol.")


def refused(refusal: VenueReject) -> ApiError:
    """The venue's refusal in Binance's words, which clients tell errors apart by."""
    return ApiError(*_REFUSALS[refusal.reason])
