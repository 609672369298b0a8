"""Things that go wrong on purpose, for tests: a reply that is late, cut, garbled or false, or none at all.

Each fault strikes `count` requests of one route, before the request took effect or after it. It sits outside the
application, where a broken proxy or network would.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from trading_bot.exchange.simulator.errors import ApiError


class Kind(StrEnum):
    DELAY = "delay"  # the right answer, `seconds` late
    TIMEOUT = "timeout"  # no answer for `seconds`, then the line is dropped
    RESET = "reset"
    CUT_HEADER = "cut_header"
    CUT_BODY = "cut_body"
    GARBLED = "garbled"  # 200, JSON that stops half-way
    HTML = "html"  # 200, a web page
    EMPTY = "empty"
    NULL = "null"
    OBJECT = "object"  # 200, {}
    BAD_GATEWAY = "502"
    UNAVAILABLE = "503"
    INTERNAL = "500"  # with code -1000
    UNKNOWN_STATUS = "-1007"
    THROTTLED = "429"
    BANNED = "418"
    FORBIDDEN = "403"
    REDIRECT = "302"
    NAN_CANDLES = "nan_candles"
    DUPLICATE_CANDLES = "duplicate_candles"
    MISSING_CANDLES = "missing_candles"
    LATE_CANDLES = "late_candles"  # neither the newest closed bar nor the one in progress is there yet


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` strikes the next `count` requests of `method` and `path`, after letting `skip` pass."""

    kind: Kind
    path: str
    method: str = "GET"
    moment: str = "after"  # or "before" the request took effect
    count: int = 1
    skip: int = 0
    seconds: float = 10.0

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Fault:
        """From JSON.

        Raises
        ------
        ApiError
            A field or kind that does not exist.
        """
        try:
            fault = cls(**{**fields, "kind": Kind(fields.get("kind", ""))})
        except (TypeError, ValueError) as error:
            raise ApiError(-1130, f"no such fault: {error}; kinds are {', '.join(Kind)}") from None
        if fault.moment not in ("before", "after") or fault.count < 1 or fault.skip < 0:
            raise ApiError(-1130, "a fault wants moment before or after, count above 0 and skip of 0 or more")
        return fault


_PAGE = b"<html><head><title>Oops</title></head><body>Something is wrong. Please try later.</body></html>"
_JSON, _HTML = "application/json;charset=UTF-8", "text/html"
_ANSWERS: dict[Kind, tuple[int, str, bytes, dict[str, str]]] = {
    Kind.HTML: (200, _HTML, _PAGE, {}),
    Kind.EMPTY: (200, _JSON, b"", {}),
    Kind.NULL: (200, _JSON, b"null", {}),
    Kind.OBJECT: (200, _JSON, b"{}", {}),
    Kind.BAD_GATEWAY: (502, _HTML, _PAGE, {}),
    Kind.UNAVAILABLE: (503, _HTML, _PAGE, {}),
    Kind.FORBIDDEN: (403, _HTML, _PAGE, {}),
    Kind.REDIRECT: (302, _HTML, b"", {"Location": "/"}),
    Kind.INTERNAL: (500, _JSON, b'{"code":-1000,"msg":"An unknown error occurred while processing the request."}', {}),
    Kind.UNKNOWN_STATUS: (
        504,
        _JSON,
        b'{"code":-1007,"msg":"Timeout waiting for response from backend server. Send status unknown; '
        b'execution status unknown."}',
        {},
    ),
    Kind.THROTTLED: (429, _JSON, b'{"code":-1003,"msg":"Too much request weight used."}', {"Retry-After": "3"}),
    Kind.BANNED: (418, _JSON, b'{"code":-1003,"msg":"IP banned."}', {"Retry-After": "120"}),
}


def _nan(rows: list[Any]) -> list[Any]:
    return [*rows[:-2], [rows[-2][0], *([math.nan] * 5), *rows[-2][6:]], rows[-1]] if len(rows) > 1 else rows


def _duplicate(rows: list[Any]) -> list[Any]:
    return [*rows[:-1], *rows[-2:]] if len(rows) > 1 else rows


