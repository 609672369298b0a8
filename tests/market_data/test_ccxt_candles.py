"""Candles over ccxt: pages, closed bars only, and replies in which anything may be wrong."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ccxt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.market_data.venue import HOUR, NAMES, START, Venue, bars, listening, same, without
from trading_bot.domain.market import Candles
from trading_bot.errors import CandleDataError, ExchangeUnreachable
from trading_bot.market_data.ccxt_candles import CcxtCandles

Row = list[Any]


def rows_of(candles: Candles) -> list[Row]:
    """The rows ccxt gives for these candles."""
    return [list(row) for row in zip(*(getattr(candles, name).tolist() for name in NAMES), strict=True)]


class Client:
    """A ccxt exchange whose market is a test venue; the bar in progress is the last row, as venues have it.

    `by_period`: answers for the time from `since` on, even if it has nothing there (most venues skip to what they
    have); `most`: rows it gives at once.
    """

    id = "fake"

    def __init__(self, venue: Venue, *, most: int = 1000, by_period: bool = False) -> None:
        self.venue = venue
        self.most = most
        self.by_period = by_period
        self.features = {"spot": {"fetchOHLCV": {"limit": most}}} if by_period else None
        self.asked: list[tuple[int | None, int | None]] = []

    def fetch_ohlcv(self, symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> list[Row]:
        self.asked.append((since, limit))
        n = min(limit or 500, self.most)
        rows = [row for row in rows_of(self.venue.has) if row[0] <= self.venue.time]
        if since is None:
            return rows[-n:]
        return [row for row in rows if since <= row[0] < (since + n * HOUR if self.by_period else math.inf)][:n]


def source(client: Any, now: int = START + 10**5 * HOUR) -> CcxtCandles:
    return CcxtCandles(client, lambda: now)


def over(venue: Venue, **kind: Any) -> CcxtCandles:
    return CcxtCandles(Client(venue, **kind), venue.now)


def answering(rows: Any) -> CcxtCandles:
    """A source whose client always gives these rows."""

    class Fixed:
        id = "fake"

        def fetch_ohlcv(self, *_: object) -> Any:
            return copy.deepcopy(rows)

    return source(Fixed())


def asked(candles: CcxtCandles, since: int | None, limit: int | None) -> Candles:
    return candles.candles("BTC/USDT", "1h", since, limit)


def test_the_open_candle_is_never_used() -> None:
    venue = Venue(bars(100), at=50)
    assert same(asked(over(venue), START, None), bars(100)[:51])
    assert same(asked(over(venue), None, 5), bars(100)[46:51])
    venue.time += HOUR - 1
    assert same(asked(over(venue), START, None), bars(100)[:51])
    venue.time += 1
    assert same(asked(over(venue), START, None), bars(100)[:52])


def test_a_bar_that_closes_while_the_reply_is_on_its_way_is_not_used() -> None:
    venue = Venue(bars(100), at=50)
    client = Client(venue)
    original = client.fetch_ohlcv

    def slow(symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> list[Row]:
        rows = original(symbol, timeframe, since, limit)
        venue.advance()
        return rows

    client.fetch_ohlcv = slow  # type: ignore[method-assign]
    assert same(asked(CcxtCandles(client, venue.now), START, None), bars(100)[:51])


@pytest.mark.parametrize("most", [35, 100, 1000])
@pytest.mark.parametrize("by_period", [False, True])
def test_history_is_paged_whatever_a_venue_gives_at_once(most: int, by_period: bool) -> None:
    venue = Venue(without(bars(2500), *range(300, 340)), at=2400)
    everything = without(bars(2500), *range(300, 340))[:2361]
    assert same(asked(over(venue, most=most, by_period=by_period), START, None), everything)
    assert same(asked(over(venue, most=most), START + 100 * HOUR, 1500), everything[100:1600])


def test_a_hole_longer_than_a_page_is_passed_at_a_venue_that_answers_by_period() -> None:
    venue = Venue(without(bars(4000), *range(100, 3000)), at=3990)
    got = asked(over(venue, by_period=True), START, None)
    assert same(got, without(bars(4000), *range(100, 3000))[:1091])


def test_history_before_the_listing_begins_with_the_listing() -> None:
    venue = Venue(bars(50), at=40)
    for by_period in (False, True):
        assert same(asked(over(venue, by_period=by_period), START - 5000 * HOUR, None), bars(50)[:41])


def test_the_way_to_the_listing_is_made_in_long_strides() -> None:
    client = Client(Venue(bars(50), at=40), by_period=True)
    got = asked(CcxtCandles(client, client.venue.now), START - 20_000 * HOUR, 3)
    assert same(got, bars(50)[:3])
    assert len(client.asked) < 25


@pytest.mark.parametrize(("limit", "expected"), [(None, 500), (0, 0), (1, 1), (999, 999), (1500, 1500), (9999, 2401)])
def test_without_since_the_newest_come(limit: int | None, expected: int) -> None:
    venue = Venue(bars(2500), at=2400)
    got = asked(over(venue), None, limit)
    assert same(got, bars(2500)[2401 - expected : 2401])


def test_since_and_limit_cut_exactly() -> None:
    venue = Venue(bars(100), at=50)
    assert same(asked(over(venue), START + 3 * HOUR, 4), bars(100)[3:7])
    assert same(asked(over(venue), START + 3 * HOUR + 1, 4), bars(100)[4:8])
    assert len(asked(over(venue), START + 51 * HOUR, 4)) == 0
    assert len(asked(over(venue), START + 3 * HOUR, 0)) == 0


def test_a_regular_pull_is_one_request() -> None:
    client = Client(Venue(bars(100), at=50))
    asked(CcxtCandles(client, client.venue.now), START + 49 * HOUR, 2)
    assert client.asked == [(START + 49 * HOUR, 2)]


def test_the_forming_bar_has_its_latest_price() -> None:
    venue = Venue(bars(100), at=50)
    assert over(venue).forming("BTC/USDT", "1h") == (START + 51 * HOUR, bars(100).close[51])
    assert over(venue).now() == START + 51 * HOUR
    venue.has = bars(100)[:51]
    assert over(venue).forming("BTC/USDT", "1h") is None
    venue.has = bars(100)[:0]
    assert over(venue).forming("BTC/USDT", "1h") is None


def test_errors_are_translated_with_what_was_asked() -> None:
    class Unreachable:
        id = "fake"

        def fetch_ohlcv(self, *_: object) -> list[Row]:
            raise ccxt.RequestTimeout("timed out")

    @contextmanager
    def translate(action: str) -> Iterator[None]:
        try:
            yield
        except ccxt.NetworkError as error:
            raise ExchangeUnreachable(f"could not {action}: {error}") from error

    with pytest.raises(ExchangeUnreachable, match="could not give candles of BTC/USDT 1h: timed out"):
        asked(CcxtCandles(Unreachable(), lambda: START, translate), None, 5)


BAD_ROWS: list[tuple[Any, str]] = [
    ([START + 3 * HOUR, math.nan, 2.0, 1.0, 1.5, 1.0], "open is nan or missing"),
    ([START + 3 * HOUR, 1.5, 2.0, 1.0, None, 1.0], "wanted time and five numbers"),
    ([START + 3 * HOUR, 1.5, 2.0, 1.0, 1.5], "wanted time and five numbers"),
    ([START + 3 * HOUR, "1.5", 2.0, 1.0, 1.5, 1.0], "wanted time and five numbers"),
    ([START + 3 * HOUR, True, 2.0, 1.0, 1.5, 1.0], "wanted time and five numbers"),
    ([START + 3 * HOUR, 1.5, 2.0, 3.0, 1.5, 1.0], "high 2.0 is below low 3.0"),
    ([START + 3 * HOUR, 1.5, 2.0, 1.0, 1.5, -1.0], "volume is -1.0"),
    ([START + 3 * HOUR, 10**400, 2.0, 1.0, 1.5, 1.0], "wanted time and five numbers"),
    ([START + 3 * HOUR + 1, 1.5, 2.0, 1.0, 1.5, 1.0], "no multiple of 1h"),
    ([START + 3 * HOUR + 0.5, 1.5, 2.0, 1.0, 1.5, 1.0], "wanted time and five numbers"),
    ([math.nan, 1.5, 2.0, 1.0, 1.5, 1.0], "wanted time and five numbers"),
    ([None, None, None, None, None, None], "wanted time and five numbers"),
    ([], "wanted time and five numbers"),
    (None, "wanted time and five numbers"),
    ("<html>", "wanted time and five numbers"),
    ({"t": 1}, "wanted time and five numbers"),
]


@pytest.mark.parametrize(("bad", "words"), BAD_ROWS)
def test_a_bad_row_is_left_out_and_told_with_its_place(bad: Any, words: str) -> None:
    rows = rows_of(bars(9))
    rows[0] = [START, "x"]
    rows[3] = bad
    with listening() as said:
        got = asked(answering(rows), None, 20)
    assert same(got, without(bars(9), 0, 3))
    assert len(said) == 2
    assert said[1].startswith("WARNING candles")
    assert "left out: row 4 (" in said[1]
    assert words in said[1]


def test_integers_are_numbers() -> None:
    assert asked(answering([[START, 1, 3, 1, 2, 0]]), None, 5).high.tolist() == [3.0]


def test_of_a_bar_sent_twice_the_later_counts_and_order_does_not_matter() -> None:
    rows = rows_of(bars(9))
    corrected = [*rows[4][:5], 123.0]
    with listening() as said:
        got = asked(answering([*rows[5:], *rows[:5], rows[2], corrected]), None, 20)
    assert got.time.tolist() == bars(9).time.tolist()
    assert got.volume[4] == 123.0
    assert len(said) == 1
    assert "given again in row 11 with other values" in said[0]


@pytest.mark.parametrize(
    "reply",
    [
        None,
        {},
        {"code": -1},
        "<html>502 Bad Gateway</html>",
        7,
        [[1, None, None, None, None, None]] * 9,
        [None],
        ["a"],
        [[]],
    ],
)
def test_a_reply_that_is_no_table_of_candles_raises(reply: Any) -> None:
    with pytest.raises(CandleDataError) as raised:
        asked(answering(reply), None, 20)
    assert "BTC/USDT 1h" in str(raised.value)
    assert len(str(raised.value)) < 400


def test_an_empty_reply_is_no_error() -> None:
    assert len(asked(answering([]), None, 20)) == 0
    assert len(asked(answering([]), START + (10**5 - 10) * HOUR, None)) == 0


def test_a_lone_bad_row_of_a_known_bar_is_left_out_rather_than_raised() -> None:
    assert len(asked(answering([[START, None, None, None, None, None]]), None, 1)) == 0


def parsing(body: Any) -> CcxtCandles:
    """The real ccxt.binance, which got this body (as its own decoder gives it) from the network."""

    class Network(ccxt.binance):  # type: ignore[misc]
        def fetch(self, *_: object, **__: object) -> Any:
            return copy.deepcopy(body)

    client = Network({"enableRateLimit": False})
    client.set_markets(
        [
            client.safe_market_structure(
                {"id": "BTCUSDT", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "spot": True, "type": "spot"}
            )
        ]
    )
    return source(client)


def test_the_real_ccxt_gives_the_candles_of_binance() -> None:
    body = [[row[0], *map(str, row[1:]), row[0] + HOUR - 1, "0", 1, "0", "0", "0"] for row in rows_of(bars(9))]
    assert same(asked(parsing(body), None, 20), bars(9))


@pytest.mark.parametrize(
    "body", ["[[1600000000000,NaN]]", "<html>502</html>", '{"code":-1', {"code": 0}, [1, 2], {}, None, ""]
)
def test_bodies_the_real_ccxt_makes_rows_of_are_not_believed(body: Any) -> None:
    if body:
        with pytest.raises(CandleDataError, match="binance answered no candles of BTC/USDT 1h"):
            asked(parsing(body), None, 20)
    else:
        assert len(asked(parsing(body), None, 20)) == 0


values: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, 0, 0.0, -1.0, 1e300, None, "x", "1.5", True, [], 10**30]),
    st.floats(allow_nan=True),
    st.integers(),
)
changes = st.one_of(
    st.tuples(st.just("value"), st.integers(0, 19), st.integers(0, 5), values),
    st.tuples(st.just("row"), st.integers(0, 19), st.just(0), st.one_of(values, st.lists(values, max_size=7))),
    st.tuples(st.just("drop"), st.integers(0, 19), st.just(0), st.none()),
    st.tuples(st.just("twice"), st.integers(0, 19), st.integers(0, 19), st.none()),
    st.tuples(st.just("swap"), st.integers(0, 19), st.integers(0, 5), st.integers(0, 5)),
    st.tuples(st.just("short"), st.integers(0, 19), st.integers(0, 5), st.none()),
)


@given(st.lists(changes, max_size=8), st.booleans())
def test_whatever_a_reply_contains_only_sound_closed_candles_come_out(
    mutations: list[tuple[str, int, int, Any]], backwards: bool
) -> None:
    rows: list[Any] = rows_of(bars(20))
    for kind, i, j, value in mutations:
        row = rows[i] if i < len(rows) and isinstance(rows[i], list) else None
        if kind == "value" and row is not None and j < len(row):
            row[j] = value
        elif kind == "row" and i < len(rows):
            rows[i] = value
        elif kind == "drop" and i < len(rows):
            del rows[i]
        elif kind == "twice" and i < len(rows):
            rows.insert(j, copy.deepcopy(rows[i]))
        elif kind == "swap" and row is not None and max(j, value) < len(row):
            row[j], row[value] = row[value], row[j]
        elif kind == "short" and row is not None:
            del row[j:]
    if backwards:
        rows.reverse()
    try:
        got = asked(answering(rows), None, 20)
    except CandleDataError:
        return
    before = -1
    for row in rows_of(got):
        assert row in rows  # nothing is invented
        time, opened, high, low, close, volume = row
        assert before < time <= START + (10**5 - 1) * HOUR
        assert time % HOUR == 0
        assert 0 < low <= min(opened, close) <= max(opened, close) <= high < math.inf
        assert 0 <= volume < math.inf
        before = time
