"""A challenger is promoted only if it beats what it replaces, on signals that neither has seen."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trading_bot.domain.market import Floats
from trading_bot.errors import TrainingStopped
from trading_bot.learn.config import LearningConfig
from trading_bot.learn.meta_labels import META_FEATURES, SignalHistory, merged, round_trip_costs, signal_history
from trading_bot.learn.meta_model import MetaModel
from trading_bot.learn.retraining import LiveScore, Verdict, live_score, retrain
from trading_bot.market_data.config import SyntheticConfig
from trading_bot.market_data.synthetic import SyntheticMarket
from trading_bot.matching import MatchingConfig
from trading_bot.trading.strategy import load_strategies, read_signals

HOUR = 3_600_000
START = 1_600_000_000_000 // HOUR * HOUR
SYMBOLS = ("BTC/USDT",)
HORIZON = 12
CONFIG = LearningConfig(horizon=HORIZON)
RSI = META_FEATURES.index("rsi_14")
RULES = load_strategies(Path(__file__).parents[2] / "strategies")


def planted(n: int, seed: int, effect: float = 0.0, first: int = 0) -> SignalHistory:
    """Signals of successive bars that pay with probability σ(effect · rsi · side + 0.5 · side · own - 0.3)."""
    chance = np.random.default_rng(seed)
    X = chance.standard_normal((n, len(META_FEATURES))).astype(np.float32)
    side = chance.choice([-1, 1], n).astype(np.int8)
    own = chance.random(n)
    time = START + HOUR * (first + np.arange(n))
    end = time + HOUR * chance.integers(2, HORIZON + 2, n)
    pays = chance.random(n) < truth(X, side, own, effect)
    return SignalHistory(X, side, own, time, end, np.where(pays, 0.01, -0.01))


def truth(X: Any, side: Any, own: Floats, effect: float) -> Floats:
    return np.asarray(1 / (1 + np.exp(-(effect * X[:, RSI] * side + 0.5 * side * own - 0.3))))


def judged(history: SignalHistory, champion: MetaModel | None = None, **differing: Any) -> Verdict:
    champions = {} if champion is None else {"one": champion}
    config = dataclasses.replace(CONFIG, **differing)
    return retrain({"one": history}, champions, "1h", SYMBOLS, config)["one"]


def model_of(verdict: Verdict) -> MetaModel:
    assert verdict.model is not None, verdict.reason
    return verdict.model


def loss_on(model: MetaModel, rows: SignalHistory) -> float:
    said = model.probability(rows.X, rows.side, rows.own)
    return float(-np.log(np.where(rows.paid > 0, said, 1 - said)).mean())


# what is learned ------------------------------------------------------------------------------------------------------


def test_a_planted_edge_is_found_and_its_probability_can_be_believed() -> None:
    verdict = judged(planted(20_000, 1, effect=0.8))
    assert verdict.outcome == "promoted", verdict.reason
    model, fresh = model_of(verdict), planted(40_000, 2, effect=0.8, first=30_000)
    said = model.probability(fresh.X, fresh.side, fresh.own)
    bins = np.searchsorted(np.quantile(said, np.arange(1, 8) / 8), said)
    assert said[bins == 7].mean() - said[bins == 0].mean() > 0.4
    for each in range(8):
        rows = bins == each
        # Of a bin's share of payers: its own chance, and that of the calibration's two numbers, which 4,000 validation
        # rows tell (the intercept as well as a mean of so many, the slope at most as badly again). Four of these.
        error = np.sqrt(0.25 * (1 / rows.sum() + 2 / 4_000))
        assert abs(said[rows].mean() - fresh.paid[rows].mean()) < 4 * error, each
    # as good as what made the labels, but for what 40 coefficients from 10,000 rows and a stop before the end lose
    known = truth(fresh.X, fresh.side, fresh.own, 0.8)
    best = -np.log(np.where(fresh.paid > 0, known, 1 - known)).mean()
    assert loss_on(model, fresh) < best + 0.01


def test_chance_alone_is_rejected_and_kept_on_record() -> None:
    verdict = judged(planted(8_000, 3))
    assert verdict.outcome == "rejected"
    assert "wanted above 0.10%" in verdict.reason or "did not hold" in verdict.reason
    assert verdict.model is not None


@pytest.mark.parametrize("seed", range(4, 10))
def test_a_rejected_model_still_speaks_in_range(seed: int) -> None:
    """It may be promoted by hand: then it should do no harm."""
    history = planted(3_000, seed)
    relation = np.sign(history.X[:, RSI] * history.side)
    turned = np.where(np.arange(3_000) < 1_500, relation, -relation)  # in the validation rows nothing holds any more
    verdict = judged(dataclasses.replace(history, outcome=0.01 * turned.astype(np.float64)))
    assert verdict.outcome == "rejected"
    assert "did not hold on the" in verdict.reason
    model = model_of(verdict)
    said = model.probability(history.X, history.side, history.own)
    assert model.slope == 0.0
    np.testing.assert_allclose(said, 0.5, atol=0.1)  # half of the validation rows pay
    assert MetaModel.from_bytes(model.to_bytes()) == model


def test_the_scores_say_how_it_was_judged() -> None:
    history = planted(8_000, 1, effect=0.8)
    verdict = judged(history)
    scores, model = verdict.scores, model_of(verdict)
    test = history.take(history.time >= history.time[5_600])
    assert scores["against"] == "rule"
    assert (scores["rows"], scores["bars"], model.bars) == (2_400, 2_400, 2_400)
    assert scores["base_rate"] == test.paid.mean()
    np.testing.assert_allclose(scores["log_loss"], loss_on(model, test), rtol=1e-12)
    of_rule = model.baseline_probability(test.side, test.own)
    before = -np.log(np.where(test.paid > 0, of_rule, 1 - of_rule)).mean()
    np.testing.assert_allclose(scores["log_loss_before"], before, rtol=1e-12)
    np.testing.assert_allclose(scores["gain"], 1 - scores["log_loss"] / before, rtol=1e-9)
    assert model.gain == scores["gain"] == scores["gain_over_rule"]
    low, high = scores["gain_interval"]
    assert low < scores["gain"] < high
    assert f"{scores['gain']:.2%} below the rule's own confidence on 2400 later bars" in verdict.reason
    assert (model.strategy, model.timeframe, model.horizon, model.symbols) == ("one", "1h", HORIZON, SYMBOLS)
    assert model.trained_from == history.time[0]
    assert model.known_until == history.end[5_600:].max()


def test_signals_of_one_bar_are_one_witness() -> None:
    """The same market under three names: three times the rows, and not a bit surer."""
    one = planted(3_000, 1, effect=0.6)
    three = judged(merged([one, one, one]))
    assert (three.scores["rows"], three.scores["bars"]) == (2_700, 900)
    model, test = model_of(three), one.take(one.time >= one.time[2_100])
    np.testing.assert_allclose(three.scores["log_loss"], loss_on(model, test), rtol=1e-12)
    low, high = three.scores["gain_interval"]
    alone = judged(one).scores["gain_interval"]
    assert 0.8 < (high - low) / (alone[1] - alone[0]) < 1.25


def test_the_margin_is_what_the_interval_has_to_pass() -> None:
    history = planted(8_000, 1, effect=0.8)
    low = judged(history).scores["gain_interval"][0]
    assert judged(history, margin=low - 1e-6).outcome == "promoted"
    assert judged(history, margin=low).outcome == "rejected"


# nothing peeks --------------------------------------------------------------------------------------------------------


def cut_at(history: SignalHistory) -> tuple[int, int]:
    """First bar to validate on, first to test on."""
    n = len(history)
    return int(history.time[int(0.5 * n)]), int(history.time[int(0.7 * n)])


def flipped(history: SignalHistory, rows: Any) -> SignalHistory:
    return dataclasses.replace(history, outcome=np.where(rows, -history.outcome, history.outcome))


def learned(model: MetaModel) -> tuple[Any, ...]:
    """What came from fitting and validating alone."""
    return model.mean, model.std, model.weights, model.bias, model.intercept, model.slope, model.baseline


def test_labels_that_reach_into_the_next_part_are_dropped() -> None:
    history = planted(4_000, 5, effect=0.8)
    embargo = HORIZON * HOUR
    validate_from, test_from = cut_at(history)
    before = learned(model_of(judged(history)))
    for border, first in ((validate_from, 0), (test_from, validate_from)):
        part = (history.time >= first) & (history.time < border)
        overlapping = part & (history.end >= border)
        assert overlapping.sum() > 3, "without the purge these rows would have been learned from"
        near = part & ~overlapping & (history.end + embargo >= border)
        assert near.sum() > 3, "without the embargo these would"
        assert learned(model_of(judged(flipped(history, overlapping | near)))) == before
        last = part & (history.end + embargo == border - HOUR)
        assert last.any()
        assert learned(model_of(judged(flipped(history, last)))) != before, "the last row allowed is used"
        on_it = part & (history.end + embargo == border)
        assert on_it.any()
        assert learned(model_of(judged(flipped(history, on_it)))) == before


def test_a_leak_through_overlapping_labels_is_not_learned() -> None:
    """A feature that tells the answer, in the rows alone whose outcome falls into the validation's time."""
    history = planted(4_000, 6)
    border, _ = cut_at(history)
    overlapping = (history.end >= border) & (history.time < border)
    X = history.X.copy()
    X[:, RSI] = np.where(overlapping, 5 * np.sign(history.outcome), 0)
    leaking = dataclasses.replace(history, X=X)
    assert model_of(judged(leaking)).weights[RSI] == 0
    careless = dataclasses.replace(leaking, end=history.time - HOUR * (HORIZON + 1))  # as if known at once
    assert model_of(judged(careless)).weights[RSI] > 0, "but for the purge it would have been learned"


