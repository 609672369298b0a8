"""Weights: the table, the simplex, the speed limit, the record's pull; and what is made of signals."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_bot.domain.market import Regime
from trading_bot.learn.affinity import by_regime
from trading_bot.learn.config import EnsembleConfig
from trading_bot.learn.dynamic_ensemble import DynamicEnsemble, RegimeReading, StrategyMetrics
from trading_bot.learn.weight_step import on_floored_simplex, performance_terms, step_towards

THREE = ["atr_breakout", "rsi_mean_reversion", "macd_momentum"]
GOOD = StrategyMetrics(
    trades=50, win_rate=0.7, profit_factor=2.5, sharpe=0.3, max_drawdown=0.04, consecutive_losses=0, expectancy=0.01
)
BAD = StrategyMetrics(
    trades=50, win_rate=0.3, profit_factor=0.5, sharpe=-0.2, max_drawdown=0.40, consecutive_losses=6, expectancy=-0.01
)


def reading(regime: str) -> RegimeReading:
    return RegimeReading(Regime(regime), 0.9, {})


class Saying:
    """A detector that finds what it was told to."""

    def __init__(self, *regimes: str) -> None:
        self.regimes = list(regimes)

    def detect(self, candles: Any) -> RegimeReading:
        return reading(self.regimes.pop(0) if len(self.regimes) > 1 else self.regimes[0])


def ensemble(names: Sequence[Any] = THREE, **config: Any) -> DynamicEnsemble:
    return DynamicEnsemble(names, Saying("trending"), EnsembleConfig(**config))


# The table


@pytest.mark.parametrize(
    ("regime", "atr", "rsi", "macd"),
    [
        ("trending", 0.5, 0.2, 0.3),
        ("ranging", 0.2, 0.5, 0.3),
        ("volatile", 0.4, 0.4, 0.2),
        ("choppy", 0.1, 0.6, 0.3),
    ],
)
def test_the_table_of_weights(regime: str, atr: float, rsi: float, macd: float) -> None:
    weights = DynamicEnsemble(THREE, Saying(regime)).update_weights(None, {})
    assert weights == pytest.approx(
        {"atr_breakout": atr, "rsi_mean_reversion": rsi, "macd_momentum": macd}, rel=0, abs=1e-15
    )


def test_weights_are_equal_before_the_first_update() -> None:
    assert ensemble().weights == pytest.approx(dict.fromkeys(THREE, 1 / 3))


@dataclasses.dataclass
class Declaring:
    name: str
    affinity: Mapping[Regime, float]


def test_others_declare_their_own_and_share_with_the_table() -> None:
    other = Declaring("mine", by_regime(trending=1.0, ranging=0, volatile=0, choppy=0))
    weights = DynamicEnsemble([*THREE, other], Saying("trending"), EnsembleConfig(floor=0.0)).update_weights(None, {})
    assert weights == pytest.approx(
        {"atr_breakout": 0.25, "rsi_mean_reversion": 0.1, "macd_momentum": 0.15, "mine": 0.5}
    )


def test_affinities_given_go_before_declared_ones() -> None:
    mine = Declaring("mine", by_regime(trending=1, ranging=1, volatile=1, choppy=1))
    given_ = {"mine": by_regime(trending=3, ranging=1, volatile=1, choppy=1)}
    made = DynamicEnsemble([mine, "other"], Saying("trending"), affinities={**given_, "other": mine.affinity})
    assert made.update_weights(None, {}) == pytest.approx({"mine": 0.75, "other": 0.25})


def test_a_regime_nobody_likes_weighs_all_alike() -> None:
    shy = by_regime(trending=0, ranging=1, volatile=1, choppy=1)
    made = DynamicEnsemble(["a", "b"], Saying("trending"), affinities={"a": shy, "b": shy})
    assert made.update_weights(None, {}) == {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize(
    ("names", "config", "words"),
    [
        ([], {}, "at least one strategy"),
        (["atr_breakout", "atr_breakout"], {}, "'atr_breakout' is in the ensemble twice"),
        (["atr_brekout"], {}, "did you mean 'atr_breakout'"),
        (THREE, {"floor": 0.4}, r"ensemble\.floor 0\.4 for 3 strategies.*at most 0\.3333"),
        ([Declaring("mine", {Regime.TRENDING: 1.0})], {}, "'mine' lacks regime ranging"),
        ([Declaring("mine", by_regime(trending=-1, ranging=1, volatile=1, choppy=1))], {}, "≥ 0, is -1"),
    ],
)
def test_wrong_ensembles_are_refused_when_made(names: Sequence[Any], config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ensemble(names, **config)


def test_a_floor_that_just_fits_makes_equal_weights() -> None:
    assert ensemble(floor=1 / 3).update_weights(None, {}) == pytest.approx(dict.fromkeys(THREE, 1 / 3))


# The record


def test_a_good_record_weighs_more_and_a_bad_one_less() -> None:
    base = ensemble().update_weights(None, {})
    pulled = ensemble().update_weights(None, {"atr_breakout": GOOD, "macd_momentum": BAD})
    assert pulled["atr_breakout"] > base["atr_breakout"]
    assert pulled["macd_momentum"] < base["macd_momentum"]


def test_few_trades_count_little() -> None:
    def shift(trades: int) -> float:
        record = dataclasses.replace(BAD, trades=trades)
        return 0.5 - ensemble().update_weights(None, {"atr_breakout": record})["atr_breakout"]

    assert shift(0) == pytest.approx(0.0, abs=1e-15)
    assert 0 < shift(2) < shift(10) < shift(50)


def test_a_losing_streak_costs_only_while_it_lasts() -> None:
    calm = dataclasses.replace(GOOD, consecutive_losses=0)
    unlucky = dataclasses.replace(GOOD, consecutive_losses=7)
    made = ensemble(max_step=0.01)
    for _ in range(100):
        before = made.update_weights(None, {"atr_breakout": calm})
    for _ in range(100):
        during = made.update_weights(None, {"atr_breakout": unlucky})
    assert during["atr_breakout"] < before["atr_breakout"] - 0.05
    returning = made.update_weights(None, {"atr_breakout": calm})
    assert returning["atr_breakout"] == pytest.approx(during["atr_breakout"] + 0.01)
    for _ in range(100):
        after = made.update_weights(None, {"atr_breakout": calm})
    assert after == before


def test_undefined_metrics_are_neutral() -> None:
    nothing_known = StrategyMetrics(trades=50)
    assert ensemble().update_weights(None, {"atr_breakout": nothing_known}) == ensemble().update_weights(None, {})


def test_plain_mappings_serve_as_records() -> None:
    fields = {field.name: getattr(BAD, field.name) for field in dataclasses.fields(BAD)}
    assert ensemble().update_weights(None, {"atr_breakout": fields}) == ensemble().update_weights(
        None, {"atr_breakout": BAD}
    )
    short = {"win_rate": 0.3, "profit_factor": 0.5, "max_drawdown": 0.4, "consecutive_losses": 6}
    assert ensemble().update_weights(None, {"atr_breakout": short}) == ensemble().update_weights(
        None, {"atr_breakout": BAD}
    ), "without a number of trades the window counts as full"


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ({"atr_brekout": GOOD}, "'atr_brekout'.*did you mean 'atr_breakout'"),
        ({"atr_breakout": {"winrate": 0.5}}, "'winrate'.*did you mean 'win_rate'"),
        ({"atr_breakout": {"win_rate": 55.0}}, "win_rate of 'atr_breakout' should be from 0 to 1.*55"),
        ({"atr_breakout": {"win_rate": math.nan}}, "win_rate.*None where undefined.*nan"),
        ({"atr_breakout": {"profit_factor": math.inf}}, "profit_factor.*finite"),
        ({"atr_breakout": {"profit_factor": -1.0}}, "profit_factor.*≥ 0"),
        ({"atr_breakout": {"max_drawdown": -0.1}}, "max_drawdown.*from 0 to 1"),
        ({"atr_breakout": {"trades": -1}}, "trades.*≥ 0"),
        ({"atr_breakout": {"consecutive_losses": None}}, "consecutive_losses"),
    ],
)
def test_impossible_records_are_refused_and_change_nothing(records: Any, words: str) -> None:
    made = ensemble()
    made.update_weights(None, {})
    before = made.snapshot()
    with pytest.raises(ValueError, match=words):
        made.update_weights(None, records)
    assert made.snapshot() == before


shares = st.floats(0.0, 1.0)
counts = st.integers(0, 1000)
records = st.builds(
    StrategyMetrics,
    trades=counts,
    win_rate=st.none() | shares,
    profit_factor=st.none() | st.floats(0.0, 1e6),
    max_drawdown=st.none() | shares,
    consecutive_losses=counts,
)


def multiplier(record: StrategyMetrics) -> float:
    def known(value: float | None) -> float:
        return math.nan if value is None else value

    return sum(
        performance_terms(
            record.trades,
            known(record.win_rate),
            known(record.profit_factor),
            known(record.max_drawdown),
            record.consecutive_losses,
            10.0,
        )
    )


@given(records, st.sampled_from(["win_rate", "profit_factor", "max_drawdown", "consecutive_losses"]), st.data())
def test_the_multiplier_is_monotone_in_each_metric(record: StrategyMetrics, metric: str, data: st.DataObject) -> None:
    values = {"win_rate": shares, "max_drawdown": shares, "profit_factor": st.floats(0.0, 1e6)}.get(metric, counts)
    low, high = sorted([data.draw(values), data.draw(values)])
    at_low, at_high = (multiplier(dataclasses.replace(record, **{metric: value})) for value in (low, high))  # type: ignore[arg-type]
    if metric in ("win_rate", "profit_factor"):
        assert at_high >= at_low - 1e-12
    else:
        assert at_high <= at_low + 1e-12


@given(records)
def test_the_multiplier_is_bounded_and_shrinks_to_one(record: StrategyMetrics) -> None:
    assert -2.3 <= multiplier(record) <= 1.0
    assert multiplier(dataclasses.replace(record, trades=0)) == 0.0
    fuller = dataclasses.replace(record, trades=record.trades + 1)
    assert abs(multiplier(record)) <= abs(multiplier(fuller)) + 1e-12


# The simplex and the speed limit


@given(
    st.lists(st.floats(0.0, 1e6), min_size=1, max_size=12),
    st.floats(0.0, 1.0),
)
def test_floored_weights_are_on_the_simplex_and_keep_proportions(raw: list[float], part: float) -> None:
    floor = part / len(raw)
    weights = on_floored_simplex(np.array(raw), floor)
    assert weights.sum() == pytest.approx(1.0)
    assert weights.min() >= floor - 1e-12
    free = [(w, r) for w, r in zip(weights, raw, strict=True) if w > floor + 1e-9]
    if sum(raw) > 1e-300:
        for (w1, r1), (w2, r2) in itertools.pairwise(free):
            assert w1 * r2 == pytest.approx(w2 * r1, rel=1e-6)


@given(
    st.lists(st.tuples(st.sampled_from(list(Regime)), st.tuples(records, records, records)), min_size=1, max_size=12),
    st.floats(0.0, 1 / 3),
    st.floats(0.001, 1.0),
)
def test_whatever_happens_weights_stay_lawful(
    story: list[tuple[Regime, tuple[StrategyMetrics, ...]]], floor: float, max_step: float
) -> None:
    made = ensemble(floor=floor, max_step=max_step)
    before = None
    for regime, three in story:
        weights = made.reweigh(RegimeReading(regime, 0.5, {}), dict(zip(THREE, three, strict=True)))
        assert sum(weights.values()) == pytest.approx(1.0, abs=1e-9)
        assert min(weights.values()) >= floor - 1e-9
        if before is not None:
            assert max(abs(weights[name] - before[name]) for name in THREE) <= max_step + 1e-12
        before = weights


def test_steps_lead_to_the_target_and_end_there_exactly() -> None:
    old, target = np.array([0.5, 0.2, 0.3]), np.array([0.1, 0.6, 0.3])
    for _ in range(7):
        old = step_towards(old, target, 0.05)
        assert (old != target).any()
    assert step_towards(old, target, 0.05 + 1e-12) is target


# Telling of changes


def test_a_change_of_regime_is_told_with_its_cause() -> None:
    made = DynamicEnsemble(THREE, Saying("trending", "choppy"), EnsembleConfig(log_change=0.05))
    made.update_weights(None, {})
    first = made.last_change
    assert first is not None
    assert first.because == "first weights, regime trending"
    assert first.old == pytest.approx(dict.fromkeys(THREE, 1 / 3))
    told = []
    for _ in range(12):
        made.update_weights(None, {})
        told.append(made.last_change)
    changes = [change for change in told if change is not None]
    assert [change.because for change in changes] == ["regime trending->choppy"] * 4
    assert changes[0].old == first.new
    for one, following in itertools.pairwise(changes):
        assert one.new == following.old
    assert told[-1] is None
    assert made.weights == pytest.approx({"atr_breakout": 0.1, "rsi_mean_reversion": 0.6, "macd_momentum": 0.3})


def test_a_change_of_record_names_strategy_and_metric() -> None:
    made = ensemble(max_step=1.0, log_change=0.05)
    made.update_weights(None, dict.fromkeys(THREE, GOOD))
    made.update_weights(
        None, {**dict.fromkeys(THREE, GOOD), "atr_breakout": dataclasses.replace(GOOD, consecutive_losses=8)}
    )
    assert made.last_change is not None
    assert made.last_change.because == "atr_breakout losing streak 8"


def test_regime_and_record_can_share_the_blame() -> None:
    made = DynamicEnsemble(THREE, Saying("trending", "ranging"), EnsembleConfig(max_step=1.0))
    made.update_weights(None, {"rsi_mean_reversion": GOOD})
    made.update_weights(None, {"rsi_mean_reversion": dataclasses.replace(GOOD, max_drawdown=0.5)})
    assert made.last_change is not None
    assert made.last_change.because == "regime trending->ranging, rsi_mean_reversion max drawdown 0.5"


def test_small_changes_add_up_until_they_are_told() -> None:
    made = ensemble(max_step=0.02, log_change=0.05)
    made.update_weights(None, {})
    made.reweigh(reading("ranging"), {})
    assert made.last_change is None
    made.reweigh(reading("ranging"), {})
    assert made.last_change is None
    made.reweigh(reading("ranging"), {})
    assert made.last_change is not None
    assert made.last_change.because == "regime trending->ranging"
    assert made.last_change.old["atr_breakout"] - made.last_change.new["atr_breakout"] == pytest.approx(0.06)


# Signals


def test_the_score_by_hand() -> None:
    made = ensemble()
    made.update_weights(None, {})
    signals = {"atr_breakout": 1, "rsi_mean_reversion": -1, "macd_momentum": 0}
    confidences = {"atr_breakout": 0.8, "rsi_mean_reversion": 0.6, "macd_momentum": 0.5}
    assert made.score(signals, confidences) == pytest.approx(0.5 * 0.8 - 0.2 * 0.6)
    side, confidence = made.get_weighted_signal(signals, confidences)
    assert (side, confidence) == (1, made.score(signals, confidences))


def test_the_absent_do_not_dilute() -> None:
    made = ensemble()
    made.update_weights(None, {})
    assert made.score({"macd_momentum": -1}, {"macd_momentum": 0.9}) == pytest.approx(-0.9)
    assert made.get_weighted_signal({}, {}) == (0, 0.0)


def test_below_the_threshold_there_is_no_signal_but_still_a_confidence() -> None:
    made = ensemble(threshold=0.5)
    made.update_weights(None, {})
    side, confidence = made.get_weighted_signal({"atr_breakout": 1}, {"atr_breakout": 0.49})
    assert side == 0
    assert confidence == pytest.approx(0.49)
    assert made.get_weighted_signal({"atr_breakout": -1}, {"atr_breakout": 0.5})[0] == -1
    assert ensemble(threshold=0.0).get_weighted_signal({"atr_breakout": 0}, {"atr_breakout": 1.0}) == (0, 0.0)


def test_the_absent_may_all_weigh_nothing() -> None:
    shy = by_regime(trending=0, ranging=1, volatile=1, choppy=1)
    bold = by_regime(trending=1, ranging=1, volatile=1, choppy=1)
    made = DynamicEnsemble(["a", "b"], Saying("trending"), EnsembleConfig(floor=0.0), {"a": shy, "b": bold})
    made.update_weights(None, {})
    assert made.score({"a": 1}, {"a": 1.0}) == 0.0


sides = st.sampled_from([-1, 0, 1])
opinions = st.dictionaries(st.sampled_from(THREE), st.tuples(sides, shares))


@given(opinions)
def test_score_and_shares_obey_their_laws(opinion: dict[str, tuple[int, float]]) -> None:
    made = ensemble()
    made.update_weights(None, {})
    signals = {name: side for name, (side, _) in opinion.items()}
    confidences = {name: confidence for name, (_, confidence) in opinion.items()}
    score = made.score(signals, confidences)
    side, confidence = made.get_weighted_signal(signals, confidences)
    assert -1.0 <= score <= 1.0
    assert confidence == abs(score)
    assert side == (0 if abs(score) < 0.2 else math.copysign(1, score))
    part = made.shares(signals, confidences)
    assert all(share > 0 and signals[name] * score > 0 for name, share in part.items())
    assert sum(part.values()) == pytest.approx(1.0 if score else 0.0)
    backwards = dict(reversed(signals.items()))
    assert made.score(backwards, confidences) == score, "the order of a mapping changes nothing, not even rounding"


@pytest.mark.parametrize(
    ("signals", "confidences", "words"),
    [
        ({"atr_brekout": 1}, {"atr_brekout": 0.5}, "'atr_brekout'.*did you mean 'atr_breakout'"),
        ({"atr_breakout": 1}, {}, "'atr_breakout' has no confidence"),
        ({}, {"atr_breakout": 0.5}, "'atr_breakout' has no signal"),
        ({"atr_breakout": 2}, {"atr_breakout": 0.5}, "-1, 0 or 1, is 2"),
        ({"atr_breakout": math.nan}, {"atr_breakout": 0.5}, "-1, 0 or 1, is nan"),
        ({"atr_breakout": 1}, {"atr_breakout": 1.1}, "from 0 to 1, is 1.1"),
        ({"atr_breakout": 1}, {"atr_breakout": -0.1}, "from 0 to 1, is -0.1"),
        ({"atr_breakout": 1}, {"atr_breakout": math.nan}, "from 0 to 1, is nan"),
    ],
)
def test_wrong_opinions_are_refused(signals: Any, confidences: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ensemble().get_weighted_signal(signals, confidences)


# Kill and restart


@given(
    st.lists(st.tuples(st.sampled_from(list(Regime)), st.tuples(records, records, records)), min_size=2, max_size=10),
    st.integers(0, 9),
)
def test_a_restart_changes_nothing_to_the_last_bit(
    story: list[tuple[Regime, tuple[StrategyMetrics, ...]]], cut: int
) -> None:
    def play(restart_at: int) -> list[Any]:
        made, seen = ensemble(), []
        for number, (regime, three) in enumerate(story):
            if number == restart_at:
                kept = json.loads(json.dumps(made.snapshot()))
                made = ensemble()
                assert made.restore(kept)
            weights = made.reweigh(RegimeReading(regime, 0.5, {}), dict(zip(THREE, three, strict=True)))
            seen.append((weights, made.last_change))
        return seen

    assert play(cut) == play(-1)


def test_a_snapshot_of_other_strategies_is_not_taken() -> None:
    made = ensemble()
    made.update_weights(None, {})
    other = ensemble(THREE[:2])
    assert not other.restore(made.snapshot())
    assert other.weights == {"atr_breakout": 0.5, "rsi_mean_reversion": 0.5}
    reordered = ensemble(THREE[::-1])
    assert reordered.restore(made.snapshot())
    assert reordered.weights == made.weights


# Equal weights


@given(st.lists(st.tuples(st.sampled_from(list(Regime)), records, st.floats(-0.1, 0.1)), min_size=1, max_size=10))
def test_equal_weights_stay_equal_whatever_regime_record_and_gains_say(story: Any) -> None:
    made = ensemble(method="equal")
    for regime, record, gain in story:
        weights = made.reweigh(RegimeReading(regime, 0.5, {}), {"atr_breakout": record}, {"macd_momentum": gain})
        assert weights == dict.fromkeys(THREE, 1 / 3)
        assert made.last_change is None
    signals, confidences = dict(zip(THREE, (1, 1, -1), strict=True)), dict(zip(THREE, (0.9, 0.6, 0.3), strict=True))
    assert made.score(signals, confidences) == pytest.approx((0.9 + 0.6 - 0.3) / 3), "the mean of the opinions"


def test_equal_weights_are_taken_at_once_from_those_of_another_method_and_left_slowly() -> None:
    table = ensemble()
    old = table.update_weights(None, {})
    equal = ensemble(method="equal", max_step=0.01)
    assert equal.restore(json.loads(json.dumps(table.snapshot())))
    assert equal.update_weights(None, {"atr_breakout": BAD}) == dict.fromkeys(THREE, 1 / 3)
    assert equal.last_change is not None
    assert (equal.last_change.old, equal.last_change.because) == (old, "equal weights")
    equal.update_weights(None, {})
    assert equal.last_change is None
    back = ensemble(max_step=0.01)
    assert back.restore(equal.snapshot())
    assert back.update_weights(None, {})["atr_breakout"] == pytest.approx(1 / 3 + 0.01)


def test_equal_weights_refuse_impossible_records_and_gains_too() -> None:
    made = ensemble(method="equal")
    with pytest.raises(ValueError, match=r"'atr_brekout'.*did you mean 'atr_breakout'"):
        made.update_weights(None, {"atr_brekout": GOOD})
    with pytest.raises(ValueError, match="the gain of 'atr_breakout' should be a ratio"):
        made.update_weights(None, {}, gains={"atr_breakout": math.nan})


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ensemble\.method should be table, hedge, trm or equal, is 'even'"):
        EnsembleConfig(method="even")  # type: ignore[arg-type]
