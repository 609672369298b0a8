"""Our own books: every balance, position and trade is a fold of fills, and nothing else moves them.

`Account` is immutable; `apply` gives the next one, so that memory changes only after the database has committed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

from trading_bot.domain.account import Position, Trade
from trading_bot.domain.market import Instrument
from trading_bot.domain.orders import Fill, Order, Side

_TINY = Decimal("1E-12")  # grain of derived figures (cost basis, profit, ratios); balances are never rounded
_ZERO = Decimal(0)
_EXACT = Context(prec=80)  # digits enough that no sum or product of money is ever rounded


@dataclass(frozen=True, slots=True)
class Account:
    """What we hold because of where we started and every fill since."""

    balances: Mapping[str, Decimal] = field(default_factory=dict)
    positions: Mapping[str, Position] = field(default_factory=dict)
    trades: Mapping[str, Trade] = field(default_factory=dict)  # open ones, by symbol
    trade_count: int = 0

    def position(self, symbol: str) -> Position:
        """The position in `symbol`, empty if there never was one."""
        return self.positions.get(symbol) or Position(symbol)

    def equity(self, quote: str, prices: Mapping[str, Decimal]) -> Decimal:
        """Quote currency plus every position at `prices` (symbol -> quote per base)."""
        return self.balances.get(quote, _ZERO) + self.exposure(prices)

    def exposure(self, prices: Mapping[str, Decimal]) -> Decimal:
        """Worth of all positions at `prices`, in quote. A symbol without a price counts at cost."""
        worth = (
            held.quantity * prices[held.symbol] if held.symbol in prices else held.cost
            for held in self.positions.values()
        )
        return sum(worth, _ZERO)

    def with_trade(self, trade: Trade) -> Account:
        """The same account with an open trade's notes (stop, best price) changed."""
        return dataclasses.replace(self, trades={**self.trades, trade.symbol: trade})


@dataclass(frozen=True, slots=True)
class Booked:
    """What one fill did: the account after it, and the trade it opened, changed or closed."""

    account: Account
    trade: Trade | None


def apply(account: Account, fill: Fill, order: Order, instrument: Instrument, *, ends_order: bool) -> Booked:
    """Book one execution.

    Parameters
    ----------
    ends_order
        Whether the order is over with this fill; only then may what remains of a position be called dust.
    """
    with localcontext(_EXACT):
        balances = dict(account.balances)
        cost = fill.price * fill.quantity
        sign = 1 if fill.side is Side.BUY else -1
        _add(balances, instrument.base, sign * fill.quantity)
        _add(balances, instrument.quote, -sign * cost)
        _add(balances, fill.fee_currency, -fill.fee)
        account = dataclasses.replace(account, balances=balances)
        if fill.side is Side.BUY:
            return _bought(account, fill, order, instrument)
        return _sold(account, fill, order, instrument, ends_order)


def _add(balances: dict[str, Decimal], currency: str, amount: Decimal) -> None:
    balances[currency] = balances.get(currency, _ZERO) + amount


def _fee_worth(fill: Fill, instrument: Instrument) -> Decimal:
    """The fee in quote, where it can be told (a fee in a third currency cannot: 0)."""
    if fill.fee_currency == instrument.base:
        return fill.fee * fill.price
    return fill.fee if fill.fee_currency == instrument.quote else _ZERO


def _bought(account: Account, fill: Fill, order: Order, instrument: Instrument) -> Booked:
    held = account.position(fill.symbol)
    cost = fill.price * fill.quantity
    net = fill.quantity - (fill.fee if fill.fee_currency == instrument.base else _ZERO)
    paid = cost + (fill.fee if fill.fee_currency == instrument.quote else _ZERO)
    trade = account.trades.get(fill.symbol)
    count = account.trade_count
    if trade is None:
        count += 1
        trade = Trade(
            id=f"T{count}",
            exchange=fill.venue,
            symbol=fill.symbol,
            strategy="ensemble",
            book="account",
            is_open=True,
            open_date=fill.date,
            open_rate=fill.price,
            amount=_ZERO,
            stake_amount=_ZERO,
            stop_loss=order.stop_price,
            initial_stop_loss=order.stop_price,
            max_rate=fill.price,
            enter_tag=order.reason,
            entry_order_id=order.client_order_id,
            run_id=order.run_id,
        )
    amount, stake = trade.amount + fill.quantity, trade.stake_amount + cost
    trade = dataclasses.replace(
        trade,
        amount=amount,
        stake_amount=stake,
        open_rate=rounded(stake / amount),
        fee_open=rounded(trade.fee_open + _fee_worth(fill, instrument)),
    )
    position = Position(fill.symbol, held.quantity + net, held.cost + paid, trade.id)
    return Booked(_with(account, position, trade, count), trade)


