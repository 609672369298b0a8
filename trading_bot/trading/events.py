"""What may happen to the bot: the messages on its one queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trading_bot.domain.journal import Command
from trading_bot.domain.market import Candles
from trading_bot.trading.learning import Lesson


@dataclass(frozen=True, slots=True)
class BarsClosed:
    """All bars that opened at `time` (ms) have closed; each symbol's anchored window ends with its bar.

    `late`: newer bars have closed too, so this one is shown to strategies but no entry may rest on it.
    """

    time: int
    candles: Mapping[str, Candles]
    late: bool = False


@dataclass(frozen=True, slots=True)
class OrdersDue:
    """Time to ask what became of open orders."""


@dataclass(frozen=True, slots=True)
class ReconcileDue:
    """Time to compare our books with the venue's."""


@dataclass(frozen=True, slots=True)
class CommandGiven:
    command: Command


@dataclass(frozen=True, slots=True)
class TrainingFinished:
    lesson: Lesson


@dataclass(frozen=True, slots=True)
class TrainingFailed:
    """Nothing came of a training as of the bar at `time` (ms); what was in use stays."""

    time: int
    cause: str


@dataclass(frozen=True, slots=True)
class Promoted:
    """The registry has other champions than those in use: the user promoted, or went back."""


@dataclass(frozen=True, slots=True)
class Stop:
    reason: str


Event = BarsClosed | OrdersDue | ReconcileDue | CommandGiven | TrainingFinished | TrainingFailed | Promoted | Stop