def test_the_test_s_outcomes_and_features_change_nothing_that_is_learned() -> None:
    history = planted(4_000, 7, effect=0.8)
    test = history.time >= cut_at(history)[1]
    other = flipped(dataclasses.replace(history, X=np.where(test[:, None], 100, history.X).astype(np.float32)), test)
    assert learned(model_of(judged(other))) == learned(model_of(judged(history)))


def test_the_scale_and_the_weights_come_from_the_fitted_rows_alone() -> None:
    history = planted(4_000, 8, effect=0.8)
    validate_from, _ = cut_at(history)
    fit = history.take(history.end + HORIZON * HOUR < validate_from)
    model = model_of(judged(history))
    np.testing.assert_allclose(model.mean, fit.X.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(model.std, fit.X.std(axis=0, dtype=np.float64), rtol=1e-12)
    assert judged(history).scores["fitted_rows"] == len(fit)


def market_history(market: SyntheticMarket, name: str, bars: int | None = None) -> SignalHistory:
    """A strategy's signals on all symbols, of the first `bars` candles."""
    strategy = next(each for each in RULES if each.name == name)
    parts = []
    for candles in market.all().values():
        rows = candles[:bars]
        said = read_signals(strategy, rows)
        costs = round_trip_costs(rows, 0.001, MatchingConfig())
        parts.append(signal_history(rows, said.side, said.confidence, HORIZON, costs, {}))
    return merged(parts)


def test_a_training_at_a_date_is_the_same_whether_later_candles_exist() -> None:
    market = SyntheticMarket(SyntheticConfig(bars=4_000, symbols=("BTC/USDT", "ETH/USDT")))
    whole = market_history(market, "bollinger_reversion")
    for bars in (2_900, 3_333):
        date = market.candles("BTC/USDT", "1h").time[bars - 1]
        then = judged(market_history(market, "bollinger_reversion", bars))
        now = judged(whole.take(whole.end <= date))
        assert model_of(then).to_bytes() == model_of(now).to_bytes()
        assert (then.outcome, then.reason, then.scores) == (now.outcome, now.reason, now.scores)
        assert model_of(then).known_until <= date


# the same everywhere --------------------------------------------------------------------------------------------------


def test_threads_and_processes_give_the_same_bytes() -> None:
    histories = {"one": planted(3_000, 1, 0.8), "two": planted(2_500, 2, 0.4), "few": planted(50, 3)}
    found = [retrain(histories, {}, "1h", SYMBOLS, CONFIG, executor) for executor in ("thread", "thread", "process")]
    for verdicts in found:
        assert list(verdicts) == ["one", "two", "few"]
        for name in ("one", "two"):
            assert model_of(verdicts[name]).to_bytes() == model_of(found[0][name]).to_bytes()
            assert verdicts[name].scores == found[0][name].scores
        assert verdicts["few"].outcome == "too_little"


def test_one_strategy_s_training_does_not_touch_another_s() -> None:
    one, two = planted(3_000, 1, 0.8), planted(2_500, 2, 0.4)
    together = retrain({"two": two, "one": one}, {}, "1h", SYMBOLS, CONFIG)
    assert model_of(together["one"]).to_bytes() == model_of(judged(one)).to_bytes()


def test_it_stops_when_told() -> None:
    with pytest.raises(TrainingStopped):
        retrain({"one": planted(3_000, 1)}, {}, "1h", SYMBOLS, dataclasses.replace(CONFIG, epochs=100_000), "process",
                stopping=lambda: True)  # fmt: skip


def test_a_training_that_fails_says_so() -> None:
    history = planted(3_000, 1)
    history.X[10, 3] = np.nan
    verdict = judged(history)
    assert (verdict.outcome, verdict.model) == ("failed", None)
    assert "not finite" in verdict.reason


# too little -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        (SignalHistory.empty(), "no signal with a known outcome yet"),
        (planted(1, 1), "0 signals to fit on, at least 200 are needed: 1 signals have a known outcome"),
        (planted(2, 1), "0 signals to fit on, at least 200 are needed"),
        (planted(400, 1), "179 signals to fit on, at least 200 are needed: 400 signals have a known outcome"),
        (planted(500, 1), "81 signals to validate on, at least 100 are needed"),
        (planted(790, 1), "237 bars with a signal to test on, at least 240 are needed"),
    ],
    ids=["nothing", "one", "two", "fit", "validate", "test"],
)
def test_too_little_says_what_there_is_and_what_is_needed(history: SignalHistory, reason: str) -> None:
    verdict = judged(history)
    assert (verdict.outcome, verdict.model) == ("too_little", None)
    assert verdict.reason.startswith(reason)


