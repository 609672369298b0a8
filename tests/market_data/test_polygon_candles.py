"""Polygon's candles over real HTTP: paged, closed, checked, patient, and the key nowhere."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.market_data.polygon import KEY, Polygon, Reply, rows_of, serving
from tests.market_data.venue import HOUR, START, bars, listening, same, without
from trading_bot.domain.market import Candles
from trading_bot.errors import (
    CandleDataError,
    ConfigurationError,
    ExchangeDenied,
    ExchangeError,
    ExchangeThrottled,
    ExchangeUnreachable,
    TradingBotError,
)
from trading_bot.logs import redact
from trading_bot.market_data.candle_files import read
from trading_bot.market_data.download import download
from trading_bot.market_data.polygon_candles import PolygonCandles
from trading_bot.market_data.polygon_replies import read_key, ticker_of, window_of

DAY = 24 * HOUR
Make = Callable[..., PolygonCandles]


@pytest.fixture
def polygon() -> Iterator[Polygon]:
    with serving() as server:
        yield server


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def source(polygon: Polygon, slept: list[float]) -> Make:
    def make(now: int = START + 5000 * HOUR, **given: Any) -> PolygonCandles:
        words: dict[str, Any] = {"base": polygon.url, "sleep": slept.append, "clock_now": lambda: now, **given}
        return PolygonCandles(words.pop("key", KEY), **words)

    return make


def refused(ask: Callable[[], object]) -> TradingBotError:
    """The error of `ask`; neither it, nor its traceback, nor the log knows the key."""
    with listening() as said, pytest.raises(TradingBotError) as raised:
        ask()
    shown = "".join(traceback.format_exception(raised.value)) + "".join(map(redact, said))
    assert KEY not in shown
    assert "\n" not in str(raised.value)
    return raised.value


# ── what is asked, and what comes of it ────────────────────────────────────────────────────────────────────────────


def test_page_after_page_gives_everything_and_the_key_is_in_no_address(polygon: Polygon, source: Make) -> None:
    has = without(bars(2500), 9, 10, 1700)
    polygon.rows["AAPL"] = rows_of(has)
    found = source().candles("AAPL", "1h", START)
    assert same(found, has)
    assert (found.symbol, found.timeframe) == ("AAPL", "1h")
    assert [path.partition("?")[2] for path in polygon.asked[1:3]] == ["cursor=1000", "cursor=2000"]
    assert set(polygon.addresses[:3]) == {("AAPL", "1", "hour", str(START), str(START + 5000 * HOUR - 1))}
    assert KEY not in "".join(polygon.asked)


def test_since_and_limit_choose_as_the_port_says(polygon: Polygon, source: Make) -> None:
    polygon.rows["X:BTCUSD"] = rows_of(bars(20))
    times = bars(20).time.tolist()

    def asked(since: int | None, limit: int | None) -> Any:
        return source(START + 20 * HOUR).candles("BTC/USD", "1h", since, limit).time.tolist()

    assert asked(None, None) == times
    assert asked(None, 3) == times[-3:]
    assert asked(times[4], 3) == times[4:7]
    assert asked(times[4] + 1, None) == times[5:]
    assert asked(times[-1] + 1, 5) == []
    assert asked(0, 0) == []
    assert asked(None, 0) == []


def test_a_bar_counts_when_it_has_closed(polygon: Polygon, source: Make) -> None:
    polygon.rows["AAPL"] = rows_of(bars(10))
    for minutes, expected in ((-1, 8), (0, 9), (1, 9), (59, 9)):
        assert len(source(START + 9 * HOUR + minutes * 60_000).candles("AAPL", "1h", START)) == expected


def test_prices_that_lag_make_the_newest_bar_wait(polygon: Polygon, source: Make) -> None:
    polygon.rows["AAPL"] = rows_of(bars(10))
    polygon.status = "DELAYED"
    for minutes, expected in ((0, 8), (14, 8), (15, 9)):
        assert len(source(START + 9 * HOUR + minutes * 60_000).candles("AAPL", "1h", START)) == expected


def test_many_questions_cost_few_requests_and_only_the_last_day_is_asked_again(polygon: Polygon, source: Make) -> None:
    has = bars(5000)
    polygon.rows["AAPL"] = rows_of(has)
    polygon.page = 50_000
    asking = source()
    since, found = START, 0
    while len(page := asking.candles("AAPL", "1h", since, 100)):
        found += len(page)
        since = int(page.time[-1]) + HOUR
    assert found == 5000
    assert len(polygon.asked) <= 3
    assert same(asking.candles("AAPL", "1h", START + 7 * HOUR, 20), has[7:27])
    assert len(polygon.asked) <= 3
    polygon.rows["AAPL"][-1]["c"] = polygon.rows["AAPL"][-1]["l"]
    polygon.rows["AAPL"][5]["c"] = polygon.rows["AAPL"][5]["l"]
    again = asking.candles("AAPL", "1h", START)
    assert again.close[-1] == again.low[-1]
    assert again.close[5] == has.close[5]
    polygon.rows["ADA"] = rows_of(bars(9))
    assert len(asking.candles("ADA", "1h", START)) == 9


def test_a_market_that_begins_later_is_reached(polygon: Polygon, source: Make) -> None:
    polygon.rows["AAPL"] = rows_of(bars(50))
    assert same(source().candles("AAPL", "1h", START - 9000 * HOUR, 10), bars(50)[:10])
    assert len(source().candles("NONE", "1h", START)) == 0


def test_days_of_new_york_are_labelled_with_their_date_and_end_there(polygon: Polygon, source: Make) -> None:
    first = START // DAY * DAY
    price = np.full(4, 2.0)
    days = Candles("AAPL", "1d", first + DAY * np.arange(4), price, price, price, price, price)
    rows = rows_of(days)
    for row, hours in zip(rows, (4, 4, 5, 5), strict=True):  # summer, then winter
        row["t"] += hours * HOUR
    polygon.rows["AAPL"], polygon.rows["X:BTCUSD"] = rows, rows_of(days)
    assert source().candles("AAPL", "1d", first).time.tolist() == days.time.tolist()
    assert source().candles("BTC/USD", "1d", first).time.tolist() == days.time.tolist()
    for hours, expected in ((0, 3), (4, 3), (5, 4)):
        found = source(first + 4 * DAY + hours * HOUR).candles("AAPL", "1d", first)
        assert len(found) == expected


def test_bad_rows_are_left_out_and_reported(polygon: Polygon, source: Make) -> None:
    rows = rows_of(bars(12))
    rows[1]["c"] = float("nan")
    rows[2]["h"] = None
    rows[3]["l"] = "1"
    rows[4]["t"] += 60_000
    del rows[5]["v"]
    rows[6]["o"] = -1.0
    twice = dict(rows[8], c=rows[8]["l"])
    polygon.rows["AAPL"] = [*rows[::-1], twice]
    with listening() as said:
        found = source().candles("AAPL", "1h", START)
    assert found.time.tolist() == [START + HOUR * bar for bar in (0, 7, 8, 9, 10, 11)]
    assert found.close[2] == twice["c"]
    assert len([line for line in said if "left out" in line]) == 7


@pytest.mark.parametrize(
    ("symbol", "ticker"),
    [("AAPL", "AAPL"), ("BRK.B", "BRK.B"), ("BTC/USD", "X:BTCUSD"), ("C:EURUSD", "C:EURUSD"), ("I:SPX", "I:SPX")],
)
def test_tickers(symbol: str, ticker: str) -> None:
    assert ticker_of(symbol) == ticker


@pytest.mark.parametrize("symbol", ["", "aapl", "BTC/USD:USD", "../x", "A?b", "TOOLONG", "Z:AB", "A/", "BTC/USD/X"])
def test_symbols_that_are_none_are_refused_unasked(polygon: Polygon, source: Make, symbol: str) -> None:
    assert "is none of Polygon's; wanted" in str(refused(lambda: source().candles(symbol, "1h", START)))
    assert polygon.asked == []


def test_timeframes() -> None:
    known = {"1s": (1, "second"), "30s": (30, "second"), "1m": (1, "minute"), "15m": (15, "minute")}
    assert {name: window_of(name) for name in known} == known
    assert (window_of("1h"), window_of("1d")) == ((1, "hour"), (1, "day"))
    for name in ("7m", "90m", "4h", "2d", "1w", "0m", "hour"):
        assert "not to be had from Polygon" in str(refused(lambda name=name: window_of(name)))  # type: ignore[misc]


# ── what goes wrong ────────────────────────────────────────────────────────────────────────────────────────────────


def said(text: str) -> bytes:
    return json.dumps({"status": "ERROR", "error": f"{text} (key {KEY})"}).encode()


def results(**other: Any) -> bytes:
    return json.dumps({"status": "OK", "ticker": "AAPL", "results": rows_of(bars(3))} | other).encode()


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (Reply(401, said("unknown")), ExchangeDenied, "401 unknown (key ***); it refuses the key, check POLYGON_API_"),
        (Reply(403, said("too old")), ExchangeDenied, "403 too old (key ***); the plan of this key lacks it, ask for"),
        (Reply(404, b"<html>"), ExchangeError, "404; check the symbol"),
        (Reply(302, b"", {"Location": "/v2/elsewhere"}), ExchangeError, "302; check"),
        (Reply(429, b"", {"Retry-After": "3600"}), ExchangeThrottled, "429"),
        (Reply(500, said("oops")), ExchangeUnreachable, "500 oops (key ***)"),
        (Reply(503, b"[" * 100_000), ExchangeUnreachable, "503"),
        (Reply(200, b'{"status":', cut=True), ExchangeUnreachable, "no usable answer (ProtocolError)"),
        (
            Reply(200, b"no gzip" * 9, {"Content-Encoding": "gzip"}),
            ExchangeUnreachable,
            "answer (DecodeError)",
        ),
        (Reply(200, f'{{"status": "OK", "key": "{KEY}'.encode()), CandleDataError, "is no JSON, or cut short: '{"),
        (Reply(200, b"\xff\xfe"), CandleDataError, "is no JSON"),
        (Reply(200, b""), CandleDataError, "is no JSON"),
        (Reply(200, b"[" * 100_000), CandleDataError, "is no JSON"),
        (Reply(200, b"[]"), CandleDataError, "says neither OK nor DELAYED: '[]'"),
        (Reply(200, said("no")), CandleDataError, "says neither OK nor DELAYED"),
        (Reply(200, b'{"status": "OK"}'), CandleDataError, "has no list of results"),
        (Reply(200, results(results={})), CandleDataError, "has no list of results"),
        (Reply(200, results(results=[KEY])), CandleDataError, "none of 1 rows begins at a multiple of 1h"),
        (Reply(200, results(ticker="MSFT")), CandleDataError, "is about another ticker"),
        (Reply(200, results(next_url=f"https://x/{KEY}")), CandleDataError, "names a next page that is none"),
        (Reply(200, results(next_url=7)), CandleDataError, "names a next page that is none"),
    ],
)
def test_every_refusal_is_one_of_ours_and_never_shows_the_key(
    polygon: Polygon, source: Make, reply: Reply, kind: type, words: str
) -> None:
    polygon.scripted = [reply] * 3
    error = refused(lambda: source().candles("AAPL", "1h", START))
    assert type(error) is kind
    assert words in str(error)
    assert all("elsewhere" not in path for path in polygon.asked)


def test_pages_that_lead_nowhere_end(polygon: Polygon, source: Make) -> None:
    path = f"/v2/aggs/ticker/AAPL/range/1/hour/{START}/{START + HOUR}"
    once = Reply(200, results(next_url=f"https://x{path}?cursor=1&apiKey={KEY}"))
    polygon.scripted = [once, once]
    assert "the same page" in str(refused(lambda: source().candles("AAPL", "1h", START)))
    empty = [results(results=[], next_url=f"https://x{path}?cursor={n}") for n in range(99)]
    polygon.scripted = [Reply(200, body) for body in empty]
    assert "without a candle" in str(refused(lambda: source().candles("AAPL", "1h", START)))


def test_too_many_requests_are_waited_out_as_told(polygon: Polygon, source: Make, slept: list[float]) -> None:
    polygon.rows["AAPL"] = rows_of(bars(9))
    now = formatdate(0)
    for headers in ({"Retry-After": "7"}, {}, {"Retry-After": now}, {"Retry-After": "soon"}):
        polygon.scripted.append(Reply(429, b"", headers))
    assert len(source().candles("AAPL", "1h", START)) == 9
    assert slept == [7.0, 12.0, 1.0, 12.0]


def test_waiting_has_an_end(polygon: Polygon, source: Make, slept: list[float]) -> None:
    polygon.scripted = [Reply(429, b"", {"Retry-After": "25"})] * 9
    error = refused(lambda: source().candles("AAPL", "1h", START))
    assert isinstance(error, ExchangeThrottled)
    assert error.retry_after == 25
    assert slept == [25.0, 25.0]


def test_no_usable_answer_is_asked_for_again_twice(polygon: Polygon, source: Make, slept: list[float]) -> None:
    polygon.rows["AAPL"] = rows_of(bars(9))
    polygon.scripted = [Reply(502), Reply(200, b"{", cut=True)]
    assert len(source().candles("AAPL", "1h", START)) == 9
    assert slept == [1.0, 4.0]


def test_silence_and_a_closed_door_are_unreachable(polygon: Polygon, source: Make) -> None:
    polygon.scripted = [Reply(hang=True)] * 3
    error = refused(lambda: source(timeout=0.05).candles("AAPL", "1h", START))
    assert isinstance(error, ExchangeUnreachable)
    assert "(ReadTimeoutError); check the network" in str(error)
    error = refused(lambda: source(base="http://127.0.0.1:1").candles("AAPL", "1h", START))
    assert isinstance(error, ExchangeUnreachable)
    assert "(NewConnectionError)" in str(error)


# ── the key ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_key_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "polygon.yaml"
    file.write_text(f"key: '{KEY}'\n")
    named = {"POLYGON_CREDENTIALS_FILE": str(file)}
    assert read_key(named) == KEY
    assert read_key({"MASSIVE_API_KEY": "other", **named}) == "other"
    assert read_key({"POLYGON_API_KEY": f" {KEY}\n", "MASSIVE_API_KEY": "other"}) == KEY
    assert "set the environment variable POLYGON_API_KEY" in str(refused(lambda: read_key({"POLYGON_API_KEY": ""})))
    for content in (f"secret: {KEY}", f"key: {KEY}\nmore: 1", f"{KEY}", f"key: [{KEY}", f"key: {{a: {KEY}}}"):
        file.write_text(content)
        assert "should hold one line 'key: …'" in str(refused(lambda: read_key(named)))
    file.unlink()
    assert "cannot read" in str(refused(lambda: read_key(named)))


def test_a_key_that_cannot_be_one_is_not_shown(source: Make) -> None:
    for key in ("", f"{KEY}\n", f"{KEY} x", f"{KEY}ö"):
        assert "no key has" in str(refused(lambda key=key: source(key=key)))  # type: ignore[misc]
    assert KEY not in repr(source())


def test_a_wrong_key_is_refused(polygon: Polygon, source: Make) -> None:
    error = refused(lambda: source(key="another-key").candles("AAPL", "1h", START))
    assert isinstance(error, ExchangeDenied)


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "massive", None)
    error = refused(lambda: PolygonCandles(KEY))
    assert isinstance(error, ConfigurationError)
    assert "pip install 'trading-bot[polygon]'" in str(error)


# ── downloads ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_download_that_is_refused_half_way_goes_on_later(polygon: Polygon, source: Make, tmp_path: Path) -> None:
    has = without(bars(5000), *range(100, 116), *range(3000, 3064))
    polygon.rows["AAPL"] = polygon.rows["C:EURUSD"] = rows_of(has)
    polygon.scripted = [Reply(), Reply(), Reply(403, said("not today"))]
    with pytest.raises(ExchangeDenied):
        download(source(), ["AAPL", "C:EURUSD"], "1h", START, tmp_path, now=source().now)
    reached = read(tmp_path / "AAPL-1h.feather")[0]
    assert same(reached, has[: len(reached)])
    assert 1000 < len(reached) < 3000
    polygon.asked.clear()
    rows = download(source(), ["AAPL", "C:EURUSD"], "1h", START, tmp_path, now=source().now)
    assert polygon.addresses[0][3] == str(int(reached.time[-1]))
    assert [(row.symbol, row.rows, row.gaps, row.missing_bars) for row in rows] == [
        ("AAPL", len(has), 2, 80),
        ("C:EURUSD", len(has), 2, 80),
    ]
    for name in ("AAPL", "C=EURUSD"):
        assert same(read(tmp_path / f"{name}-1h.feather")[0], has)
