"""What the user is told when the database cannot be used; and what is made when it can."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import URL

from tests.databases import PostgresServer
from tests.storage.records import record
from trading_bot.domain.journal import Command, Run
from trading_bot.errors import ConfigurationError, StorageError
from trading_bot.storage import engines
from trading_bot.storage.migrations import HEAD
from trading_bot.storage.store import open_readonly, open_store, upgrade


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.mark.parametrize(
    "url", ["mysql://u:secret@h/db", "nonsense secret", "", "sqlite+aiomysql:secret", "postgres:/"]
)
def test_a_url_of_something_else_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises((ConfigurationError, StorageError)) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_the_folder_is_made(tmp_path: Path) -> None:
    open_store(sqlite_url(tmp_path / "a" / "b" / "t.sqlite")).close()
    assert (tmp_path / "a" / "b" / "t.sqlite").exists()


def test_odd_characters_in_the_path(tmp_path: Path) -> None:
    path = tmp_path / "a b#c%20?é" / "t.sqlite"
    url = URL.create("sqlite", database=str(path)).render_as_string()
    store = open_store(url)
    with store.transaction() as tx:
        tx.add(record(Run))
    store.close()
    assert path.exists()
    assert [one.name for one in tmp_path.iterdir()] == ["a b#c%20?é"]


def test_a_file_in_the_way_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"folder .*/file/in for the database cannot be made: Not a directory"):
        open_store(sqlite_url(tmp_path / "file" / "in" / "t.sqlite"))


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is a folder; db_url should name a file"):
        open_store(sqlite_url(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_and_file(tmp_path: Path) -> None:
    path = tmp_path / "closed" / "t.sqlite"
    open_store(sqlite_url(path)).close()
    path.chmod(0o400)
    with pytest.raises(StorageError, match="cannot be opened for writing"):
        open_store(sqlite_url(path))
    path.unlink()
    path.parent.chmod(0o500)
    with pytest.raises(StorageError, match="cannot be opened for writing: unable to open"):
        open_store(sqlite_url(path))
    path.parent.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that not even root can write")
def test_a_folder_nobody_can_write() -> None:
    with pytest.raises(StorageError, match="cannot be opened for writing"):
        open_store("sqlite:////proc/trading.sqlite")
    with pytest.raises(StorageError, match="cannot be made"):
        open_store("sqlite:////proc/folder/trading.sqlite")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    path.write_text("date,open,high,low,close\n" * 100)
    for opener in (open_store, open_readonly):
        with pytest.raises(StorageError, match=r"t\.sqlite is not a SQLite database; move it away"):
            opener(sqlite_url(path))
    assert path.read_text().startswith("date,open")


def test_another_programs_database(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE trades (id INTEGER)")
    connection.close()
    with pytest.raises(StorageError, match="holds a table 'trades' that is not this program's"):
        open_store(sqlite_url(path))


def set_revision(url: str, revision: str) -> None:
    engine = engines.writing_engine(engines.parsed_url(url), 5.0)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    engine.dispose()


def test_a_newer_database_is_left_alone(database_url: str) -> None:
    open_store(database_url).close()
    set_revision(database_url, "r9999_future")
    for opener in (open_store, open_readonly, upgrade):
        with pytest.raises(StorageError, match=r"r9999_future.*come from a newer version; update trading_bot"):
            opener(database_url)
    set_revision(database_url, HEAD)
    open_store(database_url).close()


def test_reading_before_the_first_run(database_url: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no database at .*: has the bot run yet"):
        open_readonly(database_url)
    assert list(tmp_path.iterdir()) == []  # nothing was made


def test_reading_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    path.touch()
    with pytest.raises(StorageError, match="has the bot run yet"):
        open_readonly(sqlite_url(path))
    open_store(sqlite_url(path)).close()  # for a daemon it is as good as none
    open_readonly(sqlite_url(path)).close()


def test_reading_beside_a_writer(database_url: str) -> None:
    daemon = open_store(database_url)
    with daemon.transaction() as tx:
        tx.add(record(Run))
    status = open_readonly(database_url)
    with daemon.transaction() as tx:
        tx.add(record(Run, 2))
        with status.reading() as seen:
            assert seen.find(Run) == [record(Run)]
    with status.reading() as seen:
        assert len(seen.find(Run)) == 2
    with pytest.raises(StorageError, match="opened read-only"), status.transaction():
        pass
    status.close()
    daemon.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_reading_a_file_one_may_not_write(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    open_store(sqlite_url(path)).close()
    path.chmod(0o400)
    store = open_readonly(sqlite_url(path))
    with store.reading() as tx:
        assert tx.find(Run) == []
    store.close()


def test_many_open_a_new_database_at_once(database_url: str) -> None:
    code = "import sys; from trading_bot.storage.store import open_store; open_store(sys.argv[1]).close()"
    running = [
        subprocess.Popen([sys.executable, "-c", code, database_url], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in running] == [("", 0)] * 4


def test_postgres_that_is_not_there() -> None:
    url = "postgresql://bot:secret@127.0.0.1:1/db"
    for opener in (open_store, open_readonly):
        with pytest.raises(
            StorageError, match=r"PostgreSQL at postgresql://bot:.*127\.0\.0\.1:1/db cannot be used"
        ) as caught:
            opener(url)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_postgres_without_that_database(postgres: PostgresServer) -> None:
    with pytest.raises(StorageError, match='database "absent" does not exist'):
        open_store(f"postgresql://bot@127.0.0.1:{postgres.port}/absent")


def test_postgres_without_its_driver() -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from trading_bot.errors import StorageError\n"
        "from trading_bot.storage.store import open_store\n"
        "try: open_store('postgresql://bot@127.0.0.1:1/db')\n"
        "except StorageError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'trading-bot[postgres]'" in said.stdout


def test_a_locked_sqlite_file(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "t.sqlite")
    store = open_store(url, wait_seconds=0.2)
    other = sqlite3.connect(tmp_path / "t.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="locked"), store.transaction():
        pass
    with pytest.raises(StorageError, match="is locked by another program; stop it"):
        open_store(url, wait_seconds=0.2)
    with store.reading() as tx:  # readers do not care
        assert tx.find(Command) == []
    other.execute("ROLLBACK")
    other.close()
    with store.transaction() as tx:
        assert tx.add(record(Command))
    store.close()


def test_another_writer_on_postgres(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    store = open_store(url, wait_seconds=0.2)
    with psycopg.connect(url) as other:
        other.execute(f"SELECT pg_advisory_xact_lock({engines.LOCK_SPACE}, {engines.WRITER_LOCK})".encode())
        with pytest.raises(StorageError, match="lock timeout"), store.transaction():
            pass
        with store.reading() as tx:
            assert tx.find(Command) == []
    with store.transaction() as tx:
        assert tx.add(record(Command))
    store.close()
    postgres.drop_database(url)