@pytest.mark.parametrize("pays", [0.01, -0.01])
@pytest.mark.parametrize("part", ["fit", "validate"])
def test_signals_that_all_ended_alike_teach_nothing(part: str, pays: float) -> None:
    history = planted(2_000, 1)
    border = cut_at(history)[0]
    rows = history.time < border if part == "fit" else history.time >= border
    verdict = judged(dataclasses.replace(history, outcome=np.where(rows, pays, history.outcome)))
    assert verdict.outcome == "too_little"
    assert f"signals to {part} on ended alike: nothing to tell apart" in verdict.reason


def test_a_test_of_one_class_is_judged_all_the_same() -> None:
    history = planted(4_000, 1, 0.8)
    test = history.time >= cut_at(history)[1]
    verdict = judged(dataclasses.replace(history, outcome=np.where(test, 0.01, history.outcome)))
    assert verdict.outcome in ("promoted", "rejected")
    assert np.isfinite(verdict.scores["gain"])


# the champion ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good() -> MetaModel:
    """Knows the relation of effect 0.8."""
    return model_of(judged(planted(6_000, 20, effect=0.8)))


def of_age(model: MetaModel, history: SignalHistory, row: int, **differing: Any) -> MetaModel:
    """As if it had been fitted up to that row of the history."""
    until = int(history.time[row])
    return dataclasses.replace(model, fitted_until=until, known_until=until + HOUR * 100, **differing)


