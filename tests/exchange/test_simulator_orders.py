"""Orders over raw HTTP: what Binance would answer, and money that is conserved to the last decimal."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.exchange.local import Local, local_exchange
from trading_bot.exchange.config import PaperConfig

ORDER = "/api/v3/order"


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    with local_exchange(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with local_exchange(tmp_path_factory.mktemp("exchange")) as running:
        yield running


def place(local: Local, **changes: Any) -> tuple[int, Any]:
    params: dict[str, Any] = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "1"}
    return local.ask("POST", ORDER, signed=True, **{**params, **changes})


def limit(local: Local, price: str, **changes: Any) -> tuple[int, Any]:
    return place(local, **{"type": "LIMIT", "timeInForce": "GTC", "price": price, **changes})


def balances(local: Local) -> dict[str, tuple[Decimal, Decimal]]:
    answer = local.ask("GET", "/api/v3/account", signed=True)[1]
    return {row["asset"]: (Decimal(row["free"]), Decimal(row["locked"])) for row in answer["balances"]}


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"symbol": "DOGEUSDT"}, -1121, "Invalid symbol."),
        ({"symbol": None}, -1102, "symbol"),
        ({"side": "HOLD"}, -1117, "Invalid side."),
        ({"type": "STOP"}, -1116, "Invalid orderType."),
        ({"type": None}, -1102, "type"),
        ({"quantity": None}, -1102, "quantity"),
        ({"quantity": ""}, -1105, "quantity"),
        ({"quantity": "-1"}, -1100, "quantity"),
        ({"quantity": "NaN"}, -1100, "quantity"),
        ({"quantity": "1.000000001"}, -1111, "too much precision"),
        ({"quantity": "1.0001"}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": "0"}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": "0.001"}, -1013, "Filter failure: NOTIONAL"),
        ({"quantity": "30"}, -2010, "Account has insufficient balance for requested action."),
        ({"side": "SELL"}, -2010, "Account has insufficient balance for requested action."),
        ({"quoteOrderQty": "100"}, -1128, "Combination"),
        ({"price": "100"}, -1106, "price"),
        ({"timeInForce": "GTC"}, -1106, "timeInForce"),
        ({"stopPrice": "1"}, -1106, "stopPrice"),
        ({"colour": "red"}, -1104, "Not all sent parameters were read"),
        ({"newClientOrderId": "a b"}, -1100, "newClientOrderId"),
        ({"newOrderRespType": "LONG"}, -1130, "newOrderRespType"),
        ({"type": "LIMIT", "price": "300"}, -1102, "timeInForce"),
        ({"type": "LIMIT", "timeInForce": "GTD", "price": "300"}, -1115, "Invalid timeInForce."),
        ({"type": "LIMIT", "timeInForce": "GTC"}, -1102, "price"),
        ({"type": "LIMIT", "timeInForce": "GTC", "price": "300.001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"type": "LIMIT", "timeInForce": "GTC", "price": "0"}, -1013, "Filter failure: PRICE_FILTER"),
    ],
)
def test_a_refused_order_has_binances_code_and_changes_nothing(
    untouched: Local, changes: dict[str, Any], code: int, message: str
) -> None:
    before = untouched.ledger()
    status, answer = place(untouched, **changes)
    assert (status, answer["code"]) == (400, code)
    assert message in answer["msg"]
    assert untouched.ledger() == before


def test_a_market_order_fills_at_once_and_the_fee_is_taken_in_coins(local: Local) -> None:
    status, answer = place(local, newClientOrderId="first")
    assert status == 200
    assert (answer["status"], answer["clientOrderId"], answer["executedQty"]) == ("FILLED", "first", "1.000")
    (fill,) = answer["fills"]
    assert Decimal(fill["commission"]) == Decimal("0.001")
    assert fill["commissionAsset"] == "BTC"
    cost = Decimal(answer["cummulativeQuoteQty"])
    assert cost == Decimal(fill["price"]) * Decimal(fill["qty"])
    assert balances(local)["USDT"] == (Decimal(10_000) - cost, Decimal(0))
    assert balances(local)["BTC"] == (Decimal("0.999"), Decimal(0))


def test_a_market_order_by_quote_spends_no_more_than_that(local: Local) -> None:
    status, answer = place(local, quantity=None, quoteOrderQty="1000")
    assert status == 200
    assert 995 < Decimal(answer["cummulativeQuoteQty"]) <= 1000


def test_the_answer_is_as_long_as_asked_for(local: Local) -> None:
    short, middle, full = (set(place(local, newOrderRespType=kind)[1]) for kind in ("ACK", "RESULT", "FULL"))
    assert short == {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}
    assert middle - short >= {"status", "executedQty", "cummulativeQuoteQty"}
    assert full - middle == {"fills"}


def test_a_resting_order_reserves_is_found_and_gives_back_when_cancelled(local: Local) -> None:
    status, placed = limit(local, "200", newClientOrderId="rest")
    assert (status, placed["status"], placed["fills"]) == (200, "NEW", [])
    assert balances(local)["USDT"] == (Decimal(9_800), Decimal(200))
    by_name = local.ask("GET", ORDER, signed=True, symbol="BTCUSDT", origClientOrderId="rest")[1]
    by_number = local.ask("GET", ORDER, signed=True, symbol="BTCUSDT", orderId=placed["orderId"])[1]
    assert by_name == by_number
    assert local.ask("GET", "/api/v3/openOrders", signed=True)[1] == [by_name]
    assert local.ask("GET", "/api/v3/openOrders", signed=True, symbol="ETHUSDT")[1] == []
    status, ended = local.ask("DELETE", ORDER, signed=True, symbol="BTCUSDT", origClientOrderId="rest")
    assert (status, ended["status"], ended["origClientOrderId"]) == (200, "CANCELED", "rest")
    assert balances(local)["USDT"] == (Decimal(10_000), Decimal(0))
    again = local.ask("DELETE", ORDER, signed=True, symbol="BTCUSDT", origClientOrderId="rest")
    assert again == (400, {"code": -2011, "msg": "Unknown order sent."})
    (kept,) = local.ask("GET", "/api/v3/allOrders", signed=True, symbol="BTCUSDT")[1]
    assert kept["status"] == "CANCELED"


def test_a_client_order_id_is_unique_among_open_orders_only(local: Local) -> None:
    assert limit(local, "200", newClientOrderId="same")[0] == 200
    assert limit(local, "200", newClientOrderId="same") == (400, {"code": -2010, "msg": "Duplicate order sent."})
    assert local.ask("DELETE", ORDER, signed=True, symbol="BTCUSDT", origClientOrderId="same")[0] == 200
    assert limit(local, "200", newClientOrderId="same")[0] == 200


def test_orders_that_do_not_exist(local: Local) -> None:
    for ids, code in (({"origClientOrderId": "none"}, -2013), ({"orderId": 99}, -2013), ({}, -1102)):
        assert local.ask("GET", ORDER, signed=True, symbol="BTCUSDT", **ids)[1]["code"] == code
    limit(local, "200", newClientOrderId="here")
    assert local.ask("GET", ORDER, signed=True, symbol="ETHUSDT", origClientOrderId="here")[1]["code"] == -2013
    assert local.ask("DELETE", "/api/v3/openOrders", signed=True, symbol="ETHUSDT")[1]["code"] == -2011


def test_immediate_or_nothing(local: Local) -> None:
    price = Decimal(local.ask("GET", "/api/v3/ticker/price", symbol="BTCUSDT")[1]["price"])
    killed = limit(local, "200", timeInForce="FOK")[1]
    assert (killed["status"], killed["executedQty"]) == ("EXPIRED", "0")
    filled = limit(local, str(price * 2), timeInForce="FOK")[1]
    assert filled["status"] == "FILLED"
    missed = limit(local, "200", timeInForce="IOC")[1]
    assert (missed["status"], missed["fills"]) == ("EXPIRED", [])


def test_cancelling_all_orders_of_a_symbol(local: Local) -> None:
    for price in ("200", "201"):
        limit(local, price)
    limit(local, "20", symbol="ETHUSDT")
    status, ended = local.ask("DELETE", "/api/v3/openOrders", signed=True, symbol="BTCUSDT")
    assert (status, len(ended)) == (200, 2)
    assert [order["symbol"] for order in local.ask("GET", "/api/v3/openOrders", signed=True)[1]] == ["ETHUSDT"]


def test_a_test_order_is_checked_and_not_placed(local: Local) -> None:
    params = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET"}
    assert local.ask("POST", ORDER + "/test", signed=True, quantity="1", **params) == (200, {})
    assert local.ask("POST", ORDER + "/test", signed=True, **params)[1]["code"] == -1102
    assert local.ledger()["orders"] == []


def test_too_many_open_orders(local: Local) -> None:
    for _ in range(200):
        assert limit(local, "100", quantity="0.05")[0] == 200
    assert limit(local, "100", quantity="0.05")[1] == {"code": -1013, "msg": "Filter failure: MAX_NUM_ORDERS"}
    assert limit(local, "10", quantity="1", symbol="ETHUSDT")[0] == 200


def test_executions_can_be_paged(local: Local) -> None:
    for _ in range(5):
        place(local)
    path = "/api/v3/myTrades"
    everything = local.ask("GET", path, signed=True, symbol="BTCUSDT")[1]
    assert [trade["id"] for trade in everything] == [1, 2, 3, 4, 5]
    assert [t["id"] for t in local.ask("GET", path, signed=True, symbol="BTCUSDT", fromId=2, limit=2)[1]] == [2, 3]
    assert [t["id"] for t in local.ask("GET", path, signed=True, symbol="BTCUSDT", limit=2)[1]] == [4, 5]
    assert [t["id"] for t in local.ask("GET", path, signed=True, symbol="BTCUSDT", orderId=3)[1]] == [3]
    later = everything[0]["time"] + 1
    assert local.ask("GET", path, signed=True, symbol="BTCUSDT", startTime=later)[1] == []


def test_money_is_conserved_over_a_stream_of_orders(tmp_path: Path) -> None:
    with local_exchange(tmp_path, paper=PaperConfig(balances={"USDT": Decimal(5000), "BTC": Decimal(3)})) as local:
        price = Decimal(local.ask("GET", "/api/v3/ticker/price", symbol="BTCUSDT")[1]["price"])
        for step in range(40):
            side = "BUY" if step % 3 else "SELL"
            if step % 2:
                place(local, side=side, quantity=f"0.{step + 10}")
            else:
                gap = Decimal(step % 7 - 3) * price / 200
                limit(local, str((price + gap).quantize(Decimal("0.01"))), side=side, quantity="0.5")
            local.control.post("done", {"after": local.control.get("clock")["now"]})
        ledger = local.ledger()
        assert len(ledger["fills"]) > 25
        held = {"USDT": Decimal(5000), "BTC": Decimal(3)}
        for fill in ledger["fills"]:
            sign = 1 if fill["side"] == "buy" else -1
            held["BTC"] += sign * Decimal(fill["quantity"])
            held["USDT"] -= sign * Decimal(fill["quantity"]) * Decimal(fill["price"])
            held[fill["fee_currency"]] -= Decimal(fill["fee"])
        found = {name: sum(amounts) for name, amounts in balances(local).items()}
        assert {name: found[name] for name in held} == held


def test_signed_routes_want_a_signature(local: Local) -> None:
    for method, path in (("POST", ORDER), ("GET", ORDER), ("DELETE", ORDER), ("GET", "/api/v3/account")):
        status, answer = local.ask(method, path, symbol="BTCUSDT")
        assert (status, answer["code"]) == (401, -2014)
