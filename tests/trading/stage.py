"""A stage for the decision loop: a replayed market, a venue that outlives the bot, strategies that follow a script."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from tests.fakes import MemoryStore
from trading_bot.backtest.engine import windows_at
from trading_bot.domain.journal import Decision
from trading_bot.domain.market import Candles, Instrument, Regime
from trading_bot.domain.orders import Order, SubmitOutcome
from trading_bot.exchange.paper_venue import PaperVenue
from trading_bot.exchange.replay import ReplayMarket
from trading_bot.exchange.venue import SimulatedVenue
from trading_bot.learn.performance_tracker import PerformanceTracker, StrategyMetrics
from trading_bot.matching import MatchingConfig
from trading_bot.ports import Broker, MarketEnded, Store, Tx
from trading_bot.trading.config import TradingConfig, UnclearOrders
from trading_bot.trading.events import BarsClosed
from trading_bot.trading.order_protocol import OrderDesk
from trading_bot.trading.recovery import Surroundings, recover
from trading_bot.trading.shadow import ShadowShelf
from trading_bot.trading.trader import Trader
from trading_bot.trading.views import View, shares_of

HOUR = 3_600_000
START = 1_600_000_000_000 // (512 * HOUR) * 512 * HOUR
WARMUP = 20


def instrument(symbol: str = "BTC/USDT", **changes: Any) -> Instrument:
    base, quote = symbol.split("/")
    made = Instrument(
        symbol, base, quote, Decimal("0.01"), Decimal("0.00001"), Decimal("0.00001"), Decimal(9000), Decimal(5),
        Decimal("0.001"), Decimal("0.001"),
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def candles(
    closes: np.ndarray[Any, Any], symbol: str = "BTC/USDT", volume: float = 500.0, wick: float = 0.001
) -> Candles:
    """Bars that open where the last one closed, with small wicks."""
    close = np.round(np.asarray(closes, float), 2)
    opened = np.concatenate([close[:1], close[:-1]])
    high, low = np.maximum(opened, close) * (1 + wick), np.minimum(opened, close) * (1 - wick)
    time = START + np.arange(len(close), dtype=np.int64) * HOUR
    return Candles(symbol, "1h", time, opened, np.round(high, 2), np.round(low, 2), close, np.full(len(close), volume))


def wander(bars: int, seed: int, symbol: str = "BTC/USDT", start: float = 100.0) -> Candles:
    """A seeded random walk."""
    steps = np.random.default_rng(seed).normal(0, 0.01, bars)
    return candles(start * np.exp(np.cumsum(steps)), symbol)


@dataclass(slots=True)
class ScriptedOutlook:
    """Wants what the script says: bar time → side; otherwise 0."""

    symbol: str
    script: Mapping[int, int]
    looked: int = 0

    def look(
        self, candles: Candles, metrics: Mapping[str, StrategyMetrics], gains: Mapping[str, float], run_id: str
    ) -> View:
        self.looked += 1
        side = self.script.get(int(candles.time[-1]), 0)
        signals = {"scripted": (side, 1.0)}
        return View(
            self.symbol, candles, Regime.TRENDING.value, 1.0, {}, {"scripted": 1.0}, signals, float(side), side,
            shares_of({"scripted": 1.0}, signals), model_versions={"scripted": "scripted-1"},
            notes={} if side else {"scripted": f"silent: look {self.looked}"},
            new_notes={} if side else {"scripted": f"silent: look {self.looked}"},
        )  # fmt: skip

    def snapshot(self) -> dict[str, Any]:
        return {"looked": self.looked}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.looked = saved["looked"]


class Crash(BaseException):
    """The bot's process is gone at once."""


