"""Paper trading in this process: one object that shows a source's candles and matches orders against them.

It is `ports.CandleSource` and `ports.Broker` at once. Over live candles it is the paper mode, over a `ReplayMarket` the
backtest: the venue under it is the same as the local exchange's, and it is told the same bars in the same order, so the
fills are the same. Before it answers anything about orders it brings the books up to the source's market time.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from trading_bot.domain.account import Balance
from trading_bot.domain.market import Candles, Instrument, timeframe_ms
from trading_bot.domain.orders import Accepted, Fill, Order, OrderReport, OrderType, Rejected, SubmitOutcome
from trading_bot.domain.venue import VenueFill, VenueOrder
from trading_bot.errors import CandleDataError, ExchangeError
from trading_bot.exchange.venue import RejectReason, SimulatedVenue, VenueReject
from trading_bot.matching import HISTORY
from trading_bot.ports import CandleSource

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PATIENCE = 60  # a bar that is late is asked for again after this part of its length


class PriceSource(CandleSource, Protocol):
    """Candles, the venue's time, and the price of the moment."""

    def now(self) -> int:
        """Market time of the venue, UTC ms."""
        ...

    def forming(self, symbol: str, timeframe: str) -> tuple[int, float] | None:
        """Open time and current price of the bar in progress; None where there is none.

        In a replay the price is the bar's open, live the last price. ExchangeError if it cannot be fetched.
        """
        ...


