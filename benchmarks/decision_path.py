"""From candles available to order sent, without network: 3 symbols × 6 strategies; goal: median ≤ 3 ms, p99 ≤ 10 ms.

The real trader, strategies, detector, ensemble, risk and SQLite store (synchronous FULL); only the venue is one that
takes every order at once. Bars on which an order is sent are timed to the moment of sending, all others to the end.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trading_bot.backtest.engine import windows_at
from trading_bot.bootstrap import build_trader, load_market
from trading_bot.exchange.paper_venue import PaperVenue
from trading_bot.exchange.replay import ReplayMarket, default_balances, instruments_from
from trading_bot.exchange.venue import SimulatedVenue
from trading_bot.settings import load_settings
from trading_bot.storage.store import open_store
from trading_bot.trading.events import BarsClosed
from trading_bot.trading.recovery import Surroundings, recover
from trading_bot.trading.strategy import load_strategies

BARS = 800
HOPS = {
    "settle orders": ("_settle_orders",),
    "views (regime, weights, signals)": ("_look",),
    "plan (risk, sizes)": ("_plan",),
    "commit (decisions, intents, state)": ("_commit",),
}


class TimedVenue(PaperVenue):
    """Notes when an order arrives."""

    sent_at: float = 0.0

    def submit(self, order: Any) -> Any:
        self.sent_at = self.sent_at or time.perf_counter()
        return super().submit(order)


def main() -> None:
    from loguru import logger

    logger.remove()
    settings = load_settings([], {"synthetic": {"bars": BARS + 800}, "bot_id": "bench"})
    candles, _ = load_market(settings)
    strategies = load_strategies(settings.strategy_path)
    with tempfile.TemporaryDirectory() as folder:
        logger.add(Path(folder) / "log.txt", level="DEBUG")
        _measure(settings, candles, strategies, Path(folder))
        logger.remove()


def _measure(settings: Any, candles: Any, strategies: list[Any], folder: Path) -> None:
    market = ReplayMarket(candles, history=700, max_bars=BARS)
    instruments = instruments_from(candles, settings.paper)
    store = open_store(f"sqlite:///{folder}/bench.sqlite")
    books = SimulatedVenue(
        open_store("sqlite://"), instruments, name="bench", balances=default_balances(candles, settings.paper)
    )
    venue = TimedVenue(market, books, market.timeframe)
    trader = build_trader(settings, store, venue, instruments, strategies, market.timeframe, "bench", "bench")
    now = trader.desk.now
    recover(trader, "USDT", Surroundings(market.now(), now, lambda s: None, lambda: "bench"))
    spent: dict[str, list[float]] = {hop: [] for hop in HOPS}
    restore = [_timed(trader, method, spent[hop]) for hop, methods in HOPS.items() for method in methods]
    total, orders = [], []
    for _ in range(BARS):
        moment = market.now() - trader.bar_ms
        windows = {s: c.tail(500) for s, c in windows_at(candles, moment, trader.bar_ms, trader.warmup).items()}
        trader.warmup = min(trader.warmup, 500)
        venue.sent_at = 0.0
        began = time.perf_counter()
        trader.on_bars(BarsClosed(moment, windows))
        ended = time.perf_counter()
        total.append((venue.sent_at or ended) - began)
        if venue.sent_at:
            orders.append(venue.sent_at - began)
        market.advance()
    for put_back in restore:
        put_back()
    print(
        f"   {len(candles)} symbols × {len(strategies)} strategies × 500 bars, {BARS} bars, {len(orders)} sent orders"
    )
    _row("candle to decision or order", total)
    _row("candle to order (bars with one)", orders)
    for hop, times in spent.items():
        _row(f"  {hop}", times)
    store.close()


def _timed(trader: Any, method: str, into: list[float]) -> Callable[[], None]:
    kind = type(trader)
    inner = getattr(kind, method)

    def timed(self: Any, *args: Any) -> Any:
        began = time.perf_counter()
        try:
            return inner(self, *args)
        finally:
            into.append(time.perf_counter() - began)

    setattr(kind, method, timed)
    return lambda: setattr(kind, method, inner)


def _row(name: str, seconds: list[float]) -> None:
    if seconds:
        median, high = np.median(seconds) * 1000, np.percentile(seconds, 99) * 1000
        print(f"   {name:<38} median {median:6.2f} ms   p99 {high:6.2f} ms")
