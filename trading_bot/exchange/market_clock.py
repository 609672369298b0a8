"""Market time: the local exchange's, replayed at any pace, or the wall clock's for a real venue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from trading_bot.domain.market import timeframe_ms
from trading_bot.errors import ExchangeError
from trading_bot.exchange.local_control import LocalControl
from trading_bot.ports import MarketEnded

_WEEK = 604_800_000
_MONDAY = 4 * 86_400_000  # the epoch was a Thursday; venues' weeks begin on Monday


class LocalExchangeClock:
    """`ports.MarketClock` over the local exchange's control routes.

    Parameters
    ----------
    base_url
        Where the local exchange listens.
    lockstep
        The next bar closes only when `next_close` is called again: asking says that the last one is dealt with.
    last_seen
        The newest close dealt with in an earlier life. A newer one that the exchange already has is reported first,
        without moving on, so that a bot killed half-way through a bar sees that bar again.
    """

    settle_ms = 0  # a bar that closed is there

    @property
    def waits(self) -> bool:
        return self._lockstep

    def __init__(self, base_url: str, lockstep: bool, last_seen: int | None = None) -> None:
        self._control = LocalControl(base_url)
        self._lockstep = lockstep
        self._reported = last_seen
        self._first = True

    def now(self) -> int:
        """Close of the newest closed bar, UTC ms."""
        return int(self._control.get("clock")["now"])

    def next_close(self, timeout: float) -> int | None:
        """See `ports.MarketClock`.

        Raises
        ------
        MarketEnded
            The replay has no more bars and the last one has been reported.
        ExchangeUnreachable, ExchangeError
        """
        if self._lockstep and not self._first and self._reported is not None:
            answer = self._control.post("done", {"after": self._reported})
        else:
            answer = self._waited(timeout)
            if self._lockstep and answer["now"] == self._reported:
                answer = self._control.post("done", {"after": self._reported})
        self._first = False
        now = int(answer["now"])
        if self._reported is not None and now < self._reported:
            raise ExchangeError(
                f"the local exchange's market time went back from {self._reported} to {now}; its state is not the "
                "one this account was traded on: use `reset` to begin both anew"
            )
        if self._reported is None or now > self._reported:
            self._reported = now
            return now
        if answer["ended"]:
            raise MarketEnded(f"no candle after {now}")
        return None

    def close(self) -> None:
        self._control.close()

    def _waited(self, timeout: float) -> dict[str, int]:
        if self._reported is None or self._lockstep:
            return self._control.get("clock")
        return self._control.get(f"clock?after={self._reported}&timeout={timeout:.3f}", wait=timeout)


class WallClock:
    """Bar boundaries of a real venue: reported `offset` seconds after they passed, when its bars have settled.

    `wall` tells seconds since the epoch; `wait` sleeps for so many seconds (by a monotonic clock) or less; `ahead` asks
    the venue how many seconds its clock is ahead of ours, before each boundary is reported, for clocks are set.
    """

    settle_ms = 20_000  # some venues take this long to show a bar that closed
    waits = False

    def __init__(
        self,
        timeframe: str,
        offset: float = 2.0,
        wall: Callable[[], float] = time.time,
        wait: Callable[[float], object] | None = None,
        ahead: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._measure = ahead
        self._ahead = ahead()
        self._length = timeframe_ms(timeframe)
        self._origin = _MONDAY if self._length % _WEEK == 0 else 0
        self._offset = round(offset * 1000)
        self._wall = wall
        self._stopped = threading.Event()
        self._wait = wait if wait is not None else self._stopped.wait
        self._reported: int | None = None

    def now(self) -> int:
        return round((self._wall() + self._ahead) * 1000)

    def next_close(self, timeout: float) -> int | None:
        """See `ports.MarketClock`; the first call reports the newest boundary that has passed."""
        newest = self._newest()
        if self._reported is not None and newest <= self._reported:  # less: the clock was set back
            until = (self._reported + self._length + self._offset - self.now()) / 1000
            self._wait(max(0.0, min(timeout, until)))
            newest = self._newest()
            if newest <= self._reported:
                return None
        self._ahead = self._measure()
        newest = self._newest()
        if self._reported is not None and newest <= self._reported:
            return None
        self._reported = newest
        return newest

    def close(self) -> None:
        """Wake a waiting `next_close`."""
        self._stopped.set()

    def _newest(self) -> int:
        return (self.now() - self._offset - self._origin) // self._length * self._length + self._origin
