"""A Polygon of our own on this machine: the aggregates endpoint over HTTP, with every way it can go wrong."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from trading_bot.domain.market import Candles

KEY = "c4n4ry-polygon-key"
PATH = re.compile(r"/v2/aggs/ticker/([^/]+)/range/(\d+)/([a-z]+)/(\d+)/(\d+)")

Row = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """An answer instead of the right one; `cut` promises more bytes than it sends, `hang` sends none."""

    status: int = 200
    body: bytes | None = None  # None: the right one
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hang: bool = False


def rows_of(candles: Candles) -> list[Row]:
    """Candles as the endpoint gives them."""
    columns = [getattr(candles, name).tolist() for name in ("time", "open", "high", "low", "close", "volume")]
    return [dict(zip("tohlcv", row, strict=True)) | {"vw": 1.0, "n": 3} for row in zip(*columns, strict=True)]


class Polygon:
    """What the server has, what it was asked, and what it is to say next."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}
        self.page = 1000
        self.status = "OK"
        self.scripted: list[Reply] = []
        self.asked: list[str] = []
        self.url = ""
        self.released = threading.Event()

    @property
    def addresses(self) -> list[tuple[str, ...]]:
        """Ticker, multiplier, timespan, from, to of every request."""
        matches = [PATH.fullmatch(urlsplit(path).path) for path in self.asked]
        return [match.groups() for match in matches if match]

    def answer(self, path: str) -> Row:
        """One page: `cursor` says where it begins."""
        parts = urlsplit(path)
        match = PATH.fullmatch(parts.path)
        assert match, path
        query = parse_qs(parts.query)
        ticker, start, end = match[1], int(match[4]), int(match[5])
        assert "cursor" in query or query == {"adjusted": ["false"], "sort": ["asc"], "limit": ["50000"]}
        found = [row for row in self.rows.get(ticker, []) if start <= _number(row["t"]) <= end]
        at = int(query.get("cursor", ["0"])[0])
        reply: Row = {"ticker": ticker, "status": self.status, "resultsCount": len(found[at : at + self.page])}
        if reply["resultsCount"]:
            reply["results"] = found[at : at + self.page]
        if at + self.page < len(found):
            reply["next_url"] = f"https://nowhere.invalid{parts.path}?cursor={at + self.page}&apiKey={KEY}"
        return reply


def _number(time: Any) -> int:
    return time if isinstance(time, int) else 0


@contextmanager
def serving() -> Iterator[Polygon]:
    """A server on 127.0.0.1 while the block runs."""
    polygon = Polygon()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            polygon.asked.append(self.path)
            reply = polygon.scripted.pop(0) if polygon.scripted else Reply()
            if self.headers["Authorization"] != f"Bearer {KEY}":
                reply = Reply(401, json.dumps({"status": "ERROR", "error": "Unknown API Key"}).encode())
            if reply.hang:
                polygon.released.wait(60)
                return
            body = json.dumps(polygon.answer(self.path)).encode() if reply.body is None else reply.body
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) + (100 if reply.cut else 0)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    polygon.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield polygon
    finally:
        polygon.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
