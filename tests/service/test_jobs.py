"""Jobs look outside and queue events: what they do when the outside fails, comes late or stands still."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from queue import Queue
from typing import Any

import pytest

from tests.service.stand import Clock, Feed, bot_on, log_lines
from tests.trading.stage import HOUR, START, WARMUP, Stage, wander
from trading_bot.bootstrap import Bot
from trading_bot.domain.journal import Command
from trading_bot.domain.market import Candles
from trading_bot.errors import CandleDataError, ExchangeThrottled, ExchangeUnreachable
from trading_bot.ports import MarketEnded
from trading_bot.service.jobs import LONGEST_PAUSE, Jobs
from trading_bot.trading.events import BarsClosed, CommandGiven, Event, OrdersDue, Stop

BTC, ETH = "BTC/USDT", "ETH/USDT"
FIRST = START + (WARMUP + 9) * HOUR  # the newest bar of a stage's history


@pytest.fixture
def bot() -> Bot:
    return bot_on(Stage({BTC: wander(80, 1, BTC), ETH: wander(80, 2, ETH)}, {}))


@pytest.fixture
def jobs(bot: Bot) -> Iterator[Jobs]:
    made = Jobs(bot, Queue(), lambda: False)
    yield made
    assert not made.scheduler.running


def feed(bot: Bot) -> Feed:
    found: Any = bot.feed
    assert isinstance(found, Feed)
    return found


def clock(bot: Bot) -> Clock:
    assert isinstance(bot.clock, Clock)
    return bot.clock


def taken(jobs: Jobs) -> list[Event]:
    """Everything queued, dealt with as far as the queue knows."""
    events = []
    while not jobs.queue.empty():
        events.append(jobs.queue.get_nowait())
        jobs.queue.task_done()
    return events


def bars(jobs: Jobs, *, deal: bool = True) -> list[tuple[int, bool, tuple[str, ...]]]:
    """Queued bars as (number after the history's last, late, symbols)."""
    told = []
    for happened in taken(jobs):
        assert isinstance(happened, BarsClosed)
        told.append(((happened.time - FIRST) // HOUR, happened.late, tuple(happened.candles)))
        if deal:
            jobs.bot.trader.memory.time = happened.time
    return told


# ── candles ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_closed_bar_of_all_symbols_is_one_event(jobs: Jobs) -> None:
    jobs.on_bar_close()
    assert bars(jobs) == [(0, False, (BTC, ETH))]
    jobs.on_bar_close()
    assert bars(jobs) == [(1, False, (BTC, ETH))]


def test_missed_bars_are_told_oldest_first_and_late(jobs: Jobs) -> None:
    jobs.on_bar_close()
    bars(jobs)
    clock(jobs.bot).jump = 3
    jobs.on_bar_close()
    assert bars(jobs) == [(1, True, (BTC, ETH)), (2, True, (BTC, ETH)), (3, True, (BTC, ETH)), (4, False, (BTC, ETH))]


def test_a_bar_that_was_not_dealt_with_is_told_again_as_late(jobs: Jobs) -> None:
    jobs.on_bar_close()
    bars(jobs)
    jobs.on_bar_close()
    bars(jobs, deal=False)
    jobs.on_bar_close()
    assert bars(jobs) == [(1, True, (BTC, ETH)), (2, False, (BTC, ETH))]


def test_the_first_start_ever_begins_with_the_newest_bar(jobs: Jobs) -> None:
    assert jobs.bot.trader.memory.time == -1
    jobs.on_bar_close()
    assert len(bars(jobs)) == 1


def test_a_symbol_without_the_bar_is_left_out() -> None:
    rows = wander(80, 2, ETH)
    keep = rows.time != FIRST + HOUR
    gap = Candles(ETH, "1h", *(getattr(rows, c)[keep] for c in ("time", "open", "high", "low", "close", "volume")))
    jobs = Jobs(bot_on(Stage({BTC: wander(80, 1, BTC), ETH: gap}, {})), Queue(), lambda: False)
    told = []
    for _ in range(3):
        jobs.on_bar_close()
        told += bars(jobs)
    assert told == [(0, False, (BTC, ETH)), (1, False, (BTC,)), (2, False, (BTC, ETH))]


def test_a_bar_that_a_venue_shows_late_is_waited_for(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trading_bot.service.jobs.LATE_BAR_PAUSE", 0.001)
    clock(jobs.bot).settle_ms = 10_000
    feed(jobs.bot).late = {ETH: 4}
    jobs.on_bar_close()
    assert bars(jobs) == [(0, False, (BTC, ETH))]
    assert feed(jobs.bot).pulls == [BTC, ETH, ETH, ETH, ETH]


def test_where_bars_are_there_at_once_nothing_is_waited_for(jobs: Jobs) -> None:
    feed(jobs.bot).late = {ETH: 4}
    jobs.on_bar_close()
    assert bars(jobs) == [(0, False, (BTC,))]


def test_candles_that_cannot_be_fetched_are_fetched_again_for_the_same_bar(jobs: Jobs) -> None:
    """A clock tells a close once: after a failure the bar must not wait for the next one."""
    jobs.on_bar_close()
    bars(jobs)
    feed(jobs.bot).troubles = {BTC: [ExchangeUnreachable("no route")], ETH: [ExchangeUnreachable("no route")]}
    with pytest.raises(ExchangeUnreachable):
        jobs.on_bar_close()
    assert not taken(jobs)
    jobs.on_bar_close()
    assert bars(jobs) == [(1, False, (BTC, ETH))]
    jobs.on_bar_close()
    assert bars(jobs) == [(2, False, (BTC, ETH))]


def test_a_bar_fetched_only_after_the_next_one_closed_is_late(jobs: Jobs) -> None:
    jobs.on_bar_close()
    bars(jobs)
    feed(jobs.bot).troubles = {s: [ExchangeUnreachable("no route")] for s in (BTC, ETH)}
    with pytest.raises(ExchangeUnreachable):
        jobs.on_bar_close()
    made: Any = clock(jobs.bot).stage
    made.market.advance()  # meanwhile
    jobs.on_bar_close()
    assert bars(jobs) == [(1, True, (BTC, ETH)), (2, False, (BTC, ETH))]


@pytest.mark.parametrize("trouble", [ExchangeUnreachable("no route"), CandleDataError("rows of garbage")])
def test_one_symbol_in_trouble_is_waited_for_once_then_left_behind(jobs: Jobs, trouble: Exception) -> None:
    """Its candles come a moment later, or the others go on without it; it does not hold them up bar after bar."""
    jobs.on_bar_close()
    bars(jobs)
    feed(jobs.bot).troubles = {ETH: [trouble, None, trouble, trouble, trouble]}
    with pytest.raises(type(trouble)):
        jobs.on_bar_close()
    jobs.on_bar_close()
    assert bars(jobs) == [(1, False, (BTC, ETH))]
    with pytest.raises(type(trouble)):
        jobs.on_bar_close()
    for number in (2, 3):
        jobs.on_bar_close()
        assert [told[:2] for told in bars(jobs)] == [(number, False)]


def test_the_next_bar_is_not_asked_for_before_the_last_one_is_dealt_with(bot: Bot) -> None:
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        return asked > 20

    jobs = Jobs(bot, Queue(), stopping)
    jobs.queue.put(OrdersDue())
    jobs.on_bar_close()
    assert clock(bot).reported is None, "the queue was not empty"


def test_a_feed_that_stands_still_is_shown_until_it_moves(jobs: Jobs) -> None:
    jobs.on_bar_close()
    bars(jobs)
    made: Any = clock(jobs.bot)
    made.still = True
    now = jobs.bot.clock.now()
    memory = jobs.bot.trader.memory
    memory.time = now - 6 * HOUR
    jobs.on_bar_close()
    assert memory.degraded["stale"] == "no new candle for 18000 s of market time"
    memory.time = now - HOUR
    jobs.on_bar_close()
    assert "stale" not in memory.degraded


def test_the_end_of_the_candles_is_a_stop_not_an_error(jobs: Jobs) -> None:
    class Ended(Clock):
        def next_close(self, timeout: float) -> int | None:
            raise MarketEnded("no candle after this")

    jobs.bot.clock = Ended(clock(jobs.bot).stage)
    jobs.guarded("candles", jobs.on_bar_close)
    assert taken(jobs) == [Stop("the candles have ended: no candle after this")]
    assert not jobs.failures


# ── failing jobs ────────────────────────────────────────────────────────────────────────────────────────────────────


def fail_with(error: Exception) -> Any:
    def work() -> None:
        raise error

    return work


def test_a_failing_job_is_degraded_backs_off_and_recovers(jobs: Jobs) -> None:
    memory = jobs.bot.trader.memory
    pauses = []
    with log_lines() as log:
        for count in range(1, 9):
            jobs.not_before.clear()
            jobs.guarded("orders", fail_with(ExchangeUnreachable("no route to the venue")))
            pauses.append(jobs.not_before["orders"] - time.monotonic())
            assert jobs.failures["orders"] == count
        assert memory.degraded["orders"] == "no route to the venue"
        assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE], abs=0.3)
        calls: list[int] = []
        jobs.guarded("orders", lambda: calls.append(1))
        assert not calls, "it rests"
        jobs.not_before.clear()
        jobs.guarded("orders", lambda: calls.append(1))
        assert calls
    assert "orders" not in memory.degraded
    assert "orders" not in jobs.failures
    assert any("failed 1x: no route to the venue" in line for line in log)
    assert any("orders" in line and "works again" in line for line in log)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("y"), ZeroDivisionError(), RuntimeError("z")])
