"""Parameters of one request, read one by one as Binance reads them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from urllib.parse import parse_qsl

from trading_bot.exchange.simulator import errors
from trading_bot.exchange.simulator.errors import ApiError

_DECIMAL = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
_INTEGER = r"^[0-9]{1,20}$"
_CLIENT_ID = r"^[\.A-Z\:/a-z0-9_-]{1,36}$"
_DECIMALS = 8  # Binance's precision of every asset


class Params:
    """The parameters by name. Every reader raises `ApiError` with Binance's code for what is wrong."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    @classmethod
    def parse(cls, payload: str) -> Params:
        """From a query string or form body.

        Raises
        ------
        ApiError
            -1101 when a name comes twice.
        """
        values: dict[str, str] = {}
        for name, value in parse_qsl(payload, keep_blank_values=True):
            if name in values:
                raise ApiError(-1101, f"Duplicate values for a parameter detected: '{name}'.")
            values[name] = value
        return cls(values)

    def only(self, allowed: Collection[str]) -> None:
        """Refuse parameters the route does not know (-1104)."""
        known = sum(name in allowed for name in self._values)
        if known != len(self._values):
            raise ApiError(
                -1104,
                f"Not all sent parameters were read; read '{known}' parameter(s) but was sent '{len(self._values)}'.",
            )

    def without(self, *names: str) -> Params:
        return Params({name: value for name, value in self._values.items() if name not in names})

    def has(self, name: str) -> bool:
        return name in self._values

    def optional(self, name: str) -> str | None:
        """The text of a parameter, None where it was not sent, -1105 where it was sent empty."""
        value = self._values.get(name)
        if value == "":
            raise ApiError(-1105, f"Parameter '{name}' was empty.")
        return value

    def text(self, name: str) -> str:
        value = self._values.get(name)
        if not value:
            raise errors.missing(name)
        return value

    def choice(self, name: str, allowed: Collection[str], wrong: ApiError) -> str:
        """A mandatory word out of `allowed`; otherwise `wrong`."""
        value = self.text(name)
        if value not in allowed:
            raise wrong
        return value

    def integer(self, name: str, default: int | None = None, low: int = 0, high: int = 2**63 - 1) -> int | None:
        value = self.optional(name)
        if value is None:
            return default
        if not re.fullmatch(_INTEGER, value):
            raise errors.illegal(name, _INTEGER)
        number = int(value)
        if not low <= number <= high:
            raise errors.invalid(name)
        return number

    def limit(self, default: int, high: int) -> int:
        """How many rows are wanted. More than `high` count as `high`, as at Binance."""
        wanted = self.integer("limit", default, low=1)
        return min(default if wanted is None else wanted, high)

    def decimal(self, name: str) -> Decimal | None:
        """A positive amount of at most eight decimals, or None where it was not sent."""
        value = self.optional(name)
        if value is None:
            return None
        if not re.fullmatch(_DECIMAL, value):
            raise errors.illegal(name, _DECIMAL)
        if len(value.partition(".")[2].rstrip("0")) > _DECIMALS:
            raise ApiError(-1111, f"Parameter '{name}' has too much precision.")
        return Decimal(value)

    def client_order_id(self, name: str) -> str | None:
        value = self.optional(name)
        if value is not None and not re.fullmatch(_CLIENT_ID, value):
            raise errors.illegal(name, _CLIENT_ID)
        return value