@dataclass(slots=True)
class Fuse:
    """Counts the points a kill can come at, and crashes at one of them."""

    at: int = -1
    passed: int = 0

    def point(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            raise Crash


@dataclass(slots=True)
class FusedStore:
    """A store whose process may die before and after every commit."""

    inner: Store
    fuse: Fuse

    @contextmanager
    def transaction(self) -> Iterator[Tx]:
        self.fuse.point()
        with self.inner.transaction() as tx:
            yield tx
            self.fuse.point()  # everything said, nothing committed
        self.fuse.point()

    def reading(self) -> Any:
        return self.inner.reading()


class FusedBroker:
    """A broker whose caller may die before a request leaves and after it took effect."""

    def __init__(self, inner: Broker, fuse: Fuse) -> None:
        self.venue = inner.venue
        self._inner = inner
        self._fuse = fuse

    def submit(self, order: Order) -> SubmitOutcome:
        self._fuse.point()
        outcome = self._inner.submit(order)
        self._fuse.point()
        return outcome

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@dataclass(slots=True)
class Stage:
    """A market and a venue that go on while traders come and go."""

    candles: Mapping[str, Candles]
    scripts: Mapping[str, Mapping[int, int]]
    config: TradingConfig = TradingConfig(bot_id="test", unclear_orders=UnclearOrders(lookups=1, seconds=0))
    store: Store = field(default_factory=MemoryStore)
    history: int = WARMUP + 10
    balances: Mapping[str, Decimal] = field(default_factory=lambda: {"USDT": Decimal(10_000)})
    instruments: dict[str, Instrument] = field(default_factory=dict)
    market: ReplayMarket = field(init=False)
    venue: SimulatedVenue = field(init=False)
    broker: PaperVenue = field(init=False)
    decisions: list[Decision] = field(default_factory=list)
    trader: Trader = field(init=False)

    def __post_init__(self) -> None:
        self.instruments = self.instruments or {symbol: instrument(symbol) for symbol in self.candles}
        self.market = ReplayMarket(self.candles, history=self.history)
        self.venue = SimulatedVenue(MemoryStore(), self.instruments, name="stage", balances=self.balances)
        self.broker = PaperVenue(self.market, self.venue, "1h")

    def make_trader(self, fuse: Fuse | None = None, broker: Broker | None = None) -> Trader:
        fuse = fuse or Fuse()
        store = FusedStore(self.store, fuse)
        tracker = PerformanceTracker(store)
        desk = OrderDesk(
            store, FusedBroker(broker or self.broker, fuse), self.instruments, self.config.unclear_orders, now
        )
        outlooks: Any = {s: ScriptedOutlook(s, self.scripts.get(s, {})) for s in self.candles}
        trader = Trader(
            config=self.config, store=store, desk=desk, outlooks=outlooks, shadows=ShadowShelf(["scripted"]),
            tracker=tracker, instruments=self.instruments, matching=MatchingConfig(), bar_ms=HOUR, warmup=WARMUP,
            threshold=0.2, run_id="run",
        )  # fmt: skip
        desk.on_trade, desk.annotate, desk.may_enter = trader.on_trade, trader.annotate, trader.may_enter
        self.trader = trader
        return trader

    def recover(self, trader: Trader) -> None:
        recover(trader, "USDT", Surroundings(self.market.now(), now, lambda seconds: None, lambda: "test"))

    def bars(self, late: bool = False) -> BarsClosed:
        """The bar that has just closed."""
        time = self.market.now() - HOUR
        return BarsClosed(time, windows_at(self.candles, time, HOUR, WARMUP), late)

    def live(self, fuse: Fuse | None = None, broker: Broker | None = None) -> Trader:
        """One life of the bot, to the end of the market or the fuse."""
        trader = self.make_trader(fuse, broker)
        self.recover(trader)
        while True:
            self.decisions += trader.on_bars(self.bars())
            try:
                self.market.advance()
            except MarketEnded:
                return trader

    def step(self, trader: Trader, *, late: bool = False, then: Callable[[], None] = lambda: None) -> list[Decision]:
        """Decide the bar that has closed, then let the next one close."""
        decisions = trader.on_bars(self.bars(late))
        then()
        self.market.advance()
        return decisions


def now() -> datetime:
    """A wall clock that stands still."""
    return datetime(2026, 1, 1, tzinfo=UTC)
