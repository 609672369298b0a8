"""Public routes: the candles, prices and symbols that anybody may ask for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.exchange.local import START, Local, local_exchange, walk, walks

HOUR = 3_600_000
HISTORY = 300
NOW = START + HISTORY * HOUR


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with local_exchange(tmp_path_factory.mktemp("exchange"), history=HISTORY) as running:
        yield running


def get(local: Local, path: str, **params: Any) -> Any:
    status, answer = local.ask("GET", path, **params)
    assert status == 200, answer
    return answer


def klines(local: Local, **params: Any) -> list[list[Any]]:
    rows: list[list[Any]] = get(local, "/api/v3/klines", symbol="BTCUSDT", interval="1h", **params)
    return rows


def test_the_last_candle_is_the_one_in_progress_and_shows_only_its_open(local: Local) -> None:
    rows = klines(local)
    assert len(rows) == HISTORY + 1
    opened, first, high, low, last, volume, closes = rows[-1][:7]
    assert (opened, closes) == (NOW, NOW + HOUR - 1)
    assert first == high == low == last
    assert float(volume) == 0
    assert first == f"{walks()['BTC/USDT'].open[HISTORY]:.2f}"


def test_closed_candles_come_as_they_are(local: Local) -> None:
    source = walks()["BTC/USDT"]
    for row, index in zip(klines(local)[:-1], range(HISTORY), strict=True):
        wanted = [f"{getattr(source, name)[index]:.2f}" for name in ("open", "high", "low", "close")]
        assert row[0] == source.time[index]
        assert row[1:5] == wanted
        assert row[5] == f"{source.volume[index]:.3f}"
        assert len(row) == 12


@pytest.mark.parametrize(
    ("params", "first", "count"),
    [
        ({"limit": 3}, NOW - 2 * HOUR, 3),
        ({"limit": 1}, NOW, 1),
        ({"startTime": START + 5 * HOUR, "limit": 4}, START + 5 * HOUR, 4),
        ({"startTime": START + 5 * HOUR - 1, "limit": 4}, START + 5 * HOUR, 4),
        ({"startTime": NOW - HOUR}, NOW - HOUR, 2),
        ({"startTime": NOW}, NOW, 1),
        ({"startTime": NOW + 1}, None, 0),
        ({"endTime": START + 9 * HOUR, "limit": 2}, START + 8 * HOUR, 2),
        ({"startTime": START, "endTime": START + 2 * HOUR}, START, 3),
        ({"startTime": START, "endTime": NOW, "limit": 1000}, START, HISTORY + 1),
        ({"endTime": START - 1}, None, 0),
        ({"limit": 99999}, START, HISTORY + 1),
    ],
)
def test_which_candles_are_asked_for(local: Local, params: dict[str, int], first: int | None, count: int) -> None:
    rows = klines(local, **params)
    assert len(rows) == count
    assert [row[0] for row in rows] == ([] if first is None else list(range(first, first + count * HOUR, HOUR)))


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("klines", {"symbol": "DOGEUSDT", "interval": "1h"}, -1121),
        ("klines", {"symbol": "BTCUSDT", "interval": "7m"}, -1120),
        ("klines", {"symbol": "BTCUSDT"}, -1102),
        ("klines", {"interval": "1h"}, -1102),
        ("klines", {"symbol": "BTCUSDT", "interval": "1h", "limit": "many"}, -1100),
        ("klines", {"symbol": "BTCUSDT", "interval": "1h", "limit": 0}, -1130),
        ("klines", {"symbol": "BTCUSDT", "interval": "1h", "colour": "red"}, -1104),
        ("depth", {"symbol": ""}, -1102),
        ("ticker/24hr", {"symbol": "NONE"}, -1121),
        ("exchangeInfo", {"symbol": "btcusdt"}, -1121),
    ],
)
def test_wrong_questions_have_binances_codes(local: Local, path: str, params: dict[str, Any], code: int) -> None:
    status, answer = local.ask("GET", f"/api/v3/{path}", **params)
    assert (status, answer["code"]) == (400, code)


def test_exchange_info_states_filters_of_the_candles_own_decimals(local: Local) -> None:
    info = get(local, "/api/v3/exchangeInfo")
    assert [entry["symbol"] for entry in info["symbols"]] == ["ADAUSDT", "BTCUSDT", "ETHUSDT"]
    filters = {entry["filterType"]: entry for entry in info["symbols"][1]["filters"]}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01"
    assert filters["LOT_SIZE"]["stepSize"] == "0.001"
    assert filters["NOTIONAL"]["minNotional"] == "5"
    assert set(filters) == {"PRICE_FILTER", "LOT_SIZE", "MARKET_LOT_SIZE", "NOTIONAL", "MAX_NUM_ORDERS"}


def test_server_time_is_the_wall_clock_and_market_time_is_not(local: Local) -> None:
    assert abs(get(local, "/api/v3/time")["serverTime"] - time.time() * 1000) < 5_000
    assert local.control.get("clock") == {"now": NOW, "ended": False}


def test_prices_agree_with_each_other(local: Local) -> None:
    price = klines(local, limit=1)[0][1]
    assert get(local, "/api/v3/ticker/price", symbol="BTCUSDT")["price"] == price
    book = get(local, "/api/v3/ticker/bookTicker", symbol="BTCUSDT")
    assert float(book["bidPrice"]) < float(price) < float(book["askPrice"])
    depth = get(local, "/api/v3/depth", symbol="BTCUSDT", limit=5)
    assert depth["bids"][0] == [book["bidPrice"], book["bidQty"]]
    assert len(depth["asks"]) == 5
    bids = [float(level[0]) for level in depth["bids"]]
    assert bids == sorted(bids, reverse=True)
    day = get(local, "/api/v3/ticker/24hr", symbol="BTCUSDT")
    source = walks()["BTC/USDT"][HISTORY - 24 : HISTORY]
    assert float(day["openPrice"]) == source.open[0]
    assert float(day["highPrice"]) == max(source.high.max(), float(price))
    assert float(day["volume"]) == pytest.approx(source.volume.sum(), abs=1e-3)


def test_tickers_of_all_or_some_symbols(local: Local) -> None:
    assert len(get(local, "/api/v3/ticker/24hr")) == 3
    some = get(local, "/api/v3/ticker/price", symbols='["BTCUSDT","ETHUSDT"]')
    assert [entry["symbol"] for entry in some] == ["BTCUSDT", "ETHUSDT"]


def test_public_trades_have_one_number_however_they_are_asked_for(local: Local) -> None:
    newest = get(local, "/api/v3/trades", symbol="BTCUSDT", limit=10)
    assert len(newest) == 10
    again = get(local, "/api/v3/aggTrades", symbol="BTCUSDT", startTime=newest[0]["time"], limit=10)
    assert [trade["a"] for trade in again] == [trade["id"] for trade in newest]
    assert [trade["p"] for trade in again] == [trade["price"] for trade in newest]
    assert [trade["id"] for trade in newest] == sorted({trade["id"] for trade in newest})


def test_unknown_routes_and_methods_are_refused(local: Local) -> None:
    assert local.ask_raw("GET", "/api/v3/nothing")[0] == 404
    assert local.ask_raw("DELETE", "/api/v3/klines")[0] == 405


def test_a_symbol_without_candles_yet_has_no_price(tmp_path: Path) -> None:
    candles = {"BTC/USDT": walk("BTC/USDT", 50), "NEW/USDT": walk("NEW/USDT", 10, start=START + 30 * HOUR)}
    with local_exchange(tmp_path, candles, history=10) as local:
        assert local.ask("GET", "/api/v3/klines", symbol="NEWUSDT", interval="1h") == (200, [])
        assert local.ask("GET", "/api/v3/ticker/price", symbol="NEWUSDT")[1]["code"] == -1013
        assert [entry["symbol"] for entry in get(local, "/api/v3/ticker/24hr")] == ["BTCUSDT"]
        order = {"symbol": "NEWUSDT", "side": "BUY", "type": "MARKET", "quantity": "1"}
        assert local.ask("POST", "/api/v3/order", signed=True, **order)[1]["code"] == -1013
        assert "NEW/USDT" in local.broker().instruments()
