"""Trades for the tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from trading_bot.domain.account import Trade

BEGAN = datetime(2024, 1, 1, tzinfo=UTC)


def closed(number: int, profit: float, *, strategy: str = "ema_trend", book: str = "shadow", hours: int = 2) -> Trade:
    """Trade `number` opened `number` hours in and closed `hours` later, with this profit as a ratio of 100 quote."""
    ratio = Decimal(str(profit))
    return Trade(
        id=f"{strategy}-{book}-{number:05}",
        exchange="test",
        symbol="BTC/USDT",
        strategy=strategy,
        book=book,
        is_open=False,
        open_date=BEGAN + timedelta(hours=number),
        open_rate=Decimal(100),
        amount=Decimal(1),
        stake_amount=Decimal(100),
        close_date=BEGAN + timedelta(hours=number + hours),
        close_rate=100 + 100 * ratio,
        close_amount=Decimal(1),
        close_profit=ratio,
        close_profit_abs=100 * ratio,
    )
