"""A market that never was, whose true regimes are known: seeded, correlated, believable. Says "synthetic" of itself.

Each coin is always in one of four regimes, in spells of random length (see `synthetic_regimes`, means in
`synthetic_dynamics`): trends drift, ranges return to the price they began at, choppy markets take back what the last
bar did, volatile ones are loud and jump. On top of the regimes: volatility that clusters after surprises (an EGARCH
recursion [1]), Student-t tails, a slow common tide and a daily cycle of volatility, volume that follows volatility.

[1] Nelson, D. B. (1991), Conditional heteroskedasticity in asset returns: a new approach, Econometrica 59.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trading_bot.domain.market import Candles, Floats, timeframe_ms
from trading_bot.errors import ConfigurationError
from trading_bot.market_data.config import SyntheticConfig
from trading_bot.market_data.file_candles import select
from trading_bot.market_data.synthetic_dynamics import REGIMES, Coin, Dynamics, coin
from trading_bot.market_data.synthetic_regimes import Codes, Spells, coin_spells, market_spells

_HOUR = 3_600_000
_DAY = 24 * _HOUR
_WILDEST = 5.0  # no bar's tail factor is larger: a moderate crash, not the end of the market
_MEAN_SURPRISE = math.sqrt(2 / math.pi)  # mean of |z| for a standard normal z
_LOUDEST = 1.8  # bound of the logarithm of clustered volatility


class SyntheticMarket:
    """`ports.CandleSource` over generated candles. The same seed and configuration give the same bytes.

    More `bars` continue the same market: what is there already does not change. Adding a symbol changes no other.

    Parameters
    ----------
    config
        Seed, symbols, timeframe, bars, start.
    dynamics
        How it moves; the default resembles hourly BTC/USDT.
    """

    def __init__(self, config: SyntheticConfig | None = None, dynamics: Dynamics | None = None) -> None:
        self.config = config or SyntheticConfig()
        self.dynamics = dynamics or Dynamics()
        self._candles: dict[str, Candles] = {}
        self._codes: dict[str, Codes] = {}
        common = _Common.draw(self.config, self.dynamics)
        for symbol in self.config.symbols:
            self._candles[symbol], self._codes[symbol] = _generate(symbol, self.config, self.dynamics, common)

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.config.symbols

    @property
    def timeframe(self) -> str:
        return self.config.timeframe

    def candles(self, symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> Candles:
        """See `ports.CandleSource`; views, nothing is copied.

        Raises
        ------
        ConfigurationError
            If this market has no such symbol or timeframe.
        """
        self._check(symbol)
        if timeframe != self.timeframe:
            raise ConfigurationError(f"the synthetic market is {self.timeframe}, not {timeframe}; ask for these bars")
        return select(self._candles[symbol], since, limit)

    def all(self) -> Mapping[str, Candles]:
        """Everything, by symbol."""
        return dict(self._candles)

    def regimes(self, symbol: str) -> npt.NDArray[np.object_]:
        """The true `Regime` of every bar of `symbol`; object (bars,)."""
        return np.array(REGIMES, dtype=object)[self.codes(symbol)]

    def codes(self, symbol: str) -> Codes:
        """The true regime of every bar as its place in `Regime`; int8 (bars,)."""
        self._check(symbol)
        return self._codes[symbol]

    def describe(self) -> str:
        """What this is, in two words and a number."""
        return f"synthetic (seed {self.config.seed})"

    def _check(self, symbol: str) -> None:
        if symbol not in self._candles:
            raise ConfigurationError(f"no {symbol} in the synthetic market; it has {', '.join(self.symbols)}")


@dataclass(frozen=True, slots=True)
class _Common:
    """What all coins share: regimes, surprises, tide, jumps."""

    spells: Spells
    surprise: Floats  # standard normal
    tail: Floats  # factor on the surprise, mean square 1
    tide: Floats  # added to the logarithm of volatility
    leap_chance: Floats  # uniform: a coin jumps where this is below its regime's chance
    leap: Floats  # standard normal: how far

    @classmethod
    def draw(cls, config: SyntheticConfig, dynamics: Dynamics) -> _Common:
        tide_noise = _random(config, "tide").standard_normal(config.bars)
        spread = dynamics.tide * math.sqrt(1 - dynamics.tide_memory**2)
        return cls(
            market_spells(dynamics, config.bars, _random(config, "regimes")),
            _random(config, "surprise").standard_normal(config.bars),
            _tails(dynamics, _random(config, "tail"), config.bars),
            _smoothed(tide_noise * spread, dynamics.tide_memory),
            _random(config, "leap chance").random(config.bars),
            _random(config, "leap").standard_normal(config.bars),
        )


def _random(config: SyntheticConfig, *purpose: str) -> np.random.Generator:
    """A stream of its own for each purpose, so that drawing more of one moves no other."""
    return np.random.default_rng([config.seed, *(zlib.crc32(word.encode()) for word in purpose)])


def _tails(dynamics: Dynamics, random: np.random.Generator, bars: int) -> Floats:
    """Factors that make normal surprises Student-t with variance 1, the wildest cut."""
    chi = random.chisquare(dynamics.tails, bars)
    factor: Floats = np.minimum(np.sqrt((dynamics.tails - 2) / np.maximum(chi, 1e-12)), _WILDEST)
    return factor


def _smoothed(noise: Floats, memory: float) -> Floats:
    """First-order autoregression driven by `noise`, from 0."""
    level, out = 0.0, []
    for one in noise.tolist():
        level = memory * level + one
        out.append(level)
    return np.array(out)


def _generate(symbol: str, config: SyntheticConfig, dynamics: Dynamics, common: _Common) -> tuple[Candles, Codes]:
    """Candles and true regimes of one coin."""
    profile, bars = coin(symbol), config.bars
    spells = coin_spells(common.spells, dynamics, _random(config, symbol, "regimes"))
    spell = spells.per_bar(bars)
    codes = spells.code[spell]
    of_regime = {
        name: np.array([getattr(dynamics.regimes[regime], name) for regime in REGIMES])[codes]
        for name in ("volatility", "drift", "reversion", "echo", "jump_chance", "jump_size", "wick", "volume")
    }
    time = config.start_ms + timeframe_ms(config.timeframe) * np.arange(bars, dtype=np.int64)
    swing = common.tide + dynamics.day * _daily(time, timeframe_ms(config.timeframe))
    scale = dynamics.volatility * profile.volatility * math.sqrt(timeframe_ms(config.timeframe) / _HOUR)
    loud = scale * np.exp(swing) * of_regime["volatility"] * spells.loudness[spell]
    surprise, tail = _surprises(symbol, profile, config, dynamics, common)
    strength = spells.strength[spell]
    leaps = common.leap_chance < of_regime["jump_chance"]
    jump = np.where(leaps, of_regime["jump_size"] * np.abs(common.leap) * np.sign(surprise), 0.0)
    log_close, volatility = _walk(
        loud, surprise, jump,
        of_regime["drift"] * strength * spells.direction[spell],
        of_regime["reversion"] * strength, of_regime["echo"] * np.minimum(strength, 1.6), spell, dynamics,
    )  # fmt: skip
    inside = volatility * tail * of_regime["wick"]
    relative = volatility * tail / scale
    moved = np.abs(np.diff(log_close, prepend=0.0)) / scale
    volume = _volume(profile, config, relative, moved, of_regime["volume"], _random(config, symbol, "volume"))
    columns = _bars(profile, log_close, volatility, inside, _random(config, symbol, "inside"))
    return Candles(symbol, config.timeframe, time, *columns, volume), codes


def _daily(time: npt.NDArray[np.int64], length: int) -> Floats:
    """The daily cycle, −1 … 1: loudest at 15:00 UTC; none for bars of a day or longer."""
    if length >= _DAY:
        return np.zeros(len(time))
    cycle: Floats = np.cos(2 * np.pi * ((time % _DAY) / _DAY - 15 / 24))
    return cycle


def _surprises(
    symbol: str, profile: Coin, config: SyntheticConfig, dynamics: Dynamics, common: _Common
) -> tuple[Floats, Floats]:
    """The coin's surprises (variance 1, heavy tails, correlated with the market's) and how wild each bar is."""
    loading = min(0.995, profile.loading * dynamics.correlation)
    own = math.sqrt(1 - loading**2)
    own_tail = _tails(dynamics, _random(config, symbol, "tail"), config.bars)
    own_surprise = _random(config, symbol, "surprise").standard_normal(config.bars)
    surprise = loading * common.tail * common.surprise + own * own_tail * own_surprise
    return surprise, np.sqrt((loading * common.tail) ** 2 + (own * own_tail) ** 2)


def _walk(
    loud: Floats, surprise: Floats, jump: Floats, drift: Floats, reversion: Floats, echo: Floats,
    spell: npt.NDArray[np.int64], dynamics: Dynamics,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Logarithm of the close relative to the first price, and each bar's volatility. The only loop over bars."""
    memory, kick, leverage, homing = dynamics.memory, dynamics.kick, dynamics.leverage, dynamics.homing
    price = level = excitement = last = 0.0
    before = -1
    prices, volatilities = [], []
    exp = math.exp
    for calm, shock, leap, push, pull, back, number in zip(
        loud.tolist(), surprise.tolist(), jump.tolist(), drift.tolist(), reversion.tolist(), echo.tolist(),
        spell.tolist(), strict=True,
    ):  # fmt: skip
        if number != before:
            before, level = number, price
        sigma = calm * exp(excitement)
        unexpected = sigma * shock + calm * leap
        level += push * calm
        price += push * calm - pull * (price - level) + back * last + unexpected - homing * price
        last = unexpected
        heat = abs(shock) - _MEAN_SURPRISE
        excitement = memory * excitement + kick * (heat if heat < 4.0 else 4.0) - leverage * shock
        excitement = max(-_LOUDEST, min(_LOUDEST, excitement))
        prices.append(price)
        volatilities.append(sigma)
    return np.array(prices), np.array(volatilities)


