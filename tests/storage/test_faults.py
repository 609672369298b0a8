"""Killed writers, full disks, stopped servers: what was acknowledged is there, and the store works again."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.databases import PostgresServer
from tests.storage.records import record
from trading_bot.domain.journal import Run, Snapshot
from trading_bot.domain.venue import VenueBalance
from trading_bot.errors import StorageError
from trading_bot.storage.sql_store import SqlStore
from trading_bot.storage.store import open_store

WRITER = """
import sys
from decimal import Decimal
from trading_bot.domain.journal import Snapshot
from trading_bot.domain.venue import VenueBalance
from trading_bot.storage.store import open_store
store = open_store(sys.argv[1])
number = int(sys.argv[2])
while True:
    with store.transaction() as tx:
        tx.add(Snapshot(f"row-{number:06}", {"n": number}))
        tx.update(VenueBalance("USDT", Decimal(number), Decimal(0)))
    print(number, flush=True)
    number += 1
"""


@pytest.fixture
def store(database_url: str) -> Iterator[SqlStore]:
    made = open_store(database_url)
    yield made
    made.close()


def test_kill_loses_nothing_acknowledged(store: SqlStore, database_url: str) -> None:
    dice = random.Random(5)
    acknowledged = -1
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, database_url, str(acknowledged + 1)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(dice.randint(1, 60)):
                acknowledged = int(writer.stdout.readline())
            writer.kill()
            rest = writer.stdout.read().split("\n")[:-1]  # told before the kill, not yet read by us
            acknowledged = int(rest[-1]) if rest else acknowledged
        with store.reading() as tx:
            rows = [int(row.value["n"]) for row in tx.find(Snapshot)]
            balance = tx.get(VenueBalance, "USDT")
        assert balance is not None
        assert rows == list(range(len(rows)))  # none lost in the middle
        assert len(rows) - 1 in (acknowledged, acknowledged + 1)  # one may be kept without our having heard of it
        assert balance.free == len(rows) - 1  # never half a transaction
        acknowledged = len(rows) - 1
    assert acknowledged > 4


FULL_DISK = """
import resource, signal, sys
from trading_bot.domain.journal import Snapshot
from trading_bot.errors import StorageError
from trading_bot.storage.store import open_store
store = open_store(sys.argv[1])
room = int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
number, failed = 0, 0
while failed < 3 and number < 3000:
    try:
        with store.transaction() as tx:
            tx.add(Snapshot(f"row-{number:06}", {"words": "x" * 500}))
        print(number)
    except StorageError:
        failed += 1
    number += 1
assert failed == 3, "the disk was never full"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with store.transaction() as tx:
    tx.add(Snapshot("after", {}))
print("after")
store.close()
"""


@pytest.mark.parametrize("room", [200_000, 333_333, 500_001])
def test_a_full_disk_stops_writing_and_nothing_else(tmp_path: Path, room: int) -> None:
    url = f"sqlite:///{tmp_path}/t.sqlite"
    open_store(url).close()
    said = subprocess.run(
        [sys.executable, "-c", FULL_DISK, url, str(room)], capture_output=True, text=True, timeout=60, check=False
    )
    assert said.returncode == 0, said.stderr
    lines = said.stdout.split()
    acknowledged = ["after", *(f"row-{int(line):06}" for line in lines[:-1])]
    assert lines[-1] == "after"
    assert len(acknowledged) > 10
    store = open_store(url)
    with store.reading() as tx:
        assert [row.name for row in tx.find(Snapshot)] == sorted(acknowledged)
    store.close()
    raw = sqlite3.connect(tmp_path / "t.sqlite")
    assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.close()


def test_postgres_stopped_at_once_and_started_again(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    store = open_store(url)
    acknowledged: list[str] = []
    for life in range(4):
        for number in range(20):
            with store.transaction() as tx:
                tx.add(record(Run, id=f"{life}-{number:02}"))
            acknowledged.append(f"{life}-{number:02}")
        postgres.stop_at_once()
        with pytest.raises(StorageError), store.transaction():
            pass
        with pytest.raises(StorageError, match="cannot be read"), store.reading():
            pass
        postgres.start()
        with store.reading() as reader:  # the first question after the restart is answered
            assert {run.id for run in reader.find(Run)} == set(acknowledged)
    store.close()
    postgres.drop_database(url)


def test_postgres_restarted_between_transactions_goes_unnoticed(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    store = open_store(url)
    with store.transaction() as tx:
        tx.add(record(Run, 1))
    postgres.stop_at_once()
    postgres.start()
    with store.transaction() as tx:
        tx.add(record(Run, 2))
    with store.reading() as reader:
        assert len(reader.find(Run)) == 2
    store.close()
    postgres.drop_database(url)


def test_postgres_lost_within_a_transaction(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    store = open_store(url)

    def cut_off() -> None:
        with store.transaction() as tx:
            _end_sessions(url)
            tx.add(record(Run, 1))

    with pytest.raises(StorageError, match="table runs"):
        cut_off()
    with store.transaction() as tx:
        assert tx.find(Run) == []
        assert tx.add(record(Run, 1))
    store.close()
    postgres.drop_database(url)


def test_postgres_lost_at_commit_is_called_unknown(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    store = open_store(url)

    def cut_off() -> None:
        with store.transaction() as tx:
            tx.add(record(Run, 1))
            _end_sessions(url)

    with pytest.raises(StorageError, match="whether it was kept is unknown"):
        cut_off()
    with store.transaction() as tx:
        assert tx.add(record(Run, 1)) is True  # by its key the caller finds that it was not
    store.close()
    postgres.drop_database(url)


def test_after_a_database_error_the_transaction_cannot_be_kept(store: SqlStore) -> None:
    def swallow() -> None:
        with store.transaction() as tx:
            tx.add(record(Run, 1))
            with pytest.raises(StorageError, match="table runs"):
                tx.add(record(Run, 2, mode=None))
            with pytest.raises(StorageError, match="has failed already"):
                tx.add(record(Run, 3))

    with pytest.raises(StorageError, match="nothing was written"):
        swallow()
    with store.reading() as tx:
        assert tx.find(Run) == []
    with store.transaction() as tx:
        assert tx.add(record(Run, 1))


def _end_sessions(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
