"""Backtests and trainings without a daemon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trading_bot.bootstrap.bot import build_learner, build_trader
from trading_bot.bootstrap.markets import load_market, stored_market
from trading_bot.bootstrap.selectors import promoted_selectors, selectors_of
from trading_bot.bootstrap.strategies import chosen_strategies, take_up_models
from trading_bot.bootstrap.venues import pairs_of, quote_of
from trading_bot.domain.market import Candles
from trading_bot.errors import ConfigurationError
from trading_bot.exchange.config import LOCAL
from trading_bot.settings import Settings

if TYPE_CHECKING:
    from trading_bot.backtest.engine import BacktestResult
    from trading_bot.domain.journal import Training


def run_backtest(
    settings: Settings,
    timerange: tuple[int | None, int | None] = (None, None),
    on_bar: Callable[[int, int], None] = lambda done, total: None,
    *,
    walk_forward: bool = False,
) -> BacktestResult:
    """The same trader over stored candles, orders matched in this process.

    Parameters
    ----------
    timerange
        Decide bars that close from (inclusive) and to (exclusive), UTC ms; None: after `market.history` bars, and to
        the end of the candles.
    on_bar
        Told after each bar how many of how many are done.
    walk_forward
        Begin without models and train them on the way, as the daemon would have; otherwise the strategies have the
        models that are in use now, which keep silent on what they have learned from.
    """
    from trading_bot.backtest.engine import market_between, run
    from trading_bot.exchange.paper_venue import PaperVenue
    from trading_bot.exchange.replay import default_balances, instruments_from
    from trading_bot.exchange.venue import SimulatedVenue
    from trading_bot.storage.store import open_store

    candles, name = load_market(settings) if settings.exchange.name == LOCAL else stored_market(settings)
    symbols = pairs_of(settings, tuple(candles))
    candles = {symbol: candles[symbol] for symbol in symbols}
    strategies = chosen_strategies(settings)
    promoted = promoted_selectors(settings)
    market = market_between(candles, timerange, settings.market.history, settings.market.max_bars)
    store, ledger = open_store("sqlite://"), open_store("sqlite://")
    instruments = instruments_from(candles, settings.paper)
    venue = SimulatedVenue(
        ledger,
        instruments,
        name="backtest",
        balances=default_balances(symbols, settings.paper),
        config=settings.matching,
    )
    broker = PaperVenue(market, venue, market.timeframe)
    trader = build_trader(
        settings, store, broker, instruments, strategies, market.timeframe, "backtest", "backtest",
        lambda: datetime.fromtimestamp(market.now() / 1000, UTC),
        selectors_of(settings, promoted, symbols, market.timeframe),
    )  # fmt: skip
    learner = None
    if walk_forward:
        learner = build_learner(
            settings, store, instruments, strategies, market.timeframe, "backtest",
            folder=None, executor="thread", now=trader.desk.now,
        )  # fmt: skip
        if learner is None:
            raise ConfigurationError("--walk-forward trains strategies; set learning.enabled to true")
    elif settings.learning.enabled:
        take_up_models(settings, strategies)
    return run(trader, market, candles, quote_of(settings, instruments), name, on_bar, learner)


def train_strategies(settings: Settings, until: int | None = None) -> list[Training]:
    """Train the strategies' models here, where no daemon runs, and put in force what is better.

    Parameters
    ----------
    until
        Open of the newest bar to learn from, UTC ms; by default the newest the account has dealt with, or of a market
        that is replayed and was not begun the last of its history, or of a real one the newest stored.

    Raises
    ------
    ConfigurationError
        If there is nothing to train, or nothing to learn from.
    AlreadyRunning
        If a daemon runs.
    """
    from trading_bot.exchange.replay import instruments_from
    from trading_bot.storage.lock import DataLock
    from trading_bot.storage.store import open_store
    from trading_bot.trading.memory import last_bar

    if not settings.learning.enabled:
        raise ConfigurationError("nothing is trained: learning.enabled is false; set it to true")
    candles, _ = load_market(settings) if settings.exchange.name == LOCAL else stored_market(settings)
    candles = {symbol: candles[symbol] for symbol in pairs_of(settings, tuple(candles))}
    timeframe = next(iter(candles.values())).timeframe
    run_id = f"training-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    with ExitStack() as stack:
        stack.enter_context(DataLock(settings.data_dir, run_id=run_id, db_url=settings.db_url))
        store = open_store(settings.database_url)
        stack.callback(store.close)
        strategies = chosen_strategies(settings)
        learner = build_learner(
            settings, store, instruments_from(candles, settings.paper), strategies, timeframe, run_id
        )
        if learner is None:
            raise ConfigurationError("nothing to train: no strategy is a rule of the strategy folder")
        time = _known_until(settings, candles, last_bar(store)) if until is None else until
        lesson = learner.learn(candles, time, "demand")
        return learner.take(lesson)


def _known_until(settings: Settings, candles: Mapping[str, Candles], dealt_with: int | None) -> int:
    """Open of the newest bar that may be learned from: a replay must not look into its own future."""
    import numpy as np

    times = np.unique(np.concatenate([rows.time for rows in candles.values()]))
    if dealt_with is not None:
        return dealt_with
    if settings.exchange.name != LOCAL:
        return int(times[-1])
    return int(times[min(settings.market.history, len(times)) - 1])
