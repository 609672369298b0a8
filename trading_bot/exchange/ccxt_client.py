"""The one place where a ccxt exchange object is built, and where its errors become ours."""

from __future__ import annotations

import difflib
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import ccxt
import yaml

from trading_bot.errors import (
    ConfigurationError,
    ExchangeDenied,
    ExchangeError,
    ExchangeThrottled,
    ExchangeUnreachable,
    TradingBotError,
)
from trading_bot.exchange.config import LOCAL, ExchangeConfig
from trading_bot.logs import event

Client = Any  # a ccxt exchange: untyped, and different for each venue

CLOCK_TOLERANCE = 0.5  # seconds
_CREDENTIALS = ("key", "secret", "password")


@dataclass(frozen=True, slots=True)
class _Credentials:
    key: str | None
    secret: str | None = field(repr=False)
    password: str | None = field(default=None, repr=False)


def build_client(
    config: ExchangeConfig, local_url: str | None = None, key: str | None = None, secret: str | None = None
) -> Client:
    """A ccxt exchange that never retries by itself and never waits longer than `config.timeout_seconds`.

    Parameters
    ----------
    local_url
        Where the local exchange listens, such as ``http://127.0.0.1:8123``; wanted for ``exchange.name: local`` only.
    key, secret
        Instead of those of the configuration (the local exchange makes its own).

    Raises
    ------
    ConfigurationError
        Unknown exchange, half a pair of credentials, an unreadable credentials file, no sandbox.
    """
    local = config.name == LOCAL
    if local and local_url is None:
        raise ConfigurationError("the local exchange has no address; start it first, or set exchange.name")
    exchange = ccxt.binance if local else _exchange_class(config.name)
    credentials = _Credentials(key, secret) if key is not None else _credentials(config)
    client = exchange(
        {
            "apiKey": credentials.key,
            "secret": credentials.secret,
            "password": credentials.password,
            "enableRateLimit": not local,
            **config.ccxt_config,
        }
    )
    client.timeout = int(config.timeout_seconds * 1000)
    client.maxRetriesOnFailure = 0  # a request sent again by itself may be an order placed twice
    client.options["adjustForTimeDifference"] = not local  # requests are signed by the venue's clock
    client.session.max_redirects = 0  # one POST must never become many
    client.turn = threading.RLock()  # one request at a time: what was said last belongs to whoever asked
    client.enableLastJsonResponse = client.enableLastResponseHeaders = True  # what was said, beside ccxt's reading
    if config.sandbox and not local:
        if not client.urls.get("test"):
            raise ConfigurationError(f"{config.name} has no sandbox; set exchange.sandbox to false")
        client.set_sandbox_mode(True)
    if client.id.startswith("binance"):
        _spot_only(client, config.ccxt_config.get("options", {}))
    if local_url is not None and local:
        redirect(client, local_url)
    return client


def turn(client: Client) -> AbstractContextManager[object]:
    """The right to use a client alone (`build_client` made it; others are not shared)."""
    found: AbstractContextManager[object] = getattr(client, "turn", None) or nullcontext()
    return found


def redirect(client: Client, url: str) -> None:
    """Send everything a `ccxt.binance` does to `url` instead, so that nothing can reach the real venue."""
    target = urlsplit(url)

    def moved(address: str) -> str:
        path = urlsplit(address).path
        if address.startswith("ws"):
            return urlunsplit(("ws", target.netloc, path if path.startswith("/stream") else "/stream" + path, "", ""))
        return urlunsplit((target.scheme, target.netloc, path, "", ""))

    def walk(node: Any) -> Any:
        return {name: walk(child) for name, child in node.items()} if isinstance(node, dict) else moved(node)

    client.urls["api"] = walk(client.urls["api"])
    for name in ("test", "demo", "apiBackup"):
        client.urls.pop(name, None)
    client.options.update(fetchCurrencies=False, fetchMargins=False)
    # ccxt chooses the spot error table by the real venue's address, which this is not
    client.exceptions["exact"].update(client.exceptions["spot"]["exact"])


def check_answered(client: Client) -> None:
    """Was the last reply JSON that says something? ccxt reads a web page, ``null`` or ``{}`` as an empty list.

    Raises
    ------
    ExchangeError
    """
    if client.last_json_response is None or client.last_json_response == {}:
        raise ExchangeError(f"{client.id} answered with something that is no answer (not JSON, or empty)")


@contextmanager
def asking(client: Client, action: str) -> Iterator[None]:
    """One at a time; whatever goes wrong inside becomes an `ExchangeError` of ours that says what was being asked."""
    try:
        with turn(client):
            yield
    except TradingBotError:
        raise
    except Exception as error:  # ccxt lets ValueError, KeyError, AttributeError … out when a reply is garbage
        raise translated(error, client, action) from None


