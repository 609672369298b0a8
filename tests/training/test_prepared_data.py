"""Candles → windows and targets: nothing made up, nothing from the future."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.features.market import candles_of, replaced
from trading_bot.errors import CandleDataError, ConfigurationError
from trading_bot.features.table import CANDIDATES, INDICATORS, column_names
from trading_bot.features.windows import feature_windows
from trading_bot.training.prepared_data import prepare_data, select_features, table_of

WHOLE = candles_of(500)


@pytest.mark.parametrize(("horizon", "length"), [(1, 30), (12, 30), (12, 1), (100, 60)])
def test_a_target_is_the_return_that_followed_and_the_last_have_none(horizon: int, length: int) -> None:
    data = prepare_data(WHOLE, horizon, length)
    close = WHOLE.close
    assert data.X.shape == (500 - 249 - length - horizon, length, 40)
    assert data.index.tolist() == list(range(249 + length, 500 - horizon))
    assert (data.horizon, data.length, data.symbol, data.timeframe) == (horizon, length, "BTC/USDT", "1h")
    assert (data.time == WHOLE.time[data.index]).all()
    assert data.y.dtype == data.past.dtype == data.X.dtype == np.float32
    for number, t in enumerate(data.index):
        assert data.y[number] == np.float32(close[t + horizon] / close[t] - 1)
        assert data.past[number] == np.float32(close[t] / close[t - horizon] - 1)
    windows, index = feature_windows(WHOLE, length)
    assert np.array_equal(data.X, windows[np.isin(index, data.index)])


def test_windows_are_a_view() -> None:
    data = prepare_data(WHOLE)
    assert np.shares_memory(data.X[0], data.X[1])
    assert not data.X.flags.owndata


def test_a_past_before_the_first_candle_is_not_made_up() -> None:
    data = prepare_data(candles_of(700), horizon=320, length=30)
    assert data.index[0] == 320
    assert data.index[-1] == 700 - 320 - 1


@pytest.mark.parametrize("features", [None, column_names(INDICATORS)[7:12]])
def test_what_is_not_known_yet_changes_nothing_that_was(features: tuple[str, ...] | None) -> None:
    whole = prepare_data(WHOLE, 6, features=features)
    for bars in (286, 300, 431):
        data = prepare_data(WHOLE[:bars], 6, features=features)
        n = len(data.y)
        assert n == bars - 285
        for name in ("X", "y", "past", "index", "time"):
            assert np.array_equal(getattr(data, name), getattr(whole, name)[:n])


def test_chosen_features_are_the_columns_of_the_whole_in_the_order_given() -> None:
    names = column_names(CANDIDATES)
    chosen = tuple(names[number] for number in (50, 3, 17, 39, 4))
    data, whole = prepare_data(WHOLE, features=chosen), select_features(WHOLE, names)
    assert data.names == chosen
    assert len(table_of(chosen)) <= len(chosen), "only what is needed is computed"
    for column, name in enumerate(chosen):
        row = whole.values[names.index(name)][-len(data.y) - 12 : -12]
        assert np.array_equal(data.X[:, -1, column], row)
    assert prepare_data(WHOLE).names == column_names(INDICATORS)


def test_an_unknown_feature_names_the_nearest() -> None:
    name = column_names(INDICATORS)[0]
    with pytest.raises(ConfigurationError, match=f"unknown feature '{name}x'; did you mean '{name}'"):
        prepare_data(WHOLE, features=[name + "x"])
    for features in ([], [name, name]):
        with pytest.raises(ConfigurationError, match="wanted at least one, each once"):
            prepare_data(WHOLE, features=features)


def test_too_few_candles_say_how_many_are_needed() -> None:
    with pytest.raises(CandleDataError, match="at least 292 are needed"):
        prepare_data(WHOLE[:291])
    assert len(prepare_data(WHOLE[:292]).y) == 1
    with pytest.raises(CandleDataError, match="64 candles"):
        prepare_data(WHOLE[:64])
    with pytest.raises(CandleDataError, match="500 candles of BTC/USDT have no return over 500 bars; at least 501"):
        prepare_data(WHOLE, horizon=500)


def test_a_horizon_that_leaves_no_past_and_no_future_says_so() -> None:
    long = candles_of(601)
    with pytest.raises(CandleDataError, match=r"no window of 30 bars with a return over 300.*at least 601 are needed"):
        prepare_data(long[:600], horizon=300)
    assert prepare_data(long, horizon=300).index.tolist() == [300]


@pytest.mark.parametrize("number", [0, -3, 1.5, True])
def test_numbers_are_whole_and_positive(number: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"horizon is {number!r}; wanted a whole number ≥ 1"):
        prepare_data(WHOLE, horizon=number)
    with pytest.raises(ConfigurationError, match=f"length is {number!r}"):
        prepare_data(WHOLE, length=number)


def test_broken_candles_are_refused() -> None:
    with pytest.raises(CandleDataError, match="candle 300 "):
        prepare_data(replaced(WHOLE, "close", 300, np.nan))
