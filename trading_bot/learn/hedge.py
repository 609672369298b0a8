"""Online weights of experts: exponentiated gradient with a fixed share, over what each one earned. Pure arithmetic.

Every bar w ← w · exp(rate · gain), scaled to sum 1 (Freund and Schapire, "A decision-theoretic generalization of
on-line learning", 1997), then w ← (1 − share) · w + share / n, so that none is ever lost (Herbster and Warmuth,
"Tracking the best expert", 1998). Gains are told in units of `scale`, how much a bar moves, and cut at ±LIMIT = c.
Over T bars, weights that begin even earn, in those units, no less than any sequence of experts that changes m times,
but for

    (ln n + m · ln(n / share) + (T − m − 1) · ln 1 / (1 − share)) / rate  +  rate · T · c² / 2

whatever the market does (Cesa-Bianchi and Lugosi, "Prediction, learning, and games", 2006, section 5.2). Against the
best single expert, without a share, that is (ln n) / rate + rate · T · c² / 2. If the best changes once in L bars, the
bound is least at share = 1 / L and rate = √(2 · (ln(n / share) + 1) · share) / c: 0.0005 and 0.03 for six experts and
L = 2000, twelve weeks of hours. Shapes: (n,) over experts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trading_bot.domain.market import Floats

LIMIT = 3.0  # one bar counts as no more than so many times the usual move
MEMORY = 100  # bars, of those on which anybody held anything, that tell the usual move


@dataclass(frozen=True, slots=True)
class HedgeState:
    """Weights and what they were learned at; as a new one, even weights that have seen nothing."""

    weights: Floats
    variance: float = 0.0  # mean square of a bar's largest gain
    bars: int = 0  # in that mean, at most MEMORY

    @classmethod
    def even(cls, n: int) -> HedgeState:
        """`n` experts that are as good as one another."""
        return cls(np.full(n, 1.0 / n))


def advance(state: HedgeState, gains: Floats, rate: float, share: float) -> HedgeState:
    """One bar on: the weights by the scale known before it, then the scale.

    The bar itself is not in the scale it is judged by: a larger gain then never counts for less. The first bar on which
    anybody earned anything only tells the scale.
    """
    weights = hedge_step(state.weights, gains, math.sqrt(state.variance), rate, share)
    variance, bars = variance_step(state.variance, state.bars, gains)
    return HedgeState(weights, variance, bars)


def hedge_step(weights: Floats, gains: Floats, scale: float, rate: float, share: float) -> Floats:
    """The weights after a bar of `gains` (ratios, in no unit); with a scale of 0 the gains do not count."""
    if scale > 0.0:
        weights = weights * np.exp(rate * (np.clip(gains, -LIMIT * scale, LIMIT * scale) / scale))
    moved: Floats = (1.0 - share) * (weights / weights.sum()) + share / len(weights)
    return moved


def variance_step(variance: float, bars: int, gains: Floats) -> tuple[float, int]:
    """The mean square of a bar's largest gain, and its number of bars, with one more; bars of no gain tell nothing."""
    largest = float(np.abs(gains).max())
    if largest == 0.0:
        return variance, bars
    bars = min(bars + 1, MEMORY)
    return variance + (largest * largest - variance) / bars, bars
