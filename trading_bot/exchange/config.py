"""What the user may set about where orders go and what the local exchange replays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr

LOCAL = "local"


@dataclass(frozen=True, kw_only=True)
class ExchangeConfig:
    """`name: local` is the exchange that comes with the bot; any other name is a ccxt id."""

    name: str = LOCAL
    orders: Literal["exchange", "paper"] = "exchange"  # paper: the venue's candles, orders matched in this process
    sandbox: bool = False
    key: SecretStr | None = None
    secret: SecretStr | None = None
    password: SecretStr | None = None
    credentials_file: Path | None = None  # YAML with key, secret, password: a docker secret or systemd credential
    pair_whitelist: tuple[str, ...] = ()  # empty: every market of the local exchange
    pair_blacklist: tuple[str, ...] = ()
    ccxt_config: Mapping[str, Any] = field(default_factory=dict)
    timeout_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not 0.1 <= self.timeout_seconds <= 30:
            raise ValueError(f"exchange.timeout_seconds should be between 0.1 and 30, is {self.timeout_seconds:g}")


@dataclass(frozen=True, kw_only=True)
class MarketConfig:
    """What the local exchange replays, and how fast."""

    candles: str | tuple[str, ...] = "synthetic"  # or a path, or several; `synthetic:` sets that market
    history: int = 600  # bars that are there from the start
    candles_per_second: float | Literal["lockstep"] = 2.0
    max_bars: int = 0  # end the replay after so many bars beyond the history; 0: when the candles end
    port: int = 0  # 0: any free one

    def __post_init__(self) -> None:
        if isinstance(self.candles_per_second, float) and not 0 < self.candles_per_second <= 10_000:
            raise ValueError(
                "market.candles_per_second should be 'lockstep' or above 0 and at most 10000, "
                f"is {self.candles_per_second:g}"
            )
        if not 1 <= self.history <= 1_000_000:
            raise ValueError(f"market.history should be between 1 and 1000000, is {self.history}")
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"market.port should be between 0 and 65535, is {self.port}")


@dataclass(frozen=True, kw_only=True)
class PaperConfig:
    """The paper account and its fees (the local exchange's and the paper venue's)."""

    balances: Mapping[str, Decimal] = field(default_factory=dict)  # empty: 10,000 of the first market's quote
    maker_fee: Decimal = Decimal("0.001")
    taker_fee: Decimal = Decimal("0.001")
    min_notional: Decimal = Decimal("5")

    def __post_init__(self) -> None:
        for currency, amount in self.balances.items():
            if not amount.is_finite() or amount < 0:
                raise ValueError(f"paper.balances.{currency} should be ≥ 0, is {amount}")
        for name in ("maker_fee", "taker_fee"):
            if not Decimal(0) <= getattr(self, name) < Decimal("0.1"):
                raise ValueError(f"paper.{name} should be at least 0 and below 0.1, is {getattr(self, name)}")
