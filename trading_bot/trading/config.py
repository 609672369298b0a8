"""What the user may set about trading: freqtrade's keys where the meaning is the same, and our risk section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from trading_bot.domain.market import timeframe_ms


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} should be between {low:g} and {high:g}, is {value:g}")


@dataclass(frozen=True, kw_only=True)
class RiskConfig:
    """Limits of loss. Fractions are of account equity unless said otherwise; 0 switches a limit off."""

    risk_per_trade: float = 0.01  # equity lost if the protective stop is hit exactly
    atr_period: int = 14
    atr_stop_multiple: float = 3.0  # protective stop this many ATR below the entry
    max_exposure: float = 0.95  # all positions together
    max_position: float = 0.40  # one position
    cooldown_bars: int = 2  # no entry for so many bars after a losing exit
    max_bars: int = 0  # time stop: leave after so many bars
    daily_loss_limit: float = 0.05  # no entries for the rest of the UTC day
    drawdown_reduce: float = 0.10  # half-size entries
    drawdown_halt: float = 0.15  # no entries until `resume`
    drawdown_flatten: float = 0.20  # sell everything, no entries until `resume`
    var_limit: float = 0.08  # one-day historical value at risk of the book with the new position
    var_confidence: float = 0.95
    var_window: int = 480  # bars

    def __post_init__(self) -> None:
        for name in ("risk_per_trade", "max_exposure", "max_position", "daily_loss_limit", "var_limit"):
            _check(f"risk.{name}", getattr(self, name), 0, 1)
        for name in ("drawdown_reduce", "drawdown_halt", "drawdown_flatten"):
            _check(f"risk.{name}", getattr(self, name), 0, 1)
        levels = [level for level in (self.drawdown_reduce, self.drawdown_halt, self.drawdown_flatten) if level]
        if levels != sorted(levels):
            raise ValueError(
                "risk.drawdown_reduce, drawdown_halt, drawdown_flatten should rise in this order, are "
                f"{self.drawdown_reduce:g}, {self.drawdown_halt:g}, {self.drawdown_flatten:g}"
            )
        _check("risk.var_confidence", self.var_confidence, 0.5, 0.999)
        _check("risk.atr_period", self.atr_period, 2, 200)
        _check("risk.atr_stop_multiple", self.atr_stop_multiple, 0, 100)
        _check("risk.cooldown_bars", self.cooldown_bars, 0, 100_000)
        _check("risk.max_bars", self.max_bars, 0, 1_000_000)
        _check("risk.var_window", self.var_window, 30, 5_000)


@dataclass(frozen=True, kw_only=True)
class OrderTypes:
    """How orders are placed. A limit entry or exit stands at the last close until `unfilledtimeout`."""

    entry: Literal["market", "limit"] = "market"
    exit: Literal["market", "limit"] = "market"
    stoploss: Literal["market"] = "market"


@dataclass(frozen=True, kw_only=True)
class UnfilledTimeout:
    """Minutes of market time after which an unfilled limit order is cancelled."""

    entry: float = 120.0
    exit: float = 120.0

    def __post_init__(self) -> None:
        _check("unfilledtimeout.entry", self.entry, 0.1, 1e6)
        _check("unfilledtimeout.exit", self.exit, 0.1, 1e6)


@dataclass(frozen=True, kw_only=True)
class UnclearOrders:
    """When to believe a venue that says it never got an order we sent."""

    lookups: int = 4  # at least so many healthy answers "not found" …
    seconds: float = 60.0  # … over at least so many seconds

    def __post_init__(self) -> None:
        _check("unclear_orders.lookups", self.lookups, 1, 1000)
        _check("unclear_orders.seconds", self.seconds, 0, 86_400)


@dataclass(frozen=True, kw_only=True)
class TradingConfig:
    """Everything the decision loop reads."""

    bot_id: str | None = None  # first part of our client order ids; made at random with the account when not given
    timeframe: str | None = None  # None: the candles' own (local exchange only)
    stake_currency: str | None = None  # None: the quote currency of the first market
    stake_amount: Decimal | Literal["unlimited"] = "unlimited"
    max_open_trades: int = 3
    stoploss: float = -0.10
    minimal_roi: Mapping[str, float] = field(default_factory=dict)  # minutes in trade -> profit ratio that suffices
    trailing_stop: bool = False
    trailing_stop_positive: float | None = None
    trailing_stop_positive_offset: float = 0.0
    order_types: OrderTypes = OrderTypes()
    unfilledtimeout: UnfilledTimeout = UnfilledTimeout()
    unclear_orders: UnclearOrders = UnclearOrders()
    risk: RiskConfig = RiskConfig()

    def __post_init__(self) -> None:
        if self.timeframe is not None:
            timeframe_ms(self.timeframe)
        if self.bot_id is not None and not (self.bot_id.isascii() and self.bot_id.isalnum() and len(self.bot_id) <= 8):
            raise ValueError(f"bot_id should be at most 8 letters and digits, is {self.bot_id!r}")
        if not -1 < self.stoploss < 0:
            raise ValueError(f"stoploss should be a negative ratio above -1, such as -0.1, is {self.stoploss:g}")
        if isinstance(self.stake_amount, Decimal) and self.stake_amount <= 0:
            raise ValueError(f"stake_amount should be > 0 or 'unlimited', is {self.stake_amount}")
        _check("max_open_trades", self.max_open_trades, 0, 1000)
        if self.trailing_stop_positive is not None:
            _check("trailing_stop_positive", self.trailing_stop_positive, 0.0001, 0.99)
        _check("trailing_stop_positive_offset", self.trailing_stop_positive_offset, 0, 10)
        for minutes, profit in self.minimal_roi.items():
            if not minutes.isdigit():
                raise ValueError(f"minimal_roi wants whole minutes as keys, such as '60', found {minutes!r}")
            _check(f"minimal_roi[{minutes}]", profit, -1, 100)
