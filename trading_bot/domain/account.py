"""What we own: balances, positions, trades (round trips). Money is Decimal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Balance:
    """One currency at the venue: `free` can be used, `used` is reserved by open orders."""

    currency: str
    free: Decimal
    used: Decimal = Decimal(0)

    @property
    def total(self) -> Decimal:
        return self.free + self.used


@dataclass(frozen=True, slots=True)
class Position:
    """Base currency held of one symbol because of our fills, and what it cost in quote (fees included)."""

    symbol: str
    quantity: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)
    trade_id: str | None = None  # the open trade, None while flat (what is left then is dust)


@dataclass(frozen=True, slots=True)
class Trade:
    """A round trip, in freqtrade's terms. `book` is "account" (strategy "ensemble") or "shadow" (a strategy alone).

    `amount` is the base bought, `stake_amount` the quote spent on it. `close_profit` is a ratio of the stake, net of
    all fees; `close_profit_abs` is in quote. Open trades have None in the close fields.
    """

    id: str
    exchange: str
    symbol: str
    strategy: str
    book: str
    is_open: bool
    open_date: datetime
    open_rate: Decimal
    amount: Decimal
    stake_amount: Decimal
    fee_open: Decimal = Decimal(0)  # quote value of the fees paid for the entry
    fee_close: Decimal = Decimal(0)
    close_date: datetime | None = None
    close_rate: Decimal | None = None
    close_amount: Decimal = Decimal(0)  # base sold so far
    close_profit: Decimal | None = None
    close_profit_abs: Decimal | None = None
    stop_loss: Decimal | None = None  # the stop in force (when closed: at the exit)
    initial_stop_loss: Decimal | None = None
    max_rate: Decimal | None = None  # best price since entry, for trailing
    enter_tag: str = ""
    exit_reason: str = ""
    regime: str = ""  # regime at entry
    entry_order_id: str = ""
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class TradeShare:
    """How much of an account trade's entry score came from one strategy (shares of one trade sum to 1)."""

    trade_id: str
    strategy: str
    share: float
