"""Risk: what may be bought, how much of it, and when it must go. Pure functions; every refusal carries its reason."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from enum import IntEnum

import numpy as np

from trading_bot.domain.account import Trade
from trading_bot.domain.market import Candles, Floats, Instrument
from trading_bot.domain.orders import Denied
from trading_bot.metrics import historical_var
from trading_bot.trading.config import RiskConfig, TradingConfig
from trading_bot.trading.portfolio import Account, is_dust

DAY_MS = 86_400_000
SPEND_MARGIN = Decimal("0.995")  # cash left for spread, impact and fee between the decision and the fill


class Latch(IntEnum):
    """How far drawdown has taken our permission away. It only rises until the user says `resume`."""

    NONE = 0
    REDUCE = 1
    HALT = 2
    FLATTEN = 3


@dataclass(frozen=True, slots=True)
class RiskState:
    """What the gates remember between bars (money as Decimal strings in snapshots)."""

    latch: Latch = Latch.NONE
    peak: Decimal = Decimal(0)  # highest equity since the account or the last resume
    day: int = -1  # UTC day number of `day_start`
    day_start: Decimal = Decimal(0)  # equity at the end of the day before
    equity: Decimal = Decimal(0)
    cooldown: Mapping[str, int] = dataclasses.field(default_factory=dict)  # symbol -> no entry up to this time

    @property
    def drawdown(self) -> float:
        """Fall from the peak, 0..1."""
        return float(1 - self.equity / self.peak) if self.peak > 0 else 0.0

    @property
    def day_change(self) -> float:
        """Equity against the start of the UTC day, as a ratio."""
        return float(self.equity / self.day_start - 1) if self.day_start > 0 else 0.0


def marked(state: RiskState, equity: Decimal, close_time: int, config: RiskConfig) -> RiskState:
    """The state after marking the account to market at a bar's close (`close_time` in ms)."""
    day = (close_time - 1) // DAY_MS
    day_start = state.day_start if day == state.day else (state.equity or equity)
    state = dataclasses.replace(state, equity=equity, peak=max(state.peak, equity), day=day, day_start=day_start)
    levels = {
        Latch.REDUCE: config.drawdown_reduce,
        Latch.HALT: config.drawdown_halt,
        Latch.FLATTEN: config.drawdown_flatten,
    }
    reached = [latch for latch, level in levels.items() if level and state.drawdown >= level]
    return dataclasses.replace(state, latch=max([state.latch, *reached]))


def resumed(state: RiskState) -> RiskState:
    """After the user's `resume`: permission is back and drawdown counts from here."""
    return dataclasses.replace(state, latch=Latch.NONE, peak=state.equity)


def cooled(state: RiskState, trade: Trade, bar_ms: int, config: RiskConfig) -> RiskState:
    """After a trade closed with a loss: its symbol rests for the closes of the next `cooldown_bars` bars."""
    if not config.cooldown_bars or trade.close_date is None or (trade.close_profit_abs or 0) >= 0:
        return state
    until = int(trade.close_date.timestamp() * 1000) + config.cooldown_bars * bar_ms
    return dataclasses.replace(state, cooldown={**state.cooldown, trade.symbol: until})


# ── leaving ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Leave:
    """A reason to end a trade now, in freqtrade's words, and the story behind it."""

    exit_reason: str
    because: str
    stop_price: Decimal | None = None


def must_leave(
    trade: Trade, candles: Candles, bar_ms: int, instrument: Instrument, config: TradingConfig, unseen: int = 1
) -> Leave | None:
    """Whether the newest closed candle ends the trade: stop first, then ROI, then time.

    The stop is the one that was in force before this candle, so the candle that raises a trailing stop cannot hit it.
    `unseen` newest candles were not looked at before (more than one where some could not be fetched): a stop that any
    of them reached is hit.
    """
    low, close = instrument.ticks(candles.low[-unseen:].min()), instrument.ticks(candles.close[-1])
    stop = trade.stop_loss
    if stop is not None and instrument.price(low) <= stop:
        trailed = trade.initial_stop_loss is not None and stop > trade.initial_stop_loss
        name = "trailing_stop_loss" if trailed else "stop_loss"
        return Leave(name, f"{name}: low {instrument.price(low)} at or below stop {stop}", stop)
    minutes = (int(candles.time[-1]) + bar_ms - int(trade.open_date.timestamp() * 1000)) / 60_000
    profit = net_profit_ratio(trade, instrument.price(close), instrument)
    enough = wanted_profit(minutes, config.minimal_roi)
    if enough is not None and profit >= enough:
        return Leave("roi", f"roi: profit {profit:.2%} after {minutes:.0f} min, wanted {enough:.2%}")
    if config.risk.max_bars and minutes * 60_000 >= config.risk.max_bars * bar_ms:
        return Leave("time_stop", f"time_stop: {config.risk.max_bars} bars are over, profit {profit:.2%}")
    return None


