"""Every column equals TA-Lib's number, or a formula written anew on pandas."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import talib

from tests.features.market import candles_of
from trading_bot.features.compute import WARM_UP, feature_matrix
from trading_bot.features.table import CANDIDATES, INDICATORS, column_names

CANDLES = candles_of(900)
OPEN, H, L, C, V = (pd.Series(getattr(CANDLES, name)) for name in ("open", "high", "low", "close", "volume"))
HLC = (CANDLES.high, CANDLES.low, CANDLES.close)
TYPICAL = (H + L + C) / 3
RETURNS = np.log(C).diff()
RANGE = H - L
Expected = Callable[[], Any]


def mean(series: Any, period: int) -> Any:
    return series.rolling(period).mean()


def total(series: Any, period: int) -> Any:
    return series.rolling(period).sum()


def ema(period: int) -> Any:
    """Seeded with the simple mean of the first `period` closes."""
    seeded = C.copy()
    seeded.iloc[period - 1] = C.iloc[:period].mean()
    return seeded.iloc[period - 1 :].ewm(span=period, adjust=False).mean().reindex(C.index)


def money_flow_volume() -> Any:
    return ((C - L) - (H - C)) / RANGE * V


def volume_ratio(period: int) -> Any:
    return np.log1p(V / mean(V, period))


def band(period: int, place: int) -> Any:
    middle, spread = mean(C, period), 2 * C.rolling(period).std(ddof=0)
    upper, lower = middle + spread, middle - spread
    return (upper / C - 1, middle / C - 1, lower / C - 1, (upper - lower) / middle, (C - lower) / (upper - lower))[
        place
    ]


def keltner(times: float) -> Any:
    return (ema(20) + times * talib.ATR(*HLC, 20)) / C - 1


def parkinson(period: int) -> Any:
    return np.sqrt(mean(np.log(H / L) ** 2, period) / (4 * np.log(2)))


def amihud(period: int) -> Any:
    return mean((C.pct_change().abs() / (C * V)).where(V > 0, 0), period) * 1e6


def hour_angle() -> Any:
    date = pd.to_datetime(CANDLES.time, unit="ms", utc=True)
    return 2 * np.pi * (date.day_of_week * 24 + date.hour) / 168


def stochastic_k() -> Any:
    lowest, highest = L.rolling(14).min(), H.rolling(14).max()
    return mean((C - lowest) / (highest - lowest), 3)


def on_balance(period: int) -> Any:
    return total(np.sign(C.diff()) * V, period) / total(V, period)


def cci(period: int) -> Any:
    deviation = TYPICAL.rolling(period).apply(lambda x: np.abs(x - x.mean()).mean(), raw=True)
    return (TYPICAL - mean(TYPICAL, period)) / (0.015 * deviation) / 100


def vwap(period: int) -> Any:
    return C / (total(TYPICAL * V, period) / total(V, period)) - 1


def each(name: str, periods: tuple[int, ...], formula: Callable[[int], Any]) -> dict[str, Expected]:
    return {f"{name}_{period}": partial(formula, period) for period in periods}


EXPECTED: dict[str, Expected] = {
    **each("close_over_sma", (5, 10, 20, 50, 100, 200), lambda n: C / mean(C, n) - 1),
    **each("close_over_ema", (12, 26, 50, 100), lambda n: C / ema(n) - 1),
    "macd_line": lambda: talib.MACD(CANDLES.close, 12, 26, 9)[0] / C,
    "macd_signal": lambda: talib.MACD(CANDLES.close, 12, 26, 9)[1] / C,
    "macd_histogram": lambda: talib.MACD(CANDLES.close, 12, 26, 9)[2] / C,
    **each("rsi", (7, 14, 21), lambda n: talib.RSI(CANDLES.close, n) / 100),
    "stochastic_k": stochastic_k,
    "stochastic_d": lambda: mean(stochastic_k(), 3),
    **each("cci", (20, 40), lambda n: cci(n)),
    **each("roc", (3, 12, 24, 48, 168), lambda n: C / C.shift(n) - 1),
    "trix_15": lambda: talib.TRIX(CANDLES.close, 15),
    **each("atr", (7, 14, 28), lambda n: talib.ATR(*HLC, n) / C),
    **{
        f"bollinger_{n}_{name}": partial(band, n, place)
        for n in (20, 50)
        for place, name in enumerate(("upper", "middle", "lower", "width", "percent_b"))
    },
    "keltner_20_upper": lambda: keltner(2),
    "keltner_20_middle": lambda: keltner(0),
    "keltner_20_lower": lambda: keltner(-2),
    **each("on_balance", (20, 60), lambda n: on_balance(n)),
    **each("accumulation", (20, 60), lambda n: total(money_flow_volume(), n) / total(V, n)),
    **each("mfi", (14, 28), lambda n: talib.MFI(*HLC, CANDLES.volume, n) / 100),
    **each("close_over_vwap", (20, 60), lambda n: vwap(n)),
    **each("adx", (7, 14, 28), lambda n: talib.ADX(*HLC, n) / 100),
    "simple_return": lambda: C.pct_change(),
    "log_return": lambda: RETURNS,
    "log_high_over_low": lambda: np.log(H) - np.log(L),
    "log_close_over_open": lambda: np.log(C) - np.log(OPEN),
    "log_volume_20_over_100": lambda: np.log(mean(V, 20)) - np.log(mean(V, 100)),
    "log_volume_5_over_20": lambda: np.log(mean(V, 5)) - np.log(mean(V, 20)),
    **each("log1p_relative_volume", (20, 60), lambda n: volume_ratio(n)),
    "volume_change": lambda: volume_ratio(20).diff(),
    **each("realised_volatility", (20, 60), lambda n: np.sqrt(mean(RETURNS**2, n))),
    **each("parkinson_volatility", (20, 60), lambda n: parkinson(n)),
    "gap": lambda: np.log(OPEN / C.shift()),
    **each("amihud", (20, 60), lambda n: amihud(n)),
    "hour_of_week_sine": lambda: np.sin(hour_angle()),
    "hour_of_week_cosine": lambda: np.cos(hour_angle()),
    "williams_14": lambda: (C - H.rolling(14).max()) / (H.rolling(14).max() - L.rolling(14).min()),
    "aroon_25": lambda: (H.rolling(26).apply(np.argmax, raw=True) - L.rolling(26).apply(np.argmin, raw=True)) / 25,
    "ultimate": lambda: talib.ULTOSC(*HLC, 7, 14, 28) / 100,
    "efficiency_20": lambda: C.diff(20).abs() / total(C.diff().abs(), 20),
    "close_over_highest_50": lambda: C / H.rolling(50).max() - 1,
    "close_over_lowest_50": lambda: C / L.rolling(50).min() - 1,
    "body": lambda: (C - OPEN) / RANGE,
    "upper_shadow": lambda: (H - np.maximum(OPEN, C)) / RANGE,
    "lower_shadow": lambda: (np.minimum(OPEN, C) - L) / RANGE,
    "close_location": lambda: (C - L) / RANGE,
    **each("log_return_lag", (1, 2, 3, 5, 8, 12, 24), lambda n: RETURNS.shift(n)),
}


@pytest.fixture(scope="module")
def whole() -> np.ndarray:
    """All candidates, the warm-up's rows included."""
    out = np.empty((len(column_names(CANDIDATES)), len(CANDLES)), np.float32)
    feature_matrix(CANDLES, CANDIDATES, out)
    return out


