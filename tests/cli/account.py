"""A small account's records, as the daemon would have written them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from trading_bot.domain.account import Trade, TradeShare
from trading_bot.domain.journal import Decision, EquityPoint, RegimeChange, Run, Snapshot, WeightChange
from trading_bot.domain.orders import Fill, Order, OrderStatus, OrderType, Purpose, Side
from trading_bot.storage.store import open_store

HOUR = 3_600_000
START = 1_704_067_200_000  # 2024-01-01 00:00 UTC
ENTRY, EXIT = "tb1-BTCUSDT-1704070800-e-1", "tb1-BTCUSDT-1704078000-s-1"


def at(hours: float) -> datetime:
    """A moment so many hours after the start."""
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=hours)


def write_account(data_dir: Path, equity: str = "10121.50") -> str:
    """One closed trade, one open, their decisions, orders and fills; the database's URL."""
    url = f"sqlite:///{data_dir / 'trading_bot.sqlite'}"
    store = open_store(url)
    with store.transaction() as tx:
        for record in (*_decisions(), *_orders(), *_fills(), *_trades(), *_changes()):
            assert tx.add(record), record
        tx.add(Run("run-1", "paper", at(0), {"ensemble": {"threshold": 0.3}}))
        tx.add(EquityPoint(START + 5 * HOUR, Decimal(equity), Decimal("5000"), Decimal("10200"), 0.012, 1))
        tx.add(Snapshot("status", status(equity)))
    store.close()
    return url


def status(equity: str = "10121.50") -> dict[str, object]:
    """The snapshot that `status` reads."""
    return {
        "state": "running",
        "mode": "paper",
        "time": START + 5 * HOUR,
        "quote": "USDT",
        "equity": equity,
        "start_equity": "10000",
        "hold_equity": "10200",
        "cash": "5000",
        "drawdown": 0.012,
        "latch": "none",
        "paused": False,
        "symbols": {
            "BTC/USDT": {
                "regime": "trending",
                "confidence": 0.81,
                "weights": {"atr_breakout": 0.6, "rsi_mean_reversion": 0.4},
                "score": 0.31,
                "close": 42_100.5,
                "timeframe": "1h",
            }
        },
        "open_trades": [
            {
                "id": "T2",
                "symbol": "ETH/USDT",
                "open_date": at(5).isoformat(),
                "open_rate": "2000",
                "amount": "0.5",
                "stake_amount": "1000",
                "stop_loss": "1900",
                "price": "2040",
                "enter_tag": "ensemble",
            }
        ],
        "quarantine": {},
        "degraded": {"exchange": "no answer for 12 s"},
    }


def _decisions() -> list[Decision]:
    weights = {"atr_breakout": 0.6, "rsi_mean_reversion": 0.4}
    long = {"atr_breakout": (1, 0.8), "rsi_mean_reversion": (-1, 0.25)}
    return [
        Decision(
            "BTC/USDT", START + HOUR, "trending", weights, long, 0.38, 1, "buy", "entry: score +0.38",
            {"atr_breakout": "atr-7"}, {"rsi_mean_reversion": "cautious: its model is 93 days old"},
            client_order_id=ENTRY, run_id="run-1",
        ),
        Decision("BTC/USDT", START + 2 * HOUR, "trending", weights, long, 0.38, 1, "hold", "in T1", run_id="run-1"),
        Decision(
            "BTC/USDT", START + 3 * HOUR, "volatile", weights, long, 0.38, 1, "sell", "stop 41,000 hit",
            client_order_id=EXIT, run_id="run-1",
        ),
        Decision(
            "ETH/USDT", START + 3 * HOUR, "choppy", weights, {"atr_breakout": (0, 0.0)}, 0.05, 0, "hold",
            "score +0.05 below 0.30", run_id="run-1",
        ),
        Decision(
            "ETH/USDT", START + 4 * HOUR, "choppy", weights, long, 0.38, 1, "denied", "max_open_trades 1 of 1",
            run_id="run-1",
        ),
    ]  # fmt: skip


