"""Verb `trace`: one trade from the candle that led to it to its last fill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from trading_bot.cli import show
from trading_bot.cli.options import configured, json_option
from trading_bot.cli.records import records
from trading_bot.cli.why import Explained, explain, print_explained, print_order
from trading_bot.errors import TradingBotError

if TYPE_CHECKING:
    from trading_bot.domain.account import Trade, TradeShare
    from trading_bot.domain.orders import Fill, Order
    from trading_bot.ports import Tx
    from trading_bot.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Exit:
    """One order that sold (part of) the trade, and the decision behind it if there was one."""

    order: Order
    fills: Sequence[Fill]
    decision: Explained | None


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A trade with everything that happened to it, in order."""

    trade: Trade
    shares: Sequence[TradeShare]
    entry: Explained | None
    order: Order | None
    fills: Sequence[Fill]
    exits: Sequence[Exit]


@click.command()
@click.argument("trade_id")
@configured()
@json_option
def trace(settings: Settings, trade_id: str, as_json: bool) -> None:
    """Follow trade TRADE_ID: candle, decision, intent, sent, accepted, fills, stop, exit, profit.

    \b
    Example: trading-bot trace T1
    """
    with records(settings) as tx:
        traced = follow(tx, _trade(tx, trade_id), settings.ensemble.threshold)
    if as_json:
        show.print_json(traced)
    else:
        _print(traced)


def follow(tx: Tx, trade: Trade, threshold: float) -> Traced:
    """Join a trade with its decision, orders and fills."""
    from trading_bot.domain.account import TradeShare
    from trading_bot.domain.journal import Decision
    from trading_bot.domain.orders import Fill, Order, Purpose, Side

    entry = tx.get(Order, trade.entry_order_id) if trade.entry_order_id else None
    decided = tx.get(Decision, entry.symbol, entry.bar_time) if entry is not None else None
    exits = []
    for order in tx.find(Order, symbol=trade.symbol, side=Side.SELL):
        if order.order_date < trade.open_date - timedelta(seconds=1) or trade.book != "account":
            continue
        if trade.close_date is not None and order.order_date > trade.close_date:
            continue
        behind = tx.get(Decision, order.symbol, order.bar_time) if order.purpose is not Purpose.FLATTEN else None
        fills = tx.find(Fill, client_order_id=order.client_order_id)
        exits.append(Exit(order=order, fills=fills, decision=explain(tx, behind, threshold) if behind else None))
    return Traced(
        trade=trade,
        shares=tx.find(TradeShare, trade_id=trade.id),
        entry=explain(tx, decided, threshold) if decided is not None else None,
        order=entry,
        fills=tx.find(Fill, client_order_id=entry.client_order_id) if entry is not None else [],
        exits=exits,
    )


def _trade(tx: Tx, trade_id: str) -> Trade:
    from trading_bot.domain.account import Trade

    wanted = f"T{trade_id}" if trade_id.isdigit() else trade_id
    found = tx.get(Trade, wanted) or tx.get(Trade, wanted.upper())
    if found is not None:
        return found
    newest = tx.find(Trade, last=1, book="account")
    hint = f"the newest is {newest[0].id}" if newest else "there are none yet"
    raise TradingBotError(f"no trade {trade_id!r}; {hint}; `trading-bot show-trades` lists them")


def _print(traced: Traced) -> None:
    trade = traced.trade
    state = "open" if trade.is_open else f"closed {show.text(trade.close_date)} UTC"
    click.echo(f"Trade {trade.id}  {trade.symbol}  {trade.book} book, strategy {trade.strategy}, {state}")
    click.echo("\n1. Decision to enter")
    if traced.entry is not None:
        print_explained(traced.entry)
    elif traced.order is not None:
        print_order(traced.order, traced.fills)
    else:
        click.echo("not recorded: a shadow trade has no orders" if trade.book != "account" else "not recorded")
    if traced.shares:
        shares = ", ".join(f"{each.strategy} {each.share:.0%}" for each in traced.shares)
        show.line("Shares", shares)
    click.echo("\n2. Position")
    fee = f", fee {show.price(trade.fee_open)}" if trade.fee_open else ""
    show.line(
        "Bought",
        f"{show.price(trade.amount)} at {show.price(trade.open_rate)} for {show.money(trade.stake_amount)}{fee}",
    )
    _print_stop(trade)
    click.echo("\n3. Way out")
    for each in traced.exits:
        _print_exit(each)
    if not traced.exits:
        click.echo("none yet" if trade.is_open else "not recorded")
    if not trade.is_open:
        click.echo("\n4. Result")
        show.line("Sold", f"{show.price(trade.close_amount)} at {show.price(trade.close_rate)}")
        show.line("Reason", trade.exit_reason)
        profit = f"{show.percent(trade.close_profit)} ({show.money(trade.close_profit_abs)})"
        show.line("Profit", f"{profit} after fees {show.price(trade.fee_open + trade.fee_close)}")


def _print_stop(trade: Trade) -> None:
    if trade.stop_loss is None:
        return
    moved = ""
    if trade.initial_stop_loss is not None and trade.initial_stop_loss != trade.stop_loss:
        moved = f", moved from {show.price(trade.initial_stop_loss)}"
    best = f"; best price {show.price(trade.max_rate)}" if trade.max_rate is not None else ""
    show.line("Stop", f"{show.price(trade.stop_loss)}{moved}{best}")


def _print_exit(each: Exit) -> None:
    if each.decision is not None:
        decision = each.decision.decision
        show.line("Decision", f"bar of {show.bar(decision.time)} UTC: {decision.outcome}, {decision.reason}")
    if each.order.stop_price is not None:
        show.line("Triggered", f"by the stop at {show.price(each.order.stop_price)}")
    show.line("Because", each.order.reason)
    print_order(each.order, each.fills)