def test_every_column_has_an_expected_value() -> None:
    assert set(EXPECTED) == set(column_names(CANDIDATES))


@pytest.mark.parametrize("name", EXPECTED)
def test_it_is_the_formula(name: str, whole: np.ndarray) -> None:
    found = whole[column_names(CANDIDATES).index(name)]
    expected = np.asarray(EXPECTED[name](), dtype=np.float64)
    np.testing.assert_allclose(found[WARM_UP:], expected[WARM_UP:], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", CANDIDATES)
def test_its_warm_up_is_what_the_table_says(name: str, whole: np.ndarray) -> None:
    first = column_names(CANDIDATES).index(CANDIDATES[name].columns[0])
    rows = whole[first : first + len(CANDIDATES[name].columns)]
    warmup = CANDIDATES[name].warmup
    assert np.isnan(rows[:, :warmup]).any(axis=0).all()
    assert np.isfinite(rows[:, warmup:]).all()
    assert warmup <= WARM_UP


def test_the_stochastic_is_talibs(whole: np.ndarray) -> None:
    simple: Any = 0  # TA-Lib's number of the simple mean
    lines = talib.STOCH(*HLC, 14, 3, simple, 3, simple)
    for name, line in zip(("stochastic_k", "stochastic_d"), lines, strict=True):
        found = whole[column_names(CANDIDATES).index(name)]
        np.testing.assert_allclose(found[WARM_UP:], line[WARM_UP:] / 100, atol=1e-6)


def test_there_are_40_features_and_at_least_68_candidates() -> None:
    assert len(column_names()) == len(set(column_names())) == 40
    assert column_names()[33] == "log1p_relative_volume_20"  # the 34th
    assert len(column_names(CANDIDATES)) == len(set(column_names(CANDIDATES))) >= 68
    assert column_names(CANDIDATES)[:40] == column_names(INDICATORS)
