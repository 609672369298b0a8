"""The synthetic market: one seed, one market; sound candles; regimes that differ as their numbers say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_bot.domain.market import Candles, Floats, Regime, hash_of, timeframe_ms
from trading_bot.errors import ConfigurationError
from trading_bot.market_data.config import SyntheticConfig
from trading_bot.market_data.synthetic import SyntheticMarket
from trading_bot.market_data.synthetic_dynamics import REGIMES, Dynamics, coin
from trading_bot.market_data.synthetic_regimes import market_spells

COLUMNS = ("time", "open", "high", "low", "close", "volume")
SEEDS = range(10)
TRENDING, RANGING, VOLATILE, CHOPPY = range(4)


@cache
def market(seed: int = 7, bars: int = 10_000) -> SyntheticMarket:
    return SyntheticMarket(SyntheticConfig(seed=seed, bars=bars))


def same_bytes(one: Candles, other: Candles) -> bool:
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in COLUMNS)


# One seed, one market


def test_the_same_bytes_in_another_process() -> None:
    code = (
        "from trading_bot.domain.market import hash_of\n"
        "from trading_bot.market_data.config import SyntheticConfig\n"
        "from trading_bot.market_data.synthetic import SyntheticMarket\n"
        "made = SyntheticMarket(SyntheticConfig(seed=11, bars=2_000))\n"
        "print(hash_of(made.all()), made.codes('ADA/USDT').tobytes().hex()[:4000])"
    )
    here = SyntheticMarket(SyntheticConfig(seed=11, bars=2_000))
    wanted = f"{hash_of(here.all())} {here.codes('ADA/USDT').tobytes().hex()[:4000]}"
    for hash_seed in ("1", "2"):  # sets and dicts of strings come in another order in each
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == wanted


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), bars=st.integers(1, 700), more=st.integers(1, 700))
def test_more_bars_continue_the_same_market(seed: int, bars: int, more: int) -> None:
    short = SyntheticMarket(SyntheticConfig(seed=seed, bars=bars))
    long = SyntheticMarket(SyntheticConfig(seed=seed, bars=bars + more))
    for symbol in short.symbols:
        assert len(short.all()[symbol]) == bars
        assert same_bytes(short.all()[symbol], long.all()[symbol][:bars])
        np.testing.assert_array_equal(short.codes(symbol), long.codes(symbol)[:bars])


def test_another_symbol_changes_no_other() -> None:
    few = SyntheticMarket(SyntheticConfig(bars=1_500, symbols=("ADA/USDT",)))
    many = SyntheticMarket(SyntheticConfig(bars=1_500, symbols=("SOL/EUR", "ADA/USDT", "XYZ/USDT")))
    assert same_bytes(few.all()["ADA/USDT"], many.all()["ADA/USDT"])


def test_another_seed_is_another_market() -> None:
    closes = [market(seed).all()["BTC/USDT"].close for seed in SEEDS]
    returns = [np.diff(np.log(close)) for close in closes]
    for one, other in combinations(returns, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.06
    assert len({market(seed).codes("BTC/USDT").tobytes() for seed in SEEDS}) == len(SEEDS)


# Sound candles


@pytest.mark.parametrize("symbol", ["BTC/USDT", "ETH/USDT", "ADA/USDT", "SOL/USDT", "XRP/EUR", "UNHEARD/OF"])
@pytest.mark.parametrize("timeframe", ["1m", "1h", "1d"])
def test_candles_are_sound(symbol: str, timeframe: str) -> None:
    made = SyntheticMarket(SyntheticConfig(symbols=(symbol,), timeframe=timeframe, bars=3_000, start="2024-01-01"))
    rows, profile = made.all()[symbol], coin(symbol)
    assert (rows.symbol, rows.timeframe, len(rows)) == (symbol, timeframe, 3_000)
    assert rows.time[0] == made.config.start_ms
    assert set(np.diff(rows.time).tolist()) == {timeframe_ms(timeframe)}
    assert (rows.low > 0).all()
    assert (rows.low <= np.minimum(rows.open, rows.close)).all()
    assert (rows.high >= np.maximum(rows.open, rows.close)).all()
    assert (rows.volume > 0).all()
    for prices in (rows.open, rows.high, rows.low, rows.close):
        np.testing.assert_array_equal(prices, np.round(prices, profile.price_decimals))
    np.testing.assert_array_equal(rows.volume, np.round(rows.volume, profile.volume_decimals))
    assert np.isfinite(rows.high).all()
    assert np.isfinite(rows.volume).all()


def test_bars_open_near_the_last_close_and_prices_stay_sensible() -> None:
    for seed in SEEDS:
        for symbol, rows in market(seed).all().items():
            gap = np.abs(np.log(rows.open[1:] / rows.close[:-1]))
            assert gap.max() < 0.02
            assert np.median(gap) < 0.001
            assert 1 / 20 < rows.close[-1] / coin(symbol).price < 20


def test_candles_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        market().all()["BTC/USDT"].close[0] = 1.0


def test_fifty_thousand_bars_of_three_symbols() -> None:
    made = SyntheticMarket(SyntheticConfig())
    assert {symbol: len(rows) for symbol, rows in made.all().items()} == dict.fromkeys(made.symbols, 50_000)
    for symbol in made.symbols:
        share = np.bincount(made.codes(symbol), minlength=4) / 50_000
        assert (share > 0.10).all()
        assert (share < 0.45).all()


# Coins move together, but not as one


def test_returns_are_correlated_and_not_identical() -> None:
    found = []
    for seed in SEEDS:
        returns = [np.diff(np.log(rows.close)) for rows in market(seed).all().values()]
        found.append([float(np.corrcoef(one, other)[0, 1]) for one, other in combinations(returns, 2)])
    assert np.min(found) > 0.55
    assert np.max(found) < 0.92
    btc_eth, btc_ada, eth_ada = np.median(found, axis=0)
    assert 0.75 < btc_eth < 0.90
    assert 0.65 < btc_ada < 0.85
    assert 0.65 < eth_ada < 0.85


def test_most_regimes_are_the_markets_and_some_a_coins_own() -> None:
    agreeing = [float((market(s).codes("BTC/USDT") == market(s).codes("ADA/USDT")).mean()) for s in SEEDS]
    assert 0.65 < np.mean(agreeing) < 0.90
    assert max(agreeing) < 1


# Regimes


def spells(codes: npt.NDArray[np.int8]) -> list[tuple[int, int, int]]:
    """(first bar, end, regime) of every spell but the first and the last, which the sample cuts."""
    edges = np.flatnonzero(np.diff(codes)) + 1
    return [(int(a), int(b), int(codes[a])) for a, b in pairwise(edges)]


def test_spells_of_the_market_last_as_long_as_stated() -> None:
    made = market_spells(Dynamics(), 400_000, np.random.default_rng(3))
    lengths, codes = np.diff(made.start), made.code[:-1]
    assert lengths.min() >= Dynamics().shortest_spell
    for code, regime in enumerate(REGIMES):
        stated = Dynamics().regimes[regime].mean_bars
        assert abs(lengths[codes == code].mean() / stated - 1) < 0.08, regime  # about 1,000 spells of each


def test_spells_of_a_coin_last_about_as_long() -> None:
    found: list[list[int]] = [[] for _ in REGIMES]
    for seed in SEEDS:
        for start, end, code in spells(market(seed).codes("ETH/USDT")):
            found[code].append(end - start)
    for code, regime in enumerate(REGIMES):
        # a regime of the coin's own may equal a neighbour and lengthen it: spells are somewhat longer than stated
        assert 0.9 < np.mean(found[code]) / Dynamics().regimes[regime].mean_bars < 1.3, regime
        assert min(found[code]) >= Dynamics().shortest_spell - Dynamics().latest_follower


def test_true_regimes_have_names() -> None:
    made = market(7, 2_000)
    regimes = made.regimes("BTC/USDT")
    assert len(regimes) == 2_000
    assert [REGIMES.index(one) for one in regimes.tolist()] == made.codes("BTC/USDT").tolist()
    assert set(regimes.tolist()) <= set(Regime)


@cache
def character(seed: int) -> Mapping[str, Floats]:
    """What each regime of one market was like; name -> float64 (4,)."""
    made, symbol = market(seed), "BTC/USDT"
    rows, codes = made.all()[symbol], made.codes(symbol)
    moved = np.diff(np.log(rows.close), prepend=np.log(rows.close[0]))
    spread = np.log(rows.high / rows.low)
    within = np.concatenate(([False], codes[1:] == codes[:-1]))
    cuts = [(t, code) for start, end, code in spells(codes) for t in range(start + 1, end - 24, 24)]

    def each(measure: Callable[[int], Any]) -> Floats:
        return np.array([float(measure(code)) for code in range(4)])

    def echo(code: int) -> Any:
        rows_ = np.flatnonzero(within & (codes == code))
        return (moved[rows_] * moved[rows_ - 1]).mean() / (moved[codes == code] ** 2).mean()

    def days(code: int) -> Any:
        """Variance of 24 bars against 24 times that of one: 1 for a random walk."""
        sums = [moved[t : t + 24].sum() for t, here in cuts if here == code]
        return np.mean(np.square(sums)) / 24 / (moved[codes == code] ** 2).mean()

    return {
        "volatility": each(lambda code: moved[codes == code].std()),
        "echo": each(echo),
        "days": each(days),
        "volume": each(lambda code: rows.volume[codes == code].mean()),
        "wick": each(lambda code: spread[codes == code].mean() / moved[codes == code].std()),
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_regimes_differ_as_stated(seed: int) -> None:
    found = character(seed)
    volatility, echo, days, volume = found["volatility"], found["echo"], found["days"], found["volume"]
    assert volatility[VOLATILE] > 1.5 * max(volatility[TRENDING], volatility[RANGING], volatility[CHOPPY])
    assert volatility[RANGING] < 0.95 * min(volatility[TRENDING], volatility[CHOPPY])
    assert days[TRENDING] > 1.5  # moves add up: drift persists
    assert days[RANGING] < 0.6  # what was won is lost again
    assert days[CHOPPY] < 0.7
    assert -0.50 < echo[CHOPPY] < -0.20  # each bar takes back part of the one before
    assert echo[CHOPPY] < echo[RANGING] - 0.10
    assert echo[RANGING] < 0 < echo[TRENDING]
    assert volume[VOLATILE] > 1.5 * np.delete(volume, VOLATILE).max()
    assert volume[RANGING] < np.delete(volume, RANGING).min()
    assert found["wick"][CHOPPY] == found["wick"].max()  # much way for little progress


def test_trends_go_either_way() -> None:
    ups = []
    for seed in SEEDS:
        close = np.log(market(seed).all()["BTC/USDT"].close)
        codes = market(seed).codes("BTC/USDT")
        ups += [close[end - 1] > close[start] for start, end, code in spells(codes) if code == TRENDING]
    assert 0.35 < np.mean(ups) < 0.65


# A candle source


def test_since_and_limit() -> None:
    made = market()
    everything = made.candles("BTC/USDT", "1h")
    assert same_bytes(everything, made.all()["BTC/USDT"])
    time, hour = everything.time, 3_600_000
    newest = made.candles("BTC/USDT", "1h", limit=5)
    np.testing.assert_array_equal(newest.time, time[-5:])
    oldest = made.candles("BTC/USDT", "1h", since=int(time[10]), limit=5)
    np.testing.assert_array_equal(oldest.time, time[10:15])
    between = made.candles("BTC/USDT", "1h", since=int(time[10]) + 1, limit=2)
    np.testing.assert_array_equal(between.time, time[11:13])
    assert len(made.candles("BTC/USDT", "1h", since=int(time[0]) - 99 * hour)) == len(time)
    assert len(made.candles("BTC/USDT", "1h", since=int(time[-1]) + 1)) == 0
    assert len(made.candles("BTC/USDT", "1h", limit=10**9)) == len(time)
    assert len(made.candles("BTC/USDT", "1h", limit=0)) == 0


def test_unknown_symbol_and_timeframe() -> None:
    made = market()
    with pytest.raises(ConfigurationError, match=r"no DOGE/USDT .* it has BTC/USDT, ETH/USDT, ADA/USDT"):
        made.candles("DOGE/USDT", "1h")
    with pytest.raises(ConfigurationError, match=r"no DOGE/USDT"):
        made.codes("DOGE/USDT")
    with pytest.raises(ConfigurationError, match=r"is 1h, not 5m"):
        made.candles("BTC/USDT", "5m")


def test_says_that_it_is_synthetic() -> None:
    assert market(7, 2_000).describe() == "synthetic (seed 7)"


# Configuration


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seed": -1}, r"synthetic\.seed .* is -1"),
        ({"seed": 2**63}, r"synthetic\.seed"),
        ({"symbols": ()}, r"at least one symbol"),
        ({"symbols": ("BTC/USDT", "BTC/USDT")}, r"none twice"),
        ({"symbols": ("BTCUSDT",)}, r"such as 'BTC/USDT', found 'BTCUSDT'"),
        ({"symbols": ("BTC/USDT/EUR",)}, r"found 'BTC/USDT/EUR'"),
        ({"symbols": ("/USDT",)}, r"found '/USDT'"),
        ({"bars": 0}, r"synthetic\.bars .* is 0"),
        ({"bars": 5_000_001}, r"synthetic\.bars .* 5000000, is 5000001"),
        ({"start": "yesterday"}, r"such as '2024-01-01', is 'yesterday'"),
        ({"start": "2024-01-01T00:30"}, r"open of a 1h bar"),
        ({"start": "1969-12-31"}, r"since 1970"),
        ({"timeframe": "1 hour"}, r"timeframe '1 hour'"),
    ],
)
def test_what_the_configuration_refuses(wrong: Mapping[str, Any], said: str) -> None:
    with pytest.raises((ValueError, ConfigurationError), match=said):
        SyntheticConfig(**wrong)


def test_start_may_name_its_time_zone() -> None:
    assert SyntheticConfig(start="2024-01-01T02:00+02:00").start_ms == SyntheticConfig().start_ms == 1_704_067_200_000
