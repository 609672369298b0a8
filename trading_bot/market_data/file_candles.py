"""Candles from files, all of one timeframe: what the local exchange replays and the backtest reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trading_bot.domain.market import Candles, timeframe_ms
from trading_bot.errors import CandleDataError, ConfigurationError
from trading_bot.logs import event
from trading_bot.market_data.candle_checks import gaps, utc
from trading_bot.market_data.candle_files import SUFFIXES, candle_files, missing, parse_name, read


class FileCandles:
    """`ports.CandleSource` over candle files; a folder stands for all candle files in it.

    Attributes
    ----------
    symbols : in the order of the files
    timeframe : of all of them
    notes : what had to be repaired, in words (also in the log)

    Raises
    ------
    ConfigurationError
        A file that is not there, two for one symbol, several timeframes.
    CandleDataError
        A file whose contents are not candles.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        files = _files(paths)
        self._candles: dict[str, Candles] = {}
        self._origin: dict[str, Path] = {}
        self.notes: list[str] = []
        for path in files:
            candles, notes = read(path)
            self._add(candles, path)
            for note in notes:
                self.notes.append(f"{path.name}: {note}")
                event("candles", candles.symbol, f"{path.name}: {note}", level="WARNING")
        self.symbols: tuple[str, ...] = tuple(self._candles)
        self.timeframe: str = next(iter(self._candles.values())).timeframe

    def _add(self, candles: Candles, path: Path) -> None:
        for symbol, other in self._candles.items():
            if symbol == candles.symbol:
                raise ConfigurationError(
                    f"candle files {self._origin[symbol]} and {path} are both of {symbol}; give one of them"
                )
            if other.timeframe != candles.timeframe:
                raise ConfigurationError(
                    f"candle files have several timeframes: {other.timeframe} ({self._origin[symbol].name}) and "
                    f"{candles.timeframe} ({path.name}); wanted all in one"
                )
        self._candles[candles.symbol] = candles
        self._origin[candles.symbol] = path

    def candles(self, symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> Candles:
        """See `ports.CandleSource`; views, nothing is copied.

        Raises
        ------
        ConfigurationError
            If the files have no such symbol or timeframe.
        """
        if symbol not in self._candles:
            raise ConfigurationError(f"no candles of {symbol} in the files given; they have {', '.join(self.symbols)}")
        if timeframe != self.timeframe:
            raise ConfigurationError(f"candles of {symbol} are {self.timeframe}, not {timeframe}; ask for these")
        return select(self._candles[symbol], since, limit)

    def all(self) -> Mapping[str, Candles]:
        """Everything, by symbol."""
        return dict(self._candles)

    def describe(self) -> str:
        """One line: symbols, timeframe, period, rows and gaps."""
        rows = sum(map(len, self._candles.values()))
        holes = sum(len(gaps(candles)) for candles in self._candles.values())
        first = min(int(candles.time[0]) for candles in self._candles.values())
        last = max(int(candles.time[-1]) for candles in self._candles.values())
        return (
            f"{', '.join(self.symbols)} {self.timeframe} from {utc(first)} to {utc(last)}: "
            f"{rows:,} candles, {holes} gaps"
        )


def select(candles: Candles, since: int | None, limit: int | None) -> Candles:
    """The part of `candles` a `CandleSource` answers with: oldest `limit` from `since` on, or else the newest."""
    if since is None:
        return candles if limit is None else candles.tail(limit)
    first = int(np.searchsorted(candles.time, since))
    return candles[first : None if limit is None else first + limit]


@dataclass(frozen=True, slots=True)
class StoredCandles:
    """What `list-data` says of one file; `problem` says why it cannot be read (the numbers are 0 then)."""

    path: Path
    symbol: str
    timeframe: str
    first: int = 0
    last: int = 0
    rows: int = 0
    gaps: int = 0
    missing_bars: int = 0
    problem: str = ""


def list_data(folder: Path) -> list[StoredCandles]:
    """Every candle file in `folder`, by symbol and timeframe; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted((_stored(path) for path in candle_files(folder)), key=_order)


def _order(stored: StoredCandles) -> tuple[str, int, str]:
    return stored.symbol, timeframe_ms(stored.timeframe), stored.path.name


def _stored(path: Path) -> StoredCandles:
    try:
        candles, _ = read(path)
    except CandleDataError as error:
        symbol, timeframe = parse_name(path) or (path.name, "1h")
        return StoredCandles(path, symbol, timeframe, problem=str(error))
    holes = gaps(candles)
    length = timeframe_ms(candles.timeframe)
    return StoredCandles(
        path,
        candles.symbol,
        candles.timeframe,
        int(candles.time[0]),
        int(candles.time[-1]),
        len(candles),
        len(holes),
        sum((end - start) // length for start, end in holes),
    )


def _files(paths: Sequence[Path]) -> list[Path]:
    if not paths:
        raise ConfigurationError(
            f"no candle files given; wanted files such as BTC_USDT-1h.csv.gz ({', '.join(SUFFIXES)})"
        )
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = candle_files(path)
            if not inside:
                raise ConfigurationError(
                    f"folder {path} has no candle files; wanted some such as BTC_USDT-1h.csv.gz ({', '.join(SUFFIXES)})"
                )
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise ConfigurationError(missing(path))
    return files
