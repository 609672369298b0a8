"""A venue that plays back candles, and can be late, lossy, talkative or silent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from loguru import logger

from trading_bot.domain.market import Candles
from trading_bot.errors import ExchangeUnreachable
from trading_bot.market_data.candle_checks import take
from trading_bot.market_data.file_candles import select

HOUR = 3_600_000
START = 512 * HOUR * 870  # an anchor of 1h windows, in 2020
NAMES = ("time", "open", "high", "low", "close", "volume")


def bars(n: int, *, start: int = START, seed: int = 3, symbol: str = "BTC/USDT") -> Candles:
    """Hourly bars of a random walk with prices of two decimals."""
    chance = np.random.default_rng(seed)
    close = np.round(1000 * np.exp(np.cumsum(chance.normal(0, 0.01, n))), 2)
    opened = np.concatenate([[1000.0], close[:-1]])
    high = np.round(np.maximum(opened, close) + chance.uniform(0, 5, n), 2)
    low = np.round(np.minimum(opened, close) - chance.uniform(0, 5, n), 2)
    time = start + HOUR * np.arange(n)
    return Candles(symbol, "1h", time, opened, high, low, close, np.round(chance.uniform(0, 9, n), 3))


def without(candles: Candles, *rows: int) -> Candles:
    """The candles but for these rows."""
    return take(candles, np.setdiff1d(np.arange(len(candles)), rows))


def changed(candles: Candles, row: int, **values: float) -> Candles:
    """The candles with other values in one row."""
    columns = {name: getattr(candles, name).copy() for name in NAMES}
    for name, value in values.items():
        columns[name][row] = value
    return Candles(candles.symbol, candles.timeframe, **columns)


def same(a: Candles, b: Candles) -> bool:
    """Equal to the last bit."""
    return all(getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in NAMES)


class Venue:
    """A `CandleSource` whose market has just closed bar number `at`, counted in hours from its first."""

    def __init__(self, candles: Candles, at: int | None = None) -> None:
        self.has = candles
        self.everything = candles
        self.time = (int(candles.time[-1]) if at is None else int(candles.time[0]) + at * HOUR) + HOUR
        self.asked: list[tuple[int | None, int | None]] = []
        self.failing: Exception | None = None

    def now(self) -> int:
        return self.time

    def advance(self, n: int = 1) -> None:
        self.time += n * HOUR

    def candles(self, symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> Candles:
        self.asked.append((since, limit))
        if self.failing is not None:
            raise self.failing
        closed = int(np.searchsorted(self.has.time, self.time - HOUR, "right"))
        return select(self.has[:closed], since, limit)


def unreachable() -> ExchangeUnreachable:
    return ExchangeUnreachable("no answer")


@contextmanager
def listening() -> Iterator[list[str]]:
    """Lines that are logged meanwhile, with their level in front."""
    lines: list[str] = []
    sink = logger.add(lines.append, format="{level} {message}", level="DEBUG")
    try:
        yield lines
    finally:
        logger.remove(sink)


def real_data() -> Path:
    """The folder of real candles; the test is skipped where there is none."""
    root = Path(__file__).parents[2]
    folder = Path(os.environ.get("TRADING_BOT_DATA", root / "../shared/data"))
    if not (folder / "BTC_USDT-1h.csv.gz").is_file():
        pytest.skip(f"no real candles in {folder}; set TRADING_BOT_DATA")
    return folder
