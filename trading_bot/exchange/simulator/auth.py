"""Who asks? The key in a header, HMAC-SHA256 over the parameters exactly as they were sent, a fresh time stamp.

Source: Binance spot API documentation, "SIGNED endpoint security". Time is the wall clock: market time runs at the
replay's pace and has no part in it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from trading_bot.exchange.simulator import errors
from trading_bot.exchange.simulator.errors import ApiError
from trading_bot.exchange.simulator.params import Params

_RECV_WINDOW = 5_000
_MAX_RECV_WINDOW = 60_000
_AHEAD = 1_000  # ms a client's clock may be fast


@dataclass(frozen=True, slots=True)
class Credentials:
    """One account's key and secret."""

    key: str
    secret: str = field(repr=False)


def check_signed(credentials: Credentials, key: str | None, query: str, body: str, now_ms: int) -> Params:
    """The parameters of a signed request, without timestamp, recvWindow and signature.

    `query` and `body` are the texts as they came over the wire; Binance signs one followed by the other.

    Raises
    ------
    ApiError
        -2014/-2015 wrong key, -1102 something missing, -1131 recvWindow too large, -1021 time, -1022 signature.
    """
    if not key:
        raise ApiError(-2014, "API-key format invalid.", status=401)
    if not hmac.compare_digest(key.encode(), credentials.key.encode()):
        raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", status=401)
    payload = query + body
    values = Params.parse("&".join(part for part in (query, body) if part))
    signature = values.text("signature")
    _check_time(values, now_ms)
    signed = payload.removesuffix(f"signature={signature}").removesuffix("&")
    wanted = hmac.new(credentials.secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(signature.encode(), wanted.encode()):
        raise ApiError(-1022, "Signature for this request is not valid.")
    return values.without("timestamp", "recvWindow", "signature")


def _check_time(values: Params, now_ms: int) -> None:
    timestamp = values.integer("timestamp")
    if timestamp is None:
        raise errors.missing("timestamp")
    window = values.integer("recvWindow", _RECV_WINDOW) or 0
    if window > _MAX_RECV_WINDOW:
        raise ApiError(-1131, "recvWindow must be less than 60000.")
    if timestamp >= now_ms + _AHEAD:
        raise ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if now_ms - timestamp > window:
        raise ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")