def _orders() -> list[Order]:
    return [
        Order(
            ENTRY, "BTC/USDT", Side.BUY, OrderType.MARKET, Decimal("0.02"), Purpose.ENTRY, START + HOUR, at(2),
            reason="ensemble", status=OrderStatus.FILLED, filled=Decimal("0.02"), cost=Decimal("840"),
            exchange_order_id="17", sent_date=at(2), order_filled_date=at(2), stop_price=Decimal("40500"),
        ),
        Order(
            EXIT, "BTC/USDT", Side.SELL, OrderType.MARKET, Decimal("0.02"), Purpose.STOP, START + 3 * HOUR, at(4),
            reason="stop_loss", status=OrderStatus.FILLED, filled=Decimal("0.02"), cost=Decimal("816"),
            exchange_order_id="18", sent_date=at(4), order_filled_date=at(4), stop_price=Decimal("41000"),
        ),
    ]  # fmt: skip


def _fills() -> list[Fill]:
    return [
        _fill("1", ENTRY, "17", Side.BUY, "42000", "0.015", "0.000015", "BTC", 2),
        _fill("2", ENTRY, "17", Side.BUY, "42000", "0.005", "0.000005", "BTC", 2),
        _fill("3", EXIT, "18", Side.SELL, "40800", "0.02", "0.816", "USDT", 4),
    ]


def _fill(
    number: str, key: str, order: str, side: Side, price: str, quantity: str, fee: str, currency: str, hours: float
) -> Fill:
    money = Decimal(price), Decimal(quantity), Decimal(fee)
    return Fill("local", number, key, order, "BTC/USDT", side, *money, currency, at(hours))


def _trades() -> list[object]:
    closed = Trade(
        id="T1", exchange="local", symbol="BTC/USDT", strategy="ensemble", book="account", is_open=False,
        open_date=at(2), open_rate=Decimal("42000"), amount=Decimal("0.02"), stake_amount=Decimal("840"),
        fee_open=Decimal("0.84"), fee_close=Decimal("0.816"), close_date=at(4), close_rate=Decimal("40800"),
        close_amount=Decimal("0.02"), close_profit=Decimal("-0.0305"), close_profit_abs=Decimal("-25.656"),
        stop_loss=Decimal("41000"), initial_stop_loss=Decimal("40500"), max_rate=Decimal("42800"),
        enter_tag="ensemble", exit_reason="stop_loss", regime="trending", entry_order_id=ENTRY, run_id="run-1",
    )  # fmt: skip
    still_open = Trade(
        id="T2", exchange="local", symbol="ETH/USDT", strategy="ensemble", book="account", is_open=True,
        open_date=at(5), open_rate=Decimal("2000"), amount=Decimal("0.5"), stake_amount=Decimal("1000"), run_id="run-1",
    )  # fmt: skip
    shadow = Trade(
        id="S1", exchange="local", symbol="BTC/USDT", strategy="atr_breakout", book="shadow", is_open=False,
        open_date=at(1), open_rate=Decimal("42000"), amount=Decimal("0.02"), stake_amount=Decimal("840"),
        close_date=at(3), close_rate=Decimal("42500"), close_amount=Decimal("0.02"), close_profit=Decimal("0.01"),
        close_profit_abs=Decimal("8.4"), exit_reason="exit_signal", run_id="run-1",
    )  # fmt: skip
    return [closed, still_open, shadow, TradeShare("T1", "atr_breakout", 1.0)]


def _changes() -> list[object]:
    features = {"adx": 31.2, "efficiency": 0.46}
    return [
        RegimeChange("BTC/USDT", START, "ranging", "trending", 0.81, features, 5),
        RegimeChange("BTC/USDT", START + 3 * HOUR, "trending", "volatile", 0.7, features, 3),
        WeightChange("BTC/USDT", START + HOUR, {"atr_breakout": 0.5}, {"atr_breakout": 0.6}, "regime"),
    ]
