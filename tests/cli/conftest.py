"""A folder to work in and a way to call verbs there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from loguru import logger

from tests.cli.account import write_account
from trading_bot.cli.main import cli

Verb = Callable[..., Result]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder the user stands in: empty, without anything of this machine's environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    logger.remove()
    logger.configure(patcher=lambda record: None)


@pytest.fixture
def verb() -> Verb:
    """`verb("status", "--json")` as a user would type it; `code` is what it should exit with."""

    def call(*words: str, code: int = 0, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(cli, list(words), input=stdin, prog_name="trading-bot")
        assert result.exit_code == code, f"exit code {result.exit_code}\n{result.output}\n{result.exception!r}"
        assert "Traceback" not in result.output
        return result

    return call


@pytest.fixture
def account(home: Path) -> str:
    """The URL of a database with a small account in it, where the default configuration looks."""
    return write_account(home / "data")


def parsed(result: Result) -> Any:
    """What a verb printed as JSON."""
    return json.loads(result.stdout)
