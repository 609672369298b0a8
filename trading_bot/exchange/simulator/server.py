"""The local exchange as a process: one on one state folder, found by others through a file with its address."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

import uvicorn

from trading_bot.errors import AlreadyRunning, ConfigurationError
from trading_bot.exchange.simulator.app import create_app
from trading_bot.exchange.simulator.auth import Credentials
from trading_bot.exchange.simulator.exchange import LocalExchange
from trading_bot.exchange.simulator.faults import FaultyProtocol
from trading_bot.exchange.simulator.pace import Pace

_HOST = "127.0.0.1"
_INFO, _LOCK = "exchange.json", "exchange.lock"
_LOCK_PATIENCE = 0.2  # seconds
_GRACE = 1  # seconds for requests in progress when the server stops


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Where an exchange listens and who may trade on it."""

    pid: int
    port: int
    key: str
    secret: str = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.port}"


def find_server(state: Path) -> ServerInfo | None:
    """The exchange that is serving `state` now, or None."""
    try:
        descriptor = os.open(state / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if _locked(descriptor, patience=0) else _read_info(state)
    finally:
        os.close(descriptor)


@contextmanager
def claimed(state: Path) -> Iterator[None]:
    """Hold `state` alone. The lock belongs to the process, so that a killed one leaves nothing behind.

    Raises
    ------
    AlreadyRunning
        Another process (or thread) serves it.
    ConfigurationError
        The folder cannot be made or written.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(state / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"the exchange's folder {state} cannot be written: {error.strerror}") from None
    try:
        if not _locked(descriptor, _LOCK_PATIENCE):
            info = _read_info(state)
            who = f"process {info.pid} at {info.url}" if info else "another process"
            raise AlreadyRunning(f"a local exchange already serves {state}: {who}; use it or stop it first")
        yield
    finally:
        os.close(descriptor)


class ExchangeServer:
    """A server that is listening once it is made; `run` answers until `stop` is called or a signal comes."""

    def __init__(self, exchange: LocalExchange, state: Path, port: int = 0) -> None:
        before = _read_info(state)
        self._exchange = exchange
        self._socket = _listening(port, before.port if before else 0)
        self.info = ServerInfo(
            os.getpid(),
            self._socket.getsockname()[1],
            before.key if before else secrets.token_hex(16),
            before.secret if before else secrets.token_hex(32),
        )
        app = create_app(exchange, Credentials(self.info.key, self.info.secret), self.stop)
        config = uvicorn.Config(
            app,
            http=FaultyProtocol,
            loop="asyncio",
            ws="none",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=_GRACE,
        )
        self._server = _Server(config, exchange)
        _write_info(state, self.info)

    def run(self) -> None:
        """Serve, and let market time pass at the exchange's pace."""
        pace = Pace(self._exchange.advance, self._exchange.pace) if self._exchange.pace is not None else None
        if pace is not None:
            pace.start()
        try:
            self._server.run(sockets=[self._socket])
        finally:
            if pace is not None:
                pace.stop()
            self._socket.close()

    def stop(self) -> None:
        """End `run` soon; may be called from any thread."""
        self._server.finish()


def serve(
    state: Path,
    make: Callable[[], LocalExchange],
    port: int = 0,
    on_ready: Callable[[ServerInfo], None] = lambda info: None,
) -> None:
    """Run the local exchange in this process until it is told to stop (SIGTERM, SIGINT or the control route).

    Parameters
    ----------
    state
        Its folder: lock, address and, by whatever `make` opens there, its books.
    make
        Builds the exchange; called with the folder claimed, so that no other process has its books open.
    port
        0: the one it had before if that is free, else any.
    on_ready
        Called when requests are answered.

    Raises
    ------
    AlreadyRunning, ConfigurationError, and what `make` raises
    """
    with claimed(state):
        server = ExchangeServer(make(), state, port)
        on_ready(server.info)
        server.run()


class _Server(uvicorn.Server):
    """uvicorn's server, ending quietly on a signal and at once for those who wait for the next bar."""

    def __init__(self, config: uvicorn.Config, exchange: LocalExchange) -> None:
        super().__init__(config)
        self._exchange = exchange

    def finish(self) -> None:
        self.should_exit = True
        self._exchange.close_polls()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.finish()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would raise the signal again at the end, and the process would die of it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listening(port: int, preferred: int) -> socket.socket:
    # asyncio sends small answers at once only on sockets that are TCP by name
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if port:
            listener.bind((_HOST, port))
        else:
            bound = False
            with suppress(OSError):
                listener.bind((_HOST, preferred))
                bound = True
            if not bound:
                listener.bind((_HOST, 0))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"market.port {port} cannot be listened on ({error.strerror}); choose another or 0 for any free one"
        ) from None
    return listener


def _locked(descriptor: int, patience: float) -> bool:
    """Take the lock. `find_server` holds it for an instant to see whether it is free, so one refusal says little."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        else:
            return True


def _read_info(state: Path) -> ServerInfo | None:
    try:
        return ServerInfo(**json.loads((state / _INFO).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write_info(state: Path, info: ServerInfo) -> None:
    draft = state / f"{_INFO}.new"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(info), file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(state / _INFO)
