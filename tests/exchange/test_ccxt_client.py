"""Building ccxt clients: credentials, addresses, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ccxt
import pytest
from pydantic import SecretStr

from tests.exchange.local import local_exchange
from trading_bot.errors import (
    ConfigurationError,
    ExchangeDenied,
    ExchangeError,
    ExchangeThrottled,
    ExchangeUnreachable,
    StorageError,
)
from trading_bot.exchange.ccxt_client import asking, build_client, check_answered, retry_after, translated
from trading_bot.exchange.config import ExchangeConfig

URL = "http://127.0.0.1:8123"


def addresses(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for child in node.values():
            yield from addresses(child)
    else:
        yield str(node)


def test_nothing_of_the_local_client_points_at_the_real_venue() -> None:
    client = build_client(ExchangeConfig(), URL, "k", "s")
    found = list(addresses(client.urls["api"]))
    assert len(found) > 20
    assert {address.split("/")[2] for address in found} == {"127.0.0.1:8123"}
    assert not {"test", "demo", "apiBackup"} & set(client.urls)
    assert client.urls["api"]["public"] == f"{URL}/api/v3"
    assert (client.enableRateLimit, client.maxRetriesOnFailure, client.timeout) == (False, 0, 5000)


def test_a_real_venue_is_asked_politely_and_never_twice() -> None:
    client = build_client(
        ExchangeConfig(name="kraken", timeout_seconds=2.5, ccxt_config={"maxRetriesOnFailure": 3, "timeout": 60_000})
    )
    assert (client.id, client.enableRateLimit, client.maxRetriesOnFailure, client.timeout) == ("kraken", True, 0, 2500)


def test_ccxt_options_are_handed_on() -> None:
    client = build_client(ExchangeConfig(name="binance", ccxt_config={"options": {"recvWindow": 2000}}))
    assert client.options["recvWindow"] == 2000
    assert client.urls["api"]["public"].startswith("https://api.binance.com")


def test_the_sandbox_is_another_address() -> None:
    client = build_client(ExchangeConfig(name="binance", sandbox=True))
    assert "testnet" in client.urls["api"]["public"]
    with pytest.raises(ConfigurationError, match="has no sandbox"):
        build_client(ExchangeConfig(name="kraken", sandbox=True))


@pytest.mark.parametrize(
    ("name", "hint"), [("binanse", "binance"), ("lokal", "local"), ("qqqqqqqq", "a ccxt id such as"), ("base", "")]
)
def test_an_unknown_exchange_names_its_neighbours(name: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"exchange.name '{name}'.*{hint}"):
        build_client(ExchangeConfig(name=name))


def test_the_local_exchange_needs_an_address() -> None:
    with pytest.raises(ConfigurationError, match="no address"):
        build_client(ExchangeConfig())


def test_credentials_come_from_the_configuration_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text("key: from-file\nsecret: of-file\npassword: word\n")
    client = build_client(ExchangeConfig(name="kraken", credentials_file=file))
    assert (client.apiKey, client.secret, client.password) == ("from-file", "of-file", "word")
    both = ExchangeConfig(name="kraken", credentials_file=file, key=SecretStr("mine"), secret=SecretStr("own"))
    assert (build_client(both).apiKey, build_client(both).secret) == ("mine", "own")
    assert build_client(ExchangeConfig(name="kraken")).apiKey in (None, "")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("key: [", "is not YAML"),
        ("just words", "should hold"),
        ("key: 5\nsecret: s", "should hold"),
        ("key: k\nsecret: canary-value\ncolour: red", "has colour; wanted key, secret, password"),
        ("key: canary-value", "exchange.key is set but exchange.secret is not"),
    ],
)
def test_a_bad_credentials_file_is_one_clear_error_without_its_secrets(
    tmp_path: Path, content: str | None, words: str
) -> None:
    file = tmp_path / "keys.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        build_client(ExchangeConfig(name="binance", credentials_file=file))
    assert "canary-value" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ccxt.RequestTimeout("x"), ExchangeUnreachable),
        (ccxt.NetworkError("x"), ExchangeUnreachable),
        (ccxt.ExchangeNotAvailable("x"), ExchangeUnreachable),
        (ccxt.OnMaintenance("x"), ExchangeUnreachable),
        (ccxt.OperationFailed("x"), ExchangeUnreachable),
        (ccxt.InvalidNonce("x"), ExchangeUnreachable),
        (ccxt.DDoSProtection("x"), ExchangeThrottled),
        (ccxt.RateLimitExceeded("x"), ExchangeThrottled),
        (ccxt.AuthenticationError("x"), ExchangeDenied),
        (ccxt.PermissionDenied("x"), ExchangeDenied),
        (ccxt.AccountSuspended("x"), ExchangeDenied),
        (ccxt.DDoSProtection('binance {"code":-2015,"msg":"Invalid API-key"}'), ExchangeDenied),
        (ccxt.BadResponse("x"), ExchangeError),
        (ccxt.NullResponse("x"), ExchangeError),
        (ccxt.BadSymbol("x"), ExchangeError),
        (ValueError("x"), ExchangeError),
        (KeyError("x"), ExchangeError),
        (AttributeError("x"), ExchangeError),
        (OSError("x"), ExchangeError),
    ],
)
def test_every_error_has_its_translation(error: Exception, kind: type[ExchangeError]) -> None:
    client = build_client(ExchangeConfig(), URL, "k", "s")
    found = translated(error, client, "do this")
    assert type(found) is kind
    assert "binance could not do this" in str(found)


def test_texts_of_errors_have_no_signature_and_one_line() -> None:
    client = build_client(ExchangeConfig(), URL, "k", "s")
    error = ccxt.NetworkError(f"binance GET {URL}/api/v3/account?timestamp=1&signature=canary\n<html>")
    text = str(translated(error, client, "ask"))
    assert "canary" not in text
    assert "\n" not in text
    assert "/api/v3/account" in text


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"Retry-After": "7"}, 7.0), ({"retry-after": "0.5"}, 0.5), ({}, 1.0), ({"Retry-After": "Wed, 1 Jan"}, 1.0)],
)
def test_how_long_to_wait_is_read_from_the_headers(headers: dict[str, str], seconds: float) -> None:
    client = build_client(ExchangeConfig(), URL, "k", "s")
    client.last_response_headers = headers
    assert retry_after(client) == seconds


def test_our_own_errors_pass_through() -> None:
    client = build_client(ExchangeConfig(), URL, "k", "s")
    with pytest.raises(StorageError), asking(client, "x"):
        raise StorageError("disk full")
    with pytest.raises(KeyboardInterrupt), asking(client, "x"):
        raise KeyboardInterrupt


def test_nobody_listening_is_unreachable_within_the_time_limit() -> None:
    client = build_client(ExchangeConfig(timeout_seconds=0.5), "http://127.0.0.1:9", "k", "s")
    with pytest.raises(ExchangeUnreachable, match="list markets"), asking(client, "list markets"):
        client.load_markets()


@pytest.mark.parametrize("kind", ["html", "empty", "null", "object", "cut_header"])
def test_candles_that_are_none_are_told_from_no_candles(tmp_path: Path, kind: str) -> None:
    with local_exchange(tmp_path) as local:
        client = local.client()
        client.load_markets()
        local.fault(kind, "/api/v3/klines")

        def fetch() -> None:
            with asking(client, "fetch candles"):
                client.fetch_ohlcv("BTC/USDT", "1h")
                check_answered(client)

        with pytest.raises(ExchangeError):
            fetch()
        assert client.fetch_ohlcv("BTC/USDT", "1h", since=2_000_000_000_000) == []
        check_answered(client)


@pytest.mark.parametrize("kind", ["nan_candles", "duplicate_candles", "missing_candles", "late_candles"])
def test_bad_candles_do_come_through(tmp_path: Path, kind: str) -> None:
    """ccxt passes them on: whoever reads candles has to look at them."""
    with local_exchange(tmp_path) as local:
        client = local.client()
        good = client.fetch_ohlcv("BTC/USDT", "1h")
        local.fault(kind, "/api/v3/klines")
        assert repr(client.fetch_ohlcv("BTC/USDT", "1h")) != repr(good)
        assert client.fetch_ohlcv("BTC/USDT", "1h") == good
