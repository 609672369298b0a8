"""What every store must do, asked of the one in memory, SQLite and PostgreSQL."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.databases import PostgresServer
from tests.fakes import MemoryStore
from tests.storage.records import MOMENT, record
from trading_bot.domain import account, journal, models, orders, venue
from trading_bot.domain.account import Trade, TradeShare
from trading_bot.domain.journal import Command, Decision, EquityPoint, JobRun, Run, Snapshot
from trading_bot.domain.orders import Fill, Order, OrderStatus, Side
from trading_bot.domain.venue import VenueBalance, VenueOrder
from trading_bot.errors import StorageError
from trading_bot.ports import AtLeast
from trading_bot.storage.sql_store import SqlStore
from trading_bot.storage.store import open_store
from trading_bot.storage.tables import TABLES

AnyStore = MemoryStore | SqlStore
KINDS = sorted(TABLES, key=lambda kind: kind.__name__)


@pytest.fixture(scope="module")
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """One migrated database for the module: making one costs 0.2 s."""
    url = postgres.new_database()
    open_store(url).close()
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=["memory", "sqlite", "sqlite-in-memory", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    url = {"sqlite": f"sqlite:///{tmp_path}/new/trading.sqlite", "sqlite-in-memory": "sqlite://"}.get(request.param)
    if url is None:
        url = request.getfixturevalue("postgres_url")
        assert isinstance(url, str)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"TRUNCATE {', '.join(entry.table.name for entry in TABLES.values())}".encode())
    made = open_store(url)
    yield made
    made.close()


def put(store: AnyStore, *records: object) -> None:
    with store.transaction() as tx:
        for one in records:
            assert tx.add(one)


def found(store: AnyStore, kind: type[Any], **where: Any) -> list[Any]:
    with store.reading() as tx:
        return tx.find(kind, **where)


def test_every_record_of_the_domain_has_a_table() -> None:
    kinds = {
        kind
        for module in (account, journal, models, orders, venue)
        for kind in vars(module).values()
        if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind.__module__ == module.__name__
    }
    not_kept = {"Balance", "Position", "OrderReport", "Accepted", "Rejected", "Unclear", "Denied"}
    assert {kind.__name__ for kind in kinds} - not_kept == {kind.__name__ for kind in TABLES}
    assert len(TABLES) == 18


@pytest.mark.parametrize("kind", KINDS)
def test_what_went_in_comes_out(store: AnyStore, kind: type[Any]) -> None:
    first, second = record(kind, 1), record(kind, 2)
    put(store, second, first)
    assert found(store, kind) == [first, second]
    assert found(store, kind, last=1) == [second]
    key = [getattr(second, name) for name in TABLES[kind].key]
    with store.reading() as tx:
        assert tx.get(kind, *key) == second
        key[0] = key[0] + 5 if isinstance(key[0], int) else "nobody"
        assert tx.get(kind, *key) is None


@pytest.mark.parametrize("kind", KINDS)
def test_none_and_defaults_come_out(store: AnyStore, kind: type[Any]) -> None:
    empty = {
        column.key: None for column in TABLES[kind].table.columns if column.nullable and column.key != "close_date"
    }
    bare = record(kind, 1, **empty)
    put(store, bare)
    assert found(store, kind) == [bare]


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_key_is_not_added_again_but_updated(store: AnyStore, kind: type[Any]) -> None:
    first = record(kind, 1)
    key = {name: getattr(first, name) for name in TABLES[kind].key}
    other = record(kind, 2, **key)
    with store.transaction() as tx:
        assert tx.add(first) is True
        assert tx.add(other) is False
        assert tx.find(kind) == [first]
        tx.update(other)
        assert tx.find(kind) == [other]
    assert found(store, kind) == [other]


def test_update_inserts_where_there_is_nothing(store: AnyStore) -> None:
    with store.transaction() as tx:
        tx.update(record(Snapshot))
    assert found(store, Snapshot) == [record(Snapshot)]


def test_an_exception_undoes_everything(store: AnyStore) -> None:
    put(store, record(Order, 1), record(EquityPoint, 1))

    def fail_halfway() -> None:
        with store.transaction() as tx:
            tx.add(record(Order, 2))
            tx.update(record(Order, 1, message="changed"))
            tx.prune(EquityPoint, 1_800_000_000_000)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert found(store, Order) == [record(Order, 1)]
    assert found(store, EquityPoint) == [record(EquityPoint, 1)]
    put(store, record(Order, 2))  # the next transaction works


def test_a_reader_sees_only_what_was_committed(store: AnyStore) -> None:
    if isinstance(store, SqlStore) and store.url.database is None:
        pytest.skip("the database in memory has one connection: a reader shares it")
    put(store, record(Order, 1))
    with store.transaction() as tx:
        tx.add(record(Order, 2))
        assert found(store, Order) == [record(Order, 1)]
        assert tx.find(Order) == [record(Order, 1), record(Order, 2)]
    assert len(found(store, Order)) == 2


def test_a_reader_sees_one_moment(store: AnyStore) -> None:
    if isinstance(store, SqlStore) and store.url.database is None:
        pytest.skip("the database in memory has one connection: a reader keeps writers waiting")
    put(store, record(Order, 1))
    with store.reading() as tx:
        assert len(tx.find(Order)) == 1
        put(store, record(Order, 2))
        assert len(tx.find(Order)) == 1


def test_a_reader_cannot_write(store: AnyStore) -> None:
    for write in ("add", "update"):
        with store.reading() as tx, pytest.raises(StorageError, match="read-only"):
            getattr(tx, write)(record(Order))
    with store.reading() as tx, pytest.raises(StorageError, match="read-only"):
        tx.prune(EquityPoint, 1)


def test_a_second_transaction_in_the_same_thread_is_refused(store: AnyStore) -> None:
    with (
        store.transaction(),
        pytest.raises(StorageError, match="already open in this thread"),
        store.transaction(),
    ):
        pass
    put(store, record(Order, 1))


def test_find_by_equality_lists_none_and_least(store: AnyStore) -> None:
    statuses = list(OrderStatus)
    rows = [
        record(Order, n, status=statuses[n % 3], price=None if n % 2 else Decimal(n), symbol=f"S{n % 2}/USDT")
        for n in range(6)
    ]
    put(store, *rows)

    def numbers(**where: Any) -> list[int]:
        return [rows.index(row) for row in found(store, Order, **where)]

    assert numbers(status=statuses[1]) == [1, 4]
    assert numbers(status="new") == [0, 3]
    assert numbers(status=[statuses[1], statuses[2]]) == [1, 2, 4, 5]
    assert numbers(status={statuses[0]}, symbol="S1/USDT") == [3]
    assert numbers(status=frozenset(statuses[:2]), last=2) == [3, 4]
    assert numbers(status=()) == []
    assert numbers(price=None) == [1, 3, 5]
    assert numbers(price=(None, Decimal("4.0"))) == [1, 3, 4, 5]
    assert numbers(price=Decimal("2.000")) == [2]
    assert numbers(order_date=AtLeast(rows[4].order_date)) == [4, 5]
    assert numbers(order_date=AtLeast(rows[4].order_date.astimezone(timezone(timedelta(hours=9))))) == [4, 5]
    assert numbers(bar_time=AtLeast(rows[3].bar_time), last=2) == [4, 5]
    assert numbers(symbol="nothing") == []
    assert numbers(last=0) == []
    assert numbers(last=99) == [0, 1, 2, 3, 4, 5]


def test_a_question_that_cannot_be_answered_is_refused(store: AnyStore) -> None:
    with store.reading() as tx:
        with pytest.raises(StorageError, match=r"no field 'pair'; wanted one of client_order_id, symbol"):
            tx.find(Order, pair="BTC/USDT")
        with pytest.raises(StorageError, match="is JSON"):
            tx.find(Decision, weights={"a": 1.0})
        with pytest.raises(StorageError, match="is money"):
            tx.find(Order, price=AtLeast(Decimal(1)))
        with pytest.raises(StorageError, match="last should be ≥ 0"):
            tx.find(Order, last=-1)
        with pytest.raises(StorageError, match=r"\(symbol, time\), got 1"):
            tx.get(Decision, "BTC/USDT")
        with pytest.raises(StorageError, match="Position has no table"):
            tx.find(account.Position)


def test_trades_come_as_they_closed_and_open_ones_last(store: AnyStore) -> None:
    def trade(name: str, closed: int | None, opened: int = 0, **fields: Any) -> Trade:
        at = None if closed is None else MOMENT + timedelta(seconds=closed)
        made: Trade = record(
            Trade,
            id=name,
            is_open=closed is None,
            close_date=at,
            open_date=MOMENT + timedelta(seconds=opened),
            **fields,
        )
        return made

    put(
        store,
        trade("open-2", None, 9, book="account", strategy="ensemble"),
        trade("open-1", None, 8, book="shadow", strategy="rsi"),
        *(trade(f"t{n}", n, -n, book="shadow", strategy="rsi" if n % 2 else "macd") for n in (5, 1, 4, 2, 3)),
    )
    assert [row.id for row in found(store, Trade)] == ["t1", "t2", "t3", "t4", "t5", "open-1", "open-2"]
    mine = {"strategy": "rsi", "book": "shadow", "is_open": False}
    assert [row.id for row in found(store, Trade, last=2, **mine)] == ["t3", "t5"]
    assert [row.id for row in found(store, Trade, is_open=True)] == ["open-1", "open-2"]


def test_a_trade_that_contradicts_itself_is_refused(store: AnyStore) -> None:
    with store.transaction() as tx, pytest.raises(StorageError, match="closed but lacks a close_date"):
        tx.add(record(Trade, is_open=False, close_date=None))
    with store.transaction() as tx, pytest.raises(StorageError, match="open but has a close_date"):
        tx.update(record(Trade, is_open=True))


def test_fills_of_one_instant_come_by_number(store: AnyStore) -> None:
    put(store, *(record(Fill, trade_id=name, date=MOMENT) for name in ("10", "9", "100")))
    assert [fill.trade_id for fill in found(store, Fill)] == ["9", "10", "100"]
    assert [fill.trade_id for fill in found(store, Fill, last=2)] == ["10", "100"]


def test_texts_are_ordered_by_code_point(store: AnyStore) -> None:
    put(store, *(record(Snapshot, name=name) for name in ("b", "B", "é", "a", "_", "Z")))
    assert [row.name for row in found(store, Snapshot)] == ["B", "Z", "_", "a", "b", "é"]


def test_prune_deletes_what_is_older(store: AnyStore) -> None:
    put(store, *(record(EquityPoint, time=n) for n in range(5)))
    with store.transaction() as tx:
        assert tx.prune(EquityPoint, 3) == 3
        assert [row.time for row in tx.find(EquityPoint)] == [3, 4]
        assert tx.prune(EquityPoint, 3) == 0
        assert tx.add(record(EquityPoint, time=1))
    assert [row.time for row in found(store, EquityPoint)] == [1, 3, 4]
    with store.transaction() as tx, pytest.raises(StorageError, match="no time to prune by"):
        tx.prune(Run, 1)


REFUSED: list[tuple[type[Any], dict[str, Any], str]] = [
    (Order, {"quantity": 1.5}, r"orders: money should be a Decimal, is the float 1.5 \(field 'quantity'"),
    (Order, {"quantity": 1}, "money should be a Decimal, is the int 1"),
    (Order, {"price": Decimal("NaN")}, "money should be finite"),
    (Order, {"price": Decimal("Infinity")}, "money should be finite"),
    (Order, {"cost": Decimal(10) ** 20}, "more than 20 digits before the point"),
    (Order, {"cost": Decimal("0.1234567890123456789")}, "more than 18 decimals"),
    (Order, {"order_date": datetime(2024, 1, 1)}, "should carry its time zone"),
    (Order, {"order_date": "2024-01-01"}, "should be a datetime"),
    (Order, {"status": "sold"}, "'sold' is no OrderStatus; wanted one of new, sent"),
    (Order, {"attempt": 1.5}, "a whole number was wanted"),
    (Order, {"attempt": True}, "a whole number was wanted"),
    (Order, {"bar_time": 2**63}, "fit into 64 bits"),
    (Order, {"symbol": 7}, "text should be a string"),
    (Order, {"symbol": None}, "(?i)null|None"),
    (Decision, {"score": float("nan")}, "a fraction should be finite"),
    (Decision, {"score": Decimal(1)}, "a fraction should be a float"),
    (Decision, {"weights": {"rsi": float("inf")}}, "JSON numbers should be finite, rsi is inf"),
    (Snapshot, {"value": {"a": [{"b": Decimal(1)}]}}, r"a\[0\]\.b should be something JSON can say"),
    (Snapshot, {"value": {1: "x"}}, "JSON keys should be strings"),
    (Snapshot, {"value": [1]}, "a mapping was wanted"),
]


@pytest.mark.parametrize(("kind", "fields", "said"), REFUSED)
def test_what_cannot_be_kept_exactly_is_refused(
    store: AnyStore, kind: type[Any], fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(StorageError, match=said), store.transaction() as tx:
        tx.add(record(kind, **fields))
    assert found(store, kind) == []
    put(store, record(kind))


def test_a_refused_value_does_not_spoil_the_transaction(store: AnyStore) -> None:
    with store.transaction() as tx:
        with pytest.raises(StorageError, match="fraction"):
            tx.add(record(Decision, score=float("nan")))
        tx.add(record(Decision))
    assert found(store, Decision) == [record(Decision)]


def test_odd_values_survive(store: AnyStore) -> None:
    import numpy as np

    decision = record(
        Decision, time=np.int64(5), score=np.float64(0.1), signals={"rsi": (-1, 1.0)}, reason="ä \u2028 '"
    )
    put(store, decision)
    (kept,) = found(store, Decision)
    assert kept == decision
    assert type(kept.time) is int
    put(store, record(Order, message="nul \0 and \ud800"))
    assert found(store, Order)[0].message == "nul \ufffd and \ufffd"
    put(store, record(Snapshot, value={"deep": {"list": [1, 2.5, None, True, "\0"]}, "tuple": (1, 2)}))
    assert found(store, Snapshot)[0].value == {"deep": {"list": [1, 2.5, None, True, "\0"]}, "tuple": [1, 2]}


def test_dates_come_back_in_utc_and_sort_as_time_does(store: AnyStore) -> None:
    east = timezone(timedelta(hours=14))
    late = record(Command, 1, id="late", given=datetime(2024, 1, 1, 13, 0, 0, tzinfo=east))  # 2023-12-31 23:00 UTC
    later = record(Command, 2, id="later", given=datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC))
    put(store, later, late)
    first, second = found(store, Command)
    assert (first.id, second.id) == ("late", "later")
    assert first.given.utcoffset() == timedelta(0)
    assert str(first.given) == "2023-12-31 23:00:00+00:00"


def test_concurrent_writers_lose_no_update(store: AnyStore) -> None:
    put(store, VenueBalance("USDT", Decimal(0), Decimal(0)))
    threads, rounds = 4, 25
    failures: list[BaseException] = []

    def raise_balance() -> None:
        try:
            for _ in range(rounds):
                with store.transaction() as tx:
                    old = tx.get(VenueBalance, "USDT")
                    assert old is not None
                    tx.update(dataclasses.replace(old, free=old.free + 1))
        except BaseException as error:
            failures.append(error)

    running = [threading.Thread(target=raise_balance) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
    assert failures == []
    assert found(store, VenueBalance)[0].free == threads * rounds


def test_a_slot_is_taken_once(store: AnyStore) -> None:
    slot = JobRun("retrain", 7, MOMENT)
    with store.transaction() as tx:
        assert tx.add(slot)
    with store.transaction() as tx:
        assert not tx.add(JobRun("retrain", 7, MOMENT + timedelta(hours=1)))
    assert found(store, JobRun) == [slot]


def test_shares_and_venue_orders_are_found_by_their_parts(store: AnyStore) -> None:
    put(store, *(TradeShare("t1", name, 0.5) for name in ("rsi", "macd")), TradeShare("t2", "rsi", 1.0))
    assert [share.strategy for share in found(store, TradeShare, trade_id="t1")] == ["macd", "rsi"]
    put(store, *(record(VenueOrder, n, order_id=n, side=Side.BUY) for n in (10, 9, 11)))
    assert [order.order_id for order in found(store, VenueOrder, side=Side.BUY)] == [9, 10, 11]
