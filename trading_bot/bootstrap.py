"""Settings → Bot: the only file that names concrete classes. It imports inside functions, so that a verb that only
reads the database never loads ccxt or pandas."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trading_bot import __version__
from trading_bot.domain.market import Candles, Instrument, hash_of, timeframe_ms
from trading_bot.errors import ConfigurationError
from trading_bot.exchange.config import LOCAL
from trading_bot.logs import event, register_secret
from trading_bot.settings import Settings, redacted

if TYPE_CHECKING:
    from trading_bot.backtest.engine import BacktestResult
    from trading_bot.domain.models import ModelVersion
    from trading_bot.exchange.paper_venue import PriceSource
    from trading_bot.exchange.simulator.exchange import LocalExchange
    from trading_bot.exchange.simulator.server import ServerInfo
    from trading_bot.market_data.cached_candles import CachedCandles
    from trading_bot.ports import Broker, MarketClock, Store
    from trading_bot.trading.neural_forecast import NeuralForecast
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
    models: Mapping[str, str] = field(default_factory=dict)  # strategy -> id of the model it has
    pruned_day: int = -1


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the venue."""

    client: Any  # a ccxt exchange
    source: PriceSource
    clock: MarketClock
    symbols: tuple[str, ...]
    timeframe: str
    market: str
    candles_hash: str = ""


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
    from trading_bot.trading.strategy import model_version_of

    with ExitStack() as stack:
        store = open_store(settings.database_url)  # first: what is promoted stands in tables of today
        stack.callback(store.close)
        strategies = _strategies(settings)  # the user's own mistakes before anything is started
        access = stack.enter_context(build_candle_source(settings, last_bar(store), owner=True))
        broker = _broker(settings, store, access)
        instruments = _traded(broker, access.symbols)
        trader = build_trader(settings, store, broker, instruments, strategies, access.timeframe, run_id)

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
            history=max(settings.market.history, trader.warmup + 600),
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
            quote=_quote(settings, instruments),
            market=access.market,
            configuration=redacted(settings),
            candles_hash=access.candles_hash,
            models={s.name: version for s in strategies if (version := model_version_of(s)) is not None},
        )


def _quote(settings: Settings, instruments: Mapping[str, Instrument]) -> str:
    """The one currency the account trades in."""
    quote = next(iter(instruments.values())).quote
    if settings.stake_currency not in (None, quote):
        raise ConfigurationError(
            f"stake_currency is {settings.stake_currency}, but the pairs are quoted in {quote}; make them agree"
        )
    return quote


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
) -> Trader:
    """The decision loop over any store and broker: the same for a daemon and a backtest."""
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
            symbol: Outlook(symbol, panel, detector, DynamicEnsemble(strategies, detector, settings.ensemble))
            for symbol in instruments
        },
        shadows=ShadowShelf([strategy.name for strategy in strategies]),
        tracker=PerformanceTracker(store, settings.ensemble.window),
        instruments=instruments,
        matching=settings.matching,
        bar_ms=timeframe_ms(timeframe),
        warmup=max([detector.warmup, settings.risk.atr_period * 37, *(strategy.warmup for strategy in strategies)]),
        threshold=settings.ensemble.threshold,
        run_id=run_id,
        mode=mode or settings.mode,
    )
    desk.on_trade, desk.annotate, desk.may_enter = trader.on_trade, trader.annotate, trader.may_enter
    return trader


def _strategies(settings: Settings) -> list[Any]:
    """The strategies of the folder, then the networks that were promoted; `strategies` chooses among both."""
    from trading_bot.domain.models import ModelStatus
    from trading_bot.trading.strategy import load_strategies

    versions = _versions(settings) if settings.neural.enabled else []
    champions = {version.strategy: version for version in versions if version.status is ModelStatus.CHAMPION}
    wanted = list(settings.strategies)
    networks = [name for name in champions if not wanted or name in wanted]
    files = [name for name in wanted if name not in champions]
    for name in files:
        if any(v.strategy == name for v in versions) and not (settings.strategy_path / f"{name}.py").is_file():
            raise ConfigurationError(
                f"strategies has {name!r}, a trained network that has not been promoted; `trading-bot models promote` "
                "does that"
            )
    strategies = load_strategies(settings.strategy_path, files or None) if files or not wanted else []
    taken = {strategy.name for strategy in strategies}
    for name in networks:
        if name in taken or (settings.strategy_path / f"{name}.py").is_file():
            raise ConfigurationError(
                f"strategy {name!r} is a file and a promoted network too; rename the file, or train the network under "
                "another --strategy"
            )
    return [*strategies, *(_network(settings, champions[name]) for name in networks)]


