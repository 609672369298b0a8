"""Merged mappings to `Settings`, and what is wrong with them in one line: place, key, found, wanted."""

from __future__ import annotations

import difflib
import functools
import re
import typing
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trading_bot.errors import ConfigurationError, TradingBotError
from trading_bot.settings.reading import show
from trading_bot.settings.schema import Settings, known_keys, places
from trading_bot.settings.secrecy import is_secret

_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text (in quotes if it looks like a number)",
    "decimal": "a number",
    "dataclass": "a section of 'key: value' lines",
    "dict": "a section of 'key: value' lines",
    "mapping": "a section of 'key: value' lines",
    "tuple": "a list, such as [a, b]",
    "path": "a path",
}


@functools.cache
def adapter() -> TypeAdapter[Settings]:
    """Checks mappings; built once, for it takes longer than the checking."""
    return TypeAdapter(Settings)


def validated(merged: dict[str, Any], origins: Mapping[str, str], default_origin: str) -> Settings:
    known = known_keys()
    _refuse_unknown(merged, known, origins, "")
    _refuse_switches_as_numbers(merged, known, origins, "")
    try:
        return adapter().validate_python(merged)
    except ValidationError as error:
        raise ConfigurationError(_one_line(error, known, origins, default_origin)) from None
    except TradingBotError as error:  # a component's own words
        raise ConfigurationError(f"{_origin_of(str(error), origins, default_origin)}: {error}") from None


def _refuse_unknown(values: Mapping[str, Any], known: Mapping[str, Any], origins: Mapping[str, str], at: str) -> None:
    for key, value in values.items():
        dotted = f"{at}{key}"
        if key not in known:
            elsewhere = [place for place in places(known_keys()) if place.endswith(f".{key}")]
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
            if elsewhere or near:
                hint = f"did you mean '{elsewhere[0] if elsewhere else at + near[0]}'?"
            else:
                hint = f"wanted one of {', '.join(known)}" if at else "`trading-bot show-config` lists every key"
            raise ConfigurationError(f"{origins.get(dotted, 'settings')}: {dotted}: unknown key; {hint}")
        if isinstance(known[key], dict) and isinstance(value, Mapping):
            _refuse_unknown(value, known[key], origins, f"{dotted}.")


def _refuse_switches_as_numbers(
    values: Mapping[str, Any], known: Mapping[str, Any], origins: Mapping[str, str], at: str
) -> None:
    """`max_open_trades: true` is a slip of the pen, though Python would count it as 1."""
    for key, value in values.items():
        kind = known.get(key)
        if isinstance(kind, dict) and isinstance(value, Mapping):
            _refuse_switches_as_numbers(value, kind, origins, f"{at}{key}.")
        elif isinstance(value, bool) and kind in (int, float, Decimal):
            raise ConfigurationError(
                f"{origins.get(f'{at}{key}', 'settings')}: {at}{key}: found {str(value).lower()}, wanted a number"
            )


def _one_line(error: ValidationError, known: Mapping[str, Any], origins: Mapping[str, str], default_origin: str) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":
        text = str(first["msg"]).removeprefix("Value error, ")
        return f"{_origin_of(text, origins, default_origin)}: {text}"
    place = _place(first["loc"], known)
    alternatives = [_wanted(each) for each in error.errors(include_url=False) if _place(each["loc"], known) == place]
    found = "a secret of the wrong kind" if is_secret(place) else show(first["input"])
    wanted = " or ".join(dict.fromkeys(alternatives))
    origin = next((origins[p] for p in (place, place.rpartition(".")[0]) if p in origins), default_origin)
    return f"{origin}: {place}: found {found}, wanted {wanted}"


def _place(loc: Sequence[int | str], known: Any) -> str:
    """A dotted key out of pydantic's location, without its labels for the branches of a union."""
    parts: list[str] = []
    for part in loc:
        if isinstance(known, dict) and part in known:
            known = known[part]
        elif typing.get_origin(known) is not None and typing.get_origin(known) not in (typing.Union,):
            if part == "[key]" or not issubclass(typing.get_origin(known), Mapping | tuple):
                break
        else:
            break
        parts.append(str(part))
    return ".".join(parts)


def _wanted(error: Any) -> str:
    kind = str(error["type"])
    if kind == "literal_error":
        return str(error["ctx"]["expected"])
    return _WANTED.get(kind.split("_")[0], str(error["msg"]))


def _origin_of(text: str, origins: Mapping[str, str], default_origin: str) -> str:
    """Where the key stands that an error's text is about (the longest one that the text begins with)."""
    fitting = [dotted for dotted in origins if re.match(rf"{re.escape(dotted)}\b", text)]
    return origins[max(fitting, key=len)] if fitting else default_origin
