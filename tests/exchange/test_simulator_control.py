"""Control routes, market time, and the exchange as a process: found, never doubled, continued after a kill."""

from __future__ import annotations

import http.client
import json
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.exchange.local import START, Local, exchange_process, local_exchange, until
from trading_bot.errors import AlreadyRunning, ConfigurationError, ExchangeError, ExchangeUnreachable
from trading_bot.exchange.local_control import LocalControl
from trading_bot.exchange.market_clock import LocalExchangeClock, WallClock
from trading_bot.exchange.simulator.server import claimed, find_server
from trading_bot.exchange.simulator.weights import RequestLimits
from trading_bot.ports import MarketEnded

HOUR = 3_600_000
NOW = START + 100 * HOUR


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    with local_exchange(tmp_path, max_bars=5) as running:
        yield running


def clock_of(local: Local, last_seen: int | None = None, lockstep: bool = True) -> LocalExchangeClock:
    return LocalExchangeClock(local.url, lockstep, last_seen)


# ── lockstep ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_in_lockstep_each_question_closes_one_bar_until_the_market_ends(local: Local) -> None:
    clock = clock_of(local)
    closes = [clock.next_close(1.0) for _ in range(6)]
    assert closes == [NOW + step * HOUR for step in range(6)]
    with pytest.raises(MarketEnded):
        clock.next_close(1.0)
    with pytest.raises(MarketEnded):
        clock.next_close(1.0)
    assert clock.now() == NOW + 5 * HOUR
    clock.close()


def test_a_restarted_bot_sees_the_bar_it_has_not_dealt_with_again(local: Local) -> None:
    first = clock_of(local)
    assert [first.next_close(1.0), first.next_close(1.0)] == [NOW, NOW + HOUR]
    first.close()
    unfinished, finished = clock_of(local, last_seen=NOW), clock_of(local, last_seen=NOW + HOUR)
    assert unfinished.next_close(1.0) == NOW + HOUR
    assert finished.next_close(1.0) == NOW + 2 * HOUR
    unfinished.close()
    finished.close()


def test_done_sent_twice_moves_once(local: Local) -> None:
    for _ in range(3):
        assert local.control.post("done", {"after": NOW})["now"] == NOW + HOUR


def test_market_time_that_went_back_is_an_error(local: Local) -> None:
    clock = clock_of(local, last_seen=NOW + 50 * HOUR)
    with pytest.raises(ExchangeError, match="went back"):
        clock.next_close(1.0)
    clock.close()


@pytest.mark.parametrize("body", [{}, {"after": "soon"}, {"after": 1.5}])
def test_done_wants_a_time(local: Local, body: dict[str, Any]) -> None:
    with pytest.raises(ExchangeError, match="400"):
        local.control.post("done", body)


# ── paced ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_bars_close_by_themselves_and_the_newest_is_reported(tmp_path: Path) -> None:
    with local_exchange(tmp_path, candles_per_second=200, max_bars=30) as local:
        clock = clock_of(local, lockstep=False)
        closes: list[int] = []
        while not closes or closes[-1] < NOW + 30 * HOUR:
            close = clock.next_close(5.0)
            assert close is not None
            closes.append(close)
        with pytest.raises(MarketEnded):
            clock.next_close(5.0)
        assert closes == sorted(set(closes))
        with pytest.raises(ExchangeError, match="moves by itself"):
            local.control.post("done", {"after": NOW})
        clock.close()


def test_a_long_poll_comes_back_empty_when_time_is_up_and_at_once_when_a_bar_closes(local: Local) -> None:
    clock = clock_of(local, last_seen=NOW, lockstep=False)
    assert clock.next_close(0.05) is None
    seen: list[int | None] = []
    waiter = threading.Thread(target=lambda: seen.append(clock.next_close(20.0)))
    waiter.start()
    assert local.exchange is not None
    local.exchange.advance()
    waiter.join(10.0)
    assert seen == [NOW + HOUR]
    clock.close()


def test_waiting_does_not_keep_the_exchange_from_stopping(tmp_path: Path) -> None:
    with local_exchange(tmp_path) as local:
        clock = clock_of(local, last_seen=NOW, lockstep=False)
        seen: list[int | None] = []
        waiter = threading.Thread(target=lambda: seen.append(clock.next_close(50.0)))
        waiter.start()
        local.control.post("stop")
        waiter.join(10.0)
        assert seen == [None]
        clock.close()


def test_request_limits_follow_the_pace(tmp_path: Path) -> None:
    with local_exchange(tmp_path, candles_per_second=0.001) as local:
        limits = {row["rateLimitType"]: row for row in local.ask("GET", "/api/v3/exchangeInfo")[1]["rateLimits"]}
        assert limits["REQUEST_WEIGHT"]["limit"] == 6000 * 3.6
        assert local.exchange is not None
        local.exchange.limits = RequestLimits(3, None, lambda: 12.0)
        assert local.ask("GET", "/api/v3/time")[0] == 200
        status, headers, body = local.ask_raw("GET", "/api/v3/klines", symbol="BTCUSDT", interval="1h", limit=1)
        assert (status, headers["x-mbx-used-weight-1m"]) == (200, "3")
        status, headers, body = local.ask_raw("GET", "/api/v3/time")
        assert (status, json.loads(body)["code"], headers["retry-after"]) == (429, -1003, "48")


