"""Secrets: refused in configuration files, read from where they may stand, masked wherever settings are shown."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr

from trading_bot.errors import ConfigurationError
from trading_bot.logs import register_secret
from trading_bot.settings.schema import PREFIX, Settings

SECRETS = ("exchange.key", "exchange.secret", "exchange.password")
_SECRET_WORDS = re.compile(r"key|secret|passw|passphrase|token|credential", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?P<head>\b[\w+.-]+://[^\s/:@]*:)(?P<password>[^\s@/]+)(?=@)")
_MASK = "***"


def redacted(settings: Settings) -> dict[str, Any]:
    """The settings as plain JSON values, secrets masked: fit for a screen, a log and the database."""
    plain = {item.name: _plain(getattr(settings, item.name), item.name) for item in dataclasses.fields(settings)}
    if settings.db_url is not None:
        plain["db_url"] = mask_passwords(settings.db_url)
    return plain


def mask_passwords(text: str) -> str:
    """`text` with the password of every URL in it masked."""
    masked = _URL_PASSWORD.sub(rf"\g<head>{_MASK}", text)
    return re.sub(r"(?i)([?&](?:password|passwd|pwd|sslpassword)=)[^&\s]+", rf"\1{_MASK}", masked)


def refuse_secrets(layer: Mapping[Any, Any], origin: str) -> None:
    exchange = layer.get("exchange")
    exchange = exchange if isinstance(exchange, Mapping) else {}
    for dotted in SECRETS:
        name = dotted.rpartition(".")[2]
        if exchange.get(name):
            raise ConfigurationError(
                f"{origin}: {dotted}: found a secret in a configuration file; give it as environment variable "
                f"{PREFIX}EXCHANGE__{name.upper()} or in the file named by exchange.credentials_file"
            )
    for dotted, value in _leaves(exchange.get("ccxt_config"), "exchange.ccxt_config"):
        if value and isinstance(value, str) and is_secret(dotted.rpartition(".")[2]):
            raise ConfigurationError(
                f"{origin}: {dotted}: found a secret in a configuration file; exchange.key, secret and password come "
                "from the environment or exchange.credentials_file"
            )
    url = layer.get("db_url")
    if isinstance(url, str) and mask_passwords(url) != url:
        raise ConfigurationError(
            f"{origin}: db_url: found a password in a configuration file; leave it out and set db_password_file, or "
            f"give the whole URL as environment variable {PREFIX}DB_URL"
        )


def is_secret(name: str) -> bool:
    return bool(_SECRET_WORDS.search(name))


def _leaves(value: Any, prefix: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [leaf for key, below in value.items() for leaf in _leaves(below, f"{prefix}.{key}")]
    return [(prefix, value)]


def read_credentials(merged: dict[str, Any]) -> None:
    """Fill key, secret and password from `exchange.credentials_file` where they are not given directly."""
    exchange = merged.get("exchange")
    if not isinstance(exchange, dict) or not isinstance(exchange.get("credentials_file"), str | Path):
        return
    path = Path(exchange["credentials_file"])
    text = _secret_text(path, "exchange.credentials_file")
    found = _parse_credentials(text, path)
    unknown = sorted(str(name) for name in found if name not in ("key", "secret", "password"))
    if unknown:
        raise ConfigurationError(f"{path}: found the key {unknown[0][:20]!r}, wanted only key, secret and password")
    for name, value in found.items():
        if not isinstance(value, str | int):
            raise ConfigurationError(f"{path}: {name}: found {type(value).__name__} (hidden), wanted text in quotes")
        exchange.setdefault(name, str(value))


def _parse_credentials(text: str, path: Path) -> dict[Any, Any]:
    try:
        found = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - every scalar stays text
    except yaml.YAMLError:  # its message would quote the secret
        raise ConfigurationError(f"{path}: cannot be read as YAML; wanted lines 'key: …' and 'secret: …'") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path}: wanted lines 'key: …' and 'secret: …'")
    return found


def read_database_password(merged: dict[str, Any]) -> None:
    name, url = merged.get("db_password_file"), merged.get("db_url")
    if not isinstance(name, str | Path):
        return
    if not isinstance(url, str) or "@" not in url:
        raise ConfigurationError(
            "db_password_file is set, but db_url has no user to use it for; wanted such as "
            "postgresql+psycopg://bot@localhost/trading_bot"
        )
    password = _secret_text(Path(name), "db_password_file").strip()
    register_secret(password)
    from_user, _, rest = url.partition("://")[2].partition("@")
    if ":" not in from_user:
        quoted = "".join(c if c.isalnum() else "".join(f"%{byte:02X}" for byte in c.encode()) for c in password)
        register_secret(quoted)
        merged["db_url"] = f"{url.partition('://')[0]}://{from_user}:{quoted}@{rest}"


def _secret_text(path: Path, key: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError(f"{key}: cannot read {path}: {cause}") from None


def remember_secrets(merged: Mapping[str, Any]) -> None:
    """Tell the log what must never be in it, before anything of it can be in an error."""
    exchange = merged.get("exchange")
    for dotted, value in _leaves(exchange if isinstance(exchange, Mapping) else {}, "exchange"):
        name = dotted.rpartition(".")[2]
        if isinstance(value, str) and name != "credentials_file" and is_secret(name):
            register_secret(value)
    match = _URL_PASSWORD.search(str(merged.get("db_url") or ""))
    if match:
        register_secret(match["password"])


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, SecretStr):
        return _MASK
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name), item.name) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(below, str(key)) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, name) for item in value]
    if isinstance(value, str):
        return _MASK if is_secret(name) and value else mask_passwords(value)
    return str(value) if isinstance(value, Path | Decimal) else value
