"""Signatures, parameters and limits, as Binance answers them."""

from __future__ import annotations

import hashlib
import hmac
from decimal import Decimal

import pytest

from trading_bot.exchange.simulator.auth import Credentials, check_signed
from trading_bot.exchange.simulator.errors import ApiError
from trading_bot.exchange.simulator.params import Params
from trading_bot.exchange.simulator.weights import RequestLimits

ACCOUNT = Credentials("the-key", "the-secret")
NOW = 1_700_000_000_000


def sign(text: str, secret: str = ACCOUNT.secret) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def signed(text: str, secret: str = ACCOUNT.secret) -> str:
    return f"{text}&signature={sign(text, secret)}"


@pytest.mark.parametrize("place", ["query", "body", "both"])
def test_a_signature_covers_query_and_body_as_sent(place: str) -> None:
    text = f"symbol=BTCUSDT&note=a%20b&timestamp={NOW}"
    if place == "both":
        query, rest = "symbol=BTCUSDT", f"note=a%20b&timestamp={NOW}"
        body = f"{rest}&signature={sign(query + rest)}"
    else:
        query, body = (signed(text), "") if place == "query" else ("", signed(text))
    params = check_signed(ACCOUNT, "the-key", query, body, NOW)
    assert params.text("note") == "a b"
    params.only({"symbol", "note"})  # timestamp and signature are gone


def code_of(key: str | None, query: str, now: int = NOW) -> tuple[int, int]:
    with pytest.raises(ApiError) as caught:
        check_signed(ACCOUNT, key, query, "", now)
    return caught.value.code, caught.value.status


@pytest.mark.parametrize(
    ("key", "query", "wanted"),
    [
        (None, signed(f"timestamp={NOW}"), (-2014, 401)),
        ("another", signed(f"timestamp={NOW}"), (-2015, 401)),
        ("the-key", f"timestamp={NOW}", (-1102, 400)),
        ("the-key", signed("symbol=BTCUSDT"), (-1102, 400)),
        ("the-key", signed(f"timestamp={NOW}", "wrong secret"), (-1022, 400)),
        ("the-key", signed(f"timestamp={NOW}").replace("timestamp", "a=1&timestamp"), (-1022, 400)),
        ("the-key", signed(f"timestamp={NOW - 5_001}"), (-1021, 400)),
        ("the-key", signed(f"timestamp={NOW + 1_000}"), (-1021, 400)),
        ("the-key", signed(f"timestamp={NOW}&recvWindow=60001"), (-1131, 400)),
        ("the-key", signed("timestamp=soon"), (-1100, 400)),
        ("the-key", signed(f"timestamp={NOW}&timestamp={NOW}"), (-1101, 400)),
    ],
)
def test_what_is_wrong_with_a_signed_request_has_its_code(key: str | None, query: str, wanted: tuple[int, int]) -> None:
    assert code_of(key, query) == wanted


def test_a_wider_window_accepts_an_older_request() -> None:
    query = signed(f"timestamp={NOW - 50_000}&recvWindow=60000")
    check_signed(ACCOUNT, "the-key", query, "", NOW)
    assert code_of("the-key", query, NOW + 10_001) == (-1021, 400)


def test_credentials_do_not_show_their_secret() -> None:
    assert "the-secret" not in repr(ACCOUNT)


@pytest.mark.parametrize(
    ("payload", "reader", "code"),
    [
        ("", "text", -1102),
        ("x=", "text", -1102),
        ("x=", "optional", -1105),
        ("x=-5", "decimal", -1100),
        ("x=NaN", "decimal", -1100),
        ("x=1e3", "decimal", -1100),
        ("x=0.123456789", "decimal", -1111),
        ("x=1.5", "integer", -1100),
        ("x=99999999999999999999", "integer", -1130),
        ("x=" + "a" * 37, "client_order_id", -1100),
        ("x=a%20b", "client_order_id", -1100),
    ],
)
def test_bad_parameters_have_their_codes(payload: str, reader: str, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        getattr(Params.parse(payload), reader)("x")
    assert caught.value.code == code


def test_good_parameters_are_read_exactly() -> None:
    params = Params.parse("amount=0.10000000&n=7&id=a-b_c.1&limit=5000")
    assert params.decimal("amount") == Decimal("0.1")
    assert params.integer("n") == 7
    assert params.client_order_id("id") == "a-b_c.1"
    assert params.limit(500, 1000) == 1000
    assert params.decimal("absent") is None
    with pytest.raises(ApiError, match="read '3' parameter\\(s\\) but was sent '4'"):
        params.only({"amount", "n", "id"})


class Seconds:
    def __init__(self) -> None:
        self.now = 30.0

    def __call__(self) -> float:
        return self.now


def status_of(limits: RequestLimits, weight: int) -> int:
    try:
        limits.spend(weight)
    except ApiError as error:
        return error.status
    return 200


def test_too_much_weight_gets_429_until_the_minute_is_over_then_418() -> None:
    clock = Seconds()
    limits = RequestLimits(100, None, clock)
    for _ in range(5):
        limits.spend(20)
    assert limits.headers()["X-MBX-USED-WEIGHT-1M"] == "100"
    with pytest.raises(ApiError) as caught:
        limits.spend(20)
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, "30")
    clock.now = 60.0
    limits.spend(20)  # a new minute
    statuses = [status_of(limits, 20) for _ in range(100)]
    assert statuses[:4] == [200] * 4
    assert statuses[4:24] == [429] * 20
    assert set(statuses[24:]) == {418}
    clock.now = 170.0  # two minutes on, still banned
    with pytest.raises(ApiError):
        limits.spend(1)
    clock.now = 181.0
    limits.spend(1)


def test_too_many_orders_get_429() -> None:
    clock = Seconds()
    limits = RequestLimits(None, 2, clock)
    limits.spend(1, orders=1)
    limits.spend(1, orders=1)
    with pytest.raises(ApiError) as caught:
        limits.spend(1, orders=1)
    assert (caught.value.status, caught.value.code) == (429, -1015)
    limits.spend(1)  # asking is still allowed
    clock.now = 40.0
    limits.spend(1, orders=1)