def _sold(account: Account, fill: Fill, order: Order, instrument: Instrument, ends_order: bool) -> Booked:
    held = account.position(fill.symbol)
    cost = fill.price * fill.quantity
    gone = fill.quantity + (fill.fee if fill.fee_currency == instrument.base else _ZERO)
    received = cost - (fill.fee if fill.fee_currency == instrument.quote else _ZERO)
    basis = held.cost if gone >= held.quantity else rounded(held.cost * gone / held.quantity)
    position = Position(fill.symbol, held.quantity - gone, held.cost - basis, held.trade_id)
    trade = account.trades.get(fill.symbol)
    if trade is None:
        return Booked(_with(account, position, None, account.trade_count), None)
    closed_before, sold = trade.close_amount, trade.close_amount + fill.quantity
    trade = dataclasses.replace(
        trade,
        close_amount=sold,
        close_rate=rounded(((trade.close_rate or _ZERO) * closed_before + cost) / sold),
        fee_close=rounded(trade.fee_close + _fee_worth(fill, instrument)),
        close_profit_abs=rounded((trade.close_profit_abs or _ZERO) + received - basis),
        exit_reason=order.reason,
    )
    if ends_order and is_dust(position.quantity, fill.price, instrument):
        return Booked(*close(_with(account, position, trade, account.trade_count), trade, fill.date))
    return Booked(_with(account, position, trade, account.trade_count), trade)


def is_dust(quantity: Decimal, price: Decimal, instrument: Instrument) -> bool:
    """Whether so little is left that the venue would not take an order for it."""
    lots = instrument.lots(quantity)
    sellable = instrument.quantity(lots)
    return lots <= 0 or sellable < instrument.min_quantity or sellable * price < instrument.min_notional


def close(account: Account, trade: Trade, date: datetime) -> tuple[Account, Trade]:
    """End a trade: the account without it, and the trade closed.

    What is left of the position stays as dust and joins the next one at its cost.
    """
    profit = trade.close_profit_abs or _ZERO
    closed = dataclasses.replace(
        trade,
        is_open=False,
        close_date=date,
        close_profit=rounded(profit / trade.stake_amount),
        close_profit_abs=profit,
    )
    trades = {symbol: other for symbol, other in account.trades.items() if symbol != trade.symbol}
    left = account.position(trade.symbol)
    dust = Position(left.symbol, left.quantity, left.cost, None)
    positions = {**account.positions, trade.symbol: dust}
    return dataclasses.replace(account, positions=positions, trades=trades), closed


def replay(
    start: Mapping[str, Decimal], history: Iterable[tuple[Fill, Order]], instruments: Mapping[str, Instrument]
) -> Account:
    """The account after every fill of `history` (oldest first), from nothing but the start balances."""
    account = Account(balances=dict(start))
    booked: dict[str, Decimal] = {}
    for fill, order in history:
        booked[order.client_order_id] = booked.get(order.client_order_id, _ZERO) + fill.quantity
        over = booked[order.client_order_id] >= order.quantity or (
            not order.is_live and booked[order.client_order_id] >= order.filled
        )
        account = apply(account, fill, order, instruments[fill.symbol], ends_order=over).account
    return account


def _with(account: Account, position: Position, trade: Trade | None, count: int) -> Account:
    trades = account.trades if trade is None else {**account.trades, trade.symbol: trade}
    positions = {**account.positions, position.symbol: position}
    return dataclasses.replace(account, positions=positions, trades=trades, trade_count=count)


def rounded(number: Decimal) -> Decimal:
    """A derived figure to its grain, 12 decimals: what is computed from prices and quantities may have any number."""
    return number.quantize(_TINY, ROUND_HALF_EVEN).normalize() + _ZERO
