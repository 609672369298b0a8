"""A selector beside the ensemble: causal to the bit, silent where it must be, its say in weights, record and log."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.service.stand import log_lines
from tests.strategies.markets import random_walk
from tests.trading.stage import WARMUP, Stage, candles
from tests.trading.test_trader import BTC, QUIET, found
from tests.trading.test_views import newest, strategy
from tests.training.test_trm_trainer import TINY
from trading_bot.domain.journal import Decision, Snapshot, WeightChange
from trading_bot.domain.market import Candles, Regime
from trading_bot.domain.models import ModelStatus, ModelVersion
from trading_bot.features.compute import SETTLED, SETTLED_CANDIDATES
from trading_bot.features.table import INDICATORS, column_names
from trading_bot.learn.config import EnsembleConfig
from trading_bot.learn.dynamic_ensemble import DynamicEnsemble, RegimeReading
from trading_bot.learn.trust import Trust, trust_factors
from trading_bot.models.trm import build_trm
from trading_bot.trading.memory import TRADER
from trading_bot.trading.strategy_panel import StrategyPanel
from trading_bot.trading.strategy_selector import DAY_MS, StrategySelector, load_selector
from trading_bot.trading.trader import Trader
from trading_bot.trading.views import NOTED, Outlook
from trading_bot.training.forecaster import describe_features
from trading_bot.training.trm_labels import CLASSES, STRATEGIES
from trading_bot.training.trm_selector import NEVER, Selector

LENGTH = 10
MARKET = random_walk(700)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the daemon has it: a sum then has one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def selector(
    names: tuple[str, ...] = column_names(INDICATORS), until: int = 0, threshold: float = NEVER, **facts: Any
) -> Selector:
    """A network with random weights that speaks out: what it says is not what is tested here."""
    torch.manual_seed(3)
    network = build_trm(**TINY, time=LENGTH, features=len(names)).eval()
    with torch.no_grad():
        network.task.weight.mul_(30.0)
    known = {
        "symbol": "BTC/USDT", "timeframe": "1h", "horizon": 12, "trained_until": until, "classes": list(CLASSES),
        "features": describe_features(names, LENGTH),
    }  # fmt: skip
    zeros, ones = np.zeros(len(names), np.float32), np.full(len(names), 0.02, np.float32)
    return Selector(network, zeros, ones, threshold, {**known, **facts})


def made(given: Selector | None = None, max_age_days: float = 1e5) -> StrategySelector:
    return StrategySelector("trm-1", given or selector(), max_age_days)


def age(days: float) -> int:
    """`trained_until` so many days before the newest candle."""
    return int(MARKET.time[-1] - days * DAY_MS)


def test_the_factors_are_those_of_its_probabilities() -> None:
    one = made()
    said = one.trust(MARKET, [*STRATEGIES, "mine"])
    assert set(said.factors) == set(STRATEGIES), "one it does not know has no factor"
    assert one.selector is not None
    choices = one._choice(one.selector, MARKET)
    wanted = trust_factors(dict(zip(CLASSES, choices.probabilities[0], strict=True)), STRATEGIES)
    assert said.factors == wanted
    assert max(wanted.values()) > 1.2, "it holds them all alike: nothing is tested"
    assert said.words.startswith("after 4 steps: ema_trend ")
    flat = choices.probabilities[0, 0]
    assert f"(moving no weight: flat {flat:.0%} long " in said.words
    assert said.words.endswith(" model=trm-1")
    few = one.trust(MARKET, ["ema_trend", "mine", "macd_momentum"])
    assert few.factors["ema_trend"] / few.factors["macd_momentum"] == pytest.approx(
        choices.probabilities[0, 3] / choices.probabilities[0, 7]
    )
    assert "atr_breakout" in few.words, "those that are not here move no weight, and are told"


def test_it_stops_when_its_halt_head_says_so() -> None:
    assert made(selector(threshold=0.0)).trust(MARKET, STRATEGIES).words.startswith("after 1 step: ")


def test_what_comes_later_changes_nothing_to_the_last_bit() -> None:
    """Truncated, or followed by another future, a bar has the same factors."""
    one = made()
    changed = MARKET.close.copy()
    changed[600:] *= 3.0
    other = dataclasses.replace(MARKET, close=changed, high=np.maximum(MARKET.high, changed))
    for end in (one.warmup + 1, 400, 512, 600):
        now = one.trust(MARKET[:end], STRATEGIES)
        assert now.factors
        assert one.trust(other[:end], STRATEGIES) == now == one.trust(MARKET[:end][:], STRATEGIES)
    assert one.trust(other[:601], STRATEGIES) != one.trust(MARKET[:601], STRATEGIES), "what is there does count"


def test_moving_the_first_bar_moves_no_factor() -> None:
    one = made()
    whole = one.trust(MARKET[:600], STRATEGIES).factors
    for first in (1, 13, 200):
        assert one.trust(MARKET[first:600], STRATEGIES).factors == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"until": age(0)}, "silent: its model was trained on candles up to 2020-10-12 15:00, this one among them"),
        ({"until": age(-9)}, "silent: its model was trained on candles up to 2020-10-21 15:00, this one among them"),
        ({"until": age(91)}, "silent: its model is 91 days old, neural.max_age_days is 90; train again"),
        ({"symbol": "ETH/USDT"}, "silent: its model was trained on ETH/USDT"),
        ({"timeframe": "5m"}, "silent: its model was trained on 5m candles"),
        ({"classes": list("abcdefgh")}, f"silent: its model knows none of {', '.join(STRATEGIES)}"),
    ],
)
def test_it_is_silent_and_says_why(facts: dict[str, Any], words: str) -> None:
    one = made(selector(**{"until": age(1), **facts}), max_age_days=90)
    assert one.trust(MARKET, STRATEGIES) == Trust(words=words)


def test_few_or_broken_candles_are_no_reason_to_fail() -> None:
    one = made()
    assert one.warmup == SETTLED + LENGTH
    assert made(selector(names=("rsi_14", "close_over_ema_100"))).warmup == SETTLED_CANDIDATES + LENGTH
    for rows in (1, 30, 300, one.warmup):
        said = one.trust(MARKET[:rows], STRATEGIES)
        assert said == Trust(words=f"silent: its model wants more than {SETTLED + LENGTH} candles")
    close = MARKET.close.copy()
    close[650] = np.nan
    said = one.trust(dataclasses.replace(MARKET, close=close), STRATEGIES)
    assert not said.factors
    assert said.words.startswith("silent: CandleDataError: candle 650 of BTC/USDT")
    sick = selector()
    with torch.no_grad():
        sick.network.task.bias.fill_(torch.nan)
    said = made(sick).trust(MARKET, STRATEGIES)
    assert not said.factors
    assert said.words.startswith("silent: its model answers with [nan, ")


# On disk


def version(sha256: str, name: str = "trm-1") -> ModelVersion:
    return ModelVersion(
        name, "trm_BTC_USDT_1h", ModelStatus.CHAMPION, datetime(2024, 1, 1, tzinfo=UTC), None, sha256, "", {},
        {"kind": "selector"}, {},
    )  # fmt: skip


def test_loaded_from_its_folder(tmp_path: Path) -> None:
    digest = selector().save(tmp_path / "trm-1.safetensors")
    with log_lines() as lines:
        loaded = load_selector(tmp_path, version(digest), 1e5)
    assert loaded.trust(MARKET, STRATEGIES) == made().trust(MARKET, STRATEGIES)
    assert [line for line in lines if "weighs strategies on BTC/USDT 1h" in line and "model=trm-1" in line]


def test_one_that_cannot_be_used_is_silent_and_the_log_says_why(tmp_path: Path) -> None:
    path = tmp_path / "trm-1.safetensors"
    digest = selector().save(path)
    old = {name: fact for name, fact in selector().facts.items() if name != "trained_until"}
    undated = dataclasses.replace(selector(), facts=old).save(tmp_path / "undated.safetensors")
    odd = selector(classes=["flat", "long"]).save(tmp_path / "odd.safetensors")
    strange = {"names": ["moon"], "length": LENGTH, "definitions": {"moon": "moon()[0]"}}
    moon = selector(features=strange).save(tmp_path / "moon.safetensors")
    for given, words in (
        (version("0" * 64), "is not the one of model trm-1"),
        (version(digest, "gone"), "is not there"),
        (version(moon, "moon"), "its features differ: moon is unknown here; train again"),
        (version(undated, "undated"), "checkpoint of model undated lacks its trained_until; train again"),
        (version(odd, "odd"), "names 2 classes, its network answers with 8; train again"),
    ):
        with log_lines() as lines:
            refused = load_selector(tmp_path, given, 90)
        told = [line for line in lines if "ERROR" in line and "trm_BTC_USDT_1h" in line and words in line]
        assert told, words
        assert "weights as with ensemble.method table" in told[0]
        said = refused.trust(MARKET, STRATEGIES)
        assert not said.factors
        assert said.words.startswith("silent: refused: ")
        assert words in said.words
        assert refused.warmup == 0, "others do not wait for it"


# In the running trader

CONFIG = EnsembleConfig(method="trm", log_change=0.05)


class Telling:
    """A selector that says what it was told to, by the number of the bar."""

    model_version = "trm-7"

    def trust(self, candles: Candles, strategies: Any) -> Trust:
        bar = int((candles.time[-1] // 3_600_000) % 24)
        if bar % 8 == 7:
            return Trust(words="silent: its model is 91 days old")
        return Trust({"holds": 1.0 + bar / 6}, f"after {1 + bar % 4} steps: holds model=trm-7")


def traded(selecting: Any, restarts: frozenset[int] = frozenset(), config: EnsembleConfig = CONFIG) -> Stage:
    """39 bars of a market that rises, two strategies and a selector; traders may come and go."""
    stage = Stage({BTC: candles(100 * 1.004 ** np.arange(WARMUP + 50), volume=1e6)}, {}, config=QUIET)

    def born() -> Trader:
        trader = stage.make_trader()
        strategies = [strategy("holds", None, newest(1, 0.9)), strategy("waits", None, newest(-1, 0.4))]
        detector: Any = SimpleNamespace(detect=lambda rows: RegimeReading(Regime.TRENDING, 0.7, {}))
        ensemble = DynamicEnsemble(strategies, detector, config)
        trader.outlooks = {BTC: Outlook(BTC, StrategyPanel(strategies), detector, ensemble, selecting)}
        trader.shadows.strategies = ["holds", "waits"]
        stage.recover(trader)
        return trader

    trader = born()
    for bar in range(39):
        if bar in restarts:
            trader = born()
        stage.step(trader)
    return stage


def test_its_say_moves_the_weights_and_stands_in_record_and_log() -> None:
    with log_lines() as log:
        stage = traded(Telling())
    decisions = found(stage, Decision)
    assert len({decision.weights["holds"] for decision in decisions}) > 10
    assert {tuple(decision.model_versions.items()) for decision in decisions} == {((NOTED, "trm-7"),)}
    notes = [decision.notes[NOTED] for decision in decisions]
    assert {note[:6] for note in notes} == {"after ", "silent"}
    changes = found(stage, WeightChange)
    assert len(changes) >= 5
    assert all(" trm, trm after " in each.because or " trm, trm silent: " in each.because for each in changes)
    lines = [line for line in log if " weights " in line]
    assert changes[0].because in lines[0]
    assert "holds model=trm-7" in lines[0]
    told = [line for line in log if " decision " in line and NOTED in line]
    silent = [False, *(note.startswith("silent") for note in notes)]
    began = sum(now and not before for before, now in itertools.pairwise(silent))
    assert len(told) == began > 2, "silence is told once, until it ends; what moves weights is told with them"
    assert all(f"{NOTED} silent: its model is 91 days old" in line for line in told)


def test_without_the_method_nothing_is_asked() -> None:
    stage = traded(None, config=EnsembleConfig())
    assert {decision.weights["holds"] for decision in found(stage, Decision)} == {0.5}
    assert not any(decision.notes or decision.model_versions for decision in found(stage, Decision))


def test_a_restart_changes_nothing_to_the_last_bit() -> None:
    def story(stage: Stage) -> Any:
        with stage.store.reading() as tx:
            saved = tx.get(Snapshot, TRADER)
        assert saved is not None
        decisions = [(d.time, d.weights, d.score, d.notes, d.model_versions) for d in found(stage, Decision)]
        return decisions, saved.value["outlooks"], [each.because for each in found(stage, WeightChange)]

    assert story(traded(Telling(), frozenset({3, 4, 5, 20, 38}))) == story(traded(Telling()))
