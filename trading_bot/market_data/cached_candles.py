"""Closed candles of a source, checked, kept on disk, fetched only once: what strategies see."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trading_bot.domain.journal import CandleGap
from trading_bot.domain.market import Candles, anchor, timeframe_ms
from trading_bot.durable import remove_leftovers
from trading_bot.errors import CandleDataError, ConfigurationError, ExchangeError, StorageError
from trading_bot.logs import event
from trading_bot.market_data import feather
from trading_bot.market_data.candle_checks import gaps, sift, utc
from trading_bot.market_data.candle_files import file_name
from trading_bot.market_data.candle_series import CandleSeries
from trading_bot.ports import CandleSource

PAGE = 1000  # bars asked for at once
ASKS_PER_HOLE = 3
HOLES_PER_PULL = 10


class CachedCandles:
    """A `ports.CandleSource` that remembers another one's closed bars.

    `pull` fetches what is missing, `window` and `candles` read. Bars that a reader has been given never change
    afterwards; a hole may still be filled when the venue delivers its bars late. Safe to pull in one thread while
    another reads. One running program per folder: each writes the whole file from what it knows.

    Parameters
    ----------
    source
        Asked for bars that are not stored yet.
    folder
        One Feather file per symbol and timeframe, with freqtrade's names; made if it is not there. It should belong
        to one market: bars of another one under the same symbol would be taken for its past.
    now
        Market time, UTC ms. Only bars that had closed by then are taken.
    on_gap
        Told once of each stretch for which the venue has newer bars but none.
    history
        Bars fetched when nothing is stored yet, or up to 511 more, so that the oldest one begins a window.
    flush_every
        Newest bars kept in memory only; after a kill they are fetched again.
    """

    def __init__(
        self,
        source: CandleSource,
        folder: Path,
        *,
        now: Callable[[], int],
        on_gap: Callable[[CandleGap], None] = lambda gap: None,
        history: int = 1000,
        flush_every: int = 256,
        keep: int = 4096,
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"candle folder {folder} cannot be made ({error.strerror}); set data_dir"
            ) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigurationError(f"candle folder {folder} is not writable; mend its permissions or set data_dir")
        self._source = source
        self._folder = folder
        self._now = now
        self._on_gap = on_gap
        self._history = history
        self._flush_every = flush_every
        self._keep = keep
        self._series: dict[tuple[str, str], CandleSeries] = {}
        self._opening = threading.Lock()

    def pull(
        self,
        symbol: str,
        timeframe: str,
        *,
        since: int | None = None,
        on_page: Callable[[int], None] = lambda newest: None,
    ) -> Candles:
        """Fetch what has closed since the newest stored bar, mend holes, and return the bars not returned before.

        After a start, stored bars count as returned; `candles(since=…)` reads them again.

        Parameters
        ----------
        since
            Where to begin when nothing is stored, ms; by default `history` bars ago.
        on_page
            Told the newest bar's open after each page.

        Raises
        ------
        ExchangeError
            The source could not be asked; what came before the failure is kept and returned by the next pull.
        CandleDataError
            The source answered garbage.
        """
        series = self._opened(symbol, timeframe)
        with series.pulling:
            self._catch_up(series, since, on_page)
            self._mend(series)
            fresh = series.since(series.returned + 1)
            if len(fresh):
                series.returned = int(fresh.time[-1])
            self._save_when_due(series)
            return fresh

    def candles(self, symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> Candles:
        """See `ports.CandleSource`: from what is stored, pulling first only if nothing is."""
        series = self._opened(symbol, timeframe)
        if series.newest is None:
            self.pull(symbol, timeframe, since=since)
        if since is None:
            return series.newest_bars(len(series) if limit is None else limit)
        found = series.since(since)
        return found if limit is None else found[:limit]

    def window(self, symbol: str, timeframe: str, end_time: int, warmup: int) -> Candles:
        """The stored bars from `anchor(end_time, …, warmup)` to the bar that opens at `end_time`, nothing later.

        The same stored bars give the same window in every process. Begins later where nothing older is stored; ends
        earlier where there is no bar at `end_time`. Asked for again, it is the same object, with its `once` cache.
        """
        series = self._opened(symbol, timeframe)
        with series.lock:
            kept = series.windows.get(warmup)
            if kept is not None and kept[0] == end_time:
                return kept[1]
            found = series.between(anchor(end_time, timeframe_ms(timeframe), warmup), end_time)
            if len(found) and found.time[-1] == end_time:
                series.windows[warmup] = (end_time, found)
            return found

    def newest(self, symbol: str, timeframe: str) -> int | None:
        """Open time of the newest stored bar."""
        return self._opened(symbol, timeframe).newest

    def flush(self) -> None:
        """Write everything that is in memory only.

        Raises
        ------
        StorageError
            If a file cannot be written; the others are.
        """
        failed: StorageError | None = None
        for series in list(self._series.values()):
            try:
                self._save(series)
            except StorageError as error:
                failed = error
        if failed is not None:
            raise failed

    def _save_when_due(self, series: CandleSeries) -> None:
        """Every so many bars, more of them the longer the file, which is written whole; later again if it fails."""
        if series.unsaved < max(self._flush_every, len(series) // 16) + series.put_off:
            return
        try:
            self._save(series)
        except StorageError as error:
            series.put_off = series.unsaved
            event("candles", f"{series.symbol} {series.timeframe}", f"kept in memory: {error}", level="WARNING")

    def _save(self, series: CandleSeries) -> None:
        try:
            series.save()
        except OSError as error:
            raise StorageError(f"candle file {series.path} cannot be written ({error.strerror}); make room") from error

    def _opened(self, symbol: str, timeframe: str) -> CandleSeries:
        found = self._series.get((symbol, timeframe))
        if found is not None:
            return found
        timeframe_ms(timeframe)  # a mistaken one is an error before there is a file of that name
        with self._opening:
            if (symbol, timeframe) not in self._series:
                self._series[symbol, timeframe] = self._load(symbol, timeframe)
            return self._series[symbol, timeframe]

    def _load(self, symbol: str, timeframe: str) -> CandleSeries:
        path = self._folder / file_name(symbol, timeframe)
        series = CandleSeries(path, symbol, timeframe, self._keep)
        remove_leftovers(path)
        try:
            stored, confirmed = feather.read(path, symbol, timeframe)
        except FileNotFoundError:
            return series
        except CandleDataError as error:
            aside = path.with_name(path.name + ".broken")
            with contextlib.suppress(FileNotFoundError):
                path.replace(aside)
            event("candles", f"{symbol} {timeframe}", f"{error}; moved to {aside.name}, fetching anew", level="WARNING")
            return series
        length = timeframe_ms(timeframe)
        closed = int(np.searchsorted(stored.time, self._now() - length, "right"))
        if closed < len(stored):
            text = f"{len(stored) - closed} stored candles are from after {utc(self._now())}; left out"
            event("candles", f"{symbol} {timeframe}", text, level="WARNING")
            stored = stored[:closed]
        series.load(stored, confirmed)
        series.holes = dict.fromkeys([hole for hole in gaps(stored) if hole not in confirmed], 0)
        return series

    def _catch_up(self, series: CandleSeries, since: int | None, on_page: Callable[[int], None]) -> None:
        length = timeframe_ms(series.timeframe)
        now = self._now()
        while True:
            newest = series.newest
            if newest is not None and newest + 2 * length > now:
                return  # the next bar has not closed yet
            if newest is not None:
                start = newest  # once more, to notice a venue that changes its mind
            else:
                start = since if since is not None else max(0, anchor(now, length, self._history))
            wanted = min(PAGE, max(1, (now - start) // length))
            page = self._fetch(series, start, wanted, now)
            if newest is not None:
                page = self._compared(series, page)
            if not len(page):
                return
            series.append(page)
            self._find_holes(series, newest, page)
            on_page(int(page.time[-1]))

    def _fetch(self, series: CandleSeries, since: int, limit: int, now: int) -> Candles:
        """Good, closed bars of the source from `since` on; the bad ones reported."""
        answer = self._source.candles(series.symbol, series.timeframe, since, limit)
        good, faults = sift(answer)
        for fault in faults:
            event("candles", f"{series.symbol} {series.timeframe}", f"left out: {fault}", level="WARNING")
        first = int(np.searchsorted(good.time, since))
        last = int(np.searchsorted(good.time, now - timeframe_ms(series.timeframe), "right"))
        return good[first:last]

    def _compared(self, series: CandleSeries, page: Candles) -> Candles:
        """The bars of `page` after the newest one; a newest one that has changed meanwhile is dealt with."""
        newest = series.newest
        assert newest is not None
        fresh = int(np.searchsorted(page.time, newest, "right"))
        again, had = page[:fresh].tail(1), series.newest_bars(1)
        if len(again) and again.time[0] == newest and _values(again) != _values(had):
            if series.returned < newest:
                series.merge(again)
            else:
                event(
                    "candles",
                    f"{series.symbol} {series.timeframe}",
                    f"the venue changed the candle of {utc(newest)} after it was used; kept as it was used",
                    level="WARNING",
                    used=_values(had),
                    now=_values(again),
                )
        return page[fresh:]

    def _find_holes(self, series: CandleSeries, newest: int | None, page: Candles) -> None:
        length = timeframe_ms(series.timeframe)
        found = gaps(page)
        if newest is not None and page.time[0] > newest + length:
            found.append((newest + length, int(page.time[0])))
        for hole in found:
            series.holes.setdefault(hole, 0)

    def _mend(self, series: CandleSeries) -> None:
        """Ask again for what is missing inside."""
        due = [hole for hole, asked in series.holes.items() if asked < ASKS_PER_HOLE][:HOLES_PER_PULL]
        for hole in due:
            try:
                self._ask_again(series, hole)
            except (ExchangeError, CandleDataError) as error:
                series.holes[hole] += 1
                text = f"candles from {utc(hole[0])} are missing and could not be asked for again: {error}"
                event("candles", f"{series.symbol} {series.timeframe}", text, level="WARNING")
                return

    def _ask_again(self, series: CandleSeries, hole: tuple[int, int]) -> None:
        start, end = hole
        length = timeframe_ms(series.timeframe)
        name = f"{series.symbol} {series.timeframe}"
        answer = self._fetch(series, start, min(PAGE, (end - start) // length + 1), self._now())
        asked = series.holes.pop(hole) + 1
        late = answer[: int(np.searchsorted(answer.time, end))]
        if len(late):
            series.merge(late)
            event("candles", name, f"{len(late)} missing candles from {utc(int(late.time[0]))} arrived", late=len(late))
        # What lies before the answer's newest bar, and is not in it, the venue does not have.
        known_to = min(end, int(answer.time[-1])) if len(answer) else start
        position = start
        for time in [*late.time.tolist(), end]:
            if time > position and time <= known_to:
                self._confirm(series, position, time)
                position = time
            if time < end:
                position = time + length
        if position < end and known_to < end:
            series.holes[position, end] = asked
            if asked >= ASKS_PER_HOLE:
                text = f"candles from {utc(position)} to {utc(end)} asked for {asked} times without an answer; going on"
                event("candles", name, text, level="WARNING")

    def _confirm(self, series: CandleSeries, start: int, end: int) -> None:
        self._on_gap(CandleGap(series.symbol, series.timeframe, start, end))  # first: if it fails, it is asked again
        series.remember(start, end)
        bars = (end - start) // timeframe_ms(series.timeframe)
        text = f"the venue has no candles from {utc(start)} to {utc(end)}"
        event("candles", f"{series.symbol} {series.timeframe}", text, bars=bars)


def _values(candles: Candles) -> tuple[float, ...]:
    """Open, high, low, close and volume of the only row."""
    return tuple(
        float(column[0]) for column in (candles.open, candles.high, candles.low, candles.close, candles.volume)
    )
