"""What every strategy of the project must keep to, whoever wrote it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tests.strategies.markets import candles_of, random_walk
from trading_bot.domain.market import Candles, Regime
from trading_bot.learn.affinity import TABLE
from trading_bot.trading.strategy import Strategy, load_strategies, read_signals
from trading_bot.trading.strategy_panel import StrategyPanel

FOLDER = Path(__file__).parents[2] / "strategies"
ALL = load_strategies(FOLDER)
MARKET = random_walk(2_000)

every = pytest.mark.parametrize("strategy", ALL, ids=lambda strategy: strategy.name)


def test_all_six_are_found() -> None:
    assert [strategy.name for strategy in ALL] == [
        "atr_breakout",
        "bollinger_reversion",
        "donchian_breakout",
        "ema_trend",
        "macd_momentum",
        "rsi_mean_reversion",
    ]
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == [strategy.name for strategy in ALL]


@every
def test_the_past_does_not_change_when_the_future_is_taken_away(strategy: Strategy) -> None:
    whole = read_signals(strategy, MARKET)
    for end in (*range(1, 60, 7), *range(strategy.warmup, len(MARKET), 61)):
        part = read_signals(strategy, MARKET[:end])
        np.testing.assert_array_equal(part.side, whole.side[:end])
        np.testing.assert_array_equal(part.confidence, whole.confidence[:end])


@every
def test_sides_and_confidences_are_in_range(strategy: Strategy) -> None:
    answer = strategy.signals(MARKET)
    side, confidence = answer.side[strategy.warmup :], answer.confidence[strategy.warmup :]
    assert set(np.unique(side)) == {-1, 0, 1}, "each strategy buys, sells and keeps quiet at times"
    assert confidence.min() >= 0.0
    assert confidence.max() <= 1.0
    assert (confidence[side == 0] == 0.0).all()
    assert len(np.unique(confidence)) > 50, "confidence follows the rule's own strength"


@every
def test_nothing_is_said_before_the_warm_up(strategy: Strategy) -> None:
    answer = read_signals(strategy, MARKET)
    assert not answer.side[: strategy.warmup].any()
    assert not answer.confidence[: strategy.warmup].any()
    assert 0 < strategy.warmup <= 520


@every
def test_moving_the_first_bar_moves_no_signal(strategy: Strategy) -> None:
    whole = read_signals(strategy, MARKET)
    for first in (1, 13, 100, 512, 777):
        later = read_signals(strategy, MARKET[first:])
        judged = slice(first + strategy.warmup, None)
        np.testing.assert_array_equal(later.side[strategy.warmup :], whole.side[judged])
        np.testing.assert_allclose(
            later.confidence[strategy.warmup :], whole.confidence[judged], rtol=0, atol=1e-6, err_msg=f"first {first}"
        )


@every
def test_asking_twice_gives_the_same(strategy: Strategy) -> None:
    once, again = read_signals(strategy, MARKET[:900]), read_signals(strategy, MARKET[:900])
    np.testing.assert_array_equal(once.side, again.side)
    np.testing.assert_array_equal(once.confidence, again.confidence)


@every
@pytest.mark.parametrize("n", [0, 1, 2, 15, 30])
def test_few_candles_are_no_reason_to_fail(strategy: Strategy, n: int) -> None:
    assert read_signals(strategy, MARKET[:n]).side.tolist() == [0] * n


def _jump(factor: float) -> Candles:
    close = MARKET.close[:1_200].copy()
    close[700:] *= factor
    return candles_of(close)


@every
@pytest.mark.parametrize(
    "market",
    [
        candles_of(np.full(1_200, 100.0), spread=0.0),
        candles_of(np.full(1_200, 0.1), spread=0.0),
        candles_of(MARKET.close[:1_200].copy(), volume=0.0),
        _jump(1_000.0),
        _jump(0.001),
        candles_of(np.linspace(100.0, 200.0, 1_200), spread=0.0),
        candles_of(MARKET.close[:1_200] * 1e-9),
    ],
    ids=["flat", "flat at a price without exact binary form", "no volume", "jump up", "crash", "straight up", "tiny"],
)
def test_strange_markets_are_survived(strategy: Strategy, market: Candles) -> None:
    read_signals(strategy, market)


@every
@pytest.mark.parametrize("price", [0.1, 100.0, 64_123.45])
def test_flat_prices_are_no_opinion(strategy: Strategy, price: float) -> None:
    assert not read_signals(strategy, candles_of(np.full(1_200, price), spread=0.0)).side.any()


@every
def test_prices_in_another_unit_are_the_same_market(strategy: Strategy) -> None:
    here = read_signals(strategy, candles_of(MARKET.close.copy()))
    there = read_signals(strategy, candles_of(MARKET.close * 1024.0))  # a power of two: not even rounding differs
    np.testing.assert_array_equal(here.side, there.side)
    np.testing.assert_allclose(here.confidence, there.confidence, atol=1e-9)


@every
def test_it_trades_often_enough_and_not_all_the_time(strategy: Strategy) -> None:
    side = read_signals(strategy, MARKET).side[strategy.warmup :]
    said = np.flatnonzero(side)
    held = side[said] > 0
    entries = int((np.diff(held.astype(int)) == 1).sum())
    days = len(side) / 24
    assert days / 20 < entries < days * 2


@every
def test_affinity_names_every_regime(strategy: Strategy) -> None:
    assert set(strategy.affinity) == set(Regime)
    if strategy.name in TABLE:
        assert dict(strategy.affinity) == dict(TABLE[strategy.name])


def test_all_six_answer_a_thousand_bars_in_milliseconds() -> None:
    panel = StrategyPanel(ALL)
    window = MARKET.tail(1_032)
    times = []
    for _ in range(20):
        fresh = window[:]  # nothing cached
        began = time.perf_counter()
        answers = panel.answers(fresh)
        times.append(time.perf_counter() - began)
    assert len(answers.signals) == 6
    assert min(times) < 0.005


def test_an_indicator_that_two_strategies_want_is_computed_once() -> None:
    window = MARKET.tail(1_032)
    asked: list[object] = []

    class Counting(dict[object, object]):
        def __setitem__(self, key: object, value: object) -> None:
            asked.append(key)
            super().__setitem__(key, value)

    object.__setattr__(window, "_cache", Counting())
    StrategyPanel(ALL).answers(window)
    assert ("atr", 14) in asked
    assert len(asked) == len(set(asked))