def _versions(settings: Settings) -> list[ModelVersion]:
    """The registered models; none where there is no database yet. One that cannot be read is an error: a backtest
    without the networks it should have had would be taken for one with them."""
    from trading_bot.errors import NoDatabase
    from trading_bot.learn.model_registry import versions
    from trading_bot.storage.store import open_readonly

    try:
        store = open_readonly(settings.database_url)
    except NoDatabase:
        return []
    with closing(store):
        return versions(store)


def _network(settings: Settings, version: ModelVersion) -> NeuralForecast:
    import torch

    from trading_bot.learn.model_registry import models_folder
    from trading_bot.trading.neural_forecast import load_network

    torch.set_num_threads(1)  # a window at a time is too little to share, and one thread's sums have one order
    return load_network(models_folder(settings.data_dir), version, settings.neural.max_age_days)


# ── venues ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def build_candle_source(settings: Settings, last_bar: int | None = None, *, owner: bool = False) -> Iterator[Access]:
    """Candles and clock as the configuration plugs them together.

    Parameters
    ----------
    last_bar
        Open time of the newest bar an earlier life dealt with, ms.
    owner
        Whether a local exchange that is found running already is ours to stop on the way out.
    """
    from trading_bot.exchange.ccxt_client import asking_for_rows
    from trading_bot.market_data.ccxt_candles import CcxtCandles

    with ExitStack() as stack:
        reach = _reach_local if settings.exchange.name == LOCAL else _reach_remote
        client, clock, listed, timeframe, market, candles = reach(settings, stack, last_bar, owner)
        source = CcxtCandles(client, clock.now, lambda action: asking_for_rows(client, action))
        yield Access(client, source, clock, _pairs(settings, listed), timeframe, market, candles)


_Reached = tuple[Any, "MarketClock", tuple[str, ...], str, str, str]  # client, clock, symbols, timeframe, market, hash


def _reach_local(settings: Settings, stack: ExitStack, last_bar: int | None, owner: bool) -> _Reached:
    from trading_bot.exchange.ccxt_client import build_client
    from trading_bot.exchange.local_control import LocalControl
    from trading_bot.exchange.local_process import running_exchange
    from trading_bot.exchange.market_clock import LocalExchangeClock

    server = stack.enter_context(running_exchange(exchange_state(settings), _exchange_yaml(settings), owner=owner))
    register_secret(server.secret)
    control = LocalControl(server.url)
    info = control.get("info")
    control.close()
    timeframe = info["timeframe"]
    if settings.timeframe not in (None, timeframe):
        raise ConfigurationError(
            f"timeframe is {settings.timeframe!r}, but the local exchange replays {timeframe!r} candles; "
            "leave timeframe out or give candles of that timeframe"
        )
    last_close = None if last_bar is None else last_bar + timeframe_ms(timeframe)
    clock = LocalExchangeClock(server.url, info["pace"] == "lockstep", last_close)
    stack.callback(clock.close)
    client = build_client(settings.exchange, server.url, server.key, server.secret)
    return client, clock, tuple(info["symbols"]), timeframe, info["name"], info["candles_hash"]


def _reach_remote(settings: Settings, stack: ExitStack, last_bar: int | None, owner: bool) -> _Reached:
    from trading_bot.exchange.ccxt_client import build_client, seconds_ahead
    from trading_bot.exchange.market_clock import WallClock

    assert settings.timeframe is not None  # Settings refuses to be without
    client = build_client(settings.exchange)
    clock = WallClock(settings.timeframe, settings.service.candle_delay_seconds, ahead=lambda: seconds_ahead(client))
    stack.callback(clock.close)
    return client, clock, settings.exchange.pair_whitelist, settings.timeframe, settings.exchange.name, ""