def test_a_champion_stays_if_the_challenger_is_not_better(good: MetaModel) -> None:
    history = planted(6_000, 21, effect=0.8)
    verdict = judged(history, of_age(good, history, 2_000))
    assert verdict.outcome == "rejected"
    assert verdict.scores["against"] == "champion"
    assert "below the champion on" in verdict.reason
    assert abs(verdict.scores["gain"]) < 0.02
    assert verdict.scores["gain_over_rule"] > 0.05, "better than the rule, and still not better than the champion"
    assert model_of(verdict).gain == verdict.scores["gain_over_rule"], "what is watched is the gain over the rule"


def test_a_champion_that_is_worse_is_replaced(good: MetaModel) -> None:
    history = planted(6_000, 22, effect=0.8)
    wrong = of_age(good, history, 2_000, weights=tuple(-each for each in good.weights))
    verdict = judged(history, wrong)
    assert verdict.outcome == "promoted", verdict.reason
    assert verdict.scores["log_loss_before"] > 0.8


@pytest.mark.parametrize("row", [4_100, 4_186, 4_187, 4_188, 5_000])
def test_no_row_the_champion_was_fitted_on_is_in_the_test(good: MetaModel, row: int) -> None:
    """70 % of 6,000 bars is bar 4,200; a champion fitted up to one horizon before it, or later, moves the border."""
    history = planted(6_000, 23, effect=0.8)
    champion = of_age(good, history, row)
    verdict = judged(history, champion)
    first = max(4_200, row + HORIZON + 1)
    assert verdict.scores["bars"] == 6_000 - first
    before = learned(model_of(verdict))
    validated = (history.time >= cut_at(history)[0]) & (history.end + HORIZON * HOUR < history.time[first])
    assert model_of(verdict).fitted_until == history.end[validated].max()
    rows = np.arange(6_000)
    assert learned(model_of(judged(flipped(history, rows >= first), champion))) == before
    last = np.flatnonzero(validated)[-1]
    assert learned(model_of(judged(flipped(history, rows == last), champion))) != before


