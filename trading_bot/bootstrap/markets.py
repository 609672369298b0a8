"""Stored candles, and the local exchange that replays them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trading_bot.domain.market import Candles, hash_of
from trading_bot.errors import ConfigurationError
from trading_bot.exchange.config import LOCAL
from trading_bot.settings import Settings, redacted

if TYPE_CHECKING:
    from trading_bot.exchange.simulator.exchange import LocalExchange
    from trading_bot.exchange.simulator.server import ServerInfo
    from trading_bot.ports import Store


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


def exchange_yaml(settings: Settings) -> str:
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
    name = venue_name(settings)
    return settings.data_dir / "candles" / (f"{name}-{candles_hash[:8]}" if candles_hash else name)


def venue_name(settings: Settings) -> str:
    """A sandbox is a venue of its own: neither its account nor its prices are those of the real one."""
    exchange = settings.exchange
    return f"{exchange.name}-sandbox" if exchange.sandbox and exchange.name != LOCAL else exchange.name
