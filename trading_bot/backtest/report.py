"""What a run came to: the figures people know, by one set of definitions (`metrics.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from trading_bot import metrics
from trading_bot.domain.account import Trade
from trading_bot.domain.journal import Decision, EquityPoint
from trading_bot.domain.market import Candles
from trading_bot.domain.orders import Fill
from trading_bot.trading.trader import Trader

DAY_MS = 86_400_000


def summarise(trader: Trader, candles: Mapping[str, Candles], market: str) -> dict[str, Any]:
    """Figures of the account's whole life in `trader.store`, JSON-able; undefined is None."""
    with trader.store.reading() as tx:
        trades = tx.find(Trade, book="account", is_open=False)
        points = tx.find(EquityPoint)
        fills = tx.find(Fill)
        decisions = tx.find(Decision)
    times = np.array([point.time for point in points], np.int64)
    equity = np.array([float(point.equity) for point in points])
    first, last = (points[0].time, points[-1].time) if points else (0, 0)
    closes = [rows.close[(rows.time >= first) & (rows.time <= last)] for rows in candles.values()]
    start, end = (
        float(trader.memory.start_equity),
        float(equity[-1]) if len(equity) else float(trader.memory.start_equity),
    )
    outcomes: dict[str, int] = {}
    for decision in decisions:
        outcomes[decision.outcome] = outcomes.get(decision.outcome, 0) + 1
    return {
        "market": market,
        "symbols": list(candles),
        "timeframe": next(iter(candles.values())).timeframe,
        "from": _date(first),
        "to": _date(last + trader.bar_ms),
        "bars": len({decision.time for decision in decisions}),
        "quote": trader.memory.quote,
        "start_equity": start,
        "end_equity": end,
        "profit": end - start,
        "profit_ratio": end / start - 1 if start else None,
        "market_change": metrics.market_change([c for c in closes if len(c) > 1]) if points else None,
        **_equity_figures(times, trader.bar_ms, equity, start, end),
        **_trade_figures(trades),
        "exposure": metrics.exposure([point.open_trades > 0 for point in points]) if points else None,
        "turnover": metrics.turnover(sum(float(f.price * f.quantity) for f in fills), equity) if points else None,
        "fees_paid": sum(float(trade.fee_open + trade.fee_close) for trade in trades),
        "decisions": outcomes,
        "exit_reasons": _by(trades, lambda trade: trade.exit_reason),
        "by_symbol": _by(trades, lambda trade: trade.symbol),
        "by_regime": _by(trades, lambda trade: trade.regime),
    }


def _equity_figures(times: Any, bar_ms: int, equity: Any, start: float, end: float) -> dict[str, Any]:
    if len(equity) < 2:
        return dict.fromkeys(
            ("sharpe", "sortino", "cagr", "calmar", "max_drawdown_account", "max_drawdown_abs", "var_95", "var_99")
        )
    _, daily = metrics.daily_equity(times, equity)
    returns = metrics.returns_of(daily)
    fall = metrics.max_drawdown(equity, times + bar_ms)
    growth = metrics.cagr(start, end, (times[-1] - times[0]) / DAY_MS)
    return {
        "sharpe": metrics.sharpe(returns),
        "sortino": metrics.sortino(returns),
        "cagr": growth,
        "calmar": metrics.calmar(growth, fall.account if fall else None),
        "max_drawdown_account": fall.account if fall else None,
        "max_drawdown_abs": fall.absolute if fall else None,
        "var_95": metrics.historical_var(returns, 0.95),
        "var_99": metrics.historical_var(returns, 0.99),
    }


def _trade_figures(trades: list[Trade]) -> dict[str, Any]:
    profits = [float(trade.close_profit or 0) for trade in trades]
    return {
        "trades": len(trades),
        "win_rate": metrics.win_rate(profits),
        "profit_factor": metrics.profit_factor([float(trade.close_profit_abs or 0) for trade in trades]),
        "expectancy": metrics.expectancy(profits),
        "expectancy_ratio": metrics.expectancy_ratio(profits),
        "sqn": metrics.sqn(profits),
        "average_win": metrics.average_win(profits),
        "average_loss": metrics.average_loss(profits),
        "best_trade": metrics.best_trade(profits),
        "worst_trade": metrics.worst_trade(profits),
        "longest_losing_streak": metrics.longest_losing_streak(profits),
    }


def _by(trades: list[Trade], key: Any) -> dict[str, dict[str, Any]]:
    """Number, win rate and profit of the trades that share a key."""
    groups: dict[str, list[Trade]] = {}
    for trade in trades:
        groups.setdefault(key(trade) or "-", []).append(trade)
    return {
        name: {
            "trades": len(group),
            "win_rate": metrics.win_rate([float(trade.close_profit or 0) for trade in group]),
            "profit": sum(float(trade.close_profit_abs or 0) for trade in group),
        }
        for name, group in sorted(groups.items())
    }


def _date(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
