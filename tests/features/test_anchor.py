"""Where a series begins is forgotten: the same bar has the same features whatever the first candle was."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.features.market import candles_of
from trading_bot.domain.market import Candles
from trading_bot.features.compute import SETTLED, SETTLED_CANDIDATES, WARM_UP, feature_matrix
from trading_bot.features.table import CANDIDATES, INDICATORS

ROOT = Path(__file__).parents[2]
LENGTH = 1400
WILD = 777
"""The row of a bar that is thirty times as wide as others: the worst of beginnings."""
FIRSTS = (1, 7, 100, 512, WILD, 1000, 1599)
LONGEST = "close_over_ema_100"


def wild() -> Candles:
    whole = candles_of(3000, seed=9)
    high, low = whole.high.copy(), whole.low.copy()
    high[WILD] *= 1.15
    low[WILD] *= 0.85
    return Candles(whole.symbol, whole.timeframe, whole.time, whole.open, high, low, whole.close, whole.volume)


MARKET = wild()


def rows_needed(market: Candles, first: int) -> dict[str, int]:
    """By column: rows from the new first candle on until it agrees with the whole series for good."""
    whole = feature_matrix(market[: first + LENGTH], CANDIDATES)
    moved = feature_matrix(market[first : first + LENGTH], CANDIDATES).values
    same = whole.values[:, first:]
    deviation = feature_matrix(market, CANDIDATES).values.astype(np.float64).std(axis=1)
    allowed = np.maximum(1e-6 * deviation[:, None], np.spacing(np.abs(same)))  # its last bit aside
    apart = np.abs(moved.astype(np.float64) - same) > allowed
    last = LENGTH - WARM_UP - np.argmax(apart[:, ::-1], axis=1)
    return dict(zip(whole.names, np.where(apart.any(axis=1), WARM_UP + last, 0).tolist(), strict=True))


@pytest.mark.parametrize("first", FIRSTS)
def test_moving_the_first_candle_changes_nothing_once_it_is_settled(first: int) -> None:
    needed = rows_needed(MARKET, first)
    ours = {column for indicator in INDICATORS.values() for column in indicator.columns}
    assert {name: rows for name, rows in needed.items() if name in ours and rows > SETTLED} == {}
    assert {name: rows for name, rows in needed.items() if rows > SETTLED_CANDIDATES} == {}


def test_no_fewer_rows_would_do() -> None:
    worst = [max(rows_needed(MARKET, first)[column] for first in FIRSTS) for column in ("keltner_20_lower", LONGEST)]
    assert SETTLED - 40 < worst[0] <= SETTLED
    assert SETTLED_CANDIDATES - 160 < worst[1] <= SETTLED_CANDIDATES


@pytest.mark.parametrize("back", [LENGTH, 5000, 20_000])
def test_it_holds_on_real_candles(back: int) -> None:
    market = real_candles()
    needed = rows_needed(market, len(market) - back)
    assert max(needed[column] for indicator in INDICATORS.values() for column in indicator.columns) <= SETTLED
    assert max(needed.values()) <= SETTLED_CANDIDATES


def real_candles() -> Candles:
    path = Path(os.environ.get("TRADING_BOT_DATA", ROOT.parent / "shared" / "data")) / "BTC_USDT-1h.csv.gz"
    if not path.exists():
        pytest.skip(f"no real candles {path.name}; set TRADING_BOT_DATA to the folder that has them")
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    opened, high, low, close, volume = table[:, 1:].T
    return Candles("BTC/USDT", "1h", table[:, 0].astype(np.int64), opened, high, low, close, volume)
