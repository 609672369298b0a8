"""How the synthetic market moves: the numbers, per regime and per coin. Drifts and jumps in units of volatility."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from trading_bot.domain.market import Regime

REGIMES: tuple[Regime, ...] = tuple(Regime)  # the order of every array over regimes


@dataclass(frozen=True, kw_only=True)
class RegimeDynamics:
    """One regime. Every spell draws its own strengths around these, so that no two spells are alike."""

    mean_bars: float  # mean length of a spell
    volatility: float  # of a bar, relative to the coin's own
    drift: float = 0.0  # of a bar, in bar volatilities, the spell's direction up or down
    reversion: float = 0.0  # share of the distance to the spell's first price that a bar takes back
    echo: float = 0.0  # share of the last bar's surprise that comes again (negative: is taken back)
    jump_chance: float = 0.0  # of a bar
    jump_size: float = 0.0  # standard deviation of a jump, in bar volatilities
    wick: float = 1.0  # volatility inside the bar, relative to that of the close
    volume: float = 1.0  # relative to the coin's own
    next: Mapping[Regime, float] = field(default_factory=dict)  # what follows, unnormalised


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """The whole market. The default resembles hourly BTC/USDT of 2017 to 2021 (tests hold it to that)."""

    regimes: Mapping[Regime, RegimeDynamics] = field(default_factory=lambda: dict(_REGIMES))
    shortest_spell: int = 16  # bars
    own_spells: float = 0.12  # share of the market's spells that a coin spends in a regime of its own
    latest_follower: int = 4  # bars after which a coin at the latest follows the market into a new regime
    spread_of_spells: float = 0.20  # standard deviation of the logarithm of a spell's strengths
    volatility: float = 0.0072  # of an hour, for a coin of volatility 1
    correlation: float = 1.0  # scales how much of a coin's surprise is the market's
    tails: float = 4.5  # degrees of freedom of Student's t
    memory: float = 0.90  # of the volatility after a surprise, per bar
    kick: float = 0.05  # of a surprise on the logarithm of volatility
    leverage: float = 0.02  # how much more a fall excites than a rise
    tide_memory: float = 0.998  # of the slow common swing of volatility
    tide: float = 0.30  # its standard deviation (of the logarithm)
    day: float = 0.15  # amplitude of the daily cycle of volatility (of the logarithm)
    homing: float = (
        1 / 4000
    )  # share of the distance to the first price taken back per bar, so that prices stay sensible


_T, _R, _V, _C = REGIMES
_REGIMES: Mapping[Regime, RegimeDynamics] = {
    _T: RegimeDynamics(
        mean_bars=100, volatility=0.75, drift=0.30, reversion=0.10, wick=1.10, volume=1.15,
        next={_R: 0.35, _V: 0.35, _C: 0.30},
    ),
    _R: RegimeDynamics(
        mean_bars=120, volatility=0.52, reversion=0.14, wick=1.15, volume=0.70,
        next={_T: 0.45, _V: 0.25, _C: 0.30},
    ),
    _V: RegimeDynamics(
        mean_bars=70, volatility=1.85, reversion=0.035, echo=0.06, jump_chance=0.03, jump_size=3.0, wick=1.15,
        volume=1.8, next={_T: 0.40, _R: 0.30, _C: 0.30},
    ),
    _C: RegimeDynamics(
        mean_bars=95, volatility=0.88, echo=-0.38, jump_chance=0.01, jump_size=2.0, wick=1.45, volume=0.90,
        next={_T: 0.40, _R: 0.35, _V: 0.25},
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Coin:
    """What distinguishes one symbol: its scale, its units and how closely it follows the market."""

    price: float
    price_decimals: int
    volume: float  # median of an hour, in coins
    volume_decimals: int
    volatility: float  # relative to Dynamics.volatility
    loading: float  # correlation of its surprises with the market's


_KNOWN: Mapping[str, Coin] = {
    "BTC": Coin(42_000.0, 2, 1_400.0, 5, 1.0, 0.98),
    "ETH": Coin(2_300.0, 2, 14_000.0, 4, 1.25, 0.96),
    "ADA": Coin(0.60, 4, 4_000_000.0, 1, 1.45, 0.88),
    "SOL": Coin(100.0, 2, 150_000.0, 3, 1.6, 0.80),
    "XRP": Coin(0.62, 4, 9_000_000.0, 1, 1.35, 0.78),
}


def coin(symbol: str) -> Coin:
    """The profile of a symbol's base currency; an unknown one gets a profile that depends on its name alone."""
    base = symbol.partition("/")[0]
    if base in _KNOWN:
        return _KNOWN[base]
    mark = zlib.crc32(base.encode())
    price = float(10 ** (mark % 1000 / 333.0))  # 1 … 1000
    volatility = 1.1 + 0.5 * (mark // 1000 % 100) / 100
    return Coin(price, 2 if price > 50 else 4, 3e6 / price, 2, volatility, 0.70 + 0.2 * (mark // 10**5 % 100) / 100)