def _broker(settings: Settings, store: Store, access: Access) -> Broker:
    """The venue itself, or the paper venue: its candles and filters, orders matched here, its ledger in our store."""
    from trading_bot.exchange.ccxt_broker import CcxtBroker

    exchange = CcxtBroker(access.client, _venue_name(settings))
    if settings.exchange.orders == "exchange":
        return exchange
    from trading_bot.exchange.paper_venue import PaperVenue
    from trading_bot.exchange.replay import default_balances
    from trading_bot.exchange.venue import SimulatedVenue

    venue = SimulatedVenue(
        store,
        _traded(exchange, access.symbols),
        name="paper",
        balances=default_balances(access.symbols, settings.paper),
        config=settings.matching,
    )
    return PaperVenue(access.source, venue, access.timeframe)


def _pairs(settings: Settings, listed: tuple[str, ...]) -> tuple[str, ...]:
    wanted = settings.exchange.pair_whitelist or listed
    unknown = sorted(set(wanted) - set(listed))
    if unknown:
        raise ConfigurationError(
            f"exchange.pair_whitelist has {unknown[0]}, but this market lists {', '.join(listed)}; choose from these"
        )
    pairs = tuple(pair for pair in wanted if pair not in settings.exchange.pair_blacklist)
    if not pairs:
        raise ConfigurationError("exchange.pair_blacklist leaves no pair to trade; take one out")
    return pairs


def _traded(broker: Broker, symbols: tuple[str, ...]) -> dict[str, Instrument]:
    """The instruments of the traded pairs, all in one quote currency."""
    listed = broker.instruments()
    missing = [symbol for symbol in symbols if symbol not in listed]
    if missing:
        raise ConfigurationError(
            f"{missing[0]} is not traded at {broker.venue}; take it out of exchange.pair_whitelist"
        )
    quotes = sorted({listed[symbol].quote for symbol in symbols})
    if len(quotes) > 1:
        raise ConfigurationError(
            f"pair_whitelist mixes quote currencies {', '.join(quotes)}; one account trades in one"
        )
    return {symbol: listed[symbol] for symbol in symbols}


# ── the local exchange ─────────────────────────────────────────────────────────────────────────────────────────────


def load_market(settings: Settings) -> tuple[dict[str, Candles], str]:
    """The candles the local exchange replays, by symbol, and the market's name."""
    if settings.market.candles == "synthetic":
        from trading_bot.market_data.synthetic import SyntheticMarket

        market = SyntheticMarket(settings.synthetic)
        return {s: market.candles(s, market.timeframe) for s in market.symbols}, market.describe()
    from trading_bot.market_data.file_candles import FileCandles

    given = settings.market.candles
    files = FileCandles([Path(path) for path in ((given,) if isinstance(given, str) else given)])
    return dict(files.all()), files.describe()


def make_exchange(settings: Settings) -> LocalExchange:
    """The local exchange, continuing whatever its state folder holds."""
    from trading_bot.exchange.replay import ReplayMarket, default_balances, instruments_from
    from trading_bot.exchange.simulator.exchange import LocalExchange
    from trading_bot.exchange.venue import SimulatedVenue
    from trading_bot.storage.store import open_store

    candles, name = load_market(settings)
    market = ReplayMarket(candles, history=settings.market.history, max_bars=settings.market.max_bars)
    store = open_store(f"sqlite:///{exchange_state(settings) / 'exchange.sqlite'}")
    _keep_to_one_market(store, candles, name, exchange_state(settings))
    venue = SimulatedVenue(
        store,
        instruments_from(candles, settings.paper),
        name=LOCAL,
        balances=default_balances(market.symbols, settings.paper),
        config=settings.matching,
    )
    pace = settings.market.candles_per_second
    return LocalExchange(market, venue, name=name, candles_per_second=pace, candles_hash=hash_of(candles))