def net_profit_ratio(trade: Trade, price: Decimal, instrument: Instrument) -> float:
    """Profit of selling the trade at `price`, both fees paid, as a ratio of the stake."""
    kept = trade.amount * (1 - instrument.taker_fee)
    return float(kept * price * (1 - instrument.taker_fee) / trade.stake_amount - 1)


def wanted_profit(minutes: float, table: Mapping[str, float]) -> float | None:
    """The entry of a `minimal_roi` table that applies after `minutes` in the trade."""
    reached = [(int(after), profit) for after, profit in table.items() if minutes >= int(after)]
    return max(reached)[1] if reached else None


def raised_stop(
    trade: Trade, candles: Candles, instrument: Instrument, config: TradingConfig, unseen: int = 1
) -> Trade:
    """The trade with its best price and, where a trailing stop is on, its stop brought up to the `unseen` newest
    candles."""
    high = instrument.price(instrument.ticks(candles.high[-unseen:].max()))
    best = max(trade.max_rate or trade.open_rate, high)
    trade = dataclasses.replace(trade, max_rate=best)
    if not config.trailing_stop:
        return trade
    distance = _ratio(-config.stoploss)
    gained = best / trade.open_rate - 1
    if config.trailing_stop_positive is not None and gained >= _ratio(config.trailing_stop_positive_offset):
        distance = _ratio(config.trailing_stop_positive)
    stop = _on_tick(best * (1 - distance), instrument)
    return dataclasses.replace(trade, stop_loss=stop) if trade.stop_loss is None or stop > trade.stop_loss else trade


# ── entering ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Situation:
    """What the gates look at for one entry, as of the close of the bar."""

    symbol: str
    close_time: int  # of the bar decided on, ms
    late: bool
    paused: bool
    obstacle: str  # quarantine or an order of unknown fate; empty: none
    open_trades: int  # including entries already decided for this bar
    cash: Decimal  # free quote after them
    exposure: Decimal  # worth of all positions and of them
    price: Decimal
    stop: Decimal


def entry_gate(at: Situation, state: RiskState, config: TradingConfig) -> Denied | None:
    """The first gate that says no, None if all are open."""
    gates = (
        (at.late, "late bar: no entries on bars that closed while the bot was away"),
        (at.paused, "paused by the user; `trading-bot resume` goes on"),
        (bool(at.obstacle), at.obstacle),
        (state.latch >= Latch.HALT, f"drawdown latch {state.latch.name.lower()} until `trading-bot resume`"),
        (
            _daily_loss(state, config.risk),
            f"daily loss limit {config.risk.daily_loss_limit:.2%}: day {state.day_change:.2%}",
        ),
        (
            state.cooldown.get(at.symbol, 0) >= at.close_time,
            f"cooldown of {config.risk.cooldown_bars} bars after a loss",
        ),
        (at.open_trades >= config.max_open_trades, f"max_open_trades {at.open_trades} of {config.max_open_trades}"),
    )
    return next((Denied(reason) for closed, reason in gates if closed), None)


def _daily_loss(state: RiskState, config: RiskConfig) -> bool:
    return bool(config.daily_loss_limit) and state.day_change <= -config.daily_loss_limit


def protective_stop(price: Decimal, atr: float, instrument: Instrument, config: TradingConfig) -> Decimal:
    """The nearer of the fixed stop and the ATR stop, on a tick, below `price`."""
    stop = price * (1 + _ratio(config.stoploss))
    if config.risk.atr_stop_multiple and math.isfinite(atr) and atr > 0:
        stop = max(stop, price - _ratio(config.risk.atr_stop_multiple) * _ratio(atr))
    return max(instrument.tick, min(_on_tick(stop, instrument), price - instrument.tick))


