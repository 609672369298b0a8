"""Everything the user may set, read once into one frozen `Settings` made of the components' own config dataclasses.

YAML files are merged in order (later ones win), then the environment (`TRADING_BOT__SECTION__KEY`), then the command
line. Whatever is wrong is one `ConfigurationError` line: where it stands, what was found, what was wanted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trading_bot.errors import ConfigurationError
from trading_bot.exchange.config import LOCAL
from trading_bot.settings.checking import adapter, validated
from trading_bot.settings.reading import from_environment, merge, read
from trading_bot.settings.schema import PREFIX, ServiceConfig, Settings, known_keys, places
from trading_bot.settings.secrecy import (
    mask_passwords,
    read_credentials,
    read_database_password,
    redacted,
    refuse_secrets,
    remember_secrets,
)

__all__ = [
    "PREFIX",
    "ServiceConfig",
    "Settings",
    "check_credentials",
    "known_keys",
    "load_settings",
    "mask_passwords",
    "places",
    "redacted",
    "schema",
]


def load_settings(
    paths: Sequence[Path] = (), overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Merge files, environment and command line into settings.

    Parameters
    ----------
    paths
        YAML files; later ones win key by key. None at all: the built-in defaults.
    overrides
        Nested mapping from the command line; wins over everything.
    environ
        The environment; `os.environ` unless given.

    Raises
    ------
    ConfigurationError
        One line: place, key, found, wanted.
    """
    where = ", ".join(str(path) for path in paths) or "settings"
    try:
        return _load(paths, overrides or {}, os.environ if environ is None else environ, where)
    except ConfigurationError as error:  # a key or value may hold anything: what is shown is one printable line
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(error))
        raise ConfigurationError(text) from None
    except RecursionError:
        raise ConfigurationError(f"{where}: a section that contains itself; wanted plain nested keys") from None


def _load(
    paths: Sequence[Path], overrides: Mapping[str, Any], environ: Mapping[str, str], default_origin: str
) -> Settings:
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for path in paths:
        layer = read(path)
        refuse_secrets(layer, str(path))
        merge(merged, layer, str(path), origins)
    for name, value in sorted(environ.items()):
        if name.startswith(PREFIX):
            merge(merged, from_environment(name, value), f"environment {name}", origins)
    merge(merged, overrides, "command line", origins)
    remember_secrets(merged)
    read_credentials(merged)
    read_database_password(merged)
    remember_secrets(merged)
    return validated(merged, origins, default_origin)


def check_credentials(settings: Settings) -> None:
    """Refuse to trade on a venue that wants a key without one.

    Raises
    ------
    ConfigurationError
    """
    exchange = settings.exchange
    if exchange.name == LOCAL or exchange.orders == "paper":
        return
    for name in ("key", "secret"):
        if getattr(exchange, name) is None:
            raise ConfigurationError(
                f"exchange.{name} is not set, but orders go to {exchange.name}; give it as environment variable "
                f"{PREFIX}EXCHANGE__{name.upper()} or in the file named by exchange.credentials_file"
            )


def schema() -> dict[str, Any]:
    """The JSON schema of a configuration file."""
    return adapter().json_schema()
