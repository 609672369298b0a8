"""Verbs that fetch candles from Polygon and convert candle files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.cli.conftest import Verb, parsed
from tests.market_data.polygon import KEY, Polygon, Reply, rows_of, serving
from tests.market_data.venue import HOUR, START, bars, same
from trading_bot.cli.main import cli
from trading_bot.market_data.candle_files import read
from trading_bot.market_data.candle_writing import write_json

RANGE = ["-i", "1h", "--timerange", f"{START}-{START + 40 * HOUR}"]
FETCH = ["download-data", "--source", "polygon"]


@pytest.fixture
def polygon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Polygon]:
    for name in ("POLYGON_API_KEY", "MASSIVE_API_KEY", "POLYGON_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        monkeypatch.setattr("trading_bot.market_data.polygon_candles.BASE", server.url)
        monkeypatch.setenv("POLYGON_API_KEY", KEY)
        for ticker in ("AAPL", "X:BTCUSD", "C:EURUSD"):
            server.rows[ticker] = rows_of(bars(50))
        yield server


# --- download-data --source polygon ----------------------------------------------------------------------------------


def test_candles_of_polygon_land_in_a_folder_of_their_own(verb: Verb, home: Path, polygon: Polygon) -> None:
    shown = verb(*FETCH, "-p", "aapl,BTC/USD", "-p", "C:EURUSD", *RANGE).output
    assert "C:EURUSD" in shown
    folder = home / "data/candles/polygon"
    assert sorted(path.name for path in folder.iterdir()) == [
        "AAPL-1h.feather",
        "BTC_USD-1h.feather",
        "C=EURUSD-1h.feather",
    ]
    assert same(read(folder / "AAPL-1h.feather")[0], bars(50)[:40])
    assert [row["rows"] for row in parsed(verb("list-data", "--json"))] == [40, 40, 40]
    polygon.asked.clear()
    (row,) = parsed(verb(*FETCH, "-p", "AAPL", "--json", "-i", "1h", "--timerange", f"{START}-{START + 45 * HOUR}"))
    assert (row["symbol"], row["rows"]) == ("AAPL", 45)
    assert polygon.addresses[0][3] == str(START + 39 * HOUR)


def test_adjusted_prices_are_another_market(verb: Verb, home: Path, polygon: Polygon) -> None:
    body = json.dumps({"status": "OK", "results": rows_of(bars(9))}).encode()
    polygon.scripted = [Reply(200, body)] * 9
    verb(*FETCH, "-p", "AAPL", *RANGE, "--adjusted")
    assert "adjusted=true" in polygon.asked[0]
    assert (home / "data/candles/polygon-adjusted/AAPL-1h.feather").exists()
    assert "--adjusted is for --source polygon" in verb("download-data", "--adjusted", code=2).output


def test_the_pairs_of_the_configuration_will_do(verb: Verb, home: Path, polygon: Polygon) -> None:
    (home / "mine.yaml").write_text("timeframe: 1h\nexchange: {pair_whitelist: [BTC/USD]}")
    (row,) = parsed(verb(*FETCH, "-c", "mine.yaml", "--folder", "here", *RANGE, "--json"))
    assert row["path"] == "here/BTC_USD-1h.feather"


def test_mistakes_are_named_before_anything_is_asked(
    verb: Verb, polygon: Polygon, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "wants -p and -i" in verb(*FETCH, "-p", "AAPL", code=2).output
    assert "wants -p and -i" in verb(*FETCH, "-i", "1h", code=2).output
    assert "'4h' is not to be had from Polygon" in verb(*FETCH, "-p", "AAPL", "-i", "4h", code=4).stderr
    assert "'A-B' is none of Polygon's" in verb(*FETCH, "-p", "A-B", "-i", "1h", code=4).stderr
    monkeypatch.delenv("POLYGON_API_KEY")
    assert "set the environment variable POLYGON_API_KEY" in verb(*FETCH, "-p", "AAPL", *RANGE, code=4).stderr
    assert polygon.asked == []
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("verbose", [[], ["-vv"]])
def test_the_key_is_never_shown(verb: Verb, polygon: Polygon, verbose: list[str]) -> None:
    body = json.dumps({"status": "ERROR", "error": f"unknown key {KEY}"}).encode()
    polygon.scripted = [Reply(429, body, {"Retry-After": "1000"}), Reply(401, body), Reply(200, body)]
    said = "".join(
        str(output)
        for _ in range(3)
        for result in [_failing(*FETCH, "-p", "AAPL", *RANGE, *verbose)]
        for output in (result.output, result.stderr)
    )
    assert "***" in said
    assert ("Traceback" in said) is bool(verbose)
    assert KEY not in said


def _failing(*words: str) -> Result:
    result = CliRunner().invoke(cli, list(words), prog_name="trading-bot")
    assert result.exit_code == 1
    return result


# --- convert-data ----------------------------------------------------------------------------------------------------


def test_convert_data(verb: Verb, home: Path) -> None:
    for name in ("BTC_USDT", "ETH_USDT"):
        write_json(home / f"{name}-1h.json", bars(30))
    shown = verb("convert-data", ".", "--format-to", "feather", "--folder", "data/candles/mine").output
    assert "2020-10-26 05:00" in shown
    assert shown.count("written") == 2
    assert same(read(home / "data/candles/mine/ETH_USDT-1h.feather")[0], bars(30))
    flags = ["--format-to", "csv.gz", "-p", "btc/usdt", "-i", "1h", "--erase"]
    (row,) = parsed(verb("convert-data", "BTC_USDT-1h.json", "ETH_USDT-1h.json", *flags, "--json"))
    assert (row["symbol"], row["rows"], row["target"], row["erased"]) == ("BTC/USDT", 30, "BTC_USDT-1h.csv.gz", True)
    assert not (home / "BTC_USDT-1h.json").exists()
    assert (home / "ETH_USDT-1h.json").exists()


def test_convert_data_refuses_with_one_line(verb: Verb, home: Path) -> None:
    assert "FILE|FOLDER" in verb("convert-data", code=2).output
    assert "--format-to" in verb("convert-data", "x", code=2).output
    write_json(home / "BTC_USDT-1h.json", bars(30))
    to_csv = ["convert-data", "BTC_USDT-1h.json", "--format-to", "csv"]
    (home / "BTC_USDT-1h.csv").write_text("mine")
    assert "replace it with --overwrite" in verb(*to_csv, code=4).stderr
    assert "written" in verb(*to_csv, "--overwrite").output
    assert "was there" in verb(*to_csv).output
    assert "there are feather, csv, csv.gz, parquet, json" in verb(*to_csv[:2], "--format-to", "xls", code=4).stderr
    os.truncate(home / "BTC_USDT-1h.json", 99)
    assert "cannot be read as json" in verb(*to_csv, "--overwrite", code=1).stderr
