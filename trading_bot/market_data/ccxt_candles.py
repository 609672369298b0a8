"""Candles of any ccxt exchange: paged, closed bars only, nothing taken on trust."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from trading_bot.domain.market import Candles, timeframe_ms
from trading_bot.errors import CandleDataError
from trading_bot.logs import event
from trading_bot.market_data.candle_checks import Fault, on_grid, sift
from trading_bot.market_data.candle_rows import from_rows

PAGE = 1000  # bars asked for at once, unless ccxt knows that the venue gives less
DEFAULT_LIMIT = 500
REPORTED = 20  # bad rows of one reply that get a line in the log


class CcxtCandles:
    """`ports.CandleSource` over a ccxt exchange object.

    Parameters
    ----------
    client
        A ccxt exchange (sync); only `fetch_ohlcv`, `id` and `features` are used.
    clock_now
        The **venue's** time in UTC ms: market time for a replay, wall time plus the venue's measured offset for a real
        one. A bar counts as closed when it ended by then, asked before the request is sent.
    translate
        Makes a context in which the client's exceptions become ours; given what is being asked, such as
        ``give candles of BTC/USDT 1h``.
    """

    def __init__(
        self,
        client: Any,
        clock_now: Callable[[], int],
        translate: Callable[[str], AbstractContextManager[Any]] = lambda action: nullcontext(),
    ) -> None:
        self._client = client
        self._clock_now = clock_now
        self._translate = translate
        self._page_size = _page_size(client)

    def now(self) -> int:
        """The venue's time, UTC ms."""
        return self._clock_now()

    def candles(self, symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> Candles:
        """See `ports.CandleSource`; rows that break a rule are left out and reported in the log.

        Without `since` and with a `limit` above one page, gaps count as bars: fewer may come.

        Raises
        ------
        ExchangeError
            What `translate` made of the client's exception.
        CandleDataError
            The reply is no table of candles at all.
        """
        now = self._clock_now()
        length = timeframe_ms(timeframe)
        if since is None:
            wanted = DEFAULT_LIMIT if limit is None else limit
            if wanted < self._page_size:  # one more than wanted, as the newest one may be open
                return _closed(self._page(symbol, timeframe, None, wanted + 1), now).tail(wanted)
            return self._paged(symbol, timeframe, now // length * length - wanted * length, None, now).tail(wanted)
        return self._paged(symbol, timeframe, since, limit, now)

    def forming(self, symbol: str, timeframe: str) -> tuple[int, float] | None:
        """Open time and latest price of the bar in progress; None if the venue shows none (or a broken one)."""
        now = self._clock_now()
        newest = self._page(symbol, timeframe, None, 2).tail(1)
        if not len(newest) or not newest.time[0] <= now < newest.time[0] + timeframe_ms(timeframe):
            return None
        return int(newest.time[0]), float(newest.close[0])

    def _paged(self, symbol: str, timeframe: str, since: int, limit: int | None, now: int) -> Candles:
        """Page after page until `limit`, the last closed bar or the end of what the venue has."""
        length = timeframe_ms(timeframe)
        pages: list[Candles] = []
        cursor, have, nothing_here = since, 0, False
        while cursor + length <= now and (limit is None or have < limit):
            size = min(self._page_size, (now - cursor) // length + 1)
            size = size if limit is None or nothing_here else min(size, limit - have)
            page = self._page(symbol, timeframe, cursor, size)
            fresh = _closed(page[int(np.searchsorted(page.time, cursor)) :], now)
            nothing_here = not len(fresh)
            if not nothing_here:
                pages.append(fresh)
                have += len(fresh)
                cursor = int(fresh.time[-1]) + length
            else:
                cursor += size * length  # some venues answer by period, and this one may be a hole
        found = _concatenated(pages) if pages else Candles.empty(symbol, timeframe)
        return found if limit is None else found[:limit]

    def _page(self, symbol: str, timeframe: str, since: int | None, limit: int) -> Candles:
        """One reply, closed or not, in order, without the rows that break a rule."""
        name = f"{symbol} {timeframe}"
        with self._translate(f"give candles of {name}"):
            rows = self._client.fetch_ohlcv(symbol, timeframe, since, limit)
        raw, positions, unreadable = _table(symbol, timeframe, rows)
        good, faults = sift(raw)
        times = np.concatenate([raw.time, np.array([fault.time for fault in unreadable], dtype=np.int64)])
        if len(times) and not (on_grid(times, timeframe) & (times > 0)).any():
            shown = str(rows[0])[:120]
            raise CandleDataError(
                f"{self._client.id} answered no candles of {name}: none of {len(rows)} rows begins at a multiple of "
                f"{timeframe}, the first is {shown}; ask again, and if it stays so, check that the venue has them"
            )
        broken = [*unreadable, *(replace(fault, row=positions[fault.row - 1]) for fault in faults)]
        for fault in sorted(broken, key=lambda fault: fault.row)[:REPORTED]:
            event("candles", name, f"left out: {fault}", level="WARNING")
        return good


def _page_size(client: Any) -> int:
    """The most bars ccxt says the venue gives at once, if it says so."""
    features = getattr(client, "features", None) or {}
    limit = ((features.get("spot") or {}).get("fetchOHLCV") or {}).get("limit")
    return min(PAGE, limit) if isinstance(limit, int) and limit > 1 else PAGE


def _closed(candles: Candles, now: int) -> Candles:
    last = int(np.searchsorted(candles.time, now - timeframe_ms(candles.timeframe), "right"))
    return candles[:last]


def _concatenated(pages: list[Candles]) -> Candles:
    if len(pages) == 1:
        return pages[0]
    time = np.concatenate([page.time for page in pages])
    opens, highs, lows, closes, volumes = (
        np.concatenate([getattr(page, name) for page in pages]) for name in ("open", "high", "low", "close", "volume")
    )
    return Candles(pages[0].symbol, pages[0].timeframe, time, opens, highs, lows, closes, volumes)


def _table(symbol: str, timeframe: str, rows: Any) -> tuple[Candles, list[int], list[Fault]]:
    """Rows as ccxt gives them as columns, each one's place in the reply, and those that are no six numbers."""
    if not isinstance(rows, list):
        raise CandleDataError(
            f"wanted a list of candles of {symbol} {timeframe}, found {type(rows).__name__}; ask again"
        )
    return from_rows(symbol, timeframe, rows)
