"""Rules of candles: what is wrong is named, dropped from replies, refused in files."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.market_data.venue import HOUR, NAMES, START, bars, changed, same, without
from trading_bot.domain.market import Candles
from trading_bot.errors import CandleDataError
from trading_bot.market_data.candle_checks import checked, gaps, on_grid, sift, take, utc

DAY = 24 * HOUR


def sound(candles: Candles) -> bool:
    """The rules once more, row by row in plain Python."""
    before = -1
    for row in range(len(candles)):
        time, opened, high, low, close, volume = (getattr(candles, name)[row] for name in NAMES)
        if not (before < time and time % HOUR == 0 and all(map(math.isfinite, (opened, high, low, close, volume)))):
            return False
        if not (0 < low <= min(opened, close) and max(opened, close) <= high and volume >= 0):
            return False
        before = time
    return True


def appended(candles: Candles, other: Candles, row: int) -> Candles:
    """The candles with one row of `other` put in behind row number `row`."""
    columns: dict[str, Any] = {n: np.insert(getattr(candles, n), row + 1, getattr(other, n)[row]) for n in NAMES}
    return Candles("BTC/USDT", "1h", **columns)


def test_sound_candles_pass_untouched() -> None:
    candles = bars(50)
    clean, faults = sift(candles)
    assert clean is candles
    assert faults == ()
    assert sound(candles)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"close": math.nan}, "close is nan or missing"),
        ({"high": math.inf}, "high is inf or missing"),
        ({"open": 0.0}, "open is 0.0"),
        ({"low": -5.0}, "low is -5.0"),
        ({"volume": -1.0}, "volume is -1.0"),
        ({"volume": math.nan}, "volume is nan or missing"),
        ({"high": 1.0, "low": 2.0}, "high 1.0 is below low 2.0"),
        ({"open": 1e9}, "open 1000000000.0 is outside low"),
        ({"close": 0.01}, "close 0.01 is outside low"),
        ({"time": START + 7}, "its time is no multiple of 1h"),
        ({"time": -1}, "its time is not in milliseconds"),
        ({"time": START * 1000}, "its time is not in milliseconds"),
    ],
)
def test_each_rule_names_its_row(values: dict[str, float], words: str) -> None:
    candles = bars(9)
    broken = changed(candles, 4, **values)
    clean, (fault,) = sift(broken)
    assert same(clean, without(candles, 4))
    assert fault.row == 5
    assert words in str(fault)
    with pytest.raises(CandleDataError) as raised:
        checked(broken, "x.csv")
    assert str(raised.value).startswith("x.csv: row 5 (")
    assert words in str(raised.value)
    assert "wanted one row a bar with 0 < low" in str(raised.value)


def test_the_number_of_further_wrong_rows_is_told() -> None:
    broken = changed(changed(bars(9), 2, close=-1), 7, close=-1)
    with pytest.raises(CandleDataError, match=r"row 3 .*1 more rows are wrong"):
        checked(broken, "x.csv")


def test_exact_duplicates_and_disorder_are_repaired_and_told() -> None:
    candles = bars(6)
    shuffled = take(candles, np.array([3, 1, 0, 0, 5, 4, 2]))
    clean, notes = checked(shuffled, "x.csv")
    assert same(clean, candles)
    assert notes == ("1 exact duplicate rows dropped", "rows were not in order of time and have been sorted")
    assert sift(shuffled)[1] == ()


def test_of_two_different_rows_for_a_bar_the_later_counts_in_a_reply_and_neither_in_a_file() -> None:
    candles = bars(4)
    other = changed(candles, 2, volume=77.0)
    both = appended(candles, other, 2)
    clean, (fault,) = sift(both)
    assert same(clean, other)
    assert str(fault).endswith("given again in row 4 with other values")
    with pytest.raises(CandleDataError, match="row 3"):
        checked(both, "x.csv")


def test_three_rows_for_one_bar_leave_the_last() -> None:
    candles = changed(changed(changed(bars(4), 1, time=START), 2, time=START), 2, volume=5.5)
    clean, faults = sift(candles)
    assert clean.time.tolist() == [START, START + 3 * HOUR]
    assert clean.volume[0] == 5.5
    assert [fault.row for fault in faults] == [1, 2]


def test_no_candles_are_sound() -> None:
    empty = Candles.empty("BTC/USDT", "1h")
    assert sift(empty) == (empty, ())
    assert gaps(empty) == []


def test_gaps_are_from_the_first_missing_to_the_next_there_is() -> None:
    assert gaps(bars(20)) == []
    assert gaps(without(bars(20), 3, 7, 8)) == [
        (START + 3 * HOUR, START + 4 * HOUR),
        (START + 7 * HOUR, START + 9 * HOUR),
    ]
    assert gaps(without(bars(20), 0, 19)) == []


def test_weeks_begin_on_monday_and_several_days_at_midnight() -> None:
    monday = 4 * DAY + 2600 * 7 * DAY
    assert on_grid(np.array([monday, monday + DAY, monday + 7 * DAY]), "1w").tolist() == [True, False, True]
    assert on_grid(np.array([DAY, 4 * DAY, 7 * DAY + HOUR, 8 * DAY, 10 * DAY]), "3d").tolist() == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert on_grid(np.array([], dtype=np.int64), "3d").tolist() == []


def test_every_hour_of_years_with_their_clock_changes_is_on_the_grid() -> None:
    hours = np.arange(START, START + 3 * 365 * DAY, HOUR)
    assert on_grid(hours, "1h").all()
    assert on_grid(hours, "4h").sum() * 4 == len(hours)


def test_times_are_shown_as_dates_where_they_are_dates() -> None:
    assert utc(1_609_459_200_000) == "2021-01-01 00:00"
    assert utc(-5) == "-5"
    assert utc(10**18) == "1000000000000000000"


mutations = st.lists(
    st.tuples(
        st.integers(0, 29),
        st.sampled_from(NAMES),
        st.sampled_from(
            [math.nan, math.inf, -math.inf, 0.0, -1.0, 1e300, 1e-300, 12345.678, float(START), START + 1.0]
        ),
    ),
    max_size=6,
)


@given(mutations, st.permutations(range(30)), st.lists(st.integers(0, 29), max_size=4))
def test_whatever_is_done_to_candles_nothing_unsound_comes_out(
    wrong: list[tuple[int, str, float]], order: list[int], twice: list[int]
) -> None:
    candles = bars(30)
    columns = {name: getattr(candles, name).copy() for name in NAMES}
    for row, name, value in wrong:
        if name != "time":
            columns[name][row] = value
        elif math.isfinite(value) and abs(value) < 2**62:
            columns[name][row] = int(value)
    broken = take(Candles("BTC/USDT", "1h", **columns), np.array([*order, *twice]))
    clean, _ = sift(broken)
    assert sound(clean)
    untouched = set(candles.time.tolist()) - {int(candles.time[row]) for row, _, _ in wrong}
    assert untouched - {START} <= set(clean.time.tolist())