def entry_size(at: Situation, state: RiskState, instrument: Instrument, config: TradingConfig) -> Decimal | Denied:
    """Base quantity to buy, whole lots: the least of what risk, stake, position, exposure and cash allow."""
    risk, equity = config.risk, state.equity
    if at.stop >= at.price:
        return Denied(f"no stop fits below price {at.price}: the venue's tick is {instrument.tick}")
    half = Decimal("0.5") if state.latch is Latch.REDUCE else Decimal(1)
    worths = {"cash": at.cash * SPEND_MARGIN}
    if risk.max_position:
        worths["max_position"] = _ratio(risk.max_position) * equity * half
    if risk.max_exposure:
        worths["max_exposure"] = _ratio(risk.max_exposure) * equity - at.exposure
    if risk.risk_per_trade:
        worths["risk_per_trade"] = _ratio(risk.risk_per_trade) * equity * half / (at.price - at.stop) * at.price
    if isinstance(config.stake_amount, Decimal):
        worths["stake_amount"] = config.stake_amount * half
    cap = min(worths, key=lambda name: worths[name])
    quantity = min(
        instrument.quantity(instrument.lots(max(Decimal(0), worths[cap]) / at.price)), instrument.max_quantity
    )
    if is_dust(quantity, at.price, instrument):
        least = max(instrument.min_notional, instrument.min_quantity * at.price)
        return Denied(f"size {worths[cap]:.2f} {instrument.quote} by {cap} is below the venue's minimum {least:.2f}")
    return quantity


def _ratio(number: float) -> Decimal:
    return Decimal(repr(number))


def _on_tick(price: Decimal, instrument: Instrument) -> Decimal:
    return (price / instrument.tick).to_integral_value(ROUND_UP) * instrument.tick


# ── value at risk ───────────────────────────────────────────────────────────────────────────────────────────────────


def value_at_risk(
    worths: Mapping[str, float], candles: Mapping[str, Candles], bar_ms: int, config: RiskConfig
) -> float | None:
    """One-day historical VaR of positions worth `worths` (symbol -> quote), in quote; None with too little history.

    Bar returns of the last `var_window` bars that all symbols have, revalued at today's worths; the bar's VaR is taken
    to a day by the square root of bars per day.
    """
    returns = [_returns(candles[symbol], config.var_window) for symbol in worths]
    times = returns[0][0]
    for other, _ in returns[1:]:
        times = np.intersect1d(times, other, assume_unique=True)
    if len(times) < 30:
        return None
    gains = np.zeros(len(times))
    for worth, (own, values) in zip(worths.values(), returns, strict=True):
        gains += worth * values[np.searchsorted(own, times)]
    bar_var = historical_var(gains, config.var_confidence)
    return None if bar_var is None else max(0.0, bar_var) * math.sqrt(max(1.0, DAY_MS / bar_ms))


def _returns(candles: Candles, window: int) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], Floats]:
    def compute() -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], Floats]:
        newest = candles.tail(window + 1)
        return newest.time[1:], newest.close[1:] / newest.close[:-1] - 1

    return candles.once(("returns", window), compute)


def var_gate(
    account: Account, at: Situation, worth: Decimal, candles: Mapping[str, Candles], prices: Mapping[str, Decimal],
    state: RiskState, bar_ms: int, config: RiskConfig,
) -> Denied | None:  # fmt: skip
    """Deny an entry that would take the book's one-day VaR over its limit."""
    if not config.var_limit or state.equity <= 0:
        return None
    worths = {s: float(p.quantity * prices[s]) for s, p in account.positions.items() if p.trade_id and s in prices}
    worths[at.symbol] = worths.get(at.symbol, 0.0) + float(worth)
    seen = {symbol: value for symbol, value in worths.items() if symbol in candles}
    var = value_at_risk(seen, candles, bar_ms, config)
    if var is None:
        return None
    # A position without candles now (the venue had no bar) counts as if it moved with the others.
    ratio = var * sum(worths.values()) / sum(seen.values()) / float(state.equity)
    if ratio <= config.var_limit:
        return None
    return Denied(f"var_limit {config.var_limit:.2%}: one-day VaR{config.var_confidence:.0%} would be {ratio:.2%}")
