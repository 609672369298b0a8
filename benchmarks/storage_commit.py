"""One durable commit of a trade (trade, order, fill, decision): SqlStore ≥ 3 × an ORM session; beside the bare driver.

All on the same file system with the same settings (WAL, synchronous FULL, BEGIN IMMEDIATE), in turns. Where the disk's
own sync takes longer than the rest, it levels everybody; the RAM disk shows what the code costs.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session, registry

from benchmarks._figures import folders, goal, interleaved, median_ms, say, sync_seconds
from trading_bot.domain.account import Trade
from trading_bot.domain.journal import Decision
from trading_bot.domain.orders import Fill, Order, OrderStatus, OrderType, Purpose, Side
from trading_bot.storage.engines import parsed_url, writing_engine
from trading_bot.storage.store import open_store
from trading_bot.storage.tables import table_of

ROUNDS = 30
COMMITS = 20  # in each round

Records = tuple[Trade, Order, Fill, Decision]


def main() -> None:
    with folders() as places:
        for name, folder in places.items():
            say(f"{name}: one sync takes {median_ms(sync_seconds(folder)):.3f} ms")
            _measure(name, folder)


def _measure(name: str, folder: Path) -> None:
    writers = {"SqlStore": _store(folder), "ORM session": _orm(folder), "bare driver": _driver(folder)}
    spent = interleaved({label: writer[0] for label, writer in writers.items()}, ROUNDS)
    for _, close in writers.values():
        close()
    rates = {label: COMMITS / (median_ms(seconds) / 1000) for label, seconds in spent.items()}
    for label, rate in rates.items():
        say(f"  {label:<44} {rate:10.0f} commits/s")
    goal(f"SqlStore against an ORM session, {name}", rates["SqlStore"] / rates["ORM session"], "×", least=3)
    say(f"  SqlStore against the bare driver               {rates['SqlStore'] / rates['bare driver']:10.2f} ×")


Writer = tuple[Callable[[], None], Callable[[], None]]  # a round of commits, and the end


def _store(folder: Path) -> Writer:
    store = open_store(f"sqlite:///{folder}/store.sqlite")
    numbers = iter(range(10**9))

    def work() -> None:
        for _ in range(COMMITS):
            with store.transaction() as tx:
                for record in records(next(numbers)):
                    tx.add(record)

    return work, store.close


def _orm(folder: Path) -> Writer:
    """The same records through mapped classes, one session for each trade as an ORM is meant to be used."""
    url = f"sqlite:///{folder}/orm.sqlite"
    open_store(url).close()
    mapper = registry()
    classes: dict[type, type[Any]] = {}
    for kind in (Trade, Order, Fill, Decision):
        classes[kind] = type(f"Mapped{kind.__name__}", (), {})
        mapper.map_imperatively(classes[kind], table_of(kind).table)
    engine = writing_engine(parsed_url(url), 10.0)
    numbers = iter(range(10**9))

    def work() -> None:
        for _ in range(COMMITS):
            with Session(engine) as session:
                session.add_all(_mapped(classes, records(next(numbers))))
                session.commit()

    def close() -> None:
        engine.dispose()
        mapper.dispose()

    return work, close


def _mapped(classes: dict[type, type[Any]], made: Iterable[Any]) -> list[Any]:
    return [
        classes[type(record)](**{field.name: getattr(record, field.name) for field in dataclasses.fields(record)})
        for record in made
    ]


def _driver(folder: Path) -> Writer:
    """Values already as SQLite wants them: nothing but the driver, the database and the disk."""
    path = folder / "driver.sqlite"
    open_store(f"sqlite:///{path}").close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    statements = {}
    for kind in (Trade, Order, Fill, Decision):
        table = table_of(kind).table
        names = ", ".join(f'"{column.name}"' for column in table.columns)
        statements[kind] = f"INSERT INTO {table.name} ({names}) VALUES ({', '.join('?' * len(table.columns))})"
    numbers = iter(range(10**9))

    def work() -> None:
        rows = [
            [(statements[type(record)], _plain(record)) for record in records(next(numbers))] for _ in range(COMMITS)
        ]
        for row in rows:
            connection.execute("BEGIN IMMEDIATE")
            for statement, values in row:
                connection.execute(statement, values)
            connection.execute("COMMIT")

    return work, connection.close


def _plain(record: Any) -> list[Any]:
    values = (getattr(record, field.name) for field in dataclasses.fields(record))
    return [value if value is None or isinstance(value, int | float) else str(value) for value in values]


def records(number: int) -> Records:
    """What one closed trade leaves behind; every `number` under keys of its own."""
    when = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=number)
    millis = int(when.timestamp() * 1000)
    name, price, amount = f"b-{number}", Decimal("61250.10"), Decimal("0.0042")
    trade = Trade(
        id=f"T{number}", exchange="bench", symbol="BTC/USDT", strategy="ensemble", book="account", is_open=False,
        open_date=when, open_rate=price, amount=amount, stake_amount=price * amount, close_date=when, close_rate=price,
        close_profit=Decimal("0.0123"), close_profit_abs=Decimal("3.16"), exit_reason="exit_signal", regime="trending",
        run_id="bench",
    )  # fmt: skip
    order = Order(
        client_order_id=name, symbol="BTC/USDT", side=Side.BUY, order_type=OrderType.MARKET, quantity=amount,
        purpose=Purpose.ENTRY, bar_time=millis, order_date=when, status=OrderStatus.FILLED, filled=amount,
        cost=price * amount, exchange_order_id=str(number), run_id="bench",
    )  # fmt: skip
    fill = Fill(
        venue="bench", trade_id=str(number), client_order_id=name, exchange_order_id=str(number), symbol="BTC/USDT",
        side=Side.BUY, price=price, quantity=amount, fee=Decimal("0.0000042"), fee_currency="BTC", date=when,
    )  # fmt: skip
    votes = {"atr_breakout": (1, 0.8), "ema_trend": (1, 0.55), "rsi_mean_reversion": (-1, 0.6)}
    decision = Decision(
        symbol="BTC/USDT", time=millis, regime="trending", weights=dict.fromkeys(votes, 1 / 3), signals=votes,
        score=0.45, side=1, outcome="buy", reason="", client_order_id=name, run_id="bench",
    )  # fmt: skip
    return trade, order, fill, decision
