"""Orders over ccxt. Only a venue's parsed refusal counts as a rejection; any other trouble leaves the outcome open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any

import ccxt

from trading_bot.domain.account import Balance
from trading_bot.domain.market import Instrument
from trading_bot.domain.orders import (
    Accepted,
    Fill,
    Order,
    OrderReport,
    OrderType,
    Rejected,
    SubmitOutcome,
    Unclear,
)
from trading_bot.errors import ExchangeError
from trading_bot.exchange import ccxt_records as records
from trading_bot.exchange.ccxt_client import Client, asking, asking_for_rows, check_answered, is_denied, turn, words

LOCAL_CODE = "LOCAL"  # refused here, before anything was sent
_DEFINITIVE = (
    ccxt.InsufficientFunds,
    ccxt.InvalidOrder,
    ccxt.BadRequest,  # with BadSymbol
    ccxt.MarketClosed,
    ccxt.AuthenticationError,
    ccxt.ArgumentsRequired,
)
_PAGE = 1000
_REMEMBERED = 10_000
_ENDLESS = Decimal(10) ** 40


class CcxtBroker:
    """`ports.Broker` over one ccxt client, which others use only inside `ccxt_client.asking` (it takes turns).

    Parameters
    ----------
    client
        From `ccxt_client.build_client`.
    venue_name
        What fills are filed under, such as "local" or "binance".
    """

    def __init__(self, client: Client, venue_name: str) -> None:
        self.venue = venue_name
        self._client = client
        self._instruments: dict[str, Instrument] | None = None
        self._client_ids: OrderedDict[str, str] = OrderedDict()  # venue's order id -> ours; myTrades has only theirs

    def instruments(self) -> Mapping[str, Instrument]:
        """Spot markets by symbol, asked for once."""
        if self._instruments is None:
            with asking(self._client, "list its markets"):
                markets = self._client.load_markets()
                fees = self._fees()
                self._instruments = {
                    symbol: records.instrument(market, self._client.precisionMode, fees.get(symbol, {}))
                    for symbol, market in markets.items()
                    if market.get("spot")
                }
        return self._instruments

    def submit(self, order: Order) -> SubmitOutcome:
        """Send `order` once. See `ports.Broker`."""
        if refusal := self._nonsense(order):
            return Rejected(LOCAL_CODE, refusal)
        with turn(self._client):
            return self._submit(order)

    def cancel(self, order: Order) -> None:
        """Ask for the order's end; one that is unknown or has ended is none of this method's business."""
        with asking(self._client, f"cancel order {order.client_order_id}"):
            try:
                params = {"clientOrderId": order.client_order_id}
                self._client.cancel_order(order.exchange_order_id, order.symbol, params)
            except ccxt.OrderNotFound:
                return

    def look_up(self, client_order_id: str, symbol: str) -> OrderReport | None:
        """The order as the venue sees it; None only when it says in so many words that there is none."""
        with asking(self._client, f"look up order {client_order_id}"):
            try:
                reply = self._client.fetch_order(None, symbol, {"clientOrderId": client_order_id})
            except ccxt.OrderNotFound:
                return None
            report = records.order_report(reply, symbol)
        if report.client_order_id != client_order_id:
            raise ExchangeError(
                f"asked about order {client_order_id}, the venue answered about {report.client_order_id}"
            )
        self._remember(report)
        return report

    def open_orders(self) -> Sequence[OrderReport]:
        """All of the account's, whoever placed them."""
        with asking_for_rows(self._client, "list open orders"):
            replies = self._client.fetch_open_orders()
            reports = [records.order_report(reply, str(reply.get("symbol"))) for reply in replies]
        for report in reports:
            self._remember(report)
        return reports

    def fills(self, symbol: str, since: int) -> Sequence[Fill]:
        """Our executions of `symbol` at or after `since`, oldest first, however many pages they take."""
        found: dict[str, Any] = {}
        start = since
        with asking(self._client, f"list our executions of {symbol}"):
            while True:
                page = self._client.fetch_my_trades(symbol, start, _PAGE)
                check_answered(self._client)
                found.update({str(trade["id"]): trade for trade in page})
                if len(page) < _PAGE:
                    break
                newest = max(int(trade["timestamp"]) for trade in page)
                if newest <= start:
                    raise ExchangeError(f"more than {_PAGE} executions of {symbol} at {newest}: cannot read past them")
                start = newest
            fills = [records.fill(trade, self.venue, self._client_id_of(trade, symbol)) for trade in found.values()]
        return sorted(fills, key=lambda fill: (fill.date, _by_number(fill.trade_id)))

    def balances(self) -> Mapping[str, Balance]:
        with asking(self._client, "tell balances"):
            return records.balances(self._client.fetch_balance(), self._client.safe_currency_code)

    def _submit(self, order: Order) -> SubmitOutcome:
        client = self._client
        client.last_request_url = client.last_json_response = None
        params = {"clientOrderId": order.client_order_id}
        limit = order.order_type is OrderType.LIMIT
        if limit:
            params["timeInForce"] = order.time_in_force.value
        try:
            reply = client.create_order(
                order.symbol,
                order.order_type.value,
                order.side.value,
                format(order.quantity, "f"),
                format(order.price, "f") if limit and order.price is not None else None,
                params,
            )
            report = records.placed_report(reply, order)
            fills = records.placed_fills(reply, order, self.venue)
        except Exception as error:  # garbage makes ccxt raise anything; not knowing is an outcome, not a failure
            return self._refused(error) or Unclear(words(error))
        self._remember(report)
        return Accepted(report, fills)

    def _nonsense(self, order: Order) -> str | None:
        """What makes an order unfit to be sent at all: ccxt lets negative prices through."""
        if not order.quantity.is_finite() or order.quantity <= 0:
            return f"quantity should be above 0, is {order.quantity}"
        if order.order_type is OrderType.LIMIT and (
            order.price is None or not order.price.is_finite() or order.price <= 0
        ):
            return f"the price of a limit order should be above 0, is {order.price}"
        known = self._instruments.get(order.symbol) if self._instruments is not None else None
        if known is not None and not _is_multiple(order.quantity, known.lot):  # ccxt would silently round it down
            return f"quantity should be a multiple of {known.lot}, is {order.quantity}"
        if known is not None and order.quantity > known.max_quantity:
            return f"quantity should be at most {known.max_quantity}, is {order.quantity}"
        if known is not None and order.price is not None and not _is_multiple(order.price, known.tick):
            return f"price should be a multiple of {known.tick}, is {order.price}"
        return None

    def _refused(self, error: Exception) -> Rejected | None:
        """A definitive rejection, or None when the order may nevertheless have been placed."""
        client = self._client
        told = client.last_json_response
        code, message = ("", "")
        if isinstance(told, Mapping):
            code, message = str(told.get("code", "")), str(told.get("msg", ""))
        if isinstance(error, ccxt.DuplicateOrderId) or "duplicate order" in f"{error}{message}".lower():
            return None  # it is there already: looking it up tells
        if not (isinstance(error, _DEFINITIVE) or is_denied(error)):
            return None
        if client.last_request_url is None:
            return Rejected(LOCAL_CODE, words(error))
        if not isinstance(told, Mapping) or not told:  # a status without the venue's words: some proxy's page
            return None
        return Rejected(code or type(error).__name__, message or words(error), denied=is_denied(error))

    def _fees(self) -> Mapping[str, Any]:
        """The account's own fees by symbol; empty where the venue cannot tell, or not without a key."""
        client = self._client
        if not client.has.get("fetchTradingFees") or not client.check_required_credentials(False):
            return {}
        try:
            fees = client.fetch_trading_fees()
        except (ccxt.NotSupported, ccxt.BadRequest, ccxt.PermissionDenied):
            return {}
        return fees if isinstance(fees, Mapping) else {}

    def _client_id_of(self, trade: Mapping[str, Any], symbol: str) -> str:
        order_id = str(trade.get("order") or "")
        if order_id and order_id not in self._client_ids:
            self._remember(records.order_report(self._client.fetch_order(order_id, symbol), symbol))
        return self._client_ids.get(order_id, "")

    def _remember(self, report: OrderReport) -> None:
        self._client_ids[report.exchange_order_id] = report.client_order_id
        while len(self._client_ids) > _REMEMBERED:
            self._client_ids.popitem(last=False)


def _is_multiple(amount: Decimal, step: Decimal) -> bool:
    with localcontext(prec=80):
        return abs(amount) < _ENDLESS and amount % step == 0


def _by_number(trade_id: str) -> tuple[int, Decimal | int, str]:
    """Numeric ids by number, others by text."""
    return (0, int(trade_id), "") if trade_id.isdigit() else (1, 0, trade_id)
