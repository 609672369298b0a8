"""The synthetic markets that regime detection is tuned and judged on: never the same seeds, never the same numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trading_bot.market_data.config import SyntheticConfig
from trading_bot.market_data.synthetic import SyntheticMarket
from trading_bot.market_data.synthetic_dynamics import Dynamics, RegimeDynamics

SYMBOLS = ("BTC/USDT", "ADA/USDT")
TUNING_SEEDS = tuple(range(1000, 1032))
TUNING_SPREAD = 0.30
JUDGING_SEEDS = tuple(range(5000, 5024))
JUDGING_SPREAD = 0.35


def market(seed: int, bars: int, spread: float) -> SyntheticMarket:
    """The market of a seed, its parameters drawn by the same seed; `spread` 0: the default parameters."""
    random = np.random.default_rng([seed, 77])
    return SyntheticMarket(
        SyntheticConfig(seed=seed, symbols=SYMBOLS, bars=bars), perturbed(Dynamics(), random, spread)
    )


def perturbed(dynamics: Dynamics, random: np.random.Generator, spread: float) -> Dynamics:
    """Every number of the market times a factor of its own between exp(−spread) and exp(spread).

    Lengths of spells and volatilities have a factor for the market and one (of half the spread) for each regime.
    """

    def factor(scale: float = 1.0) -> float:
        return float(np.exp(random.uniform(-spread * scale, spread * scale)))

    longer = factor()

    def regime(was: RegimeDynamics) -> RegimeDynamics:
        return replace(
            was,
            mean_bars=was.mean_bars * longer * factor(0.5),
            volatility=was.volatility * factor(0.5),
            drift=was.drift * factor(0.5),
            reversion=was.reversion * factor(0.5),
            echo=was.echo * factor(0.5),
            jump_chance=was.jump_chance * factor(),
            jump_size=was.jump_size * factor(0.5),
            volume=was.volume * factor(0.5),
        )

    return replace(
        dynamics,
        regimes={name: regime(was) for name, was in dynamics.regimes.items()},
        volatility=dynamics.volatility * factor(),
        correlation=min(1.02, dynamics.correlation * factor()),
        own_spells=dynamics.own_spells * factor(),
        tails=2.5 + (dynamics.tails - 2.5) * factor(),
        kick=dynamics.kick * factor(),
        tide=dynamics.tide * factor(),
    )
