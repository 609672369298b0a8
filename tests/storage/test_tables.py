"""The tables users see, the questions their indices serve, and the migrations that make them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect

from tests.storage.records import MOMENT, record
from trading_bot.domain.account import Trade
from trading_bot.domain.journal import Decision, Training
from trading_bot.domain.models import ModelStatus, ModelVersion
from trading_bot.domain.orders import Fill, Order
from trading_bot.domain.venue import VenueOrder
from trading_bot.errors import StorageError
from trading_bot.storage.engines import parsed_url, writing_engine
from trading_bot.storage.migrate import MIGRATIONS, alembic_config
from trading_bot.storage.migrations import HEAD, REVISIONS
from trading_bot.storage.store import open_readonly, open_store, upgrade
from trading_bot.storage.tables import TABLES, metadata


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    open_store(database_url).close()
    made = writing_engine(parsed_url(database_url), 5.0)
    yield made
    made.dispose()


def test_the_migrations_make_the_tables(engine: Engine) -> None:
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        seen = inspect(connection)
        for name, table in metadata.tables.items():
            assert {(i["name"], tuple(i["column_names"])) for i in seen.get_indexes(name)} == {
                (str(index.name), tuple(column.name for column in index.columns)) for index in table.indexes
            }
            primary = [column.name for column in table.primary_key.columns]
            assert seen.get_pk_constraint(name)["constrained_columns"] == primary


def test_the_comparison_would_see_a_difference(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX ix_fills_client_order_id_pair_date")
        connection.exec_driver_sql("ALTER TABLE fills ADD COLUMN stray TEXT")
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = {change[0] for change in compare_metadata(context, metadata)}
    assert found == {"add_index", "remove_column"}


def test_the_list_of_revisions_is_alembics(engine: Engine) -> None:
    with engine.begin() as connection:
        script = ScriptDirectory.from_config(alembic_config(connection))
    assert script.get_heads() == [HEAD]
    assert [step.revision for step in script.walk_revisions()] == list(reversed(REVISIONS))
    assert (MIGRATIONS / "script.py.mako").exists()


def test_upgrade_tells_where_it_came_from(database_url: str) -> None:
    assert upgrade(database_url) is None
    assert upgrade(database_url) == HEAD


OLD_DECISION = """
INSERT INTO decisions (pair, time, regime, weights, signals, score, side, outcome, reason, model_versions, run_id)
VALUES ('BTC/USDT', 7, 'ranging', '{"rsi":0.5}', '{"rsi":[1,0.25]}', 0.25, 1, 'hold', 'in T1', '{}', 'run-1')
"""


OLD_MODEL = """
INSERT INTO models (id, strategy, status, created, sha256, data_hash, features, config, scores)
VALUES ('nf-1', 'neural_forecast', 'champion', '2024-02-29 12:30:15.123456+00:00', 'aa', 'd47a', '{}', '{}', '{}')
"""


def older_database(url: str, revision: str, row: str) -> Engine:
    """A database that an earlier program has left at `revision`, with one row in it."""
    engine = writing_engine(parsed_url(url), 5.0)
    if engine.url.database is not None and engine.dialect.name == "sqlite":
        Path(engine.url.database).parent.mkdir()
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), revision)
        connection.exec_driver_sql(row)
    return engine


def test_a_database_of_the_first_release_is_brought_up_with_its_rows(database_url: str) -> None:
    at_first = older_database(database_url, REVISIONS[0], OLD_DECISION)
    with pytest.raises(StorageError, match=r"at revision r0001_initial, older than .*`trading-bot db upgrade`"):
        open_readonly(database_url)
    assert upgrade(database_url) == REVISIONS[0]
    store = open_store(database_url)
    model: ModelVersion = record(ModelVersion)
    new: Decision = record(Decision, notes={"neural_forecast": "silent: no model"})
    with store.transaction() as tx:
        assert tx.add(model)
        assert tx.add(new)
    old = Decision("BTC/USDT", 7, "ranging", {"rsi": 0.5}, {"rsi": (1, 0.25)}, 0.25, 1, "hold", "in T1", run_id="run-1")
    with store.reading() as tx:
        assert tx.find(Decision) == [old, new]
        assert tx.find(ModelVersion, strategy=model.strategy, status=ModelStatus.CHAMPION) == [model]
    store.close()
    with at_first.begin() as connection:  # and back: a database that the older program can use again
        command.downgrade(alembic_config(connection), REVISIONS[0])
        seen = inspect(connection)
        assert "notes" not in {column["name"] for column in seen.get_columns("decisions")}
        assert "models" not in seen.get_table_names()
        assert len(connection.exec_driver_sql("SELECT * FROM decisions").all()) == 2
    at_first.dispose()


def test_models_of_before_are_not_pinned_and_trainings_find_a_table(database_url: str) -> None:
    before = older_database(database_url, "r0002_models", OLD_MODEL)
    assert upgrade(database_url) == "r0002_models"
    store = open_store(database_url)
    training: Training = record(Training)
    with store.transaction() as tx:
        (old,) = tx.find(ModelVersion)
        assert (old.id, old.created, old.pinned) == ("nf-1", MOMENT, False)
        tx.update(dataclasses.replace(old, pinned=True))
        assert tx.add(training)
        assert tx.add(dataclasses.replace(training, outcome="rolled_back")), "a bar may see two outcomes"
        assert not tx.add(training)
    with store.reading() as tx:
        assert [each.id for each in tx.find(ModelVersion, pinned=True)] == ["nf-1"]
        assert [each.outcome for each in tx.find(Training, strategy=training.strategy)] == ["outcome-1", "rolled_back"]
    with store.transaction() as tx:
        assert tx.prune(Training, training.time + 1) == 2
    store.close()
    with before.begin() as connection:  # and back
        command.downgrade(alembic_config(connection), "r0002_models")
        seen = inspect(connection)
        assert "pinned" not in {column["name"] for column in seen.get_columns("models")}
        assert "trainings" not in seen.get_table_names()
        assert connection.exec_driver_sql("SELECT id FROM models").all() == [("nf-1",)]
    before.dispose()


def test_names_users_know() -> None:
    wanted = {
        "trades": "id exchange pair strategy book is_open open_date close_date open_rate close_rate amount "
        "stake_amount fee_open fee_close close_profit close_profit_abs stop_loss enter_tag exit_reason",
        "orders": "client_order_id exchange_order_id pair status side order_type price amount filled cost order_date "
        "order_filled_date",
    }
    for name, columns in wanted.items():
        assert set(columns.split()) <= {column.name for column in metadata.tables[name].columns}
    assert set(metadata.tables) >= {
        "fills",
        "decisions",
        "equity",
        "regimes",
        "weights",
        "runs",
        "commands",
        "job_runs",
        "models",
        "trainings",
    }


QUESTIONS: list[tuple[type[Any], dict[str, Any]]] = [
    (Trade, {"strategy": "s1", "book": "shadow", "is_open": False}),
    (Trade, {}),
    (Trade, {"book": "shadow"}),
    (Trade, {"is_open": True}),
    (Decision, {}),
    (Decision, {"symbol": "S1"}),
    (Fill, {"symbol": "S1"}),
    (Fill, {"symbol": "S1", "client_order_id": "c1"}),
    (Order, {}),
    (VenueOrder, {"symbol": "S1", "client_order_id": "c1"}),
    (ModelVersion, {}),
    (Training, {}),
    (Training, {"strategy": "s1"}),
    (Order, {"symbol": "S1"}),
]


@pytest.mark.parametrize(("kind", "where"), QUESTIONS)
def test_the_newest_are_found_by_index(tmp_path: Path, kind: type[Any], where: dict[str, Any]) -> None:
    """SQLite reads no more rows than it gives: its plan names an index and sorts at most within one instant."""
    store = open_store(f"sqlite:///{tmp_path}/t.sqlite")
    plans: list[str] = []
    with store.reading() as tx:
        raw = tx._connection.connection.driver_connection
        assert raw is not None
        raw.set_trace_callback(lambda sql: plans.append(sql))
        tx.find(kind, last=5, **where)
        raw.set_trace_callback(None)
        (sql,) = [line for line in plans if line.startswith("SELECT")]
        steps = [str(row[3]) for row in raw.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()]
    store.close()
    index = "client_order_id" if "client_order_id" in where else ""
    assert any("USING INDEX" in step and index in step.partition(" (")[0] for step in steps), steps
    assert all("USE TEMP B-TREE FOR ORDER BY" not in step for step in steps), steps


@pytest.mark.slow
def test_a_strategys_newest_trades_among_many(database_url: str) -> None:
    store = open_store(database_url)
    one: Trade = record(Trade, book="shadow")
    with store.transaction() as tx:
        for n in range(30_000):
            at = MOMENT + timedelta(minutes=n)
            tx.add(dataclasses.replace(one, id=f"t{n}", strategy=f"s{n % 6}", close_date=at, open_date=at))
    mine = {"strategy": "s3", "book": "shadow", "is_open": False}
    best = 1.0
    for _ in range(20):
        start = time.perf_counter()
        with store.reading() as tx:
            found = tx.find(Trade, last=50, **mine)
        best = min(best, time.perf_counter() - start)
    store.close()
    assert [trade.id for trade in found[-2:]] == ["t29991", "t29997"]
    assert best < 0.01


def test_reading_needs_neither_alembic_nor_the_brain() -> None:
    code = (
        "import sys, trading_bot.storage.store, trading_bot.storage.lock\n"
        "print([name for name in ('alembic', 'ccxt', 'pandas', 'torch', 'psycopg') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.strip() == "[]"


def test_every_table_is_ordered_to_the_last_row() -> None:
    """The natural order ends in the key, so that no two rows can change places."""
    assert len(TABLES) == 18
    for entry in TABLES.values():
        assert set(entry.key) <= set(entry.order)
