"""Weights by a trained selector: the factor's formula and bounds, what it cannot do, and what is told of it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.learn.test_dynamic_ensemble import BAD, GOOD, THREE, Declaring, Saying, ensemble, reading
from trading_bot.learn.affinity import by_regime
from trading_bot.learn.config import EnsembleConfig
from trading_bot.learn.dynamic_ensemble import DynamicEnsemble
from trading_bot.learn.trust import LIMIT, Trust, trust_factors
from trading_bot.learn.weight_step import on_floored_simplex

ATR, RSI, MACD = THREE
MINE = Declaring("mine", by_regime(trending=1.0, ranging=1.0, volatile=1.0, choppy=1.0))


def trusting(names: Any = THREE, **config: Any) -> DynamicEnsemble:
    return ensemble(names, method="trm", **config)


# The factor


def test_the_factor_by_hand() -> None:
    """n · q, q the probabilities of the strategies that are here, scaled to sum 1."""
    said = {"flat": 0.5, "long": 0.1, ATR: 0.2, RSI: 0.1, MACD: 0.1, "ema_trend": 0.0}
    assert trust_factors(said, [*THREE, "mine"]) == pytest.approx({ATR: 1.5, RSI: 0.75, MACD: 0.75})
    assert trust_factors(said, [ATR, RSI]) == pytest.approx({ATR: 4 / 3, RSI: 2 / 3})


def test_whoever_holds_all_alike_moves_nothing() -> None:
    assert trust_factors({"flat": 0.7, ATR: 0.1, RSI: 0.1, MACD: 0.1}, THREE) == pytest.approx(dict.fromkeys(THREE, 1))
    assert trust_factors({ATR: 0.3}, [ATR, "mine"]) == pytest.approx({ATR: 1.0}), "the only one it knows"
    assert trust_factors({"flat": 1.0, ATR: 0.0, RSI: 0.0}, THREE) == {ATR: 1.0, RSI: 1.0}, "certain of no strategy"
    assert trust_factors({"flat": 1.0}, THREE) == {}


@given(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3))
def test_a_factor_stays_within_its_bounds(raw: list[float]) -> None:
    factors = trust_factors(dict(zip(THREE, raw, strict=True)), THREE)
    assert all(1 / LIMIT <= factor <= LIMIT for factor in factors.values())
    order = sorted(range(3), key=lambda each: raw[each])
    assert [factors[THREE[each]] for each in order] == sorted(factors.values()), "more trust, no smaller factor"


def test_one_that_is_sure_is_cut() -> None:
    names = [*THREE, "ema_trend"]
    factors = trust_factors({ATR: 1.0, RSI: 0.0, MACD: 0.0, "ema_trend": 0.0}, names)
    assert factors == {ATR: LIMIT, RSI: 1 / LIMIT, MACD: 1 / LIMIT, "ema_trend": 1 / LIMIT}


# The weights


def test_the_weight_is_regime_times_record_times_factor() -> None:
    """The same as the table's target, multiplied; one it does not know keeps a factor of 1."""
    names, records = [*THREE, MINE], {ATR: GOOD, MACD: BAD}
    table = ensemble(names, floor=0.0).reweigh(reading("trending"), records)
    factors = {ATR: 0.5, RSI: 2.0, MACD: 1.5}
    wanted = {name: weight * factors.get(name, 1.0) for name, weight in table.items()}
    total = sum(wanted.values())
    found = trusting(names, floor=0.0).reweigh(reading("trending"), records, trust=Trust(factors))
    assert found == pytest.approx({name: weight / total for name, weight in wanted.items()})


@pytest.mark.parametrize("trust", [None, Trust(), Trust(words="silent: too old"), Trust(dict.fromkeys(THREE, 1.0))])
def test_without_a_say_the_weights_are_the_tables_bit_for_bit(trust: Trust | None) -> None:
    table, made = ensemble(), trusting()
    for regime, records in (("trending", {}), ("choppy", {ATR: BAD}), ("ranging", {RSI: GOOD})):
        assert made.reweigh(reading(regime), records, trust=trust) == table.reweigh(reading(regime), records)


@pytest.mark.parametrize("method", ["table", "hedge", "equal"])
def test_other_methods_do_not_listen(method: Any) -> None:
    one, other = ensemble(method=method), ensemble(method=method)
    for regime in ("trending", "choppy"):
        said = Trust({ATR: 3.0, RSI: 0.4})
        assert one.reweigh(reading(regime), {}, trust=said) == other.reweigh(reading(regime), {})


@given(
    st.lists(st.lists(st.floats(1 / LIMIT, LIMIT), min_size=3, max_size=3), min_size=2, max_size=8),
    st.sampled_from([0.0, 0.02, 0.2]),
)
def test_floor_and_step_hold_whatever_is_said(said: list[list[float]], floor: float) -> None:
    made, before = trusting(floor=floor), None
    for factors in said:
        after = made.reweigh(reading("volatile"), {}, trust=Trust(dict(zip(THREE, factors, strict=True))))
        assert sum(after.values()) == pytest.approx(1.0)
        assert min(after.values()) >= floor - 1e-12
        if before is not None:
            assert max(abs(after[name] - before[name]) for name in THREE) <= made.config.max_step + 1e-12
        before = after


