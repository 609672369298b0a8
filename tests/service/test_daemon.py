"""One life of the daemon: commands by the database, errors that end nothing, a database that fails and comes back."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.fakes import MemoryStore
from tests.service.stand import Clock, bot_on, log_lines, running, until
from tests.trading.stage import HOUR, START, WARMUP, Stage, candles, wander
from trading_bot.bootstrap import Bot
from trading_bot.domain.account import Trade
from trading_bot.domain.journal import Command, Decision, EquityPoint, JobRun, Run, Snapshot
from trading_bot.domain.market import Candles, Regime
from trading_bot.domain.orders import Order, OrderStatus, Purpose
from trading_bot.errors import AlreadyRunning, ExchangeDenied, ExchangeUnreachable, StorageError
from trading_bot.learn.config import EnsembleConfig
from trading_bot.learn.dynamic_ensemble import DynamicEnsemble, RegimeReading
from trading_bot.ports import Store
from trading_bot.service import daemon as daemon_module
from trading_bot.service.daemon import Daemon
from trading_bot.storage.store import open_store
from trading_bot.trading.config import RiskConfig, TradingConfig, UnclearOrders
from trading_bot.trading.events import CommandGiven, OrdersDue, ReconcileDue
from trading_bot.trading.memory import STATUS
from trading_bot.trading.strategy import Signals
from trading_bot.trading.strategy_panel import StrategyPanel
from trading_bot.trading.views import Outlook

BTC = "BTC/USDT"
FIRST = START + (WARMUP + 9) * HOUR
CALM = TradingConfig(
    bot_id="test", unclear_orders=UnclearOrders(lookups=1, seconds=0), stoploss=-0.9,
    risk=RiskConfig(atr_stop_multiple=0, var_limit=0, risk_per_trade=0, daily_loss_limit=0, drawdown_reduce=0,
                    drawdown_halt=0, drawdown_flatten=0, cooldown_bars=0),
)  # fmt: skip


def stage(bars: int = 200, store: Store | None = None, script: dict[int, int] | None = None) -> Stage:
    sides = {FIRST: 1} if script is None else script
    rows = candles(wander(bars, 1).close, volume=1e6)
    return Stage({BTC: rows}, {BTC: sides}, config=CALM, store=store or MemoryStore())


def clock_of(bot: Bot) -> Clock:
    assert isinstance(bot.clock, Clock)
    return bot.clock


def held_still(bot: Bot) -> Bot:
    """The market stops after the bar in hand, but does not end."""
    clock_of(bot).still = True
    return bot


def found(bot: Bot, kind: type[Any], **where: Any) -> list[Any]:
    with bot.store.reading() as tx:
        return tx.find(kind, **where)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "STORAGE_PAUSE", 0.02)


# ── a whole life ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_life_from_the_first_bar_to_the_end_of_the_candles() -> None:
    bot = bot_on(stage(bars=60))
    with running(bot) as life:
        life.thread.join(20)
    (outcome,) = life.outcome
    assert isinstance(outcome, str)
    assert outcome.startswith("the candles have ended")
    assert len(found(bot, Decision)) == 31
    (run,) = found(bot, Run)
    assert run.ended is not None
    assert run.end_reason == outcome
    feed: Any = bot.feed
    assert feed.flushed == 1
    with bot.store.reading() as tx:
        shown = tx.get(Snapshot, STATUS)
    assert shown is not None
    assert (shown.value["state"], shown.value["stop_reason"]) == ("stopped", outcome)


def test_two_lives_decide_what_one_would_have(tmp_path: Path) -> None:
    whole = bot_on(stage(bars=80))
    with running(whole) as life:
        life.thread.join(20)
    parted = stage(bars=80)
    bot = bot_on(parted)
    with running(bot) as life:
        until(lambda: bot.trader.memory.time >= FIRST + 10 * HOUR, "no bars")
        life.stop()
    again = bot_on(parted)
    with running(again) as life:
        life.thread.join(20)

    def said(bot: Bot) -> list[Any]:
        return [(d.time, d.side, d.score) for d in found(bot, Decision)]

    assert said(again) == said(whole)


# ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_commands_reach_the_bot_through_the_database() -> None:
    made = stage()
    bot = held_still(bot_on(made))
    with running(bot) as life:
        until(lambda: BTC in bot.trader.desk.account.trades, "no entry")
        assert life.obeyed("pause").startswith("paused: no entries until")
        assert bot.trader.memory.paused
        assert life.obeyed("pause", 2).startswith("paused")
        assert life.obeyed("resume") == "resumed"
        assert life.obeyed("resume", 2) == "was not paused"
        assert life.obeyed("flatten") == "flatten: selling 1 of 1 open trades; paused"
        until(lambda: not bot.trader.desk.account.trades, "nothing was sold")
        assert bot.trader.memory.paused
        assert life.obeyed("flatten", 2) == "flatten: selling 0 of 0 open trades; paused"
        assert life.obeyed("dance") == "unknown command 'dance'; known are pause, resume, flatten, stop"
        assert life.obeyed("stop") == "stopping"
        life.thread.join(20)
        assert life.outcome == ["told to by `trading-bot stop`"]
    sold = [order for order in found(bot, Order) if order.purpose is Purpose.FLATTEN]
    assert [order.status for order in sold] == [OrderStatus.FILLED]
    assert found(bot, Trade)[0].exit_reason == "force_exit"


def test_a_command_handled_before_is_not_carried_out_again() -> None:
    bot = held_still(bot_on(stage()))
    with running(bot) as life:
        until(lambda: BTC in bot.trader.desk.account.trades, "no entry")
        answer = life.obeyed("flatten")
        until(lambda: not bot.trader.desk.account.trades, "nothing was sold")
        command = found(bot, Command)[0]
        life.obeyed("resume")
        life.daemon.queue.put(CommandGiven(command))
        life.daemon.queue.put(CommandGiven(Command(command.id, command.name, command.given)))
        life.daemon.queue.join()
        assert not bot.trader.memory.paused
        assert found(bot, Command, id=command.id)[0].answer == answer
    assert len([order for order in found(bot, Order) if order.purpose is Purpose.FLATTEN]) == 1


def test_a_pause_survives_a_restart_and_old_commands_expire() -> None:
    made = stage()
    bot = held_still(bot_on(made))
    with running(bot) as life:
        until(lambda: bot.trader.memory.time >= FIRST, "no bar")
        life.obeyed("pause")
    with made.store.transaction() as tx:
        tx.add(Command("old", "flatten", datetime.now(UTC)))
    again = held_still(bot_on(made))
    with running(again):
        until(lambda: found(again, Command, id="old")[0].handled is not None, "the old command still waits")
        assert found(again, Command, id="old")[0].answer == "expired: the bot was not running"
        until(lambda: again.trader.memory.paused, "the pause is forgotten")
        assert BTC in again.trader.desk.account.trades


# ── errors end nothing ──────────────────────────────────────────────────────────────────────────────────────────────


def deal(bot: Bot, happened: Any) -> Daemon:
    daemon = Daemon(bot)
    daemon._deal_with(happened)
    return daemon


def raising(monkeypatch: pytest.MonkeyPatch, *errors: Exception | None) -> list[int]:
    """Let the loop's events fail in turn."""
    calls: list[int] = []
    handle = Daemon._handle
    waiting = list(errors)

    def failing(self: Daemon, happened: Any) -> None:
        calls.append(1)
        error = waiting.pop(0) if waiting else None
        if error is not None:
            raise error
        handle(self, happened)

    monkeypatch.setattr(Daemon, "_handle", failing)
    return calls


