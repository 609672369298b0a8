"""One filled-in record of every kind that has a table, made from its type hints: a new field needs no new test."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from trading_bot.domain.account import Trade

MOMENT = datetime(2024, 2, 29, 12, 30, 15, 123456, UTC)
_KNOWN: dict[type[Any], dict[str, Any]] = {}


def record(kind: type[Any], number: int = 1, **fields: Any) -> Any:
    """A record whose every value depends on `number`; `fields` replace some."""
    hints = _hints(kind)
    values = {field.name: _value(hints[field.name], field.name, number) for field in dataclasses.fields(kind)}
    if kind is Trade:
        values |= {"is_open": False}
    return kind(**(values | fields))


def _hints(kind: type[Any]) -> dict[str, Any]:
    if kind not in _KNOWN:
        _KNOWN[kind] = typing.get_type_hints(kind)
    return _KNOWN[kind]


def _value(hint: Any, name: str, number: int) -> Any:
    wanted = hint
    if isinstance(hint, types.UnionType):
        wanted = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(wanted) is Mapping:
        inside = typing.get_args(wanted)[1]
        return {f"k{number}": (1, 0.1 * number)} if typing.get_origin(inside) is tuple else {f"k{number}": number / 3}
    if issubclass(wanted, StrEnum):
        return list(wanted)[number % len(wanted)]
    made: dict[type, Any] = {
        str: f"{name}-{number}",
        bool: bool(number % 2),
        int: 1_700_000_000_000 + number,
        float: number / 7,
        Decimal: Decimal(number) / Decimal(1000) + Decimal("12345678901.123456789012345678"),
        datetime: MOMENT + timedelta(seconds=number),
    }
    return made[wanted]
