"""Verbs `show-trades` and `show-decisions`."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from trading_bot.cli import show
from trading_bot.cli.options import configured, json_option, last_option, symbols
from trading_bot.cli.records import records

if TYPE_CHECKING:
    from trading_bot.domain.account import Trade
    from trading_bot.domain.journal import Decision
    from trading_bot.settings import Settings

_pairs = click.option("-p", "--pairs", multiple=True, metavar="PAIRS", help="Only these: BTC/USDT,ETH/USDT.")


@click.command("show-trades")
@configured()
@_pairs
@last_option
@click.option(
    "--book", type=click.Choice(["account", "shadow"]), default="account", show_default=True,
    help="The account's own trades, or each strategy's shadow trades.",
)  # fmt: skip
@click.option("-s", "--strategy", metavar="NAME", help="Only this strategy's (shadow book).")
@json_option
def show_trades(
    settings: Settings, pairs: tuple[str, ...], last: int, book: str, strategy: str | None, as_json: bool
) -> None:
    """Trades as round trips, newest last, with their profit after fees.

    \b
    Example: trading-bot show-trades --last 50 -p BTC/USDT
    """
    from trading_bot.domain.account import Trade

    where: dict[str, Any] = {"book": book}
    if strategy:
        where["strategy"] = strategy
    if pairs:
        where["symbol"] = symbols(pairs)
    with records(settings) as tx:
        trades = tx.find(Trade, last=last or None, **where)
    if as_json:
        show.print_json(trades)
        return
    if not trades:
        click.echo(f"no trades in the {book} book yet")
        return
    columns = (
        "id",
        "pair",
        "strategy",
        "open",
        "at>",
        "amount>",
        "close",
        "at>",
        "profit>",
        "abs>",
        "reason",
        "regime",
    )
    show.table(columns, [_trade_row(trade) for trade in trades])
    _sum_up(trades)


def _trade_row(trade: Trade) -> Sequence[Any]:
    return (
        trade.id,
        trade.symbol,
        trade.strategy,
        trade.open_date,
        show.price(trade.open_rate),
        show.price(trade.amount),
        "open" if trade.is_open else trade.close_date,
        show.price(trade.close_rate),
        show.percent(trade.close_profit),
        show.money(trade.close_profit_abs),
        trade.exit_reason or "-",
        trade.regime or "-",
    )


def _sum_up(trades: Sequence[Trade]) -> None:
    profits = [trade.close_profit_abs for trade in trades if trade.close_profit_abs is not None and not trade.is_open]
    won = sum(profit > 0 for profit in profits)
    total = sum(profits, Decimal(0))
    rate = f", won {won} of {len(profits)} ({won / len(profits):.0%}), profit {total:+,.2f}" if profits else ""
    click.echo(f"{len(trades)} trades, {len(trades) - len(profits)} open{rate}")


@click.command("show-decisions")
@configured()
@_pairs
@last_option
@click.option("--outcome", metavar="WORD", help="Only these: buy, sell, hold, denied or late.")
@json_option
def show_decisions(settings: Settings, pairs: tuple[str, ...], last: int, outcome: str | None, as_json: bool) -> None:
    """What was decided on each bar and why, newest last; `why` tells more of one.

    \b
    Example: trading-bot show-decisions --pairs BTC/USDT --outcome denied
    """
    from trading_bot.domain.journal import Decision

    where: dict[str, Any] = {"outcome": outcome} if outcome else {}
    if pairs:
        where["symbol"] = symbols(pairs)
    with records(settings) as tx:
        decisions = tx.find(Decision, last=last or None, **where)
    if as_json:
        show.print_json(decisions)
    elif decisions:
        show.table(
            ("bar", "pair", "regime", "outcome", "score>", "reason", "votes", "order"),
            [_decision_row(decision) for decision in decisions],
        )
    else:
        click.echo("no decisions yet")


def _decision_row(decision: Decision) -> Sequence[Any]:
    sides = [side for side, _ in decision.signals.values()]
    return (
        show.bar(decision.time),
        decision.symbol,
        decision.regime,
        decision.outcome,
        f"{decision.score:+.2f}",
        decision.reason,
        f"{sides.count(1)} long, {sides.count(-1)} out of {len(sides)}",
        decision.client_order_id,
    )
