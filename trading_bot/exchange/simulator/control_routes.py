"""Routes Binance does not have: market time, lockstep, faults, the ledger, the end. For this machine only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trading_bot import __version__
from trading_bot.exchange.simulator import shapes
from trading_bot.exchange.simulator.errors import ApiError
from trading_bot.exchange.simulator.exchange import LocalExchange
from trading_bot.exchange.simulator.faults import Fault, Faults

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost", "testclient", "testserver"})
_LONGEST_POLL = 60.0  # seconds


class Control:
    """The handlers. Market time is waited for on an event that the exchange's advance sets from any thread."""

    def __init__(self, exchange: LocalExchange, stop: Callable[[], None]) -> None:
        self.faults: Faults | None = None
        self._exchange = exchange
        self._stop = stop
        self._moved = asyncio.Event()

    def routes(self) -> list[Route]:
        table: tuple[tuple[str, str, Callable[[Request], Awaitable[Any]]], ...] = (
            ("GET", "info", self.info),
            ("GET", "clock", self.clock),
            ("POST", "done", self.done),
            ("GET", "faults", self.show_faults),
            ("POST", "faults", self.arm_faults),
            ("GET", "ledger", self.ledger),
            ("POST", "stop", self.stop),
        )
        return [Route(f"/control/{path}", _guarded(handler), methods=[method]) for method, path, handler in table]

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        def woken() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._wake)

        self._exchange.listeners.append(woken)
        try:
            yield
        finally:
            self._exchange.listeners.remove(woken)

    async def info(self, request: Request) -> Any:
        return {"version": __version__, **self._exchange.description()}

    async def clock(self, request: Request) -> Any:
        """Market time; with ``after`` not before it is later than that, the market has ended or time is up."""
        after = _number(request.query_params.get("after"), -1)
        deadline = asyncio.get_running_loop().time() + min(
            _LONGEST_POLL, _number(request.query_params.get("timeout"), 0)
        )
        exchange = self._exchange
        while exchange.market.now() <= after and not exchange.market.ended and not exchange.closing:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            self._moved.clear()
            try:
                await asyncio.wait_for(self._moved.wait(), left)
            except TimeoutError:
                break
        return {"now": exchange.market.now(), "ended": exchange.market.ended}

    async def done(self, request: Request) -> Any:
        """Lockstep: close the next bar if market time is still ``after``. Sent twice, it moves once."""
        after = (await request.json()).get("after")
        if not isinstance(after, int):
            raise ApiError(-1102, "done wants {'after': market time in ms}")
        if not self._exchange.lockstep:
            raise ApiError(-1130, "this market moves by itself; only one in lockstep can be moved on")
        self._exchange.advance(after)
        return {"now": self._exchange.market.now(), "ended": self._exchange.market.ended}

    async def show_faults(self, request: Request) -> Any:
        return self.faults.state() if self.faults is not None else {}

    async def arm_faults(self, request: Request) -> Any:
        """``{"clear": true}`` disarms all, ``{"clock_skew": MS}`` sets the clock wrong; else it is one fault to arm."""
        fields = await request.json()
        if self.faults is None or not isinstance(fields, dict):
            raise ApiError(-1130, "a fault is an object with kind and path")
        if fields.get("clear"):
            self.faults.clear()
            self._exchange.clock_skew = 0
        elif isinstance(fields.get("clock_skew"), int):
            self._exchange.clock_skew = fields["clock_skew"]
        else:
            self.faults.arm(Fault.parse(fields))
        return self.faults.state()

    async def ledger(self, request: Request) -> Any:
        with self._exchange.lock:
            return shapes.ledger_json(*self._exchange.ledger())

    async def stop(self, request: Request) -> Any:
        self._stop()
        return {"stopping": True}

    def _wake(self) -> None:
        self._moved.set()


def _number(text: str | None, default: float) -> float:
    try:
        return default if text is None else float(text)
    except ValueError:
        raise ApiError(-1100, f"{text!r} is not a number") from None


def _guarded(handler: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    """Answer this machine's programs, not pages in its browser (they send an Origin, or another Host)."""

    async def answer(request: Request) -> Response:
        caller = request.client.host if request.client else ""
        if caller not in _LOOPBACK or request.url.hostname not in _LOOPBACK or "origin" in request.headers:
            return JSONResponse({"code": -1002, "msg": "control routes are for this machine only"}, 403)
        try:
            return JSONResponse(await handler(request))
        except ApiError as error:
            return JSONResponse({"code": error.code, "msg": error.message}, error.status)
        except ValueError:
            return JSONResponse({"code": -1100, "msg": "the body is not JSON"}, 400)

    return answer
