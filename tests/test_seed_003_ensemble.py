"""The ensemble part of the first specification's usage example runs as it stands there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.strategies.markets import random_walk
from trading_bot.learn.dynamic_ensemble import DynamicEnsemble, PerformanceTracker, RegimeDetector, StrategyMetrics

EXAMPLE = """
from trading_bot.learn.dynamic_ensemble import DynamicEnsemble, RegimeDetector

# Use dynamic ensemble
ensemble = DynamicEnsemble(
    strategies=["atr_breakout", "rsi_mean_reversion", "macd_momentum"],
    regime_detector=RegimeDetector()
)

# Update weights based on market
weights = ensemble.update_weights(market_data, performance_metrics)

# Get weighted signal
signal, confidence = ensemble.get_weighted_signal(
    signals={"atr_breakout": 1, "rsi_mean_reversion": -1, "macd_momentum": 0},
    confidences={"atr_breakout": 0.8, "rsi_mean_reversion": 0.6, "macd_momentum": 0.5}
)
"""
METRICS = {
    "atr_breakout": {"win_rate": 0.45, "profit_factor": 1.4, "max_drawdown": 0.12, "consecutive_losses": 2},
    "rsi_mean_reversion": {"win_rate": 0.6, "profit_factor": 1.2, "max_drawdown": 0.08, "consecutive_losses": 0},
    "macd_momentum": StrategyMetrics(trades=3, win_rate=1 / 3, profit_factor=0.5, consecutive_losses=1),
}


@pytest.mark.parametrize("form", ["candles", "frame", "frame by date"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_example_runs(form: str, seed: int) -> None:
    candles = random_walk(700, seed=seed)
    frame = candles.frame()
    market: Any = {"candles": candles, "frame": frame, "frame by date": frame.set_index("date")}[form]
    names: dict[str, Any] = {"market_data": market, "performance_metrics": METRICS}
    exec(EXAMPLE, names)
    weights, signal, confidence = names["weights"], names["signal"], names["confidence"]
    assert list(weights) == ["atr_breakout", "rsi_mean_reversion", "macd_momentum"]
    assert sum(weights.values()) == pytest.approx(1.0)
    score = weights["atr_breakout"] * 0.8 - weights["rsi_mean_reversion"] * 0.6
    assert confidence == pytest.approx(abs(score))
    assert signal == (0 if confidence < 0.2 else (1 if score > 0 else -1))


def test_the_names_it_imports_are_where_users_expect_them() -> None:
    for name in (DynamicEnsemble, PerformanceTracker, RegimeDetector, StrategyMetrics):
        assert isinstance(name, type)
