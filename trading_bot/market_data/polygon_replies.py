"""What is asked of Polygon.io and what it says: tickers, windows, pages, refusals, and where the key stands."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import urllib3
import yaml
from urllib3.connectionpool import ConnectionPool
from urllib3.response import BaseHTTPResponse

from trading_bot.errors import (
    CandleDataError,
    ConfigurationError,
    ExchangeDenied,
    ExchangeError,
    ExchangeThrottled,
    ExchangeUnreachable,
)
from trading_bot.logs import redact, register_secret

KEY_VARIABLES = ("POLYGON_API_KEY", "MASSIVE_API_KEY")
FILE_VARIABLE = "POLYGON_CREDENTIALS_FILE"
UNTOLD = 12.0  # seconds to wait when it does not say how long: five requests a minute are free

_STOCK = re.compile(r"[A-Z]{1,5}(\.[A-Z]{1,2})?")
_PREFIXED = re.compile(r"[CIOX]:[A-Z0-9.]{1,32}")
_PAIR = re.compile(r"([A-Z0-9]{1,16})/([A-Z0-9]{1,16})")
_TIMEFRAME = re.compile(r"(\d+)([smhd])")
_NEXT = re.compile(r"/v2/aggs/ticker/[^/]+/range/\d+/[a-z]+/([\w-]+)/([\w-]+)/?")
_SPANS = {"s": ("second", 60), "m": ("minute", 60), "h": ("hour", 1), "d": ("day", 1)}  # and what n has to divide


@dataclass(frozen=True, slots=True)
class Request:
    """One page of candles."""

    symbol: str
    timeframe: str
    start: str  # as the address has it: milliseconds, or what a page said of the next one
    end: str
    parameters: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"{self.symbol} {self.timeframe}"


@dataclass(frozen=True, slots=True)
class Page:
    """One reply: rows of time, open, high, low, close, volume; whether they lag behind; what to ask for next."""

    rows: list[Any]
    delayed: bool
    following: Request | None


def read_key(environ: Mapping[str, str]) -> str:
    """The API key from the environment, or from the file that it names; nobody else may say it.

    Raises
    ------
    ConfigurationError
        There is none, or the file cannot be read.
    """
    given = next((environ[name] for name in KEY_VARIABLES if environ.get(name)), None)
    if given is None and environ.get(FILE_VARIABLE):
        given = _key_in(Path(environ[FILE_VARIABLE]))
    if given is None:
        raise ConfigurationError(
            f"no key for Polygon; set the environment variable {KEY_VARIABLES[0]} (or {KEY_VARIABLES[1]}), or name a "
            f"file with a line 'key: …' in {FILE_VARIABLE}"
        )
    register_secret(given.strip())
    return given.strip()


def _key_in(path: Path) -> str:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # noqa: S506 - scalars stay text
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError(f"{FILE_VARIABLE}: cannot read {path}: {cause}") from None
    except yaml.YAMLError:  # its text would quote the secret
        content = None
    if not isinstance(content, dict) or list(content) != ["key"] or not isinstance(content["key"], str):
        raise ConfigurationError(f"{FILE_VARIABLE}: {path} should hold one line 'key: …' and nothing else")
    return content["key"]


def ticker_of(symbol: str) -> str:
    """Polygon's word for `symbol`.

    Raises
    ------
    ConfigurationError
    """
    if _STOCK.fullmatch(symbol) or _PREFIXED.fullmatch(symbol):
        return symbol
    pair = _PAIR.fullmatch(symbol)
    if pair is None:
        raise ConfigurationError(
            f"symbol {symbol!r} is none of Polygon's; wanted a stock such as AAPL, a crypto pair such as BTC/USD, or a "
            "ticker with its market in front such as C:EURUSD"
        )
    return f"X:{pair[1]}{pair[2]}"


def window_of(timeframe: str) -> tuple[int, str]:
    """A timeframe as multiplier and timespan.

    Raises
    ------
    ConfigurationError
    """
    match = _TIMEFRAME.fullmatch(timeframe)
    number, (span, whole) = (int(match[1]), _SPANS[match[2]]) if match else (0, ("", 1))
    if number < 1 or whole % number:
        raise ConfigurationError(
            f"timeframe {timeframe!r} is not to be had from Polygon in UTC; wanted one such as 1m, 5m, 15m, 30m, 1h, 1d"
        )
    return number, span


def page_of(body: bytes, request: Request) -> Page:
    """A reply as a page.

    Raises
    ------
    CandleDataError
        It is something else.
    """
    try:
        reply = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise CandleDataError(_strange(request, "is no JSON, or cut short", body)) from None
    if not isinstance(reply, dict) or reply.get("status") not in ("OK", "DELAYED"):
        raise CandleDataError(_strange(request, "says neither OK nor DELAYED", body))
    rows = reply.get("results")
    if rows is None and reply.get("resultsCount") == 0:
        rows = []
    if not isinstance(rows, list):
        raise CandleDataError(_strange(request, "has no list of results", body))
    if reply.get("ticker", ticker_of(request.symbol)) != ticker_of(request.symbol):
        raise CandleDataError(_strange(request, "is about another ticker", body))
    columns = [[row.get(name) for name in "tohlcv"] if isinstance(row, dict) else row for row in rows]
    return Page(columns, reply["status"] == "DELAYED", _following(reply.get("next_url"), request, body))


def _following(address: Any, request: Request, body: bytes) -> Request | None:
    """The next page, at the same host whatever the address names, and without the key that it may carry."""
    if not address:
        return None
    parts = urlsplit(address) if isinstance(address, str) else None
    match = _NEXT.fullmatch(parts.path) if parts else None
    if parts is None or match is None:
        raise CandleDataError(_strange(request, "names a next page that is none", body))
    parameters = {name: value for name, value in parse_qsl(parts.query) if name.lower() != "apikey"}
    return Request(request.symbol, request.timeframe, match[1], match[2], parameters)


def _strange(request: Request, what: str, body: bytes) -> str:
    shown = " ".join(redact(body[:2000].decode("utf-8", "replace")).split())[:120]
    return f"Polygon's answer about {request.name} {what}: {shown!r}; ask again, and check the symbol if it stays so"


class Refused(Exception):
    """An answer other than 200; the client would keep its text and lose its number."""

    def __init__(self, status: int, retry_after: float | None, body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.retry_after = retry_after
        self.body = body

    def translated(self, request: Request) -> ExchangeError:
        """Our exception, with what the reply says, but never the key."""
        text = f"Polygon did not give candles of {request.name}: {self.status} {self._words()}".rstrip()
        if self.status == 401:
            return ExchangeDenied(f"{text}; it refuses the key, check {KEY_VARIABLES[0]}")
        if self.status == 403:
            return ExchangeDenied(f"{text}; the plan of this key lacks it, ask for another period or market")
        if self.status == 429:
            told = self.retry_after
            return ExchangeThrottled(text, UNTOLD if told is None else max(1.0, told))
        if self.status >= 500:
            return ExchangeUnreachable(text)
        return ExchangeError(f"{text}; check the symbol, the timeframe and the period")

    def _words(self) -> str:
        try:
            reply = json.loads(self.body)
            said = str(reply.get("error") or reply.get("message") or "")
        except (ValueError, AttributeError, RecursionError):
            said = ""
        return " ".join(redact(said).split())[:200]


class Answers(urllib3.Retry):
    """How the client's connections take an answer: nothing is sent again, no redirect followed, the number kept."""

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        """Whether `increment` is asked what to do next."""
        return status_code != 200

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        if response is not None:
            raise Refused(response.status, self._told(response), response.data)
        return super().increment(method, url, response, error, _pool, _stacktrace)

    def _told(self, response: BaseHTTPResponse) -> float | None:
        try:
            return self.get_retry_after(response)
        except urllib3.exceptions.InvalidHeader:
            return None


def unreachable(error: urllib3.exceptions.HTTPError, request: Request) -> ExchangeUnreachable:
    """Our exception for one of the connection, without its address."""
    cause = getattr(error, "reason", None) or error
    text = f"Polygon did not give candles of {request.name}: no usable answer ({type(cause).__name__})"
    return ExchangeUnreachable(f"{text}; check the network, what was fetched is kept")
