"""The exchange's routes in one table, and what happens around every one of them: limits, signatures, errors, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loguru import logger
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trading_bot.errors import CandleDataError, StorageError
from trading_bot.exchange.simulator import account_routes as account
from trading_bot.exchange.simulator import market_routes as market
from trading_bot.exchange.simulator.auth import Credentials, check_signed
from trading_bot.exchange.simulator.control_routes import Control
from trading_bot.exchange.simulator.errors import ApiError
from trading_bot.exchange.simulator.exchange import LocalExchange
from trading_bot.exchange.simulator.faults import Faults
from trading_bot.exchange.simulator.params import Params

Handler = Callable[[LocalExchange, Params], Any]
_NONE: frozenset[str] = frozenset()
_SYMBOL = frozenset({"symbol"})
_SYMBOLS = frozenset({"symbol", "symbols", "type", "symbolStatus"})
_SPAN = frozenset({"symbol", "startTime", "endTime", "fromId", "limit"})
_ORDER_ID = frozenset({"symbol", "orderId", "origClientOrderId"})
_NEW_ORDER = frozenset(
    {"symbol", "side", "type", "timeInForce", "quantity", "quoteOrderQty", "price", "newClientOrderId"}
    | {"newOrderRespType", "selfTradePreventionMode", "strategyId", "strategyType", "stopPrice", "icebergQty"}
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route. `weight` counts against the request limit; `wide_weight` instead of it when no symbol is given."""

    method: str
    path: str
    handle: Handler
    weight: int
    allowed: frozenset[str] = _NONE
    signed: bool = False
    orders: int = 0
    wide_weight: int | None = field(default=None)


ENDPOINTS = (
    Endpoint("GET", "/api/v3/ping", market.ping, 1),
    Endpoint("GET", "/api/v3/time", market.server_time, 1),
    Endpoint(
        "GET",
        "/api/v3/exchangeInfo",
        market.exchange_info,
        20,
        _SYMBOLS | {"permissions", "showPermissionSets"},
    ),
    Endpoint("GET", "/api/v3/klines", market.klines, 2, _SPAN - {"fromId"} | {"interval", "timeZone"}),
    Endpoint("GET", "/api/v3/ticker/24hr", market.ticker_24h, 2, _SYMBOLS, wide_weight=80),
    Endpoint("GET", "/api/v3/ticker/price", market.ticker_price, 2, _SYMBOLS, wide_weight=4),
    Endpoint("GET", "/api/v3/ticker/bookTicker", market.book_ticker, 2, _SYMBOLS, wide_weight=4),
    Endpoint("GET", "/api/v3/depth", market.depth, 5, _SYMBOL | {"limit"}),
    Endpoint("GET", "/api/v3/trades", market.trades, 25, _SYMBOL | {"limit"}),
    Endpoint("GET", "/api/v3/aggTrades", market.aggregate_trades, 4, _SPAN),
    Endpoint("GET", "/api/v3/account", account.account, 20, frozenset({"omitZeroBalances"}), True),
    Endpoint("POST", "/api/v3/order", account.place, 1, _NEW_ORDER, True, orders=1),
    Endpoint("POST", "/api/v3/order/test", account.try_order, 1, _NEW_ORDER | {"computeCommissionRates"}, True),
    Endpoint("GET", "/api/v3/order", account.one_order, 4, _ORDER_ID, True),
    Endpoint(
        "DELETE", "/api/v3/order", account.cancel, 1, _ORDER_ID | {"newClientOrderId", "cancelRestrictions"}, True
    ),
    Endpoint("GET", "/api/v3/openOrders", account.open_orders, 6, _SYMBOL, True, wide_weight=80),
    Endpoint("DELETE", "/api/v3/openOrders", account.cancel_all, 1, _SYMBOL, True),
    Endpoint("GET", "/api/v3/allOrders", account.all_orders, 20, _SPAN - {"fromId"} | {"orderId"}, True),
    Endpoint("GET", "/api/v3/myTrades", account.my_trades, 20, _SPAN | {"orderId"}, True),
    Endpoint("GET", "/sapi/v1/system/status", account.system_status, 1),
    Endpoint("GET", "/sapi/v1/capital/config/getall", account.coins, 10, signed=True),
    Endpoint("GET", "/sapi/v1/asset/tradeFee", account.trade_fees, 1, _SYMBOL, True),
    Endpoint("GET", "/sapi/v1/margin/allPairs", account.nothing, 1, signed=True),
    Endpoint("GET", "/sapi/v1/margin/isolated/allPairs", account.nothing, 1, signed=True),
    Endpoint("GET", "/fapi/v1/exchangeInfo", account.no_contracts, 1),
    Endpoint("GET", "/dapi/v1/exchangeInfo", account.no_contracts, 1),
)
_JSON = "application/json;charset=UTF-8"


def create_app(exchange: LocalExchange, credentials: Credentials, stop: Callable[[], None] = lambda: None) -> Faults:
    """The exchange as an ASGI application.

    Parameters
    ----------
    credentials
        Of the one account it has.
    stop
        Called when the control route asks for the server's end.
    """
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in ENDPOINTS:
        by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    routes = [
        Route(path, _answering(exchange, credentials, methods), methods=list(methods))
        for path, methods in by_path.items()
    ]
    control = Control(exchange, stop)
    app = Faults(Starlette(routes=[*routes, *control.routes()], lifespan=control.lifespan))
    control.faults = app
    return app


def _answering(exchange: LocalExchange, credentials: Credentials, methods: dict[str, Endpoint]) -> Any:
    async def answer(request: Request) -> Response:
        endpoint = methods[request.method if request.method != "HEAD" else "GET"]
        query = request.scope["query_string"].decode("latin-1")
        body = (await request.body()).decode("latin-1")
        headers: dict[str, str] = {}
        try:
            result, status = _result(exchange, credentials, endpoint, request.headers, query, body), 200
        except ApiError as error:
            result, status = {"code": error.code, "msg": error.message}, error.status
            headers = error.headers
        except (CandleDataError, StorageError) as error:
            logger.error("exchange  {} {}: {}", endpoint.method, endpoint.path, error)
            result, status = {"code": -1000, "msg": "An unknown error occurred while processing the request."}, 500
        logger.debug("exchange  {} {} {}", endpoint.method, endpoint.path, status)
        content = json.dumps(result, separators=(",", ":")).encode()
        return Response(content, status, {**exchange.limits.headers(), **headers}, _JSON)

    return answer


def _result(
    exchange: LocalExchange, credentials: Credentials, endpoint: Endpoint, headers: Any, query: str, body: str
) -> Any:
    wide = endpoint.wide_weight is not None and "symbol" not in query
    exchange.limits.spend(endpoint.wide_weight or 1 if wide else endpoint.weight, endpoint.orders)
    if endpoint.signed:
        params = check_signed(credentials, headers.get("x-mbx-apikey"), query, body, exchange.wall_clock())
    else:
        params = Params.parse(query)
    params.only(endpoint.allowed)
    with exchange.lock:
        return endpoint.handle(exchange, params)
