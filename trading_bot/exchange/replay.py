"""Stored candles as a market that moves on bar by bar and shows nothing of its future but the open in progress."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from trading_bot.domain.market import Candles, Floats, Instrument, timeframe_ms
from trading_bot.errors import CandleDataError, ConfigurationError
from trading_bot.exchange.config import PaperConfig
from trading_bot.ports import MarketEnded

MOST_DECIMALS = 8  # of a tick or a lot
_SAMPLE = 2_000  # rows looked at for the decimals
_LARGEST_ORDER = Decimal(10**9)
_START_BALANCE = Decimal(10_000)


class Step(NamedTuple):
    """One move of the market: the bars that closed at `time` (one row each) and the bars that opened there."""

    time: int
    closed: dict[str, Candles]
    opened: dict[str, tuple[int, float]]  # symbol -> (bar open time, price)


class ReplayMarket:
    """A candle source, a market clock and a price, over the union of all symbols' bars.

    Parameters
    ----------
    candles
        By symbol, all of one timeframe; symbols may begin later, end sooner or have gaps.
    history
        Bar times that have closed before the replay begins.
    max_bars
        End after so many further bar times; 0: when the candles end.

    Raises
    ------
    ConfigurationError
        No candles, different timeframes, or nothing left to replay after the history.
    """

    def __init__(self, candles: Mapping[str, Candles], *, history: int, max_bars: int = 0) -> None:
        frames = sorted({rows.timeframe for rows in candles.values()})
        if len(frames) != 1 or not any(len(rows) for rows in candles.values()):
            raise ConfigurationError(
                f"a replay wants candles of one timeframe, found {len(candles)} symbols with timeframes {frames}; "
                "give it files of one timeframe that have rows"
            )
        self.timeframe = frames[0]
        self._length = timeframe_ms(self.timeframe)
        self._candles = dict(sorted(candles.items()))
        for symbol, rows in self._candles.items():
            if len(rows) > 1 and not bool((np.diff(rows.time) > 0).all()):
                raise CandleDataError(f"candles of {symbol} are not in rising order of time; sort and deduplicate them")
        self._closes = np.unique(np.concatenate([rows.time for rows in self._candles.values()])) + self._length
        if not 1 <= history < len(self._closes):
            raise ConfigurationError(
                f"market.history is {history} bars, but the candles have {len(self._closes)} bar times; "
                f"wanted between 1 and {len(self._closes) - 1}"
            )
        self._first = history
        self._last = len(self._closes) if not max_bars else min(len(self._closes), history + max_bars)
        self._count = history  # bar times that have closed
        self._now = int(self._closes[history - 1])
        self._reported = False

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self._candles)

    @property
    def ended(self) -> bool:
        """Whether no further bar will close."""
        return self._count >= self._last

    @property
    def remaining(self) -> int:
        """Bar times that will still close."""
        return self._last - self._count

    @property
    def waits(self) -> bool:
        return True

    @property
    def settle_ms(self) -> int:
        """A bar that closed is there."""
        return 0

    def now(self) -> int:
        """Market time: the close of the newest closed bar, UTC ms."""
        return self._now

    def advance(self) -> Step:
        """Close the next bar of the time line.

        Raises
        ------
        MarketEnded
            When there is none.
        """
        if self.ended:
            raise MarketEnded
        self._count += 1
        self._now = int(self._closes[self._count - 1])
        self._reported = False
        closed: dict[str, Candles] = {}
        opened: dict[str, tuple[int, float]] = {}
        for symbol, rows in self._candles.items():
            count = self._closed_count(rows)
            if count and int(rows.time[count - 1]) + self._length == self._now:
                closed[symbol] = rows[count - 1 : count]
            forming = self._forming(rows, count)
            if forming is not None:
                opened[symbol] = forming
        return Step(self._now, closed, opened)

    def next_close(self, timeout: float = 0.0) -> int:
        """The bar close to deal with next; if the present one has been reported, the market moves on first."""
        if self._reported:
            self.advance()
        self._reported = True
        return self._now

    def seek(self, time: int) -> int:
        """Go to the newest close at or before `time`, but never before the history's end; the new `now()`."""
        self._count = min(self._last, max(self._first, int(np.searchsorted(self._closes, time, "right"))))
        self._now = int(self._closes[self._count - 1])
        self._reported = False
        return self._now

    def candles(self, symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> Candles:
        """Closed bars, as views (ports.CandleSource)."""
        rows = self._rows(symbol, timeframe)
        stop = self._closed_count(rows)
        if since is None:
            return rows[0 if limit is None else max(0, stop - limit) : stop]
        start = min(stop, int(np.searchsorted(rows.time, since)))
        return rows[start : stop if limit is None else min(stop, start + limit)]

    def forming(self, symbol: str, timeframe: str | None = None) -> tuple[int, float] | None:
        """Open time and open price of the bar in progress; None in a gap or at the end."""
        rows = self._rows(symbol, timeframe or self.timeframe)
        return self._forming(rows, self._closed_count(rows))

    def _rows(self, symbol: str, timeframe: str) -> Candles:
        rows = self._candles.get(symbol)
        if rows is None or timeframe != self.timeframe:
            raise CandleDataError(
                f"no candles of {symbol} {timeframe} in this market; it has {', '.join(self._candles)} {self.timeframe}"
            )
        return rows

    def _closed_count(self, rows: Candles) -> int:
        return int(np.searchsorted(rows.time, self._now - self._length, "right"))

    def _forming(self, rows: Candles, count: int) -> tuple[int, float] | None:
        if count < len(rows) and rows.time[count] <= self._now:
            return int(rows.time[count]), float(rows.open[count])
        return None


def instruments_from(candles: Mapping[str, Candles], paper: PaperConfig) -> dict[str, Instrument]:
    """Instruments for replayed candles.

    Tick and lot are one unit of the last decimal place that occurs in a sample of the prices and of the volumes (at
    most 8 places: float noise in volumes must not make lots of 1e-17); minimum notional and fees come from `paper`.

    Raises
    ------
    ConfigurationError
        If a symbol is not of the form BASE/QUOTE.
    """
    instruments = {}
    for symbol, rows in candles.items():
        base, quote = _currencies(symbol)
        tick = Decimal(1).scaleb(-_decimals(rows.open, rows.high, rows.low, rows.close))
        lot = Decimal(1).scaleb(-_decimals(rows.volume))
        instruments[symbol] = Instrument(
            symbol=symbol,
            base=base,
            quote=quote,
            tick=tick,
            lot=lot,
            min_quantity=lot,
            max_quantity=_LARGEST_ORDER,
            min_notional=paper.min_notional,
            maker_fee=paper.maker_fee,
            taker_fee=paper.taker_fee,
        )
    return instruments


def default_balances(symbols: Iterable[str], paper: PaperConfig) -> dict[str, Decimal]:
    """The balances of a new paper account: those of `paper`, else 10,000 of the first symbol's quote currency."""
    if paper.balances:
        return dict(paper.balances)
    first = next(iter(symbols), None)
    if first is None:
        raise ConfigurationError("no symbols, so no quote currency for the paper account; set paper.balances")
    return {_currencies(first)[1]: _START_BALANCE}


def _currencies(symbol: str) -> tuple[str, str]:
    base, slash, quote = symbol.partition("/")
    if not (base and slash and quote):
        raise ConfigurationError(f"symbol {symbol!r} is not understood; wanted BASE/QUOTE, such as BTC/USDT")
    return base, quote


def _decimals(*columns: Floats) -> int:
    most = 0
    for column in columns:
        step = max(1, math.ceil(len(column) / _SAMPLE))
        for number in column[::step].tolist():
            if math.isfinite(number):
                exponent = Decimal(repr(number)).normalize().as_tuple().exponent
                most = max(most, -int(exponent))
        if most >= MOST_DECIMALS:
            return MOST_DECIMALS
    return most