def test_an_unreachable_venue_is_shown_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    bot = bot_on(stage())
    raising(monkeypatch, ExchangeUnreachable("no route"))
    deal(bot, OrdersDue())
    assert bot.trader.memory.degraded == {"exchange": "no route"}
    deal(bot, OrdersDue())
    assert not bot.trader.memory.degraded


def test_a_refused_key_pauses_and_the_pause_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    bot = bot_on(stage())
    raising(monkeypatch, ExchangeDenied("key revoked"))
    with log_lines() as log:
        deal(bot, OrdersDue())
    assert bot.trader.memory.paused
    assert "key revoked; paused until the key is mended" in bot.trader.memory.degraded["exchange"]
    assert any(line.startswith("ERROR") and "key revoked" in line for line in log)
    with bot.store.reading() as tx:
        shown = tx.get(Snapshot, STATUS)
    assert shown is not None
    assert shown.value["paused"] is True


def test_a_defect_is_told_with_its_traceback_and_the_next_event_is_dealt_with(monkeypatch: pytest.MonkeyPatch) -> None:
    bot = bot_on(stage())
    raising(monkeypatch, ZeroDivisionError("of ours"))
    with log_lines() as log:
        daemon = deal(bot, OrdersDue())
    assert not daemon.stop_reason
    assert bot.trader.memory.degraded["defect"] == "ZeroDivisionError: of ours"
    assert any("a defect: OrdersDue could not be dealt with" in line for line in log)


