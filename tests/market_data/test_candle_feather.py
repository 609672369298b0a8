"""Feather files: readable by pandas and from freqtrade, never torn, never trusted when damaged."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.feather as pa_feather
import pytest

from tests.market_data.venue import bars, changed, same, without
from trading_bot.domain.market import Candles
from trading_bot.errors import CandleDataError
from trading_bot.market_data import feather

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "BTC_USDT-1h.feather"


def read(path: Path) -> Candles:
    return feather.read(path, "BTC/USDT", "1h")[0]


def test_what_is_written_is_read_to_the_last_bit(path: Path) -> None:
    candles = without(bars(500), 7, 8)
    feather.write(path, candles, [(1, 2), (3, 4)])
    again, confirmed = feather.read(path, "BTC/USDT", "1h")
    assert same(again, candles)
    assert confirmed == [(1, 2), (3, 4)]
    assert not again.close.flags.writeable


def test_pandas_reads_the_columns_of_freqtrade(path: Path) -> None:
    candles = bars(48)
    feather.write(path, candles)
    frame = pd.read_feather(path)
    assert list(frame.columns) == ["date", "open", "high", "low", "close", "volume"]
    assert str(frame["date"].dtype) == "datetime64[ms, UTC]"
    pd.testing.assert_frame_equal(frame, candles.frame().astype({"date": "datetime64[ms, UTC]"}))


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("compression", ["lz4", "uncompressed"])
def test_files_of_freqtrade_are_read(path: Path, unit: str, compression: str) -> None:
    candles = bars(300)
    frame = candles.frame().astype({"date": f"datetime64[{unit}, UTC]"})
    frame.to_feather(path, compression=compression)
    assert same(read(path), candles)


def test_single_precision_is_widened(path: Path) -> None:
    frame = bars(20).frame()
    frame["volume"] = frame["volume"].astype("float32")
    frame.to_feather(path)
    assert read(path).volume.dtype == "float64"


def test_a_file_cut_short_anywhere_is_noticed(path: Path) -> None:
    feather.write(path, bars(6))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CandleDataError):
            read(path)


def test_a_flipped_bit_anywhere_changes_no_candle_unnoticed(path: Path) -> None:
    candles = bars(6)
    feather.write(path, candles)
    whole = path.read_bytes()
    noticed = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(bytes(damaged))
        try:
            found = read(path)
        except CandleDataError:
            noticed += 1
        else:
            assert same(found, candles)
    assert noticed > 6 * 48  # at least every byte of every column


@pytest.mark.parametrize(
    "wrong",
    [
        changed(bars(9), 3, close=-1.0),
        changed(bars(9), 3, time=1),
        changed(bars(9), 3, time=bars(9).time[2]),
        changed(changed(bars(9), 3, time=bars(9).time[4]), 4, time=bars(9).time[3]),
    ],
)
def test_a_file_of_another_program_is_checked_row_by_row(path: Path, wrong: Candles) -> None:
    wrong.frame().to_feather(path)
    with pytest.raises(CandleDataError, match=r"BTC_USDT-1h\.feather"):
        read(path)


def test_a_file_without_the_columns_is_refused(path: Path) -> None:
    pa_feather.write_feather(pa.table({"date": [1], "open": ["x"]}), str(path))
    with pytest.raises(CandleDataError, match="no whole candle file"):
        read(path)


def test_no_file_is_not_a_broken_file(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(path)


def test_a_write_interrupted_half_way_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feather.write(path, bars(10))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        feather.write(path, bars(20))
    assert same(read(path), bars(10))
    assert list(path.parent.iterdir()) == [path]


def test_a_mapped_file_stays_what_it_was_when_it_is_replaced(path: Path) -> None:
    feather.write(path, bars(400))
    old = read(path)
    feather.write(path, bars(900, seed=9))
    assert same(old, bars(400))


def test_kill_dash_nine_while_writing_never_loses_the_file(path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    done = subprocess.run(
        [sys.executable, "-m", "tests.market_data.killed_writer", str(path), "40", str(seed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    assert "kills=40 " in done.stdout
    assert "versions=1 " not in done.stdout, "the writer was always killed before its first version"
