"""How much each kind of strategy is worth in each regime, before its record is looked at."""

from __future__ import annotations

from collections.abc import Mapping

from trading_bot.domain.market import Regime

Affinity = Mapping[Regime, float]


def by_regime(*, trending: float, ranging: float, volatile: float, choppy: float) -> Affinity:
    """A strategy's base weight in each regime; only the proportions to other strategies' matter."""
    return {
        Regime.TRENDING: trending,
        Regime.RANGING: ranging,
        Regime.VOLATILE: volatile,
        Regime.CHOPPY: choppy,
    }


# The three strategies the ensemble was designed around, known by name alone; any other declares its own affinity.
TABLE: Mapping[str, Affinity] = {
    "atr_breakout": by_regime(trending=0.5, ranging=0.2, volatile=0.4, choppy=0.1),
    "rsi_mean_reversion": by_regime(trending=0.2, ranging=0.5, volatile=0.4, choppy=0.6),
    "macd_momentum": by_regime(trending=0.3, ranging=0.3, volatile=0.2, choppy=0.3),
}
