"""Hedge: its laws, its bound against adversaries, how soon it follows; and what it makes of the ensemble's weights."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.learn.test_dynamic_ensemble import BAD, GOOD, THREE, Saying, ensemble, reading, records
from trading_bot.domain.market import Floats, Regime
from trading_bot.learn.config import EnsembleConfig
from trading_bot.learn.dynamic_ensemble import DynamicEnsemble, RegimeReading
from trading_bot.learn.hedge import LIMIT, MEMORY, HedgeState, advance, hedge_step, variance_step

RATE, SHARE = EnsembleConfig().hedge_rate, EnsembleConfig().hedge_share

rates, parts = st.floats(0.0001, 2.0), st.floats(0.0001, 0.5)
ratios = st.floats(-0.5, 0.5)
scales = st.floats(0.0, 0.1)


def simplex(raw: list[float]) -> Floats:
    weights: Floats = np.array(raw) / sum(raw)
    return weights


def experts(n: int) -> st.SearchStrategy[tuple[Floats, Floats]]:
    """Weights and gains of `n` experts."""
    weights = st.lists(st.floats(1e-3, 1.0), min_size=n, max_size=n).map(simplex)
    return st.tuples(weights, st.lists(ratios, min_size=n, max_size=n).map(np.array))


several = st.integers(1, 8).flatmap(experts)


# One step


def test_a_step_by_hand() -> None:
    after = hedge_step(np.array([0.5, 0.5]), np.array([0.02, -0.01]), 0.01, rate=0.1, share=0.2)
    up, down = math.exp(0.2), math.exp(-0.1)
    assert after == pytest.approx([0.8 * up / (up + down) + 0.1, 0.8 * down / (up + down) + 0.1])


def test_one_bar_counts_as_no_more_than_the_limit() -> None:
    def after(gain: float) -> float:
        return float(hedge_step(np.array([0.5, 0.5]), np.array([gain, 0.0]), 0.01, RATE, SHARE)[0])

    assert after(LIMIT * 0.01) == after(0.5) > after(0.99 * LIMIT * 0.01)
    assert after(-LIMIT * 0.01) == after(-0.5)


@given(several, scales, rates, parts)
def test_weights_stay_on_the_simplex_above_their_share(
    those: tuple[Floats, Floats], scale: float, rate: float, share: float
) -> None:
    weights, gains = those
    after = hedge_step(weights, gains, scale, rate, share)
    assert after.sum() == pytest.approx(1.0, abs=1e-12)
    assert after.min() >= share / len(weights) * (1 - 1e-12)


@given(several, scales, rates, parts, st.randoms(use_true_random=False))
def test_the_order_of_experts_does_not_matter(
    those: tuple[Floats, Floats], scale: float, rate: float, share: float, random: Any
) -> None:
    weights, gains = those
    order = random.sample(range(len(weights)), len(weights))
    straight = hedge_step(weights, gains, scale, rate, share)
    assert hedge_step(weights[order], gains[order], scale, rate, share) == pytest.approx(straight[order], abs=1e-14)


@given(several, scales, rates, parts, st.data())
def test_whoever_earns_more_never_gets_less(
    those: tuple[Floats, Floats], scale: float, rate: float, share: float, data: st.DataObject
) -> None:
    weights, gains = those
    after = hedge_step(weights, gains, scale, rate, share)
    for one, other in itertools.permutations(range(len(weights)), 2):
        if weights[one] >= weights[other] and gains[one] >= gains[other]:
            assert after[one] >= after[other], "no less than an expert that had no more and earned no more"
    lucky = data.draw(st.integers(0, len(weights) - 1))
    more = gains.copy()
    more[lucky] += data.draw(st.floats(0.0, 0.5))
    assert hedge_step(weights, more, scale, rate, share)[lucky] >= after[lucky] - 1e-15, "no less for earning more"


# The scale


def test_the_scale_is_what_was_known_before_the_bar() -> None:
    state = advance(HedgeState.even(2), np.array([0.02, 0.0]), RATE, SHARE)
    assert state.weights == pytest.approx([0.5, 0.5], abs=1e-15), "the first bar tells nothing but the scale"
    assert (state.variance, state.bars) == (0.02**2, 1)
    after = advance(state, np.array([0.04, 0.0]), RATE, SHARE)
    assert after.weights[0] == pytest.approx((1 - SHARE) / (1 + math.exp(-2 * RATE)) + SHARE / 2), "twice the usual"
    assert math.sqrt(after.variance) == pytest.approx(math.sqrt((0.02**2 + 0.04**2) / 2))


def test_bars_of_no_gain_leave_the_scale_and_newer_ones_outweigh_the_old() -> None:
    assert variance_step(0.0004, 7, np.zeros(3)) == (0.0004, 7)
    variance, bars = 0.0, 0
    for _ in range(3 * MEMORY):
        variance, bars = variance_step(variance, bars, np.array([0.0, -0.01]))
    assert variance == pytest.approx(0.0001)
    assert bars == MEMORY
    for _ in range(3 * MEMORY):
        variance, bars = variance_step(variance, bars, np.array([0.03, 0.01]))
    assert variance == pytest.approx(0.0009, rel=0.06)


# The bound


def best_with_changes(gains: Floats, changes: int) -> float:
    """What the best sequence of experts earns that changes at most so often; `gains` (T, n)."""
    best = np.zeros((changes + 1, gains.shape[1]))  # by changes made and expert held
    for row in gains:
        moved = np.maximum.accumulate(np.vstack([np.full(gains.shape[1], -np.inf), best[:-1]]).max(axis=1))
        best = np.maximum(best, moved[:, None]) + row
    return float(best.max())


def bound(bars: int, n: int, rate: float, share: float, changes: int) -> float:
    """What the documentation of `hedge.py` promises."""
    return price(bars, n, share, changes) / rate + rate * bars * LIMIT**2 / 2


def price(bars: int, n: int, share: float, changes: int) -> float:
    """How unlikely, −ln, the weights hold a sequence of experts before anything is seen."""
    if not share:
        return math.log(n)
    return math.log(n) + changes * math.log(n / share) + (bars - changes - 1) * math.log(1 / (1 - share))


def duel(bars: int, n: int, rate: float, share: float, market: str, seed: int) -> tuple[Floats, float]:
    """Gains a market made, knowing the weights, and what hedge earned in it, in units of a scale of 1."""
    random = np.random.default_rng(seed)
    weights, gains, earned = np.full(n, 1 / n), np.empty((bars, n)), 0.0
    for bar in range(bars):
        if market == "against the leader":
            row = np.where(weights == weights.max(), -LIMIT, LIMIT)
        elif market == "for the last":
            row = np.where(np.arange(n) == weights.argmin(), LIMIT, -LIMIT)
        elif market == "one is better":
            row = np.where(np.arange(n) == seed % n, LIMIT, -LIMIT)
        elif market == "in turn":
            row = np.where(np.arange(n) == bar // (bars // 5) % n, LIMIT, -LIMIT)
        else:
            row = random.choice([-LIMIT, LIMIT], n)
        gains[bar] = row
        earned += float(weights @ row)
        weights = hedge_step(weights, row, 1.0, rate, share)
    return gains, earned


MARKETS = ["against the leader", "for the last", "one is better", "in turn", "at random"]


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize(("n", "bars"), [(2, 400), (6, 400), (3, 1500)])
def test_no_market_makes_hedge_lag_the_best_expert_by_more_than_the_bound(market: str, n: int, bars: int) -> None:
    rate = math.sqrt(2 * math.log(n) / bars) / LIMIT  # the best one for a known end
    gains, earned = duel(bars, n, rate, 0.0, market, seed=n)
    limit = bound(bars, n, rate, 0.0, 0)
    assert limit == pytest.approx(LIMIT * math.sqrt(2 * bars * math.log(n)))
    regret = gains.sum(axis=0).max() - earned
    assert regret <= limit + 1e-9
    if market == "one is better":
        even = gains.sum(axis=0).max() - gains.mean(axis=1).sum()
        assert even > 2 * limit, "even weights would break it: the bound says something"


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("changes", [0, 1, 4])
def test_with_a_share_the_bound_holds_against_experts_that_change(market: str, changes: int) -> None:
    bars, n, share = 1500, 3, 4 / 1500
    rate = math.sqrt(2 * price(bars, n, share, 4) / bars) / LIMIT
    gains, earned = duel(bars, n, rate, share, market, seed=1)
    assert best_with_changes(gains, changes) - earned <= bound(bars, n, rate, share, changes) + 1e-9
    if market == "in turn" and changes == 4:
        even = best_with_changes(gains, 4) - gains.mean(axis=1).sum()
        assert even > 2 * bound(bars, n, rate, share, 4)


def test_weights_follow_a_new_best_expert_and_only_for_the_share() -> None:
    """From all for one to more than half for the other: ln((n / share) · 1) / (rate · advantage) bars, however long
    the first was better."""

    def bars_until_followed(share: float, before: int) -> int:
        weights = np.array([0.5, 0.5])
        for _ in range(before):
            weights = hedge_step(weights, np.array([1.0, -1.0]), 1.0, RATE, share)
        return next(
            bar
            for bar in itertools.count(1)
            if (weights := hedge_step(weights, np.array([-1.0, 1.0]), 1.0, RATE, share))[1] > 0.5
        )

    promised = math.ceil(math.log(2 / SHARE) / (2 * RATE))
    assert promised == 139
    assert bars_until_followed(SHARE, 1000) == bars_until_followed(SHARE, 5000) <= promised
    assert bars_until_followed(0.0, 1000) == 1001, "without a share it takes as long as the other was better"


# In the ensemble


def hedging(**config: Any) -> DynamicEnsemble:
    return ensemble(method="hedge", **config)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"method": "hedging"}, r"ensemble\.method should be table, hedge, trm or equal, is 'hedging'"),
        ({"hedge_rate": 0.0}, r"ensemble\.hedge_rate should be between 0\.0001 and 2\.0, is 0\.0"),
        ({"hedge_share": 0.0}, r"ensemble\.hedge_share should be between 0\.0001 and 0\.5, is 0\.0"),
        ({"hedge_share": math.nan}, r"ensemble\.hedge_share.*is nan"),
    ],
)
def test_a_wrong_configuration_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EnsembleConfig(**config)


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ({"atr_brekout": 0.01}, "gains name 'atr_brekout'.*did you mean 'atr_breakout'"),
        ({"atr_breakout": math.nan}, "the gain of 'atr_breakout' should be a ratio such as 0.01, is nan"),
        ({"atr_breakout": -math.inf}, "is -inf; leave out what is unknown"),
    ],
)
@pytest.mark.parametrize("method", ["table", "hedge"])
def test_impossible_gains_are_refused_and_change_nothing(gains: Any, words: str, method: str) -> None:
    made = ensemble(method=method)
    made.update_weights(None, {}, gains=dict.fromkeys(THREE, 0.01))
    before = made.snapshot()
    with pytest.raises(ValueError, match=words):
        made.update_weights(None, {}, gains=gains)
    assert made.snapshot() == before


gains_of_three = st.tuples(ratios, ratios, ratios).map(lambda three: dict(zip(THREE, three, strict=True)))
records_of_three = st.tuples(records, records, records).map(lambda three: dict(zip(THREE, three, strict=True)))
stories = st.lists(st.tuples(st.sampled_from(list(Regime)), records_of_three, gains_of_three), min_size=2, max_size=10)


def told(made: DynamicEnsemble, bar: tuple[Regime, Any, Any], *, gains: bool = True) -> dict[str, float]:
    regime, performance, earned = bar
    return made.reweigh(RegimeReading(regime, 0.5, {}), performance, earned if gains else None)


@given(stories)
def test_the_table_does_not_look_at_gains(story: list[Any]) -> None:
    with_gains, without = ensemble(), ensemble()
    for bar in story:
        assert told(with_gains, bar) == told(without, bar, gains=False)
        assert with_gains.last_change == without.last_change


@given(stories)
def test_hedge_that_hears_of_no_gains_is_the_table(story: list[Any]) -> None:
    hedge, table = hedging(), ensemble()
    for bar in story:
        assert told(hedge, bar, gains=False) == pytest.approx(told(table, bar), abs=1e-12)


@given(stories, st.floats(0.0, 1 / 3), st.floats(0.001, 1.0), rates, parts)
def test_whatever_was_earned_weights_stay_lawful(
    story: list[Any], floor: float, max_step: float, rate: float, share: float
) -> None:
    made = hedging(floor=floor, max_step=max_step, hedge_rate=rate, hedge_share=share)
    before = None
    for bar in story:
        weights = told(made, bar)
        assert sum(weights.values()) == pytest.approx(1.0, abs=1e-9)
        assert min(weights.values()) >= floor - 1e-9
        if before is not None:
            assert max(abs(weights[name] - before[name]) for name in THREE) <= max_step + 1e-12
        before = weights


@given(stories, st.floats(0.0, 1 / 3), rates, st.sampled_from(THREE), st.floats(0.0, 0.5))
def test_what_earned_more_is_never_meant_to_weigh_less(
    story: list[Any], floor: float, rate: float, lucky: str, more: float
) -> None:
    """Of the weights aimed at; on the way there all keep step with the one that has furthest to go."""
    one, other = (hedging(floor=floor, max_step=1.0, hedge_rate=rate) for _ in range(2))
    for bar in story[:-1]:
        assert told(one, bar) == told(other, bar)
    regime, performance, earned = story[-1]
    richer = earned | {lucky: earned[lucky] + more}
    assert told(other, (regime, performance, richer))[lucky] >= told(one, story[-1])[lucky] - 1e-12


@settings(max_examples=50)
@given(stories)
def test_weights_are_regime_times_record_times_hedge(story: list[Any]) -> None:
    fast: dict[str, Any] = {"max_step": 1.0, "floor": 0.0}
    hedge, table = hedging(**fast, hedge_rate=0.5), ensemble(**fast)
    for bar in story:
        weights, by_table = told(hedge, bar), told(table, bar)
        learned = hedge.snapshot()["hedge"]["weights"]
        product = {name: by_table[name] * learned[name] for name in THREE}
        assert weights == pytest.approx({name: part / sum(product.values()) for name, part in product.items()})


def test_who_earns_gains_weight_and_the_log_says_from_what() -> None:
    made = hedging(hedge_rate=0.2)
    performance = {"atr_breakout": GOOD, "macd_momentum": BAD}
    told_changes = []
    for _ in range(60):
        made.update_weights(None, performance, gains={"macd_momentum": 0.01, "atr_breakout": -0.01})
        if made.last_change is not None:
            told_changes.append(made.last_change)
    table = ensemble().update_weights(None, performance)
    assert made.weights["macd_momentum"] > 0.8 > 0.2 > table["macd_momentum"]
    assert told_changes[0].because == "first weights, regime trending"
    assert len(told_changes) >= 5
    learned = np.full(3, 1 / 3)
    for _ in range(9):  # after the bar that told the scale; five hundredths a bar, told by tenths
        learned = hedge_step(learned, np.array([-1.0, 0.0, 1.0]), 1.0, 0.2, SHARE)
    assert told_changes[3].because == (
        f"atr_breakout hedge {3 * learned[0]:.2f}, "
        f"macd_momentum = 0.30 regime x 0.34 record x {3 * learned[2]:.2f} hedge"
    )


def test_regime_and_hedge_are_told_together() -> None:
    made = DynamicEnsemble(THREE, Saying("trending", "choppy"), EnsembleConfig(method="hedge", max_step=1.0))
    for _ in range(2):
        made.update_weights(None, {}, gains={})
    assert made.last_change is not None
    assert made.last_change.because == (
        "regime trending->choppy, atr_breakout = 0.10 regime x 1.00 record x 1.00 hedge"
    )


# Kill and restart


@given(stories, st.integers(0, 9))
def test_a_restart_changes_nothing_to_the_last_bit(story: list[Any], cut: int) -> None:
    def play(restart_at: int) -> list[Any]:
        made, seen = hedging(), []
        for number, bar in enumerate(story):
            if number == restart_at:
                kept = json.loads(json.dumps(made.snapshot()))
                made = hedging()
                assert made.restore(kept)
            seen.append((told(made, bar), made.last_change, made.snapshot()))
        return seen

    assert play(cut) == play(-1)


def test_the_method_may_change_between_two_lives() -> None:
    table, hedge = ensemble(), hedging(hedge_rate=0.5)
    for made in (table, hedge):
        for _ in range(40):
            made.update_weights(None, {}, gains={"macd_momentum": 0.01})
    older = table.snapshot()
    del older["hedge"]  # as it was written before there was hedge, with one term fewer
    older["terms"] = {name: row[:4] for name, row in older["terms"].items()}
    turned = hedging()
    assert turned.restore(older)
    assert turned.reweigh(reading("trending"), {}, {}) == pytest.approx(table.weights)
    back = ensemble()
    assert back.restore(json.loads(json.dumps(hedge.snapshot())))
    assert back.weights == hedge.weights
    assert back.snapshot()["hedge"] is None
    for _ in range(40):
        back.update_weights(None, {})
    assert back.weights == pytest.approx({"atr_breakout": 0.5, "rsi_mean_reversion": 0.2, "macd_momentum": 0.3})
