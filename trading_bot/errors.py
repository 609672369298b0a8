"""The exceptions this program raises on purpose. Each message says what was found, what was wanted and what to do.

TradingBotError                 exit code 1
├── ConfigurationError          exit code 4: a file, key, value or strategy the user can mend
│   └── StrategyError           a strategy file or class that cannot be loaded
├── CandleDataError             candles that are missing, garbled or inconsistent
├── TrainingError               data, shapes or settings no training can begin with, or numbers that ceased to be finite
│   ├── CheckpointError         a checkpoint that is absent, cut short, changed, foreign or made for something else
│   └── TrainingDiverged        many steps in a row whose loss was not finite
├── ExchangeError               the venue could not be asked, or said something that makes no sense
│   ├── ExchangeUnreachable     no answer: try again later
│   ├── ExchangeThrottled       asked too often: wait `retry_after` seconds
│   └── ExchangeDenied          the key is wrong, revoked or lacks a permission: trading must stop
├── StorageError                the database cannot be opened, written or migrated
│   └── NoDatabase              there is none yet: the bot has not run
├── NotRunning                  exit code 3: a control verb found no daemon
├── AlreadyRunning              a second daemon on the same data
├── CommandTimeout              exit code 5: the daemon did not answer in time
└── InvalidTransition           an order was told to move to a state its table does not allow: a defect of ours
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST_LISTED = 20


class TradingBotError(Exception):
    """Base of every error this program raises on purpose; its text is fit for a user."""

    exit_code = 1


class ConfigurationError(TradingBotError):
    """A configuration file, key or value is wrong."""

    exit_code = 4


class StrategyError(ConfigurationError):
    """A strategy file or class cannot be loaded or breaks its contract."""


class CandleDataError(TradingBotError):
    """Candles are missing, garbled or inconsistent."""


class TrainingError(TradingBotError, ValueError):
    """A training cannot begin, or cannot go on; also a ValueError, as users of PyTorch and scikit-learn expect."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be read, is not what was written, or belongs to something else."""


class TrainingDiverged(TrainingError):
    """Step after step had a loss that was not finite: the training cannot recover by itself."""


class TrainingStopped(TrainingError):
    """Whoever asked for the training wants it no more; nothing of it is kept."""


class ExchangeError(TradingBotError):
    """The venue could not be asked, or answered nonsense."""


class ExchangeUnreachable(ExchangeError):
    """No usable answer came back; the question may be asked again later."""


class ExchangeThrottled(ExchangeError):
    """The venue asked for fewer requests."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ExchangeDenied(ExchangeError):
    """The venue refuses our key; nothing may be traded until a person has looked."""


class StorageError(TradingBotError):
    """The database cannot be opened, written or migrated."""


class NoDatabase(StorageError):
    """There is no database yet."""


class NotRunning(TradingBotError):
    """A control verb found no running daemon."""

    exit_code = 3


class AlreadyRunning(TradingBotError):
    """Another daemon already works on the same data."""


class CommandTimeout(TradingBotError):
    """The daemon did not deal with a command in time."""

    exit_code = 5


class InvalidTransition(TradingBotError):
    """An order was moved along an arrow that its state table does not have."""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """Words for a name that is not in a table: what was found, the nearest that is, and what there is."""
    names = list(known)
    listed = names if len(names) <= MOST_LISTED else [*names[:MOST_LISTED], f"… and {len(names) - MOST_LISTED} more"]
    near = difflib.get_close_matches(str(name).lower(), [each.lower() for each in names], n=1)
    hint = next((f"did you mean {each!r}? " for each in names if near and each.lower() == near[0]), "")
    return f"unknown {kind} {name!r}; {hint}there are {', '.join(listed)}"
