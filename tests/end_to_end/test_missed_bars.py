"""Killed while the market goes on at its own pace: the next life sees what it missed, and only stops act on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.daemon import home, until
from tests.end_to_end.markets import BUSY_RISK, START, write_csv
from trading_bot.domain.account import Trade
from trading_bot.domain.journal import Decision
from trading_bot.domain.market import Candles
from trading_bot.domain.orders import Order, Side

pytestmark = pytest.mark.slow

HOUR = 3_600_000
HISTORY, BARS, CRASH = 600, 1200, 700  # the price falls at the open of bar CRASH
CRASH_TIME = START + CRASH * HOUR

_STRATEGY = f'''
import numpy as np

from trading_bot.trading.strategy import Signals, by_regime


class Patient:
    """Always wants to be long in BTC; in ETH from the crash on."""

    name = "patient"
    warmup = 10
    affinity = by_regime(trending=1.0, ranging=1.0, volatile=1.0, choppy=1.0)

    def signals(self, candles):
        wanted = candles.time >= (0 if candles.symbol == "BTC/USDT" else {CRASH_TIME})
        return Signals(np.where(wanted, 1, 0), np.where(wanted, 0.9, 0.0))
'''


def _steps(symbol: str, before: float, after: float) -> Candles:
    """A price that wiggles, falls at the crash and goes on wiggling there."""
    bars = np.arange(BARS)
    closes = np.where(bars < CRASH, before, after) + np.where(bars % 2, 0.5, -0.5)
    opens = np.concatenate([[before], np.where(bars[1:] == CRASH, after, closes[:-1])])
    return Candles(
        symbol,
        "1h",
        START + bars * HOUR,
        opens,
        np.round(np.maximum(opens, closes) + 0.2, 2),
        np.round(np.minimum(opens, closes) - 0.2, 2),
        closes,
        np.full(BARS, 5000.0),
    )


def test_missed_bars_make_no_entries_and_stops_act_at_once(tmp_path: Path) -> None:
    candles = [
        write_csv(tmp_path / "candles", _steps("BTC/USDT", 100.0, 70.0)),
        write_csv(tmp_path / "candles", _steps("ETH/USDT", 50.0, 50.0)),
    ]
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "patient.py").write_text(_STRATEGY)
    with home(
        tmp_path / "home",
        strategy_path=str(tmp_path / "strategies"),
        market={"candles": candles, "history": HISTORY, "max_bars": 0, "candles_per_second": 15},
        stoploss=-0.2,
        risk=BUSY_RISK | {"atr_stop_multiple": 0},
    ) as bot:
        life = bot.start()
        bot.wait_for("^trade +BTC/USDT +T1 open")
        life.kill()
        killed_at = max(row.time for row in bot.rows(Decision))
        assert killed_at < CRASH_TIME, "the machine was too slow for this market"
        until(lambda: bot.control("clock")["now"] > CRASH_TIME + 20 * HOUR, "the crash, unseen by the bot")
        back_at = bot.control("clock")["now"]
        bot.start()
        bot.wait_for("^exchange +local +found running")
        bot.wait_for("^trade +BTC/USDT +T1 closed")
        bot.wait_for("^trade +ETH/USDT +.* open")
        assert bot.verb("stop").code == 0
        assert bot.lives[-1].ended(10).code == 0
        bot.ledgers().assert_agree()

        decisions = bot.rows(Decision, symbol="ETH/USDT")
        times = [row.time for row in bot.rows(Decision, symbol="BTC/USDT")]
        assert times == list(range(times[0], times[-1] + 1, HOUR)), "a missed bar has no decision"
        late = [row for row in decisions if row.outcome == "late"]
        missed = [row for row in decisions if CRASH_TIME <= row.time < back_at - HOUR]
        assert {row.outcome for row in missed} == {"late"}
        assert set(map(id, missed)) <= set(map(id, late))
        entries = [order for order in bot.rows(Order) if order.side is Side.BUY]
        assert not [order for order in entries if killed_at < order.bar_time < back_at - HOUR], "an entry on a late bar"

        (trade,) = [row for row in bot.rows(Trade, book="account", symbol="BTC/USDT") if row.id == "T1"]
        assert trade.exit_reason == "stop_loss"
        exits = [order for order in bot.rows(Order, symbol="BTC/USDT") if order.side is Side.SELL]
        assert exits[0].bar_time == CRASH_TIME, "the stop was not taken from the bar that hit it"
        sold = next(row for row in bot.ledgers().bot.fills.values() if row[0] == exits[0].client_order_id)
        assert sold[7] >= back_at, "filled in the past"
        assert sold[3] < trade.stop_loss
        (told,) = bot.lines("^fill +BTC/USDT +sell .*slippage=")
        assert f"stop={trade.stop_loss}" in told
