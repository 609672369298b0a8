"""A session from first start to the end of its candles, the account that goes on, and ways to be stopped."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.daemon import Home, gone, home, until
from tests.end_to_end.markets import BUSY_RISK, busy_strategy, write_walks
from trading_bot.domain.account import Trade
from trading_bot.domain.journal import Decision, Run

pytestmark = pytest.mark.slow

STOP_SECONDS = 10.0
BARS = 100


def test_a_session_tells_its_story_and_its_account_goes_on(tmp_path: Path) -> None:
    with home(tmp_path, market={"max_bars": BARS}) as bot:
        first = bot.run()
        assert first.code == 0, first.said
        log = bot.log()
        assert bot.lines(r"^decision +BTC/USDT 1h +(hold|buy|sell|denied) .*score=.*regime="), first.said
        assert bot.lines(r"^regime +\S+ 1h +\w+ -> \w+ +confidence="), "no regime change in the log"
        assert bot.lines(r"^weights +\S+ 1h .*\d->0\.\d\d.*because="), "no weight change in the log"
        assert bot.lines(r"^order +\S+ +(buy|sell) .*order=e2e-"), "no order in the log"
        assert bot.lines(r"^fill +\S+ +(buy|sell) .* @ .*fee=.*position="), "no fill in the log"
        assert bot.lines(r"^trade +\S+ +T\d+ closed [+-]\d+\.\d\d% [+-]\d+\.\d\d .*reason="), "no closed trade"
        assert "the candles have ended" in log.splitlines()[-1] + first.stderr
        assert not [line for line in log.splitlines() if " ERROR " in line]
        decisions = bot.rows(Decision)
        assert len(decisions) == 3 * (BARS + 1), "one decision for every symbol and bar"
        books = bot.ledgers()
        books.assert_agree()
        assert books.bot.fills

        bot.write(market={"max_bars": BARS + 20})
        second = bot.run()
        assert second.code == 0, second.said
        assert len(bot.lines("^account +local +opened")) == 1, "a second account was opened"
        assert bot.rows(Decision)[: len(decisions)] == decisions
        assert len(bot.rows(Decision)) == 3 * (BARS + 20 + 1)
        after = bot.ledgers()
        after.assert_agree()
        assert books.bot.fills.items() <= after.bot.fills.items()
        assert [run.end_reason.split(":")[0] for run in bot.rows(Run)] == ["the candles have ended"] * 2
        trades = sorted(int(trade.id[1:]) for trade in bot.rows(Trade, book="account"))
        assert trades == list(range(1, len(trades) + 1)), "trade numbers do not go on"

        third = bot.run()
        assert third.code == 0, third.said
        assert bot.ledgers() == after, "a start on candles that have ended changed the books"


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Home]:
    """A bot that trades at every other bar, on a market that does not end soon."""
    with home(
        tmp_path / "home",
        strategy_path=str(busy_strategy(tmp_path / "strategies")),
        market={"candles": write_walks(tmp_path / "candles", 3000), "max_bars": 0},
        risk=BUSY_RISK,
    ) as bot:
        yield bot


def _stop(bot: Home, number: signal.Signals, *, twice: bool = False) -> None:
    """Ask for the end; everything is gone within ten seconds and the books agree."""
    life, server = bot.lives[-1], bot.exchange()
    life.signal(number)
    if twice and life.running:
        life.signal(number)
    finished = life.ended(STOP_SECONDS)
    assert finished.code == 0, finished.said
    assert "Traceback" not in finished.stderr, finished.said
    if server is not None:
        until(lambda: gone(server.pid), "the exchange's end", 1.0)
    assert bot.exchange() is None


def test_stopped_at_several_moments_and_nothing_is_left_running(busy: Home) -> None:
    """Twice with a second signal, which does no harm."""
    for moment, number, twice in (
        ("^recovery", signal.SIGTERM, False),
        ("^order .*buy", signal.SIGINT, True),
        ("^fill .*sell", signal.SIGTERM, True),
        ("^decision", signal.SIGINT, False),
    ):
        seen = len(busy.lines(moment))
        busy.start()
        busy.wait_for(moment, seen + 1)
        _stop(busy, number, twice=twice)
        assert f"stopping: {number.name}" in busy.log().splitlines()[-1]
        busy.ledgers().assert_agree()
    assert len(busy.lines("^account")) == 1


def test_stopped_while_starting(busy: Home) -> None:
    """Before the loop runs: while modules load, while the exchange starts, once it answers."""
    for moment in ("banner", "exchange process", "exchange answers"):
        life = busy.start()
        if moment == "banner":
            until(lambda: "trading-bot" in busy.lives[-1].finished(0).stdout, "the banner")
        elif moment == "exchange process":
            until(lambda: (busy.state / "exchange.lock").exists() and busy.exchange() is not None, "an exchange")
        else:
            seen = len(busy.lines("^exchange +local +started"))
            busy.wait_for("^exchange +local +started", seen + 1)
        assert life.running
        _stop(busy, signal.SIGTERM)
    finished = busy.start()
    busy.wait_for("^fill")
    assert finished.running
    _stop(busy, signal.SIGTERM)
    busy.ledgers().assert_agree()


def test_stopped_in_the_middle_of_an_order_that_hangs(busy: Home) -> None:
    """The venue has taken the order and does not answer: the stop does not wait for it, the next start finds it."""
    busy.start()
    busy.wait_for("^decision")
    busy.control("faults", {"kind": "delay", "path": "/api/v3/order", "method": "POST", "seconds": 30, "count": 3})
    until(lambda: busy.control("faults")["struck"] >= 1, "an order that hangs")
    _stop(busy, signal.SIGTERM)
    seen = len(busy.lines("^fill"))
    busy.start()
    busy.wait_for("^fill", seen + 3)
    _stop(busy, signal.SIGTERM)
    busy.ledgers().assert_agree()
