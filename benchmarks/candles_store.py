"""1,000,000 candles on disk: Feather (atomic, checksummed, mapped) ≥ 10 × SQLite in writing and in reading.

Also what the decision path pays: one window out of a long series, and appending one new bar.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks._figures import goal, interleaved, median_ms, say, times
from trading_bot.domain.market import Candles
from trading_bot.market_data import feather
from trading_bot.market_data.cached_candles import CachedCandles
from trading_bot.market_data.candle_files import file_name

CANDLES = 1_000_000
ROUNDS = 3
WINDOWS = 500
MINUTE = 60_000
START = 1_577_836_800_000  # 2020-01-01, ms
COLUMNS = ("time", "open", "high", "low", "close", "volume")


def walk(bars: int) -> Candles:
    """A seeded random walk of one-minute candles."""
    random = np.random.default_rng(7)
    close = 30_000 * np.exp(np.cumsum(random.normal(0, 1e-4, bars)))
    opened = np.concatenate([close[:1], close[:-1]])
    high, low = np.maximum(opened, close) * 1.0001, np.minimum(opened, close) * 0.9999
    time = START + np.arange(bars) * MINUTE
    return Candles("BTC/USDT", "1m", time, opened, high, low, close, random.uniform(1, 10, bars))


def main() -> None:
    candles = walk(CANDLES)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        columnar, rows = home / file_name("BTC/USDT", "1m"), home / "candles.sqlite"
        writing = interleaved(
            {"feather": lambda: feather.write(columnar, candles), "sqlite": lambda: _write_rows(rows, candles)}, ROUNDS
        )
        reading = interleaved(
            {"feather": lambda: _touch(feather.read(columnar, "BTC/USDT", "1m")[0]), "sqlite": lambda: _read(rows)},
            ROUNDS,
        )
        for what, spent in (("write", writing), ("read", reading)):
            for name, seconds in spent.items():
                times(f"{what} {name}, durable" if what == "write" else f"{what} {name}, checked", seconds)
        goal("writing, SQLite / Feather", _ratio(writing), "×", least=10)
        goal("reading, SQLite / Feather", _ratio(reading), "×", least=10)
        _windows(home, candles)


def _ratio(spent: dict[str, list[float]]) -> float:
    return median_ms(spent["sqlite"]) / median_ms(spent["feather"])


def _touch(candles: Candles) -> float:
    """Use every column: a mapped file is read when it is used."""
    return sum(float(getattr(candles, name).sum()) for name in COLUMNS)


def _write_rows(path: Path, candles: Candles) -> None:
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.execute(f"CREATE TABLE candles ({COLUMNS[0]} INTEGER PRIMARY KEY, {' REAL, '.join(COLUMNS[1:])} REAL)")
    rows = zip(*(getattr(candles, name).tolist() for name in COLUMNS), strict=True)
    with connection:
        connection.executemany("INSERT INTO candles VALUES (?, ?, ?, ?, ?, ?)", rows)
    connection.close()


def _read(path: Path) -> float:
    connection = sqlite3.connect(path)
    columns = [np.array(column) for column in zip(*connection.execute("SELECT * FROM candles"), strict=True)]
    connection.close()
    return sum(float(column.sum()) for column in columns)


class Source:
    """Everything up to a moment that moves on."""

    def __init__(self, candles: Candles, known: int) -> None:
        self.all, self.known = candles, known

    def now(self) -> int:
        return int(self.all.time[self.known - 1]) + MINUTE

    def candles(self, symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> Candles:
        first = int(np.searchsorted(self.all.time, since or 0))
        return self.all[first : min(self.known, first + (limit or 1000))]


def _windows(folder: Path, candles: Candles) -> None:
    known = len(candles) - min(WINDOWS, len(candles) // 2)
    feather.write(folder / file_name("BTC/USDT", "1m"), candles[:known])
    source = Source(candles, known)
    feed = CachedCandles(source, folder, now=source.now)
    feed.candles("BTC/USDT", "1m", limit=1)
    pulls: list[float] = []
    windows: list[float] = []
    works: dict[str, tuple[Callable[[], object], list[float]]] = {
        "pull": (lambda: feed.pull("BTC/USDT", "1m"), pulls),
        "window": (lambda: feed.window("BTC/USDT", "1m", source.now() - MINUTE, 520), windows),
    }
    while source.known < len(candles):
        source.known += 1
        for work, into in works.values():
            into.extend(interleaved({"": work}, 1)[""])
    say(f"a series of {known} bars, {len(windows)} new ones:")
    times("append a new bar (checked, now and then written)", pulls)
    times("window of 520 bars and more", windows)
