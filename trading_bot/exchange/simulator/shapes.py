"""The JSON that Binance spot answers, made from the venue's records. Amounts are plain decimal strings, exact."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from trading_bot.domain.account import Balance
from trading_bot.domain.market import Instrument
from trading_bot.domain.orders import OrderStatus, Side
from trading_bot.domain.venue import VenueFill, VenueOrder

Json = dict[str, Any]

ORDER_TYPES = ("LIMIT", "MARKET")
MOST_OPEN_ORDERS = 200  # of one symbol
_ZERO = "0.00000000"


def plain(number: Decimal) -> str:
    """Every digit, never an exponent."""
    return format(number, "f")


def places(step: Decimal) -> int:
    """Decimals that multiples of `step` need."""
    return max(0, -int(step.normalize().as_tuple().exponent))


def symbol_id(symbol: str) -> str:
    """Binance's name of a pair: ``BTC/USDT`` is ``BTCUSDT``."""
    return symbol.replace("/", "")


def status_name(order: VenueOrder) -> str:
    if order.status is OrderStatus.OPEN:
        return "PARTIALLY_FILLED" if order.filled else "NEW"
    return order.status.value.upper()


def symbol_json(instrument: Instrument) -> Json:
    """One entry of exchangeInfo."""
    tick, lot = plain(instrument.tick), plain(instrument.lot)
    most = plain(instrument.max_quantity)
    return {
        "symbol": symbol_id(instrument.symbol),
        "status": "TRADING" if instrument.active else "BREAK",
        "baseAsset": instrument.base,
        "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": list(ORDER_TYPES),
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": False,
        "amendAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000000.00000000", "tickSize": tick},
            {
                "filterType": "LOT_SIZE",
                "minQty": plain(instrument.min_quantity),
                "maxQty": most,
                "stepSize": lot,
            },
            {"filterType": "MARKET_LOT_SIZE", "minQty": _ZERO, "maxQty": most, "stepSize": _ZERO},
            {
                "filterType": "NOTIONAL",
                "minNotional": plain(instrument.min_notional),
                "applyMinToMarket": True,
                "maxNotional": "1000000000000.00000000",
                "applyMaxToMarket": False,
                "avgPriceMins": 0,
            },
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": MOST_OPEN_ORDERS},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "NONE",
        "allowedSelfTradePreventionModes": ["NONE"],
    }


def order_json(order: VenueOrder) -> Json:
    """An order as GET order, openOrders and allOrders show it."""
    return _order_core(order) | {
        "stopPrice": _ZERO,
        "icebergQty": _ZERO,
        "time": order.time,
        "updateTime": order.update_time,
        "isWorking": True,
        "workingTime": order.time,
        "origQuoteOrderQty": _ZERO,
        "selfTradePreventionMode": "NONE",
    }


def placed_json(order: VenueOrder, fills: Iterable[VenueFill], kind: str) -> Json:
    """The answer to a new order; `kind` is ACK, RESULT or FULL."""
    head = {
        "symbol": symbol_id(order.symbol),
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_order_id,
        "transactTime": order.update_time,
    }
    if kind == "ACK":
        return head
    rest = {"origQuoteOrderQty": _ZERO, "workingTime": order.time, "selfTradePreventionMode": "NONE"}
    answer = head | _order_core(order) | rest
    return answer | {"fills": [_fill_json(fill) for fill in fills]} if kind == "FULL" else answer


def canceled_json(order: VenueOrder, cancel_id: str) -> Json:
    """The answer to a cancelled order: its own id moves to origClientOrderId."""
    answer = _order_core(order) | {"transactTime": order.update_time, "selfTradePreventionMode": "NONE"}
    return answer | {"origClientOrderId": order.client_order_id, "clientOrderId": cancel_id}


def trade_json(fill: VenueFill) -> Json:
    """One of the account's executions."""
    return {
        "symbol": symbol_id(fill.symbol),
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "orderListId": -1,
        "price": plain(fill.price),
        "qty": plain(fill.quantity),
        "quoteQty": plain(fill.price * fill.quantity),
        "commission": plain(fill.fee),
        "commissionAsset": fill.fee_currency,
        "time": fill.time,
        "isBuyer": fill.side is Side.BUY,
        "isMaker": fill.is_maker,
        "isBestMatch": True,
    }


def account_json(balances: Iterable[Balance], maker: Decimal, taker: Decimal, update_time: int) -> Json:
    rates = {"maker": plain(maker), "taker": plain(taker), "buyer": _ZERO, "seller": _ZERO}
    return {
        "makerCommission": int(maker * 10_000),
        "takerCommission": int(taker * 10_000),
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": rates,
        "canTrade": True,
        "canWithdraw": False,
        "canDeposit": False,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": True,
        "updateTime": update_time,
        "accountType": "SPOT",
        "balances": [
            {"asset": balance.currency, "free": plain(balance.free), "locked": plain(balance.used)}
            for balance in balances
        ],
        "permissions": ["SPOT"],
        "uid": 1,
    }


def ledger_json(
    balances: Iterable[Balance], orders: Iterable[VenueOrder], fills: Iterable[VenueFill]
) -> dict[str, list[Json]]:
    """Everything the venue's books say, each amount in its shortest form: for tests that compare ledgers."""
    return {
        "balances": [_record(balance) for balance in sorted(balances, key=lambda balance: balance.currency)],
        "orders": [_record(order) for order in sorted(orders, key=lambda order: order.order_id)],
        "fills": [_record(fill) for fill in sorted(fills, key=lambda fill: fill.trade_id)],
    }


def _record(record: Balance | VenueOrder | VenueFill) -> Json:
    values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    return {name: _shortest(value) if isinstance(value, Decimal) else value for name, value in values.items()}


def _shortest(number: Decimal) -> str:
    text = plain(number)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _order_core(order: VenueOrder) -> Json:
    return {
        "symbol": symbol_id(order.symbol),
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_order_id,
        "price": plain(order.price) if order.price is not None else _ZERO,
        "origQty": plain(order.quantity),
        "executedQty": plain(order.filled),
        "cummulativeQuoteQty": plain(order.cost),
        "status": status_name(order),
        "timeInForce": order.time_in_force.value,
        "type": order.order_type.value.upper(),
        "side": order.side.value.upper(),
    }


def _fill_json(fill: VenueFill) -> Json:
    return {
        "price": plain(fill.price),
        "qty": plain(fill.quantity),
        "commission": plain(fill.fee),
        "commissionAsset": fill.fee_currency,
        "tradeId": fill.trade_id,
    }
