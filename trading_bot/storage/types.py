"""Column types that give back exactly what was put in, or refuse it: money, time, words, fractions, JSON.

Each type works the same on SQLite and PostgreSQL; only the storage differs. `refuse` texts name what was found and
what was wanted; the table and column are added by the caller.
"""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation, Overflow
from enum import StrEnum
from typing import Any, cast

from sqlalchemy import BigInteger, DateTime, Dialect, Double, Numeric, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from trading_bot.errors import StorageError

DECIMALS = 18  # digits after the point that both databases keep
WHOLE_DIGITS = 20  # digits before it
_EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN, traps=[Inexact, InvalidOperation, Overflow])


def canonical(value: Decimal) -> str:
    """The number in digits, without an exponent or trailing zeros, so that equal money is written equally."""
    return format(value.normalize(_EXACT), "f") if value else "0"


class Money(TypeDecorator[Decimal]):
    """An exact Decimal: TEXT on SQLite (whose NUMERIC is a float), NUMERIC(38, 18) on PostgreSQL. Never rounds."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Numeric(WHOLE_DIGITS + DECIMALS, DECIMALS))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        digits = self.checked(value)
        return Decimal(digits) if dialect.name == "postgresql" else digits

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        if isinstance(value, Decimal):  # PostgreSQL fills up to 18 decimals
            return Decimal(canonical(value))
        return None if value is None else Decimal(value)

    @staticmethod
    def checked(value: object) -> str:
        """`value` in canonical digits; StorageError if it is no Decimal, not finite or has too many digits."""
        if not isinstance(value, Decimal):
            raise StorageError(f"money should be a Decimal, is the {type(value).__name__} {value!r}")
        if not value.is_finite():
            raise StorageError(f"money should be finite, is {value}")
        if value and value.adjusted() >= WHOLE_DIGITS:
            raise StorageError(f"{value} has more than {WHOLE_DIGITS} digits before the point, more than is stored")
        digits = canonical(value)
        if len(digits.partition(".")[2]) > DECIMALS:
            raise StorageError(
                f"{value} has more than {DECIMALS} decimals, more than is stored; round it where it is computed"
            )
        return digits


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware in, aware (UTC) out, to the microsecond. On SQLite a text that sorts as time does."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        moment = self.checked(value)
        if dialect.name == "postgresql":
            return moment
        return moment.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if isinstance(value, str):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        moment: datetime = value
        return moment.astimezone(UTC)

    @staticmethod
    def checked(value: object) -> datetime:
        """`value` in UTC; StorageError if it is no datetime or does not say its zone."""
        if not isinstance(value, datetime):
            raise StorageError(f"a date should be a datetime, is the {type(value).__name__} {value!r}")
        if value.utcoffset() is None:
            raise StorageError(f"a date should carry its time zone, {value!r} does not")
        return value.astimezone(UTC)


class Words(TypeDecorator[str]):
    """Text, ordered by code point on both databases. What they cannot hold (NUL, lone surrogates) becomes U+FFFD."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text(collation="C") if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else self.checked(value)

    @staticmethod
    def checked(value: object) -> str:
        """`value` as both databases can hold it; StorageError if it is no string."""
        if not isinstance(value, str):
            raise StorageError(f"text should be a string, is the {type(value).__name__} {value!r}")
        if value.isascii() and "\0" not in value:
            return str(value)
        return "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in value)


class Choice(TypeDecorator[StrEnum]):
    """A member of a StrEnum, stored as its value."""

    impl = Text
    cache_ok = True

    def __init__(self, choices: type[StrEnum]) -> None:
        super().__init__()
        self.choices = choices

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text(collation="C") if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:
        return None if value is None else self.checked(value).value

    def process_result_value(self, value: Any, dialect: Dialect) -> StrEnum | None:
        return None if value is None else self.checked(value)

    def checked(self, value: object) -> StrEnum:
        """The member; StorageError if there is none of this value."""
        try:
            return self.choices(value)  # type: ignore[arg-type]
        except ValueError:
            known = ", ".join(self.choices)
            raise StorageError(f"{value!r} is no {self.choices.__name__}; wanted one of {known}") from None


class Fraction(TypeDecorator[float]):
    """A float that is no money: a score, share or confidence. NaN and infinity are refused (SQLite makes them NULL)."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        return None if value is None else self.checked(value)

    @staticmethod
    def checked(value: object) -> float:
        """`value` as a plain float; StorageError if it is none or not finite."""
        if isinstance(value, bool | Decimal) or not isinstance(value, numbers.Real):
            raise StorageError(f"a fraction should be a float, is the {type(value).__name__} {value!r}")
        if not math.isfinite(value):
            raise StorageError(f"a fraction should be finite, is {float(value)}")
        return float(value)


class Whole(TypeDecorator[int]):
    """A 64-bit integer; numpy's are taken as what they are."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        return None if value is None else self.checked(value)

    @staticmethod
    def checked(value: object) -> int:
        """`value` as a plain int; StorageError if it is none or does not fit into 64 bits."""
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise StorageError(f"a whole number was wanted, found the {type(value).__name__} {value!r}")
        whole = int(value)
        if not -(2**63) <= whole < 2**63:
            raise StorageError(f"a whole number should fit into 64 bits, is {whole}")
        return whole


class JsonMapping(TypeDecorator[Mapping[str, Any]]):
    """A mapping as JSON text with sorted keys. `pairs` gives the values of the top level back as tuples."""

    impl = Text
    cache_ok = True

    def __init__(self, pairs: bool = False) -> None:
        super().__init__()
        self.pairs = pairs

    def process_bind_param(self, value: Mapping[str, Any] | None, dialect: Dialect) -> str | None:
        return None if value is None else self.written(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Mapping[str, Any] | None:
        return None if value is None else self.read(value)

    @staticmethod
    def written(value: object) -> str:
        """`value` as JSON; StorageError naming the place of what JSON cannot say."""
        if not isinstance(value, Mapping):
            raise StorageError(f"a mapping was wanted, found the {type(value).__name__} {value!r}")
        if _is_plain(value):
            return _encode(value)
        return _encode(_plain(value, ""))

    def read(self, text: str) -> dict[str, Any]:
        """What `written` made."""
        found: dict[str, Any] = json.loads(text)
        return {key: tuple(item) for key, item in found.items()} if self.pairs else found


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
_LEAVES = frozenset({str, int, float, bool, type(None)})


def _is_plain(value: object) -> bool:
    """Whether JSON says it as it is: the usual case, for snapshots are written every bar."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        kind = type(item)
        if kind is dict:
            held = cast("dict[Any, Any]", item)
            if not all(type(key) is str for key in held):
                return False
            inside = held.values()
        elif kind is list or kind is tuple:
            inside = cast("Any", item)
        else:
            return False
        for one in inside:
            what = type(one)
            if what is float:
                if one - one != 0.0:  # NaN or infinite
                    return False
            elif what not in _LEAVES:
                waiting.append(one)
    return True


def _plain(value: object, place: str) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise StorageError(f"JSON keys should be strings, {place or 'the mapping'} has {key!r}")
        return {key: _plain(item, f"{place}.{key}" if place else key) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        if not math.isfinite(value):
            raise StorageError(f"JSON numbers should be finite, {place} is {float(value)}")
        return float(value)
    raise StorageError(f"{place} should be something JSON can say, is the {type(value).__name__} {value!r}")
