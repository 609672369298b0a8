"""What the user may set about where candles come from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from trading_bot.domain.market import timeframe_ms

_MOST_BARS = 5_000_000


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """The built-in synthetic market: seeded, its true regimes known."""

    seed: int = 7
    symbols: tuple[str, ...] = ("BTC/USDT", "ETH/USDT", "ADA/USDT")
    timeframe: str = "1h"
    bars: int = 50_000
    start: str = "2024-01-01"  # the first bar's open, UTC

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"synthetic.seed should be between 0 and 2^63, is {self.seed}")
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            raise ValueError(f"synthetic.symbols should name at least one symbol and none twice, is {self.symbols}")
        for symbol in self.symbols:
            base, _, quote = symbol.partition("/")
            if not base or not quote or "/" in quote:
                raise ValueError(f"synthetic.symbols wants symbols such as 'BTC/USDT', found {symbol!r}")
        if not 1 <= self.bars <= _MOST_BARS:
            raise ValueError(f"synthetic.bars should be between 1 and {_MOST_BARS}, is {self.bars}")
        length = timeframe_ms(self.timeframe)
        if self.start_ms < 0 or self.start_ms % length:
            raise ValueError(
                f"synthetic.start should be the open of a {self.timeframe} bar since 1970, is {self.start!r}; "
                "wanted such as '2024-01-01'"
            )

    @property
    def start_ms(self) -> int:
        """The first bar's open, UTC ms."""
        try:
            moment = datetime.fromisoformat(self.start)
        except ValueError:
            raise ValueError(f"synthetic.start should be a date such as '2024-01-01', is {self.start!r}") from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
