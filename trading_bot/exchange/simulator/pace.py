"""What makes market time pass by itself: so many bars close a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from loguru import logger

from trading_bot.errors import TradingBotError

_MOST_BEHIND = 1.0  # seconds of delay that are made up for; more (a sleeping machine) is forgotten


class Pace:
    """Calls `advance` `per_second` times a second in a thread, until it returns False or `stop` is called."""

    def __init__(self, advance: Callable[[], bool], per_second: float) -> None:
        self._advance = advance
        self._period = 1.0 / per_second
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="market pace", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; no bar closes after this has returned."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        due = time.monotonic() + self._period
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            try:
                if not self._advance():
                    return
            except TradingBotError as error:  # a full disk may have room again later
                logger.error("exchange  market time cannot move on: {}", error)
            due = max(due + self._period, time.monotonic() - _MOST_BEHIND)
