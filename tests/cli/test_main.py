"""The table of verbs: help, mistakes, exit codes, and what is not imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.cli.conftest import Verb
from trading_bot.cli.main import ALIASES, VERBS, cli

HEAVY = {
    "numpy",
    "pandas",
    "ccxt",
    "sqlalchemy",
    "pydantic",
    "yaml",
    "loguru",
    "rich",
    "talib",
    "torch",
    "uvicorn",
    "pyarrow",
}
COMMANDS = [
    *([verb] for verb in VERBS), ["db", "upgrade"], ["models", "list"], ["models", "promote"], ["models", "pin"],
    ["models", "trainings"], ["experiment", "run"], ["experiment", "phase1"], ["experiment", "ablation"],
    ["experiment", "analyze"], ["experiment", "adaptive-vs-fixed"], ["experiment", "features"],
]  # fmt: skip
SILENT = {"run", "simulate", "pause", "resume", "flatten", "stop", "reset", "new-config", "new-strategy"} | {
    "db", "db upgrade", "models", "models promote", "models pin", "experiment",
}  # fmt: skip


def modules_after(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after `statement`."""
    script = f"import sys\n{statement}\nprint(' '.join(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def calling(word: str, code: int) -> str:
    """Statements that call a verb and expect its exit code."""
    return (
        f"from trading_bot.cli.main import cli\ntry: cli.main([{word!r}])\n"
        f"except SystemExit as end: assert end.code == {code}"
    )


def test_help_lists_every_verb_and_loads_nothing_heavy(verb: Verb) -> None:
    shown = verb("--help").output
    assert all(f"  {name} " in shown for name in VERBS)
    loaded = modules_after(calling("--help", 0))
    assert "click" in loaded
    assert not loaded & HEAVY


def test_status_loads_no_exchange_and_no_models() -> None:
    loaded = modules_after(calling("status", 3))
    assert "sqlalchemy" in loaded
    assert not loaded & {"pandas", "ccxt", "talib", "torch", "uvicorn", "pyarrow", "apscheduler", "alembic"}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_verb_has_help_with_an_example(verb: Verb, words: list[str]) -> None:
    shown = verb(*words, "--help").output
    assert "Example" in shown
    assert f"trading-bot {' '.join(words)}" in shown
    if " ".join(words) not in SILENT:
        assert "--json" in shown


def test_the_table_is_right() -> None:
    ctx = click.Context(cli)
    assert len(VERBS) == 30
    for name in VERBS:
        command = cli.get_command(ctx, name)
        assert command is not None
        assert command.name == name
    assert all(verb in VERBS for verb in ALIASES.values())
    assert cli.get_command(ctx, "trade") is cli.get_command(ctx, "run")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["statsu"], "no verb 'statsu'; did you mean 'status'?"),
        (["xyzzy"], "no verb 'xyzzy'; `trading-bot --help` lists them"),
        (["status", "--jsno"], "--json"),
        (["show-trades", "--last", "-3"], "-3"),
        (["why"], "PAIR"),
        (["why", "BTC/USDT", "--at", "noon"], "found 'noon', wanted a time"),
        (["backtesting", "--timerange", "2024"], "found '2024', wanted such as 20240101-20240301"),
        (["backtesting", "--timerange", "20240301-20240101"], "wanted an end after its beginning"),
    ],
)
def test_mistakes_of_usage_exit_with_2(verb: Verb, words: list[str], hint: str) -> None:
    assert hint in verb(*words, code=2).output


def test_a_mistake_in_the_configuration_exits_with_4_and_one_line(verb: Verb, home: Path) -> None:
    (home / "mine.yaml").write_text("stoplos: -0.1\n")
    result = verb("status", "-c", "mine.yaml", code=4)
    assert result.stderr == "error: mine.yaml: stoplos: unknown key; did you mean 'stoploss'?\n"
    assert result.stdout == ""
    assert "no such configuration file" in verb("run", "-c", "other.yaml", code=4).stderr


def test_vv_shows_where(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trading_bot", "status", "-c", "none.yaml", "-vv"], capture_output=True, text=True
    )
    assert done.returncode == 4
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: none.yaml: no such configuration file")


def test_a_defect_is_one_line_too(verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trading_bot.cli.status.daemon_pid", lambda settings: 1 / 0)
    assert verb("status", code=1).stderr == "error: unexpected ZeroDivisionError: division by zero (-vv shows where)\n"


def test_the_default_configuration_is_the_one_in_the_folder(verb: Verb, home: Path) -> None:
    assert "max_open_trades: 3" in verb("show-config").output
    (home / "config").mkdir()
    (home / "config/paper.yaml").write_text("max_open_trades: 7\n")
    assert "max_open_trades: 7" in verb("show-config").output
    (home / "more.yaml").write_text("max_open_trades: 9\n")
    assert "max_open_trades: 9" in verb("show-config", "-c", "config/paper.yaml", "-c", "more.yaml").output


def test_version(verb: Verb) -> None:
    assert verb("--version").output.startswith("trading-bot, version ")
