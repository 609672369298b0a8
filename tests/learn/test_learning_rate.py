"""The learning rate's rule: cut at a stall, never outside its bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_bot.learn.learning_rate import LearningRate
from trading_bot.learn.training_config import TrainingConfig

ADAPTIVE = TrainingConfig(learning_rate_initial=0.4, learning_rate_min=0.15)


def rates(config: TrainingConfig, losses: list[float]) -> list[float]:
    rate, found = LearningRate(config), []
    for loss in losses:
        rate.observe(loss)
        found.append(rate.value)
    return found


def test_it_is_kept_while_the_loss_falls_and_halved_when_the_mean_improvement_stalls() -> None:
    assert rates(ADAPTIVE, [1.0, 0.9, 0.8, 0.75]) == [0.4] * 4
    # improvements 0.1, then -0.3 → mean -0.1: a stall; the mean begins anew with 0.2
    assert rates(ADAPTIVE, [1.0, 0.9, 1.2, 1.0]) == [0.4, 0.4, 0.2, 0.2]
    # one bad epoch among good ones is forgiven: (0.4 - 0.1) / 2 > 0
    assert rates(ADAPTIVE, [1.0, 0.6, 0.7]) == [0.4, 0.4, 0.4]
    assert rates(ADAPTIVE, [1.0, 0.99995]) == [0.4, 0.2], "less than the threshold is a stall"


def test_it_never_falls_below_its_least() -> None:
    assert rates(ADAPTIVE, [1.0] * 4) == [0.4, 0.2, 0.15, 0.15]
    assert rates(ADAPTIVE, [math.nan, math.inf]) == [0.2, 0.15]


def test_plain_decay_and_a_constant_rate() -> None:
    plain = TrainingConfig(use_adaptive_lr=False, learning_rate_decay=0.5, learning_rate_min=0.03)
    assert rates(plain, [1.0, 0.5, 0.2]) == pytest.approx([0.05, 0.03, 0.03])
    assert rates(TrainingConfig(use_adaptive_lr=False, learning_rate_decay=1.0), [1.0, 2.0, math.nan]) == [0.1] * 3


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(allow_nan=True), max_size=30), st.integers(0, 30))
def test_it_never_rises_stays_in_bounds_and_goes_on_from_its_state(losses: list[float], cut: int) -> None:
    found = rates(ADAPTIVE, losses)
    assert all(0.15 <= rate <= 0.4 for rate in found)
    assert found == sorted(found, reverse=True)
    first, second = LearningRate(ADAPTIVE), LearningRate(ADAPTIVE)
    for loss in losses[:cut]:
        first.observe(loss)
    second.load_state_dict(first.state_dict())
    for loss in losses[cut:]:
        second.observe(loss)
    assert second.value == (found[-1] if losses else 0.4)
