"""ccxt's own checks of an exchange (they come in its wheel) against the local one."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.exchange.local import local_exchange, walks

HOUR = 3_600_000
SYMBOL = "BTC/USDT"
SKIPPED = {  # of a field, what Binance itself does not tell either
    "fetch_my_trades": {"type": True},
    "fetch_order_book": {"timestamp": True, "datetime": True},
    "fetch_l2_order_book": {"timestamp": True, "datetime": True},
    "fetch_currencies": {"deposit": True, "withdraw": True, "precision": True, "networks": True, "limits": True},
}
WITH_SYMBOL = (
    "fetch_ohlcv",
    "fetch_order_book",
    "fetch_l2_order_book",
    "fetch_ticker",
    "fetch_tickers",
    "fetch_last_prices",
    "fetch_trades",
    "fetch_my_trades",
    "fetch_open_orders",
    "fetch_closed_orders",
    "fetch_orders",
    "fetch_trading_fee",
)
WITHOUT_SYMBOL = ("load_markets", "fetch_balance", "fetch_status", "fetch_trading_fees", "fetch_currencies")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """On a market whose time is about now, because the checks compare with the wall clock; with a few orders made."""
    history = 200
    start = (int(time.time() * 1000) // HOUR - history) * HOUR
    with local_exchange(tmp_path_factory.mktemp("exchange"), walks(300, start), history=history) as local:
        client = local.client()
        client.load_markets()
        client.options["fetchCurrencies"] = True
        client.timeframes = {"1h": "1h"}
        client.has.update(swap=False, future=False, option=False, margin=False)
        client.create_order(SYMBOL, "market", "buy", 1.0)
        client.create_order(SYMBOL, "limit", "buy", 1.0, 100.0)
        dropped = client.create_order(SYMBOL, "limit", "buy", 1.0, 101.0)
        client.cancel_order(dropped["id"], SYMBOL)
        client.create_order(SYMBOL, "market", "sell", 0.5)
        yield client


def check(name: str) -> Any:
    return getattr(importlib.import_module(f"ccxt.test.exchange.sync.test_{name}"), f"test_{name}")


@pytest.mark.parametrize("name", WITH_SYMBOL)
def test_ccxts_checks_of_one_market_pass(client: Any, name: str) -> None:
    assert check(name)(client, SKIPPED.get(name, {}), SYMBOL) is not False


@pytest.mark.parametrize("name", WITHOUT_SYMBOL)
def test_ccxts_checks_of_the_account_and_markets_pass(client: Any, name: str) -> None:
    assert check(name)(client, SKIPPED.get(name, {})) is not False


def test_the_checks_can_fail(client: Any) -> None:
    with pytest.raises(Exception, match="INVALID"):
        check("fetch_ticker")(client, {}, "INVALID/USDT")
