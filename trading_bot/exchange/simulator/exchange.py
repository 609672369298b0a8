"""The exchange itself, without HTTP: a market that moves on, a venue that matches, limits, and one lock around them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from trading_bot import matching
from trading_bot.domain.account import Balance
from trading_bot.domain.market import Candles, Instrument, timeframe_ms
from trading_bot.domain.venue import VenueFill, VenueOrder
from trading_bot.errors import StorageError
from trading_bot.exchange.replay import ReplayMarket
from trading_bot.exchange.simulator import errors, shapes
from trading_bot.exchange.simulator.weights import ORDERS_PER_TEN_SECONDS, WEIGHT_PER_MINUTE, RequestLimits
from trading_bot.exchange.venue import SimulatedVenue

_LEVELS = 20  # of the book, on either side
_ALL = 10**9

Level = list[str]


class LocalExchange:
    """Everything the routes need.

    Parameters
    ----------
    market
        What is replayed; it is moved to the venue's time, if that has one.
    name
        What the market is, for people: "synthetic (seed 7)" or the candle files' names.
    candles_per_second
        Bars that close each second, or "lockstep": only when told.
    candles_hash
        Of what is replayed, for those who keep its candles.
    """

    def __init__(
        self,
        market: ReplayMarket,
        venue: SimulatedVenue,
        *,
        name: str,
        candles_per_second: float | Literal["lockstep"] = "lockstep",
        candles_hash: str = "",
    ) -> None:
        self.market = market
        self.venue = venue
        self.name = name
        self.candles_hash = candles_hash
        self.pace = None if candles_per_second == "lockstep" else float(candles_per_second)
        self.lock = threading.RLock()
        self.listeners: list[Callable[[], None]] = []  # called after every bar, from whichever thread closed it
        self.closing = False
        self.clock_skew = 0  # ms by which this exchange's wall clock is wrong, for tests
        self.instruments = {shapes.symbol_id(symbol): known for symbol, known in venue.instruments.items()}
        self.limits = self._scaled_limits()
        self._resume()

    @property
    def lockstep(self) -> bool:
        return self.pace is None

    def instrument(self, symbol_id: str) -> Instrument:
        """By Binance's name.

        Raises
        ------
        ApiError
            -1121 for a pair that is not traded here.
        """
        try:
            return self.instruments[symbol_id]
        except KeyError:
            raise errors.bad_symbol() from None

    def advance(self, after: int | None = None) -> bool:
        """Close the next bar, only if market time is still `after` where that is given.

        Returns
        -------
        bool
            Whether more bars will close.

        Raises
        ------
        StorageError
            The books cannot be written; then time has not moved.
        """
        with self.lock:
            before = self.market.now()
            if self.market.ended or (after is not None and after != before):
                return not self.market.ended
            step = self.market.advance()
            try:
                self.venue.roll(step.closed, step.opened, step.time, save=True)
            except StorageError:
                self.market.seek(before)
                raise
        self._tell()
        return not self.market.ended

    def close_polls(self) -> None:
        """Let everyone go who waits for the next bar: the server is about to stop."""
        self.closing = True
        self._tell()

    def wall_clock(self) -> int:
        """UTC ms, which signatures are checked by; market time runs at another pace."""
        return time.time_ns() // 1_000_000 + self.clock_skew

    def price(self, symbol: str) -> float:
        """Current price: the open of the bar in progress, or the last close in a gap.

        Raises
        ------
        ApiError
            -1013 before the symbol's first candle.
        """
        price = self.venue.price(symbol)
        if price is None:
            raise errors.ApiError(-1013, "Market is closed.")
        return float(price)

    def book(self, symbol: str) -> tuple[list[Level], list[Level]]:
        """Bids and asks, best first, as [price, quantity]: the spread and depth that `matching` would trade at."""
        instrument = self.venue.instruments[symbol]
        middle = instrument.ticks(self.price(symbol))
        recent = self.market.candles(symbol, self.market.timeframe, None, matching.HISTORY)
        offered = matching.liquidity(matching.bars(recent, instrument), self.venue.config)
        half, step = (offered.spread + 1) // 2, max(1, offered.volatility // 50)
        quantity = shapes.plain(instrument.quantity(max(1, offered.depth // _LEVELS)))

        def level(ticks: int) -> Level:
            return [shapes.plain(instrument.price(ticks)), quantity]

        bids = [level(middle - half - step * row) for row in range(_LEVELS) if middle - half - step * row > 0]
        asks = [level(middle + half + step * row) for row in range(_LEVELS)]
        return bids or [level(1)], asks

    def ledger(self) -> tuple[list[Balance], list[VenueOrder], list[VenueFill]]:
        """Every balance, order and fill there is."""
        symbols = self.venue.instruments
        orders = [order for symbol in symbols for order in self.venue.orders(symbol, limit=_ALL)]
        fills = [fill for symbol in symbols for fill in self.venue.fills(symbol)]
        return list(self.venue.balances().values()), orders, fills

    def description(self) -> dict[str, Any]:
        """What this market is."""
        return {
            "name": self.name,
            "candles_hash": self.candles_hash,
            "symbols": list(self.venue.instruments),
            "timeframe": self.market.timeframe,
            "pace": self.pace if self.pace is not None else "lockstep",
            "now": self.market.now(),
            "ended": self.market.ended,
            "remaining": self.market.remaining,
        }

    def rate_limits(self) -> list[dict[str, Any]]:
        """As exchangeInfo states them."""
        rows = (
            ("REQUEST_WEIGHT", "MINUTE", 1, self.limits.weight_limit),
            ("ORDERS", "SECOND", 10, self.limits.order_limit),
        )
        return [
            {"rateLimitType": kind, "interval": interval, "intervalNum": count, "limit": limit or _ALL}
            for kind, interval, count, limit in rows
        ]

    def _scaled_limits(self) -> RequestLimits:
        """Binance's limits hold per minute of market time; in lockstep time waits for the bot, so nothing limits it."""
        if self.pace is None:
            return RequestLimits(None, None, time.monotonic)
        speed = max(1.0, self.pace * timeframe_ms(self.market.timeframe) / 1000)
        return RequestLimits(int(WEIGHT_PER_MINUTE * speed), int(ORDERS_PER_TEN_SECONDS * speed), time.monotonic)

    def _resume(self) -> None:
        """Bring market and venue to one time: bars the venue has dealt with are history, later ones happen now."""
        if self.venue.time:
            self.market.seek(self.venue.time)
        unseen: dict[str, Candles] = {}
        opened: dict[str, tuple[int, float]] = {}
        for symbol in self.venue.instruments:
            rows = self.market.candles(symbol, self.market.timeframe)
            last = self.venue.last_bar(symbol)
            count = len(rows) if last is None else int(rows.time.searchsorted(last, "right"))
            self.venue.remember(symbol, rows[:count])
            if count < len(rows):
                unseen[symbol] = rows[count:]
            forming = self.market.forming(symbol)
            if forming is not None:
                opened[symbol] = forming
        self.venue.roll(unseen, opened, self.market.now(), save=True)

    def _tell(self) -> None:
        for listener in list(self.listeners):
            listener()
