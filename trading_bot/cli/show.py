"""What verbs print: tables for people, JSON for programs. Times are UTC."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any

import click

_EIGHT_DIGITS = Context(prec=8)


def print_json(data: Any) -> None:
    """`data` as indented JSON; Decimals are text, so that no digit is lost; dates are ISO 8601."""
    click.echo(json.dumps(_plain(data), indent=2, ensure_ascii=False))


def _plain(data: Any) -> Any:
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        return {field.name: _plain(getattr(data, field.name)) for field in dataclasses.fields(data)}
    if isinstance(data, dict):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if isinstance(data, datetime):
        return data.isoformat()
    if isinstance(data, float) and data != data:  # NaN is no JSON
        return None
    return data if data is None or isinstance(data, bool | int | float | str) else str(data)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """A table; columns whose name ends in `>` are aligned right. Values are shown as they are, never as markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, width=200)
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column.removesuffix(">"), justify="right" if column.endswith(">") else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(_printable(text(value))) for value in row))
    console.print(made)


def line(label: str, value: str) -> None:
    """One fact: a label and what it is."""
    click.echo(f"{label:<14}{_printable(value)}")


def _printable(value: str) -> str:
    """Without control characters: names from an exchange or a database must not steer the terminal."""
    return "".join(character if character.isprintable() or character in "\n " else "?" for character in value)


def text(value: Any) -> str:
    """A value as a cell."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.2f}"
    return str(value)


def bar(time: int | None) -> str:
    """A bar's open, UTC."""
    return "-" if time is None or time < 0 else text(datetime.fromtimestamp(time / 1000, UTC))


def money(value: Decimal | str | None) -> str:
    """Two decimals and thousands separated."""
    return "-" if value is None else f"{Decimal(value):,.2f}"


def price(value: Decimal | str | None) -> str:
    """A price or quantity with at most eight significant digits, without trailing zeros."""
    if value is None:
        return "-"
    shown = f"{_EIGHT_DIGITS.create_decimal(Decimal(value)):,f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def percent(ratio: Decimal | float | None) -> str:
    """A ratio as signed percent."""
    return "-" if ratio is None else f"{ratio:+.2%}"


def ago(seconds: float) -> str:
    """A length of time in its largest fitting unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