# ── who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("headers", [{"Origin": "http://example.com"}, {"Host": "evil.example.com"}])
def test_a_page_in_a_browser_cannot_control_the_exchange(local: Local, headers: dict[str, str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", local.info.port, timeout=5)
    connection.request("POST", "/control/stop", b"{}", headers)
    assert connection.getresponse().status == 403
    connection.close()


def test_info_says_what_market_this_is(local: Local) -> None:
    info = local.control.get("info")
    assert (info["name"], info["timeframe"], info["pace"]) == ("test walk", "1h", "lockstep")
    assert info["symbols"] == ["ADA/USDT", "BTC/USDT", "ETH/USDT"]


def test_nobody_there_is_unreachable() -> None:
    control = LocalControl("http://127.0.0.1:9")
    with pytest.raises(ExchangeUnreachable, match="is it running"):
        control.get("info")


# ── the process ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_there_are_never_two_on_one_state_and_others_find_the_one(tmp_path: Path) -> None:
    assert find_server(tmp_path) is None
    with local_exchange(tmp_path) as local:
        assert find_server(tmp_path) == local.info
        with pytest.raises(AlreadyRunning, match=str(local.info.port)), claimed(tmp_path):
            pass
        assert stat.S_IMODE((tmp_path / "exchange.json").stat().st_mode) == 0o600
        assert local.info.secret not in repr(local.info)
    assert find_server(tmp_path) is None


def test_looking_for_an_exchange_does_not_keep_one_from_starting(tmp_path: Path) -> None:
    with claimed(tmp_path):
        pass
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            find_server(tmp_path)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(50):
            with claimed(tmp_path):
                pass
    finally:
        over.set()
        for looker in lookers:
            looker.join()


def test_a_taken_port_is_one_clear_error(tmp_path: Path) -> None:
    from trading_bot.exchange.simulator.server import ExchangeServer

    with local_exchange(tmp_path / "first") as local:
        assert local.exchange is not None
        with pytest.raises(ConfigurationError, match=r"market.port .* choose another"):
            ExchangeServer(local.exchange, tmp_path, port=local.info.port)


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"), claimed(tmp_path / "file" / "state"):
        pass


def test_a_killed_exchange_continues_books_orders_and_time(tmp_path: Path) -> None:
    with exchange_process(tmp_path) as local:
        order = {"symbol": "BTCUSDT", "side": "BUY"}
        local.ask("POST", "/api/v3/order", signed=True, type="MARKET", quantity="1", **order)
        resting = {"type": "LIMIT", "timeInForce": "GTC", "price": "100", "quantity": "2", "newClientOrderId": "rest"}
        local.ask("POST", "/api/v3/order", signed=True, **order, **resting)
        for step in range(7):
            local.control.post("done", {"after": NOW + step * HOUR})
        before, info = local.ledger(), local.info
        assert local.process is not None
        local.process.send_signal(signal.SIGKILL)
        local.process.wait(10)
    assert find_server(tmp_path) is None
    with exchange_process(tmp_path) as local:
        assert local.control.get("clock")["now"] == NOW + 7 * HOUR
        assert local.ledger() == before
        assert (local.info.key, local.info.port) == (info.key, info.port)
        assert local.ask("GET", "/api/v3/order", signed=True, symbol="BTCUSDT", origClientOrderId="rest")[0] == 200
        process = local.process
    assert process is not None
    assert process.returncode == 0  # a signal is a clean end


def test_the_stop_route_ends_the_process(tmp_path: Path) -> None:
    with exchange_process(tmp_path) as local:
        local.control.post("stop")
        process = local.process
        assert process is not None
        until(lambda: process.poll() is not None)
        assert process.returncode == 0


# ── real venues ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Wall:
    """A clock that moves only by waiting."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.waited: list[float] = []

    def __call__(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.seconds += seconds


def test_the_wall_clock_reports_a_boundary_once_and_a_little_after_it_passed() -> None:
    wall = Wall(1_700_000_000.0)  # 800 s after an hour began
    clock = WallClock("1h", offset=2.0, wall=wall, wait=wall.wait)
    begin = 1_699_999_200_000
    assert clock.next_close(10.0) == begin
    assert clock.next_close(10.0) is None
    assert wall.waited == [10.0]
    assert clock.next_close(10_000.0) == begin + HOUR
    assert wall.seconds == begin / 1000 + 3600 + 2
    wall.seconds -= 1800  # somebody set the clock back
    assert clock.next_close(5.0) is None


def test_the_venues_clock_is_asked_before_each_boundary() -> None:
    """Ours ran behind and is set right meanwhile: a bar must not be taken for closed before it is."""
    wall, ahead = Wall(1_700_000_000.0), [30.0]
    clock = WallClock("1h", offset=2.0, wall=wall, wait=wall.wait, ahead=lambda: ahead[0])
    assert clock.now() == 1_700_000_030_000
    begin = 1_699_999_200_000
    assert clock.next_close(1.0) == begin
    wall.seconds = begin / 1000 + 3600 - 20  # by the old measure the hour is over
    ahead[0] = 0.0
    assert clock.next_close(1.0) is None
    assert clock.next_close(30.0) == begin + HOUR
    assert wall.seconds == begin / 1000 + 3600 + 2


def test_weeks_begin_on_monday() -> None:
    wall = Wall(1_700_000_000.0)  # Tuesday, 14 November 2023
    assert WallClock("1w", wall=wall, wait=wall.wait).next_close(1.0) == 1_699_833_600_000
