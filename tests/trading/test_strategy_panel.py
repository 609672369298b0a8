"""One bad strategy never takes the others with it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from tests.strategies.markets import random_walk
from trading_bot.domain.market import Candles
from trading_bot.trading.strategy import Signals, by_regime, read_signals
from trading_bot.trading.strategy_panel import Answers, StrategyPanel

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


class Neural(Steady):
    """Answers with a model: the newest row alone; counts what it is asked."""

    name = "neural"
    warmup = 5
    model_version: Any = "neural-1"

    def __init__(self, note: Any = "") -> None:
        self.note = note
        self.asked: list[str] = []

    def signals(self, candles: Candles) -> Any:
        self.asked.append("signals")
        side = np.where(candles.close > candles.open, 1, -1)
        return Signals(side, np.abs(candles.close / candles.open - 1), self.note)

    def latest(self, candles: Candles) -> Any:
        self.asked.append("latest")
        whole = self.signals(candles.tail(1))
        return Signals(whole.side[-1:], whole.confidence[-1:], self.note)


def test_those_that_answer_are_heard() -> None:
    panel = StrategyPanel([Moody(ValueError("no\nway")), Steady()])
    assert panel.answers(BTC).signals == {"steady": (1, 0.5)}
    (failure,) = panel.failures
    assert (failure.strategy, failure.symbol, failure.switched_off) == ("moody", "BTC/USDT", False)
    assert failure.message == "ValueError: no way"


def test_three_failures_in_a_row_switch_off_and_say_so_once() -> None:
    panel = StrategyPanel([Moody(False, SystemExit(2), MemoryError()), Steady()])
    told = []
    for bars in range(1, 6):
        assert panel.answers(BTC[:bars]).signals["steady"] == (1, 0.5)
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
        assert panel.answers(BTC[:bars]).signals == {"moody": (1, 0.5)}
        assert panel.answers(ETH[:bars]).signals == {}
    assert panel.switched_off == {"moody"}
    assert panel.answers(BTC).signals == {}


def test_endless_recursion_is_an_error_like_any_other() -> None:
    class Endless(Steady):
        name = "endless"

        def signals(self, candles: Candles) -> Any:
            return self.signals(candles)

    panel = StrategyPanel([Endless(), Steady()])
    assert list(panel.answers(BTC).signals) == ["steady"]
    assert panel.failures[0].message.startswith("RecursionError")
    assert sys.getrecursionlimit() > 100


def test_ctrl_c_goes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        StrategyPanel([Moody(KeyboardInterrupt())]).answers(BTC)


def test_no_candles_no_answers() -> None:
    panel = StrategyPanel([Steady()])
    assert panel.answers(BTC[:0]) == Answers({}, {}, {})
    assert panel.failures == []
    assert panel.switched_off == set()


def test_a_strategy_with_latest_is_asked_for_that_row_alone() -> None:
    whole = read_signals(Neural(), BTC)
    for bars in range(1, len(BTC) + 1):
        neural = Neural()
        answers = StrategyPanel([neural]).answers(BTC[:bars])
        assert neural.asked[0] == "latest"
        assert answers.signals == {"neural": (whole.side[bars - 1], whole.confidence[bars - 1])}
    assert set(whole.side) == {-1, 0, 1}, "silent within the warm-up, both sides later"


def test_notes_and_model_versions_are_of_those_that_have_them() -> None:
    plain, neural = Steady(), Neural("silent:  its model\nis 93 days old ")
    answers = StrategyPanel([plain, neural]).answers(BTC)
    assert list(answers.signals) == ["steady", "neural"]
    assert answers.notes == {"neural": "silent: its model is 93 days old"}
    assert answers.model_versions == {"neural": "neural-1"}
    neural.note, neural.model_version = "", None
    assert StrategyPanel([neural]).answers(BTC) == Answers({"neural": answers.signals["neural"]}, {}, {})


def test_one_that_failed_has_no_note_and_no_model() -> None:
    class Failing(Neural):
        def latest(self, candles: Candles) -> Any:
            raise ValueError("no weights")

    panel = StrategyPanel([Failing("cautious"), Steady()])
    assert panel.answers(BTC) == Answers({"steady": (1, 0.5)}, {}, {})
    assert panel.failures[0].message == "ValueError: no weights"


def test_a_model_version_that_is_no_id_is_a_failure() -> None:
    neural = Neural()
    neural.model_version = 7
    panel = StrategyPanel([neural])
    assert panel.answers(BTC) == Answers({}, {}, {})
    assert panel.failures[0].message == "strategy 'neural' has model_version 7; wanted a model's id, or None"
