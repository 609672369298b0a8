"""ccxt's dictionaries as our records, exact: from the venue's own strings where the reply holds them.

Whatever lacks a number we need, or holds one that cannot be, raises `ExchangeError`: it must never read as zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import ccxt

from trading_bot.domain.account import Balance
from trading_bot.domain.market import Instrument
from trading_bot.domain.orders import Fill, Order, OrderReport, OrderStatus, Side
from trading_bot.errors import ExchangeError

Reply = Mapping[str, Any]

_LARGEST = Decimal(10**12)
_STATUS = {
    "open": OrderStatus.OPEN,
    "canceling": OrderStatus.OPEN,
    "closed": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELED,
    "expired": OrderStatus.EXPIRED,
    "expired_in_match": OrderStatus.EXPIRED,
    "rejected": OrderStatus.REJECTED,
}


def number(value: Any, name: str) -> Decimal:
    """A finite number ≥ 0 out of a string, int or float.

    Raises
    ------
    ExchangeError
    """
    try:
        amount = Decimal(str(value))
    except (InvalidOperation, ValueError):
        raise ExchangeError(f"the venue's {name} should be a number, is {value!r}") from None
    if not amount.is_finite() or amount < 0:
        raise ExchangeError(f"the venue's {name} should be a finite number of 0 or more, is {value!r}")
    return amount


def instrument(market: Reply, precision_mode: int, fees: Reply) -> Instrument:
    """One spot market. Limits that the venue does not state are those of one lot, of nothing, and of 10¹²."""
    filters = _filters(market)
    limits = market["limits"]
    tick = filters.get("tickSize") or _step(market["precision"]["price"], precision_mode)
    lot = filters.get("stepSize") or _step(market["precision"]["amount"], precision_mode)
    least = filters.get("minQty") or _given(limits["amount"]["min"]) or lot
    return Instrument(
        symbol=market["symbol"],
        base=market["base"],
        quote=market["quote"],
        tick=tick,
        lot=lot,
        min_quantity=least,
        max_quantity=filters.get("maxQty") or _given(limits["amount"]["max"]) or _LARGEST,
        min_notional=filters.get("minNotional") or _given(limits["cost"]["min"]) or Decimal(0),
        maker_fee=_given(fees.get("maker", market.get("maker"))) or Decimal(0),
        taker_fee=_given(fees.get("taker", market.get("taker"))) or Decimal(0),
        active=market.get("active") is not False,
    )


def order_report(reply: Reply, symbol: str) -> OrderReport:
    """What a venue says of one order.

    Raises
    ------
    ExchangeError
        Something essential is missing, or it is about another symbol.
    """
    if not isinstance(reply, Mapping) or reply.get("id") in (None, "", "None"):
        raise ExchangeError(f"the venue's answer about an order of {symbol} has no order id")
    if reply.get("symbol") != symbol:
        raise ExchangeError(f"the venue answered about {reply.get('symbol')!r} when asked about {symbol}")
    status = _STATUS.get(str(reply.get("status")))
    side = reply.get("side")
    if status is None or side not in ("buy", "sell"):
        raise ExchangeError(f"order {reply['id']} has status {reply.get('status')!r} and side {side!r} at the venue")
    info = _info(reply)
    filled = number(info.get("executedQty", reply.get("filled")), "filled quantity")
    quantity = number(info.get("origQty", reply.get("amount")), "order quantity")
    cost = info.get("cummulativeQuoteQty")
    if cost is None or str(cost).startswith("-"):  # Binance: below zero where it has forgotten
        cost = reply.get("cost") if filled else 0
    if status is OrderStatus.FILLED and filled < quantity:
        status = OrderStatus.EXPIRED  # some venues call every ended order closed
    return OrderReport(
        client_order_id=str(reply.get("clientOrderId") or ""),
        exchange_order_id=str(reply["id"]),
        symbol=symbol,
        side=Side(side),
        status=status,
        quantity=quantity,
        filled=filled,
        cost=number(cost, "order cost"),
    )


def placed_report(reply: Reply, order: Order) -> OrderReport:
    """The answer to `order`. Venues that return little more than an id get their blanks filled from the order.

    Raises
    ------
    ExchangeError
        No id, or an answer that is about something else.
    """
    if not isinstance(reply, Mapping) or reply.get("id") in (None, "", "None"):
        raise ExchangeError("the answer has no order id")
    wanted = {"symbol": order.symbol, "side": order.side.value, "clientOrderId": order.client_order_id}
    for name, value in wanted.items():
        if reply.get(name) not in (None, value):
            raise ExchangeError(f"the answer is about another order: {name} is {reply[name]!r}, not {value!r}")
    info = _info(reply)
    amount = info.get("origQty", reply.get("amount"))
    if amount is not None and number(amount, "order quantity") != order.quantity:
        raise ExchangeError(f"the answer is about another order: its quantity is {amount}, not {order.quantity}")
    if reply.get("status") is None:
        return OrderReport(
            order.client_order_id,
            str(reply["id"]),
            order.symbol,
            order.side,
            OrderStatus.OPEN,
            order.quantity,
            Decimal(0),
            Decimal(0),
        )
    return order_report({"amount": str(order.quantity), "filled": 0, **_known(reply), **wanted}, order.symbol)


def placed_fills(reply: Reply, order: Order, venue: str) -> tuple[Fill, ...]:
    """The executions that came with the answer to `order`."""
    info = _info(reply)
    raw = info.get("fills")
    if not isinstance(raw, list):
        return tuple(
            fill(trade, venue, order.client_order_id)
            for trade in reply.get("trades") or []
            if trade.get("id") is not None
        )
    when = _date(info.get("transactTime"))
    parsed = reply.get("trades") or []  # the same rows as ccxt sees them, with its names of currencies
    if len(parsed) != len(raw):
        raise ExchangeError(f"the answer holds {len(raw)} executions, of which {len(parsed)} could be read")
    return tuple(
        Fill(
            venue=venue,
            trade_id=str(row["tradeId"]),
            client_order_id=order.client_order_id,
            exchange_order_id=str(reply["id"]),
            symbol=order.symbol,
            side=order.side,
            price=number(row["price"], "fill price"),
            quantity=number(row["qty"], "fill quantity"),
            fee=number(row["commission"], "fee"),
            fee_currency=str(trade["fee"]["currency"]),
            date=when,
        )
        for row, trade in zip(raw, parsed, strict=True)
    )


def fill(trade: Reply, venue: str, client_order_id: str) -> Fill:
    """One of our executions.

    Raises
    ------
    ExchangeError
        It has no id, side, price, quantity or time.
    """
    info = _info(trade)
    if trade.get("id") is None or trade.get("side") not in ("buy", "sell"):
        raise ExchangeError(
            f"an execution of {trade.get('symbol')} has id {trade.get('id')!r}, side {trade.get('side')!r}"
        )
    fee = trade.get("fee") or {}
    return Fill(
        venue=venue,
        trade_id=str(trade["id"]),
        client_order_id=client_order_id,
        exchange_order_id=str(trade.get("order") or ""),
        symbol=str(trade["symbol"]),
        side=Side(trade["side"]),
        price=number(info.get("price", trade.get("price")), "fill price"),
        quantity=number(info.get("qty", trade.get("amount")), "fill quantity"),
        fee=number(info.get("commission", fee.get("cost") or 0), "fee"),
        fee_currency=str(fee.get("currency") or ""),
        date=_date(trade.get("timestamp")),
        is_maker=trade.get("takerOrMaker") == "maker",
    )


def balances(reply: Any, currency_name: Any) -> dict[str, Balance]:
    """Every currency of the account. `currency_name` makes the venue's names ccxt's.

    Raises
    ------
    ExchangeError
        Anything but a list of balances: an account must not look empty because a page could not be read.
    """
    info = reply.get("info") if isinstance(reply, Mapping) else None
    if not info or not isinstance(info, Mapping | list):
        raise ExchangeError("the venue's answer about balances holds none")
    if isinstance(info, Mapping) and "balances" in info:
        rows = info["balances"]
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
            raise ExchangeError("the venue's balances are not a list")
        found = {str(currency_name(row.get("asset"))): (row.get("free"), row.get("locked")) for row in rows}
    else:
        totals = reply.get("total")
        if not isinstance(totals, Mapping) or not totals:
            raise ExchangeError("the venue's answer about balances holds none")
        found = {
            name: (reply["free"].get(name), reply["used"].get(name))
            for name, total in totals.items()
            if total is not None
        }
    return {
        name: Balance(name, number(free, f"free {name}"), number(used, f"used {name}"))
        for name, (free, used) in found.items()
    }


def _info(reply: Reply) -> Reply:
    info = reply.get("info")
    return info if isinstance(info, Mapping) else {}


def _known(reply: Reply) -> dict[str, Any]:
    return {name: value for name, value in reply.items() if value is not None}


def _given(value: Any) -> Decimal | None:
    return None if value is None else number(value, "limit")


def _step(precision: Any, mode: int) -> Decimal:
    if precision is None:
        return Decimal("1e-8")
    return Decimal(1).scaleb(-int(precision)) if mode == ccxt.DECIMAL_PLACES else number(precision, "precision")


def _filters(market: Reply) -> dict[str, Decimal]:
    """Binance's own strings, by name; empty for other venues."""
    raw = _info(market).get("filters")
    wanted = {
        "PRICE_FILTER": ("tickSize",),
        "LOT_SIZE": ("stepSize", "minQty", "maxQty"),
        "NOTIONAL": ("minNotional",),
        "MIN_NOTIONAL": ("minNotional",),
    }
    found: dict[str, Decimal] = {}
    for entry in raw if isinstance(raw, list) else []:
        for name in wanted.get(entry.get("filterType"), ()):
            if name in entry:
                found[name] = number(entry[name], name)
    return found


def _date(timestamp: Any) -> datetime:
    try:
        return datetime.fromtimestamp(int(timestamp) / 1000, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise ExchangeError(f"the venue's time of an execution should be milliseconds, is {timestamp!r}") from None
