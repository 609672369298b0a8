"""Verb `models`: listing and promoting, with and without a database."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.account import HOUR, START
from tests.cli.conftest import Verb, parsed
from tests.learn.models import meta_label, trained
from trading_bot.domain.journal import Snapshot
from trading_bot.learn.model_registry import champions, models_folder, register
from trading_bot.storage.store import open_store
from trading_bot.trading.memory import TRADER

OLD, NEW = "nf-20240131-aa", "nf-20240207-bb"


@pytest.fixture
def with_models(home: Path, account: str) -> str:
    """The account with two models, neither in use yet; the second says nothing of itself."""
    store = open_store(account)
    register(store, models_folder(home / "data"), *trained(home / "work", OLD, 0))
    register(store, models_folder(home / "data"), *trained(home / "work", NEW, 7, config={}, scores={}))
    with store.transaction() as tx:
        tx.update(Snapshot(TRADER, {"memory": {"time": START + 5 * HOUR}}))
    store.close()
    return account


def test_list(verb: Verb, with_models: str) -> None:
    shown = verb("models", "list").output.splitlines()
    for words in (
        OLD, "neural_forecast", "candidate", "lstm", "BTC/USDT", "1h", "12", "2024-01-01 00:00",
        "53.4% (51.2% to 55.6%)", "+3.00%",
    ):  # fmt: skip
        assert words in shown[1]
    assert shown[2].split() == [
        NEW, "neural_forecast", "candidate", "-", "-", "-", "-", "-", "-", "-", "-",
    ]  # fmt: skip
    facts = parsed(verb("models", "list", "--json"))
    assert [(each["id"], each["status"]) for each in facts] == [(OLD, "candidate"), (NEW, "candidate")]
    assert facts[0]["config"]["model"] == {"name": "lstm", "hidden": 32}
    assert facts[0]["scores"]["hit_rate_interval"] == [0.512, 0.556]


def test_promote_tells_what_replaced_what(verb: Verb, with_models: str) -> None:
    first = verb("models", "promote", OLD).output
    assert first == f"neural_forecast: {OLD} is its first champion; a running daemon uses it from its next start\n"
    second = verb("models", "promote", "nf-202402").output
    assert second == f"neural_forecast: {NEW} replaces {OLD}; a running daemon uses it from its next start\n"
    again = verb("models", "promote", NEW).output
    assert again == f"{NEW} is the champion of neural_forecast already: nothing was changed\n"
    facts = {each["id"]: each for each in parsed(verb("models", "list", "--json"))}
    assert (facts[OLD]["status"], facts[NEW]["status"]) == ("retired", "champion")
    assert facts[NEW]["parent"] == OLD
    assert facts[NEW]["activated_at_bar"] == START + 5 * HOUR


def test_rollback_and_show(verb: Verb, with_models: str) -> None:
    verb("models", "promote", OLD)
    verb("models", "promote", NEW)
    shown = verb("models", "show", NEW).output
    assert f"Model         {NEW} of neural_forecast\nStatus        champion\nCreated       2024-02-07 12:00\n" in shown
    assert f"Replaced      {OLD}" in shown
    back = verb("models", "rollback").output
    assert back == f"neural_forecast: {OLD} is back, {NEW} retired; a running daemon uses it from its next start\n"
    facts = parsed(verb("models", "show", OLD[:12], "--json"))
    assert (facts["id"], facts["status"]) == (OLD, "champion")
    assert "53.4% (51.2% to 55.6%)" in verb("models", "show", OLD).output
    assert "is the first champion" in verb("models", "rollback", "neural_forecast", code=1).stderr
    assert "did you mean" in verb("models", "show", OLD[:-1] + "x", code=1).stderr


def test_pin(verb: Verb, with_models: str) -> None:
    said = verb("models", "pin", OLD, code=1).stderr
    assert f"{OLD} is candidate, and only a champion can be pinned; `trading-bot models promote {OLD}` first" in said
    verb("models", "promote", OLD)
    pinned = verb("models", "pin", "nf-202401").output
    assert pinned == f"neural_forecast: {OLD} is pinned: only `models promote` or `rollback` replaces it\n"
    assert "Status        champion, pinned\n" in verb("models", "show", OLD).output
    assert "champion, pinned" in verb("models", "list").output.splitlines()[1]
    assert parsed(verb("models", "show", OLD, "--json"))["pinned"] is True
    loose = verb("models", "pin", OLD, "--off").output
    assert loose == f"neural_forecast: {OLD} is not pinned: a training may replace it\n"
    assert "pinned" not in verb("models", "list").output
    verb("models", "pin", OLD)
    verb("models", "promote", NEW)
    assert not any(each["pinned"] for each in parsed(verb("models", "list", "--json")))


def test_models_that_judge_signals(verb: Verb, home: Path, account: str) -> None:
    store, folder = open_store(account), models_folder(home / "data")
    one, other = "macd_momentum-20240131-0a1b2c3d", "macd_momentum-20240207-4e5f6a7b"
    register(store, folder, *meta_label(home / "work", one, 0))
    version, checkpoint = meta_label(home / "work", other, 7)
    config = {**version.config, "symbols": ["BTC/USDT"]}
    register(store, folder, dataclasses.replace(version, config=config, scores={}), checkpoint)
    register(store, folder, *trained(home / "work", OLD, 9))
    store.close()
    for model in (one, other):
        said = verb("models", "promote", model).output
        assert said.endswith("; a running daemon takes that up within a second, from the next bar\n")
    verb("models", "pin", other)
    _, *shown = verb("models", "list").output.splitlines()
    assert len(shown) == 3, "every model on one line"
    for words in (one, "macd_momentum ", "retired", "meta_label", "2 pairs", "1h", "12", "+0.42% (+0.10% to +0.74%)"):
        assert words in shown[0]
    assert "%" not in shown[0].replace("+0.42% (+0.10% to +0.74%)", ""), "hit rate and skill are of networks"
    assert "champion, pinned meta_label BTC/USDT" in " ".join(shown[1].split())
    assert "53.4% (51.2% to 55.6%) +3.00% -" in " ".join(shown[2].split())
    told = verb("models", "show", one).output
    for line in (
        f"Model         {one} of macd_momentum",
        "Status        retired",
        "Judges        signals on BTC/USDT, ETH/USDT 1h: whether they pay within 12 bars",
        "Trained on    812 signals, 2023-01-01 00:00 to 2024-01-01 00:00, candles d47a",
        "Features      2: rsi_14, adx_14",
        "Gain          +0.42% (+0.10% to +0.74%)",
        "Log loss      0.6712, before 0.6741",
        "Base rate     48.2% of 203 signals paid",
    ):
        assert line in told.splitlines()
    bare = verb("models", "show", other).output.splitlines()
    assert {"Gain          -", "Log loss      -, before -", "Base rate     -"} <= set(bare)
    back = verb("models", "rollback", "macd_momentum").output
    assert back == (
        f"macd_momentum: {one} is back, {other} retired; a running daemon takes that up within a second, from the next "
        "bar\n"
    )
    for pair in ([one], [OLD, one]):
        said = verb("models", "compare", *pair, "--data", "BTC/USDT", code=1).stderr
        assert f"{one} is a meta-label model, wanted a network: the daemon compares such models itself" in said
        assert f"`trading-bot models show {one}` has the scores" in said


def test_promote_before_the_first_bar(verb: Verb, home: Path) -> None:
    store = open_store("sqlite:///fresh.sqlite")
    register(store, models_folder(home / "data"), *trained(home / "work", OLD))
    verb("models", "promote", OLD, "--db-url", "sqlite:///fresh.sqlite")
    assert [each.activated_at_bar for each in champions(store)] == [None]
    store.close()


def test_promote_says_what_is_wrong(verb: Verb, with_models: str, home: Path) -> None:
    assert f"did you mean '{OLD}'?" in verb("models", "promote", OLD[:-1] + "b", code=1).stderr
    (home / "data/models" / f"{OLD}.safetensors").unlink()
    result = verb("models", "promote", OLD, code=1)
    assert "is not there; put the file back from a copy, or train the model again" in result.stderr
    assert result.stderr.count("\n") == 1


def test_no_models_and_no_database(verb: Verb, home: Path) -> None:
    for words in (["list"], ["list", "--json"], ["promote", OLD]):
        assert "no database at data/trading_bot.sqlite" in verb("models", *words, code=1).stderr.replace(f"{home}/", "")
    assert not (home / "data").exists()  # asking makes nothing
    open_store("sqlite:///empty.sqlite").close()
    assert "no models yet" in verb("models", "list", "--db-url", "sqlite:///empty.sqlite").output
    assert parsed(verb("models", "list", "--json", "--db-url", "sqlite:///empty.sqlite")) == []
    assert "ID" in verb("models", "promote", code=2).output


def test_neither_word_loads_torch_or_an_exchange(with_models: str) -> None:
    script = (
        "import sys\nfrom trading_bot.cli.main import cli\n"
        f"for words in (['models', 'list'], ['models', 'promote', '{OLD}']):\n"
        "    cli.main(words, standalone_mode=False)\n"
        "print([name for name in ('torch', 'ccxt', 'pandas', 'alembic', 'safetensors') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.splitlines()[-1] == "[]"
