"""One daemon at a time, on one machine or several."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.databases import PostgresServer
from trading_bot.errors import AlreadyRunning, StorageError
from trading_bot.storage.lock import LOCK_FILE, DataLock, holder

HOLD = (
    "import sys, pathlib; from trading_bot.storage.lock import DataLock\n"
    "lock = DataLock(pathlib.Path(sys.argv[1]), run_id='run-1', db_url=sys.argv[2] or None); lock.acquire()\n"
    "print('held', flush=True); sys.stdin.read()"
)


def holding_process(folder: Path, db_url: str = "") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), db_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=20)


def test_the_second_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    with (
        DataLock(tmp_path / "data", run_id="run-7"),
        pytest.raises(AlreadyRunning) as caught,
        DataLock(tmp_path / "data"),
    ):
        pass
    for fact in (f"process {os.getpid()}", "run-7", str(tmp_path / "data"), "since 20"):
        assert fact in str(caught.value)
    with DataLock(tmp_path / "data"):
        pass


def test_a_killed_holder_leaves_nothing_locked(tmp_path: Path) -> None:
    process = holding_process(tmp_path)
    try:
        seen = holder(tmp_path)
        assert seen is not None
        assert (seen.pid, seen.run_id, seen.data_dir) == (process.pid, "run-1", str(tmp_path))
        assert abs(datetime.now(UTC) - seen.since) < timedelta(minutes=1)
        with pytest.raises(AlreadyRunning, match=f"process {process.pid}"):
            DataLock(tmp_path).acquire()
    finally:
        end(process)
    assert (tmp_path / LOCK_FILE).read_text() != ""  # what it wrote is still there, and means nothing
    assert holder(tmp_path) is None
    with DataLock(tmp_path):
        assert holder(tmp_path) is not None


def test_looking_does_not_keep_a_daemon_from_starting(tmp_path: Path) -> None:
    with DataLock(tmp_path):
        pass
    code = (
        "import sys, pathlib; from trading_bot.storage.lock import holder\n"
        "print('looking', flush=True)\nwhile True: holder(pathlib.Path(sys.argv[1]))"
    )
    looking = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert looking.stdout is not None
        assert looking.stdout.readline() == "looking\n"
        for _ in range(50):
            with DataLock(tmp_path):
                pass
    finally:
        end(looking)


def test_nobody_and_a_half_written_file(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    assert holder(tmp_path / "absent") is None
    with DataLock(tmp_path):
        (tmp_path / LOCK_FILE).write_text('{"pid": 1')
        seen = holder(tmp_path)
        assert seen is not None
        assert seen.pid == 0


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written: Not a directory; check data_dir"):
        DataLock(tmp_path / "file" / "data").acquire()


def test_two_folders_on_one_database(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.new_database()
    process = holding_process(tmp_path / "one", url)
    try:
        with pytest.raises(AlreadyRunning, match=f"trading_bot daemon {process.pid} on .* since 20"):
            DataLock(tmp_path / "two", db_url=url).acquire()
        assert holder(tmp_path / "two") is None  # the refused one keeps nothing
        other = postgres.new_database()
        with DataLock(tmp_path / "two", db_url=other) as lock:
            lock.check()
        postgres.drop_database(other)
    finally:
        end(process)
    with DataLock(tmp_path / "two", db_url=url):
        pass
    postgres.drop_database(url)


def test_the_lock_is_taken_again_after_the_server_forgot_it(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.new_database()
    first, second = DataLock(tmp_path / "one", db_url=url), DataLock(tmp_path / "two", db_url=url)
    first.acquire()
    postgres.stop_at_once()
    with pytest.raises(StorageError, match="PostgreSQL at"):
        first.check()
    postgres.start()
    first.check()
    with pytest.raises(AlreadyRunning):
        second.acquire()
    postgres.stop_at_once()
    postgres.start()
    with second, pytest.raises(AlreadyRunning):
        first.check()
    first.release()
    postgres.drop_database(url)
