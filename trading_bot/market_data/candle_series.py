"""Stored bars of one symbol and timeframe: the newest in memory, all of them in one Feather file."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trading_bot.domain.market import Candles
from trading_bot.errors import CandleDataError
from trading_bot.logs import event
from trading_bot.market_data import feather

_NAMES = ("time", "open", "high", "low", "close", "volume")


class CandleSeries:
    """Bars in order of time, appended at the end in constant time.

    Newest bars lie in a buffer twice as long as what is kept; views of it are handed out read-only, and rows that
    have been handed out are never written again: an append goes behind them, an insertion or correction makes a new
    buffer. Bars older than the buffer are in the file alone and read when asked for (seldom, and whenever the file is
    written, since it is written whole), so memory does not grow with history.

    Parameters
    ----------
    path : the file; need not exist
    keep : bars kept in memory, at least
    """

    def __init__(self, path: Path, symbol: str, timeframe: str, keep: int = 4096) -> None:
        self.path = path
        self.symbol = symbol
        self.timeframe = timeframe
        self.pulling = threading.Lock()  # one fetch at a time; reading goes on meanwhile
        self.lock = threading.RLock()
        self.confirmed: list[tuple[int, int]] = []  # gaps the venue has no bars for
        self.holes: dict[tuple[int, int], int] = {}  # gaps to ask about -> times asked
        self.returned = -1  # newest bar given to whoever pulls
        self.put_off = 0  # bars that were unsaved when saving last failed
        self.windows: dict[int, tuple[int, Candles]] = {}  # warm-up -> (end, window), so that `once` pays
        self._keep = keep
        self._older = 0  # bars older than the buffer
        self._held: Candles | None = None  # those bars, while the file does not have them as they should be
        self._unsaved = 0  # bars at the end of the buffer that the file does not have
        self._rewritten = False  # older bars changed too
        self._place(Candles.empty(symbol, timeframe))

    def load(self, stored: Candles, confirmed: list[tuple[int, int]]) -> None:
        """Begin with the (checked) candles of the file."""
        with self.lock:
            self.confirmed = list(confirmed)
            self._unsaved = 0
            self._place(stored.tail(self._keep))
            self._older, self._held = len(stored) - self._end, None
            self.returned = self.newest if self.newest is not None else -1

    @property
    def newest(self) -> int | None:
        """Open time of the newest bar; None if there is none."""
        with self.lock:
            return int(self._columns[0][self._end - 1]) if self._end else None

    @property
    def unsaved(self) -> int:
        """Bars that are in memory only."""
        return self._unsaved

    def __len__(self) -> int:
        with self.lock:
            return self._older + self._end

    def append(self, fresh: Candles) -> None:
        """Add bars that all begin after the newest one."""
        n = len(fresh)
        with self.lock:
            if self._end + n > len(self._columns[0]):
                memory = self._memory()
                kept = memory.tail(max(self._keep, self._unsaved))
                self._leave(memory[: len(memory) - len(kept)])
                self._place(kept, room=n)
            for column, name in zip(self._columns, _NAMES, strict=True):
                column[self._end : self._end + n] = getattr(fresh, name)
            self._end += n
            self._unsaved += n

    def merge(self, bars: Candles) -> None:
        """Put bars where they belong, replacing those that are there. Copies everything: for rare repairs."""
        with self.lock:
            old = self.everything()
            kept = old if not len(bars) else _without(old, bars.time)
            order = np.argsort(np.concatenate([kept.time, bars.time]), kind="stable")
            columns = [np.concatenate([getattr(kept, name), getattr(bars, name)])[order] for name in _NAMES]
            whole = Candles(self.symbol, self.timeframe, *columns)  # type: ignore[arg-type]
            recent = whole.tail(max(self._keep, self._unsaved + len(bars)))
            self._held = whole[: len(whole) - len(recent)]
            self._older = len(self._held)
            self._place(recent)
            self._unsaved = min(self._unsaved + len(bars), self._end)
            self._rewritten = True
            self.windows.clear()

    def since(self, time: int) -> Candles:
        """Bars that begin at or after `time`."""
        return self.between(time, None)

    def between(self, start: int, end: int | None) -> Candles:
        """Bars with start ≤ open time ≤ end."""
        with self.lock:
            recent = self._memory()
            if not self._end or (start < recent.time[0] and self._older):
                recent = self.everything()
            first = int(np.searchsorted(recent.time, start))
            last = len(recent) if end is None else int(np.searchsorted(recent.time, end, "right"))
            return recent[first:last]

    def newest_bars(self, n: int) -> Candles:
        """The newest `n` bars."""
        with self.lock:
            return self._memory().tail(n) if n <= self._end else self.everything().tail(n)

    def everything(self) -> Candles:
        """All bars; the older ones are read from the file."""
        with self.lock:
            return self._from_file(copy=True).joined(self._memory()) if self._older else self._memory()

    def save(self) -> None:
        """Write what the file lacks; a failure leaves the old file and everything in memory.

        Raises
        ------
        OSError
        """
        with self.lock:
            if not self._unsaved and not self._rewritten:
                return
            recent = self._memory()
            whole = self._from_file(copy=False).joined(recent) if self._older else recent
            feather.write(self.path, whole, self.confirmed)
            self._held = None
            self._unsaved = self.put_off = 0
            self._rewritten = False

    def remember(self, start: int, end: int) -> None:
        """The venue has no bars from `start` to `end`: not to be asked for again."""
        with self.lock:
            self.confirmed.append((start, end))
            self._rewritten = True

    def _memory(self) -> Candles:
        return Candles(self.symbol, self.timeframe, *(column[: self._end] for column in self._columns))  # type: ignore[arg-type]

    def _from_file(self, copy: bool) -> Candles:
        """The bars older than the buffer; none if somebody took the file away or damaged it: then it begins anew."""
        if self._held is not None:
            return self._held
        try:
            stored, _ = feather.read(self.path, self.symbol, self.timeframe, copy=copy)
            if len(stored) < self._older:
                raise CandleDataError(f"{self.path}: found {len(stored)} bars, wrote more than {self._older}")
        except (FileNotFoundError, CandleDataError) as error:
            event("candles", f"{self.symbol} {self.timeframe}", f"older bars are lost: {error}", level="WARNING")
            self._older, self._rewritten = 0, True
            return Candles.empty(self.symbol, self.timeframe)
        return stored[: self._older]

    def _leave(self, bars: Candles) -> None:
        """Bars that leave the buffer for the file (which has them), or for what it is to be rewritten with."""
        if self._held is not None:
            self._held = self._held.joined(bars)
        self._older += len(bars)

    def _place(self, candles: Candles, room: int = 0) -> None:
        """Begin a new buffer with `candles`; views of the old one stay as they are."""
        size = 2 * self._keep + len(candles) + room
        columns: list[npt.NDArray[np.generic]] = []
        for name in _NAMES:
            column = np.empty(size, np.int64 if name == "time" else np.float64)
            column[: len(candles)] = getattr(candles, name)
            columns.append(column)
        self._columns, self._end = columns, len(candles)


def _without(candles: Candles, times: npt.NDArray[np.int64]) -> Candles:
    keep = ~np.isin(candles.time, times)
    columns = [getattr(candles, name)[keep] for name in _NAMES]
    return Candles(candles.symbol, candles.timeframe, *columns)
