"""The local exchange as a child process: found running (it outlives a killed bot) or started; stopped at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trading_bot.errors import ConfigurationError, ExchangeError, ExchangeUnreachable
from trading_bot.exchange.config import LOCAL
from trading_bot.exchange.local_control import LocalControl
from trading_bot.exchange.simulator.server import ServerInfo, find_server
from trading_bot.logs import event

START_SECONDS = 60.0  # patience with a start (a large synthetic market is generated first)
STOP_SECONDS = 5.0


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
        Whether one that was found running is stopped as well.

    Raises
    ------
    ConfigurationError, ExchangeUnreachable
        It does not start; the text is its own last word.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"the exchange's folder {state} cannot be made: {error.strerror}") from None
    server = find_server(state)
    child: subprocess.Popen[bytes] | None = None
    if server is None:
        server, child = _start(state, configuration)
        event("exchange", LOCAL, "started", url=server.url, pid=server.pid)
    else:
        event("exchange", LOCAL, "found running; market time has gone on", url=server.url, pid=server.pid)
    try:
        yield server
    finally:
        if owner or child is not None:
            _stop(server, child)


def _start(state: Path, configuration: str) -> tuple[ServerInfo, subprocess.Popen[bytes]]:
    (state / "config.yaml").write_text(configuration)
    output = state / "output.log"
    with output.open("wb") as sink:
        child = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "trading_bot", "simulate", "-c", str(state / "config.yaml")],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the bot, which then stops its exchange
            env={name: value for name, value in os.environ.items() if not name.startswith("TRADING_BOT__")},
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        server = find_server(state)
        if server is not None and server.pid == child.pid and _answers(server):
            return server, child
        if child.poll() is not None:
            said = output.read_text(errors="replace").strip().splitlines()
            text = said[-1].removeprefix("error: ") if said else f"it ended with code {child.returncode}"
            if child.returncode == ConfigurationError.exit_code:
                raise ConfigurationError(text)
            raise ExchangeUnreachable(f"the local exchange did not start: {text}; see {output}")
        time.sleep(0.05)
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
