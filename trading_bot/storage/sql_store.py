"""The Store over SQL: records in, records out, one durable transaction at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    CursorResult,
    Dialect,
    Executable,
    Select,
    bindparam,
    delete,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from trading_bot.errors import StorageError
from trading_bot.ports import AtLeast
from trading_bot.storage.engines import is_memory, parsed_url, reading_engine, reason, shown, writing_engine
from trading_bot.storage.tables import RecordTable, metadata, table_of
from trading_bot.storage.types import JsonMapping, Money

R = TypeVar("R")
_MANY = (list, tuple, set, frozenset)


class SqlTx:
    """One transaction. After a database error it takes nothing more: PostgreSQL would drop it silently."""

    def __init__(self, connection: Connection, statements: _Statements, writable: bool) -> None:
        self._connection = connection
        self._statements = statements
        self._writable = writable
        self.failure: StorageError | None = None

    def add(self, record: object) -> bool:
        """Insert; False (and nothing done) if a record with this key is there already."""
        return self._put(record, "insert") == 1

    def update(self, record: object) -> None:
        """Replace the record that has this key (insert if there is none)."""
        self._put(record, "upsert")

    def get(self, kind: type[R], *key: Any) -> R | None:
        """The record of this key, its parts in the order the table names them."""
        entry = table_of(kind)
        if len(key) != len(entry.key):
            raise StorageError(f"{kind.__name__} is found by ({', '.join(entry.key)}), got {len(key)} values")
        found = self.find(kind, **dict(zip(entry.key, key, strict=True)))
        return found[0] if found else None

    def find(self, kind: type[R], *, last: int | None = None, **where: Any) -> list[R]:
        """Records in their natural order; see `ports.Tx.find` for what `where` can say."""
        if last is not None and last < 0:
            raise StorageError(f"last should be ≥ 0, is {last}")
        entry = table_of(kind)
        shape, values = _shape(entry, where)
        statement = self._statements.select(entry, shape, last is not None)
        if last is not None:
            values["last"] = last
        rows = self._execute(entry, statement, values).all()
        make = cast("Callable[..., R]", kind)
        records = [make(*row) for row in rows]
        if last is not None:
            records.reverse()
        return records

    def prune(self, kind: type[object], before: int) -> int:
        """Delete records of a kind with a `time` column older than `before` (ms); how many."""
        entry = table_of(kind)
        if "time" not in entry.fields:
            raise StorageError(f"{kind.__name__} has no time to prune by")
        self._may_write(entry)
        statement = delete(entry.table).where(entry.table.c["time"] < bindparam("before"))
        return int(self._execute(entry, statement, {"before": before}).rowcount)

    def _put(self, record: object, how: Literal["insert", "upsert"]) -> int:
        entry = table_of(type(record))
        self._may_write(entry)
        entry.check_record(record)
        write = self._statements.write(entry, how, self._connection.dialect)
        try:
            values = {name: prepared(getattr(record, name)) for name, prepared in write.parameters}
        except StorageError as error:  # a value the column's type refused: nothing was sent
            raise StorageError(f"{entry.table.name}: {error}{entry.culprit(record)}") from None
        return self._execute(entry, write.sql, values).rowcount

    def _may_write(self, entry: RecordTable) -> None:
        if not self._writable:
            raise StorageError(f"{entry.table.name} cannot be written in a read-only view; use transaction()")

    def _execute(self, entry: RecordTable, statement: Executable | str, values: dict[str, Any]) -> CursorResult[Any]:
        if self.failure is not None:
            raise StorageError(f"this transaction has failed already ({self.failure}); leave it and begin another")
        try:
            if isinstance(statement, str):
                return self._connection.exec_driver_sql(statement, values)
            return cast("CursorResult[Any]", self._connection.execute(statement, values))
        except StatementError as error:
            if isinstance(error.orig, StorageError):  # asked for a value the column's type refuses
                raise StorageError(f"{entry.table.name}: {error.orig}") from None
            self.failure = StorageError(f"table {entry.table.name}: {reason(error)}")
            raise self.failure from error


def _shape(entry: RecordTable, where: dict[str, Any]) -> tuple[tuple[tuple[str, str], ...], dict[str, Any]]:
    """What a question looks like without its values, and the values under their parameters' names."""
    shape: list[tuple[str, str]] = []
    values: dict[str, Any] = {}
    for name, value in where.items():
        column_type = entry.column(name).type
        if isinstance(column_type, JsonMapping) and value is not None:
            raise StorageError(f"{entry.kind.__name__}.{name} is JSON and cannot be searched")
        if value is None:
            shape.append((name, "none"))
        elif isinstance(value, AtLeast):
            if isinstance(column_type, Money):  # text on SQLite, where '9' > '10'
                raise StorageError(f"{entry.kind.__name__}.{name} is money and cannot be searched by AtLeast")
            shape.append((name, "least"))
            values[f"w_{name}"] = value.value
        elif isinstance(value, _MANY):
            shape.append((name, "any_or_none" if None in value else "any"))
            values[f"w_{name}"] = [item for item in value if item is not None]
        else:
            shape.append((name, "is"))
            values[f"w_{name}"] = value
    return tuple(shape), values


