"""An exchange account with books and a matching engine: no HTTP, no clock, one store transaction per change.

Whoever owns the market (the local exchange's replay, the paper venue) tells it which bars closed and opened; whoever
trades places, cancels and asks. Times are market time in UTC ms and never go back.

Assumptions beyond those of `matching`: orders of the account do not meet each other; a market order takes from the same
participation share as the others of its symbol and bar; where a symbol has no bar in progress (a gap) orders are taken
but nothing fills until its next open.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import NamedTuple

from trading_bot import matching
from trading_bot.domain.account import Balance
from trading_bot.domain.market import Candles, Instrument, timeframe_ms
from trading_bot.domain.orders import OrderStatus, OrderType, Side, TimeInForce
from trading_bot.domain.venue import VenueFill, VenueOrder
from trading_bot.exchange.admission import (
    RejectReason,
    VenueReject,
    Wish,
    check_notional,
    limit_wish,
    plain,
    quote_amount,
    tradable,
    whole_lots,
)
from trading_bot.exchange.ledger import EXACT, ZERO, Draft, Ledger
from trading_bot.matching import Bar, Liquidity, MatchingConfig
from trading_bot.ports import AtLeast, Store

__all__ = ["RejectReason", "SimulatedVenue", "VenueReject"]


class _Market(NamedTuple):
    """One symbol as the venue sees it."""

    bars: tuple[Bar, ...] = ()  # closed ones, oldest first
    closed: int = -1  # open time of the last closed bar
    opened: int = -1  # open time of the newest bar that has begun
    in_progress: bool = False
    price: int = 0  # ticks; 0: none yet
    taken: int = 0  # lots taken from the bar in progress


class SimulatedVenue:
    """See the module's text.

    Parameters
    ----------
    store
        Holds one venue's ledger; one that is there already is continued (then `balances` is not looked at).
    name
        The venue's name in fills and in the ledger.
    """

    def __init__(
        self,
        store: Store,
        instruments: Mapping[str, Instrument],
        *,
        name: str,
        balances: Mapping[str, Decimal],
        config: MatchingConfig | None = None,
    ) -> None:
        self.name = name
        self.instruments = dict(instruments)
        self.config = config or MatchingConfig()
        self._ledger = Ledger(store, name, balances)
        self._markets = {symbol: _Market() for symbol in sorted(self.instruments)}
        self._lock = threading.RLock()

    # ── the market's side ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def time(self) -> int:
        """Newest market time seen; after a restart that of the last saved change."""
        return self._ledger.time

    def last_bar(self, symbol: str) -> int | None:
        """Open time of the symbol's last matched or remembered bar; None: no bar yet."""
        known = max(self._markets[symbol].closed, self._ledger.bars.get(symbol, -1))
        return known if known >= 0 else None

    def price(self, symbol: str) -> Decimal | None:
        """Current price; None before the first candle."""
        ticks = self._markets[symbol].price
        return self.instruments[symbol].price(ticks) if ticks else None

    def remember(self, symbol: str, candles: Candles) -> None:
        """Take closed bars as history (liquidity, price) without matching; for a start or restart."""
        with self._lock:
            market = self._markets[symbol]
            for row in range(max(0, len(candles) - matching.HISTORY), len(candles)):
                if candles.time[row] > market.closed:
                    market = self._appended(market, candles, row, self.instruments[symbol])
            self._markets[symbol] = market

    def roll(
        self,
        closed: Mapping[str, Candles],
        opened: Mapping[str, tuple[int, float]],
        time: int,
        *,
        save: bool = False,
    ) -> tuple[VenueFill, ...]:
        """The market moves on: bars close, then bars open, all symbols in one transaction.

        Rows not newer than the symbol's last bar are skipped, so telling a bar twice does nothing. Per bar time, first
        the rest of market orders fills at the opens that were not told before, then limit orders meet the candles.

        Parameters
        ----------
        closed
            Newly closed bars by symbol, one or more rows each.
        opened
            By symbol, open time and current price of the bar in progress; the same bar again only updates the price.
        time
            Market time now.
        save
            Write market time and bar cursor although no order changed; otherwise such a roll needs no transaction.
        """
        with self._lock, localcontext(EXACT):
            draft, markets = Draft(self._ledger, 0), dict(self._markets)
            for bar_time, rows in self._by_time(closed):
                for symbol, candles, row in rows:
                    if markets[symbol].opened < bar_time:
                        draft.reach(bar_time)
                        self._open(draft, markets, symbol, bar_time, float(candles.open[row]))
                draft.reach(bar_time + timeframe_ms(rows[0][1].timeframe))
                for symbol, candles, row in rows:
                    self._close(draft, markets, symbol, candles, row)
            draft.reach(time)
            for symbol in sorted(opened):
                self._open(draft, markets, symbol, *opened[symbol])
            self._commit(draft, markets, save=save)
            return tuple(draft.fills)

    # ── the trader's side ────────────────────────────────────────────────────────────────────────────────────────

    def place(
        self,
        symbol: str,
        side: Side,
        order_type: OrderType,
        *,
        time: int,
        time_in_force: TimeInForce = TimeInForce.GTC,
        quantity: Decimal | None = None,
        quote_quantity: Decimal | None = None,
        price: Decimal | None = None,
        client_order_id: str | None = None,
    ) -> tuple[VenueOrder, tuple[VenueFill, ...]]:
        """Take an order and fill of it what can be filled at once.

        `quote_quantity` (market orders only) becomes a quantity at the price of the moment. What a market order leaves
        over the participation share fills at the following opens. IOC and FOK apply to limit orders.

        Raises
        ------
        VenueReject
            And nothing has changed.
        """
        with self._lock, localcontext(EXACT):
            instrument = tradable(self.instruments, symbol)
            market = self._markets[symbol]
            if not market.price:
                raise VenueReject(RejectReason.NO_PRICE, f"{symbol} has no price yet: no candle of it has been seen")
            offered = self._offered(market)
            is_buy = side is Side.BUY
            if order_type is OrderType.LIMIT:
                wish = limit_wish(is_buy, quantity, quote_quantity, price, instrument)
            elif quote_quantity is None:
                wish = Wish(is_buy, whole_lots(instrument, quantity), 0)
            else:
                amount = quote_amount(quantity, quote_quantity)
                wish = self._quote_wish(is_buy, amount, instrument, market, offered)
            check_notional(instrument, wish, market.price)
            if client_order_id and client_order_id in self._ledger.open_ids:
                raise VenueReject(
                    RejectReason.DUPLICATE_ORDER, f"an open order has client order id {client_order_id} already"
                )
            draft = Draft(self._ledger, time)
            number = draft.number()
            order = VenueOrder(
                order_id=number,
                client_order_id=client_order_id or f"{self.name}-{number}",
                symbol=symbol,
                side=side,
                order_type=order_type,
                time_in_force=time_in_force,
                quantity=instrument.quantity(wish.lots),
                price=instrument.price(wish.limit) if wish.limit else None,
                status=OrderStatus.OPEN,
                filled=ZERO,
                cost=ZERO,
                reserved=ZERO,
                queue_ahead=0,
                time=draft.time,
                update_time=draft.time,
            )
            markets = dict(self._markets)
            order = self._take(draft, markets, order, wish, offered)
            self._commit(draft, markets)
            return order, tuple(draft.fills)

    def cancel(
        self, symbol: str, *, time: int, order_id: int | None = None, client_order_id: str | None = None
    ) -> VenueOrder:
        """End an open order.

        Raises
        ------
        VenueReject
            UNKNOWN_ORDER, if no open order of `symbol` has that id.
        """
        with self._lock, localcontext(EXACT):
            if order_id is None and client_order_id is not None:
                order_id = self._ledger.open_ids.get(client_order_id)
            order = self._ledger.open.get(order_id) if order_id is not None else None
            if order is None or order.symbol != symbol:
                raise VenueReject(RejectReason.UNKNOWN_ORDER, f"{symbol} has no such open order")
            draft = Draft(self._ledger, time)
            order = draft.end(order, self.instruments[symbol], OrderStatus.CANCELED)
            self._commit(draft, self._markets)
            return order

    def order(
        self, symbol: str, *, order_id: int | None = None, client_order_id: str | None = None
    ) -> VenueOrder | None:
        """An order by either id (with a client order id the newest that has it); None: there is none."""
        with self._lock:
            return self._ledger.order(symbol, order_id, client_order_id)

    def open_orders(self, symbol: str | None = None) -> list[VenueOrder]:
        """Open orders, oldest first."""
        with self._lock:
            return [order for order in self._ledger.open.values() if symbol is None or order.symbol == symbol]

    def orders(
        self, symbol: str, *, from_id: int | None = None, since: int | None = None, limit: int = 500
    ) -> list[VenueOrder]:
        """Orders of any status, oldest first: the first `limit` from an id or time on, else the newest `limit`."""
        where: dict[str, object] = {}
        if from_id is not None:
            where["order_id"] = AtLeast(from_id)
        if since is not None:
            where["time"] = AtLeast(since)
        with self._lock:
            found = self._ledger.orders(symbol, **where)
        return found[:limit] if where else found[max(0, len(found) - limit) :]

    def fills(
        self,
        symbol: str,
        *,
        since: int | None = None,
        from_id: int | None = None,
        order_id: int | None = None,
        limit: int | None = None,
    ) -> list[VenueFill]:
        """Fills, oldest first: the first `limit` from a time or trade id on, else the newest `limit`."""
        where: dict[str, object] = {}
        if from_id is not None:
            where["trade_id"] = AtLeast(from_id)
        if order_id is not None:
            where["order_id"] = order_id
        with self._lock:
            found = self._ledger.fills(symbol, since or 0, **where)
        if limit is None or len(found) <= limit:
            return found
        return found[:limit] if since is not None or from_id is not None else found[len(found) - limit :]

    def balances(self) -> dict[str, Balance]:
        """Every currency of the account and of the instruments."""
        with self._lock:
            currencies = dict.fromkeys(self._ledger.balances)
            for instrument in self.instruments.values():
                currencies.update({instrument.base: None, instrument.quote: None})
            books = (self._ledger.balance(currency) for currency in currencies)
            return {book.currency: Balance(book.currency, book.free, book.used) for book in books}

    # ── filling ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _take(
        self, draft: Draft, markets: dict[str, _Market], order: VenueOrder, wish: Wish, offered: Liquidity
    ) -> VenueOrder:
        """Fill at once what can be, then rest or expire."""
        instrument, market = self.instruments[order.symbol], markets[order.symbol]
        lots, ticks = matching.fill_market(wish.is_buy, wish.lots, market.price, offered, self.config, wish.limit)
        if order.time_in_force is TimeInForce.FOK and wish.limit and lots < wish.lots:
            lots = 0
        rest = instrument.quantity(wish.lots - lots)
        self._check_funds(draft, order, instrument, instrument.quantity(lots), rest, instrument.price(ticks))
        if lots:
            order = draft.execute(order, instrument, instrument.quantity(lots), instrument.price(ticks), is_maker=False)
            markets[order.symbol] = market._replace(taken=market.taken + lots)
        if order.status is not OrderStatus.OPEN:
            return order
        if wish.limit and order.time_in_force is not TimeInForce.GTC:
            return draft.end(order, instrument, OrderStatus.EXPIRED)
        if not wish.is_buy:
            return draft.reserve(self._queued(order, wish, lots, offered), instrument.base, rest)
        if wish.limit:
            worst = instrument.price(wish.limit)
            return draft.reserve(self._queued(order, wish, lots, offered), instrument.quote, worst * rest)
        worst = instrument.price(int(ticks * (1 + self.config.reserve_margin)) + 1)
        return draft.reserve(order, instrument.quote, min(worst * rest, draft.free(instrument.quote)))

    def _quote_wish(
        self,
        is_buy: bool,
        amount: Decimal,
        instrument: Instrument,
        market: _Market,
        offered: Liquidity,
    ) -> Wish:
        """As much as `amount` of quote pays for at the price of the moment."""
        most = int(amount // (instrument.price(market.price) * instrument.lot))
        ticks = matching.taker_price(is_buy, min(most, offered.cap), market.price, offered, self.config)
        lots = int(amount // (instrument.price(ticks) * instrument.lot))
        return Wish(is_buy, whole_lots(instrument, instrument.quantity(lots)), 0)

    def _queued(self, order: VenueOrder, wish: Wish, taken: int, offered: Liquidity) -> VenueOrder:
        """A limit order that took something is the best of its side: nobody stands before its rest."""
        ahead = matching.queue(offered, self.config) if wish.limit and not taken else 0
        return dataclasses.replace(order, queue_ahead=ahead)

    @staticmethod
    def _check_funds(
        draft: Draft, order: VenueOrder, instrument: Instrument, now: Decimal, rest: Decimal, price: Decimal
    ) -> None:
        if order.side is Side.SELL:
            currency, needed = instrument.base, now + rest
        else:
            currency, needed = instrument.quote, (order.price or price) * (now + rest)
        if needed > draft.free(currency):
            raise VenueReject(
                RejectReason.INSUFFICIENT_BALANCE,
                f"{order.side} {plain(order.quantity)} {order.symbol} needs {plain(needed)} {currency}, "
                f"free is {plain(draft.free(currency))}",
            )

    def _open(self, draft: Draft, markets: dict[str, _Market], symbol: str, bar_time: int, price: float) -> None:
        """A bar begins (the rest of market orders fills at its open) or its price changes."""
        market, instrument = markets[symbol], self.instruments[symbol]
        if bar_time < market.opened or bar_time <= max(market.closed, self._ledger.bars.get(symbol, -1)):
            return  # it has closed already
        ticks = max(1, round(price / float(instrument.tick)))
        if bar_time == market.opened:
            markets[symbol] = market._replace(price=ticks)
            return
        taken = self._taken_since(symbol, bar_time, instrument) if market.opened < 0 else 0
        market = market._replace(opened=bar_time, in_progress=True, price=ticks, taken=taken)
        for order in draft.open_orders(symbol, OrderType.MARKET):
            market = self._continue(draft, market, order, instrument)
        markets[symbol] = market

    def _continue(self, draft: Draft, market: _Market, order: VenueOrder, instrument: Instrument) -> _Market:
        """One more part of a market order. A buy that cash no longer covers takes what it can and expires."""
        is_buy, offered = order.side is Side.BUY, self._offered(market)
        wanted = int((order.quantity - order.filled) // instrument.lot)
        lots, ticks = matching.fill_market(is_buy, wanted, market.price, offered, self.config)
        affordable = lots
        if is_buy and lots:
            cash = order.reserved + draft.free(instrument.quote)
            affordable = min(lots, int(cash // (instrument.price(ticks) * instrument.lot)))
        if affordable:
            filled, ticks = matching.fill_market(is_buy, affordable, market.price, offered, self.config)
            amount = instrument.quantity(filled)
            order = draft.execute(order, instrument, amount, instrument.price(ticks), is_maker=False)
            market = market._replace(taken=market.taken + filled)
        if affordable < lots:
            draft.end(order, instrument, OrderStatus.EXPIRED)
        return market

    def _close(self, draft: Draft, markets: dict[str, _Market], symbol: str, candles: Candles, row: int) -> None:
        """A bar closes: resting limit orders meet it, those first that its path reaches first."""
        market, instrument = markets[symbol], self.instruments[symbol]
        bar_time = int(candles.time[row])
        resting = draft.open_orders(symbol, OrderType.LIMIT)
        if resting:
            latest = bar_time + self.config.late * timeframe_ms(candles.timeframe)
            candle = matching.bar(candles, row, instrument)
            meetings = []
            for order in resting:
                if order.time > latest:
                    continue
                is_buy, limit = order.side is Side.BUY, int((order.price or ZERO) // instrument.tick)
                # The open of a bar that had begun when the order came was refused to it as a taker: no gift now.
                met = candle if order.time < bar_time else candle._replace(open=limit)
                distance = matching.reach(is_buy, limit, candle, self.config.path)
                meetings.append((distance, order.order_id, order, limit, met))
            self._meet(draft, instrument, sorted(meetings, key=lambda meeting: meeting[:2]), candle)
        markets[symbol] = self._appended(market, candles, row, instrument)

    def _meet(
        self,
        draft: Draft,
        instrument: Instrument,
        meetings: Sequence[tuple[int, int, VenueOrder, int, Bar]],
        candle: Bar,
    ) -> None:
        budget = int(self.config.participation * candle.volume)
        for _, _, order, limit, met in meetings:
            wanted = int((order.quantity - order.filled) // instrument.lot)
            lots, ticks, ahead = matching.fill_limit(
                order.side is Side.BUY, min(wanted, budget), limit, met, order.queue_ahead, self.config
            )
            if ahead != order.queue_ahead:
                order = draft.put(dataclasses.replace(order, queue_ahead=ahead))
            if lots:
                budget -= lots
                draft.execute(order, instrument, instrument.quantity(lots), instrument.price(ticks), is_maker=True)

    # ── state ────────────────────────────────────────────────────────────────────────────────────────────────────

    @staticmethod
    def _appended(market: _Market, candles: Candles, row: int, instrument: Instrument) -> _Market:
        bar_time, candle = int(candles.time[row]), matching.bar(candles, row, instrument)
        bars = (*market.bars[1 - matching.HISTORY :], candle)
        if market.opened > bar_time:  # a late candle: the next bar has begun already
            return market._replace(bars=bars, closed=bar_time)
        return market._replace(bars=bars, closed=bar_time, in_progress=False, price=max(1, candle.close))

    def _by_time(self, closed: Mapping[str, Candles]) -> Iterable[tuple[int, list[tuple[str, Candles, int]]]]:
        """Rows that are new, grouped by bar time, then by symbol."""
        times: dict[int, list[tuple[str, Candles, int]]] = {}
        for symbol in sorted(closed):
            candles, known = closed[symbol], self.last_bar(symbol)
            for row, bar_time in enumerate(candles.time.tolist()):
                if known is None or bar_time > known:
                    times.setdefault(bar_time, []).append((symbol, candles, row))
        return sorted(times.items())

    def _offered(self, market: _Market) -> Liquidity:
        """What may still be taken from the bar in progress."""
        offered = matching.liquidity(market.bars, self.config)
        return offered._replace(cap=max(0, offered.cap - market.taken) if market.in_progress else 0)

    def _taken_since(self, symbol: str, bar_time: int, instrument: Instrument) -> int:
        """Lots taken from a bar that was in progress when the venue was stopped."""
        fills = self._ledger.fills(symbol, bar_time)
        return sum(int(fill.quantity // instrument.lot) for fill in fills if not fill.is_maker)

    def _commit(self, draft: Draft, markets: dict[str, _Market], *, save: bool = False) -> None:
        if draft.changed or save:
            cursor = {symbol: market.closed for symbol, market in markets.items() if market.closed >= 0}
            self._ledger.commit(draft, {**self._ledger.bars, **cursor}, save=save)
        else:
            self._ledger.commit(draft, self._ledger.bars)
        self._markets = markets
