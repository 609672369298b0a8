"""What the user may set about the built-in synthetic market."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from trading_bot.domain.market import timeframe_ms


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """The built-in synthetic market: seeded, its true regimes known."""

    seed: int = 7
    symbols: tuple[str, ...] = ("BTC/USDT", "ETH/USDT", "ADA/USDT")
    timeframe: str = "1h"
    bars: int = 50_000
    start: str = "2024-01-01"

    def __post_init__(self) -> None:
        timeframe_ms(self.timeframe)
        if not self.symbols or any(symbol.count("/") != 1 for symbol in self.symbols):
            raise ValueError(f"synthetic.symbols wants symbols such as 'BTC/USDT', found {list(self.symbols)}")
        if not 1 <= self.bars <= 10_000_000:
            raise ValueError(f"synthetic.bars should be between 1 and 10000000, is {self.bars}")
        try:
            datetime.fromisoformat(self.start)
        except ValueError:
            raise ValueError(f"synthetic.start should be a date such as 2024-01-01, is {self.start!r}") from None
