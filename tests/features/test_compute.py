"""The matrix: causal, finite whatever the market does, and clear about what it cannot use."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.features.market import candles, candles_of, replaced
from trading_bot.domain.market import Candles
from trading_bot.errors import CandleDataError, ConfigurationError
from trading_bot.features.columns import Features, ends_of_runs
from trading_bot.features.compute import WARM_UP, feature_matrix
from trading_bot.features.table import CANDIDATES, INDICATORS, Indicator, column_names

WHOLE = candles_of(700)


def test_the_matrix_says_what_it_holds() -> None:
    matrix = feature_matrix(WHOLE)
    assert matrix.values.shape == (40, len(WHOLE) - WARM_UP)
    assert matrix.values.dtype == np.float32
    assert matrix.names == column_names(INDICATORS)
    assert matrix.index.tolist() == list(range(WARM_UP, len(WHOLE)))
    assert (matrix.time == WHOLE.time[WARM_UP:]).all()


def test_it_is_written_into_memory_that_is_there() -> None:
    out = np.full((40, len(WHOLE)), 7, np.float32)
    matrix = feature_matrix(WHOLE, out=out)
    assert np.shares_memory(matrix.values, out)
    assert (matrix.values == feature_matrix(WHOLE).values).all()


@pytest.mark.parametrize("bars", [251, 252, 300, 420, 555, 699])
@pytest.mark.parametrize("name", CANDIDATES)
def test_the_future_changes_nothing_in_the_past(name: str, bars: int) -> None:
    table = {name: CANDIDATES[name]}
    whole = feature_matrix(WHOLE, table).values[:, : bars - WARM_UP]
    assert (feature_matrix(WHOLE[:bars], table).values == whole).all()


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume"])
def test_another_bar_tomorrow_changes_nothing_today(column: str) -> None:
    row = 500
    changed = replaced(WHOLE, column, row, float(getattr(WHOLE, column)[row]) * 3 + 1)
    before, after = feature_matrix(WHOLE, CANDIDATES).values, feature_matrix(changed, CANDIDATES).values
    assert (before[:, : row - WARM_UP] == after[:, : row - WARM_UP]).all()
    assert (before[:, row - WARM_UP :] != after[:, row - WARM_UP :]).any()


def test_the_test_would_see_a_feature_that_looks_ahead() -> None:
    def tomorrow(candles: Candles, out: Features) -> None:
        out[0] = np.append(candles.close[1:] / candles.close[:-1] - 1, 0)

    table = {"tomorrow": Indicator(tomorrow, {}, 0, ("tomorrow",))}
    whole = feature_matrix(WHOLE, table).values[:, : 300 - WARM_UP]
    assert (feature_matrix(WHOLE[:300], table).values != whole).any()


def constant(rows: int = 400) -> Candles:
    return candles(np.full(rows, 0.1))


def test_a_market_that_stands_still_gives_zeros() -> None:
    matrix = feature_matrix(constant(), CANDIDATES)
    values = dict(zip(matrix.names, matrix.values, strict=True))
    assert np.isfinite(matrix.values).all()
    moving = {"hour_of_week_sine", "hour_of_week_cosine"}
    volumes = {name for name in values if name.startswith("log1p_relative_volume")}
    for name in values.keys() - moving - volumes:
        np.testing.assert_allclose(values[name], 0, atol=1e-6, err_msg=name)
    for name in volumes:  # as much as ever
        np.testing.assert_allclose(values[name], np.log(2), atol=1e-6)


def test_a_range_or_volume_of_zero_after_a_wild_market_gives_exactly_zero() -> None:
    """What running sums keep of the past must not be divided by itself."""
    rows = 700
    columns = {name: getattr(WHOLE, name).copy() for name in ("open", "high", "low", "close", "volume")}
    for name in ("open", "high", "low", "close"):
        columns[name][400:] = 123.456
    columns["volume"][:400] *= 1e6
    columns["volume"][400:] = 0
    market = Candles("BTC/USDT", "1h", WHOLE.time[:rows], **columns)
    matrix = feature_matrix(market, CANDIDATES)
    assert np.isfinite(matrix.values).all()
    late = dict(zip(matrix.names, matrix.values[:, 100 + 400 - WARM_UP :], strict=True))
    exact = [
        name
        for name in late
        if name.startswith(
            (
                "bollinger",
                "cci",
                "on_balance",
                "accumulation",
                "close_over_vwap",
                "log1p",
                "log_volume",
                "volume_change",
                "realised",
                "parkinson",
                "amihud",
                "efficiency",
                "ultimate",
                "body",
                "upper",
                "lower",
                "close_location",
            )
        )
    ]
    assert len(exact) >= 30
    for name in exact:
        assert (late[name] == 0).all(), name


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.3, 0.9, 0.99]),
    st.sampled_from([1e-8, 1.0, 1e6]),
    st.sampled_from([0.0, 1e-3, 0.2]),
)
def test_it_is_finite_in_any_market(seed: int, idle: float, scale: float, move: float) -> None:
    random = np.random.default_rng(seed)
    rows = 400
    moves = random.normal(0, move, rows) * (random.random(rows) > idle)
    close = scale * np.exp(np.cumsum(moves))
    opened = np.concatenate(([scale], close[:-1]))
    high, low = np.maximum(opened, close), np.minimum(opened, close)
    volume = random.lognormal(0, 3, rows) * (random.random(rows) > idle)
    assert np.isfinite(feature_matrix(candles(close, opened, high, low, volume), CANDIDATES).values).all()


@pytest.mark.parametrize("seed", range(6))
def test_one_monstrous_volume_leaves_shares_in_their_range(seed: int) -> None:
    """Running sums never get rid of its rounding error, which is larger than all that is traded afterwards."""
    market = candles_of(600, seed)
    volume = market.volume * 1e-4 + (np.arange(600) % 3 == 0) * 1e-3
    volume[300] = 1e15
    matrix = feature_matrix(candles(market.close, market.open, market.high, market.low, volume), CANDIDATES)
    assert np.isfinite(matrix.values).all()
    values = dict(zip(matrix.names, matrix.values, strict=True))
    for period in (20, 60):
        assert np.abs(values[f"on_balance_{period}"]).max() <= 1
        assert np.abs(values[f"accumulation_{period}"]).max() <= 1
    for period in (14, 28):
        assert 0 <= values[f"mfi_{period}"].min() <= values[f"mfi_{period}"].max() <= 1


@pytest.mark.parametrize("rows", [0, 1, 64, WARM_UP])
def test_too_few_candles_say_how_many_are_needed(rows: int) -> None:
    with pytest.raises(CandleDataError, match=rf"{rows} candles .* at least 251 are needed.* load {251 - rows} more"):
        feature_matrix(WHOLE[:rows])
    assert feature_matrix(WHOLE[: WARM_UP + 1]).values.shape == (40, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume"])
def test_a_candle_that_is_none_is_named(column: str, value: float) -> None:
    with pytest.raises(CandleDataError, match=rf"candle 77 .* has {column} {value}; wanted a finite number"):
        feature_matrix(replaced(WHOLE, column, 77, value))


def test_a_price_of_zero_is_none() -> None:
    with pytest.raises(CandleDataError, match=r"candle 3 .* has low 0.0"):
        feature_matrix(replaced(WHOLE, "low", 3, 0.0))


def test_candles_out_of_order_are_refused() -> None:
    time = WHOLE.time.copy()
    time[5] = time[4]
    twice = Candles("BTC/USDT", "1h", time, WHOLE.open, WHOLE.high, WHOLE.low, WHOLE.close, WHOLE.volume)
    with pytest.raises(CandleDataError, match=r"candle 5 .* not after the one before"):
        feature_matrix(twice)


def own(candles: Candles, out: Features, *, times: float) -> None:
    out[0] = candles.close / candles.open * times


def test_an_own_indicator_is_one_entry() -> None:
    matrix = feature_matrix(WHOLE, {**INDICATORS, "mine": Indicator(own, {"times": 2.0}, 0, ("mine_2",))})
    assert matrix.names[40] == "mine_2"
    np.testing.assert_allclose(matrix.values[40], (2 * WHOLE.close / WHOLE.open)[WARM_UP:], rtol=1e-6)


def test_an_own_longer_warm_up_is_dropped_too() -> None:
    def slow(candles: Candles, out: Features) -> None:
        out[0][:300] = np.nan
        out[0][300:] = 1

    table = {**INDICATORS, "slow": Indicator(slow, {}, 300, ("slow",))}
    assert feature_matrix(WHOLE, table).index[0] == 300
    with pytest.raises(CandleDataError, match="at least 301 are needed"):
        feature_matrix(WHOLE[:300], table)


def test_an_own_indicator_that_is_not_finite_is_named() -> None:
    def broken(candles: Candles, out: Features) -> None:
        out[0] = np.nan

    with pytest.raises(CandleDataError, match="indicator 'broken' gives nan in column 'b'"):
        feature_matrix(WHOLE, {"broken": Indicator(broken, {}, 0, ("b",))})


def test_a_name_twice_or_memory_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="rsi_14"):
        feature_matrix(WHOLE, {**INDICATORS, "again": INDICATORS["rsi_14"]})
    with pytest.raises(ConfigurationError, match=r"no columns|columns"):
        feature_matrix(WHOLE, {})
    with pytest.raises(ConfigurationError, match=r"wanted float32 \(40, 700\)"):
        feature_matrix(WHOLE, out=np.empty((40, 450), np.float32))


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 6))
def test_ends_of_runs(mask: list[bool], length: int) -> None:
    expected = [t for t in range(length - 1, len(mask)) if all(mask[t - length + 1 : t + 1])]
    assert ends_of_runs(np.array(mask, dtype=bool), length).tolist() == expected
