"""Opening the database: make it, migrate it, or say in one line why it cannot be used."""

from __future__ import annotations

import importlib
from pathlib import Path

from sqlalchemy import Connection, inspect
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from trading_bot.errors import NoDatabase, StorageError
from trading_bot.storage.engines import (
    is_memory,
    opening_failed,
    parsed_url,
    reading_engine,
    shown,
    writing_engine,
)
from trading_bot.storage.migrations import HEAD, REVISIONS
from trading_bot.storage.sql_store import SqlStore
from trading_bot.storage.tables import metadata

__all__ = ["SqlStore", "open_readonly", "open_store", "upgrade"]


def open_store(url: str, *, wait_seconds: float = 10.0) -> SqlStore:
    """The store at `url`, made and migrated where needed.

    Raises
    ------
    ConfigurationError
        `url` is neither SQLite nor PostgreSQL.
    StorageError
        The database cannot be written, is not one, is not ours, is newer than this program or cannot be reached.
    """
    store = SqlStore(url, wait_seconds=wait_seconds)
    if is_memory(store.url):
        store.create_tables()
    else:
        upgrade(url, wait_seconds=wait_seconds)
    return store


def open_readonly(url: str) -> SqlStore:
    """The store at `url` for reading alone; nothing is made, migrated or waited for.

    Raises
    ------
    ConfigurationError, StorageError
        As `open_store`; also if its tables are older than this program.
    NoDatabase
        If there is none yet.
    """
    parsed = parsed_url(url)
    missing = NoDatabase(f"no database at {shown(parsed)}: has the bot run yet?")
    if is_memory(parsed) or (parsed.drivername == "sqlite" and not Path(parsed.database or "").is_file()):
        raise missing
    engine = reading_engine(parsed, wait_seconds=5.0)
    try:
        with engine.connect() as connection:
            revision = _revision(connection, parsed)
    except SQLAlchemyError as error:
        raise opening_failed(parsed, error) from error
    finally:
        engine.dispose()
    if revision is None:
        raise missing
    if revision != HEAD:
        raise StorageError(
            f"the tables of {shown(parsed)} are at revision {revision}, older than this program's {HEAD}; "
            "run `trading-bot db upgrade`"
        )
    return SqlStore(url, read_only=True)


def upgrade(url: str, *, wait_seconds: float = 10.0) -> str | None:
    """Bring the database at `url` to the newest revision, making it if there is none.

    Returns
    -------
    str or None
        The revision it had before: None if it is new.

    Raises
    ------
    ConfigurationError, StorageError
        As `open_store`.
    """
    parsed = parsed_url(url)
    _make_folder(parsed)
    engine = writing_engine(parsed, wait_seconds)
    try:
        with engine.begin() as connection:  # one program at a time comes past here; one that may not write, never
            before = _revision(connection, parsed)
            if before != HEAD:
                # alembic takes 0.2 s to import and is needed once in a database's life
                importlib.import_module("trading_bot.storage.migrate").to_head(connection)
            else:  # SQLite opens a file we may not write as if nothing were; find out now, not at the first order
                connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
    except SQLAlchemyError as error:
        raise opening_failed(parsed, error) from error
    finally:
        engine.dispose()
    return before


def _revision(connection: Connection, url: URL) -> str | None:
    there = set(inspect(connection).get_table_names())
    if "alembic_version" not in there:
        if strangers := sorted(there & set(metadata.tables)):
            raise StorageError(
                f"{shown(url)} holds a table {strangers[0]!r} that is not this program's; give another db_url"
            )
        return None
    rows = connection.exec_driver_sql("SELECT version_num FROM alembic_version").all()
    if not rows:
        return None
    revision = str(rows[0][0])
    if revision not in REVISIONS:
        raise StorageError(
            f"the tables of {shown(url)} are at revision {revision}, which this program does not know (it knows "
            f"{HEAD}): they come from a newer version; update trading_bot or give another db_url"
        )
    return revision


def _make_folder(url: URL) -> None:
    if url.drivername != "sqlite" or url.database is None:
        return
    path = Path(url.database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"folder {path.parent} for the database cannot be made: {error.strerror}; check path and permissions"
        ) from error
    if path.is_dir():
        raise StorageError(f"{path} is a folder; db_url should name a file in it, such as {path}/trading.sqlite")
