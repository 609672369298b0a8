"""Verb `why`: one decision in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from trading_bot.cli import show
from trading_bot.cli.options import configured, json_option, moment
from trading_bot.cli.records import records
from trading_bot.errors import TradingBotError

if TYPE_CHECKING:
    from trading_bot.domain.journal import Decision, RegimeChange, WeightChange
    from trading_bot.domain.orders import Fill, Order
    from trading_bot.ports import Tx
    from trading_bot.settings import Settings

_WEEK_MS = 7 * 86_400_000


@dataclass(frozen=True, kw_only=True)
class Explained:
    """A decision and all that belongs to it."""

    decision: Decision
    threshold: float
    regime: RegimeChange | None  # the change that led to the regime in force
    weights: WeightChange | None  # the last change of weights that was notable
    order: Order | None
    fills: Sequence[Fill]


@click.command()
@click.argument("pair")
@configured()
@click.option("--at", metavar="TIME", help="The decision of the bar in force then, such as '2024-01-31 14:00' (UTC).")
@json_option
def why(settings: Settings, pair: str, at: str | None, as_json: bool) -> None:
    """Explain the newest decision on PAIR, or the one at a time: regime, weights, votes, score, gate, order, fills.

    \b
    Example: trading-bot why BTC/USDT --at "2024-01-31 14:00"
    """
    symbol = pair.upper()
    time = None if at is None else moment(at)
    with records(settings) as tx:
        explained = explain(tx, _decision(tx, symbol, time), settings.ensemble.threshold)
    if as_json:
        show.print_json({**_as_json(explained), "contributions": contributions(explained.decision)})
    else:
        print_explained(explained)


def explain(tx: Tx, decision: Decision, threshold: float) -> Explained:
    """Gather what belongs to `decision`; `threshold` serves where its run did not write its own down."""
    from trading_bot.domain.journal import RegimeChange, Run, WeightChange
    from trading_bot.domain.orders import Fill, Order

    run = tx.get(Run, decision.run_id) if decision.run_id else None
    if run is not None:
        threshold = (run.configuration.get("ensemble") or {}).get("threshold", threshold)
    key = decision.client_order_id
    return Explained(
        decision=decision,
        threshold=threshold,
        regime=_newest(tx.find(RegimeChange, symbol=decision.symbol), decision.time),
        weights=_newest(tx.find(WeightChange, symbol=decision.symbol), decision.time),
        order=tx.get(Order, key) if key else None,
        fills=tx.find(Fill, client_order_id=key) if key else [],
    )


def _newest(changes: Sequence[Any], time: int) -> Any:
    return next((change for change in reversed(changes) if change.time <= time), None)


def _decision(tx: Tx, symbol: str, time: int | None) -> Decision:
    from trading_bot.domain.journal import Decision
    from trading_bot.ports import AtLeast

    if time is None:
        found = tx.find(Decision, last=1, symbol=symbol)
    else:
        near = tx.find(Decision, symbol=symbol, time=AtLeast(time - _WEEK_MS))
        found = [decision for decision in near if decision.time <= time][-1:]
    if found:
        return found[0]
    first = tx.find(Decision, last=1)
    if not first:
        raise TradingBotError("no decisions yet; the bot makes one a bar once it has warmed up: `trading-bot status`")
    known = sorted({decision.symbol for decision in tx.find(Decision, last=500)})
    if symbol not in known:
        raise TradingBotError(f"no decision on {symbol}; decided so far: {', '.join(known)}")
    raise TradingBotError(
        f"no decision on {symbol} in the week before {show.bar(time)} UTC; `show-decisions` lists them"
    )


def contributions(decision: Decision) -> dict[str, float]:
    """Each strategy's part of the score: weight × side × confidence."""
    return {
        name: decision.weights.get(name, 0.0) * side * confidence
        for name, (side, confidence) in decision.signals.items()
    }


def print_explained(explained: Explained) -> None:
    """The explanation, for people."""
    decision = explained.decision
    click.echo(f"{decision.symbol}, bar of {show.bar(decision.time)} UTC: {decision.outcome.upper()}")
    show.line("Because", decision.reason)
    show.line("Regime", _regime(decision, explained.regime))
    if explained.weights is not None:
        show.line("Weights", f"last moved {show.bar(explained.weights.time)} because of {explained.weights.because}")
    _print_votes(decision)
    for name, note in sorted(decision.notes.items()):
        show.line("Note", f"{name} {note}")
    if decision.model_versions:
        show.line("Models", ", ".join(f"{name} {model}" for name, model in sorted(decision.model_versions.items())))
    relation = "reaches" if abs(decision.score) >= explained.threshold else "stays below"
    target = {1: "be long", -1: "be out"}.get(decision.side, "keep what is held")
    show.line("Score", f"{decision.score:+.3f} {relation} the threshold {explained.threshold:.2f}: {target}")
    if explained.order is None:
        show.line("Order", "none")
    else:
        print_order(explained.order, explained.fills)


def _regime(decision: Decision, change: RegimeChange | None) -> str:
    if change is None or change.new != decision.regime:
        return decision.regime
    before = f", {change.old} for {change.after_bars} bars before" if change.old else ""
    facts = ", ".join(f"{name} {value:.3g}" for name, value in change.features.items())
    return f"{decision.regime} since {show.bar(change.time)} (confidence {change.confidence:.2f}; {facts}{before})"


def _print_votes(decision: Decision) -> None:
    parts = contributions(decision)
    rows = [
        (
            name,
            f"{decision.weights.get(name, 0.0):.3f}",
            {1: "long", -1: "out"}.get(side, "no opinion"),
            f"{confidence:.2f}",
            f"{parts[name]:+.3f}",
        )
        for name, (side, confidence) in sorted(decision.signals.items(), key=lambda item: -abs(parts[item[0]]))
    ]
    show.table(("strategy", "weight>", "wants", "confidence>", "adds>"), rows)


def print_order(order: Order, fills: Sequence[Fill], label: str = "Order") -> None:
    """An order, how far it came, and its fills."""
    at = f" at {show.price(order.price)}" if order.price is not None else ""
    show.line(label, f"{order.client_order_id}: {order.side} {show.price(order.quantity)} {order.order_type}{at}")
    sent = f", sent {order.sent_date:%Y-%m-%d %H:%M:%S}" if order.sent_date else ""
    number = f", number {order.exchange_order_id} at the venue" if order.exchange_order_id else ""
    show.line("", f"intended {show.text(order.order_date)}{sent}{number}; {order.status} {_filled(order)}")
    if order.message:
        show.line("", f"the venue said: {order.message}")
    for fill in fills:
        fee = f"fee {show.price(fill.fee)} {fill.fee_currency}"
        show.line("Fill", f"{show.text(fill.date)} {show.price(fill.quantity)} at {show.price(fill.price)}, {fee}")


def _filled(order: Order) -> str:
    if not order.filled:
        return ""
    return f"{show.price(order.filled)} of {show.price(order.quantity)} at {show.price(order.average)} on average"


def _as_json(explained: Explained) -> Mapping[str, Any]:
    names = ("decision", "threshold", "regime", "weights", "order", "fills")
    return {name: getattr(explained, name) for name in names}
