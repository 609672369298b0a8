"""From base weights and records to the next weights: pure arithmetic on arrays, plain or compiled alike.

Weights are points on the simplex: non-negative, sum 1, each ≥ a floor. Shapes: (n,) over strategies.
"""

from __future__ import annotations

import math

import numpy as np

from trading_bot.domain.market import Floats

# The most one metric can move a weight's logarithm; the multiplier stays between e^-2.3 and e^1.
WIN_RATE_PULL = 0.5
PROFIT_FACTOR_PULL = 0.5
DRAWDOWN_PULL = 1.0
STREAK_PULL = 0.5
HALF_DRAWDOWN = 0.25  # max drawdown that costs half of its pull
HALF_STREAK = 4.0  # losses in a row that cost half of theirs


def performance_terms(
    trades: float, win_rate: float, profit_factor: float, max_drawdown: float, losses: float, min_trades: float
) -> tuple[float, float, float, float]:
    """Logarithm of a strategy's multiplier, metric by metric; NaN stands for undefined and counts as neutral (0).

    Each term is monotone in its metric and bounded, and shrinks by trades / (trades + min_trades): with few trades
    the multiplier is close to 1. The profit factor g enters as (g − 1) / (g + 1) = (wins − losses) / (wins + losses).
    """
    trust = trades / (trades + min_trades)
    win = 0.0 if math.isnan(win_rate) else WIN_RATE_PULL * (2.0 * win_rate - 1.0)
    factor = 0.0 if math.isnan(profit_factor) else PROFIT_FACTOR_PULL * (1.0 - 2.0 / (profit_factor + 1.0))
    drawdown = 0.0 if math.isnan(max_drawdown) else -DRAWDOWN_PULL * max_drawdown / (max_drawdown + HALF_DRAWDOWN)
    streak = -STREAK_PULL * losses / (losses + HALF_STREAK)
    return trust * win, trust * factor, trust * drawdown, trust * streak


def on_floored_simplex(weights: Floats, floor: float) -> Floats:
    """Weights scaled to sum 1 with none below `floor`; those above it keep their proportions to one another.

    Needs n · floor ≤ 1. All-zero weights become equal ones.
    """
    n = len(weights)
    total = weights.sum()
    result: Floats = weights / total if total > 0 else np.full(n, 1.0 / n)
    for _ in range(n):  # lifting one weight may press another below the floor; each round lifts one or ends
        low = result <= floor
        free = result[~low].sum()
        if free <= 0.0:
            return np.full(n, 1.0 / n)
        room = 1.0 - floor * low.sum()
        result = np.where(low, floor, result * (room / free))
        if not (result < floor).any():
            break
    return result


def step_towards(old: Floats, target: Floats, max_step: float) -> Floats:
    """`old` moved straight towards `target`, no weight further than `max_step`: never leaves a convex set of both."""
    furthest = np.abs(target - old).max()
    if furthest <= max_step:
        return target
    moved: Floats = old + (target - old) * (max_step / furthest)
    return moved
