"""Candles into files of every format that `candle_files.read` reads, to the last bit; a kill leaves no torn file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from trading_bot.domain.market import Candles
from trading_bot.durable import replacing
from trading_bot.market_data import feather

_VALUES = ("open", "high", "low", "close", "volume")


def write_feather(path: Path, candles: Candles) -> None:
    """Arrow's file format with freqtrade's columns, as the bot itself stores candles."""
    feather.write(path, candles)


def write_csv(path: Path, candles: Candles) -> None:
    """A header and a line a bar; times as 2024-01-31T14:00:00Z, numbers with as many digits as they need."""
    with replacing(path) as file:
        file.write(_csv(candles))


def write_csv_gz(path: Path, candles: Candles) -> None:
    """`write_csv`, compressed; the same candles give the same bytes."""
    with replacing(path) as file:
        file.write(gzip.compress(_csv(candles), mtime=0))


def write_parquet(path: Path, candles: Candles) -> None:
    """Parquet with the columns of the Feather files."""
    import pyarrow.parquet as pa_parquet  # noqa: PLC0415 - 10 MB that most runs never need

    date = pa.array(candles.time, pa.int64()).cast(pa.timestamp("ms", "UTC"))
    values = [pa.array(getattr(candles, name), pa.float64()) for name in _VALUES]
    with replacing(path) as file:
        pa_parquet.write_table(pa.table([date, *values], names=["date", *_VALUES]), file)


def write_json(path: Path, candles: Candles) -> None:
    """freqtrade's JSON: a list of rows [milliseconds, open, high, low, close, volume]."""
    rows = list(zip(candles.time.tolist(), *(getattr(candles, name).tolist() for name in _VALUES), strict=True))
    with replacing(path) as file:
        file.write(json.dumps(rows, separators=(",", ":"), allow_nan=False).encode())


Writer = Callable[[Path, Candles], None]
FORMATS: Mapping[str, tuple[str, Writer]] = {  # name -> ending of the file, how it is written
    "feather": (".feather", write_feather),
    "csv": (".csv", write_csv),
    "csv.gz": (".csv.gz", write_csv_gz),
    "parquet": (".parquet", write_parquet),
    "json": (".json", write_json),
}


def _csv(candles: Candles) -> bytes:
    dates = np.datetime_as_string(candles.time.astype("datetime64[ms]"), unit="s", timezone="UTC").tolist()
    columns = (getattr(candles, name).tolist() for name in _VALUES)
    lines = (",".join(map(str, row)) for row in zip(dates, *columns, strict=True))
    return "\n".join([",".join(("date", *_VALUES)), *lines, ""]).encode()
