"""Verbs that read the database: status, show-trades, show-decisions, why, trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.account import ENTRY, EXIT, HOUR, START, status, write_account
from tests.cli.conftest import Verb, parsed
from trading_bot.domain.journal import Snapshot
from trading_bot.storage.lock import DataLock
from trading_bot.storage.store import open_store


def test_status_of_a_running_bot(verb: Verb, account: str, home: Path) -> None:
    with DataLock(home / "data", run_id="run-1"):
        shown = verb("status").output
        facts = parsed(verb("status", "--json"))
    for words in (
        "running (pid ", "paper", "10,121.50 USDT", "cash 5,000.00", "+1.22% (+121.50 USDT); buy-and-hold +2.00%",
        "1.20% from the highest", "2024-01-01 05:00 UTC (replayed)", "exchange: no answer for 12 s",
        "T2", "ETH/USDT", "+2.00%", "1,900", "trending 0.81", "atr_breakout 0.60  rsi_mean_reversion 0.40",
    ):  # fmt: skip
        assert words in shown
    assert facts["state"] == "running"
    assert facts["equity"] == "10121.50"
    assert facts["pid"] > 0


def test_status_of_a_stopped_bot_exits_with_3(verb: Verb, account: str) -> None:
    result = verb("status", code=3)
    assert "stopped (it did not say why: killed?)" in result.stdout
    assert "10,121.50 USDT" in result.stdout
    assert result.stderr == "error: no daemon runs on data; `trading-bot run` starts one\n"
    assert parsed(verb("status", "--json", code=3))["state"] == "stopped"


def test_status_before_anything_has_run(verb: Verb) -> None:
    assert "none yet" in verb("status", code=3).stdout
    assert parsed(verb("status", "--json", code=3)) == {
        "state": "stopped",
        "pid": None,
        "newest_candle_age_seconds": None,
    }


def test_status_tells_why_nothing_is_bought(verb: Verb, account: str, home: Path) -> None:
    store = open_store(account)
    with store.transaction() as tx:
        halted = {"paused": True, "latch": "halt", "drawdown": 0.16, "state": "stopped", "stop_reason": "SIGTERM"}
        tx.update(Snapshot("status", {**status(), **halted}))
    store.close()
    shown = verb("status", code=3).output
    assert "stopped (SIGTERM), paused: no entries until `trading-bot resume`" in shown
    assert "16.00% from the highest equity, level halt: no entries until `trading-bot resume`" in shown


def test_status_on_live_candles_tells_their_age(verb: Verb, account: str, home: Path) -> None:
    (home / "live.yaml").write_text(
        "timeframe: 1h\nexchange: {name: binance, orders: paper, pair_whitelist: [BTC/USDT]}"
    )
    assert " d ago" in verb("status", "-c", "live.yaml", code=3).output
    assert parsed(verb("status", "-c", "live.yaml", "--json", code=3))["newest_candle_age_seconds"] > 1e6


def test_show_trades(verb: Verb, account: str) -> None:
    shown = verb("show-trades").output
    for words in ("T1", "42,000", "-3.05%", "-25.66", "stop_loss", "T2", "2 trades, 1 open, won 0 of 1 (0%)"):
        assert words in shown
    assert "S1" not in shown
    assert [trade["id"] for trade in parsed(verb("show-trades", "--json", "--last", "1"))] == ["T2"]
    assert [trade["id"] for trade in parsed(verb("show-trades", "--json", "-p", "btc/usdt"))] == ["T1"]
    assert parsed(verb("show-trades", "--json"))[0]["close_profit_abs"] == "-25.656"
    assert "S1" in verb("show-trades", "--book", "shadow", "-s", "atr_breakout").output
    assert "no trades" in verb("show-trades", "--book", "shadow", "-s", "nobody").output


def test_show_decisions(verb: Verb, account: str) -> None:
    shown = verb("show-decisions").output
    for words in ("2024-01-01 01:00", "buy", "+0.38", "1 long, 1 out of 2", ENTRY, "max_open_trades 1 of 1"):
        assert words in shown
    assert len(parsed(verb("show-decisions", "--json", "--last", "0"))) == 5
    assert [d["time"] for d in parsed(verb("show-decisions", "--json", "--last", "1"))] == [START + 4 * HOUR]
    assert {d["outcome"] for d in parsed(verb("show-decisions", "--json", "--outcome", "denied"))} == {"denied"}
    (bought,) = parsed(verb("show-decisions", "--json", "--outcome", "buy"))
    assert bought["model_versions"] == {"atr_breakout": "atr-7"}
    assert bought["notes"] == {"rsi_mean_reversion": "cautious: its model is 93 days old"}
    assert "no decisions yet" in verb("show-decisions", "--pairs", "XRP/USDT").output


def test_why_explains_the_newest_decision(verb: Verb, account: str) -> None:
    shown = verb("why", "eth/usdt").output
    assert "ETH/USDT, bar of 2024-01-01 04:00 UTC: DENIED" in shown
    assert "max_open_trades 1 of 1" in shown
    assert "none" in shown
    assert "Note" not in shown
    assert "Models" not in shown


def test_why_explains_an_entry_from_regime_to_fill(verb: Verb, account: str) -> None:
    shown = verb("why", "BTC/USDT", "--at", "2024-01-01 01:30").output
    for words in (
        "bar of 2024-01-01 01:00 UTC: BUY",
        "trending since 2024-01-01 00:00 (confidence 0.81; adx 31.2, efficiency 0.46, ranging for 5 bars before)",
        "because of regime",
        "+0.480",  # 0.6 × 0.8
        "-0.100",  # 0.4 × −0.25
        "Note          rsi_mean_reversion cautious: its model is 93 days old",
        "Models        atr_breakout atr-7",
        "+0.380 reaches the threshold 0.30: be long",  # the run's own threshold, not today's default
        f"{ENTRY}: buy 0.02 market",
        "number 17 at the venue; filled 0.02 of 0.02 at 42,000 on average",
        "0.015 at 42,000, fee 0.000015 BTC",
    ):
        assert words in shown
    facts = parsed(verb("why", "BTC/USDT", "--at", str(START + HOUR), "--json"))
    assert facts["contributions"]["atr_breakout"] == pytest.approx(0.48)
    assert facts["decision"]["model_versions"] == {"atr_breakout": "atr-7"}
    assert facts["decision"]["notes"] == {"rsi_mean_reversion": "cautious: its model is 93 days old"}
    assert len(facts["fills"]) == 2


def test_why_says_what_it_does_not_know(verb: Verb, account: str, home: Path) -> None:
    assert "decided so far: BTC/USDT, ETH/USDT" in verb("why", "XRP/USDT", code=1).stderr
    assert "in the week before 2023-01-01 00:00 UTC" in verb("why", "BTC/USDT", "--at", "2023-01-01", code=1).stderr
    open_store("sqlite:///empty.sqlite").close()
    assert "no decisions yet" in verb("why", "BTC/USDT", "--db-url", "sqlite:///empty.sqlite", code=1).stderr


def test_trace_follows_a_trade_from_candle_to_profit(verb: Verb, account: str) -> None:
    shown = verb("trace", "T1").output
    expected = (
        "Trade T1  BTC/USDT", "1. Decision to enter", "bar of 2024-01-01 01:00 UTC: BUY", ENTRY, "atr_breakout 100%",
        "2. Position", "0.02 at 42,000 for 840.00, fee 0.84", "41,000, moved from 40,500; best price 42,800",
        "3. Way out", "bar of 2024-01-01 03:00 UTC: sell, stop 41,000 hit", "by the stop at 41,000", "stop_loss", EXIT,
        "4. Result", "stop_loss", "-3.05% (-25.66) after fees 1.656",
    )  # fmt: skip
    place = 0
    for words in expected:
        place = shown.find(words, place)
        assert place >= 0, f"{words!r} is missing, or not in its place"
    facts = parsed(verb("trace", "1", "--json"))
    assert facts["trade"]["id"] == "T1"
    assert [each["order"]["client_order_id"] for each in facts["exits"]] == [EXIT]


def test_trace_of_an_open_and_of_a_shadow_trade(verb: Verb, account: str) -> None:
    assert "none yet" in verb("trace", "t2").output
    assert "a shadow trade has no orders" in verb("trace", "S1").output
    assert "no trade 'T9'; the newest is T2" in verb("trace", "T9", code=1).stderr


@pytest.mark.parametrize("words", [["show-trades"], ["show-decisions"], ["why", "BTC/USDT"], ["trace", "T1"]])
def test_no_database_and_a_garbage_database(verb: Verb, home: Path, words: list[str]) -> None:
    assert "no database at" in verb(*words, code=1).stderr
    (home / "garbage.sqlite").write_bytes(b"this is no database at all, but long enough to look at" * 40)
    result = verb(*words, "--db-url", "sqlite:///garbage.sqlite", code=1)
    assert result.stderr.count("\n") == 1
    assert "garbage.sqlite" in result.stderr


def test_db_url_and_data_dir_choose_the_account(verb: Verb, home: Path) -> None:
    url = write_account(home / "elsewhere")
    assert "T1" in verb("show-trades", "--db-url", url).output


def test_text_from_the_database_cannot_steer_the_terminal(verb: Verb, account: str) -> None:
    store = open_store(account)
    evil = {**status(), "degraded": {"x": "\x1b[31mred\x1b]0;title\x07 [bold]not markup[/bold]"}}
    with store.transaction() as tx:
        tx.update(Snapshot("status", evil))
    store.close()
    shown = verb("status", code=3).output
    assert "\x1b" not in shown
    assert "[bold]not markup[/bold]" in shown
