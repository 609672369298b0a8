"""One bad strategy never takes the others with it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from tests.strategies.markets import random_walk
from trading_bot.domain.market import Candles
from trading_bot.trading.strategy import Signals, by_regime
from trading_bot.trading.strategy_panel import StrategyPanel

BTC = random_walk(40)
ETH = Candles("ETH/USDT", "1h", BTC.time, BTC.open, BTC.high, BTC.low, BTC.close, BTC.volume)


class Steady:
    """Says +1 at 0.5, always."""

    name = "steady"
    warmup = 0
    affinity = by_regime(trending=1, ranging=1, volatile=1, choppy=1)

    def signals(self, candles: Candles) -> Any:
        return Signals(np.ones(len(candles)), np.full(len(candles), 0.5))


class Moody(Steady):
    """Does what its plan says, call by call, per symbol: True answers, an exception is raised."""

    name = "moody"

    def __init__(self, *plan: bool | BaseException, only: str | None = None) -> None:
        self.plan = list(plan)
        self.only = only

    def signals(self, candles: Candles) -> Any:
        if self.only not in (None, candles.symbol):
            return super().signals(candles)
        step = self.plan.pop(0)
        if isinstance(step, BaseException):
            raise step
        return super().signals(candles) if step else "rubbish"


def test_those_that_answer_are_heard() -> None:
    panel = StrategyPanel([Moody(ValueError("no\nway")), Steady()])
    assert panel.answers(BTC) == {"steady": (1, 0.5)}
    (failure,) = panel.failures
    assert (failure.strategy, failure.symbol, failure.switched_off) == ("moody", "BTC/USDT", False)
    assert failure.message == "ValueError: no way"


def test_three_failures_in_a_row_switch_off_and_say_so_once() -> None:
    panel = StrategyPanel([Moody(False, SystemExit(2), MemoryError()), Steady()])
    told = []
    for bars in range(1, 6):
        assert panel.answers(BTC[:bars])["steady"] == (1, 0.5)
        told.append([(failure.strategy, failure.switched_off) for failure in panel.failures])
    assert told == [[("moody", False)], [("moody", False)], [("moody", True)], [], []]
    assert panel.switched_off == {"moody"}


def test_a_bar_told_again_is_one_failure() -> None:
    panel = StrategyPanel([Moody(False, False, False, False, False), Steady()])
    for _ in range(3):
        panel.answers(BTC)
    assert panel.switched_off == set()
    panel.answers(BTC[:1])
    panel.answers(BTC[:2])
    assert panel.switched_off == {"moody"}


def test_an_answer_in_between_starts_the_count_again() -> None:
    panel = StrategyPanel([Moody(False, False, True, False, False, True)])
    for bars in range(1, 7):
        panel.answers(BTC[:bars])
    assert panel.switched_off == set()
    assert panel.failures == []


def test_failing_on_one_symbol_only_is_failing_too() -> None:
    panel = StrategyPanel([Moody(False, False, False, only="ETH/USDT")])
    for bars in range(1, 4):
        assert panel.answers(BTC[:bars]) == {"moody": (1, 0.5)}
        assert panel.answers(ETH[:bars]) == {}
    assert panel.switched_off == {"moody"}
    assert panel.answers(BTC) == {}


def test_endless_recursion_is_an_error_like_any_other() -> None:
    class Endless(Steady):
        name = "endless"

        def signals(self, candles: Candles) -> Any:
            return self.signals(candles)

    panel = StrategyPanel([Endless(), Steady()])
    assert list(panel.answers(BTC)) == ["steady"]
    assert panel.failures[0].message.startswith("RecursionError")
    assert sys.getrecursionlimit() > 100


def test_ctrl_c_goes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        StrategyPanel([Moody(KeyboardInterrupt())]).answers(BTC)


def test_no_candles_no_answers() -> None:
    panel = StrategyPanel([Steady()])
    assert panel.answers(BTC[:0]) == {}
    assert panel.failures == []
    assert panel.switched_off == set()
