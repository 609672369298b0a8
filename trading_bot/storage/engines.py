"""Connections to the two databases, set up so that a commit is durable and no writer overwrites another's work.

SQLite: write-ahead log, synchronous FULL, and BEGIN IMMEDIATE for writers, because a deferred BEGIN lets two
read-modify-write transactions lose an update or fail with "locked" halfway. PostgreSQL: one transaction-level advisory
lock per write transaction, for the same one-writer-at-a-time meaning; readers see one snapshot.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, StatementError
from sqlalchemy.pool import QueuePool, StaticPool

from trading_bot.errors import ConfigurationError, StorageError

LOCK_SPACE = 0x7B07  # first half of every advisory lock this program takes
WRITER_LOCK = 1
DAEMON_LOCK = 2
STATEMENT_TIMEOUT = 60.0  # seconds
CONNECT_TIMEOUT = 5  # seconds
_WANTED = "wanted sqlite:///path/to/file.sqlite or postgresql://user:password@host:5432/database"


def parsed_url(url: str) -> URL:
    """`url` with the driver spelled out and the path of SQLite's file made absolute.

    Raises
    ------
    ConfigurationError
        If it names neither SQLite nor PostgreSQL. The URL itself is not repeated: it may hold a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"db_url is not a database URL; {_WANTED}") from None
    backend = parsed.drivername.partition("+")[0]
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise ConfigurationError(f"db_url names the database {backend!r}; {_WANTED}")
    if is_memory(parsed):
        return parsed.set(drivername="sqlite", database=None)
    return parsed.set(drivername="sqlite", database=str(Path(parsed.database or "").expanduser().absolute()))


def is_memory(url: URL) -> bool:
    """Whether `url` is SQLite's database without a file."""
    return url.drivername.startswith("sqlite") and url.database in (None, "", ":memory:")


def shown(url: URL) -> str:
    """What to call the database in a message: the file's path, or the URL without its password."""
    if url.drivername == "sqlite":
        return url.database or "the database in memory"
    return url.set(drivername="postgresql").render_as_string(hide_password=True)


def writing_engine(url: URL, wait_seconds: float) -> Engine:
    """For transactions that write; one at a time, whoever asks."""
    if url.drivername == "sqlite":
        return _sqlite_engine(url, wait_seconds, "BEGIN IMMEDIATE", mode="rwc")
    engine = _postgres_engine(url, wait_seconds)

    @event.listens_for(engine, "begin")
    def take_turns(connection: Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK_SPACE}, {WRITER_LOCK})")

    return engine


def reading_engine(url: URL, wait_seconds: float) -> Engine:
    """For transactions that only read, each in one snapshot. Never creates a file."""
    if url.drivername == "sqlite":
        return _sqlite_engine(url, wait_seconds, "BEGIN", mode="rw")
    engine = _postgres_engine(url, wait_seconds)
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def lock_engine(url: URL, name: str) -> Engine:
    """One PostgreSQL session for a lock that is held for the life of the process, under a name others can read."""
    return _postgres_engine(url, 10.0, name).execution_options(isolation_level="AUTOCOMMIT")


def _sqlite_engine(url: URL, wait_seconds: float, begin: str, mode: str) -> Engine:
    def connect() -> sqlite3.Connection:
        target = ":memory:" if url.database is None else f"file:{quote(url.database)}?mode={mode}"
        try:
            connection = _opened(target)
        except sqlite3.OperationalError:
            if mode != "rw" or url.database is None or not Path(url.database).exists():
                raise
            connection = _opened(f"file:{quote(url.database)}?mode=ro")  # a file we may read but not write
        return connection

    def _opened(target: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            target, uri=True, timeout=wait_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            if mode == "rwc":
                connection.execute("PRAGMA journal_mode=WAL").fetchall()
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA foreign_keys=ON")
            else:
                connection.execute("PRAGMA query_only=ON")
                connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection

    pool = StaticPool if url.database is None else QueuePool
    engine = create_engine(url, creator=connect, poolclass=pool, paramstyle="named")

    @event.listens_for(engine, "begin")
    def begin_as_asked(connection: Connection) -> None:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        try:
            raw.execute(begin)  # past SQLAlchemy's machinery, which would take a quarter of a transaction's time
        except sqlite3.Error as error:
            raise OperationalError(begin, None, error) from error

    return engine


def _postgres_engine(url: URL, wait_seconds: float, name: str = "trading_bot") -> Engine:
    options = {
        "lock_timeout": f"{int(wait_seconds * 1000)}",
        "statement_timeout": f"{int(max(STATEMENT_TIMEOUT, wait_seconds * 2) * 1000)}",
        "timezone": "UTC",
    }
    settings = " ".join(f"-c {name}={value}" for name, value in options.items())
    try:
        return create_engine(
            url,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT,
                "options": settings,
                "application_name": name,
            },
        )
    except (ModuleNotFoundError, NoSuchModuleError):
        raise StorageError(
            "db_url is PostgreSQL but its driver psycopg is not installed; pip install 'trading-bot[postgres]'"
        ) from None


def reason(error: BaseException) -> str:
    """The database's own words, on one line."""
    cause = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0] if lines else type(cause).__name__


def opening_failed(url: URL, error: BaseException) -> StorageError:
    """What to tell the user when the first use of the database at `url` failed."""
    said, name = reason(error), shown(url)
    if url.drivername != "sqlite":
        return StorageError(f"PostgreSQL at {name} cannot be used: {said}; is it running, are user and password right?")
    if "not a database" in said:
        return StorageError(f"{name} is not a SQLite database; move it away or give another db_url")
    if "locked" in said:
        return StorageError(f"database {name} is locked by another program; stop it and try again")
    return StorageError(f"database {name} cannot be opened for writing: {said}; check the path and its permissions")
