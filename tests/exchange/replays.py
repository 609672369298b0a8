"""Small markets for the tests of simulated venues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import numpy as np

from trading_bot.domain.market import Candles, Instrument
from trading_bot.domain.venue import VenueFill
from trading_bot.exchange.replay import ReplayMarket
from trading_bot.exchange.venue import SimulatedVenue
from trading_bot.matching import HISTORY
from trading_bot.ports import Store

HOUR = 3_600_000
START = 1_700_000_000_000 // HOUR * HOUR

Row = tuple[float, float, float, float, float]  # open, high, low, close, volume


def rows(symbol: str, *bars: Row, hours: Sequence[int] | None = None) -> Candles:
    """Candles from tuples; `hours` are their open times after START (default 0, 1, 2, …)."""
    times = [START + HOUR * hour for hour in (hours if hours is not None else range(len(bars)))]
    opened, high, low, close, volume = np.array(bars, dtype=float).T
    return Candles(symbol, "1h", np.array(times, dtype=np.int64), opened, high, low, close, volume)


def wandering(
    symbol: str, bars: int, seed: int, *, price: float = 100.0, first: int = 0, gaps: bool = False
) -> Candles:
    """A random walk with two decimals in prices and four in volumes; now and then a bar without volume, or no bar."""
    random = np.random.default_rng(seed)
    close = np.maximum(1.0, np.round(price * np.exp(np.cumsum(random.normal(0, 0.01, bars))), 2))
    opened = np.round(np.r_[price, close[:-1]] * (1 + (random.random(bars) < 0.2) * random.normal(0, 0.01, bars)), 2)
    high = np.round(np.maximum(opened, close) * (1 + random.exponential(0.004, bars)), 2)
    low = np.round(np.minimum(opened, close) * (1 - random.exponential(0.004, bars)), 2)
    volume = np.round(random.lognormal(3, 1, bars) * (random.random(bars) > 0.1), 4)
    keep = (random.random(bars) > 0.1) if gaps else np.ones(bars, dtype=bool)
    time = START + HOUR * np.arange(first, first + bars)
    columns = (column[keep] for column in (time, opened, high, low, close, volume))
    return Candles(symbol, "1h", *columns)  # type: ignore[arg-type]


def instrument(symbol: str = "BTC/USDT", **changes: Decimal | bool) -> Instrument:
    base, quote = symbol.split("/")
    facts: dict[str, Decimal | bool] = {
        "tick": Decimal("0.01"),
        "lot": Decimal("0.0001"),
        "min_quantity": Decimal("0.0001"),
        "max_quantity": Decimal(100_000),
        "min_notional": Decimal(5),
        "maker_fee": Decimal("0.0008"),
        "taker_fee": Decimal("0.001"),
    }
    return Instrument(symbol, base, quote, **{**facts, **changes})  # type: ignore[arg-type]


class RolledVenue:
    """A venue that is told every bar as it closes, the way the local exchange does it."""

    def __init__(
        self,
        store: Store,
        candles: Mapping[str, Candles],
        instruments: Mapping[str, Instrument],
        balances: Mapping[str, Decimal],
        *,
        history: int = 5,
    ) -> None:
        self.market = ReplayMarket(candles, history=history)
        self._made = (store, instruments, balances)
        self.venue = self._venue()

    def _venue(self) -> SimulatedVenue:
        store, instruments, balances = self._made
        venue = SimulatedVenue(store, instruments, name="test", balances=balances)
        for symbol in self.market.symbols:
            venue.remember(symbol, self.market.candles(symbol, "1h", None, HISTORY))
        forming = {symbol: self.market.forming(symbol) for symbol in self.market.symbols}
        venue.roll({}, {symbol: price for symbol, price in forming.items() if price is not None}, self.market.now())
        return venue

    def restart(self) -> None:
        """Forget everything but the store and the market's position."""
        self.venue = self._venue()

    def advance(self) -> tuple[VenueFill, ...]:
        step = self.market.advance()
        return self.venue.roll(step.closed, step.opened, step.time)
