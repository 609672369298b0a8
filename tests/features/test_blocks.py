"""Features are written block by block: where the blocks end and what follows must not be seen in the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from tests.features.market import candles_of
from trading_bot.domain.market import Candles
from trading_bot.features import columns
from trading_bot.features.columns import stretches
from trading_bot.features.compute import WARM_UP, feature_matrix
from trading_bot.features.table import CANDIDATES, INDICATORS, Indicator, column_names
from trading_bot.features.windows import feature_windows

WHOLE = candles_of(420, seed=4)
LENGTH = 30


@pytest.mark.parametrize("block", [columns.BLOCK, 64])
def test_every_window_is_the_same_without_its_future(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, of all candidates, at every bar that ends a window."""
    monkeypatch.setattr(columns, "BLOCK", block)
    windows, index = feature_windows(WHOLE, LENGTH, CANDIDATES)
    step = 1 if block == columns.BLOCK else 9
    for number in range(0, len(windows), step):
        cut, last = feature_windows(WHOLE[: index[number] + 1], LENGTH, CANDIDATES)
        assert last[-1] == index[number]
        np.testing.assert_array_equal(cut[-1], windows[number])


@pytest.mark.parametrize("block", [400, 97, 20])
def test_smaller_blocks_give_the_same_numbers(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (len(column_names(CANDIDATES)), len(WHOLE))
    expected, found = np.empty(shape, np.float32), np.empty(shape, np.float32)
    feature_matrix(WHOLE, CANDIDATES, expected)
    monkeypatch.setattr(columns, "BLOCK", block)
    feature_matrix(WHOLE, CANDIDATES, found)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)  # NaN where the warm-up has it, too


def test_stretches_cover_every_row_once_and_reach_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BLOCK", 10)
    rows = np.arange(25)
    parts = [(rows[block], rows[wide], rows[wide][new]) for block, wide, new in stretches(25, 13)]
    assert np.concatenate([block for block, _, _ in parts]).tolist() == rows.tolist()
    assert all((new == block).all() for block, _, new in parts)
    assert [len(wide) for _, wide, _ in parts] == [10, 20, 18]


@pytest.mark.parametrize("power", [-30, -20, 12])
def test_no_feature_knows_the_level_of_the_price(power: int) -> None:
    """A coin at a thousandth of a cent has the same features; a power of two keeps every bit."""
    scale = 2.0**power
    opened, high, low, close = (scale * column for column in (WHOLE.open, WHOLE.high, WHOLE.low, WHOLE.close))
    scaled = Candles(WHOLE.symbol, WHOLE.timeframe, WHOLE.time, opened, high, low, close, WHOLE.volume / scale)
    expected, found = feature_matrix(WHOLE, CANDIDATES), feature_matrix(scaled, CANDIDATES)
    changed = (found.values != expected.values).any(axis=1)
    assert [name for name, differs in zip(found.names, changed, strict=True) if differs] == []


def test_registering_an_own_indicator_takes_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def body(candles: Candles, out: columns.Features, *, times: float) -> None:
        out[0] = times * (candles.close / candles.open - 1)

    monkeypatch.setitem(INDICATORS, "mine", Indicator(body, {"times": 2.0}, 0, ("mine_2",)))
    assert column_names()[-1] == "mine_2"
    assert feature_windows(WHOLE)[0].shape == (len(WHOLE) - WARM_UP - LENGTH + 1, LENGTH, 41)
    np.testing.assert_allclose(
        feature_matrix(WHOLE).values[40], 2 * (WHOLE.close / WHOLE.open - 1)[WARM_UP:], rtol=1e-6, atol=1e-9
    )
