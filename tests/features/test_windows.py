"""Windows are views, and targets come from the future alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.features.market import candles_of, replaced
from trading_bot.errors import CandleDataError, ConfigurationError
from trading_bot.features.compute import WARM_UP, feature_matrix
from trading_bot.features.windows import by_rows, feature_windows, forward_returns, windows_of

WHOLE = candles_of(500)


def test_a_window_is_thirty_rows_that_end_at_its_index() -> None:
    windows, index = feature_windows(WHOLE)
    matrix = feature_matrix(WHOLE)
    assert windows.shape == (500 - WARM_UP - 29, 30, 40)
    assert windows.dtype == np.float32
    assert index[0] == WARM_UP + 29
    assert index[-1] == 499
    for number in (0, 7, len(windows) - 1):
        assert (windows[number] == matrix.values[:, number : number + 30].T).all()


def test_no_window_is_a_copy() -> None:
    matrix = feature_matrix(WHOLE)
    windows, _ = windows_of(matrix)
    assert np.shares_memory(windows, matrix.values)
    assert not windows.flags.owndata
    assert not windows.flags.writeable
    assert np.shares_memory(windows[3], windows[4])


@pytest.mark.parametrize("bars", [280, 281, 400])
def test_windows_of_fewer_candles_are_the_same_windows(bars: int) -> None:
    windows, index = feature_windows(WHOLE[:bars])
    whole, _ = feature_windows(WHOLE)
    assert (windows == whole[: len(windows)]).all()
    assert index[-1] == bars - 1


def test_too_few_candles_say_how_many_are_needed() -> None:
    with pytest.raises(CandleDataError, match=r"64 candles .* at least 280 are needed.* load 216 more"):
        feature_windows(WHOLE[:64])
    with pytest.raises(CandleDataError, match="at least 280"):
        feature_windows(WHOLE[:279])
    assert len(feature_windows(WHOLE[:280])[0]) == 1
    with pytest.raises(CandleDataError, match="hold no window of 300"):
        windows_of(feature_matrix(WHOLE), 300)


@pytest.mark.parametrize("length", [0, -1, 2.5, True])
def test_a_length_is_a_whole_number(length: Any) -> None:
    with pytest.raises(ConfigurationError, match="length"):
        feature_windows(WHOLE, length)
    with pytest.raises(ConfigurationError, match="horizon"):
        forward_returns(WHOLE, length)


@pytest.mark.parametrize("horizon", [1, 6, 499])
def test_a_target_is_the_return_that_followed(horizon: int) -> None:
    target = forward_returns(WHOLE, horizon)
    assert len(target) == 500 - horizon
    expected = [WHOLE.close[t + horizon] / WHOLE.close[t] - 1 for t in range(500 - horizon)]
    np.testing.assert_allclose(target, expected, rtol=1e-12, atol=1e-15)


def test_a_target_longer_than_the_candles_is_refused() -> None:
    with pytest.raises(CandleDataError, match="at least 501"):
        forward_returns(WHOLE, 500)
    with pytest.raises(CandleDataError, match="candle 9 "):
        forward_returns(replaced(WHOLE, "close", 9, np.nan), 2)


def test_windows_and_targets_are_joined_by_the_index() -> None:
    windows, index = feature_windows(WHOLE)
    target = forward_returns(WHOLE, 6)
    kept = index[index < len(target)]
    assert len(kept) == len(windows) - 6
    assert target[kept][-1] == WHOLE.close[499] / WHOLE.close[493] - 1


def test_windows_by_rows_are_the_same_windows_and_copy_the_matrix_once() -> None:
    windows, _ = windows_of(feature_matrix(WHOLE))
    beside = by_rows(windows)
    assert (beside == windows).all()
    assert beside.strides == (160, 160, 4)  # the 40 features of a candle are neighbours
    assert np.shares_memory(beside[3], beside[4])
    assert not beside.flags.writeable
    rows = np.array([17, 3, 3, 99])
    assert beside[rows].flags.c_contiguous
    assert (beside[rows] == windows[rows]).all()
    assert (by_rows(windows[50:80]) == windows[50:80]).all()


def test_what_is_no_view_of_one_matrix_is_left_as_it_is() -> None:
    windows, _ = windows_of(feature_matrix(WHOLE))
    for other in (windows.copy(), windows[::2], windows[[5, 1, 2]], windows[:0], by_rows(windows)):
        assert by_rows(other) is other
