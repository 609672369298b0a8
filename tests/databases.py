"""A real PostgreSQL server for the tests, started from the system's binaries as a user without rights."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg

_USERS = ("postgres", "nobody")


def postgres_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`, the newest there is; None without one."""
    on_path = shutil.which("initdb")
    if on_path and (Path(on_path).parent / "postgres").exists():
        return Path(on_path).parent
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: int(path.parent.name.partition(".")[0]), default=None)


def why_no_postgres() -> str | None:
    """Why no server can be started here; None if it can."""
    if postgres_binaries() is None:
        return "no PostgreSQL binaries (initdb, postgres) on PATH or in /usr/lib/postgresql; install postgresql"
    if os.geteuid() == 0 and (shutil.which("setpriv") is None or _unprivileged() is None):
        return "PostgreSQL does not run as root, and there is no setpriv or no user postgres or nobody"
    return None


def _unprivileged() -> pwd.struct_passwd | None:
    for name in _USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


class PostgresServer:
    """One server on 127.0.0.1 in a temporary folder; `new_database()` gives an empty database's URL."""

    def __init__(self) -> None:
        binaries = postgres_binaries()
        assert binaries is not None
        self._binaries = binaries
        self._folder = Path(tempfile.mkdtemp(prefix="trading-bot-pg-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            user = _unprivileged()
            assert user is not None
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            self._as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        self._data = self._folder / "data"
        self.port = 0

    def create(self) -> None:
        """Make the cluster and start it."""
        made = self._run(
            "initdb", "-D", self._data, "-U", "bot", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stdout.decode()}")
        self.start()

    def start(self) -> None:
        """Start on the port used before, or on a free one, and wait until it answers."""
        for _ in range(5):
            self.port = self.port or _free_port()
            settings = {
                "listen_addresses": "127.0.0.1",
                "port": str(self.port),
                "unix_socket_directories": str(self._folder),
                "fsync": "off",
                "shared_buffers": "16MB",
                "max_connections": "60",
                "log_min_messages": "fatal",
            }
            options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            log = (self._folder / "log").open("ab")
            with log:
                self._process = subprocess.Popen(
                    [*self._as_user, str(self._binaries / "postgres"), "-D", str(self._data), *options],
                    cwd=self._folder,
                    stdout=log,
                    stderr=log,
                )
            if self._answers():
                return
            self.kill()
            self.port = 0  # somebody else took the port between our look and the server's
        raise RuntimeError(f"PostgreSQL did not start: {(self._folder / 'log').read_text()[-2000:]}")

    def stop_at_once(self) -> None:
        """Immediate shutdown: as a crash, without a checkpoint or a goodbye to the clients."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)
        self._process = None

    def kill(self) -> None:
        """End the server if it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(15)
            self._process = None

    def remove(self) -> None:
        """End the server and delete its folder."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def new_database(self) -> str:
        """URL of a new, empty database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with self._admin() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        return f"postgresql://bot@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Drop it, whoever is still connected."""
        with self._admin() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)".encode())

    def _admin(self) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="bot", dbname="postgres", autocommit=True, connect_timeout=5
        )

    def _answers(self) -> bool:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                return False
            with contextlib.suppress(psycopg.OperationalError), self._admin():
                return True
            time.sleep(0.05)
        return False

    def _run(self, program: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*self._as_user, str(self._binaries / program), *map(str, arguments)],
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server that is gone, with its files, afterwards."""
    server = PostgresServer()
    try:
        server.create()
        yield server
    finally:
        server.remove()