def _missing(rows: list[Any]) -> list[Any]:
    return [*rows[:-2], *rows[-1:]]


_CANDLES: dict[Kind, Callable[[list[Any]], list[Any]]] = {
    Kind.NAN_CANDLES: _nan,
    Kind.DUPLICATE_CANDLES: _duplicate,
    Kind.MISSING_CANDLES: _missing,
    Kind.LATE_CANDLES: lambda rows: rows[:-2],
}


class FaultyProtocol(H11Protocol):
    """uvicorn's HTTP, with each connection's transport within reach of the faults."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class Faults:
    """ASGI middleware that lets the armed faults strike."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._armed: list[Fault] = []
        self.struck = 0

    def arm(self, fault: Fault) -> None:
        self._armed.append(fault)

    def clear(self) -> None:
        self._armed.clear()

    def state(self) -> dict[str, Any]:
        """What is still armed, and how often a fault struck."""
        return {"armed": [asdict(fault) for fault in self._armed], "struck": self.struck}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self._next(scope) if self._armed and scope["type"] == "http" else None
        if fault is None:
            await self._app(scope, receive, send)
            return
        self.struck += 1
        if fault.kind is Kind.DELAY and fault.moment == "before":
            await asyncio.sleep(fault.seconds)
            await self._app(scope, receive, send)
            return
        reply = _Reply()
        if fault.moment == "after" or fault.kind in _CANDLES:
            await self._app(scope, receive, reply)
        await self._strike(fault, reply, scope, send)

    def _next(self, scope: Scope) -> Fault | None:
        for index, fault in enumerate(self._armed):
            if (fault.method, fault.path) != (scope["method"], scope["path"]):
                continue
            if fault.skip:
                self._armed[index] = replace(fault, skip=fault.skip - 1)
                return None
            if fault.count > 1:
                self._armed[index] = replace(fault, count=fault.count - 1)
            else:
                del self._armed[index]
            return fault
        return None

    async def _strike(self, fault: Fault, reply: _Reply, scope: Scope, send: Send) -> None:
        kind = fault.kind
        transport: asyncio.Transport = scope["state"]["transport"]
        body = reply.body or b'{"symbol":"BTCUSDT","orderId":1'
        if kind in _ANSWERS:
            await _answer(send, *_ANSWERS[kind])
        elif kind in _CANDLES:
            rows = json.loads(reply.body)
            changed = _CANDLES[kind](rows) if isinstance(rows, list) else rows
            await _answer(send, 200, _JSON, json.dumps(changed).encode(), {})
        elif kind is Kind.GARBLED:
            await _answer(send, 200, _JSON, body[: len(body) // 2] + b"\xff\x00", {})
        elif kind is Kind.CUT_HEADER:
            await _drop(transport, b"HTTP/1.1 200 OK\r\nContent-Type: applicat")
        elif kind is Kind.CUT_BODY:
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            await _drop(transport, head.encode() + body[: len(body) // 2])
        elif kind is Kind.RESET:
            _reset(transport)
            await _gone()
        elif kind is Kind.TIMEOUT:
            await asyncio.sleep(fault.seconds)
            _reset(transport)
            await _gone()
        else:
            await asyncio.sleep(fault.seconds)
            for message in reply.messages:
                await send(message)


class _Reply:
    """Keeps what the application answers."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


async def _answer(send: Send, status: int, content_type: str, body: bytes, headers: dict[str, str]) -> None:
    pairs = {"Content-Type": content_type, "Content-Length": str(len(body)), **headers}
    head = [(name.lower().encode(), value.encode()) for name, value in pairs.items()]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def _drop(transport: asyncio.Transport, words: bytes) -> None:
    transport.write(words)
    transport.close()
    await _gone()


def _reset(transport: asyncio.Transport) -> None:
    """Close so that the other side reads a reset, not an end."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _gone() -> None:
    """Let the event loop tell uvicorn that the connection is lost, or it would answer 500 into nothing."""
    for _ in range(3):
        await asyncio.sleep(0)