def test_a_lost_lock_ends_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, AlreadyRunning("another daemon has the database now"))
    assert deal(bot_on(stage()), ReconcileDue()).stop_reason == "another daemon has the database now"


def test_an_event_the_database_refused_is_told_until_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    bot = bot_on(stage())
    calls = raising(monkeypatch, *[StorageError("disk full")] * 3)
    with log_lines() as log:
        deal(bot, OrdersDue())
    assert len(calls) == 4
    assert not bot.trader.memory.degraded
    assert len([line for line in log if "disk full; trading waits" in line]) == 1
    assert any("storage" in line and "works again" in line for line in log)


def test_a_stop_is_heard_while_the_database_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    bot = bot_on(stage())
    raising(monkeypatch, *[StorageError("disk full")] * 10_000)
    with running(bot) as life:
        until(lambda: "storage" in bot.trader.memory.degraded, "it did not fail")
        life.stop()


# ── a real database in trouble ──────────────────────────────────────────────────────────────────────────────────────


def test_a_locked_database_is_waited_for_and_no_bar_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "bot.sqlite"
    store = open_store(f"sqlite:///{path}", wait_seconds=0.1)
    script = {FIRST + number * HOUR: 1 if number % 4 == 0 else -1 for number in range(0, 60, 2)}
    bot = bot_on(stage(bars=110, store=store, script=script))
    with log_lines() as log, running(bot) as life:
        until(lambda: bot.trader.memory.time >= FIRST + 10 * HOUR, "no bars")
        other = sqlite3.connect(path, isolation_level=None, timeout=20)
        other.execute("BEGIN IMMEDIATE")
        until(lambda: "storage" in bot.trader.memory.degraded, "the lock was not noticed")
        other.execute("ROLLBACK")
        other.close()
        life.thread.join(60)
    calm = bot_on(stage(bars=110, script=script))
    with running(calm) as life:
        life.thread.join(60)

    def said(bot: Bot) -> list[Any]:
        return [(d.time, d.outcome, d.client_order_id) for d in found(bot, Decision)]

    assert said(bot) == said(calm)
    assert [(o.client_order_id, o.status, o.filled) for o in found(bot, Order)] == [
        (o.client_order_id, o.status, o.filled) for o in found(calm, Order)
    ]
    assert any("trading waits" in line for line in log)
    store.close()


_FULL_DISK = """
import resource, sys, threading, time
from pathlib import Path
from tests.service.stand import bot_on, running, until
from tests.service.test_daemon import FIRST, HOUR, found, stage
from trading_bot.domain.journal import Decision
from trading_bot.service import daemon
from trading_bot.storage.store import open_store
daemon.STORAGE_PAUSE = 0.02
path = Path(sys.argv[1])
store = open_store(f"sqlite:///{path}", wait_seconds=1)
bot = bot_on(stage(bars=140, store=store, script={FIRST + n * HOUR: 1 if n % 4 == 0 else -1 for n in range(0, 90, 2)}))
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
with running(bot) as life:
    until(lambda: bot.trader.memory.time >= FIRST + 5 * HOUR, "no bars")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    until(lambda: "storage" in bot.trader.memory.degraded, "the full disk was not noticed")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    life.thread.join(60)
print(len(found(bot, Decision)), len({d.time for d in found(bot, Decision)}), life.outcome[0][:22])
"""


@pytest.mark.slow
def test_a_full_disk_halts_trading_until_there_is_room_again(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path / "bot.sqlite")],
        capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2], check=False,
        preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN) and None,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.split(maxsplit=2) == ["111", "111", "the candles have ended\n"]