def _bars(
    profile: Coin, log_close: Floats, volatility: Floats, inside: Floats, random: np.random.Generator
) -> tuple[Floats, Floats, Floats, Floats]:
    """Open, high, low, close on the price grid.

    Highest and lowest are those of a Brownian bridge from open to close (P. Glasserman, Monte Carlo Methods in
    Financial Engineering, 6.4): (r + sqrt(r² − 2 σ² ln u)) / 2 above the open, u uniform.
    """
    draws = random.random((len(log_close), 3))
    last = np.concatenate(([0.0], log_close[:-1]))
    log_open = last + 0.04 * volatility * (2 * draws[:, 2] - 1)  # the book moves a little between two bars
    move = log_close - log_open
    up = (move + np.sqrt(move**2 - 2 * inside**2 * np.log1p(-draws[:, 0]))) / 2
    down = (move - np.sqrt(move**2 - 2 * inside**2 * np.log1p(-draws[:, 1]))) / 2
    tick = 10.0**-profile.price_decimals
    opened, highest, lowest, closed = (
        np.maximum(np.round(profile.price * np.exp(line), profile.price_decimals), tick)
        for line in (log_open, log_open + up, log_open + down, log_close)
    )
    return (
        opened,
        np.maximum(highest, np.maximum(opened, closed)),
        np.minimum(lowest, np.minimum(opened, closed)),
        closed,
    )


def _volume(
    profile: Coin, config: SyntheticConfig, relative: Floats, moved: Floats, factor: Floats, random: np.random.Generator
) -> Floats:
    """Coins traded in each bar: a persistent mood, volatility, the bar's own move, and chance."""
    draws = random.standard_normal((config.bars, 2))
    mood = _smoothed(draws[:, 0] * 0.11, 0.94)
    logarithm = mood + 0.35 * np.log(relative + 0.05) + 0.25 * np.log(moved + 0.25) + 0.30 * draws[:, 1]
    scale = profile.volume * timeframe_ms(config.timeframe) / _HOUR
    volume = np.round(scale * factor**0.6 * np.exp(logarithm + 0.35), profile.volume_decimals)
    smallest: Floats = np.maximum(volume, 10.0**-profile.volume_decimals)
    return smallest
