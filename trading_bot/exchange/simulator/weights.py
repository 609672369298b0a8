"""How much may be asked: request weight per minute and orders per ten seconds, with 429, then 418.

Source: Binance spot API documentation, "Limits". Counters belong to fixed wall-clock intervals, as at Binance.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from trading_bot.exchange.simulator.errors import ApiError

WEIGHT_PER_MINUTE = 6_000
ORDERS_PER_TEN_SECONDS = 100
_PATIENCE = 20  # refused requests in one interval after which the caller is banned
_BAN_SECONDS = 120.0


class RequestLimits:
    """Counts one caller's weight and orders. `seconds` is a clock in seconds that never goes back."""

    def __init__(self, weight: int | None, orders: int | None, seconds: Callable[[], float]) -> None:
        self.weight_limit = weight  # None: not limited
        self.order_limit = orders
        self._seconds = seconds
        self._minute = self._ten_seconds = -1
        self.used_weight = self.used_orders = 0
        self._refused = 0
        self._banned_until = -math.inf

    def spend(self, weight: int, orders: int = 0) -> None:
        """Count a request.

        Raises
        ------
        ApiError
            429 when a limit is passed, 418 for a caller that goes on asking nevertheless.
        """
        now = self._seconds()
        self._start_intervals(now)
        if now < self._banned_until:
            raise self._error(418, -1003, "Way too much request weight used; IP banned.", self._banned_until - now)
        self.used_weight += weight
        if self.weight_limit is not None and self.used_weight > self.weight_limit:
            wait = 60 - now % 60
            self._refused += 1
            if self._refused > _PATIENCE:
                self._banned_until = now + _BAN_SECONDS
                raise self._error(418, -1003, "Way too much request weight used; IP banned.", _BAN_SECONDS)
            text = f"Too much request weight used; current limit is {self.weight_limit} request weight per 1 MINUTE."
            raise self._error(429, -1003, text, wait)
        if orders and self.order_limit is not None and self.used_orders + orders > self.order_limit:
            text = f"Too many new orders; current limit is {self.order_limit} orders per 10 SECOND."
            raise self._error(429, -1015, text, 10 - now % 10)
        self.used_orders += orders

    def headers(self) -> dict[str, str]:
        """Binance's counters, as response headers."""
        return {"X-MBX-USED-WEIGHT-1M": str(self.used_weight), "X-MBX-USED-WEIGHT": str(self.used_weight)}

    def _start_intervals(self, now: float) -> None:
        if int(now // 60) != self._minute:
            self._minute, self.used_weight, self._refused = int(now // 60), 0, 0
        if int(now // 10) != self._ten_seconds:
            self._ten_seconds, self.used_orders = int(now // 10), 0

    @staticmethod
    def _error(status: int, code: int, text: str, wait: float) -> ApiError:
        return ApiError(code, text, status, {"Retry-After": str(max(1, math.ceil(wait)))})
