"""The log: one line an event, no secret in it, rotated, and never the reason the daemon dies."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from loguru import logger

from trading_bot import logs
from trading_bot.errors import ConfigurationError
from trading_bot.logs import LoggingConfig, event, redact, register_secret, setup

SECRET = "s3cr3t-0a1b2c3d"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Sets the log up in a folder of its own; puts everything back afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "_secrets", set())
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def start(config: LoggingConfig | None = None, console: bool = False) -> Path:
        setup(config or LoggingConfig(), Path("logs/bot_debug.log"), console=console)
        return tmp_path / "logs/bot_debug.log"

    yield start
    logger.remove()
    logger.configure(patcher=lambda record: None)
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_one_event_is_one_line_with_a_utc_time(log: Callable[..., Path]) -> None:
    path = log()
    before = datetime.now(UTC)
    event("decision", "BTC/USDT 1h", "buy {braces} <red>", score=0.123456, order="tb-1")
    event("order", "BTC/USDT", "first\nsecond\x1b[31m")
    first, second = path.read_text().splitlines()
    stamp = datetime.fromisoformat(first[:23]).replace(tzinfo=UTC)
    assert abs(stamp - before) < timedelta(seconds=10)
    assert first[24:] == "INFO    decision  BTC/USDT 1h  buy {braces} <red>  score=0.1235  order=tb-1"
    assert second.endswith("first\\nsecond\\x1b[31m")


def test_registered_secrets_and_common_patterns_are_masked(log: Callable[..., Path]) -> None:
    path = log()
    register_secret(SECRET)
    event("x", "", f"key {SECRET}", fact=SECRET)
    event("x", "", "GET /order?a=1&signature=deadbeef99 X-MBX-APIKEY: mykeymykey")
    event("x", "", "postgresql://me:topsecret@host/db")
    text = path.read_text()
    for leaked in (SECRET, "deadbeef99", "mykeymykey", "topsecret"):
        assert leaked not in text
    assert text.count("***") == 5


def test_exceptions_show_where_but_no_values(log: Callable[..., Path]) -> None:
    path = log()
    register_secret(SECRET)
    hidden = "value-" + "of-a-variable"
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError(f"signature=deadbeef99 {len(hidden)}") from error
    except ValueError:
        logger.exception("it failed with {}", SECRET)
    text = path.read_text()
    assert "ValueError" in text
    assert "test_logs.py" in text
    for leaked in (SECRET, "deadbeef99", hidden):
        assert leaked not in text


def test_libraries_come_in_at_warning(log: Callable[..., Path]) -> None:
    path = log()
    logging.getLogger("apscheduler.scheduler").info("job ran")
    logging.getLogger("apscheduler.scheduler").warning("job missed by %s", 3)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("careful", stacklevel=1)
    text = path.read_text()
    assert "job ran" not in text
    assert "WARNING apscheduler.scheduler job missed by 3" in text
    assert "careful" in text


def test_the_same_warning_is_written_five_times_then_counted(log: Callable[..., Path]) -> None:
    path = log()
    for _ in range(20):
        event("feed", "BTC/USDT", "no answer", level="WARNING")
        event("tick", "BTC/USDT", "fine")
    lines = path.read_text().splitlines()
    assert sum("no answer" in line for line in lines) == 5
    assert sum("fine" in line for line in lines) == 20


def test_what_was_held_back_is_told() -> None:
    repeats = logs._Repeats(allowed=2, seconds=60)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    let_through = []
    for second in (0, 1, 2, 3, 61):
        record: Any = {
            "level": SimpleNamespace(name="WARNING"),
            "message": "no answer",
            "time": start + timedelta(seconds=second),
            "extra": {},
        }
        let_through.append(repeats(record))
    assert let_through == [True, True, False, False, True]
    assert record["extra"]["held_back"] == "  held_back=2"


def test_json_lines(log: Callable[..., Path]) -> None:
    path = log(LoggingConfig(json=True))
    register_secret(SECRET)
    event("decision", "BTC/USDT", 'with "quotes" {and} braces', secret=SECRET)
    try:
        raise ValueError(SECRET)
    except ValueError:
        logger.exception("failed")
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first["level"] == "INFO"
    assert '"quotes" {and} braces' in first["message"]
    assert first["time"].endswith("+00:00")
    assert "ValueError" in second["traceback"]
    assert SECRET not in path.read_text()


def test_levels_of_file_and_terminal_differ(log: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = log(console=True)
    event("a", "", "detail", level="DEBUG")
    event("b", "", "news")
    logs.last_words("farewell")
    shown = capsys.readouterr().err
    assert "detail" not in shown
    assert "news" in shown
    assert "farewell" not in shown  # whoever ends the program says it there
    assert "\x1b[" not in shown  # no colours where it is no terminal
    assert all(word in path.read_text() for word in ("detail", "news", "farewell"))


def test_rotation_keeps_so_many_files(log: Callable[..., Path]) -> None:
    path = log(LoggingConfig(rotation_mb=0.01, retention_files=2))
    for number in range(1000):
        event("line", "", f"number {number} {'x' * 60}")
    kept = sorted(path.parent.glob("bot_debug*.log"))
    assert len(kept) == 3  # the one in use and two
    assert path.stat().st_size <= 10_000
    assert f"number {999} " in path.read_text()


def test_old_files_go(tmp_path: Path) -> None:
    new, old = tmp_path / "new.log", tmp_path / "old.log"
    for file in (new, old):
        file.write_text("x")
    os.utime(old, (0, 0))
    logs._keep(10, timedelta(days=30))([str(new), str(old)])
    assert new.exists()
    assert not old.exists()


def test_a_link_stands_where_the_user_starts(log: Callable[..., Path], tmp_path: Path) -> None:
    path = log()
    event("a", "", "hello")
    assert "hello" in (tmp_path / "bot_debug.log").read_text()
    (tmp_path / "bot_debug.log").unlink()
    (tmp_path / "bot_debug.log").write_text("the user's own")
    log()
    assert (tmp_path / "bot_debug.log").read_text() == "the user's own"
    assert path.exists()


def test_an_unwritable_log_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match=r"^logfile: cannot write .*--logfile$"):
        setup(LoggingConfig(), tmp_path / "file" / "bot.log", console=False)


@pytest.mark.parametrize("innocent", ["secret: none", "exchange.secret: found a secret", "token: 3", "price=1.5"])
def test_innocent_words_stay(innocent: str) -> None:
    assert redact(innocent) == innocent


def test_a_secret_within_another_is_masked_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_secrets", set())
    for secret in ("abcd", "abcdefgh", "abc"):
        register_secret(secret)
    assert redact("abcdefgh abcd abc") == "*** *** abc"
