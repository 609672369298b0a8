"""From a strategy's answer to the decision in the database and its line in the log."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.service.stand import log_lines
from tests.trading.stage import WARMUP, Stage, candles
from tests.trading.test_trader import BTC, QUIET, found, one, started
from trading_bot.domain.journal import Decision, Snapshot, WeightChange
from trading_bot.domain.market import Candles, Regime
from trading_bot.learn.config import EnsembleConfig
from trading_bot.learn.dynamic_ensemble import DynamicEnsemble, RegimeReading
from trading_bot.trading.memory import TRADER
from trading_bot.trading.strategy import Signals
from trading_bot.trading.strategy_panel import StrategyPanel
from trading_bot.trading.trader import Trader
from trading_bot.trading.views import Outlook, View

SILENT = "silent: model 93 days old, max_age_days is 90"


def newest(side: int, confidence: float, note: str = "") -> Signals:
    return Signals(np.array([side], np.int8), np.array([confidence]), note)


def strategy(name: str, model: str | None, *answers: Signals) -> Any:
    """One that answers with these in turn, the last of them again and again."""
    left = list(answers)

    def latest(candles: Candles) -> Signals:
        return left.pop(0) if len(left) > 1 else left[0]

    return SimpleNamespace(
        name=name, warmup=1, affinity=dict.fromkeys(Regime, 1.0), model_version=model, signals=None, latest=latest
    )


def test_notes_and_model_versions_reach_the_record_and_the_log() -> None:
    strategies = [
        strategy("ema_trend", None, newest(1, 0.9)),
        strategy("neural_forecast", "nf-2", newest(0, 0.0, SILENT), newest(0, 0.0, SILENT), newest(1, 0.5)),
    ]
    detector: Any = SimpleNamespace(detect=lambda rows: RegimeReading(Regime.RANGING, 0.7, {}))
    made = one(bars=60)
    trader = started(made)
    ensemble = DynamicEnsemble(strategies, detector, EnsembleConfig())
    trader.outlooks = {BTC: Outlook(BTC, StrategyPanel(strategies), detector, ensemble)}
    trader.shadows.strategies = [each.name for each in strategies]
    with log_lines() as log:
        for _ in range(3):
            made.step(trader)
    first, again, second = found(made, Decision)
    assert first.notes == again.notes == {"neural_forecast": SILENT}
    assert first.score == 0.9, "who keeps silent leaves its weight to the others"
    assert second.notes == {}
    assert 0.5 < second.score < 0.9
    assert first.model_versions == second.model_versions == {"neural_forecast": "nf-2"}
    told = [line for line in log if " decision " in line]
    assert f"(ema_trend +1x0.90; neural_forecast {SILENT})" in told[0]
    assert "(ema_trend +1x0.90)" in told[1], "what was said at the bar before is not said again"
    assert "(ema_trend +1x0.90, neural_forecast +1x0.50)" in told[2]


def test_silence_of_all_is_told_beside_no_votes() -> None:
    made = one(bars=60)
    trader = started(made)  # its script says nothing: the stage's strategy notes that it is silent
    with log_lines() as log:
        made.step(trader)
    assert [line for line in log if "score=+0.00 (no votes; scripted silent: look 1)" in line]


def test_a_blind_view_has_no_notes() -> None:
    rows = one(bars=60).candles[BTC].tail(WARMUP)
    view = View.blind(BTC, rows, "warming up")
    assert (view.notes, view.model_versions, view.note) == ({}, {}, "warming up")


# Weights that follow what the shadow books earn

HEDGE = EnsembleConfig(method="hedge", hedge_rate=0.5, log_change=0.05)


def rising(config: EnsembleConfig, *, restarts: frozenset[int] = frozenset()) -> Stage:
    """A market that rises for 40 bars, one strategy that is in it and one that never is; traders may come and go."""
    made = Stage({BTC: candles(100 * 1.004 ** np.arange(WARMUP + 50), volume=1e6)}, {}, config=QUIET)

    def born() -> Trader:
        trader = made.make_trader()
        strategies = [strategy("holds", None, newest(1, 0.9)), strategy("waits", None, newest(-1, 0.9))]
        detector: Any = SimpleNamespace(detect=lambda rows: RegimeReading(Regime.TRENDING, 0.7, {}))
        trader.outlooks = {
            BTC: Outlook(BTC, StrategyPanel(strategies), detector, DynamicEnsemble(strategies, detector, config))
        }
        trader.shadows.strategies = ["holds", "waits"]
        made.recover(trader)
        return trader

    trader = born()
    for bar in range(39):
        if bar in restarts:
            trader = born()
        made.step(trader)
    return made


def test_hedge_moves_the_weights_of_the_running_trader_and_the_log_says_so() -> None:
    with log_lines() as log:
        made = rising(HEDGE)
    weights = [decision.weights["holds"] for decision in found(made, Decision)]
    assert weights[:3] == [0.5] * 3, "bought at the second bar: known at the third, which only tells the scale"
    assert 0.5 < weights[3] < 0.56
    assert all(one <= other for one, other in itertools.pairwise(weights))
    assert weights[-1] > 0.9
    changes = found(made, WeightChange)
    assert len(changes) >= 5
    assert all("hedge" in change.because for change in changes)
    assert "= 0.50 regime x 1.00 record x 1." in changes[0].because
    lines = [line for line in log if " weights " in line]
    assert len(lines) == len(changes)
    assert "because=" in lines[0]
    assert changes[0].because in lines[0]


def test_the_table_does_not_move_by_what_is_earned() -> None:
    assert {decision.weights["holds"] for decision in found(rising(EnsembleConfig()), Decision)} == {0.5}


def test_a_restart_of_the_hedging_trader_changes_nothing_to_the_last_bit() -> None:
    whole, cut = rising(HEDGE), rising(HEDGE, restarts=frozenset({3, 4, 5, 20, 38}))

    def story(made: Stage) -> Any:
        with made.store.reading() as tx:
            saved = tx.get(Snapshot, TRADER)
        assert saved is not None
        decisions = [(d.time, d.weights, d.score) for d in found(made, Decision)]
        return decisions, saved.value["outlooks"], saved.value["shadows"]

    assert story(cut) == story(whole)
