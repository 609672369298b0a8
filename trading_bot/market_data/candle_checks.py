"""What makes candles fit for use, and what to do with those that are not.

One set of rules, two policies. Files are mended by a person: `checked` raises on the first row that breaks a rule and
repairs only what is beyond doubt (order, exact duplicates). A venue's reply cannot be mended: `sift` leaves the bad
rows out, so that the bar is missing rather than wrong, and says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from trading_bot.domain.market import Candles, Times, timeframe_ms
from trading_bot.errors import CandleDataError

Mask = npt.NDArray[np.bool_]

_DAY = 86_400_000
_MONDAY = 4 * _DAY  # the epoch was a Thursday, venues' weeks begin on Monday
_LATEST = 7_258_118_400_000  # the year 2200: larger numbers are micro- or nanoseconds
_WANTED = "wanted one row a bar with 0 < low ≤ open, close ≤ high, all finite, volume ≥ 0"


@dataclass(frozen=True, slots=True)
class Fault:
    """One row that breaks a rule; `row` counts from 1 in the order given, `time` is the bar's open as given."""

    row: int
    time: int
    found: str

    def __str__(self) -> str:
        return f"row {self.row} ({utc(self.time)}): {self.found}"


def utc(time: int) -> str:
    """`time` (ms) as a person writes it; the bare number if it is no date."""
    if not 0 <= time < _LATEST:
        return str(time)
    return f"{datetime.fromtimestamp(time / 1000, UTC):%Y-%m-%d %H:%M}"


def sift(candles: Candles) -> tuple[Candles, tuple[Fault, ...]]:
    """Only the rows of a reply that can be trusted, in order, and the faults of the others.

    Of two rows for one bar the later one counts, as a venue corrects itself by sending again; the earlier is reported
    unless it says the same. Rows out of order are put in order without a word, since venues differ in it.
    """
    good = _times_good(candles) & _prices_good(candles)
    rising = bool((candles.time[1:] > candles.time[:-1]).all())
    if rising and bool(good.all()):
        return candles, ()
    faults = [_fault(candles, int(row)) for row in np.flatnonzero(~good)]
    rows = np.flatnonzero(good)
    rows = rows[np.argsort(candles.time[rows], kind="stable")]
    times = candles.time[rows]
    superseded = np.zeros(len(rows), dtype=bool)
    superseded[:-1] = times[1:] == times[:-1]
    for position in np.flatnonzero(superseded):
        old, new = int(rows[position]), int(rows[position + 1])
        if not _same(candles, old, new):
            faults.append(Fault(old + 1, int(candles.time[old]), f"given again in row {new + 1} with other values"))
    return take(candles, rows[~superseded]), tuple(sorted(faults, key=lambda fault: fault.row))


def checked(candles: Candles, name: str) -> tuple[Candles, tuple[str, ...]]:
    """The candles of a file, in order and without exact duplicates, and what had to be repaired, in words.

    Raises
    ------
    CandleDataError
        Naming `name`, the first row that breaks a rule, what was found and what was wanted.
    """
    clean, faults = sift(candles)
    if faults:
        more = f" ({len(faults) - 1} more rows are wrong)" if len(faults) > 1 else ""
        raise CandleDataError(f"{name}: {faults[0]}; {_WANTED}{more}; mend the file or download it again")
    notes = []
    if dropped := len(candles) - len(clean):
        notes.append(f"{dropped} exact duplicate rows dropped")
    if not bool((candles.time[1:] >= candles.time[:-1]).all()):
        notes.append("rows were not in order of time and have been sorted")
    return clean, tuple(notes)


def gaps(candles: Candles) -> list[tuple[int, int]]:
    """Where bars are missing inside: (first missing open, open of the next bar there is), UTC ms."""
    length = timeframe_ms(candles.timeframe)
    before = np.flatnonzero(np.diff(candles.time) > length)
    return [(int(candles.time[i]) + length, int(candles.time[i + 1])) for i in before]


def take(candles: Candles, rows: npt.NDArray[np.intp]) -> Candles:
    """The candles of `rows` (indices), copied."""
    return Candles(
        candles.symbol,
        candles.timeframe,
        candles.time[rows],
        candles.open[rows],
        candles.high[rows],
        candles.low[rows],
        candles.close[rows],
        candles.volume[rows],
    )


def _prices_good(candles: Candles) -> Mask:
    # Every comparison with NaN is false, and minimum/maximum hand NaN on: one that is missing anywhere fails its row.
    low, high, volume = candles.low, candles.high, candles.volume
    good: Mask = (
        (low > 0)
        & (low <= np.minimum(candles.open, candles.close))
        & (np.maximum(candles.open, candles.close) <= high)
        & (high < np.inf)
        & (volume >= 0)
        & (volume < np.inf)
    )
    return good


def _times_good(candles: Candles) -> Mask:
    good: Mask = (candles.time >= 0) & (candles.time < _LATEST) & on_grid(candles.time, candles.timeframe)
    return good


def on_grid(time: Times, timeframe: str) -> Mask:
    """Which of `time` (ms) can be the open of a bar: UTC multiples of the timeframe, weeks from Monday.

    Bars of several days have no agreed origin: midnight, and in step with most of the others.
    """
    length = timeframe_ms(timeframe)
    if length <= _DAY:
        return np.asarray(time % length == 0)
    if length == 7 * _DAY:
        return np.asarray((time - _MONDAY) % length == 0)
    phases, counts = np.unique(time % length, return_counts=True)
    if not len(phases):
        return np.ones(0, dtype=bool)
    return np.asarray((time % _DAY == 0) & (time % length == phases[counts.argmax()]))


def _same(candles: Candles, a: int, b: int) -> bool:
    columns = (candles.open, candles.high, candles.low, candles.close, candles.volume)
    return all(column[a] == column[b] for column in columns)


def _fault(candles: Candles, row: int) -> Fault:
    """The first rule that `row` breaks, in words."""
    time = int(candles.time[row])
    if not 0 <= time < _LATEST:
        return Fault(row + 1, time, "its time is not in milliseconds since 1970")
    values = {name: float(getattr(candles, name)[row]) for name in ("open", "high", "low", "close", "volume")}
    for name, value in values.items():
        if not np.isfinite(value):
            return Fault(row + 1, time, f"{name} is {value} or missing")
        if value < 0 or (value == 0 and name != "volume"):
            return Fault(row + 1, time, f"{name} is {value}")
    if values["high"] < values["low"]:
        return Fault(row + 1, time, f"high {values['high']} is below low {values['low']}")
    for name in ("open", "close"):
        if not values["low"] <= values[name] <= values["high"]:
            low, high = values["low"], values["high"]
            return Fault(row + 1, time, f"{name} {values[name]} is outside low {low} to high {high}")
    return Fault(row + 1, time, f"its time is no multiple of {candles.timeframe}")
