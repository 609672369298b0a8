"""Bars that have left the buffer are in the file alone: still there, and no reason to fail when the file is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.market_data.venue import bars, changed, listening
from trading_bot.domain.market import Candles
from trading_bot.market_data import feather
from trading_bot.market_data.candle_series import CandleSeries

ALL = bars(400)
KEEP = 16


@pytest.fixture
def series(tmp_path: Path) -> CandleSeries:
    """Filled bar by bar and saved every so often, as a daemon does; most of it is in the file alone."""
    made = CandleSeries(tmp_path / "BTC_USDT-1h.feather", "BTC/USDT", "1h", keep=KEEP)
    for position in range(300):
        made.append(ALL[position : position + 1])
        if position % 10 == 9:
            made.save()
    return made


def same(found: Candles, wanted: Candles) -> bool:
    return all(
        np.array_equal(getattr(found, name), getattr(wanted, name))
        for name in ("time", "open", "high", "low", "close", "volume")
    )


def in_memory(series: CandleSeries) -> int:
    return len(series._columns[0])


def test_memory_does_not_grow_and_nothing_is_missing(series: CandleSeries) -> None:
    assert in_memory(series) < 4 * KEEP
    assert len(series) == 300
    assert same(series.everything(), ALL[:300])
    assert same(series.between(int(ALL.time[3]), int(ALL.time[280])), ALL[3:281])
    assert same(series.newest_bars(250), ALL[50:300])


def test_another_life_goes_on_with_the_file(series: CandleSeries) -> None:
    again = CandleSeries(series.path, "BTC/USDT", "1h", keep=KEEP)
    again.load(*feather.read(series.path, "BTC/USDT", "1h"))
    again.append(ALL[300:])
    again.save()
    assert same(again.everything(), ALL)
    assert same(feather.read(series.path, "BTC/USDT", "1h")[0], ALL)


def test_older_bars_that_are_mended_wait_for_the_file(series: CandleSeries) -> None:
    mended = changed(ALL, 20, close=float(ALL.high[20]))[20:21]
    series.merge(mended)
    series.append(ALL[300:])  # more than the buffer has room for
    assert len(series) == 400
    assert series.everything().close[20] == ALL.high[20] != ALL.close[20]
    series.save()
    stored, _ = feather.read(series.path, "BTC/USDT", "1h")
    assert stored.close[20] == ALL.high[20]
    assert same(stored[21:], ALL[21:])


@pytest.mark.parametrize("damage", [b"", b"garbage", None], ids=["emptied", "garbage", "deleted"])
def test_a_file_that_is_lost_meanwhile_begins_anew(series: CandleSeries, damage: bytes | None) -> None:
    if damage is None:
        series.path.unlink()
    else:
        series.path.write_bytes(damage)
    series.append(ALL[300:305])
    with listening() as said:
        series.save()
    assert [line for line in said if line.startswith("WARNING") and "older bars are lost" in line]
    stored, _ = feather.read(series.path, "BTC/USDT", "1h")
    assert len(stored) >= KEEP
    assert same(stored, ALL[305 - len(stored) : 305])
    assert same(series.everything(), stored)
