"""When to stop."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_bot.errors import TrainingError
from trading_bot.training.early_stopping import EarlyStopping


def test_it_stops_when_patience_is_spent_and_no_sooner() -> None:
    stopping = EarlyStopping(patience=3, min_delta=0.0)
    assert [stopping(value) for value in (3.0, 2.0, 2.0, 2.5, 1.0, 1.0, 1.5, 1.0)] == [False] * 7 + [True]
    assert (stopping.best, stopping.waited) == (1.0, 3)


def test_a_small_gain_is_none_and_does_not_move_the_mark() -> None:
    stopping = EarlyStopping(patience=15, min_delta=0.5)
    for value, waited in ((2.0, 0), (1.5, 1), (1.51, 2), (1.49, 0), (1.2, 1), (1.0, 2), (0.98, 0)):
        stopping(value)
        assert stopping.waited == waited, value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_improvement(value: float) -> None:
    stopping = EarlyStopping(patience=2)
    assert [stopping(each) for each in (value, 5.0, value, value)] == [False, False, False, True]
    assert stopping.best == 5.0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.floats(), max_size=30), st.integers(0, 30), st.integers(1, 5), st.sampled_from([0.0, 1e-4, 1.0]))
def test_a_state_goes_on_where_it_was(values: list[float], at: int, patience: int, delta: float) -> None:
    whole, first = EarlyStopping(patience, delta), EarlyStopping(patience, delta)
    told = [whole(value) for value in values]
    assert [first(value) for value in values[:at]] == told[:at]
    second = EarlyStopping(patience, delta)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [second(value) for value in values[at:]] == told[at:]
    assert second.state_dict() == whole.state_dict()


def test_defaults() -> None:
    assert (EarlyStopping().patience, EarlyStopping().min_delta) == (15, 1e-4)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"patience": 0}, "patience is 0; wanted a whole number of epochs ≥ 1"),
        ({"patience": 2.5}, "patience is 2.5"),
        ({"patience": True}, "patience is True"),
        ({"min_delta": -1e-9}, "min_delta is -1e-09; wanted a number ≥ 0"),
        ({"min_delta": math.nan}, "min_delta is nan"),
        ({"min_delta": math.inf}, "min_delta is inf"),
    ],
)
def test_bad_requests(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        EarlyStopping(**wrong)
