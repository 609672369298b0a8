"""Candle files by name and format: CSV and JSON (plain or gzip), Parquet, Feather; freqtrade's names, and ours."""

from __future__ import annotations

import difflib
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from trading_bot.domain.market import Candles, Times
from trading_bot.errors import CandleDataError, ConfigurationError
from trading_bot.market_data.candle_checks import checked
from trading_bot.market_data.candle_rows import from_rows

SUFFIXES = (".csv.gz", ".csv", ".parquet", ".feather", ".json.gz", ".json")

_NAME = re.compile(
    r"(?:(?P<base>[A-Za-z0-9]+)_(?P<quote>[A-Za-z0-9]+)(?:_(?P<settle>[A-Za-z0-9]+))?"
    r"|(?P<ticker>[A-Z]{1,5}(?:\.[A-Z]{1,2})?|[A-Z]=[A-Za-z0-9.]+))"  # a stock's, or one with its market in front
    r"-(?P<timeframe>[1-9]\d*[smhdw])(?P<suffix>\.csv\.gz|\.csv|\.parquet|\.feather|\.json\.gz|\.json)"
)
_TIME_COLUMNS = ("timestamp", "date", "datetime", "time", "open_time")
_VALUE_COLUMNS = ("open", "high", "low", "close", "volume")
_UNREADABLE = (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, ValueError, RecursionError)


def file_name(symbol: str, timeframe: str, suffix: str = ".feather") -> str:
    """The name freqtrade gives: `BTC/USDT`, `1h` → `BTC_USDT-1h.feather`.

    Tickers, which freqtrade does not have, keep their dot, and `=` stands for the colon that not every file system
    allows: `BRK.B` → `BRK.B-1h.feather`, `C:EURUSD` → `C=EURUSD-1h.feather`.
    """
    if "/" not in symbol:
        return f"{re.sub(r'[^A-Za-z0-9.=]', '_', symbol.replace(':', '='))}-{timeframe}{suffix}"
    return f"{re.sub(r'[^A-Za-z0-9]', '_', symbol)}-{timeframe}{suffix}"


def parse_name(path: Path) -> tuple[str, str] | None:
    """Symbol and timeframe from a file's name; None if it is not named like candles."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    if match["ticker"]:
        return match["ticker"].replace("=", ":"), match["timeframe"]
    return f"{match['base']}/{match['quote']}" + (f":{match['settle']}" if match["settle"] else ""), match["timeframe"]


def suffix_of(path: Path) -> str:
    """The ending that tells a candle file's format; "" if it has none of `SUFFIXES`."""
    return next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), "")


def candle_files(folder: Path) -> list[Path]:
    """Files in `folder` that are named like candles, by name."""
    return sorted(path for path in folder.iterdir() if path.is_file() and parse_name(path) is not None)


def read(path: Path) -> tuple[Candles, tuple[str, ...]]:
    """The checked candles of one file, and what had to be repaired.

    Raises
    ------
    ConfigurationError
        If there is no such file, or its name does not tell symbol and timeframe.
    CandleDataError
        If its contents are not candles; the message names the row.
    """
    named = parse_name(path)
    if named is None:
        raise ConfigurationError(
            f"candle file {path.name!r} does not tell symbol and timeframe; wanted a name such as BTC_USDT-1h.csv.gz "
            f"(endings: {', '.join(SUFFIXES)}); rename it"
        )
    if not path.is_file():
        raise ConfigurationError(missing(path))
    suffix = suffix_of(path)
    try:
        if suffix in (".json", ".json.gz"):
            candles = _read_json(path, *named)
        else:
            table = _read_csv(path) if suffix in (".csv", ".csv.gz") else _read_arrow(path)
            candles = _candles(*named, table, path)
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise CandleDataError(
            f"{path}: cannot be read as {suffix[1:]} ({reason}); it may be cut short or something else; "
            "download it again"
        ) from error
    if not len(candles):
        raise CandleDataError(f"{path}: has no rows; wanted at least one candle; download it again")
    return checked(candles, str(path))