# ── troubles are seen ───────────────────────────────────────────────────────────────────────────────────────────────


def test_troubles_between_bars_reach_the_status() -> None:
    bot = held_still(bot_on(stage()))

    def shown() -> Any:
        with bot.store.reading() as tx:
            saved = tx.get(Snapshot, STATUS)
        return None if saved is None else saved.value["degraded"]

    with running(bot):
        until(lambda: shown() == {}, "no status")
        bot.trader.memory.degraded["candles"] = "no route to the venue"
        until(lambda: shown() == {"candles": "no route to the venue"}, "the trouble is not shown")
        bot.trader.memory.degraded.pop("candles")
        until(lambda: shown() == {}, "the trouble is still shown")


def test_failing_candles_are_shown_and_the_bot_goes_on() -> None:
    bot = bot_on(stage(bars=60))
    feed: Any = bot.feed
    feed.troubles = {BTC: [None, None, ExchangeUnreachable("no route")]}
    with log_lines() as log, running(bot) as life:
        life.thread.join(30)
    assert len(found(bot, Decision)) == 31
    assert not [d for d in found(bot, Decision) if d.outcome == "late"]
    assert any("failed 1x: no route" in line for line in log)
    assert any("candles" in line and "works again" in line for line in log)


# ── slots ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pruning_happens_once_a_day_of_market_time() -> None:
    bot = bot_on(stage(bars=120), retention_days=1)
    with running(bot) as life:
        life.thread.join(30)
    slots = found(bot, JobRun, job="prune")
    days = set(range(FIRST // 86_400_000, (FIRST + 91 * HOUR) // 86_400_000))
    assert {run.slot for run in slots} >= days
    assert len({run.slot for run in slots}) == len(slots)
    oldest = min(point.time for point in found(bot, EquityPoint))
    assert oldest >= FIRST + 90 * HOUR - 2 * 86_400_000
    with bot.store.transaction() as tx:
        assert not tx.add(JobRun("prune", slots[0].slot, datetime.now(UTC)))


# ── a broken strategy ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_strategy_that_raises_is_switched_off_and_the_bot_goes_on() -> None:
    affinity = dict.fromkeys(Regime, 1.0)

    def broken(candles: Candles) -> Signals:
        raise LookupError("nothing there")

    def silent(candles: Candles) -> Signals:
        return Signals(np.zeros(len(candles), np.int8), np.zeros(len(candles)))

    strategies: Any = [
        SimpleNamespace(name="broken", warmup=1, affinity=affinity, signals=broken),
        SimpleNamespace(name="silent", warmup=1, affinity=affinity, signals=silent),
    ]
    detector: Any = SimpleNamespace(detect=lambda rows: RegimeReading(Regime.RANGING, 0.7, {}))
    panel = StrategyPanel(strategies)
    made = stage(bars=60)
    bot = bot_on(made)
    bot.trader.outlooks = {BTC: Outlook(BTC, panel, detector, DynamicEnsemble(strategies, detector, EnsembleConfig()))}
    bot.trader.shadows.strategies = ["broken", "silent"]
    with log_lines() as log, running(bot) as life:
        life.thread.join(30)
    told = [line for line in log if "strategy" in line and "LookupError: nothing there" in line]
    assert len(told) == 3
    assert told[-1].rstrip().endswith("symbol=BTC/USDT")
    assert "switched off for this run" in told[-1]
    assert not [line for line in told[:-1] if "switched off" in line]
    assert len(found(bot, Decision)) == 31


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_error_at_the_start_is_recorded_in_the_run() -> None:
    made = stage()
    with made.store.transaction() as tx:
        tx.add(Snapshot("account", {"venue": "elsewhere", "quote": "EUR", "start": {}, "bot_id": "x"}))
    bot = bot_on(made)
    with running(bot) as life:
        life.thread.join(20)
    (error,) = life.outcome
    assert "the database belongs to an account in EUR at elsewhere" in str(error)
    assert "ConfigurationError" in found(bot, Run)[0].end_reason


def test_no_thread_is_left(short_pauses: None) -> None:
    bot = bot_on(stage(bars=40))
    with running(bot) as life:
        life.thread.join(20)
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("APScheduler")], "the scheduler lives on")
