"""Killed at random moments, again and again, the bot ends where it would have ended undisturbed.

The local exchange outlives the bot and is found again; once it is killed itself. Undisturbed means: the same candles
in a backtest, which makes the very fills of a session of one life (see test_parity.py). Wherever the moments fall, both
books must agree and the fills must be the same.
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.daemon import Home, Life, home, pause, until
from tests.end_to_end.ledgers import story_of
from tests.end_to_end.markets import BUSY_RISK, busy_strategy, write_walks
from trading_bot.bootstrap import run_backtest

pytestmark = pytest.mark.slow

BARS = 75
KILLS = 7  # in each of the sessions below
ORDER = "/api/v3/order"

SESSIONS: dict[str, dict[str, Any]] = {
    "market orders": {},
    "market orders that take several bars": {"volume": 12.0},
    "limit orders that wait, fill in parts or time out": {
        "volume": 60.0,
        "order_types": {"entry": "limit", "exit": "limit"},
        "unfilledtimeout": {"entry": 60, "exit": 60},
    },
}


def _configuration(folder: Path, volume: float = 1000.0, **changes: Any) -> dict[str, Any]:
    """A market of our own, on which the bot trades at every other bar."""
    return changes | {
        "strategy_path": str(busy_strategy(folder / "strategies")),
        "market": {"candles": write_walks(folder / "candles", 601 + BARS, volume), "max_bars": BARS},
        "risk": BUSY_RISK,
    }


MOMENTS = ("starting", "recovering", "deciding", "before the order", "order taken", "order booked")


def _kill_somewhere(bot: Home, moment: str, dice: random.Random) -> bool:
    """Start a life and end it by SIGKILL at this moment, or a little later; False if it had ended by itself."""
    life = bot.start()
    if moment == "starting":
        pause(dice.uniform(0.0, 1.0))
    elif moment == "recovering":
        _until_told(bot, life, "exchange +local")
    else:
        _until_told(bot, life, "decision", dice.randint(1, 12))
        if moment in ("before the order", "order taken"):  # on the wire: not yet taken, or taken and not answered
            when = "before" if moment == "before the order" else "after"
            fault = {"kind": "delay", "path": ORDER, "method": "POST", "seconds": 20, "skip": dice.randrange(3)}
            if life.running:
                bot.control("faults", fault | {"moment": when})
            until(lambda: not life.running or bot.control("faults")["struck"] >= 1, "an order under way")
        elif moment == "order booked":
            _until_told(bot, life, "fill")
        pause(dice.uniform(0.0, 0.1))
    alive = life.running
    life.kill()
    return alive


def _until_told(bot: Home, life: Life, pattern: str, more: int = 1) -> None:
    """So many more lines of a kind, unless it ends before."""
    wanted = len(bot.lines(pattern)) + more
    until(lambda: not life.running or len(bot.lines(pattern)) >= wanted, f"a line {pattern!r}")


@pytest.mark.parametrize(("seed", "session"), list(enumerate(SESSIONS, 1)), ids=["market", "partial", "limit"])
def test_killed_at_random_moments_it_ends_with_the_same_books(seed: int, session: str, tmp_path: Path) -> None:
    with home(tmp_path / "home", **_configuration(tmp_path, **SESSIONS[session])) as bot:
        _disturb(bot, seed, session)
        found = bot.ledgers()
        found.assert_agree()
        undisturbed = story_of(run_backtest(bot.settings()).store)
        assert len(undisturbed) > 30
        assert found.story() == undisturbed, session


def _disturb(bot: Home, seed: int, session: str) -> None:
    """Kill many lives, then let one go on to the end of the candles."""
    dice = random.Random(seed)
    moments = [*MOMENTS, *dice.choices(MOMENTS, k=KILLS - len(MOMENTS))]
    dice.shuffle(moments)
    told = f"seed {seed}, {session}: killed while {', '.join(moments)}"
    for moment in moments:
        assert _kill_somewhere(bot, moment, dice), f"{told}: it had ended by itself while {moment}"
        if bot.exchange() is not None:
            bot.control("faults", {"clear": True})
    assert bot.lines("^exchange +local +found running"), told
    decided = len(bot.lines("^decision"))
    last = bot.run()
    assert last.code == 0, f"{told}; {last.said}"
    assert len(bot.lines("^decision")) > decided, f"{told}: nothing was left to do for the last life"


def test_an_exchange_that_dies_is_started_again_and_nothing_is_lost(tmp_path: Path) -> None:
    """Killed while the bot runs, in the middle of an order too, it comes back where it was; the bot goes on.

    The fills need not be those of an undisturbed session: an order that never arrived is given up when the venue has
    denied it often enough, and the next bar decides anew.
    """
    with home(tmp_path / "home", **_configuration(tmp_path, volume=12.0)) as bot:
        life = bot.start()
        for deaths, hangs in enumerate((False, True), 1):
            bot.wait_for("^fill", 4 * deaths)
            if hangs:
                bot.control("faults", {"kind": "delay", "path": ORDER, "method": "POST", "seconds": 20})
                until(lambda: bot.control("faults")["struck"] >= 1, "an order under way")
            server = bot.exchange()
            assert server is not None
            os.kill(server.pid, signal.SIGKILL)
            bot.wait_for("^exchange +local +ended without being told to", deaths)
            bot.wait_for("^exchange +local +started again", deaths)
            again = bot.exchange()
            assert again is not None
            assert (again.port, again.key) == (server.port, server.key)
            assert again.pid != server.pid
        ended = life.ended(120)
        assert ended.code == 0, ended.said
        assert bot.exchange() is None
        found = bot.ledgers()
        found.assert_agree()
        assert len(found.story()) > 30
        assert bot.lines("^job +candles +works again")
