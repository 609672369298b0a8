"""Configuration text to nested mappings: strict YAML, the environment, and merging them in order."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trading_bot.errors import ConfigurationError
from trading_bot.settings.schema import PREFIX, known_keys
from trading_bot.settings.secrecy import SECRETS, mask_passwords

_RAW = (*SECRETS, "db_url")  # from the environment as they stand: a password of digits is no number


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice and leaves dates as text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - so declared by PyYAML
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen and key_node.value != "<<":
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key_node.value!r} is given twice; keep one of them", key_node.start_mark
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _StrictLoader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigurationError(f"{where}{line}: {error.problem or error.context}; wanted valid YAML") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        cause = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ConfigurationError(f"{where}: cannot be read as YAML: {cause}") from None


def read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: no such configuration file; `trading-bot new-config {path}` writes one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError(f"{path}: cannot be read: {cause}; wanted a YAML file") from None
    values = parse(text, str(path))
    if values is None:
        raise ConfigurationError(
            f"{path}: is empty; wanted 'key: value' lines (`trading-bot new-config` writes a commented file)"
        )
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path}: found {show(values)}, wanted 'key: value' lines")
    return values


def from_environment(name: str, value: str) -> dict[str, Any]:
    """``TRADING_BOT__SECTION__KEY`` as a nested mapping; the case of names below a key (currencies) is kept."""
    parts = name.removeprefix(PREFIX).split("__")
    known: Any = known_keys()
    path: list[str] = []
    for part in parts:
        if isinstance(known, dict):
            path.append(part.lower())
            known = known.get(part.lower())
        else:
            path.append(part)
    leaf: Any = value if ".".join(path) in _RAW else parse(value, f"environment {name}")
    for part in reversed(path):
        leaf = {part: leaf}
    return typing.cast(dict[str, Any], leaf)


def merge(target: dict[str, Any], layer: Mapping[Any, Any], origin: str, origins: dict[str, str]) -> None:
    _merge_into(target, layer, origin, origins, "", known_keys())


def _merge_into(
    target: dict[str, Any], layer: Mapping[Any, Any], origin: str, origins: dict[str, str], prefix: str, known: Any
) -> None:
    for key, value in layer.items():
        if not isinstance(key, str) and not (isinstance(key, int) and prefix == "minimal_roi."):
            raise ConfigurationError(f"{origin}: {prefix}{key!r}: found a key that is no text, wanted a name")
        name = str(key)
        dotted = f"{prefix}{name}"
        below = known.get(name) if isinstance(known, dict) else None
        if value is None and isinstance(below, dict):
            continue  # a section with every line commented out
        origins[dotted] = origin
        if isinstance(value, Mapping) and isinstance(target.get(name, {}), dict):
            _merge_into(target.setdefault(name, {}), value, origin, origins, f"{dotted}.", below)
        else:
            target[name] = value


def show(value: Any) -> str:
    text = "nothing" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return mask_passwords(text if len(text) <= 60 else f"{text[:57]}…")
