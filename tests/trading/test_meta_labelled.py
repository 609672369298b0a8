"""A rule with a model behind its confidence: the same bits everywhere, and the rule's own word where there is none."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.service.stand import log_lines
from tests.strategies.markets import random_walk
from trading_bot.domain.market import Candles
from trading_bot.domain.models import ModelStatus, ModelVersion
from trading_bot.features.compute import SETTLED
from trading_bot.learn.affinity import by_regime
from trading_bot.learn.meta_labels import META_FEATURES, meta_features
from trading_bot.learn.meta_model import MetaModel, described, sha256_of
from trading_bot.trading.meta_labelled import MetaLabelled, load_model
from trading_bot.trading.strategy import Signals, Strategy, load_strategies, model_version_of, read_latest, read_signals

MARKET = random_walk(1_000)
RULES = load_strategies(Path(__file__).parents[2] / "strategies")
F = len(META_FEATURES)

every = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


def model(known_until: int = 0, **differing: Any) -> MetaModel:
    """Speaks out: what it says is not what is tested here."""
    chance = np.random.default_rng(4)
    features, _ = meta_features(MARKET)
    known: dict[str, Any] = {
        "strategy": "any", "names": META_FEATURES, "mean": tuple(features.mean(axis=0, dtype=float).tolist()),
        "std": tuple(features.std(axis=0, dtype=float).tolist()),
        "weights": tuple((0.3 * chance.standard_normal(2 * F + 3)).tolist()), "bias": 0.1, "intercept": 0.0,
        "slope": 1.0, "baseline": (0.0,) * 4, "timeframe": "1h", "horizon": 12, "symbols": ("BTC/USDT", "ETH/USDT"),
        "trained_from": 0, "fitted_until": 0, "known_until": known_until, "gain": 0.02, "gain_deviation": 0.3,
        "bars": 900,
    }  # fmt: skip
    return MetaModel(**{**known, **differing})


class Fickle:
    """Speaks from the first bar, and knows nothing."""

    name = "fickle"
    warmup = 0
    affinity = by_regime(trending=1.0, ranging=1.0, volatile=1.0, choppy=1.0)

    def signals(self, candles: Candles) -> Signals:
        side = np.resize([1, 0, -1, -1, 0, 1, 1], len(candles))
        return Signals(side, np.where(side == 0, 0.0, 0.25), "cautious: it is a test")


class Brief(Fickle):
    """Answers the newest row by itself."""

    def latest(self, candles: Candles) -> Signals:
        whole = self.signals(candles)
        return Signals(whole.side[-1:], whole.confidence[-1:], whole.note)


def wrapped(rule: Strategy | None = None, known: MetaModel | None = None) -> MetaLabelled:
    return MetaLabelled(rule or Fickle(), known or model(), "m-1")


def same(one: Signals, other: Signals) -> None:
    np.testing.assert_array_equal(one.side, other.side)
    np.testing.assert_array_equal(one.confidence, other.confidence)
    assert one.note == other.note


@every
@pytest.mark.parametrize("known_until", [0, int(MARKET.time[800])], ids=["all new", "known to row 800"])
def test_the_past_does_not_change_and_the_latest_is_the_last(rule: Strategy, known_until: int) -> None:
    strategy = wrapped(rule, model(known_until))
    whole = read_signals(strategy, MARKET)
    for end in (1, 30, SETTLED, SETTLED + 1, SETTLED + 2, *range(rule.warmup + 1, 1_000, 53), 800, 801, 802, 1_000):
        part = read_signals(strategy, MARKET[:end])
        np.testing.assert_array_equal(part.side, whole.side[:end])
        np.testing.assert_array_equal(part.confidence, whole.confidence[:end])
        version = strategy.model_version
        latest = read_latest(strategy, MARKET[:end])
        assert (latest.side[0], latest.confidence[0], latest.note) == (part.side[-1], part.confidence[-1], part.note)
        assert model_version_of(strategy) == version


@every
def test_the_side_is_the_rule_s_and_the_confidence_the_model_s(rule: Strategy) -> None:
    own, answer = read_signals(rule, MARKET), read_signals(wrapped(rule), MARKET)
    np.testing.assert_array_equal(answer.side, own.side)
    features, first = meta_features(MARKET)
    rows = np.flatnonzero(own.side)
    rows = rows[rows >= first]
    said = model().probability(features[rows - first], own.side[rows], own.confidence[rows])
    np.testing.assert_array_equal(answer.confidence[rows], said)
    assert len(np.unique(said)) > 50
    assert (answer.confidence[own.side == 0] == own.confidence[own.side == 0]).all()


@every
@pytest.mark.parametrize("first", [1, 13, 100])
def test_moving_the_first_bar_hardly_moves_a_signal(rule: Strategy, first: int) -> None:
    settled = first + max(rule.warmup, SETTLED)
    whole = read_signals(wrapped(rule), MARKET)
    later = read_signals(wrapped(rule), MARKET[first:])
    np.testing.assert_array_equal(later.side[settled - first :], whole.side[settled:])
    # features move by 1e-6 of their deviation or the last bit of a float32, 39 weights near 0.3 add some of that up
    np.testing.assert_allclose(later.confidence[settled - first :], whole.confidence[settled:], rtol=0, atol=1e-6)


def test_asking_twice_gives_the_same() -> None:
    strategy = wrapped()
    same(read_signals(strategy, MARKET), read_signals(strategy, MARKET))
    same(read_latest(strategy, MARKET), read_latest(strategy, MARKET))


@pytest.mark.parametrize("rule", [Fickle(), Brief()])
@pytest.mark.parametrize("n", [1, 2, 30, SETTLED - 1, SETTLED])
def test_with_too_few_candles_for_features_the_rule_s_own_word_stands(rule: Strategy, n: int) -> None:
    strategy = wrapped(rule)
    same(read_signals(strategy, MARKET[:n]), read_signals(rule, MARKET[:n]))
    assert strategy.model_version is None
    same(read_latest(strategy, MARKET[:n]), read_latest(rule, MARKET[:n]))
    assert strategy.model_version is None


def test_no_candles_are_no_signals() -> None:
    assert len(read_signals(wrapped(), MARKET[:0]).side) == 0


def test_rows_before_the_features_keep_the_rule_s_own_word() -> None:
    answer, own = read_signals(wrapped(), MARKET[:600]), read_signals(Fickle(), MARKET[:600])
    np.testing.assert_array_equal(answer.confidence[:SETTLED], own.confidence[:SETTLED])
    spoken = own.side[SETTLED:] != 0
    assert (answer.confidence[SETTLED:][spoken] != 0.25).all()


@pytest.mark.parametrize(
    "known",
    [
        None,
        model(symbols=("ETH/USDT", "BTC/USDC")),
        model(symbols=()),
        model(timeframe="4h"),
        model(known_until=int(MARKET.time[-1])),
        model(known_until=int(MARKET.time[-1]) + 1),
    ],
    ids=["no model", "another symbol", "no symbol", "another timeframe", "learned from this bar", "and later ones"],
)
@pytest.mark.parametrize("rule", [Fickle(), Brief()])
def test_where_the_model_may_not_speak_the_rule_s_own_word_stands(rule: Strategy, known: MetaModel | None) -> None:
    strategy = MetaLabelled(rule, known, "m-1", model_version="of an earlier answer")
    same(read_signals(strategy, MARKET), read_signals(rule, MARKET))
    assert strategy.model_version is None
    strategy.model_version = "of an earlier answer"
    same(read_latest(strategy, MARKET), read_latest(rule, MARKET))
    assert strategy.model_version is None


def test_it_speaks_from_the_bar_after_the_last_it_knows() -> None:
    row = next(row for row in range(500, 600) if Fickle().signals(MARKET).side[row : row + 2].all())
    strategy = wrapped(known=model(int(MARKET.time[row])))
    answer, own = read_signals(strategy, MARKET), read_signals(Fickle(), MARKET)
    np.testing.assert_array_equal(answer.confidence[: row + 1], own.confidence[: row + 1])
    assert answer.confidence[row + 1] != own.confidence[row + 1]


@pytest.mark.parametrize("rule", [Fickle(), Brief()])
def test_the_version_is_that_of_the_model_behind_the_newest_row(rule: Strategy) -> None:
    strategy = wrapped(rule)
    side = Fickle().signals(MARKET).side
    for end in range(900, 910):
        read_latest(strategy, MARKET[:end])
        assert model_version_of(strategy) == ("m-1" if side[end - 1] else None)


def test_it_is_replaced_between_bars() -> None:
    strategy = MetaLabelled(Fickle())
    end = 1_000 if Fickle().signals(MARKET).side[-1] else 999
    own = read_latest(strategy, MARKET[:end])
    assert strategy.model_version is None
    strategy.use(model(), "m-1")
    first = read_latest(strategy, MARKET[:end])
    assert strategy.model_version == "m-1"
    strategy.use(model(bias=2.0), "m-2")
    second = read_latest(strategy, MARKET[:end])
    assert strategy.model_version == "m-2"
    assert own.confidence[0] == 0.25
    assert first.confidence[0] < second.confidence[0]
    strategy.use(None, None)
    same(read_latest(strategy, MARKET[:end]), own)
    assert strategy.model_version is None


@every
def test_it_is_the_rule_in_all_else(rule: Strategy) -> None:
    strategy = wrapped(rule)
    assert (strategy.name, strategy.warmup, strategy.affinity) == (rule.name, rule.warmup, rule.affinity)
    assert read_latest(wrapped(Fickle()), MARKET).note == "cautious: it is a test"


def test_the_rule_s_answer_is_not_written_over() -> None:
    kept = read_signals(Fickle(), MARKET)

    class Same(Fickle):
        def signals(self, candles: Candles) -> Signals:
            return kept

    before = kept.confidence.copy()
    read_signals(wrapped(Same()), MARKET)
    np.testing.assert_array_equal(kept.confidence, before)


# its file -------------------------------------------------------------------------------------------------------------


def registered(folder: Path, content: bytes, sha256: str | None = None) -> ModelVersion:
    features, config = described(model())
    version = ModelVersion(
        id="fickle-1", strategy="fickle", status=ModelStatus.CHAMPION, created=datetime(2024, 1, 1, tzinfo=UTC),
        parent=None, sha256=sha256 or sha256_of(content), data_hash="", features=features, config=config, scores={},
    )  # fmt: skip
    (folder / "fickle-1.json").write_bytes(content)
    return version


def test_a_registered_model_comes_back_bit_for_bit(tmp_path: Path) -> None:
    assert load_model(tmp_path, registered(tmp_path, model().to_bytes())) == model()


@pytest.mark.parametrize(
    ("content", "sha256", "why"),
    [
        (model().to_bytes(), hashlib.sha256(b"other").hexdigest(), "is not the one of model fickle-1"),
        (model().to_bytes()[:-200], None, "it is no model of a strategy's signals"),
        (b"[]", None, "its format is 'list'"),
        (dataclasses.replace(model(), timeframe="fast").to_bytes(), None, "its timeframe is 'fast'"),
    ],
    ids=["changed", "cut short", "something else", "a wrong value"],
)
def test_a_model_that_cannot_be_used_is_refused_in_the_log(
    tmp_path: Path, content: bytes, sha256: str | None, why: str
) -> None:
    version = registered(tmp_path, content, sha256)
    with log_lines() as lines:
        assert load_model(tmp_path, version) is None
    assert len(lines) == 1
    assert lines[0].startswith("ERROR")
    assert why in lines[0]
    assert "the rule's own confidence stands" in lines[0]


def test_a_model_whose_file_is_gone_is_refused_in_the_log(tmp_path: Path) -> None:
    version = registered(tmp_path, model().to_bytes())
    (tmp_path / "fickle-1.json").unlink()
    with log_lines() as lines:
        assert load_model(tmp_path, version) is None
    assert "is not there" in lines[0]