def _keep_to_one_market(store: Store, candles: Mapping[str, Candles], name: str, state: Path) -> None:
    """An account traded on one market's prices must not go on at another's. A file may grow, its beginning stays."""
    from trading_bot.domain.journal import Snapshot

    mine = hash_of(candles, bars=100)
    with store.transaction() as tx:
        tx.add(Snapshot("market", {"hash": mine, "name": name}))
        known = tx.get(Snapshot, "market")
    if known is not None and known.value["hash"] != mine:
        raise ConfigurationError(
            f"{state} holds an account on another market ({known.value['name']}), market.candles now gives {name}; "
            "use another data_dir, or `trading-bot reset` for a new paper account"
        )


def exchange_state(settings: Settings) -> Path:
    """Folder of the local exchange's state."""
    return settings.data_dir / "exchange"


def serve_exchange(settings: Settings, on_ready: Callable[[ServerInfo], None] = lambda info: None) -> int:
    """Run the local exchange in this process until it is stopped; the exit code."""
    from trading_bot.exchange.simulator.server import serve

    serve(exchange_state(settings), lambda: make_exchange(settings), settings.market.port, on_ready)
    return 0


def _exchange_yaml(settings: Settings) -> str:
    """The part of the configuration that the local exchange reads, with absolute paths."""
    import yaml

    values = redacted(settings)
    given = settings.market.candles
    if given != "synthetic":
        paths = [given] if isinstance(given, str) else list(given)
        values["market"]["candles"] = [str(Path(path).resolve()) for path in paths]
    wanted = {name: values[name] for name in ("market", "synthetic", "paper", "matching")}
    wanted["data_dir"] = str(settings.data_dir.resolve())
    wanted["logfile"] = str(exchange_state(settings).resolve() / "exchange.log")
    return yaml.safe_dump(wanted, sort_keys=True)


# ── backtests ──────────────────────────────────────────────────────────────────────────────────────────────────────


def run_backtest(
    settings: Settings,
    timerange: tuple[int | None, int | None] = (None, None),
    on_bar: Callable[[int, int], None] = lambda done, total: None,
) -> BacktestResult:
    """The same trader over stored candles, orders matched in this process.

    Parameters
    ----------
    timerange
        Decide bars that close from (inclusive) and to (exclusive), UTC ms; None: after `market.history` bars, and to
        the end of the candles.
    on_bar
        Told after each bar how many of how many are done.
    """
    from trading_bot.backtest.engine import market_between, run
    from trading_bot.exchange.paper_venue import PaperVenue
    from trading_bot.exchange.replay import default_balances, instruments_from
    from trading_bot.exchange.venue import SimulatedVenue
    from trading_bot.storage.store import open_store

    candles, name = load_market(settings) if settings.exchange.name == LOCAL else stored_market(settings)
    symbols = _pairs(settings, tuple(candles))
    candles = {symbol: candles[symbol] for symbol in symbols}
    strategies = _strategies(settings)
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
    )  # fmt: skip
    return run(trader, market, candles, _quote(settings, instruments), name, on_bar)


def stored_market(settings: Settings, pairs: tuple[str, ...] | None = None) -> tuple[dict[str, Candles], str]:
    """Candles of a real venue that `download-data` (or the daemon) has stored; of all configured pairs, or of these."""
    from trading_bot.market_data.file_candles import FileCandles

    folder = candle_folder(settings)
    wanted = pairs or settings.exchange.pair_whitelist
    paths = [folder / f"{pair.replace('/', '_')}-{settings.timeframe}.feather" for pair in wanted]
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise ConfigurationError(f"no stored candles {missing[0]}; fetch them with `trading-bot download-data`")
    files = FileCandles(paths)
    return dict(files.all()), settings.exchange.name


def candle_folder(settings: Settings, candles_hash: str = "") -> Path:
    """Where the candles of one market are kept; two replays with the same symbols must not share a folder."""
    name = _venue_name(settings)
    return settings.data_dir / "candles" / (f"{name}-{candles_hash[:8]}" if candles_hash else name)


def _venue_name(settings: Settings) -> str:
    """A sandbox is a venue of its own: neither its account nor its prices are those of the real one."""
    exchange = settings.exchange
    return f"{exchange.name}-sandbox" if exchange.sandbox and exchange.name != LOCAL else exchange.name


def _utc(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M")
