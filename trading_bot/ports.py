"""The seams: where the program can be cut and something else plugged in. Shapes only, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from trading_bot.domain.account import Balance
from trading_bot.domain.market import Candles, Instrument
from trading_bot.domain.orders import Fill, Order, OrderReport, SubmitOutcome

R = TypeVar("R")


class CandleSource(Protocol):
    """Where closed candles come from."""

    def candles(self, symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> Candles:
        """Closed bars with open time ≥ `since` (ms), the oldest `limit` of them; without `since` the newest `limit`.

        Raises
        ------
        ExchangeUnreachable, ExchangeThrottled, CandleDataError
        """
        ...


class MarketClock(Protocol):
    """Market time, in UTC milliseconds."""

    @property
    def settle_ms(self) -> int:
        """How long after its close a bar may still be on its way."""
        ...

    @property
    def waits(self) -> bool:
        """Whether no bar closes before the last one has been dealt with: then there is time to train between two."""
        ...

    def now(self) -> int: ...

    def next_close(self, timeout: float) -> int | None:
        """Time of the newest bar close not yet reported by this method, waiting up to `timeout` seconds for one.

        None if there was none in time. Asking says that everything reported before has been dealt with (a venue in
        lockstep moves on only then). Raises `MarketEnded` when no bar will ever close again.
        """
        ...


class MarketEnded(Exception):
    """The market has no more candles; not an error."""


class Broker(Protocol):
    """Where orders go. Outcomes of `submit` are values, not exceptions; everything else raises ExchangeError."""

    venue: str

    def instruments(self) -> Mapping[str, Instrument]: ...

    def submit(self, order: Order) -> SubmitOutcome: ...

    def cancel(self, order: Order) -> None:
        """Ask for the order's end. Says nothing about the outcome: look it up."""
        ...

    def look_up(self, client_order_id: str, symbol: str) -> OrderReport | None:
        """The order as the venue sees it; None: the venue says it does not know it; no answer raises."""
        ...

    def open_orders(self) -> Sequence[OrderReport]: ...

    def fills(self, symbol: str, since: int) -> Sequence[Fill]:
        """Our executions of `symbol` at or after `since` (market time, ms), oldest first."""
        ...

    def balances(self) -> Mapping[str, Balance]: ...


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A `find` condition: the column is ≥ value."""

    value: Any


class Tx(Protocol):
    """One transaction over frozen dataclass records (everything in domain/ that has a table)."""

    def add(self, record: object) -> bool:
        """Insert; False (and nothing done) if a record with this key is there already."""
        ...

    def update(self, record: object) -> None:
        """Replace the record that has this key (insert if there is none)."""
        ...

    def get(self, kind: type[R], *key: Any) -> R | None: ...

    def find(self, kind: type[R], *, last: int | None = None, **where: Any) -> list[R]:
        """Records in their natural order (oldest first); `last` keeps only the newest so many.

        A `where` value is compared for equality; a list, tuple, set or frozenset means "one of these"; `AtLeast(v)`
        means ≥ v; None means IS NULL.
        """
        ...

    def prune(self, kind: type[object], before: int) -> int:
        """Delete records of a kind with a `time` column older than `before` (ms); how many."""
        ...


class Store(Protocol):
    """Durable records. Leaving `transaction()` normally commits, by an exception rolls back."""

    def transaction(self) -> AbstractContextManager[Tx]: ...

    def reading(self) -> AbstractContextManager[Tx]:
        """A read-only view; cheaper than a transaction and never blocks a writer."""
        ...
