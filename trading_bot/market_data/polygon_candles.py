"""Candles of Polygon.io (now Massive) through its own client: few large requests, closed bars only, nothing on trust.

The client keeps the key in a header, so it is in no address of ours. It is asked for whole replies (`raw`), because it
takes an unreadable reply for the end of the data; and it is kept from sending again by itself, because it would come
back after a fraction of a second to a server that has just asked for a minute.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import urllib3

from trading_bot.domain.market import Candles, timeframe_ms
from trading_bot.errors import (
    CandleDataError,
    ConfigurationError,
    ExchangeError,
    ExchangeThrottled,
    ExchangeUnreachable,
)
from trading_bot.logs import event, redact, register_secret
from trading_bot.market_data.candle_checks import Fault, on_grid, sift, take
from trading_bot.market_data.candle_rows import from_rows
from trading_bot.market_data.polygon_replies import (
    Answers,
    Page,
    Refused,
    Request,
    page_of,
    ticker_of,
    unreachable,
    window_of,
)

BASE = "https://api.massive.com"
DEFAULT_LIMIT = 500
BASE_BARS = 50_000  # minutes or days behind one reply: the most that may be asked for
REPORTED = 20  # bad rows of one reply that get a line in the log
EMPTY_PAGES = 50  # in a row, each naming a next one: then nothing will come any more
PAUSES = (1.0, 4.0)  # seconds before asking again after no usable answer

_DAY = 86_400_000
_DELAY = 900_000  # ms that the data of a plan without real-time prices lags behind
_MIDNIGHT_IN_NEW_YORK = (4 * 3_600_000, 5 * 3_600_000)  # in UTC, summer and winter


@dataclass(slots=True)
class _Stretch:
    """What was read of one symbol from `start` on, without a break, and how it goes on."""

    symbol: str
    timeframe: str
    start: int
    candles: Candles
    following: Request | None = None

    @property
    def end(self) -> int:
        """Where to read on, ms."""
        return int(self.candles.time[-1]) + timeframe_ms(self.timeframe) if len(self.candles) else self.start

    def since(self, start: int) -> Candles:
        return self.candles[int(np.searchsorted(self.candles.time, start)) :]

    def forget(self, settled: int) -> None:
        """Leave out bars that ended after `settled`: they are to be asked for again."""
        if self.end > settled:
            length = timeframe_ms(self.timeframe)
            self.candles = self.candles[: int(np.searchsorted(self.candles.time, settled - length, "right"))]
            self.following = None


class PolygonCandles:
    """`ports.CandleSource` over Polygon's aggregates.

    Symbols: `AAPL` is a stock, `BTC/USD` the crypto pair `X:BTCUSD`; tickers with their market in front, such as
    `C:EURUSD`, are taken as they are. Timeframes: seconds and minutes that divide a minute or an hour, `1h`, `1d`;
    longer bars follow New York's clock there and UTC here. A stock's day is labelled with its date.

    A few requests a minute are all that the free plan allows, so each brings as much as it can. What was read is kept
    until another symbol is asked for; of it only the last day is asked for again.

    Parameters
    ----------
    key
        The API key; it becomes a secret of the log.
    base
        Where the API is.
    adjusted
        Prices as if later splits had happened before. Each split changes all of them, also those stored already: fetch
        anew then. False: prices as they were paid, which never change; a split is a jump.
    timeout
        Seconds to connect, and again for each part of a reply.
    patience
        Seconds to wait, all told, for one reply when there were too many requests.
    clock_now
        UTC ms.

    Raises
    ------
    ConfigurationError
        The client is not installed, or the key cannot be one.
    """

    def __init__(
        self,
        key: str,
        *,
        base: str = BASE,
        adjusted: bool = False,
        timeout: float = 10.0,
        patience: float = 70.0,
        clock_now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        register_secret(key)
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigurationError("the key for Polygon is empty, or has blanks or other characters no key has")
        self._client = _client(key, base, timeout)
        self._adjusted = adjusted
        self._patience = patience
        self._clock_now = clock_now
        self._sleep = sleep
        self._stretch: _Stretch | None = None

    def now(self) -> int:
        """UTC ms."""
        return self._clock_now()

    def candles(self, symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> Candles:
        """See `ports.CandleSource`; rows that break a rule are left out and reported in the log.

        Without `since`, four times the period that `limit` bars would fill is looked at: fewer may come from a market
        that is mostly closed.

        Raises
        ------
        ConfigurationError
            A symbol or timeframe that Polygon does not have.
        ExchangeUnreachable, ExchangeThrottled, ExchangeDenied
        CandleDataError
            The reply is no table of candles at all.
        """
        length = timeframe_ms(timeframe)
        window_of(timeframe), ticker_of(symbol)
        now = self._clock_now()
        end = now // length * length  # bars that begin before it have closed
        if since is None:
            wanted = DEFAULT_LIMIT if limit is None else limit
            return self._read(symbol, timeframe, max(0, end - 4 * wanted * length), end, now, None).tail(wanted)
        return self._read(symbol, timeframe, max(0, -(-since // length) * length), end, now, limit)

    def _read(self, symbol: str, timeframe: str, start: int, end: int, now: int, limit: int | None) -> Candles:
        """Closed bars from `start` to `end`, page after page until there are `limit`."""
        stretch = self._stretch_at(symbol, timeframe, start, now)
        empty = 0
        while stretch.end < end and (limit is None or len(stretch.since(start)) < limit):
            before = len(stretch.candles)
            self._read_on(stretch, end, now)
            if stretch.following is None:
                break
            empty = 0 if len(stretch.candles) > before else empty + 1
            if empty > EMPTY_PAGES:
                raise CandleDataError(f"Polygon gave {empty} pages of {symbol} {timeframe} without a candle; ask again")
        found = stretch.since(start)
        return found if limit is None else found[:limit]

    def _stretch_at(self, symbol: str, timeframe: str, start: int, now: int) -> _Stretch:
        """What is known around `start`, or a new beginning there."""
        known = self._stretch
        if known is not None and (known.symbol, known.timeframe) == (symbol, timeframe):
            known.forget(now - _DAY)
            if known.start <= start <= known.end + 2 * _DAY:
                return known
        self._stretch = _Stretch(symbol, timeframe, start, Candles.empty(symbol, timeframe))
        return self._stretch

    def _read_on(self, stretch: _Stretch, end: int, now: int) -> None:
        """One more page."""
        request = stretch.following
        if request is None:
            parameters = {"adjusted": str(self._adjusted).lower(), "sort": "asc", "limit": str(BASE_BARS)}
            request = Request(stretch.symbol, stretch.timeframe, str(stretch.end), str(end - 1), parameters)
        page = self._page(request)
        if page.following == request:
            raise CandleDataError(f"Polygon names the same page of {request.name} as its next one; ask again")
        fresh = _closed(page, request, now)
        stretch.candles = stretch.candles.joined(fresh[int(np.searchsorted(fresh.time, stretch.start)) :])
        stretch.following = page.following

    def _page(self, request: Request) -> Page:
        """One reply; asked again, after a pause, where that may help."""
        patience, pauses = self._patience, iter(PAUSES)
        while True:
            trouble: ExchangeError
            try:
                reply = self._client.list_aggs(
                    ticker_of(request.symbol), *window_of(request.timeframe), request.start, request.end,
                    params=dict(request.parameters), raw=True,
                )  # fmt: skip
                return page_of(reply.data, request)
            except Refused as refused:
                trouble = refused.translated(request)
            except urllib3.exceptions.HTTPError as error:
                trouble = unreachable(error, request)
            pause = None
            if isinstance(trouble, ExchangeThrottled):
                pause = trouble.retry_after if trouble.retry_after <= patience else None
                patience -= trouble.retry_after
            elif isinstance(trouble, ExchangeUnreachable):
                pause = next(pauses, None)
            if pause is None:
                raise trouble
            event("candles", request.name, f"{trouble}; asking again in {pause:.0f} s", level="WARNING")
            self._sleep(pause)


def _client(key: str, base: str, timeout: float) -> Any:
    """The official client, which then sends nothing twice."""
    try:
        module = importlib.import_module("massive")
    except ImportError as error:
        raise ConfigurationError(
            f"the client of Polygon is not installed ({error}); pip install 'trading-bot[polygon]'"
        ) from None
    pool = {"retries": Answers(total=0)}
    return module.RESTClient(key, connect_timeout=timeout, read_timeout=timeout, base=base, connection_pool_kw=pool)


def _closed(page: Page, request: Request, now: int) -> Candles:
    """The rows of a reply that are closed bars and break no rule, in order."""
    raw, positions, unreadable = from_rows(request.symbol, request.timeframe, page.rows)
    named = _by_date(raw) if request.timeframe == "1d" else raw
    if page.rows and not on_grid(named.time, request.timeframe).any():
        raise CandleDataError(
            f"Polygon answered no candles of {request.name}: none of {len(page.rows)} rows begins at a multiple of "
            f"{request.timeframe}, the first is {redact(str(page.rows[0]))[:120]}; ask again"
        )
    until = now - _DELAY if page.delayed else now  # if the data lag, a bar that has just ended is there in parts
    rows = np.flatnonzero(raw.time + timeframe_ms(request.timeframe) <= until)
    good, faults = sift(take(named, rows))
    broken = [*unreadable, *(replace(fault, row=positions[int(rows[fault.row - 1])]) for fault in faults)]
    for fault in sorted(broken, key=_row)[:REPORTED]:
        event("candles", request.name, f"left out: {fault}", level="WARNING")
    return good


def _row(fault: Fault) -> int:
    return fault.row


def _by_date(days: Candles) -> Candles:
    """A stock's day begins at midnight in New York; here it is the day of that date, from midnight UTC."""
    begun = days.time % _DAY
    time = np.where(np.isin(begun, _MIDNIGHT_IN_NEW_YORK), days.time - begun, days.time)
    return Candles(days.symbol, days.timeframe, time, days.open, days.high, days.low, days.close, days.volume)
