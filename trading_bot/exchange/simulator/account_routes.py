"""What the account's owner may do: place, ask, cancel; and what ccxt asks beside it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from trading_bot.domain.orders import OrderType, Side, TimeInForce
from trading_bot.domain.venue import VenueFill, VenueOrder
from trading_bot.exchange.simulator import errors, shapes
from trading_bot.exchange.simulator.errors import ApiError
from trading_bot.exchange.simulator.exchange import LocalExchange
from trading_bot.exchange.simulator.params import Params
from trading_bot.exchange.simulator.shapes import Json
from trading_bot.exchange.venue import VenueReject

T = TypeVar("T")

_MOST_ROWS = 1000
_ANSWER_KINDS = ("ACK", "RESULT", "FULL")


def account(exchange: LocalExchange, params: Params) -> Json:
    instrument = next(iter(exchange.venue.instruments.values()))
    kept = list(exchange.venue.balances().values())
    if params.optional("omitZeroBalances") == "true":
        kept = [balance for balance in kept if balance.total]
    return shapes.account_json(kept, instrument.maker_fee, instrument.taker_fee, exchange.market.now())


def place(exchange: LocalExchange, params: Params) -> Json:
    kind = params.optional("newOrderRespType") or "FULL"
    if kind not in _ANSWER_KINDS:
        raise errors.invalid("newOrderRespType")
    order, fills = _ask_venue(_placement(exchange, params))
    return shapes.placed_json(order, fills, kind)


def try_order(exchange: LocalExchange, params: Params) -> Json:
    """Parameters only: Binance does not ask its matching engine either."""
    _placement(exchange, params)
    return {}


def one_order(exchange: LocalExchange, params: Params) -> Json:
    symbol, ids = _identity(exchange, params)
    order = exchange.venue.order(symbol, **ids)
    if order is None:
        raise ApiError(-2013, "Order does not exist.")
    return shapes.order_json(order)


def cancel(exchange: LocalExchange, params: Params) -> Json:
    symbol, ids = _identity(exchange, params)
    order = _ask_venue(lambda: exchange.venue.cancel(symbol, time=exchange.market.now(), **ids))
    return shapes.canceled_json(order, params.client_order_id("newClientOrderId") or uuid.uuid4().hex[:22])


def open_orders(exchange: LocalExchange, params: Params) -> list[Json]:
    symbol = exchange.instrument(params.text("symbol")).symbol if params.has("symbol") else None
    return [shapes.order_json(order) for order in exchange.venue.open_orders(symbol)]


def cancel_all(exchange: LocalExchange, params: Params) -> list[Json]:
    symbol = exchange.instrument(params.text("symbol")).symbol
    standing = exchange.venue.open_orders(symbol)
    if not standing:
        raise ApiError(-2011, "Unknown order sent.")
    now = exchange.market.now()
    ended = [exchange.venue.cancel(symbol, time=now, order_id=order.order_id) for order in standing]
    return [shapes.canceled_json(order, uuid.uuid4().hex[:22]) for order in ended]


def all_orders(exchange: LocalExchange, params: Params) -> list[Json]:
    symbol = exchange.instrument(params.text("symbol")).symbol
    until = params.integer("endTime")
    found = exchange.venue.orders(
        symbol,
        from_id=params.integer("orderId"),
        since=params.integer("startTime"),
        limit=params.limit(500, _MOST_ROWS),
    )
    return [shapes.order_json(order) for order in found if until is None or order.time <= until]


def my_trades(exchange: LocalExchange, params: Params) -> list[Json]:
    symbol = exchange.instrument(params.text("symbol")).symbol
    until = params.integer("endTime")
    found = exchange.venue.fills(
        symbol,
        since=params.integer("startTime"),
        from_id=params.integer("fromId"),
        order_id=params.integer("orderId"),
        limit=params.limit(500, _MOST_ROWS),
    )
    return [shapes.trade_json(fill) for fill in found if until is None or fill.time <= until]


def system_status(exchange: LocalExchange, params: Params) -> Json:
    return {"status": 0, "msg": "normal"}


def coins(exchange: LocalExchange, params: Params) -> list[Json]:
    """Every currency, without any network to move it over: coins do not leave this exchange."""
    return [
        {
            "coin": balance.currency,
            "name": balance.currency,
            "free": shapes.plain(balance.free),
            "locked": shapes.plain(balance.used),
            "freeze": "0",
            "withdrawing": "0",
            "ipoing": "0",
            "ipoable": "0",
            "storage": "0",
            "depositAllEnable": False,
            "withdrawAllEnable": False,
            "trading": True,
            "isLegalMoney": False,
            "networkList": [],
        }
        for balance in exchange.venue.balances().values()
    ]


def trade_fees(exchange: LocalExchange, params: Params) -> list[Json]:
    wanted = params.optional("symbol")
    instruments = [exchange.instrument(wanted)] if wanted else list(exchange.instruments.values())
    return [
        {
            "symbol": shapes.symbol_id(instrument.symbol),
            "makerCommission": shapes.plain(instrument.maker_fee),
            "takerCommission": shapes.plain(instrument.taker_fee),
        }
        for instrument in instruments
    ]


def nothing(exchange: LocalExchange, params: Params) -> list[Json]:
    """Margin trading: no pairs."""
    return []


def no_contracts(exchange: LocalExchange, params: Params) -> Json:
    """Futures: no symbols."""
    return {"timezone": "UTC", "serverTime": 0, "rateLimits": [], "exchangeFilters": [], "symbols": []}


def _placement(exchange: LocalExchange, params: Params) -> Callable[[], tuple[VenueOrder, tuple[VenueFill, ...]]]:
    """The order that `params` ask for, checked, not yet placed."""
    instrument = exchange.instrument(params.text("symbol"))
    side = Side(params.choice("side", {"BUY", "SELL"}, ApiError(-1117, "Invalid side.")).lower())
    kind = params.choice("type", shapes.ORDER_TYPES, ApiError(-1116, "Invalid orderType."))
    client_order_id = params.client_order_id("newClientOrderId")
    quantity, price = params.decimal("quantity"), params.decimal("price")
    quote = params.decimal("quoteOrderQty")
    for name in ("stopPrice", "icebergQty"):
        if params.has(name):
            raise _not_required(name)
    time_in_force = TimeInForce.GTC
    if kind == "LIMIT":
        wrong = ApiError(-1115, "Invalid timeInForce.")
        time_in_force = TimeInForce(params.choice("timeInForce", set(TimeInForce), wrong))
        for name, value in (("quantity", quantity), ("price", price)):
            if value is None:
                raise errors.missing(name)
        if quote is not None:
            raise _not_required("quoteOrderQty")
    else:
        for name in ("timeInForce", "price"):
            if params.has(name):
                raise _not_required(name)
        if quantity is None and quote is None:
            raise errors.missing("quantity")
    if len(exchange.venue.open_orders(instrument.symbol)) >= shapes.MOST_OPEN_ORDERS:
        raise ApiError(-1013, "Filter failure: MAX_NUM_ORDERS")
    return lambda: exchange.venue.place(
        instrument.symbol,
        side,
        OrderType(kind.lower()),
        time=exchange.market.now(),
        time_in_force=time_in_force,
        quantity=quantity,
        quote_quantity=quote,
        price=price,
        client_order_id=client_order_id,
    )


def _identity(exchange: LocalExchange, params: Params) -> tuple[str, dict[str, Any]]:
    symbol = exchange.instrument(params.text("symbol")).symbol
    order_id = params.integer("orderId")
    if order_id is not None:  # Binance lets it win where both are given
        return symbol, {"order_id": order_id}
    client_order_id = params.client_order_id("origClientOrderId")
    if client_order_id is None:
        raise ApiError(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
    return symbol, {"client_order_id": client_order_id}


def _not_required(name: str) -> ApiError:
    return ApiError(-1106, f"Parameter '{name}' sent when not required.")


def _ask_venue(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except VenueReject as refusal:
        raise errors.refused(refusal) from None
