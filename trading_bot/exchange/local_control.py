"""The bot's side of the local exchange's control routes: its clock, its faults, its ledger, its end."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any
from urllib.parse import urlsplit

from trading_bot.errors import ExchangeError, ExchangeUnreachable

_PATIENCE = 5.0  # seconds for an answer, on top of what a long poll waits by itself


class LocalControl:
    """One kept-alive connection; calls from several threads take turns."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        self._host = urlsplit(self.base_url).netloc
        self._connection: http.client.HTTPConnection | None = None
        self._lock = threading.Lock()

    def get(self, path: str, wait: float = 0.0) -> dict[str, Any]:
        """The JSON object at ``/control/PATH``. A broken connection is opened once more: reading changes nothing.

        Raises
        ------
        ExchangeUnreachable
            No answer.
        ExchangeError
            An answer that makes no sense.
        """
        return self._ask("GET", path, None, wait)

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Like `get`; every POST of the control routes may safely be sent twice."""
        return self._ask("POST", path, json.dumps(body or {}).encode(), 0.0)

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _ask(self, method: str, path: str, body: bytes | None, wait: float) -> dict[str, Any]:
        with self._lock:
            for attempt in (1, 2):
                try:
                    status, text = self._exchange(method, f"/control/{path}", body, wait + _PATIENCE)
                    break
                except (OSError, http.client.HTTPException) as error:
                    self._drop()
                    if attempt == 2 or isinstance(error, TimeoutError):
                        raise ExchangeUnreachable(
                            f"the local exchange at {self.base_url} does not answer ({type(error).__name__}); "
                            "is it running?"
                        ) from None
        try:
            answer = json.loads(text)
        except ValueError:
            raise ExchangeError(f"the local exchange answered /control/{path} with something not JSON") from None
        if status != 200 or not isinstance(answer, dict):
            raise ExchangeError(f"the local exchange refused /control/{path}: HTTP {status} {text[:200]!r}")
        return answer

    def _exchange(self, method: str, path: str, body: bytes | None, timeout: float) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._host, timeout=timeout)
            self._connection.connect()
        self._connection.timeout = timeout
        self._connection.sock.settimeout(timeout)
        self._connection.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
        response = self._connection.getresponse()
        return response.status, response.read()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