def missing(path: Path) -> str:
    """Words for a candle file that is not there, with the nearest one that is."""
    if not path.parent.is_dir():
        return f"candle file {path} not found: there is no folder {path.parent}; check the path"
    names = [other.name for other in candle_files(path.parent)]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    if near:
        return f"candle file {path} not found; did you mean {near[0]}?"
    listing = ", ".join(names[:8]) + (", …" if len(names) > 8 else "") if names else "no candle files"
    return f"candle file {path} not found; its folder has {listing}"


def _read_csv(path: Path) -> pa.Table:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        header = [name.strip().strip('"') for name in lines.readline(10_000).lstrip("\ufeff").split(",")]
    if header == [""]:
        raise CandleDataError(f"{path}: is empty; wanted a header line and candles; download it again")
    columns = _columns(header, path)
    return pa_csv.read_csv(
        path,
        read_options=pa_csv.ReadOptions(use_threads=False),  # errors then name the row
        convert_options=pa_csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns[1:], pa.float64()),
        ),
    )


def _read_arrow(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pa_parquet  # noqa: PLC0415 - 10 MB that most runs never need

        columns = _columns(pa_parquet.read_schema(path).names, path)
        return pa_parquet.read_table(path, columns=columns, use_threads=False)
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
        columns = _columns(file.schema.names, path)
        return file.read_all().select(columns)


def _read_json(path: Path, symbol: str, timeframe: str) -> Candles:
    """freqtrade's JSON: a list of rows [milliseconds, open, high, low, close, volume]."""
    whole = path.read_bytes()
    rows = json.loads(gzip.decompress(whole) if path.suffix == ".gz" else whole)
    if not isinstance(rows, list):
        raise CandleDataError(
            f"{path}: has a {type(rows).__name__}; wanted a list of rows [milliseconds, {', '.join(_VALUE_COLUMNS)}]"
        )
    candles, _, faults = from_rows(symbol, timeframe, rows)
    if faults:
        raise CandleDataError(f"{path}: {faults[0]}; mend the file or download it again")
    return candles


def _columns(found: list[str], path: Path) -> list[str]:
    """The file's own names of time, open, high, low, close, volume, in this order."""
    by_lower = {name.lower(): name for name in found}
    time = next((by_lower[name] for name in _TIME_COLUMNS if name in by_lower), None)
    if time is None or any(name not in by_lower for name in _VALUE_COLUMNS):
        shown = ", ".join(found[:10])[:200]
        raise CandleDataError(
            f"{path}: has columns {shown!r}; wanted timestamp (or date), {', '.join(_VALUE_COLUMNS)} in a header line"
        )
    return [time, *(by_lower[name] for name in _VALUE_COLUMNS)]


def _candles(symbol: str, timeframe: str, table: pa.Table, path: Path) -> Candles:
    time = milliseconds(table.column(0), path)
    values = (table.column(i).cast(pa.float64()).to_numpy() for i in range(1, 6))
    return Candles(symbol, timeframe, time, *values)


def milliseconds(column: Any, path: Path) -> Times:
    """UTC milliseconds from a column of dates, ISO texts, or seconds, milli-, micro- or nanoseconds since 1970."""
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0]) + 1
        raise CandleDataError(f"{path}: row {row} has no {_TIME_COLUMNS[0]}; wanted the bar's open in UTC milliseconds")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    if pa.types.is_timestamp(column.type):
        kept = column.cast(pa.timestamp("ms", column.type.tz), safe=False).cast(pa.int64())
        return np.asarray(kept.to_numpy(), dtype=np.int64)
    numbers = np.asarray(column.cast(pa.int64()).to_numpy(), dtype=np.int64)
    largest = int(np.abs(numbers).max(initial=0))
    if largest < 10**11:  # as milliseconds that would be before 1973
        return numbers * 1000
    return numbers if largest < 10**14 else numbers // 1000 if largest < 10**17 else numbers // 1_000_000
