"""From candles available to order sent, without network: 3 symbols × 6 strategies; goal: median ≤ 3 ms, p99 ≤ 10 ms.

The real trader, strategies, detector, ensemble, risk and SQLite store (synchronous FULL); only the venue is one that
takes every order at once. Bars on which an order is sent are timed to the moment of sending, all others to the end.
Each commit waits for the disk, so the same path runs on a RAM disk too: the difference is the machine's. The windows
are the daemon's own, anchored: longer than the 500 bars the goal speaks of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks._figures import folders, goal, high_ms, median_ms, say, sync_seconds, times
from trading_bot.backtest.engine import windows_at
from trading_bot.bootstrap import build_trader, load_market
from trading_bot.domain.market import Candles
from trading_bot.exchange.paper_venue import PaperVenue
from trading_bot.exchange.replay import ReplayMarket, default_balances, instruments_from
from trading_bot.exchange.venue import SimulatedVenue
from trading_bot.settings import Settings, load_settings
from trading_bot.storage.store import open_store
from trading_bot.trading.events import BarsClosed
from trading_bot.trading.order_protocol import OrderDesk
from trading_bot.trading.recovery import Surroundings, recover
from trading_bot.trading.strategy import load_strategies
from trading_bot.trading.strategy_panel import StrategyPanel
from trading_bot.trading.trader import Trader

BARS = 800
HISTORY = 1200
HOPS: dict[str, tuple[type[Any], str]] = {
    "settle earlier orders": (Trader, "_settle_orders"),
    "snapshot to fall back on": (Trader, "snapshot"),
    "views: regime, weights, signals": (Trader, "_look"),
    "… of it strategies": (StrategyPanel, "answers"),
    "plan: risk, sizes": (Trader, "_plan"),
    "commit: decisions, intents, state": (Trader, "_commit"),
    "durable SENT, submit, book (an order)": (OrderDesk, "send"),
}


class TimedVenue(PaperVenue):
    """Notes when an order arrives."""

    sent_at: float = 0.0

    def submit(self, order: Any) -> Any:
        self.sent_at = self.sent_at or time.perf_counter()
        return super().submit(order)


def main() -> None:
    from loguru import logger

    settings = load_settings([], {"synthetic": {"bars": HISTORY + BARS + 100}, "bot_id": "bench"}, {})
    candles, _ = load_market(settings)
    strategies = load_strategies(Path(__file__).parent.parent / "strategies")
    say(f"{len(candles)} symbols × {len(strategies)} strategies, {BARS} bars")
    with folders() as places:
        for name, folder in places.items():
            logger.remove()
            logger.add(folder / "log.txt", level="DEBUG", format="{message}")
            say("")
            times(f"{name}: one sync", sync_seconds(folder))
            _measure(name, settings, candles, strategies, folder)
            logger.remove()


def _measure(
    name: str, settings: Settings, candles: Mapping[str, Candles], strategies: list[Any], folder: Path
) -> None:
    market = ReplayMarket(candles, history=HISTORY, max_bars=BARS)
    instruments = instruments_from(candles, settings.paper)
    store = open_store(f"sqlite:///{folder}/bench.sqlite")
    books = SimulatedVenue(
        open_store("sqlite://"), instruments, name="bench", balances=default_balances(list(candles), settings.paper)
    )
    venue = TimedVenue(market, books, market.timeframe)
    trader = build_trader(settings, store, venue, instruments, strategies, market.timeframe, "bench", "bench")
    recover(trader, "USDT", Surroundings(market.now(), trader.desk.now, lambda s: None, lambda: "bench"))
    spent: dict[str, list[float]] = {hop: [] for hop in HOPS}
    restore = [_timed(kind, method, spent[hop]) for hop, (kind, method) in HOPS.items()]
    total, processor, orders, lengths = [], [], [], []
    try:
        for _ in range(BARS):
            moment = market.now() - trader.bar_ms
            windows = windows_at(candles, moment, trader.bar_ms, trader.warmup)
            lengths.append(len(windows["BTC/USDT"]))
            venue.sent_at = 0.0
            began, busy = time.perf_counter(), time.thread_time()
            trader.on_bars(BarsClosed(moment, windows))
            ended = time.perf_counter()
            processor.append(time.thread_time() - busy)
            total.append((venue.sent_at or ended) - began)
            if venue.sent_at:
                orders.append(venue.sent_at - began)
            market.advance()
    finally:
        for put_back in restore:
            put_back()
        store.close()
    say(f"{name}: windows of {min(lengths)} to {max(lengths)} bars")
    goal(f"{name}: candle to decision or order, median", median_ms(total), "ms", most=3)
    goal(f"{name}: candle to decision or order, p99", high_ms(total), "ms", most=10)
    times("  processor time of a bar (waits left out)", processor)
    times("  bars with an order, to its sending", orders)
    for hop, seconds in spent.items():
        times(f"  {hop}", seconds)


def _timed(kind: type[Any], method: str, into: list[float]) -> Callable[[], None]:
    inner = getattr(kind, method)

    def timed(self: Any, *args: Any) -> Any:
        began = time.perf_counter()
        try:
            return inner(self, *args)
        finally:
            into.append(time.perf_counter() - began)

    setattr(kind, method, timed)
    return lambda: setattr(kind, method, inner)
