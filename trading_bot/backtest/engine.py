"""The same `Trader` over stored candles: bars come from arrays, orders are matched here, market time rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from trading_bot.backtest.report import summarise
from trading_bot.domain.market import Candles, anchor, timeframe_ms
from trading_bot.errors import ConfigurationError
from trading_bot.exchange.replay import ReplayMarket
from trading_bot.ports import MarketEnded, Store
from trading_bot.trading.events import BarsClosed
from trading_bot.trading.learning import Learner
from trading_bot.trading.recovery import Surroundings, recover
from trading_bot.trading.trader import Trader


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """`summary` is JSON-able; `store` holds every decision, order, fill and trade of the run."""

    summary: dict[str, Any]
    store: Store


def run(
    trader: Trader,
    market: ReplayMarket,
    candles: Mapping[str, Candles],
    quote: str,
    name: str,
    on_bar: Callable[[int, int], None] = lambda done, total: None,
    learner: Learner | None = None,
) -> BacktestResult:
    """Decide every bar of `market` from its present on, then sum up. With a `learner`, strategies are trained after
    the bars the daemon would train them after, on what it would have known."""
    recover(
        trader,
        quote,
        Surroundings(
            market_time=market.now(),
            now=lambda: datetime.fromtimestamp(market.now() / 1000, UTC),
            wait=lambda seconds: None,
            new_bot_id=lambda: "backtest",
        ),
    )
    total, done = market.remaining + 1, 0
    try:
        while True:
            close = market.next_close()
            windows = windows_at(candles, close - trader.bar_ms, trader.bar_ms, trader.warmup)
            if windows:
                time = close - trader.bar_ms
                trader.on_bars(BarsClosed(time, windows))
                if learner is not None and (trigger := learner.due(time)) is not None:
                    learner.take(learner.learn(candles, time, trigger))
            done += 1
            on_bar(done, total)
    except MarketEnded:
        pass
    return BacktestResult(summarise(trader, candles, name), trader.store)


def market_between(
    candles: Mapping[str, Candles], timerange: tuple[int | None, int | None], history: int, max_bars: int = 0
) -> ReplayMarket:
    """The candles as a market that decides from (inclusive) and to (exclusive) the closes of `timerange`, UTC ms.

    Without a beginning it begins after `history` bars, without an end it ends after `max_bars` more (0: with the
    candles).

    Raises
    ------
    ConfigurationError
        If nothing is left to decide.
    """
    begin, end = timerange
    bar_ms = timeframe_ms(next(iter(candles.values())).timeframe)
    closes = np.unique(np.concatenate([rows.time for rows in candles.values()])) + bar_ms
    past = history if begin is None else int(np.searchsorted(closes, begin)) + 1
    last = len(closes) if end is None else int(np.searchsorted(closes, end))
    if last <= past:
        raise ConfigurationError(
            f"nothing to backtest: of {len(closes)} bars {past} are history and the range ends at bar {last}; "
            "give a longer --timerange or a smaller market.history"
        )
    return ReplayMarket(candles, history=past, max_bars=max_bars if end is None else last - past)


def windows_at(candles: Mapping[str, Candles], time: int, bar_ms: int, warmup: int) -> dict[str, Candles]:
    """Each symbol's anchored window ending with the bar that opened at `time`; without that bar it is left out."""
    first = anchor(time, bar_ms, warmup)
    windows = {}
    for symbol, rows in candles.items():
        stop = int(rows.time.searchsorted(time, "right"))
        if stop and rows.time[stop - 1] == time:
            windows[symbol] = rows[int(rows.time.searchsorted(first)) : stop]
    return windows
