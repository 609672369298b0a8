"""One daemon for one account: a lock on the data folder and, for PostgreSQL, one in the database itself.

Both belong to the process: however it dies, the operating system or the server lets go of them.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from trading_bot.errors import AlreadyRunning, StorageError
from trading_bot.storage.engines import DAEMON_LOCK, LOCK_SPACE, lock_engine, opening_failed, parsed_url, shown

LOCK_FILE = "lock"
_GLANCE = 0.5  # seconds: `holder` takes the lock for an instant, so one refusal is not yet a daemon


@dataclass(frozen=True, slots=True)
class Holder:
    """Who runs on a data folder."""

    pid: int
    run_id: str
    since: datetime
    data_dir: str


def holder(data_dir: Path) -> Holder | None:
    """Who holds the lock of `data_dir`; None if nobody does.

    Raises
    ------
    StorageError
        If the lock file cannot be read.
    """
    try:
        with (data_dir / LOCK_FILE).open("rb") as file:
            if _locked(file, fcntl.LOCK_SH):
                return None
            return _read(file, data_dir)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{data_dir / LOCK_FILE} cannot be read: {error.strerror}; check its permissions") from error


class DataLock:
    """Held from `acquire` (or `with`) until `release`, or until the process ends.

    Parameters
    ----------
    data_dir : Path
        The folder; made if it is not there.
    run_id : str
        What the holder calls itself.
    db_url : str or None
        A PostgreSQL URL is locked as well: two folders or machines may share one database.
    """

    def __init__(self, data_dir: Path, *, run_id: str = "", db_url: str | None = None) -> None:
        url = parsed_url(db_url) if db_url is not None else None
        self._data_dir = data_dir
        self._run_id = run_id
        self._url = url if url is not None and url.drivername != "sqlite" else None
        self._file: IO[bytes] | None = None
        self._engine: Engine | None = None
        self._connection: Connection | None = None

    def acquire(self) -> None:
        """Take the lock or say who has it.

        Raises
        ------
        AlreadyRunning
            Another daemon has it; the text names its process, since when and where.
        StorageError
            The folder cannot be written or the database not be asked.
        """
        self._file = self._lock_folder()
        try:
            self._lock_database()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let go. The file stays: deleting it would let two daemons lock two different ones."""
        self._forget_connection()
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def check(self) -> None:
        """Make sure that the database's lock is still ours: a restarted server has forgotten it. For the heartbeat.

        Raises
        ------
        AlreadyRunning
            Another daemon took it meanwhile: stop trading.
        StorageError
            The database cannot be asked just now.
        """
        if self._url is None or self._file is None:
            return
        try:
            if self._connection is not None:
                self._connection.exec_driver_sql("SELECT 1")
                return
        except SQLAlchemyError:
            self._forget_connection()
        self._lock_database()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _forget_connection(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()  # ending the session is what gives an advisory lock back
            self._connection.close()
            self._connection = None

    def _lock_folder(self) -> IO[bytes]:
        path = self._data_dir / LOCK_FILE
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            file = path.open("a+b")
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}; check data_dir and its permissions") from (
                error
            )
        try:
            deadline = time.monotonic() + _GLANCE
            while not _locked(file, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    first = _read(file, self._data_dir)
                    raise AlreadyRunning(
                        f"a daemon already runs on {first.data_dir}: process {first.pid}, run "
                        f"{first.run_id or '(unnamed)'}, since {first.since:%Y-%m-%d %H:%M:%S} UTC; "
                        "stop it first or give another data_dir"
                    )
                time.sleep(0.02)
            us = Holder(os.getpid(), self._run_id, datetime.now(UTC), str(self._data_dir.absolute()))
            file.truncate(0)
            file.write(json.dumps({**asdict(us), "since": us.since.isoformat()}).encode())
            file.flush()
        except BaseException:
            file.close()
            raise
        return file

    def _lock_database(self) -> None:
        if self._url is None:
            return
        name = f"trading_bot daemon {os.getpid()} on {socket.gethostname()}"[:63]
        try:
            self._engine = self._engine or lock_engine(self._url, name)
            self._connection = self._engine.connect()
            taken = self._connection.scalar(_TAKE, _LOCK)
            first = None if taken else self._connection.execute(_WHO, _LOCK).mappings().first()
        except SQLAlchemyError as error:
            raise opening_failed(self._url, error) from error
        if not taken:
            raise AlreadyRunning(
                f"a daemon already runs on {shown(self._url)}: {_told(first)}; stop it first or give another db_url"
            )


_TAKE = text("SELECT pg_try_advisory_lock(:space, :number)")
_WHO = text("""
    SELECT a.application_name AS name, a.client_addr AS address, a.backend_start AS since
    FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_database d ON d.oid = l.database
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = :space AND l.objid = :number
        AND d.datname = current_database()
""")
_LOCK = {"space": LOCK_SPACE, "number": DAEMON_LOCK}


def _told(first: Mapping[Any, Any] | None) -> str:
    if first is None:
        return "it has just gone, try again"
    since: datetime = first["since"]
    return f"{first['name']} ({first['address'] or 'local'}), since {since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _locked(file: IO[bytes], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StorageError(f"{file.name} cannot be locked: {error.strerror}; put data_dir on a local disk") from error
    return True


def _read(file: IO[bytes], data_dir: Path) -> Holder:
    """What the holder wrote; pid 0 if it has not come to it yet."""
    file.seek(0)
    try:
        said = json.loads(file.read())
        return Holder(int(said["pid"]), str(said["run_id"]), datetime.fromisoformat(said["since"]), said["data_dir"])
    except (ValueError, KeyError, TypeError):
        return Holder(0, "", datetime.now(UTC), str(data_dir.absolute()))
