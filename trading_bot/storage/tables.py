"""Every table, one for each kind of record. Columns are the fields of the record's dataclass, in their order.

In SQL a few fields have the names users know from freqtrade (`pair`, `amount`); in Python columns are found under the
field's own name. A kind's `key` finds one record, its `order` is the natural one (oldest first), served by an index.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import Boolean, Column, ColumnElement, Index, MetaData, PrimaryKeyConstraint, Table, func
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeDecorator, TypeEngine

from trading_bot.domain.account import Trade, TradeShare
from trading_bot.domain.journal import (
    CandleGap,
    Command,
    Decision,
    EquityPoint,
    JobRun,
    RegimeChange,
    Run,
    Snapshot,
    Training,
    WeightChange,
)
from trading_bot.domain.models import ModelVersion
from trading_bot.domain.orders import Fill, Order
from trading_bot.domain.venue import VenueBalance, VenueFill, VenueOrder
from trading_bot.errors import StorageError
from trading_bot.storage.types import Choice, Fraction, JsonMapping, Money, UtcDateTime, Whole, Words

metadata = MetaData(naming_convention={"pk": "pk_%(table_name)s"})
_ANY_DIALECT = sqlite.dialect()

_COLUMN_TYPES: dict[type, type[TypeEngine[Any]]] = {
    str: Words,
    int: Whole,
    bool: Boolean,
    float: Fraction,
    Decimal: Money,
    datetime: UtcDateTime,
}


@dataclass(frozen=True, slots=True, eq=False)
class RecordTable:
    """A kind of record and the table that keeps it."""

    kind: type[Any]
    table: Table
    key: tuple[str, ...]
    order: tuple[str, ...]
    fields: tuple[str, ...]
    counted: frozenset[str]  # texts that hold numbers: in the natural order the shorter one comes first
    check: Callable[[Any], str | None] | None  # what is wrong with a record, if anything

    def column(self, name: str) -> Column[Any]:
        """The column of a field.

        Raises
        ------
        StorageError
            If the kind has no such field.
        """
        try:
            return self.table.c[name]
        except KeyError:
            known = ", ".join(self.fields)
            raise StorageError(f"{self.kind.__name__} has no field {name!r}; wanted one of {known}") from None

    def ordering(self) -> list[ColumnElement[Any]]:
        """What to order by, ascending, for the natural order."""
        terms: list[ColumnElement[Any]] = []
        for name in self.order:
            if name in self.counted:
                terms.append(func.length(self.table.c[name]))
            terms.append(self.table.c[name])
        return terms

    def check_record(self, record: object) -> None:
        """Refuse a record that contradicts itself.

        Raises
        ------
        StorageError
            Naming the contradiction.
        """
        if self.check is not None and (wrong := self.check(record)) is not None:
            raise StorageError(wrong)

    def culprit(self, record: object) -> str:
        """Of a record with a value that was refused, which: words to end a message with."""
        for name in self.fields:
            column_type = self.table.c[name].type
            if isinstance(column_type, TypeDecorator):
                try:
                    column_type.process_bind_param(getattr(record, name), _ANY_DIALECT)
                except StorageError:
                    key = ", ".join(str(getattr(record, part)) for part in self.key)
                    return f" (field {name!r} of {self.kind.__name__} {key})"
        return ""


def _column(kind: type, name: str, hint: Any, sql_name: str) -> Column[Any]:
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    wanted = next(part for part in parts if part is not types.NoneType)
    column_type: TypeEngine[Any]
    if typing.get_origin(wanted) is Mapping:
        column_type = JsonMapping(pairs=typing.get_origin(typing.get_args(wanted)[1]) is tuple)
    elif issubclass(wanted, StrEnum):
        column_type = Choice(wanted)
    else:
        column_type = _COLUMN_TYPES[wanted]()
    return Column(sql_name, column_type, key=name, nullable=len(parts) > 1)


def _kept(
    name: str,
    kind: type[Any],
    key: tuple[str, ...],
    order: tuple[str, ...] = (),
    *,
    indices: tuple[tuple[str, ...], ...] = (),
    sql_names: Mapping[str, str] | None = None,
    counted: frozenset[str] = frozenset(),
    check: Callable[[Any], str | None] | None = None,
) -> RecordTable:
    sql_names = {"symbol": "pair", **(sql_names or {})}
    hints = typing.get_type_hints(kind)
    fields = tuple(field.name for field in dataclasses.fields(kind))
    columns = [_column(kind, field, hints[field], sql_names.get(field, field)) for field in fields]
    table = Table(name, metadata, *columns, PrimaryKeyConstraint(*key))
    for index in indices:
        sql = [table.c[field] for field in index]
        Index(f"ix_{name}_{'_'.join(column.name for column in sql)}"[:63], *sql)
    return RecordTable(kind, table, key, order or key, fields, counted, check)


def _trade_check(trade: Trade) -> str | None:
    if trade.is_open == (trade.close_date is None):
        return None
    state = "open but has" if trade.is_open else "closed but lacks"
    return f"trade {trade.id} is {state} a close_date; set is_open and close_date together"


_TRADE_ORDER = ("is_open", "close_date", "open_date", "id")  # closed ones as they closed, then the open ones
_TIME = ("time", "symbol")

TABLES: Mapping[type[Any], RecordTable] = {
    entry.kind: entry
    for entry in (
        _kept(
            "trades",
            Trade,
            ("id",),
            _TRADE_ORDER,
            indices=(_TRADE_ORDER, ("book", *_TRADE_ORDER), ("book", "strategy", *_TRADE_ORDER)),
            check=_trade_check,
        ),
        _kept("trade_shares", TradeShare, ("trade_id", "strategy")),
        _kept(
            "orders",
            Order,
            ("client_order_id",),
            ("order_date", "client_order_id"),
            indices=(("order_date", "client_order_id"), ("status", "order_date"), ("symbol", "order_date")),
            sql_names={"quantity": "amount"},
        ),
        _kept(
            "fills",
            Fill,
            ("venue", "symbol", "trade_id"),
            ("date", "trade_id", "venue", "symbol"),
            indices=(("date",), ("symbol", "date"), ("client_order_id", "symbol", "date")),
            sql_names={"quantity": "amount"},
            counted=frozenset({"trade_id"}),
        ),
        _kept("decisions", Decision, ("symbol", "time"), _TIME, indices=(_TIME, ("client_order_id",))),
        _kept("equity", EquityPoint, ("time",)),
        _kept("regimes", RegimeChange, ("symbol", "time"), _TIME, indices=(_TIME,)),
        _kept("weights", WeightChange, ("symbol", "time"), _TIME, indices=(_TIME,)),
        _kept(
            "trainings",
            Training,
            ("strategy", "time", "outcome"),
            ("time", "strategy", "outcome"),
            indices=(("time", "strategy", "outcome"), ("strategy", "time")),
        ),
        _kept("runs", Run, ("id",), ("started", "id"), indices=(("started", "id"),)),
        _kept("commands", Command, ("id",), ("given", "id"), indices=(("given", "id"), ("handled", "given", "id"))),
        _kept("job_runs", JobRun, ("job", "slot"), ("slot", "job"), indices=(("slot", "job"),)),
        _kept("snapshots", Snapshot, ("name",)),
        _kept(
            "models",
            ModelVersion,
            ("id",),
            ("created", "id"),
            indices=(("created", "id"), ("strategy", "status")),
        ),
        _kept("candle_gaps", CandleGap, ("symbol", "timeframe", "start"), ("start", "symbol", "timeframe")),
        _kept(
            "venue_orders",
            VenueOrder,
            ("order_id",),
            indices=(("client_order_id", "symbol", "order_id"), ("status", "order_id"), ("symbol", "order_id")),
            sql_names={"quantity": "amount"},
        ),
        _kept(
            "venue_fills",
            VenueFill,
            ("symbol", "trade_id"),
            ("time", "trade_id", "symbol"),
            indices=(("time", "trade_id", "symbol"), ("symbol", "time", "trade_id"), ("order_id",)),
            sql_names={"quantity": "amount"},
        ),
        _kept("venue_balances", VenueBalance, ("currency",)),
    )
}


def table_of(kind: type[Any]) -> RecordTable:
    """The table of a kind of record.

    Raises
    ------
    StorageError
        If records of this kind are not kept.
    """
    try:
        return TABLES[kind]
    except KeyError:
        known = ", ".join(sorted(k.__name__ for k in TABLES))
        raise StorageError(f"{kind.__name__} has no table; kept are {known}") from None