def test_a_champion_fitted_on_everything_leaves_nothing_to_judge_on(good: MetaModel) -> None:
    history = planted(6_000, 24, effect=0.8)
    verdict = judged(history, of_age(good, history, 5_900))
    assert verdict.outcome == "too_little"
    assert "bars with a signal to test on, at least 240 are needed" in verdict.reason


def test_a_champion_of_another_timeframe_is_no_opponent(good: MetaModel) -> None:
    """It is never asked on these candles: what a challenger replaces is the rule's own confidence."""
    history = planted(6_000, 25, effect=0.8)
    verdict = judged(history, of_age(good, history, 5_900, timeframe="4h"))
    assert (verdict.outcome, verdict.scores["against"]) == ("promoted", "rule")


def test_a_challenger_that_is_the_champion_again_is_rejected() -> None:
    history = planted(6_000, 26, effect=0.8)
    first = judged(history)
    again = judged(history, model_of(first))
    assert (first.outcome, again.outcome) == ("promoted", "rejected")


# how it does afterwards -----------------------------------------------------------------------------------------------


def afterwards(model: MetaModel, n: int, effect: float, seed: int = 30) -> SignalHistory:
    """Signals from one horizon after all the model knows."""
    return planted(n, seed, effect, (model.known_until - START) // HOUR + HORIZON + 1)


@pytest.mark.parametrize("bars", [0, 1, 95])
def test_too_few_bars_are_no_live_score(good: MetaModel, bars: int) -> None:
    assert live_score(afterwards(good, bars, 0.8) if bars else SignalHistory.empty(), good) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_relation_that_goes_on_is_no_fall_and_one_that_turns_round_is(good: MetaModel, seed: int) -> None:
    same, turned = (live_score(afterwards(good, 300, effect, seed), good) for effect in (0.8, -0.8))
    assert same is not None
    assert turned is not None
    assert not same.fallen, same.words()
    assert turned.fallen, turned.words()
    assert same.bars == 300
    assert turned.gain < 0 < same.gain


def test_what_the_model_knows_is_no_part_of_its_live_score(good: MetaModel) -> None:
    later = afterwards(good, 200, 0.8)
    known = planted(6_000, 31, -0.8, first=0)  # all against it
    known = known.take(known.time <= good.known_until + HORIZON * HOUR)
    assert len(known) > 5_900
    both = live_score(merged([known, later]), good)
    alone = live_score(later, good)
    assert both == alone
    at_the_border = dataclasses.replace(later, time=later.time - HOUR)
    found = live_score(at_the_border, good)
    assert found is not None
    assert found.bars == 199


def test_the_interval_narrows_with_the_bars(good: MetaModel) -> None:
    few, many = (live_score(afterwards(good, n, 0.8), good) for n in (100, 2_000))
    assert few is not None
    assert many is not None
    assert few.low < many.low < good.gain
    error = good.gain_deviation * np.sqrt(1 / good.bars + 1 / 100)
    np.testing.assert_allclose(few.low, good.gain - 2.576 * error, rtol=1e-12)


def test_a_live_score_in_words() -> None:
    score = LiveScore(300, -0.0123, 0.004)
    assert score.fallen
    assert not LiveScore(300, 0.004, 0.004).fallen
    assert score.words() == (
        "log loss 1.23% above the rule's own confidence on 300 bars since (gain -1.23%; its test lets expect at least "
        "+0.40%)"
    )


# nothing is found where there is nothing ------------------------------------------------------------------------------


def test_outcomes_moved_in_time_are_hardly_ever_learned() -> None:
    """Real signals and real outcomes, but each signal with that of another time.

    What there is of memory in both stays, what ties them is gone. Half a per cent are meant to be promoted. Were it
    one in a hundred, more than 4 of 60 would come in one run of three thousand (binomial).
    """
    market = SyntheticMarket(SyntheticConfig(bars=5_000, symbols=("BTC/USDT", "ETH/USDT"), seed=5))
    chance = np.random.default_rng(0)
    histories: dict[str, SignalHistory] = {}
    for rule in RULES:
        history = market_history(market, rule.name)
        for shift in chance.integers(len(history) // 10, len(history) * 9 // 10, 10).tolist():
            moved = np.roll(history.outcome, shift)
            histories[f"{rule.name} {shift}"] = dataclasses.replace(history, outcome=moved)
    verdicts = retrain(histories, {}, "1h", market.symbols, dataclasses.replace(CONFIG, margin=0.0))
    assert {verdict.outcome for verdict in verdicts.values()} <= {"promoted", "rejected"}
    assert len(verdicts) == 60
    assert sum(verdict.outcome == "promoted" for verdict in verdicts.values()) <= 4
