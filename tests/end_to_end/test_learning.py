"""The bot learns while it trades: trained on schedule, promoted or not, through kills, as a backtest would have it."""

from __future__ import annotations

import functools
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.daemon import home, until
from tests.end_to_end.ledgers import decisions_of, fills_of
from tests.end_to_end.markets import real_candles
from trading_bot.bootstrap import run_backtest
from trading_bot.domain.journal import Training
from trading_bot.domain.models import ModelStatus, ModelVersion
from trading_bot.ports import Store

pytestmark = pytest.mark.slow

SESSION: dict[str, Any] = {
    "market": {"history": 2400, "max_bars": 90},
    "synthetic": {"seed": 11, "bars": 2600},
    "learning": {"enabled": True, "every_bars": 30, "check_bars": 15, "train_bars": 2000},
}


def told(store: Store) -> list[tuple[Any, ...]]:
    """What came of every training, but for how long it took."""
    with store.reading() as tx:
        return [(t.time, t.strategy, t.outcome, t.trigger, t.reason, t.model, t.scores) for t in tx.find(Training)]


def versions(store: Store) -> list[tuple[Any, ...]]:
    with store.reading() as tx:
        return sorted((v.id, v.status, v.parent, v.activated_at_bar) for v in tx.find(ModelVersion))


def workers_of(pid: int) -> list[int]:
    """Processes that a process started and that are still there."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(re.sub(r"^.*\) ", "", (entry / "stat").read_text()).split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(entry.name))
    return found


def test_it_learns_as_a_walk_forward_backtest_does_bit_for_bit(tmp_path: Path) -> None:
    with home(tmp_path, **SESSION) as bot:
        finished = bot.run()
        assert finished.code == 0, finished.said
        result = run_backtest(bot.settings(), walk_forward=True)
        with bot.store() as store:
            ours, theirs = told(store), told(result.store)
            assert ours == theirs
            assert decisions_of(store) == decisions_of(result.store)
            assert fills_of(store) == fills_of(result.store)
            assert versions(store) == versions(result.store)
            with store.reading() as tx:
                champions = tx.find(ModelVersion, status=ModelStatus.CHAMPION)
                models = tx.find(ModelVersion)
        scheduled = {time for time, _, _, trigger, *_ in ours if trigger == "schedule"}
        counted = Counter(outcome for _, _, outcome, *_ in ours)
        assert len(scheduled) >= 4, scheduled  # the first bar, and at least three slots
        assert counted["promoted"] >= 4, counted
        assert counted["rejected"] >= 3, counted
        used = {model for row in decisions_of(result.store) for _, model in row[9]}
        assert used >= {champion.id for champion in champions}
        for model in models:
            assert (bot.data / "models" / f"{model.id}.json").is_file()
        assert bot.lines(r"^learn +\w+ +promoted: log loss .* below the .* on \d+ later bars")
        assert bot.lines(r"^learn +\w+ +rejected: ")
        assert bot.lines(r"^learn +all +training begins +trigger=schedule")
        shown = json.loads(bot.verb("status", "--json").stdout)["learning"]
        assert shown["models"] == {champion.strategy: champion.id for champion in champions}
        assert shown["next"] > max(scheduled)
        listed = bot.verb("models", "trainings", "--last", "0", "--json")
        assert len(json.loads(listed.stdout)) == len(ours)


def test_killed_while_it_trains_it_ends_with_the_same_models(tmp_path: Path) -> None:
    """Killed at the beginning, in the middle and right after trainings; nothing is trained twice, nothing is left."""
    with home(tmp_path, **SESSION) as bot:
        for begun, moment in enumerate(("training begins", "epoch", r"all +\d+ \w+"), 1):
            life = bot.start()
            bot.wait_for("training begins", begun)
            if moment != "training begins":
                bot.wait_for(f"^learn .*{moment}", len(bot.lines(moment)) + 1)
            workers = workers_of(life.process.pid)
            life.kill()
            for worker in workers:
                until(functools.partial(_has_ended, worker), f"process {worker} has ended")
        last = bot.run()
        assert last.code == 0, last.said
        result = run_backtest(bot.settings(), walk_forward=True)
        with bot.store() as store:
            assert told(store) == told(result.store)
            assert versions(store) == versions(result.store)
            assert decisions_of(store) == decisions_of(result.store)


def test_on_real_candles_it_promotes_and_rejects_and_a_restart_changes_nothing(tmp_path: Path) -> None:
    market = {"candles": real_candles("BTC_USDT-1h.csv.gz"), "history": 12_000, "max_bars": 90}
    with home(tmp_path, market=market, learning=SESSION["learning"] | {"train_bars": 4_000}) as bot:
        bot.start()
        bot.wait_for(r"^learn +all +\d+ \w+", 2)
        assert bot.verb("stop").code == 0
        last = bot.run()
        assert last.code == 0, last.said
        result = run_backtest(bot.settings(), walk_forward=True)
        with bot.store() as store:
            ours = told(store)
            assert ours == told(result.store)
            assert decisions_of(store) == decisions_of(result.store)
    counted = Counter(outcome for _, _, outcome, *_ in ours)
    assert len({time for time, _, _, trigger, *_ in ours if trigger == "schedule"}) >= 4
    assert counted["promoted"] >= 1, counted
    assert counted["rejected"] >= 3, counted
    assert all(len(reason) > 20 for _, _, _, _, reason, *_ in ours)


def _has_ended(pid: int) -> bool:
    """Whether a training process is gone; the local exchange outlives the bot."""
    try:
        return b"spawn_main" not in (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return True


def test_another_promotion_by_the_user_is_taken_up_while_it_runs(tmp_path: Path) -> None:
    market = SESSION["market"] | {"candles_per_second": 20.0, "max_bars": 0}
    changes = SESSION | {"market": market, "synthetic": {"seed": 11, "bars": 9000}}
    with home(tmp_path, **changes) as bot:
        life = bot.start()
        bot.wait_for(r"^learn +all +\d+ promoted")
        with bot.store() as store, store.reading() as tx:
            champion = tx.find(ModelVersion, status=ModelStatus.CHAMPION)[0]
            other = tx.find(ModelVersion, status=ModelStatus.REJECTED)[0]
        assert bot.verb("models", "pin", champion.id).code == 0
        promoted = bot.verb("models", "promote", other.id)
        assert promoted.code == 0, promoted.said
        bot.wait_for(rf"^learn +{other.strategy} +uses {other.id} from the next bar")
        asked = bot.verb("train-strategies")
        assert asked.code == 0, asked.said
        assert "training" in asked.stdout
        assert "Learning" in bot.verb("status").stdout
        assert bot.verb("stop").code == 0
        assert life.ended().code == 0
        assert all(_has_ended(pid) for pid in workers_of(os.getpid()))
