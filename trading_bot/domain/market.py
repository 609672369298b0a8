"""What is traded and how it moved: instruments, timeframes, candles, regimes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from trading_bot.errors import CandleDataError, ConfigurationError

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
T = TypeVar("T")

_INT64, _FLOAT64 = np.dtype(np.int64), np.dtype(np.float64)  # built-in dtypes are single objects
_COLUMNS = (("time", _INT64), *((name, _FLOAT64) for name in ("open", "high", "low", "close", "volume")))
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


class Regime(StrEnum):
    """How a market behaves for a while."""

    TRENDING = "trending"
    RANGING = "ranging"
    VOLATILE = "volatile"
    CHOPPY = "choppy"


def timeframe_ms(timeframe: str) -> int:
    """Length of one bar in milliseconds.

    Raises
    ------
    ConfigurationError
        If `timeframe` is not a number and a unit of s, m, h, d, w.
    """
    match = re.fullmatch(r"([1-9]\d*)([smhdw])", timeframe)
    if match is None:
        raise ConfigurationError(
            f"timeframe {timeframe!r} is not understood; wanted a number and a unit s, m, h, d or w, such as '1h'"
        )
    return int(match[1]) * _UNIT_MS[match[2]]


ANCHOR_BARS = 512


def anchor(time: int, length: int, warmup: int) -> int:
    """Open time at which the window for the bar at `time` begins, whoever computes it.

    The largest multiple of 512 bar lengths (counted from the epoch) that leaves at least `warmup` bar lengths before
    `time`: values computed recursively (EMA, Wilder) then start from the same bar in a backtest, live and after a
    restart, and the window never grows beyond `warmup` + 512 bars.

    Parameters
    ----------
    time : open of the newest bar of the window, UTC ms
    length : one bar, ms (see `timeframe_ms`)
    warmup : bars wanted before `time`
    """
    step = ANCHOR_BARS * length
    return (time - warmup * length) // step * step


@dataclass(frozen=True, slots=True)
class Instrument:
    """One tradable pair with the venue's filters. Prices are multiples of `tick`, quantities of `lot`."""

    symbol: str
    base: str
    quote: str
    tick: Decimal
    lot: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    min_notional: Decimal
    maker_fee: Decimal
    taker_fee: Decimal
    active: bool = True

    def ticks(self, price: float | Decimal) -> int:
        """Nearest whole number of ticks to `price`."""
        return int((_decimal(price) / self.tick).to_integral_value(ROUND_HALF_EVEN))

    def price(self, ticks: int) -> Decimal:
        """Price of `ticks` ticks, exact."""
        return ticks * self.tick

    def lots(self, quantity: float | Decimal) -> int:
        """Whole lots contained in `quantity`, rounded down."""
        return int((_decimal(quantity) / self.lot).to_integral_value(ROUND_DOWN))

    def quantity(self, lots: int) -> Decimal:
        """Quantity of `lots` lots, exact."""
        return lots * self.lot


def _decimal(number: float | Decimal) -> Decimal:
    return number if isinstance(number, Decimal) else Decimal(repr(float(number)))


@dataclass(frozen=True, slots=True, eq=False)
class Candles:
    """Closed bars of one symbol, oldest first, as read-only arrays of one length n.

    `time` is each bar's **open** in UTC milliseconds (int64); the rest is float64. Values computed from these
    candles can be kept with `once`, so that an indicator asked for by several strategies is computed once a bar.
    """

    symbol: str
    timeframe: str
    time: Times
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    _cache: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        n = len(self.time)
        for name, kind in _COLUMNS:
            array = getattr(self, name)
            if len(array) != n:
                lengths = {column: len(getattr(self, column)) for column, _ in _COLUMNS}
                raise CandleDataError(f"candles of {self.symbol} have columns of unequal length: {lengths}")
            if type(array) is np.ndarray and array.dtype is kind and array.flags.c_contiguous:
                if not array.flags.writeable:
                    continue  # a part of other candles, most often: nothing to do, and this is done many times a bar
            else:
                array = np.ascontiguousarray(array, dtype=kind)
            if array.flags.writeable:
                array = array.view()
                array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, rows: slice) -> Candles:
        """The candles of `rows`, as views (nothing is copied, nothing cached is kept)."""
        return Candles(
            self.symbol,
            self.timeframe,
            self.time[rows],
            self.open[rows],
            self.high[rows],
            self.low[rows],
            self.close[rows],
            self.volume[rows],
        )

    def tail(self, n: int) -> Candles:
        """The newest `n` candles (all of them if there are fewer)."""
        return self[max(0, len(self) - n) :]

    def once(self, key: Any, compute: Callable[[], T]) -> T:
        """`compute()` the first time `key` is asked for on these candles, the kept value afterwards."""
        if key not in self._cache:
            self._cache[key] = compute()
        value: T = self._cache[key]
        return value

    def frame(self) -> pd.DataFrame:
        """A DataFrame with columns date (UTC), open, high, low, close, volume."""
        import pandas as pd

        columns = {name: getattr(self, name) for name in ("open", "high", "low", "close", "volume")}
        return pd.DataFrame({"date": pd.to_datetime(self.time, unit="ms", utc=True), **columns})

    @classmethod
    def empty(cls, symbol: str, timeframe: str) -> Candles:
        """No candles at all."""
        none = np.empty(0)
        return cls(symbol, timeframe, np.empty(0, np.int64), none, none, none, none, none)

    def joined(self, newer: Candles) -> Candles:
        """These candles followed by the bars of `newer` that begin after the last of these."""
        fresh = newer if not len(self) else newer[int(np.searchsorted(newer.time, self.time[-1], "right")) :]
        if not len(fresh):
            return self
        columns = [
            np.concatenate([getattr(self, name), getattr(fresh, name)])
            for name in ("time", "open", "high", "low", "close", "volume")
        ]
        return Candles(self.symbol, self.timeframe, *columns)  # type: ignore[arg-type]


def hash_of(candles: Mapping[str, Candles], bars: int | None = None) -> str:
    """SHA-256 (its first 16 digits) of candles by symbol, or of each symbol's first `bars`."""
    digest = hashlib.sha256()
    for symbol, rows in sorted(candles.items()):
        digest.update(f"{symbol} {rows.timeframe}".encode())
        for column in (rows.time, rows.open, rows.high, rows.low, rows.close, rows.volume):
            digest.update(column[:bars].tobytes())
    return digest.hexdigest()[:16]
