"""The trader's lines in the log: the same order of facts every time, so that they can be followed and grepped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from trading_bot.domain.account import Trade
from trading_bot.domain.journal import Decision, RegimeChange, WeightChange
from trading_bot.logs import event
from trading_bot.trading.plan import Plan
from trading_bot.trading.views import View


def tell(views: Mapping[str, View], plan: Plan, shadow_trades: Sequence[Trade]) -> None:
    """One bar's lines: regime and weight changes, then a decision for every symbol."""
    for view in views.values():
        for failure in view.failures:
            text = f"failed: {failure.message}" + ("; switched off for this run" if failure.switched_off else "")
            event("strategy", failure.strategy, text, level="ERROR", symbol=failure.symbol)
        if view.regime_change is not None:
            _regime(view, view.regime_change)
        if view.weight_change is not None:
            _weights(view, view.weight_change)
    for decision in plan.decisions:
        _decision(views[decision.symbol], decision)
    for order in plan.orders:
        event("order", order.symbol, f"{order.side} {order.quantity} {order.order_type} because={order.reason}",
              order=order.client_order_id)  # fmt: skip
    for trade in shadow_trades:
        event("shadow", trade.symbol, f"{trade.strategy} closed {_percent(trade)}", level="DEBUG", regime=trade.regime)


def trade(trade: Trade) -> None:
    """A trade that a fill opened, changed or closed."""
    if trade.is_open and not trade.close_amount:
        event("trade", trade.symbol, f"{trade.id} open {trade.amount} @ {_short(trade.open_rate)}",
              stop=trade.stop_loss, tag=trade.enter_tag, regime=trade.regime)  # fmt: skip
    elif trade.is_open:
        event("trade", trade.symbol, f"{trade.id} sold {trade.close_amount} of {trade.amount}")
    else:
        held = trade.close_date - trade.open_date if trade.close_date else None
        event("trade", trade.symbol, f"{trade.id} closed {_percent(trade)} {trade.close_profit_abs:+.2f}",
              reason=trade.exit_reason, open=_short(trade.open_rate), close=_short(trade.close_rate),
              held=held)  # fmt: skip


def _regime(view: View, change: RegimeChange) -> None:
    text = f"{change.old} -> {change.new}" if change.old else f"is {change.new}"
    facts = {name: f"{value:.3g}" for name, value in change.features.items()}
    event("regime", _subject(view), text, confidence=f"{change.confidence:.2f}", **facts,
          after=f"{change.after_bars} bars")  # fmt: skip


def _weights(view: View, change: WeightChange) -> None:
    moved = [f"{n} {change.old.get(n, 0):.2f}->{w:.2f}" for n, w in change.new.items() if w != change.old.get(n)]
    event("weights", _subject(view), "  ".join(moved), because=change.because)


def _decision(view: View, decision: Decision) -> None:
    said = sorted(
        decision.signals.items(), key=lambda item: -abs(item[1][0] * item[1][1] * view.weights.get(item[0], 0))
    )
    votes = ", ".join(f"{name} {side:+d}x{confidence:.2f}" for name, (side, confidence) in said if side)
    heard = "; ".join([votes or "no votes", *(f"{name} {note}" for name, note in sorted(view.new_notes.items()))])
    facts = {"order": decision.client_order_id} if decision.client_order_id else {}
    text = f"{decision.outcome}  score={decision.score:+.2f} ({heard})  {decision.reason}"
    event("decision", _subject(view), text, bar=_bar(decision.time),
          regime=decision.regime, close=f"{view.candles.close[-1]:.8g}", **facts)  # fmt: skip


def _subject(view: View) -> str:
    return f"{view.symbol} {view.candles.timeframe}"


def _bar(time: int) -> str:
    return datetime.fromtimestamp(time / 1000, UTC).strftime("%Y-%m-%dT%H:%M")


def _percent(trade: Trade) -> str:
    return f"{trade.close_profit or 0:+.2%}"


def _short(rate: object) -> str:
    return f"{rate:.8g}" if rate is not None else "-"