class PaperVenue:
    """See the module's text.

    Parameters
    ----------
    source
        Must report a bar as closed at `now()` ≥ its close, and the same bars every time.
    venue
        Its instruments are the symbols that are followed.
    timeframe
        Of the candles that orders are matched against.
    """

    def __init__(self, source: PriceSource, venue: SimulatedVenue, timeframe: str) -> None:
        self.venue = venue.name
        self._source = source
        self._books = venue
        self._timeframe = timeframe
        self._length = timeframe_ms(timeframe)
        self._asked: dict[str, int] = {}  # symbol -> source time at which its candles were last asked for
        self._lock = threading.RLock()

    # ── candles ──────────────────────────────────────────────────────────────────────────────────────────────────

    def candles(self, symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> Candles:
        """The source's closed candles."""
        return self._source.candles(symbol, timeframe, since, limit)

    def now(self) -> int:
        """The source's market time."""
        return self._source.now()

    def catch_up(self) -> tuple[Fill, ...]:
        """Match everything that has happened in the market since the last look; the fills that came of it.

        Raises
        ------
        ExchangeError
            If the source cannot be asked; nothing is lost, the next call does it.
        """
        with self._lock:
            return self._rolled(self._source.now(), tuple(self._books.instruments))

    # ── orders ───────────────────────────────────────────────────────────────────────────────────────────────────

    def instruments(self) -> Mapping[str, Instrument]:
        return self._books.instruments

    def submit(self, order: Order) -> SubmitOutcome:
        """Place `order` at the source's current price. Never `Unclear`: without a price nothing is done."""
        with self._lock:
            try:
                now = self._brought_up_to_date()
                if order.symbol in self._books.instruments:
                    self._observe(order.symbol, now)
            except (ExchangeError, CandleDataError) as error:
                return Rejected(RejectReason.NO_PRICE, f"no price of {order.symbol} could be had: {error}")
            try:
                placed, fills = self._books.place(
                    order.symbol,
                    order.side,
                    order.order_type,
                    time=now,
                    time_in_force=order.time_in_force,
                    quantity=order.quantity,
                    price=order.price if order.order_type is OrderType.LIMIT else None,
                    client_order_id=order.client_order_id,
                )
            except VenueReject as refusal:
                return Rejected(refusal.reason, refusal.message)
            return Accepted(_report(placed), tuple(self._fill(fill) for fill in fills))

    def cancel(self, order: Order) -> None:
        """End the order if it is still open; one that is not (any more) is left as it is."""
        with self._lock:
            now = self._brought_up_to_date()
            try:
                self._books.cancel(order.symbol, time=now, client_order_id=order.client_order_id)
            except VenueReject:
                return

    def look_up(self, client_order_id: str, symbol: str) -> OrderReport | None:
        with self._lock:
            self._brought_up_to_date()
            found = self._books.order(symbol, client_order_id=client_order_id)
            return _report(found) if found is not None else None

    def open_orders(self) -> Sequence[OrderReport]:
        with self._lock:
            self._brought_up_to_date()
            return [_report(order) for order in self._books.open_orders()]

    def fills(self, symbol: str, since: int) -> Sequence[Fill]:
        with self._lock:
            self._brought_up_to_date()
            return [self._fill(fill) for fill in self._books.fills(symbol, since=since)]

    def balances(self) -> Mapping[str, Balance]:
        with self._lock:
            self._brought_up_to_date()
            return self._books.balances()

    # ── the market's progress ────────────────────────────────────────────────────────────────────────────────────

    def _brought_up_to_date(self) -> int:
        """Roll the books to now, asking only for candles that should be there; now."""
        now = self._source.now()
        self._rolled(now, [symbol for symbol in self._books.instruments if self._is_due(symbol, now)])
        return now

    def _is_due(self, symbol: str, now: int) -> bool:
        asked, last = self._asked.get(symbol), self._books.last_bar(symbol)
        if asked is None or last is None:
            return asked != now
        # The bar after the last one has closed; if it was not there when asked, it is asked for again a little later.
        return now >= last + 2 * self._length and (
            asked < last + 2 * self._length or now - asked >= self._length // _PATIENCE
        )

    def _rolled(self, now: int, symbols: Sequence[str]) -> tuple[Fill, ...]:
        if not symbols:
            return ()
        closed: dict[str, Candles] = {}
        for symbol in symbols:
            fresh = self._fresh(symbol)
            if len(fresh):
                closed[symbol] = fresh
        waiting = {order.symbol for order in self._books.open_orders() if order.order_type is OrderType.MARKET}
        opened = {}
        for symbol in waiting:
            forming = self._source.forming(symbol, self._timeframe)
            if forming is not None:
                opened[symbol] = forming
        # Fetched in full before anything is matched: a source that fails half-way must not part the symbols.
        fills = self._books.roll(closed, opened, now)
        self._asked.update(dict.fromkeys(symbols, now))
        return tuple(self._fill(fill) for fill in fills)

    def _fresh(self, symbol: str) -> Candles:
        """Closed candles after the last one matched. The first time in this process the venue is given its memory."""
        last = self._books.last_bar(symbol)
        if last is not None and symbol in self._asked:
            return self._source.candles(symbol, self._timeframe, last + 1)
        if last is None or not self._books.open_orders(symbol):
            newest = self._source.candles(symbol, self._timeframe, None, HISTORY)
            self._books.remember(symbol, newest)
            return newest[:0]
        candles = self._source.candles(symbol, self._timeframe, last - (HISTORY - 1) * self._length)
        known = int(candles.time.searchsorted(last, "right"))
        self._books.remember(symbol, candles[:known])
        return candles[known:]

    def _observe(self, symbol: str, now: int) -> None:
        """Let the venue know the price of the moment."""
        forming = self._source.forming(symbol, self._timeframe)
        if forming is not None:
            self._books.roll({}, {symbol: forming}, now)

    def _fill(self, fill: VenueFill) -> Fill:
        return Fill(
            venue=self.venue,
            trade_id=str(fill.trade_id),
            client_order_id=fill.client_order_id,
            exchange_order_id=str(fill.order_id),
            symbol=fill.symbol,
            side=fill.side,
            price=fill.price,
            quantity=fill.quantity,
            fee=fill.fee,
            fee_currency=fill.fee_currency,
            date=_EPOCH + timedelta(milliseconds=fill.time),
            is_maker=fill.is_maker,
        )


def _report(order: VenueOrder) -> OrderReport:
    return OrderReport(
        client_order_id=order.client_order_id,
        exchange_order_id=str(order.order_id),
        symbol=order.symbol,
        side=order.side,
        status=order.status,
        quantity=order.quantity,
        filled=order.filled,
        cost=order.cost,
    )
