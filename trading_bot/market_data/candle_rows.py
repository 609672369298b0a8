"""Candles from rows of six numbers, as JSON brings them: bad rows are told apart, nothing is guessed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trading_bot.domain.market import Candles
from trading_bot.market_data.candle_checks import Fault

_COLUMNS = 6


def from_rows(symbol: str, timeframe: str, rows: Sequence[Any]) -> tuple[Candles, list[int], list[Fault]]:
    """Rows of time (ms), open, high, low, close, volume as columns; more numbers in a row are left out.

    Returns
    -------
    candles : the readable rows, in the order given, not checked further: NaN and infinity are left to `sift`
    positions : each one's place among `rows`, from 1
    faults : the rows that are no six numbers
    """
    unreadable: list[Fault] = []
    numbers: list[Sequence[float]] = []
    times: list[int] = []
    positions: list[int] = []
    for position, row in enumerate(rows, start=1):
        time = _time(row)
        if time is not None and len(row) >= _COLUMNS and all(map(_is_number, row[1:_COLUMNS])):
            times.append(time)
            positions.append(position)
            numbers.append(row[1:_COLUMNS])
        else:
            found = f"wanted time and five numbers, found {str(row)[:120]!r}"
            unreadable.append(Fault(position, -1 if time is None else time, found))
    values = np.array(numbers, dtype=np.float64).reshape(-1, _COLUMNS - 1)
    opens, highs, lows, closes, volumes = (values[:, i] for i in range(_COLUMNS - 1))
    candles = Candles(symbol, timeframe, np.array(times, np.int64), opens, highs, lows, closes, volumes)
    return candles, positions, unreadable


def _time(row: Any) -> int | None:
    """The first number of a row, if it is one and whole."""
    if not isinstance(row, list) or not row or not _is_number(row[0]):
        return None
    return int(row[0]) if abs(row[0]) < 2**62 and row[0] % 1 == 0 else None


def _is_number(value: Any) -> bool:
    """A number that an array can hold."""
    return type(value) is float or (type(value) is int and abs(value) < 2**63)
