"""The shape of the configuration: every section and key, and what must agree between sections."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from trading_bot.exchange.config import LOCAL, ExchangeConfig, MarketConfig, PaperConfig
from trading_bot.learn.config import EnsembleConfig, LearningConfig, NeuralConfig, RegimeConfig
from trading_bot.logs import LoggingConfig
from trading_bot.market_data.config import SyntheticConfig
from trading_bot.matching import MatchingConfig
from trading_bot.trading.config import TradingConfig

PREFIX = "TRADING_BOT__"


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """How often the daemon does what, in seconds of the wall clock unless said otherwise."""

    heartbeat_seconds: float = 60.0
    poll_seconds: float = 5.0  # orders and fills
    reconcile_seconds: float = 300.0  # balances and open orders compared with the venue's
    candle_delay_seconds: float = 2.0  # patience after a bar closes before it is asked for
    retention_days: int = 365  # decisions and equity points older than this (market time) are pruned
    shutdown_seconds: float = 8.0  # a stop that takes longer is forced

    def __post_init__(self) -> None:
        for name, low, high in (
            ("heartbeat_seconds", 0.1, 86_400),
            ("poll_seconds", 0.01, 3_600),
            ("reconcile_seconds", 0.1, 86_400),
            ("candle_delay_seconds", 0, 600),
            ("retention_days", 1, 100_000),
            ("shutdown_seconds", 0.5, 60),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"service.{name} should be between {low} and {high}, is {getattr(self, name):g}")


@dataclass(frozen=True, kw_only=True)
class Settings(TradingConfig):
    """The whole configuration; freqtrade's keys stand at the top, every component has its section."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "allow_inf_nan": False}

    data_dir: Path = Path("data")
    db_url: str | None = field(default=None, repr=False)  # None: SQLite in data_dir
    db_password_file: Path | None = None  # the password for db_url stands in this file, not in the URL
    logfile: Path = Path("logs/bot_debug.log")
    strategy_path: Path = Path("strategies")
    strategies: tuple[str, ...] = ()  # empty: every one found
    live_trading_confirmed: bool = False
    exchange: ExchangeConfig = ExchangeConfig()
    market: MarketConfig = MarketConfig()
    synthetic: SyntheticConfig = SyntheticConfig()
    paper: PaperConfig = PaperConfig()
    matching: MatchingConfig = MatchingConfig()
    regime: RegimeConfig = RegimeConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    neural: NeuralConfig = NeuralConfig()
    learning: LearningConfig = LearningConfig()
    logging: LoggingConfig = LoggingConfig()
    service: ServiceConfig = ServiceConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        for pair in (*self.exchange.pair_whitelist, *self.exchange.pair_blacklist):
            if pair.count("/") != 1:
                raise ValueError(f"exchange.pair_whitelist wants symbols such as 'BTC/USDT', found {pair!r}")
        if self.exchange.name == LOCAL:
            return
        if not self.exchange.pair_whitelist:
            raise ValueError(
                f"exchange.pair_whitelist is empty; with exchange.name {self.exchange.name!r} wanted the pairs to trade"
            )
        if self.timeframe is None:
            raise ValueError(f"timeframe is not set; with exchange.name {self.exchange.name!r} wanted one such as '1h'")
        if self.is_live and not self.live_trading_confirmed:
            raise ValueError(
                f"live_trading_confirmed is false, but exchange.name {self.exchange.name!r} with orders 'exchange' and "
                "sandbox false trades real money; set live_trading_confirmed: true if that is what you want, "
                "or exchange.orders: paper"
            )

    @property
    def is_live(self) -> bool:
        """Whether orders of this configuration cost real money."""
        return self.exchange.name != LOCAL and self.exchange.orders == "exchange" and not self.exchange.sandbox

    @property
    def mode(self) -> str:
        """One of paper, paper-venue, sandbox, live: a word for banners and the log, nothing branches on it."""
        if self.exchange.orders == "paper":
            return "paper-venue"
        if self.exchange.name == LOCAL:
            return "paper"
        return "sandbox" if self.exchange.sandbox else "live"

    @property
    def database_url(self) -> str:
        """Where the store is: `db_url`, or SQLite in the data directory."""
        return self.db_url or f"sqlite:///{self.data_dir / 'trading_bot.sqlite'}"


@functools.cache
def known_keys() -> Mapping[str, Any]:
    """The tree of keys: section name -> its tree, key -> its type."""
    return _tree(Settings)


def _tree(section: type) -> dict[str, Any]:
    hints = typing.get_type_hints(section)
    return {
        item.name: _tree(hints[item.name]) if dataclasses.is_dataclass(hints[item.name]) else hints[item.name]
        for item in dataclasses.fields(section)
    }


def places(known: Mapping[str, Any], at: str = "") -> list[str]:
    return [
        place
        for key, below in known.items()
        for place in (f"{at}{key}", *(places(below, f"{at}{key}.") if isinstance(below, dict) else ()))
    ]
