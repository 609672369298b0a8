"""Candles, clock and broker of the venue that the configuration names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trading_bot.bootstrap.markets import exchange_state, exchange_yaml, venue_name
from trading_bot.domain.market import Instrument, timeframe_ms
from trading_bot.errors import ConfigurationError
from trading_bot.exchange.config import LOCAL
from trading_bot.logs import register_secret
from trading_bot.settings import Settings

if TYPE_CHECKING:
    from trading_bot.exchange.paper_venue import PriceSource
    from trading_bot.ports import Broker, MarketClock, Store


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
        yield Access(client, source, clock, pairs_of(settings, listed), timeframe, market, candles)


_Reached = tuple[Any, "MarketClock", tuple[str, ...], str, str, str]  # client, clock, symbols, timeframe, market, hash


def _reach_local(settings: Settings, stack: ExitStack, last_bar: int | None, owner: bool) -> _Reached:
    from trading_bot.exchange.ccxt_client import build_client
    from trading_bot.exchange.local_control import LocalControl
    from trading_bot.exchange.local_process import running_exchange
    from trading_bot.exchange.market_clock import LocalExchangeClock

    server = stack.enter_context(running_exchange(exchange_state(settings), exchange_yaml(settings), owner=owner))
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


def broker_of(settings: Settings, store: Store, access: Access) -> Broker:
    """The venue itself, or the paper venue: its candles and filters, orders matched here, its ledger in our store."""
    from trading_bot.exchange.ccxt_broker import CcxtBroker

    exchange = CcxtBroker(access.client, venue_name(settings))
    if settings.exchange.orders == "exchange":
        return exchange
    from trading_bot.exchange.paper_venue import PaperVenue
    from trading_bot.exchange.replay import default_balances
    from trading_bot.exchange.venue import SimulatedVenue

    venue = SimulatedVenue(
        store,
        traded(exchange, access.symbols),
        name="paper",
        balances=default_balances(access.symbols, settings.paper),
        config=settings.matching,
    )
    return PaperVenue(access.source, venue, access.timeframe)


def pairs_of(settings: Settings, listed: tuple[str, ...]) -> tuple[str, ...]:
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


def traded(broker: Broker, symbols: tuple[str, ...]) -> dict[str, Instrument]:
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


def quote_of(settings: Settings, instruments: Mapping[str, Instrument]) -> str:
    """The one currency the account trades in."""
    quote = next(iter(instruments.values())).quote
    if settings.stake_currency not in (None, quote):
        raise ConfigurationError(
            f"stake_currency is {settings.stake_currency}, but the pairs are quoted in {quote}; make them agree"
        )
    return quote
