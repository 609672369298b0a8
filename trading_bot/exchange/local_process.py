"""The local exchange as a child process: found running (it outlives a killed bot) or started; kept alive, stopped
at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trading_bot.errors import ConfigurationError, ExchangeError, ExchangeUnreachable, TradingBotError
from trading_bot.exchange.config import LOCAL
from trading_bot.exchange.local_control import LocalControl
from trading_bot.exchange.simulator.server import ServerInfo, find_server
from trading_bot.logs import event

START_SECONDS = 60.0  # patience with a start (a large synthetic market is generated first)
STOP_SECONDS = 5.0
WATCH_SECONDS = 0.25  # how soon its unexpected end is noticed
RETRY_SECONDS = 5.0  # between tries to start it again


@contextmanager
def running_exchange(state: Path, configuration: str, *, owner: bool = True) -> Iterator[ServerInfo]:
    """The exchange that serves `state`.

    Parameters
    ----------
    state
        Its folder.
    configuration
        YAML for the verb `simulate`, used if none is running.
    owner
        Whether it is ours to look after: one that was found running is stopped at the end as well, and one that dies is
        started again, at the same address and with the same keys, so that whoever talks to it need not know.

    Raises
    ------
    ConfigurationError, ExchangeUnreachable
        It does not start; the text is its own last word.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"the exchange's folder {state} cannot be made: {error.strerror}") from None
    keeper = _Keeper(state, configuration)
    try:
        keeper.begin(watched=owner)
        yield keeper.server
    finally:
        keeper.end(stop=owner)


class _Keeper:
    """Looks after one exchange process."""

    def __init__(self, state: Path, configuration: str) -> None:
        self._state = state
        self._configuration = configuration
        self._server: ServerInfo | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look_after, name="exchange keeper", daemon=True)

    @property
    def server(self) -> ServerInfo:
        assert self._server is not None
        return self._server

    def begin(self, *, watched: bool) -> None:
        self._server = find_server(self._state)
        if self._server is not None and watched and not self._same_configuration():
            event("exchange", LOCAL, "found running with another configuration; starting it anew", level="WARNING")
            _stop(self._server, None)
            self._wait_for_its_end()
            self._server = None
        if self._server is None:
            self._start(0)
            event("exchange", LOCAL, "started", url=self.server.url, pid=self.server.pid)
        else:
            event("exchange", LOCAL, "found running; market time has gone on", url=self.server.url, pid=self.server.pid)
        if watched:
            self._watch.start()

    def _same_configuration(self) -> bool:
        try:
            return (self._state / "config.yaml").read_text() == self._configuration
        except OSError:
            return False

    def _wait_for_its_end(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while find_server(self._state) is not None and time.monotonic() < deadline:
            time.sleep(0.02)

    def end(self, *, stop: bool) -> None:
        self._over.set()
        if self._watch.is_alive():
            self._watch.join()
        if self._child is not None and (self._server is None or self._server.pid != self._child.pid):
            self._child.kill()  # it was still starting
            self._child.wait()
        elif self._server is not None and (stop or self._child is not None):
            _stop(self._server, self._child)

    def _look_after(self) -> None:
        while not self._over.wait(WATCH_SECONDS):
            if self._is_alive():
                continue
            event("exchange", LOCAL, "ended without being told to; starting it again", level="ERROR",
                  pid=self.server.pid)  # fmt: skip
            try:
                self._start(self.server.port)
            except TradingBotError as error:
                event("exchange", LOCAL, f"{error}; next try in {RETRY_SECONDS:g} s", level="ERROR")
                self._over.wait(RETRY_SECONDS)
            else:
                event("exchange", LOCAL, "started again", url=self.server.url, pid=self.server.pid)

    def _is_alive(self) -> bool:
        return self._child.poll() is None if self._child is not None else find_server(self._state) is not None

    def _start(self, port: int) -> None:
        """A new process, at this port if that is not 0; returns when it answers."""
        (self._state / "config.yaml").write_text(self._configuration)
        output = self._state / "output.log"
        env = {name: value for name, value in os.environ.items() if not name.startswith("TRADING_BOT__")}
        if port:
            env["TRADING_BOT__MARKET__PORT"] = str(port)
        with output.open("wb") as sink:
            self._child = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "trading_bot", "simulate", "-c", str(self._state / "config.yaml")],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the bot, which then stops its exchange
                env=env,
            )
        self._server = self._awaited(self._child, output)

    def _awaited(self, child: subprocess.Popen[bytes], output: Path) -> ServerInfo:
        """Its address, once it answers there."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and not self._over.is_set():
            server = find_server(self._state)
            if server is not None and server.pid == child.pid and _answers(server):
                return server
            if child.poll() is not None:
                said = output.read_text(errors="replace").strip().splitlines()
                text = said[-1].removeprefix("error: ") if said else f"it ended with code {child.returncode}"
                if child.returncode == ConfigurationError.exit_code:
                    raise ConfigurationError(text)
                raise ExchangeUnreachable(f"the local exchange did not start: {text}; see {output}")
            self._over.wait(0.05)
        child.kill()
        child.wait()
        raise ExchangeUnreachable(f"the local exchange did not start in {START_SECONDS:.0f} s; see {output}")


def _answers(server: ServerInfo) -> bool:
    control = LocalControl(server.url)
    try:
        control.get("info")
    except ExchangeError:
        return False
    else:
        return True
    finally:
        control.close()


def _stop(server: ServerInfo, child: subprocess.Popen[bytes] | None) -> None:
    control = LocalControl(server.url)
    with suppress(ExchangeError):
        control.post("stop")
    control.close()
    if child is None:
        return
    try:
        child.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