@dataclass(frozen=True, slots=True)
class _Write:
    """SQL that puts one record, and how the database wants each field."""

    sql: str
    parameters: tuple[tuple[str, Callable[[Any], Any]], ...]


class _Statements:
    """Statements built once and kept: building one costs more than running it.

    Writes are kept as compiled SQL with the columns' own converters, since they stand between a decision and its
    order (3 times as fast as an ORM session); reads go through SQLAlchemy's statement cache.
    """

    def __init__(self) -> None:
        self._kept: dict[Any, Any] = {}

    def write(self, entry: RecordTable, how: Literal["insert", "upsert"], dialect: Dialect) -> _Write:
        """Insert unless the key is there, or insert or replace everything but the key."""
        kept: _Write | None = self._kept.get((entry, how))
        if kept is None:
            kept = self._kept[entry, how] = _compiled(entry, how, dialect)
        return kept

    def select(self, entry: RecordTable, shape: tuple[tuple[str, str], ...], last: bool) -> Executable:
        """The question of this shape; with `last`, newest first."""

        def build() -> Executable:
            chosen: Select[Any] = select(*(entry.table.c[name] for name in entry.fields))
            for name, form in shape:
                chosen = chosen.where(_condition(entry, name, form))
            if not last:
                return chosen.order_by(*entry.ordering())
            return chosen.order_by(*(term.desc() for term in entry.ordering())).limit(bindparam("last"))

        kept: Executable | None = self._kept.get((entry, shape, last))
        if kept is None:
            kept = self._kept[entry, shape, last] = build()
        return kept


def _compiled(entry: RecordTable, how: Literal["insert", "upsert"], dialect: Dialect) -> _Write:
    new = (postgresql.insert if dialect.name == "postgresql" else sqlite.insert)(entry.table)
    key = [entry.table.c[name].name for name in entry.key]
    if how == "insert":
        statement = new.on_conflict_do_nothing(index_elements=key)
    else:
        rest = {name: new.excluded[name] for name in entry.fields if name not in entry.key}
        statement = new.on_conflict_do_update(index_elements=key, set_=rest)
    converters = (
        (name, entry.column(name).type.dialect_impl(dialect).bind_processor(dialect)) for name in entry.fields
    )
    return _Write(
        str(statement.compile(dialect=dialect)),
        tuple((name, converter or _unchanged) for name, converter in converters),
    )


def _unchanged(value: Any) -> Any:
    return value


def _condition(entry: RecordTable, name: str, form: str) -> ColumnElement[bool]:
    column = entry.column(name)
    if form == "none":
        return column.is_(None)
    parameter = bindparam(f"w_{name}", type_=column.type, expanding=form.startswith("any"))
    if form == "least":
        return column >= parameter
    if form == "is":
        return column == parameter
    among = column.in_(parameter)
    return or_(among, column.is_(None)) if form == "any_or_none" else among


