"""A real local exchange for tests: HTTP on 127.0.0.1, its own SQLite file, in a thread or in a process of its own.

with local_exchange(tmp_path) as local:
    client = local.client()                     # an unmodified ccxt.binance, redirected
    local.exchange.advance()                    # the next bar closes (lockstep)
    local.fault("timeout", "/api/v3/order", method="POST", seconds=0.5)
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import numpy as np

from trading_bot.domain.market import Candles, timeframe_ms
from trading_bot.exchange.ccxt_broker import CcxtBroker
from trading_bot.exchange.ccxt_client import Client, build_client
from trading_bot.exchange.config import LOCAL, ExchangeConfig, MarketConfig, PaperConfig
from trading_bot.exchange.local_control import LocalControl
from trading_bot.exchange.replay import ReplayMarket, default_balances, instruments_from
from trading_bot.exchange.simulator.exchange import LocalExchange
from trading_bot.exchange.simulator.server import ExchangeServer, ServerInfo, claimed, find_server, serve
from trading_bot.exchange.venue import SimulatedVenue
from trading_bot.ports import Store
from trading_bot.storage.store import open_store

START = 1_704_067_200_000  # 2024-01-01
DEADLINE = 20.0  # seconds for anything to happen


def walk(
    symbol: str, bars: int = 400, seed: int = 1, price: float = 100.0, timeframe: str = "1h", start: int = START
) -> Candles:
    """A seeded random walk with volume in every bar; prices have two decimals, volumes three."""
    random = np.random.default_rng(seed)
    closes = np.round(price * np.exp(np.cumsum(random.normal(0, 0.01, bars))), 2)
    opens = np.concatenate([[price], closes[:-1]])
    spread = np.round(np.abs(random.normal(0, 0.004, (2, bars))) * closes, 2)
    return Candles(
        symbol,
        timeframe,
        start + np.arange(bars) * timeframe_ms(timeframe),
        opens,
        np.round(np.maximum(opens, closes) + spread[0], 2),
        np.round(np.minimum(opens, closes) - spread[1], 2),
        closes,
        np.round(random.uniform(500, 1500, bars), 3),
    )


def walks(bars: int = 400, start: int = START) -> dict[str, Candles]:
    """Three symbols."""
    return {
        "ADA/USDT": walk("ADA/USDT", bars, 3, 5.0, start=start),
        "BTC/USDT": walk("BTC/USDT", bars, 1, 400.0, start=start),
        "ETH/USDT": walk("ETH/USDT", bars, 2, 50.0, start=start),
    }


def open_exchange(
    store: Store, candles: Mapping[str, Candles], market: MarketConfig, paper: PaperConfig
) -> LocalExchange:
    """The exchange over `store`: a new account, or the old one at the market time where it stopped."""
    replay = ReplayMarket(candles, history=market.history, max_bars=market.max_bars)
    balances = default_balances(candles, paper)
    venue = SimulatedVenue(store, instruments_from(candles, paper), name=LOCAL, balances=balances)
    return LocalExchange(replay, venue, name="test walk", candles_per_second=market.candles_per_second)


@dataclass
class Local:
    """A running exchange, as a test sees it. `exchange` is None where it runs in another process."""

    info: ServerInfo
    control: LocalControl
    exchange: LocalExchange | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.info.url

    def client(self, timeout: float = 5.0) -> Client:
        return build_client(ExchangeConfig(timeout_seconds=timeout), self.url, self.info.key, self.info.secret)

    def broker(self, timeout: float = 5.0) -> CcxtBroker:
        return CcxtBroker(self.client(timeout), LOCAL)

    def fault(self, kind: str, path: str, **fields: Any) -> None:
        self.control.post("faults", {"kind": kind, "path": path, **fields})

    def ledger(self) -> dict[str, Any]:
        return self.control.get("ledger")

    def ask(self, method: str, path: str, signed: bool = False, **params: object) -> tuple[int, Any]:
        """One raw request: status and JSON. No retry, no ccxt."""
        status, _, body = self.ask_raw(method, path, signed, **params)
        return status, json.loads(body)

    def ask_raw(
        self, method: str, path: str, signed: bool = False, **params: object
    ) -> tuple[int, Mapping[str, str], bytes]:
        query = urlencode({name: value for name, value in params.items() if value is not None})
        headers = {}
        if signed:
            query += f"{'&' if query else ''}timestamp={int(time.time() * 1000)}"
            query += "&signature=" + hmac.new(self.info.secret.encode(), query.encode(), hashlib.sha256).hexdigest()
            headers["X-MBX-APIKEY"] = self.info.key
        connection = http.client.HTTPConnection("127.0.0.1", self.info.port, timeout=DEADLINE)
        try:
            if method == "POST":
                connection.request(method, path, query, headers)
            else:
                connection.request(method, f"{path}?{query}", headers=headers)
            response = connection.getresponse()
            return response.status, dict(response.headers), response.read()
        finally:
            connection.close()


@contextmanager
def local_exchange(
    state: Path,
    candles: Mapping[str, Candles] | None = None,
    *,
    history: int = 100,
    candles_per_second: float | Literal["lockstep"] = "lockstep",
    max_bars: int = 0,
    paper: PaperConfig | None = None,
) -> Iterator[Local]:
    """In a thread of this process; its books are in `state`, so that a second start continues the first."""
    market = MarketConfig(history=history, candles_per_second=candles_per_second, max_bars=max_bars)
    rows = walks() if candles is None else candles
    with claimed(state):
        store = open_store(f"sqlite:///{state}/exchange.sqlite")
        exchange = open_exchange(store, rows, market, paper or PaperConfig())
        server = ExchangeServer(exchange, state)
        thread = threading.Thread(target=server.run, name="local exchange")
        thread.start()
        control = LocalControl(server.info.url)
        try:
            until(lambda: answers(control))
            yield Local(server.info, control, exchange)
        finally:
            control.close()
            server.stop()
            thread.join(DEADLINE)
            store.close()
            assert not thread.is_alive(), "the exchange did not stop"


@contextmanager
def exchange_process(state: Path, **options: Any) -> Iterator[Local]:
    """In a process of its own, so that it can be killed; `options` are those of `MarketConfig` and bars=…."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "tests.exchange.local", str(state), json.dumps(options)]
    process = subprocess.Popen(command, env=environment)
    try:
        until(lambda: find_server(state) is not None or process.poll() is not None)
        info = find_server(state)
        assert info is not None, f"the exchange ended with {process.returncode}"
        control = LocalControl(info.url)
        until(lambda: answers(control))
        yield Local(info, control, process=process)
        control.close()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE)


def answers(control: LocalControl) -> bool:
    try:
        control.get("info")
    except Exception:
        return False
    return True


def until(condition: Callable[[], bool], seconds: float = DEADLINE) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.01)


def main() -> None:
    """``python -m tests.exchange.local STATE '{"history": 100}'``"""
    state, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    rows = walks(options.pop("bars", 400))
    market = MarketConfig(**{"history": 100, "candles_per_second": "lockstep", **options})

    def make() -> LocalExchange:
        store = open_store(f"sqlite:///{state}/exchange.sqlite")
        return open_exchange(store, rows, market, PaperConfig())

    serve(state, make)


if __name__ == "__main__":
    main()
