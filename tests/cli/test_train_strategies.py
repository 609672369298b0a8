"""Verb `train-strategies`, and where the other verbs show what came of trainings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.account import HOUR, START, status, write_account
from tests.cli.conftest import Verb, parsed
from tests.cli.test_control import daemon
from trading_bot.domain.journal import Snapshot, Training
from trading_bot.market_data.config import SyntheticConfig
from trading_bot.market_data.synthetic import SyntheticMarket
from trading_bot.storage.store import open_store
from trading_bot.trading.memory import TRADER

STRATEGIES = Path(__file__).parents[2] / "strategies"
PAIR = "BTC/USDT"
CONFIG: dict[str, Any] = {
    "strategy_path": str(STRATEGIES),
    "strategies": ["macd_momentum"],
    "exchange": {"pair_whitelist": [PAIR]},
    "synthetic": {"bars": 1900, "seed": 7},
    "market": {"history": 1700, "max_bars": 3},
    "learning": {"horizon": 1, "epochs": 5, "train_bars": 1400},
}


@pytest.fixture
def config(home: Path) -> Path:
    return write(home)


def write(home: Path, **changes: Mapping[str, Any]) -> Path:
    """A configuration of a small market; sections are changed key by key."""
    path = home / "bot.yaml"
    path.write_text(
        yaml.safe_dump({**CONFIG, **{name: CONFIG.get(name, {}) | given for name, given in changes.items()}})
    )
    return path


def bar(number: int) -> int:
    """Open of a bar of the market, counted from 1, ms."""
    market = SyntheticMarket(SyntheticConfig(bars=1900, seed=7))
    return int(market.candles(PAIR, "1h").time[number - 1])


def trained_on(home: Path) -> list[tuple[int, str, str]]:
    """Bar, strategy and trigger of every training that was written."""
    store = open_store(f"sqlite:///{home / 'data/trading_bot.sqlite'}")
    with store.reading() as tx:
        told = [(each.time, each.strategy, each.trigger) for each in tx.find(Training)]
    store.close()
    return told


# without a daemon -----------------------------------------------------------------------------------------------------


def test_it_learns_from_the_history_of_a_replay_and_not_from_its_future(verb: Verb, home: Path, config: Path) -> None:
    (told,) = parsed(verb("train-strategies", "-c", config.name, "--json"))
    assert told["outcome"] in ("promoted", "rejected"), told["reason"]
    assert (told["strategy"], told["trigger"], told["time"]) == ("macd_momentum", "demand", bar(1700))
    assert trained_on(home) == [(bar(1700), "macd_momentum", "demand")]
    (version,) = parsed(verb("models", "list", "-c", config.name, "--json"))
    assert version["id"] == told["model"]
    assert version["config"]["symbols"] == [PAIR]
    assert bar(1690) < version["config"]["trained_until"] <= bar(1700), "the newest candle that it has seen"
    assert bar(250) < version["config"]["trained_from"]
    assert (home / f"data/models/{told['model']}.json").is_file()
    table = verb("models", "trainings", "-c", config.name).output
    assert told["model"] in " ".join(table.split())


def test_it_goes_on_from_the_bar_the_account_has_dealt_with(verb: Verb, home: Path, config: Path) -> None:
    store = open_store(f"sqlite:///{home / 'data/trading_bot.sqlite'}")
    with store.transaction() as tx:
        tx.add(Snapshot(TRADER, {"memory": {"time": bar(1750)}}))
    store.close()
    shown = verb("train-strategies", "-c", config.name).output.splitlines()
    assert shown[0].split() == ["strategy", "bar", "trigger", "outcome", "model", "reason"]
    assert shown[1].split()[0] == "macd_momentum"
    assert "demand" in shown[1]
    assert trained_on(home) == [(bar(1750), "macd_momentum", "demand")]


def test_until(verb: Verb, home: Path, config: Path) -> None:
    early = datetime.fromtimestamp(bar(400) / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    (told,) = parsed(verb("train-strategies", "-c", config.name, "--until", early, "--json"))
    assert (told["outcome"], told["time"], told["model"]) == ("too_little", bar(400), None)
    assert (
        "found 'soon', wanted a time" in verb("train-strategies", "-c", config.name, "--until", "soon", code=2).stderr
    )
    assert len(trained_on(home)) == 1


def test_where_nothing_may_be_learned(verb: Verb, home: Path) -> None:
    config = write(home, learning={"enabled": False})
    result = verb("train-strategies", "-c", config.name, code=4)
    assert result.stdout == ""
    assert result.stderr == "error: nothing is trained: learning.enabled is false; set it to true\n"
    assert not (home / "data").exists()
    assert "set learning.enabled to true" in verb("backtesting", "-c", config.name, "--walk-forward", code=4).stderr


def test_a_strategy_that_is_not_there(verb: Verb, config: Path) -> None:
    assert "no strategy named 'macd'" in verb("train-strategies", "-c", config.name, "-s", "macd", code=4).stderr


# with one -------------------------------------------------------------------------------------------------------------


def test_a_daemon_is_asked(verb: Verb, home: Path, config: Path) -> None:
    with daemon(home / "data", lambda command: f"{command.name}ing macd_momentum") as given:
        assert verb("train-strategies", "-c", config.name).output == "training macd_momentum\n"
        assert parsed(verb("train-strategies", "-c", config.name, "--json")) == {"answer": "training macd_momentum"}
        refused = verb("train-strategies", "-c", config.name, "--until", "2024-01-31", code=2)
        assert "--until is for a training without a daemon; stop it first" in refused.stderr
    assert given == ["train", "train"]
    assert not trained_on(home)


def test_a_daemon_that_does_not_answer(verb: Verb, home: Path, config: Path) -> None:
    with daemon(home / "data", lambda command: ""):
        result = verb("train-strategies", "-c", config.name, "--timeout", "0.2", code=5)
    assert "no answer to 'train' within 0.2 s" in result.stderr


# what came of it ------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_trainings(home: Path) -> None:
    """An account with a past: who was trained when, and how it ended."""
    store = open_store(write_account(home / "data"))
    one = Training(
        "macd_momentum", START, "promoted", "schedule", "log loss +2.00% lower", "macd_momentum-1", {"gain": 0.02}, 1.5
    )
    two = dataclasses.replace(one, time=START + 24 * HOUR, outcome="rolled_back", trigger="drift", reason="worse since")
    three = Training("atr_breakout", START + 48 * HOUR, "too_little", "schedule", "3 signals")
    with store.transaction() as tx:
        for each in (one, two, three):
            tx.add(each)
    store.close()


@pytest.mark.usefixtures("with_trainings")
def test_trainings(verb: Verb) -> None:
    head, *rows = verb("models", "trainings").output.splitlines()
    assert head.split() == ["strategy", "bar", "trigger", "outcome", "model", "reason"]
    assert [" ".join(row.split()) for row in rows] == [
        "macd_momentum 2024-01-01 00:00 schedule promoted macd_momentum-1 log loss +2.00% lower",
        "macd_momentum 2024-01-02 00:00 drift rolled back macd_momentum-1 worse since",
        "atr_breakout 2024-01-03 00:00 schedule too little - 3 signals",
    ]
    newest = verb("models", "trainings", "--last", "1").output.splitlines()
    assert len(newest) == 2
    assert newest[1].split()[0] == "atr_breakout"
    facts = parsed(verb("models", "trainings", "--json", "-s", "macd_momentum"))
    assert [(each["outcome"], each["time"]) for each in facts] == [
        ("promoted", START),
        ("rolled_back", START + 24 * HOUR),
    ]
    assert facts[0]["scores"] == {"gain": 0.02}
    assert parsed(verb("models", "trainings", "--json", "-s", "nobody")) == []


def test_no_trainings(verb: Verb, home: Path) -> None:
    assert "no database" in verb("models", "trainings", code=1).stderr
    write_account(home / "data")
    assert parsed(verb("models", "trainings", "--json")) == []
    assert verb("models", "trainings").output.strip()


@pytest.mark.parametrize(
    ("learning", "words"),
    [
        (
            {"models": {"a": "a-1"}, "strategies": 3, "busy": False, "next": START + 24 * HOUR, "last": START,
             "outcomes": {"rolled_back": 1, "promoted": 2}},
            "1 of 3 strategies have a model; trained after 2024-01-01 00:00: 2 promoted, 1 rolled back; "
            "next after 2024-01-02 00:00",
        ),
        (
            {"models": {}, "strategies": 3, "busy": True, "next": START},
            "0 of 3 strategies have a model; training now",
        ),
    ],
    ids=["idle", "busy"],
)  # fmt: skip
def test_status(verb: Verb, home: Path, learning: dict[str, Any], words: str) -> None:
    store = open_store(write_account(home / "data"))
    with store.transaction() as tx:
        failed = {"learning": "training failed, what was in use stays: a: killed"}
        tx.update(Snapshot("status", {**status(), "learning": learning, "degraded": failed}))
    store.close()
    shown = verb("status", code=3).output.splitlines()
    assert f"Learning      {words}" in shown
    assert "Degraded      learning: training failed, what was in use stays: a: killed" in shown
    assert parsed(verb("status", "--json", code=3))["learning"] == learning


def test_status_of_a_bot_that_does_not_learn(verb: Verb, account: str) -> None:
    assert "Learning" not in verb("status", code=3).output


def test_a_walk_forward_backtest_trains_on_its_way(verb: Verb, home: Path, config: Path) -> None:
    shown = verb("backtesting", "-c", config.name, "--walk-forward").output
    assert "backtest" in shown
    assert parsed(verb("backtesting", "-c", config.name, "--walk-forward", "--json"))
    assert not (home / "data/models").exists(), "its models are its own"
