"""Fakes that mirror the ports: the same behaviour, without the outside world."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeDecorator

from trading_bot.errors import StorageError
from trading_bot.ports import AtLeast
from trading_bot.storage.tables import RecordTable, table_of
from trading_bot.storage.types import JsonMapping, Money

R = TypeVar("R")
_Key = tuple[Any, ...]
_Rows = dict[type[Any], dict[_Key, Any]]
_DIALECT = sqlite.dialect()


class MemoryTx:
    """A transaction on `MemoryStore`: its writes lie over the committed rows until they are merged."""

    def __init__(self, rows: _Rows, writable: bool) -> None:
        self._rows = rows
        self._writable = writable
        self.written: dict[type[Any], dict[_Key, Any]] = {}  # a value of None: deleted

    def add(self, record: object) -> bool:
        entry, kept, key = self._kept(record)
        if self._at(entry.kind, key) is not None:
            return False
        self.written.setdefault(entry.kind, {})[key] = kept
        return True

    def update(self, record: object) -> None:
        entry, kept, key = self._kept(record)
        self.written.setdefault(entry.kind, {})[key] = kept

    def get(self, kind: type[R], *key: Any) -> R | None:
        entry = table_of(kind)
        if len(key) != len(entry.key):
            raise StorageError(f"{kind.__name__} is found by ({', '.join(entry.key)}), got {len(key)} values")
        return cast("R | None", self._at(kind, key))

    def find(self, kind: type[R], *, last: int | None = None, **where: Any) -> list[R]:
        if last is not None and last < 0:
            raise StorageError(f"last should be ≥ 0, is {last}")
        entry = table_of(kind)
        tests = [(name, _test(entry, name, value)) for name, value in where.items()]
        rows = {**self._rows.get(kind, {}), **self.written.get(kind, {})}
        found = [row for row in rows.values() if row is not None and all(test(getattr(row, n)) for n, test in tests)]
        found.sort(key=lambda row: _natural(entry, row))
        return found if last is None else found[len(found) - min(last, len(found)) :]

    def prune(self, kind: type[object], before: int) -> int:
        entry = table_of(kind)
        if "time" not in entry.fields:
            raise StorageError(f"{kind.__name__} has no time to prune by")
        self._may_write(entry)
        old = [row for row in self.find(kind) if cast("Any", row).time < before]
        for row in old:
            self.written.setdefault(kind, {})[_key(entry, row)] = None
        return len(old)

    def _at(self, kind: type[Any], key: _Key) -> Any:
        over = self.written.get(kind, {})
        return over[key] if key in over else self._rows.get(kind, {}).get(key)

    def _kept(self, record: object) -> tuple[RecordTable, Any, _Key]:
        entry = table_of(type(record))
        self._may_write(entry)
        kept = _as_stored(entry, record)
        return entry, kept, _key(entry, kept)

    def _may_write(self, entry: RecordTable) -> None:
        if not self._writable:
            raise StorageError(f"{entry.table.name} cannot be written in a read-only view; use transaction()")


class MemoryStore:
    """A `Store` in a dictionary that refuses and gives back what the real ones do."""

    def __init__(self) -> None:
        self._rows: _Rows = {}
        self._turn = threading.Lock()
        self._turn_of: int | None = None

    @contextmanager
    def transaction(self) -> Iterator[MemoryTx]:
        if self._turn_of == threading.get_ident():
            raise StorageError("a transaction is already open in this thread; use that one")
        with self._turn:
            self._turn_of = threading.get_ident()
            try:
                tx = MemoryTx(self._rows, writable=True)
                yield tx
                self._commit(tx)
            finally:
                self._turn_of = None

    @contextmanager
    def reading(self) -> Iterator[MemoryTx]:
        yield MemoryTx(self._rows, writable=False)

    def close(self) -> None:
        """Nothing to let go of; the rows stay, as they do in a database."""

    def _commit(self, tx: MemoryTx) -> None:
        rows = {kind: dict(kept) for kind, kept in self._rows.items() if kind in tx.written}
        for kind, written in tx.written.items():
            kept = rows.setdefault(kind, {})
            for key, record in written.items():
                if record is None:
                    kept.pop(key, None)
                else:
                    kept[key] = record
        self._rows = {**self._rows, **rows}  # a view opened earlier keeps the rows it saw


def _key(entry: RecordTable, record: Any) -> _Key:
    return tuple(getattr(record, name) for name in entry.key)


def _as_stored(entry: RecordTable, record: object) -> Any:
    entry.check_record(record)
    values = {name: getattr(record, name) for name in entry.fields}
    for column in entry.table.columns:
        name, kind = str(column.key), column.type
        if values[name] is None and not column.nullable:
            raise StorageError(f"{entry.table.name}: {name} should not be None")
        if isinstance(kind, TypeDecorator):
            try:
                stored = kind.process_bind_param(values[name], _DIALECT)
            except StorageError as error:
                raise StorageError(f"{entry.table.name}: {error}{entry.culprit(record)}") from None
            read = kind.result_processor(_DIALECT, None)
            values[name] = stored if read is None else read(stored)
    return dataclasses.replace(cast("Any", record), **values)


def _natural(entry: RecordTable, record: Any) -> tuple[Any, ...]:
    parts: list[Any] = []
    for name in entry.order:
        value = getattr(record, name)
        if name in entry.counted:
            parts.append(len(value))
        parts.append((value is not None, value))
    return tuple(parts)


def _test(entry: RecordTable, name: str, wanted: Any) -> Callable[[Any], bool]:
    kind = entry.column(name).type
    if isinstance(kind, JsonMapping) and wanted is not None:
        raise StorageError(f"{entry.kind.__name__}.{name} is JSON and cannot be searched")
    if isinstance(wanted, AtLeast):
        if isinstance(kind, Money):
            raise StorageError(f"{entry.kind.__name__}.{name} is money and cannot be searched by AtLeast")
        least = wanted.value
        return lambda value: value is not None and bool(value >= least)
    if isinstance(wanted, list | tuple | set | frozenset):
        return lambda value: value in wanted
    return lambda value: bool(value == wanted)
