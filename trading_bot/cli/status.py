"""Verb `status`: how the bot is doing, from the last bar's snapshot; nothing heavy is imported."""

from __future__ import annotations

import time
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from trading_bot.cli import show
from trading_bot.cli.options import configured, json_option
from trading_bot.cli.records import daemon_pid, records
from trading_bot.errors import NoDatabase, NotRunning

if TYPE_CHECKING:
    from trading_bot.settings import Settings


@click.command()
@configured()
@json_option
def status(settings: Settings, as_json: bool) -> None:
    """State, equity beside buy-and-hold, open trades, regime and weights of every symbol.

    The exit code is 3 if no daemon runs, so that a health check can use it.

    \b
    Example: trading-bot status --json
    """
    pid = daemon_pid(settings)
    known = _snapshot(settings)
    if pid is None and known.get("state") == "running":
        known["stop_reason"] = "it did not say why: killed?"
    facts = {**known, "state": "running" if pid else "stopped", "pid": pid}
    if as_json:
        show.print_json({**facts, "newest_candle_age_seconds": _candle_age(facts, settings)})
    else:
        _print(facts, settings)
    if pid is None:
        raise NotRunning(f"no daemon runs on {settings.data_dir}; `trading-bot run` starts one")


def _snapshot(settings: Settings) -> dict[str, Any]:
    """What the daemon last wrote about itself; empty before its first bar."""
    from trading_bot.domain.journal import Snapshot

    try:
        with records(settings) as tx:
            found = tx.get(Snapshot, "status")
    except NoDatabase:
        return {}
    return {} if found is None else dict(found.value)


def _print(facts: Mapping[str, Any], settings: Settings) -> None:
    state = f"running (pid {facts['pid']})" if facts["pid"] else "stopped"
    if not facts["pid"] and facts.get("stop_reason"):
        state += f" ({facts['stop_reason']})"
    if facts.get("paused"):
        state += ", paused: no entries until `trading-bot resume`"
    show.line("State", state)
    show.line("Mode", str(facts.get("mode") or settings.mode))
    if "equity" not in facts:
        show.line("Account", "none yet: the first bar opens it")
        return
    _print_account(facts)
    show.line("Newest candle", _candle(facts, settings))
    if facts.get("learning"):
        show.line("Learning", _learning(facts["learning"]))
    for name, cause in {**(facts.get("degraded") or {}), **(facts.get("quarantine") or {})}.items():
        show.line("Degraded", f"{name}: {cause}")
    _print_trades(facts)
    _print_symbols(facts)


def _learning(facts: Mapping[str, Any]) -> str:
    """Who has a model, what came of the last training, when the next one is."""
    parts = [f"{len(facts.get('models', {}))} of {facts.get('strategies', 0)} strategies have a model"]
    if facts.get("last") is not None:
        counted = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in sorted(facts["outcomes"].items()))
        parts.append(f"trained after {show.bar(facts['last'])}: {counted}")
    parts.append("training now" if facts.get("busy") else f"next after {show.bar(facts.get('next'))}")
    return "; ".join(parts)


def _print_account(facts: Mapping[str, Any]) -> None:
    equity, start = Decimal(facts["equity"]), Decimal(facts["start_equity"])
    quote = facts.get("quote", "")
    held = facts.get("hold_equity")
    show.line("Equity", f"{show.money(equity)} {quote}, of it cash {show.money(facts.get('cash'))}")
    if start:
        beside = f"; buy-and-hold {show.percent(Decimal(held) / start - 1)}" if held is not None else ""
        show.line("Profit", f"{show.percent(equity / start - 1)} ({equity - start:+,.2f} {quote}){beside}")
    latch = facts.get("latch") or "none"
    level = "" if latch == "none" else f", level {latch}"
    if latch in ("halt", "flatten"):
        level += ": no entries until `trading-bot resume`"
    show.line("Drawdown", f"{facts.get('drawdown', 0.0):.2%} from the highest equity{level}")


def _print_trades(facts: Mapping[str, Any]) -> None:
    trades = facts.get("open_trades") or []
    click.echo()
    if not trades:
        click.echo("No open trades")
        return
    rows = [
        (
            trade["id"],
            trade["symbol"],
            trade["open_date"][:16].replace("T", " "),
            show.price(trade["amount"]),
            show.price(trade["open_rate"]),
            show.price(trade.get("price")),
            show.percent(Decimal(trade.get("price") or trade["open_rate"]) / Decimal(trade["open_rate"]) - 1),
            show.price(trade.get("stop_loss")),
        )
        for trade in trades
    ]
    show.table(("trade", "pair", "since", "amount>", "at>", "now>", "move>", "stop>"), rows)


def _print_symbols(facts: Mapping[str, Any]) -> None:
    faces = facts.get("symbols") or {}
    if not faces:
        return
    click.echo()
    rows = [
        (
            symbol,
            f"{face['regime']} {face.get('confidence', 0.0):.2f}",
            f"{face.get('score', 0.0):+.2f}",
            show.price(str(face["close"])),
            "  ".join(f"{name} {weight:.2f}" for name, weight in sorted(face["weights"].items(), key=lambda w: -w[1])),
        )
        for symbol, face in sorted(faces.items())
    ]
    show.table(("pair", "regime", "score>", "close>", "weights"), rows)


def _candle(facts: Mapping[str, Any], settings: Settings) -> str:
    age = _candle_age(facts, settings)
    when = f"{show.bar(facts.get('time'))} UTC"
    return f"{when} (replayed)" if age is None else f"{when}, closed {show.ago(age)} ago"


def _candle_age(facts: Mapping[str, Any], settings: Settings) -> float | None:
    """Seconds since the newest candle closed; None where market time is a replay's, or no candle is known."""
    from trading_bot.domain.market import timeframe_ms
    from trading_bot.exchange.config import LOCAL

    frames = {face.get("timeframe") for face in (facts.get("symbols") or {}).values()}
    timeframe = next(iter(frames), None) or settings.timeframe
    if settings.exchange.name == LOCAL or timeframe is None or facts.get("time", -1) < 0:
        return None
    closed = int(facts["time"]) + timeframe_ms(timeframe)
    return max(0.0, time.time() - closed / 1000)
