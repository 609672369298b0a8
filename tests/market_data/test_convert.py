"""From every format into every other: no bit changes, nothing is lost, torn or written over."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.market_data.venue import HOUR, START, bars, changed, real_data, same, without
from trading_bot.domain.market import Candles
from trading_bot.errors import CandleDataError, ConfigurationError, StorageError, TradingBotError
from trading_bot.market_data.candle_files import SUFFIXES, read
from trading_bot.market_data.candle_writing import FORMATS
from trading_bot.market_data.convert import Converted, convert

NAME = "BTC_USDT-1h"


def put(folder: Path, candles: Candles, to: str, name: str = NAME) -> Path:
    """A candle file of a format."""
    suffix, write = FORMATS[to]
    folder.mkdir(exist_ok=True)
    write(folder / f"{name}{suffix}", candles)
    return folder / f"{name}{suffix}"


def refusal(*paths: Path, to: str = "csv", overwrite: bool = False) -> TradingBotError:
    with pytest.raises(TradingBotError) as raised:
        convert(paths, to, overwrite=overwrite)
    assert "\n" not in str(raised.value)
    return raised.value


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_there_is_a_way_to_write_every_format_but_packed_json() -> None:
    assert {suffix for suffix, _ in FORMATS.values()} == set(SUFFIXES) - {".json.gz"}


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("origin", FORMATS)
def test_from_every_format_into_every_other(tmp_path: Path, origin: str, to: str) -> None:
    candles = without(bars(300), 7, 8)
    source = put(tmp_path / "from", candles, origin)
    (row,) = convert([source], to, folder=tmp_path / "to" / "new")
    assert row.target == tmp_path / "to/new" / f"{NAME}{FORMATS[to][0]}"
    assert same(read(row.target)[0], candles)
    span = int(candles.time[0]), int(candles.time[-1])
    assert row == Converted(source, row.target, "BTC/USDT", "1h", *span, 298, True, False)
    assert names(row.target.parent) == [row.target.name]


prices = st.floats(min_value=5e-324, max_value=1.7e308, allow_subnormal=True)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2_000_000), st.tuples(prices, prices, prices, prices), prices), min_size=1,
             max_size=5, unique_by=lambda row: row[0])
)  # fmt: skip
def test_every_number_survives_every_format(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, tuple[float, ...], float]]
) -> None:
    folder = tmp_path_factory.mktemp("law")
    rows = sorted(rows)
    four = np.sort(np.array([row[1] for row in rows]), axis=1)  # low, open, close, high
    low, opened, close, high = four.T
    time = HOUR * np.array([row[0] for row in rows])
    candles = Candles("BTC/USDT", "1h", time, opened, high, low, close, np.array([row[2] for row in rows]))
    path = put(folder, candles, "feather")
    for number, to in enumerate(("json", "csv", "parquet", "csv.gz", "feather")):
        (row,) = convert([path], to, folder=folder / str(number), erase=True)
        path = row.target
        assert same(read(path)[0], candles)


def test_the_same_candles_give_the_same_bytes(tmp_path: Path) -> None:
    for to in FORMATS:
        one, two = put(tmp_path / "one", bars(50), to), put(tmp_path / "two", bars(50), to)
        assert one.read_bytes() == two.read_bytes()


def test_other_programs_read_what_is_written(tmp_path: Path) -> None:
    candles = bars(48)
    wanted = candles.frame().astype({"date": "datetime64[ms, UTC]"})
    by_pandas = {
        "feather": pd.read_feather,
        "parquet": pd.read_parquet,
        "csv": lambda path: pd.read_csv(path, parse_dates=["date"]),
        "csv.gz": lambda path: pd.read_csv(path, parse_dates=["date"]),
        "json": lambda path: pd.read_json(path, orient="values", precise_float=True).set_axis(wanted.columns, axis=1),
    }
    assert set(by_pandas) == set(FORMATS)
    for to, load in by_pandas.items():
        frame = load(put(tmp_path, candles, to))
        if to == "json":
            frame["date"] = pd.to_datetime(frame["date"], unit="ms", utc=True)
        frame["date"] = frame["date"].astype("datetime64[ms, UTC]")
        pd.testing.assert_frame_equal(frame, wanted, check_exact=True)


def test_a_folder_stands_for_its_files_of_other_formats(tmp_path: Path) -> None:
    put(tmp_path, bars(5), "json")
    put(tmp_path, bars(5), "csv.gz", "ETH_USDT-1h")
    put(tmp_path, bars(5), "csv.gz", "AAPL-1h")
    put(tmp_path, bars(5), "feather", "ADA_USDT-1h")
    (tmp_path / "README.md").write_text("not candles")
    rows = convert([tmp_path], "feather")
    assert [(row.symbol, row.target.name) for row in rows] == [
        ("AAPL", "AAPL-1h.feather"),
        ("BTC/USDT", "BTC_USDT-1h.feather"),
        ("ETH/USDT", "ETH_USDT-1h.feather"),
    ]
    assert len(convert([tmp_path], "parquet", pairs=["ADA/USDT"], folder=tmp_path / "x")) == 1
    with pytest.raises(ConfigurationError, match=r"AAPL-1h\.csv\.gz and .*AAPL-1h\.feather would both become"):
        convert([tmp_path], "parquet", folder=tmp_path / "x")


def test_only_what_was_asked_for(tmp_path: Path) -> None:
    for name in ("BTC_USDT-1h", "ETH_USDT-1h"):
        put(tmp_path, bars(5), "json", name)
    (row,) = convert([tmp_path], "csv", pairs=["ETH/USDT"], timeframes=["1h", "5m"])
    assert row.symbol == "ETH/USDT"
    with pytest.raises(ConfigurationError, match="none of the 2 candle files is of ADA/USDT, 5m"):
        convert([tmp_path], "csv", pairs=["ADA/USDT"], timeframes=["5m"])
    with pytest.raises(ConfigurationError, match="timeframe 'hour' is not understood"):
        convert([tmp_path], "csv", timeframes=["hour"])


def test_what_is_there_already_is_left_and_what_differs_is_not_overwritten(tmp_path: Path) -> None:
    json, other = put(tmp_path, bars(9), "json"), put(tmp_path, bars(9), "json", "ADA_USDT-1h")
    csv = put(tmp_path, bars(9), "csv")
    before = csv.stat()
    rows = convert([json], "csv")
    assert [row.written for row in rows] == [False]
    assert (csv.stat().st_mtime_ns, csv.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    for content in (put(tmp_path / "x", bars(8), "csv").read_bytes(), b"", b"my notes"):
        csv.write_bytes(content)
        assert "holds other candles than" in str(refusal(other, json))
        assert csv.read_bytes() == content
        assert not (tmp_path / "ADA_USDT-1h.csv").exists()
    assert [row.written for row in convert([json], "csv", overwrite=True)] == [True]
    assert same(read(csv)[0], bars(9))


def test_mistakes_are_named_before_anything_is_written(tmp_path: Path) -> None:
    json, packed = put(tmp_path, bars(9), "json"), put(tmp_path, bars(9), "csv.gz")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.csv").write_text("x")
    for error, words in (
        (refusal(json, to="xls"), "unknown format 'xls'; there are feather, csv, csv.gz, parquet, json"),
        (refusal(json, to="cvs"), "did you mean 'csv'?"),
        (refusal(json, packed), "would both become"),
        (refusal(json, to="json"), "is json already"),
        (refusal(tmp_path / "empty"), "no candle files to convert in"),
        (refusal(), "no candle files to convert in nothing"),
        (refusal(tmp_path / "BTC_USTD-1h.json"), "did you mean BTC_USDT-1h.json?"),
        (refusal(tmp_path / "notes.csv"), "does not tell symbol and timeframe"),
    ):
        assert isinstance(error, ConfigurationError)
        assert words in str(error)
    assert names(tmp_path) == sorted([json.name, packed.name, "empty", "notes.csv"])


@pytest.mark.parametrize(
    "wrong",
    [
        changed(bars(9), 3, close=np.nan),
        changed(bars(9), 3, high=1.0),
        changed(bars(9), 3, time=bars(9).time[2]),
        changed(bars(9), 3, time=START + 60_000),
    ],
)
def test_what_is_wrong_in_a_file_stops_there(tmp_path: Path, wrong: Candles) -> None:
    for to in ("feather", "csv", "parquet"):
        source = put(tmp_path / to, wrong, to)
        with pytest.raises(CandleDataError, match=rf"{NAME}.*row \d"):
            convert([source], "json", erase=True)
        assert names(tmp_path / to) == [source.name]


def test_disorder_and_exact_duplicates_are_repaired_and_told(tmp_path: Path) -> None:
    csv = put(tmp_path, bars(5), "csv")
    lines = csv.read_text().splitlines(keepends=True)
    csv.write_text("".join([lines[0], *lines[:0:-1], lines[3]]))
    (row,) = convert([csv], "feather")
    assert same(read(row.target)[0], bars(5))
    assert row.notes == ("1 exact duplicate rows dropped", "rows were not in order of time and have been sorted")


def test_a_source_is_erased_only_for_what_can_be_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = put(tmp_path, bars(9), "json")
    suffix, _ = FORMATS["csv"]
    monkeypatch.setitem(FORMATS, "csv", (suffix, lambda path, candles: path.write_bytes(b"")))
    with pytest.raises(StorageError, match=r"does not hold what was written to it; .* is kept"):
        convert([source], "csv", erase=True)
    assert same(read(source)[0], bars(9))
    monkeypatch.undo()
    (row,) = convert([source], "csv", erase=True, overwrite=True)
    assert row.erased
    assert names(tmp_path) == [f"{NAME}.csv"]


@pytest.mark.parametrize("to", FORMATS)
def test_a_full_disk_leaves_the_old_file_and_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    source = put(tmp_path / "from", bars(20), "json")
    target = put(tmp_path / "to", bars(9), to)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot be written \(No space left on device\); make room"):
        convert([source], to, folder=tmp_path / "to", overwrite=True, erase=True)
    assert same(read(target)[0], bars(9))
    assert names(tmp_path / "to") == [target.name]
    assert source.exists()


def test_a_terminal_sees_a_progress_bar_for_several_files(tmp_path: Path) -> None:
    for number, (terminal, files, seen) in enumerate(((True, 2, True), (True, 1, False), (False, 2, False))):
        folder = tmp_path / str(number)
        for name in ("BTC_USDT-1h", "ETH_USDT-1h")[:files]:
            put(folder, bars(5), "json", name)
        shown = io.StringIO()
        convert([folder], "csv", console=Console(file=shown, force_terminal=terminal, width=80))
        assert ("100%" in shown.getvalue()) is seen


def test_real_candles_go_there_and_back(tmp_path: Path) -> None:
    source = real_data() / "BTC_USDT-1h.csv.gz"
    path, original = source, read(source)[0]
    for to in FORMATS:
        (row,) = convert([path], to, folder=tmp_path / to.replace(".", ""))
        path = row.target
        assert same(read(path)[0], original)
