"""Candle files in every format, and every way in which one can be wrong."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.market_data.venue import HOUR, START, bars, listening, real_data, same, without
from trading_bot.domain.market import Candles
from trading_bot.errors import CandleDataError, ConfigurationError, TradingBotError
from trading_bot.market_data.candle_files import SUFFIXES, file_name, parse_name, read
from trading_bot.market_data.file_candles import FileCandles, list_data

HEADER = "timestamp,open,high,low,close,volume\n"


def csv_of(candles: Candles, time: str = "ms") -> str:
    frame = candles.frame()
    if time == "ISO":
        frame["date"] = frame["date"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    elif time == "plain":
        frame["date"] = frame["date"].dt.strftime("%Y-%m-%d %H:%M:%S")
    else:
        factor = {"s": 1 / 1000, "ms": 1, "us": 1000, "ns": 10**6}[time]
        frame["date"] = [int(t * factor) for t in candles.time]
        frame = frame.rename(columns={"date": "timestamp"})
    return str(frame.to_csv(index=False))


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "BTC_USDT-1h.csv"


@pytest.mark.parametrize("time", ["s", "ms", "us", "ns", "ISO", "plain"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_text_files_are_read_to_the_last_digit(tmp_path: Path, suffix: str, time: str) -> None:
    candles = without(bars(50), 9)
    source = FileCandles([write(tmp_path / f"BTC_USDT-1h{suffix}", csv_of(candles, time))])
    assert source.symbols == ("BTC/USDT",)
    assert source.timeframe == "1h"
    assert same(source.candles("BTC/USDT", "1h"), candles)
    assert source.notes == []


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
def test_column_files_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ETH_EUR-1h{suffix}"
    frame = bars(50).frame()
    frame.to_parquet(path) if suffix == ".parquet" else frame.to_feather(path)
    assert FileCandles([path]).candles("ETH/EUR", "1h").close.tolist() == bars(50).close.tolist()


def json_of(candles: Candles) -> str:
    """As freqtrade writes it."""
    columns = candles.frame().assign(date=candles.time)
    return str(columns.to_json(orient="values"))


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_json_of_freqtrade_is_read(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"BTC_USDT-1h{suffix}", json_of(without(bars(50), 9)))
    assert same(read(path)[0], without(bars(50), 9))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "has no rows; wanted at least one candle"),
        ("{}", "has a dict; wanted a list of rows [milliseconds, open, high, low, close, volume]"),
        (f"[[{START},1,2,1,2,3],[{START},1,2,1]]", "row 2 (2020-10-25 00:00): wanted time and five numbers"),
        (f"[[{START},1,2,1,null,3]]", "row 1 (2020-10-25 00:00): wanted time and five numbers"),
        (f"[[{START},1,2,1,true,3]]", "wanted time and five numbers"),
        (f'[["{START}",1,2,1,2,3]]', "row 1 (-1): wanted time and five numbers"),
        (f"[[{START},1,2,1,1{'0' * 400},3]]", "wanted time and five numbers"),
        (f"[[{START},1,2,1,NaN,3]]", "row 1 (2020-10-25 00:00): close is nan or missing"),
        (f"[[{START},1,2,1,2,3],[{START},1,2,1,1,3]]", "given again in row 2 with other values"),
        (f"[[{START},1,2,1,2,3]", "cannot be read as json"),
        ("[" * 100_000, "cannot be read as json"),
        ("[1" + "0" * 5000 + "]", "cannot be read as json"),
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_json_that_is_no_candles_says_where(tmp_path: Path, suffix: str, content: str, words: str) -> None:
    error = refusal([write(tmp_path / f"BTC_USDT-1h{suffix}", content)])
    assert isinstance(error, CandleDataError)
    assert words in str(error)


def test_columns_may_be_in_any_order_and_case_with_others_between(path: Path) -> None:
    frame = pd.read_csv(write(path, csv_of(bars(9))))
    frame["note"] = "x"
    frame.columns = [name.upper() for name in frame.columns]
    write(path, frame[frame.columns[::-1]].to_csv(index=False))
    assert same(read(path)[0], bars(9))


def test_a_byte_order_mark_is_no_part_of_the_header(path: Path) -> None:
    write(path, "\ufeff" + csv_of(bars(9)))
    assert same(read(path)[0], bars(9))


def test_since_and_limit_choose_as_the_port_says(path: Path) -> None:
    source = FileCandles([write(path, csv_of(bars(20)))])
    times = (bars(20).time).tolist()

    def asked(since: int | None, limit: int | None) -> Any:
        return source.candles("BTC/USDT", "1h", since, limit).time.tolist()

    assert asked(None, None) == times
    assert asked(None, 3) == times[-3:]
    assert asked(times[4], 3) == times[4:7]
    assert asked(times[4] + 1, None) == times[5:]
    assert asked(times[-1] + 1, 5) == []
    assert asked(0, 0) == []
    assert asked(None, 0) == []


def test_duplicates_and_disorder_are_repaired_noted_and_logged(path: Path) -> None:
    lines = csv_of(bars(5)).splitlines(keepends=True)
    write(path, "".join([lines[0], *lines[:0:-1], lines[3]]))
    with listening() as said:
        source = FileCandles([path])
    assert same(source.candles("BTC/USDT", "1h"), bars(5))
    assert source.notes == [
        "BTC_USDT-1h.csv: 1 exact duplicate rows dropped",
        "BTC_USDT-1h.csv: rows were not in order of time and have been sorted",
    ]
    assert len([line for line in said if line.startswith("WARNING")]) == 2


def test_a_folder_stands_for_the_candle_files_in_it(tmp_path: Path) -> None:
    for name in ("BTC_EUR-1h.csv", "ADA_EUR-1h.csv.gz"):
        write(tmp_path / name, csv_of(without(bars(30), 4)))
    (tmp_path / "README.md").write_text("not candles")
    source = FileCandles([tmp_path])
    assert source.symbols == ("ADA/EUR", "BTC/EUR")
    assert source.describe() == ("ADA/EUR, BTC/EUR 1h from 2020-10-25 00:00 to 2020-10-26 05:00: 58 candles, 2 gaps")
    assert set(source.all()) == {"ADA/EUR", "BTC/EUR"}


def refusal(paths: list[Path]) -> TradingBotError:
    with pytest.raises(TradingBotError) as raised:
        FileCandles(paths)
    assert "\n" not in str(raised.value)
    return raised.value


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "BTC_USDT-1h.csv.gz", csv_of(bars(5)))
    error = refusal([tmp_path / "BTC_USTD-1h.csv.gz"])
    assert isinstance(error, ConfigurationError)
    assert "BTC_USTD-1h.csv.gz not found; did you mean BTC_USDT-1h.csv.gz?" in str(error)
    assert "its folder has BTC_USDT-1h.csv.gz" in str(refusal([tmp_path / "zzz.q"]))
    assert f"there is no folder {tmp_path / 'nowhere'}" in str(refusal([tmp_path / "nowhere" / "BTC_USDT-1h.csv"]))


def test_no_files_an_empty_folder_and_a_nameless_file_are_refused(tmp_path: Path) -> None:
    assert "no candle files given" in str(refusal([]))
    assert f"folder {tmp_path} has no candle files" in str(refusal([tmp_path]))
    for name in ("candles.csv", "BTCUSDT-1h.csv", "BTC_USDT-1x.csv", "BTC_USDT.csv", "BTC_USDT-1h.txt"):
        error = refusal([write(tmp_path / name, csv_of(bars(5)))])
        assert isinstance(error, ConfigurationError)
        assert "does not tell symbol and timeframe; wanted a name such as BTC_USDT-1h.csv.gz" in str(error)


def test_several_timeframes_or_one_symbol_twice_are_refused(tmp_path: Path) -> None:
    hour = write(tmp_path / "BTC_USDT-1h.csv", csv_of(bars(5)))
    minute = write(tmp_path / "ETH_USDT-1m.csv", csv_of(bars(5)))
    again = write(tmp_path / "BTC_USDT-1h.csv.gz", csv_of(bars(5)))
    assert "several timeframes: 1h (BTC_USDT-1h.csv) and 1m (ETH_USDT-1m.csv)" in str(refusal([hour, minute]))
    assert "are both of BTC/USDT; give one" in str(refusal([hour, again]))


def test_an_unknown_symbol_or_timeframe_is_refused_when_asked_for(path: Path) -> None:
    source = FileCandles([write(path, csv_of(bars(5)))])
    with pytest.raises(ConfigurationError, match=r"no candles of ETH/USDT.*they have BTC/USDT"):
        source.candles("ETH/USDT", "1h")
    with pytest.raises(ConfigurationError, match="are 1h, not 5m"):
        source.candles("BTC/USDT", "5m")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        (HEADER, "has no rows"),
        ("a,b,c\n1,2,3\n", "has columns 'a, b, c'; wanted timestamp (or date), open, high, low, close, volume"),
        ("1,2,3,4,5,6\n", "has columns '1, 2, 3, 4, 5, 6'; wanted timestamp"),
        (HEADER.replace("close,", ""), "wanted timestamp (or date), open"),
        (HEADER + f"{START},1,2,1,2\n", "Row #2"),
        (HEADER + f"{START},1,2,1,x,3\n", "Row #2: CSV conversion error to double: invalid value 'x'"),
        (HEADER + f"{START},1,2,1,,3\n", "row 1 (2020-10-25 00:00): close is nan or missing"),
        (HEADER + f"{START},1,2,1,2,3\n,1,2,1,2,3\n", "row 2 has no time"),
        (HEADER + "soon,1,2,1,2,3\n", "cannot be read as csv"),
        (HEADER + f"{START},1,2,3,2,3\n", "high 2.0 is below low 3.0"),
        (HEADER + f"{START + 60_000},1,2,1,2,3\n", "its time is no multiple of 1h"),
        (HEADER + f"{START},1,2,1,2,3\n{START},1,2,1,1,3\n", "given again in row 2 with other values"),
    ],
)
def test_contents_that_are_not_candles_say_where(path: Path, content: str, words: str) -> None:
    error = refusal([write(path, content)])
    assert isinstance(error, CandleDataError)
    assert str(error).startswith(str(path))
    assert words in str(error)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "garbage", [b"", b"\x00" * 500, bytes(range(256)) * 9, b"PK\x03\x04 not candles", b"ARROW1\0\0"]
)
def test_garbage_of_any_kind_is_one_line(tmp_path: Path, suffix: str, garbage: bytes) -> None:
    path = tmp_path / f"BTC_USDT-1h{suffix}"
    path.write_bytes(garbage)
    assert isinstance(refusal([path]), CandleDataError)


@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet", ".feather", ".json", ".json.gz"])
def test_a_file_cut_short_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"BTC_USDT-1h{suffix}"
    if suffix == ".csv.gz":
        write(path, csv_of(bars(400)))
    elif suffix.startswith(".json"):
        write(path, json_of(bars(400)))
    elif suffix == ".parquet":
        bars(400).frame().to_parquet(path)
    else:
        bars(400).frame().to_feather(path)
    whole = path.read_bytes()
    for share in (0.01, 0.3, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        error = refusal([path])
        assert isinstance(error, CandleDataError)
        assert str(path) in str(error)


def test_a_folder_named_like_a_file_is_taken_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "BTC_USDT-1h.csv").mkdir()
    assert "has no candle files" in str(refusal([tmp_path / "BTC_USDT-1h.csv"]))


@pytest.mark.parametrize(
    ("symbol", "timeframe", "name"),
    [
        ("BTC/USDT", "1h", "BTC_USDT-1h.feather"),
        ("1INCH/EUR", "15m", "1INCH_EUR-15m.feather"),
        ("BTC/USDT:USDT", "1d", "BTC_USDT_USDT-1d.feather"),
        ("C/USDT", "1h", "C_USDT-1h.feather"),
        ("AAPL", "1h", "AAPL-1h.feather"),
        ("BRK.B", "1d", "BRK.B-1d.feather"),
        ("C:EURUSD", "1m", "C=EURUSD-1m.feather"),
        ("X:BTCUSD", "1m", "X=BTCUSD-1m.feather"),
    ],
)
def test_names_go_both_ways(symbol: str, timeframe: str, name: str) -> None:
    assert file_name(symbol, timeframe) == name
    assert parse_name(Path(name)) == (symbol, timeframe)
    for suffix in SUFFIXES:
        assert parse_name(Path(file_name(symbol, timeframe, suffix))) == (symbol, timeframe)


def test_list_data_tells_period_rows_and_gaps_and_what_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path / "ETH_USDT-1h.csv", csv_of(without(bars(20), 3, 4, 9)))
    write(tmp_path / "BTC_USDT-1h.csv", "nothing\n")
    broken, good = list_data(tmp_path)
    assert (broken.symbol, broken.timeframe, broken.rows) == ("BTC/USDT", "1h", 0)
    assert "has columns 'nothing'" in broken.problem
    assert (good.symbol, good.first, good.last) == ("ETH/USDT", START, START + 19 * HOUR)
    assert (good.rows, good.gaps, good.missing_bars, good.problem) == (17, 2, 3, "")
    assert list_data(tmp_path / "nowhere") == []


def test_real_candles_are_read() -> None:
    folder = real_data()
    source = FileCandles([folder / f"{name}_EUR-1h.csv.gz" for name in ("ADA", "BTC", "ETH")])
    assert source.symbols == ("ADA/EUR", "BTC/EUR", "ETH/EUR")
    assert all(len(candles) > 16_000 for candles in source.all().values())
    assert source.notes == []
    assert "several timeframes" in str(refusal([folder]))