class SqlStore:
    """Records in SQLite or PostgreSQL. The tables must be there: use `store.open_store`.

    Parameters
    ----------
    url : str
        `sqlite:///file`, `sqlite://` (in memory, for backtests) or `postgresql://…`.
    wait_seconds : float
        How long to wait for another writer before giving up.
    read_only : bool
        Refuse `transaction()`.
    """

    def __init__(self, url: str, *, wait_seconds: float = 10.0, read_only: bool = False) -> None:
        self.url = parsed_url(url)
        self._wait_seconds = wait_seconds
        self._read_only = read_only
        self._memory = is_memory(self.url)
        self._writing_engine = None if read_only else writing_engine(self.url, wait_seconds)
        self._reading_engine = None if self._memory else reading_engine(self.url, wait_seconds)
        self._statements = _Statements()
        self._writer: Connection | None = None
        self._turn = threading.Lock()
        self._turn_of: int | None = None

    @contextmanager
    def transaction(self) -> Iterator[SqlTx]:
        """A write transaction: durable when left normally, undone by an exception.

        Raises
        ------
        StorageError
            The database cannot be written, another writer took too long, or the outcome of the commit is unknown.
        """
        with self._my_turn():
            connection = self._begun()
            tx = SqlTx(connection, self._statements, writable=True)
            try:
                yield tx
                if tx.failure is not None:
                    raise StorageError(f"nothing was written: {tx.failure}")
            except BaseException:
                self._undo(connection, broken=tx.failure is not None)
                raise
            try:
                connection.commit()
            except SQLAlchemyError as error:
                self._undo(connection, broken=True)
                raise StorageError(
                    f"the commit to {shown(self.url)} was cut short ({reason(error)}); whether it was kept is unknown: "
                    "look the records up by their keys"
                ) from error

    @contextmanager
    def reading(self) -> Iterator[SqlTx]:
        """A read-only view of what was last committed; it never blocks a writer."""
        if self._reading_engine is None:  # in memory there is one connection: its own transaction, or a turn of it
            if self._turn_of == threading.get_ident() and self._writer is not None:
                yield SqlTx(self._writer, self._statements, writable=False)
                return
            with self._my_turn():
                connection = self._begun()
                try:
                    yield SqlTx(connection, self._statements, writable=False)
                finally:
                    connection.rollback()
            return
        try:
            connection = self._reading_engine.connect()
            connection.begin()
        except SQLAlchemyError as error:
            raise StorageError(f"{shown(self.url)} cannot be read: {reason(error)}") from error
        try:
            yield SqlTx(connection, self._statements, writable=False)
        finally:
            _closed(connection)

    def create_tables(self) -> None:
        """Make every table as it is today, without a history; for a database in memory."""
        with self._my_turn():
            connection = self._begun()
            metadata.create_all(connection)
            connection.commit()

    def close(self) -> None:
        """Let go of every connection; the store opens new ones if it is used again."""
        with self._turn:
            if self._writer is not None:
                _closed(self._writer)
                self._writer = None
            for engine in (self._writing_engine, self._reading_engine):
                if engine is not None:
                    engine.dispose()

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        me = threading.get_ident()
        if self._turn_of == me:
            raise StorageError("a transaction is already open in this thread; use that one")
        if not self._turn.acquire(timeout=self._wait_seconds):
            raise StorageError(f"another thread has held its transaction for {self._wait_seconds:g} s; giving up")
        self._turn_of = me
        try:
            yield
        finally:
            self._turn_of = None
            self._turn.release()

    def _begun(self) -> Connection:
        """The writer's connection with a transaction begun; a connection that died meanwhile is replaced once."""
        if self._writing_engine is None:
            raise StorageError(f"{shown(self.url)} was opened read-only and cannot be written")
        again = self._writer is not None
        while True:
            try:
                connection = self._writer = self._writer or self._writing_engine.connect()
                connection.begin()
            except SQLAlchemyError as error:
                if self._writer is not None:
                    self._undo(self._writer, broken=True)
                if again and isinstance(error, DBAPIError) and error.connection_invalidated:
                    again = False
                    continue
                raise StorageError(f"{shown(self.url)} cannot be written: {reason(error)}") from error
            return connection

    def _undo(self, connection: Connection, *, broken: bool) -> None:
        try:
            connection.rollback()
        except SQLAlchemyError:
            broken = True
        if broken:
            self._writer = None
            _closed(connection)


def _closed(connection: Connection) -> None:
    try:
        connection.close()
    except SQLAlchemyError:
        connection.invalidate()