@contextmanager
def asking_for_rows(client: Client, action: str) -> Iterator[None]:
    """Like `asking`, for what ccxt returns as a list: an unreadable answer must not pass for an empty one."""
    with asking(client, action):
        yield
        check_answered(client)


def seconds_ahead(client: Client) -> float:
    """How far the venue's clock is ahead of ours; bars close by its clock. 0 where it does not tell."""
    if not client.has.get("fetchTime"):
        return 0.0
    before = time.time()
    with asking(client, "tell its time"):
        theirs = client.fetch_time() / 1000
    ahead: float = theirs - (before + time.time()) / 2
    if abs(ahead) > CLOCK_TOLERANCE:
        event("clock", client.id, f"this machine's clock is {-ahead:+.2f} s off the venue's; check its time service",
              level="WARNING")  # fmt: skip
    return ahead


def translated(error: Exception, client: Client, action: str) -> ExchangeError:
    """The error-translation table: our exception for `error`, its text free of signed addresses."""
    text = f"{client.id} could not {action}: {words(error)}"
    if is_denied(error):
        return ExchangeDenied(f"{text}; check the key, its permissions and its address list")
    if isinstance(error, ccxt.DDoSProtection | ccxt.RateLimitExceeded):
        return ExchangeThrottled(text, retry_after(client))
    if isinstance(error, ccxt.InvalidNonce):
        return ExchangeUnreachable(f"{text}; check this machine's clock")
    if isinstance(error, ccxt.BadResponse):
        return ExchangeError(text)
    if isinstance(error, ccxt.OperationFailed):
        return ExchangeUnreachable(text)
    return ExchangeError(text)


def is_denied(error: Exception) -> bool:
    """Does the venue refuse our key? ccxt reports Binance's −2015 as DDoSProtection once any call has succeeded."""
    return isinstance(error, ccxt.AuthenticationError) or (
        isinstance(error, ccxt.DDoSProtection) and re.search(r'"code":\s*-(2015|2014|2008)\b', str(error)) is not None
    )


def retry_after(client: Client) -> float:
    """Seconds to wait, from the headers of the last reply; 1 where they do not say."""
    headers = client.last_response_headers or {}
    value = next((headers[name] for name in headers if name.lower() == "retry-after"), None)
    try:
        seconds = float(value) if value is not None else 1.0
    except ValueError:
        return 1.0
    return seconds if 0 < seconds < 86_400 else 1.0


def words(error: Exception) -> str:
    """What an error says, in one line without query strings (they hold signatures), at most 300 characters."""
    text = re.sub(r"\?\S*", "", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def _spot_only(client: Client, chosen: Mapping[str, Any]) -> None:
    """No thousands of contracts; open orders of all symbols at once (it weighs more, as ccxt warns)."""
    client.options["fetchOpenOrders"] = {"warnWithoutSymbol": False}
    if "fetchMarkets" not in chosen:
        client.options["fetchMarkets"] = {"types": ["spot"]}


def _exchange_class(name: str) -> Any:
    if name not in ccxt.exchanges:
        near = difflib.get_close_matches(name, [LOCAL, *ccxt.exchanges], n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "wanted 'local' or a ccxt id such as 'binance'"
        raise ConfigurationError(f"exchange.name {name!r} is no exchange ccxt knows; {hint}")
    return getattr(ccxt, name)


def _credentials(config: ExchangeConfig) -> _Credentials:
    given = {name: getattr(config, name) for name in _CREDENTIALS}
    found = {name: value.get_secret_value() for name, value in given.items() if value is not None}
    if config.credentials_file is not None:
        found = {**_read_credentials(config.credentials_file), **found}
    if ("key" in found) != ("secret" in found):
        here, absent = ("key", "secret") if "key" in found else ("secret", "key")
        raise ConfigurationError(f"exchange.{here} is set but exchange.{absent} is not; set both or neither")
    return _Credentials(found.get("key"), found.get("secret"), found.get("password"))


def _read_credentials(path: Path) -> Mapping[str, str]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"exchange.credentials_file {path} cannot be read: {error}") from None
    except yaml.YAMLError:  # its text would quote the secret
        raise ConfigurationError(f"exchange.credentials_file {path} is not YAML; wanted key: … and secret: …") from None
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise ConfigurationError(f"exchange.credentials_file {path} should hold the texts key and secret")
    if unknown := [str(name) for name in content if name not in _CREDENTIALS]:
        raise ConfigurationError(
            f"exchange.credentials_file {path} has {', '.join(unknown)}; wanted {', '.join(_CREDENTIALS)} only"
        )
    return content
