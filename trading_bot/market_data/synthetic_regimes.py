"""The chain of regimes behind the synthetic market: semi-Markov spells, common to all coins but for their own ways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trading_bot.domain.market import Floats
from trading_bot.market_data.synthetic_dynamics import REGIMES, Dynamics

Codes = npt.NDArray[np.int8]
_SHAPE = 1.5  # of the gamma distribution of a spell's length beyond the shortest: far from fixed, seldom very short


@dataclass(frozen=True, slots=True)
class Spells:
    """Consecutive spells; all arrays have one entry per spell."""

    start: npt.NDArray[np.int64]  # first bar
    code: Codes  # index in REGIMES
    direction: Floats  # +1 or -1
    strength: Floats  # factor on drift, reversion and echo
    loudness: Floats  # factor on volatility

    def per_bar(self, bars: int) -> npt.NDArray[np.int64]:
        """Which spell each of `bars` bars belongs to."""
        return np.searchsorted(self.start, np.arange(bars), "right") - 1


def market_spells(dynamics: Dynamics, bars: int, random: np.random.Generator) -> Spells:
    """Spells that cover at least `bars` bars; more bars continue the same sequence."""
    follow = _transitions(dynamics)
    rows: list[tuple[int, int, float, float, float]] = []
    start, code = 0, int(random.integers(len(REGIMES)))
    while start < bars or not rows:
        beyond = max(1.0, dynamics.regimes[REGIMES[code]].mean_bars - dynamics.shortest_spell)
        length = dynamics.shortest_spell + round(random.gamma(_SHAPE, beyond / _SHAPE))
        direction = 1.0 if random.random() < 0.5 else -1.0
        strength, loudness = _strengths(dynamics, random)
        rows.append((start, code, direction, strength, loudness))
        start += length
        code = int(np.searchsorted(follow[code], random.random(), "right"))
    return _spells(rows)


def coin_spells(market: Spells, dynamics: Dynamics, random: np.random.Generator) -> Spells:
    """One coin's spells: the market's, entered a few bars late, some replaced by a regime or a direction of its own."""
    rows: list[tuple[int, int, float, float, float]] = []
    for start, code, direction, strength, loudness in zip(
        market.start.tolist(), market.code.tolist(), market.direction.tolist(),
        market.strength.tolist(), market.loudness.tolist(), strict=True,
    ):  # fmt: skip
        late = int(random.integers(dynamics.latest_follower + 1)) if rows else 0
        alone, which, own_direction = random.random(), int(random.integers(len(REGIMES) - 1)), random.random()
        own_strength, own_loudness = _strengths(dynamics, random)
        if alone < dynamics.own_spells:
            code = (code + 1 + which) % len(REGIMES)
            direction = 1.0 if own_direction < 0.5 else -1.0
        # half of a spell's character is the market's, half the coin's own
        rows.append((start + late, code, direction, (strength * own_strength) ** 0.5, (loudness * own_loudness) ** 0.5))
    return _spells(rows)


def _strengths(dynamics: Dynamics, random: np.random.Generator) -> tuple[float, float]:
    strength, loudness = np.exp(dynamics.spread_of_spells * random.standard_normal(2))
    return float(strength), float(loudness)


def _transitions(dynamics: Dynamics) -> Floats:
    """Cumulative probabilities of what follows each regime; (4, 4)."""
    chances = np.array([[dynamics.regimes[a].next.get(b, 0.0) for b in REGIMES] for a in REGIMES])
    np.fill_diagonal(chances, 0.0)
    cumulative: Floats = np.cumsum(chances / chances.sum(axis=1, keepdims=True), axis=1)
    cumulative[:, -1] = 1.0
    return cumulative


def _spells(rows: list[tuple[int, int, float, float, float]]) -> Spells:
    start, code, direction, strength, loudness = zip(*rows, strict=True)
    return Spells(
        np.array(start, np.int64), np.array(code, np.int8), np.array(direction), np.array(strength), np.array(loudness)
    )
