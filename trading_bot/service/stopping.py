"""SIGTERM and SIGINT before and after the loop: while modules load, the exchange starts and things are put away."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from trading_bot.logs import event

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def handling(asked: Callable[[str], None], seconds: float) -> Iterator[None]:
    """Call `asked` with the signal's name at every SIGTERM and SIGINT; an end that takes too long is forced.

    Once one has come the process is on its way out, and afterwards further ones are ignored. Does nothing outside the
    main thread, where signals cannot be handled. `asked` must not log: it may interrupt the log.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        if not came.is_set():
            came.set()
            threading.Thread(target=_force_exit, args=(seconds,), daemon=True).start()
        asked(signal.Signals(number).name)

    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, signal.SIG_IGN if came.is_set() else earlier)


@contextmanager
def ended_by_signals(seconds: float) -> Iterator[None]:
    """The first signal ends the program from inside, with code 0, so that whatever was started is put away; further
    ones are ignored, for they must not interrupt that."""
    ended_by = ""

    def end(name: str) -> None:
        nonlocal ended_by
        if not ended_by:
            ended_by = name
            raise SystemExit(0)

    try:
        with handling(end, seconds):
            yield
    finally:
        if ended_by:
            event("stop", "start-up", f"stopping: {ended_by}")


def _force_exit(seconds: float) -> None:
    """A stop that hangs must not keep the process alive: what matters is on disk already."""
    time.sleep(seconds)
    event("stop", "forced", f"a clean stop took longer than {seconds:g} s", level="ERROR")
    os._exit(1)
