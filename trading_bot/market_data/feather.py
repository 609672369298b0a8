"""Candles on disk as Feather (Arrow IPC), written so that a kill leaves the old file or the new one, never a torn one.

Columns are freqtrade's: date (timestamp[ms, UTC]), open, high, low, close, volume; both programs can share a folder.
Uncompressed, so that reading maps the file instead of loading it. A checksum of the columns travels in the schema's
metadata (other programs ignore it), so that bit rot is noticed too.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from trading_bot.domain.market import Candles
from trading_bot.durable import replacing
from trading_bot.errors import CandleDataError
from trading_bot.market_data.candle_checks import sift

Gaps = Sequence[tuple[int, int]]

_COLUMNS = ("date", "open", "high", "low", "close", "volume")
_CHECKSUM = b"trading_bot.crc32"
_GAPS = b"trading_bot.gaps"


def write(path: Path, candles: Candles, confirmed: Gaps = ()) -> None:
    """Replace `path` by `candles` atomically and durably; `confirmed` gaps go into the file's metadata.

    Raises
    ------
    OSError
        Disk full, folder not writable, …; the old file is untouched then.
    """
    table = _table(candles, confirmed)
    with replacing(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def read(path: Path, symbol: str, timeframe: str, *, copy: bool = True) -> tuple[Candles, list[tuple[int, int]]]:
    """Candles and confirmed gaps of a file, all checked.

    Parameters
    ----------
    copy
        False: the candles lie in the mapped file where they can, which costs no memory, for immediate use. A file that
        somebody cuts short while it is mapped ends the process.

    Raises
    ------
    CandleDataError
        If the file is cut short, changed, or holds rows that break a rule: it should not be trusted at all.
    FileNotFoundError
    """
    try:
        table = _mapped(path)
        table.validate(full=True)
        candles = _from_table(table, symbol, timeframe, copy)
        metadata = table.schema.metadata or {}
        confirmed = [(int(start), int(end)) for start, end in json.loads(metadata.get(_GAPS, b"[]"))]
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, MemoryError) as error:
        raise CandleDataError(f"{path}: is no whole candle file ({' '.join(str(error).split())[:200]})") from error
    expected = metadata.get(_CHECKSUM)
    if expected is not None and expected != _checksum(candles):
        raise CandleDataError(f"{path}: its contents do not match their checksum; it was damaged after it was written")
    clean, faults = sift(candles)
    if faults or len(clean) != len(candles) or clean is not candles:
        found = faults[0] if faults else "rows twice or not in order of time"
        raise CandleDataError(f"{path}: {found}")
    return candles, confirmed


def _table(candles: Candles, confirmed: Gaps) -> pa.Table:
    date = pa.array(candles.time, pa.int64()).cast(pa.timestamp("ms", "UTC"))
    values = [pa.array(getattr(candles, name), pa.float64()) for name in _COLUMNS[1:]]
    metadata = {_CHECKSUM: _checksum(candles), _GAPS: json.dumps([list(gap) for gap in confirmed]).encode()}
    return pa.table([date, *values], names=list(_COLUMNS)).replace_schema_metadata(metadata)


def _mapped(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
        return file.read_all()


def _from_table(table: pa.Table, symbol: str, timeframe: str, copy: bool) -> Candles:
    if table.column("date").null_count:
        raise ValueError("rows without a date")
    date = _whole(table.column("date").cast(pa.timestamp("ms", "UTC")), copy)
    time = date.view(pa.int64()).to_numpy(zero_copy_only=False)
    values = (_whole(table.column(name).cast(pa.float64()), copy).to_numpy() for name in _COLUMNS[1:])
    return Candles(symbol, timeframe, time, *values)


def _whole(column: pa.ChunkedArray, copy: bool) -> pa.Array:
    """The column in one piece; `combine_chunks` copies even if it is in one piece already."""
    return column.combine_chunks() if copy or column.num_chunks != 1 else column.chunk(0)


def _checksum(candles: Candles) -> bytes:
    total = 0
    for column in (candles.time, candles.open, candles.high, candles.low, candles.close, candles.volume):
        total = zlib.crc32(column.data, total)
    return b"%08x" % total
