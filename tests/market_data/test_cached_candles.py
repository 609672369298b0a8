"""Candles fetched once: kept through kills and damage, holes asked for again, nothing changed under a reader."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.market_data.venue import (
    HOUR,
    NAMES,
    START,
    Venue,
    bars,
    changed,
    listening,
    real_data,
    same,
    unreachable,
    without,
)
from trading_bot.domain.journal import CandleGap
from trading_bot.domain.market import Candles, anchor
from trading_bot.errors import CandleDataError, ConfigurationError, ExchangeUnreachable, StorageError
from trading_bot.market_data import cached_candles, feather
from trading_bot.market_data.cached_candles import CachedCandles
from trading_bot.market_data.file_candles import FileCandles

BTC = ("BTC/USDT", "1h")


class Cache(CachedCandles):
    """A cache over a test venue that collects the gaps it is told of."""

    def __init__(
        self, venue: Venue, folder: Path, *, history: int = 100, flush_every: int = 256, keep: int = 4096
    ) -> None:
        self.gaps: list[CandleGap] = []
        super().__init__(
            venue,
            folder,
            now=venue.now,
            on_gap=self.gaps.append,
            history=history,
            flush_every=flush_every,
            keep=keep,
        )


def times(candles: Candles) -> list[int]:
    return [(int(time) - START) // HOUR for time in candles.time]


def test_the_first_pull_fetches_history_from_an_anchor_and_each_later_one_what_closed_since(tmp_path: Path) -> None:
    venue = Venue(bars(1200), at=700)
    cache = Cache(venue, tmp_path, history=100)
    assert times(cache.pull(*BTC)) == list(range(512, 701))
    assert times(cache.pull(*BTC)) == []
    venue.advance()
    assert times(cache.pull(*BTC)) == [701]
    venue.advance(3)
    assert times(cache.pull(*BTC)) == [702, 703, 704]
    assert same(cache.candles(*BTC), bars(1200)[512:705])


def test_nothing_is_asked_while_no_bar_can_have_closed(tmp_path: Path) -> None:
    venue = Venue(bars(600), at=500)
    cache = Cache(venue, tmp_path)
    cache.pull(*BTC)
    asked = len(venue.asked)
    venue.time += HOUR - 1
    cache.pull(*BTC)
    assert len(venue.asked) == asked
    venue.time += 1
    cache.pull(*BTC)
    assert len(venue.asked) == asked + 1


def test_a_long_absence_is_fetched_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_candles, "PAGE", 100)
    venue = Venue(bars(1200))
    pages: list[int] = []
    fetched = Cache(venue, tmp_path, history=1000).pull(*BTC, on_page=pages.append)
    assert times(fetched) == list(range(1200))
    assert len(pages) >= 12
    assert all(limit is not None and limit <= 100 for _, limit in venue.asked)


def test_a_source_that_hands_out_the_open_bar_is_not_believed(tmp_path: Path) -> None:
    venue = Venue(bars(600), at=500)
    cache = Cache(venue, tmp_path)
    cache.pull(*BTC)
    venue.advance()
    now, venue.time = venue.time, venue.time + 5 * HOUR  # the source runs ahead of the clock the cache was given
    cache._now = lambda: now
    assert times(cache.pull(*BTC)) == [501]


def test_candles_answer_as_the_port_says(tmp_path: Path) -> None:
    cache = Cache(Venue(bars(600), at=99), tmp_path, keep=16)
    assert times(cache.candles(*BTC, limit=3)) == [97, 98, 99]  # nothing stored: pulls
    assert times(cache.candles(*BTC, START + 10 * HOUR, 3)) == [10, 11, 12]
    assert times(cache.candles(*BTC, START + 10 * HOUR + 1, 2)) == [11, 12]
    assert times(cache.candles(*BTC, START + 98 * HOUR)) == [98, 99]
    assert times(cache.candles(*BTC, START + 100 * HOUR)) == []
    assert times(cache.candles(*BTC, limit=0)) == []
    assert times(cache.candles(*BTC)) == list(range(100))


def test_a_restart_goes_on_from_the_file_and_fetches_lost_bars_again(tmp_path: Path) -> None:
    venue = Venue(bars(1200), at=200)
    first = Cache(venue, tmp_path)
    first.pull(*BTC)
    first.flush()
    venue.advance(20)
    first.pull(*BTC)  # kept in memory only, and lost with the process
    second = Cache(venue, tmp_path)
    assert second.newest(*BTC) == START + 200 * HOUR
    assert times(second.pull(*BTC)) == list(range(201, 221))
    assert same(second.candles(*BTC), first.candles(*BTC))


def test_newest_bars_are_written_in_batches(tmp_path: Path) -> None:
    venue = Venue(bars(1200), at=9)
    cache = Cache(venue, tmp_path, flush_every=30)
    file = tmp_path / "BTC_USDT-1h.feather"
    for _ in range(19):
        cache.pull(*BTC)
        assert not file.exists()
        venue.advance()
    cache.pull(*BTC)
    venue.advance()
    cache.pull(*BTC)
    assert len(pd.read_feather(file)) == 30


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_file_is_put_aside_and_fetched_anew(tmp_path: Path, damage: bytes | None) -> None:
    venue = Venue(bars(600), at=300)
    first = Cache(venue, tmp_path)
    first.pull(*BTC)
    first.flush()
    file = tmp_path / "BTC_USDT-1h.feather"
    file.write_bytes(file.read_bytes()[:-9] if damage is None else damage)
    with listening() as said:
        second = Cache(venue, tmp_path)
        assert same(second.pull(*BTC), first.candles(*BTC))
    assert [line for line in said if line.startswith("WARNING") and "moved to BTC_USDT-1h.feather.broken" in line]
    assert (tmp_path / "BTC_USDT-1h.feather.broken").exists()
    second.flush()
    assert same(Cache(venue, tmp_path).candles(*BTC), first.candles(*BTC))


def test_stored_candles_from_the_future_are_left_out(tmp_path: Path) -> None:
    venue = Venue(bars(600), at=300)
    first = Cache(venue, tmp_path)
    first.pull(*BTC)
    first.flush()
    venue.time -= 50 * HOUR
    second = Cache(venue, tmp_path)
    with listening() as said:
        assert times(second.candles(*BTC))[-1] == 250
    assert "50 stored candles are from after" in said[0]
    venue.advance(2)
    assert times(second.pull(*BTC)) == [251, 252]


def test_a_hole_the_venue_confirms_is_told_once_and_never_asked_for_again(tmp_path: Path) -> None:
    venue = Venue(without(bars(600), 40, 41, 50), at=60)
    cache = Cache(venue, tmp_path)
    got = cache.pull(*BTC)
    hours = [(gap.start - START, gap.end - START) for gap in cache.gaps]
    assert [(a // HOUR, b // HOUR) for a, b in hours] == [(40, 42), (50, 51)]
    assert cache.gaps[0].symbol == "BTC/USDT"
    assert cache.gaps[0].timeframe == "1h"
    assert times(got) == [n for n in range(61) if n not in (40, 41, 50)]
    venue.asked.clear()
    venue.advance()
    cache.pull(*BTC)
    assert len(venue.asked) == 1
    cache.flush()
    again = Cache(venue, tmp_path)
    venue.asked.clear()
    venue.advance()
    again.pull(*BTC)
    assert again.gaps == []
    assert len(venue.asked) == 1


def test_a_bar_that_is_late_is_put_where_it_belongs(tmp_path: Path) -> None:
    venue = Venue(bars(600), at=60)
    cache = Cache(venue, tmp_path)
    cache.pull(*BTC)
    before = cache.candles(*BTC)
    kept = [getattr(before, name).tobytes() for name in NAMES]
    venue.advance(2)
    venue.has = without(venue.everything, 61)
    answers = iter([without(bars(600), 61)[:62], bars(600)])
    original = venue.candles

    def candles(symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> Candles:
        venue.has = next(answers)
        return original(symbol, timeframe, since, limit)

    venue.candles = candles  # type: ignore[method-assign]
    assert times(cache.pull(*BTC)) == [61, 62]
    assert cache.gaps == []
    assert [getattr(before, name).tobytes() for name in NAMES] == kept


def test_a_hole_nobody_answers_for_is_asked_for_three_times(tmp_path: Path) -> None:
    venue = Venue(without(bars(600), 30), at=60)
    cache = Cache(venue, tmp_path)
    original = venue.candles

    def candles(symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> Candles:
        if since == START + 30 * HOUR:
            venue.asked.append((since, limit))
            return Candles.empty(symbol, timeframe)
        return original(symbol, timeframe, since, limit)

    venue.candles = candles  # type: ignore[method-assign]
    with listening() as said:
        for _ in range(6):
            cache.pull(*BTC)
            venue.advance()
    assert len([1 for since, _ in venue.asked if since == START + 30 * HOUR]) == 3
    assert cache.gaps == []
    assert len([line for line in said if "asked for 3 times without an answer" in line]) == 1


def test_a_failure_while_asking_again_keeps_the_fresh_bars(tmp_path: Path) -> None:
    venue = Venue(without(bars(600), 30), at=60)
    cache = Cache(venue, tmp_path)
    original = venue.candles

    def candles(symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> Candles:
        if since == START + 30 * HOUR:
            raise unreachable()
        return original(symbol, timeframe, since, limit)

    venue.candles = candles  # type: ignore[method-assign]
    assert times(cache.pull(*BTC))[-1] == 60


def test_a_hole_longer_than_a_page_is_worked_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_candles, "PAGE", 10)
    venue = Venue(bars(600), at=20)
    cache = Cache(venue, tmp_path)
    cache.pull(*BTC)
    venue.advance(100)
    venue.has = without(bars(600), *range(21, 100))
    original = venue.candles
    lossy = True

    def candles(symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> Candles:
        if not lossy or len(venue.asked) > 20:
            venue.has = without(bars(600), 30, 31)
        return original(symbol, timeframe, since, limit)

    venue.candles = candles  # type: ignore[method-assign]
    cache.pull(*BTC)
    lossy = False
    for _ in range(30):
        cache.pull(*BTC)
    missing = {n for gap in cache.gaps for n in range((gap.start - START) // HOUR, (gap.end - START) // HOUR)}
    assert set(times(cache.candles(*BTC))) | missing == set(range(121))
    assert not set(times(cache.candles(*BTC))) & missing
    cache.flush()
    again = Cache(venue, tmp_path)
    asked = len(venue.asked)
    again.pull(*BTC)
    assert len(venue.asked) == asked


def test_a_failure_between_pages_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_candles, "PAGE", 40)
    venue = Venue(bars(600), at=100)
    cache = Cache(venue, tmp_path)

    def fail(newest: int) -> None:
        venue.failing = unreachable()

    with pytest.raises(ExchangeUnreachable):
        cache.pull(*BTC, on_page=fail)
    assert times(cache.candles(*BTC)) == list(range(40))
    venue.failing = None
    assert times(cache.pull(*BTC)) == list(range(101))  # nothing was returned before


def test_a_newest_bar_that_changes_before_anyone_saw_it_is_corrected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_candles, "PAGE", 40)
    venue = Venue(bars(600), at=100)
    cache = Cache(venue, tmp_path)

    def fail(newest: int) -> None:
        venue.failing = unreachable()

    with pytest.raises(ExchangeUnreachable):
        cache.pull(*BTC, on_page=fail)
    venue.failing = None
    venue.has = changed(bars(600), 39, volume=123.0)
    assert cache.pull(*BTC).volume[39] == 123.0


def test_a_newest_bar_that_changes_after_it_was_used_stays_and_is_told(tmp_path: Path) -> None:
    venue = Venue(bars(600), at=100)
    cache = Cache(venue, tmp_path)
    used = cache.pull(*BTC)
    venue.has = changed(bars(600), 100, volume=123.0)
    venue.advance()
    with listening() as said:
        cache.pull(*BTC)
    assert same(cache.candles(*BTC, limit=102)[:101], used)
    assert len(said) == 1
    assert "the venue changed the candle of 2020-10-29 04:00 after it was used" in said[0]


@pytest.mark.parametrize("values", [{"close": float("nan")}, {"high": 1.0}, {"volume": -1.0}, {"time": START + 1}])
def test_a_bad_row_is_left_out_and_becomes_a_gap(tmp_path: Path, values: dict[str, float]) -> None:
    venue = Venue(bars(600), at=60)
    venue.has = changed(bars(600), 50, **values)
    cache = Cache(venue, tmp_path)
    with listening() as said:
        got = cache.pull(*BTC)
    assert same(got, without(bars(600), 50)[:60])
    assert [line for line in said if "left out: row" in line]
    assert [(gap.start - START) // HOUR for gap in cache.gaps] == [50]


def test_a_window_begins_at_its_anchor_and_ends_at_its_bar(tmp_path: Path) -> None:
    venue = Venue(bars(2000), at=1500)
    cache = Cache(venue, tmp_path, history=1500)
    cache.pull(*BTC)
    for end, warmup, first in ((1400, 300, 1024), (1323, 300, 512), (1324, 300, 1024), (1500, 0, 1024), (700, 500, 0)):
        window = cache.window(*BTC, START + end * HOUR, warmup)
        assert times(window) == list(range(first, end + 1))
    assert times(cache.window(*BTC, START + 100 * HOUR, 300)) == list(range(101))  # nothing older is stored
    assert times(cache.window(*BTC, START + 1520 * HOUR, 10))[-1] == 1500
    assert times(cache.window(*BTC, START - HOUR, 10)) == []


def test_the_same_window_is_the_same_object_until_a_bar_arrives_late(tmp_path: Path) -> None:
    venue = Venue(without(bars(2000), 990), at=1000)
    cache = Cache(venue, tmp_path)
    cache.pull(*BTC)
    end = START + 1000 * HOUR
    window = cache.window(*BTC, end, 200)
    assert cache.window(*BTC, end, 200) is window
    venue.advance()
    cache.pull(*BTC)
    assert cache.window(*BTC, end, 200) is window
    cache._opened(*BTC).merge(bars(2000)[990:991])
    assert len(cache.window(*BTC, end, 200)) == len(window) + 1


@given(st.integers(0, 10**12), st.sampled_from([60_000, HOUR, 86_400_000]), st.integers(0, 3000))
def test_anchors_leave_the_warm_up_and_no_more_than_a_step(bar: int, length: int, warmup: int) -> None:
    newest = bar // length * length
    begin = anchor(newest, length, warmup)
    assert begin % (512 * length) == 0
    assert warmup <= (newest - begin) // length < warmup + 512


def test_windows_are_the_same_bytes_whichever_way_the_bars_came(tmp_path: Path) -> None:
    data = without(bars(3000), 1800, 1801, 1802)
    steadily = Venue(data, at=1000)
    one = Cache(steadily, tmp_path / "one", history=700, flush_every=50, keep=128)
    two = Cache(Venue(data), tmp_path / "two", history=2600)
    two.pull(*BTC)
    one.pull(*BTC)
    for step in range(1001, 3000):
        steadily.advance()
        one.pull(*BTC)
        if step == 2000:
            one.flush()
            one = Cache(steadily, tmp_path / "one", history=700, flush_every=50, keep=128)
        if step % 97 == 0 or step > 2990:
            end = START + step * HOUR
            assert same(one.window(*BTC, end, 300), two.window(*BTC, end, 300))


def test_what_was_handed_out_never_changes(tmp_path: Path) -> None:
    venue = Venue(without(bars(3000), 77), at=64)
    cache = Cache(venue, tmp_path, keep=32, flush_every=10)
    seen: list[tuple[Candles, list[bytes]]] = []

    def keep(candles: Candles) -> None:
        assert not any(getattr(candles, name).flags.writeable for name in NAMES)
        seen.append((candles, [getattr(candles, name).tobytes() for name in NAMES]))

    for step in range(200):
        keep(cache.pull(*BTC))
        keep(cache.candles(*BTC, limit=20))
        keep(cache.window(*BTC, START + (64 + step) * HOUR, 10))
        venue.advance()
    assert all([getattr(candles, name).tobytes() for name in NAMES] == values for candles, values in seen)
    assert same(cache.candles(*BTC), without(bars(3000), 77)[: len(cache.candles(*BTC))])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("advance"), st.integers(1, 90)),
            st.sampled_from([("flush", 0), ("restart", 0), ("fail", 0)]),
        ),
        max_size=25,
    ),
    st.sets(st.integers(1, 500), max_size=12),
)
def test_however_it_runs_the_store_is_the_market(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], holes: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    data = without(bars(3000), *holes)
    venue = Venue(data, at=0)
    cache = Cache(venue, folder, keep=32, flush_every=20)
    for step, n in steps:
        if step == "advance":
            venue.advance(n)
            cache.pull(*BTC)
        elif step == "flush":
            cache.flush()
        elif step == "restart":
            cache = Cache(venue, folder, keep=32, flush_every=20)
        else:
            venue.failing = unreachable()
            venue.advance()
            with pytest.raises(ExchangeUnreachable):
                cache.pull(*BTC)
            venue.failing = None
    cache.pull(*BTC)
    closed = int(np.searchsorted(data.time, venue.time - HOUR, "right"))
    assert same(cache.candles(*BTC), data[:closed])


def test_memory_stays_bounded(tmp_path: Path) -> None:
    venue = Venue(bars(3000), at=10)
    cache = Cache(venue, tmp_path, keep=64, flush_every=16)
    for _ in range(2900):
        venue.advance()
        cache.pull(*BTC)
    series = cache._opened(*BTC)
    assert len(series) == 2911
    assert len(series._columns[0]) <= 3 * 64 + 1 + 2911 // 16
    assert series.unsaved <= 2911 // 16


def test_a_full_disk_stops_nothing_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venue = Venue(bars(600), at=100)
    cache = Cache(venue, tmp_path, flush_every=5, keep=32)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, listening() as said:
        patched.setattr(feather, "write", full)
        for _ in range(200):
            cache.pull(*BTC)
            venue.advance()
        with pytest.raises(StorageError, match="No space left"):
            cache.flush()
    assert "kept in memory: candle file" in said[0]
    assert len(said) < 40
    cache.pull(*BTC)
    cache.flush()
    assert same(Cache(venue, tmp_path).candles(*BTC), bars(600)[:301])


def test_one_thread_pulls_while_another_reads(tmp_path: Path) -> None:
    venue = Venue(bars(3000), at=300)
    cache = Cache(venue, tmp_path, keep=32, flush_every=8)
    cache.pull(*BTC)
    done = threading.Event()

    def pull() -> None:
        for _ in range(1500):
            venue.advance()
            cache.pull(*BTC)
        done.set()

    puller = threading.Thread(target=pull)
    puller.start()
    reads = 0
    while not done.is_set() or not reads:
        newest = cache.newest(*BTC)
        assert newest is not None
        window = cache.window(*BTC, newest, 20)
        assert times(window) == list(range(times(window)[0], (newest - START) // HOUR + 1))
        assert same(cache.candles(*BTC, int(window.time[0]), len(window)), window)
        reads += 1
    puller.join(timeout=30)
    assert times(cache.candles(*BTC)) == list(range(1801))


def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be made"):
        Cache(Venue(bars(5)), tmp_path / "file" / "candles")


def test_garbage_of_the_source_is_not_stored(tmp_path: Path) -> None:
    venue = Venue(bars(600), at=100)
    cache = Cache(venue, tmp_path)
    cache.pull(*BTC)
    venue.advance()
    venue.failing = CandleDataError("rubbish")
    with pytest.raises(CandleDataError, match="rubbish"):
        cache.pull(*BTC)
    assert times(cache.candles(*BTC))[-1] == 100


def test_a_mistaken_timeframe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="timeframe '1hour'"):
        Cache(Venue(bars(5)), tmp_path).pull("BTC/USDT", "1hour")


def best_of(n: int, action: Callable[[], object]) -> float:
    """Seconds of the median of `n` runs."""
    taken = []
    for _ in range(n):
        begin = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begin)
    return sorted(taken)[n // 2]


def test_a_pull_of_one_bar_takes_a_fraction_of_a_millisecond(tmp_path: Path) -> None:
    venue = Venue(bars(3000), at=1000)
    cache = Cache(venue, tmp_path)
    cache.pull(*BTC)

    def step() -> None:
        venue.advance()
        assert len(cache.pull(*BTC)) == 1

    assert best_of(301, step) < 0.0008  # 0.1 ms where nothing else runs


def test_real_candles_with_their_gaps_pass_through(tmp_path: Path) -> None:
    data = FileCandles([real_data() / "BTC_USDT-1h.csv.gz"]).all()["BTC/USDT"]
    venue = Venue(data)
    venue.time = int(data.time[5000]) + HOUR
    cache = Cache(venue, tmp_path, history=5000)
    cache.pull(*BTC)
    for _ in range(300):
        venue.advance(100)
        cache.pull(*BTC)
    stored = cache.candles(*BTC)
    assert same(stored, data[: len(stored)])
    assert stored.time[-1] >= venue.time - 2 * HOUR
    assert len(cache.gaps) > 10
