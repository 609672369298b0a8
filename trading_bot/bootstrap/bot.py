"""Everything a daemon runs on, plugged together."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from trading_bot import __version__
from trading_bot.bootstrap.markets import candle_folder
from trading_bot.bootstrap.selectors import promoted_selectors, selectors_of
from trading_bot.bootstrap.strategies import chosen_strategies
from trading_bot.bootstrap.venues import Access, broker_of, build_candle_source, quote_of, traded
from trading_bot.domain.market import Instrument, timeframe_ms
from trading_bot.exchange.config import LOCAL
from trading_bot.logs import event
from trading_bot.settings import Settings, redacted

if TYPE_CHECKING:
    from trading_bot.domain.models import ModelVersion
    from trading_bot.market_data.cached_candles import CachedCandles
    from trading_bot.ports import Broker, MarketClock, Store
    from trading_bot.trading.learning import Learner
    from trading_bot.trading.strategy_selector import StrategySelector
    from trading_bot.trading.trader import Trader


@dataclass(slots=True)
class Bot:
    """Everything a daemon runs on."""

    settings: Settings
    store: Store
    trader: Trader
    feed: CachedCandles
    clock: MarketClock
    symbols: tuple[str, ...]
    timeframe: str
    bar_ms: int
    warmup: int
    quote: str
    market: str
    configuration: Mapping[str, Any]
    version: str = __version__
    candles_hash: str = ""
    models: Mapping[str, str] = field(default_factory=dict)  # strategy -> id of the model it began with
    learner: Learner | None = None
    pruned_day: int = -1


def new_bot_id() -> str:
    """A fresh first part for client order ids."""
    return f"tb{secrets.token_hex(2)}"


@contextmanager
def build_bot(settings: Settings, run_id: str) -> Iterator[Bot]:
    """A bot ready to recover; everything it opened is closed on the way out."""
    from trading_bot.domain.journal import CandleGap
    from trading_bot.market_data.cached_candles import CachedCandles
    from trading_bot.storage.store import open_store
    from trading_bot.trading.memory import last_bar

    with ExitStack() as stack:
        store = open_store(settings.database_url)  # first: what is promoted stands in tables of today
        stack.callback(store.close)
        strategies = chosen_strategies(settings)  # the user's own mistakes before anything is started
        promoted = promoted_selectors(settings)
        access = stack.enter_context(build_candle_source(settings, last_bar(store), owner=True))
        broker = broker_of(settings, store, access)
        instruments = traded(broker, access.symbols)
        learner = build_learner(settings, store, instruments, strategies, access.timeframe, run_id)
        selectors = selectors_of(settings, promoted, instruments, access.timeframe)
        trader = build_trader(
            settings, store, broker, instruments, strategies, access.timeframe, run_id, selectors=selectors
        )

        def record_gap(gap: CandleGap) -> None:
            event("candles", f"{gap.symbol} {gap.timeframe}", "gap: the venue has no bars here", level="WARNING",
                  start=_utc(gap.start), end=_utc(gap.end))  # fmt: skip
            with store.transaction() as tx:
                tx.add(gap)

        feed = CachedCandles(
            access.source,
            candle_folder(settings, access.candles_hash),
            now=access.clock.now,
            on_gap=record_gap,
            history=max(settings.market.history, trader.warmup + 600, learned_bars(settings, access)),
        )
        yield Bot(
            settings=settings,
            store=store,
            trader=trader,
            feed=feed,
            clock=access.clock,
            symbols=access.symbols,
            timeframe=access.timeframe,
            bar_ms=trader.bar_ms,
            warmup=trader.warmup,
            quote=quote_of(settings, instruments),
            market=access.market,
            configuration=redacted(settings),
            candles_hash=access.candles_hash,
            models=_in_use(strategies, learner, promoted, selectors),
            learner=learner,
        )


def _in_use(
    strategies: list[Any],
    learner: Learner | None,
    promoted: Sequence[ModelVersion],
    selectors: Mapping[str, StrategySelector],
) -> dict[str, str]:
    """Ids of the models in use, by the name they were promoted under."""
    from trading_bot.trading.strategy import model_version_of

    selecting = {selector.model_version for selector in selectors.values()}
    return {
        **{each.name: version for each in strategies if (version := model_version_of(each)) is not None},
        **{version.strategy: version.id for version in promoted if version.id in selecting},
        **(learner.in_use if learner is not None else {}),
    }


def build_trader(
    settings: Settings,
    store: Store,
    broker: Broker,
    instruments: Mapping[str, Instrument],
    strategies: list[Any],
    timeframe: str,
    run_id: str,
    mode: str = "",
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    selectors: Mapping[str, StrategySelector] = MappingProxyType({}),
) -> Trader:
    """The decision loop over any store and broker: the same for a daemon and a backtest.

    `selectors` are by symbol, for the ensemble's method trm.
    """
    from trading_bot.features.compute import SETTLED
    from trading_bot.learn.dynamic_ensemble import DynamicEnsemble, RegimeDetector
    from trading_bot.learn.performance_tracker import PerformanceTracker
    from trading_bot.trading.order_protocol import OrderDesk
    from trading_bot.trading.shadow import ShadowShelf
    from trading_bot.trading.strategy_panel import StrategyPanel
    from trading_bot.trading.trader import Trader
    from trading_bot.trading.views import Outlook

    detector = RegimeDetector(settings.regime)
    panel = StrategyPanel(strategies)
    desk = OrderDesk(store, broker, instruments, settings.unclear_orders, now)
    trader = Trader(
        config=settings,
        store=store,
        desk=desk,
        outlooks={
            symbol: Outlook(
                symbol, panel, detector, DynamicEnsemble(strategies, detector, settings.ensemble), selectors.get(symbol)
            )
            for symbol in instruments
        },
        shadows=ShadowShelf([strategy.name for strategy in strategies]),
        tracker=PerformanceTracker(store, settings.ensemble.window),
        instruments=instruments,
        matching=settings.matching,
        bar_ms=timeframe_ms(timeframe),
        warmup=max(
            [
                detector.warmup,
                settings.risk.atr_period * 37,
                SETTLED if settings.learning.enabled else 0,
                *(strategy.warmup for strategy in strategies),
                *(selector.warmup for selector in selectors.values()),
            ]
        ),
        threshold=settings.ensemble.threshold,
        run_id=run_id,
        mode=mode or settings.mode,
    )
    desk.on_trade, desk.annotate, desk.may_enter = trader.on_trade, trader.annotate, trader.may_enter
    return trader


def build_learner(
    settings: Settings,
    store: Store,
    instruments: Mapping[str, Instrument],
    strategies: list[Any],
    timeframe: str,
    run_id: str,
    **differing: Any,
) -> Learner | None:
    """Learning for the rules among the strategies; None where it is switched off or there is none.

    `differing` are fields of `Learner`, for a backtest.
    """
    from trading_bot.learn.model_registry import models_folder
    from trading_bot.trading.learning import Learner
    from trading_bot.trading.meta_labelled import MetaLabelled

    rules = [strategy for strategy in strategies if isinstance(strategy, MetaLabelled)]
    if not rules:
        return None
    fields = {"folder": models_folder(settings.data_dir), **differing}
    return Learner(
        strategies=rules,
        store=store,
        instruments=instruments,
        matching=settings.matching,
        config=settings.learning,
        timeframe=timeframe,
        run_id=run_id,
        **fields,
    )


def learned_bars(settings: Settings, access: Access) -> int:
    """Bars of a real venue that trainings look at; a replay shows only those it has replayed."""
    if not settings.learning.enabled or settings.exchange.name == LOCAL:
        return 0
    return settings.learning.train_bars + 600


def _utc(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M")