def test_once_it_is_silent_the_weights_go_back_to_the_tables() -> None:
    made = trusting(max_step=0.05)
    away = made.reweigh(reading("choppy"), {}, trust=Trust({ATR: 3.0, RSI: 0.5}))
    assert away[ATR] > 0.3
    for _ in range(10):
        back = made.reweigh(reading("choppy"), {}, trust=Trust(words="silent: its model is 91 days old"))
    assert back == pytest.approx({ATR: 0.1, RSI: 0.6, MACD: 0.3})


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ({"atr_brekout": 1.0}, "trust name 'atr_brekout', which is not known; did you mean 'atr_breakout'"),
        ({ATR: 0.0}, "the factor of 'atr_breakout' should be a number above 0"),
        ({ATR: math.nan}, "above 0 such as 1.5, is nan"),
        ({ATR: math.inf}, "is inf"),
    ],
)
def test_rubbish_is_refused(factors: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        trusting().reweigh(reading("trending"), {}, trust=Trust(factors))


# What is told


def test_a_shift_tells_the_three_factors_and_what_was_said() -> None:
    made = trusting(max_step=1.0)
    made.reweigh(reading("trending"), {}, trust=Trust(dict.fromkeys(THREE, 1.0), "after 1 step: all alike"))
    made.reweigh(reading("trending"), {}, trust=Trust({ATR: 0.9, RSI: 2.0}, "after 3 steps: rsi model=m-1"))
    assert made.last_change is not None
    assert made.last_change.because == (
        "rsi_mean_reversion trm 2.00, rsi_mean_reversion = 0.20 regime x 1.00 record x 2.00 trm, "
        "trm after 3 steps: rsi model=m-1"
    )
    made.reweigh(reading("choppy"), {ATR: GOOD}, trust=Trust(words="silent: its model is 93 days old"))
    assert made.last_change is not None
    assert made.last_change.because.startswith("regime trending->choppy, ")
    assert made.last_change.because.endswith(" x 1.00 trm, trm silent: its model is 93 days old")


def test_the_first_weights_tell_it_too() -> None:
    made = trusting()
    made.reweigh(reading("trending"), {}, trust=Trust({ATR: 2.0}, "after 2 steps"))
    assert made.last_change is not None
    assert made.last_change.because == (
        "first weights, regime trending, atr_breakout = 0.50 regime x 1.00 record x 2.00 trm, trm after 2 steps"
    )


# Restarts


def test_a_snapshot_goes_on_to_the_last_bit() -> None:
    whole = trusting()
    cut = trusting()
    for bar in range(30):
        said = Trust({ATR: 1.0 + (bar % 7) / 4, RSI: 2.0 - (bar % 5) / 3}, f"bar {bar}")
        records = {MACD: GOOD if bar % 3 else BAD}
        regime = ("trending", "choppy")[bar // 9 % 2]
        assert cut.reweigh(reading(regime), records, trust=said) == whole.reweigh(reading(regime), records, trust=said)
        assert cut.last_change == whole.last_change
        saved = json.loads(json.dumps(cut.snapshot()))
        cut = trusting()
        assert cut.restore(saved)


@pytest.mark.parametrize("before", ["table", "hedge", "trm", "equal"])
@pytest.mark.parametrize("after", ["table", "hedge", "trm", "equal"])
def test_a_snapshot_of_another_method_is_taken_up(before: Any, after: Any) -> None:
    made = ensemble(method=before)
    made.reweigh(reading("trending"), {}, {ATR: 0.01}, Trust({ATR: 2.0}))
    saved = json.loads(json.dumps(made.snapshot()))
    other = ensemble(method=after)
    assert other.restore(saved)
    assert other.weights == made.weights
    other.reweigh(reading("choppy"), {}, {ATR: 0.01}, Trust({ATR: 2.0}))


def test_a_snapshot_from_before_there_was_trm_is_taken_up() -> None:
    saved = ensemble(method="hedge").snapshot()
    saved["terms"] = {name: row[:5] for name, row in saved["terms"].items()}
    made = trusting()
    assert made.restore(saved)
    assert made.reweigh(reading("trending"), {}, trust=Trust({ATR: 2.0}))[ATR] == pytest.approx(2 / 3)


def test_a_seed_caller_may_pass_it_by_update_weights() -> None:
    made = DynamicEnsemble(THREE, Saying("choppy"), EnsembleConfig(method="trm"))
    weights = made.update_weights(None, {}, trust=Trust({ATR: 3.0}))
    base = on_floored_simplex(np.array([0.3, 0.6, 0.3]), 0.02)
    assert list(weights.values()) == pytest.approx(base.tolist())
