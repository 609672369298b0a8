"""Verbs that speak to a running daemon: answered, too slow, not there."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Verb
from trading_bot.domain.journal import Command
from trading_bot.storage.lock import DataLock
from trading_bot.storage.store import open_store

Answer = Callable[[Command], str]


@contextmanager
def daemon(data_dir: Path, answer: Answer, dies: bool = False) -> Iterator[list[str]]:
    """Something that holds the lock and deals with commands as the daemon does; the names it was given."""
    given: list[str] = []
    over = threading.Event()
    ready = threading.Event()
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            store = open_store(f"sqlite:///{data_dir / 'trading_bot.sqlite'}")
            with DataLock(data_dir, run_id="run-1"):
                ready.set()
                while not over.wait(0.01):
                    with store.transaction() as tx:
                        for command in tx.find(Command, handled=None):
                            given.append(command.name)
                            words = answer(command)
                            if words:
                                tx.update(dataclasses.replace(command, handled=command.given, answer=words))
                    if "stop" in given or (given and dies):
                        break
            store.close()
        except BaseException as error:
            failures.append(error)
            ready.set()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert ready.wait(10)
        yield given
    finally:
        over.set()
        thread.join(10)
    assert not failures


@pytest.mark.parametrize("name", ["pause", "resume", "flatten"])
def test_a_command_is_answered(verb: Verb, home: Path, name: str) -> None:
    with daemon(home / "data", lambda command: f"{command.name}: done") as given:
        assert verb(name).output == f"{name}: done\n"
    assert given == [name]


def test_stop_waits_until_the_daemon_is_gone(verb: Verb, home: Path) -> None:
    with daemon(home / "data", lambda command: "stopping") as given:
        assert verb("stop").output == "stopping\n"
        assert given == ["stop"]
        assert "no daemon runs on data" in verb("stop", code=3).stderr


def test_no_answer_in_time(verb: Verb, home: Path) -> None:
    started = time.monotonic()
    with daemon(home / "data", lambda command: ""):
        assert "no answer to 'pause' within 0.2 s" in verb("pause", "--timeout", "0.2", code=5).stderr
    assert time.monotonic() - started < 5


def test_a_daemon_that_dies_meanwhile(verb: Verb, home: Path) -> None:
    with daemon(home / "data", lambda command: "", dies=True):
        assert "ended before it dealt with 'flatten'" in verb("flatten", "--timeout", "0.5", code=3).stderr


@pytest.mark.parametrize("name", ["pause", "resume", "flatten", "stop"])
def test_nobody_there(verb: Verb, home: Path, name: str) -> None:
    result = verb(name, code=3)
    assert result.stderr == "error: no daemon runs on data; `trading-bot run` starts one\n"
    assert not (home / "data").exists()  # asking changes nothing