def test_no_error_of_a_job_gets_out(jobs: Jobs, error: Exception) -> None:
    jobs.guarded("anything", fail_with(error))
    assert jobs.bot.trader.memory.degraded["anything"].startswith(type(error).__name__)


def test_a_venue_that_asks_for_patience_gets_it(jobs: Jobs) -> None:
    jobs.guarded("candles", fail_with(ExchangeThrottled("slow down", 120.0)))
    assert jobs.not_before["candles"] - time.monotonic() == pytest.approx(120, abs=0.5)


def test_nothing_is_begun_while_stopping(bot: Bot) -> None:
    jobs = Jobs(bot, Queue(), lambda: True)
    jobs.guarded("orders", fail_with(RuntimeError("begun")))
    assert not jobs.failures


# ── the rest ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_command_is_queued_once(jobs: Jobs) -> None:
    with jobs.bot.store.transaction() as tx:
        tx.add(Command("1", "pause", datetime.now(UTC)))
        tx.add(Command("2", "resume", datetime.now(UTC), handled=datetime.now(UTC)))
    jobs.poll_commands()
    jobs.poll_commands()
    (only,) = taken(jobs)
    assert isinstance(only, CommandGiven)
    assert only.command.id == "1"


def test_orders_are_asked_after_only_if_there_are_any(jobs: Jobs) -> None:
    jobs.poll_orders()
    assert not taken(jobs)
    order: Any = object()
    jobs.bot.trader.desk.live["x"] = order
    jobs.poll_orders()
    assert taken(jobs) == [OrdersDue()]


def test_the_heartbeat_says_how_it_is(jobs: Jobs) -> None:
    jobs.on_bar_close()
    bars(jobs)
    with log_lines() as log:
        jobs.heartbeat()
        jobs.bot.trader.memory.degraded["orders"] = "no route"
        jobs.heartbeat()
        jobs.bot.trader.memory.paused = True
        jobs.heartbeat()
    words = [line.split()[:3] for line in log]
    assert words == [["INFO", "heartbeat", state] for state in ("running", "degraded", "paused")]
    assert "degraded=orders: no route" in log[1]
    for fact in ("equity=", "drawdown=", "open=", "newest_candle=", "queue=", "models="):
        assert fact in log[0]
