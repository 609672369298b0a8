"""Folds in time: each one trains on the past and is judged on what came next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from trading_bot.errors import TrainingError

Rows = npt.NDArray[np.int64]

LEAST_TRAIN = 0.4  # share of the rows the first fold trains on, unless `min_train` says otherwise


@dataclass(frozen=True)
class WalkForwardValidator:
    """Cuts `num_windows` rows, oldest first, into `num_steps` folds.

    The first `min_train` rows (40 % of all unless given) are only ever trained on. The rest is cut into `num_steps`
    consecutive validation blocks of equal length (the earlier ones a row longer where it does not divide). Where
    `validation_size` makes them shorter than that, they are the newest ones: a fold then trains on more.

    Parameters
    ----------
    num_windows : rows in all
    validation_size : most a block may hold, as a share of all rows
    num_steps : folds
    gap : rows purged between training and validation: the label's horizon, so that no label reaches into the block
    embargo : further rows left out before the block, for what is correlated beyond the label
    min_train : least rows before the first block, the purged ones included
    expanding : train on everything before the block; otherwise on as many rows as the first fold does
    """

    num_windows: int
    validation_size: float = 0.2
    num_steps: int = 12
    gap: int = 0
    embargo: int = 0
    min_train: int | None = None
    expanding: bool = True

    def __post_init__(self) -> None:
        for name, least in (("num_windows", 2), ("num_steps", 1), ("gap", 0), ("embargo", 0)):
            _whole(name, getattr(self, name), least)
        if self.min_train is not None:
            _whole("min_train", self.min_train, 1)
        if not 0 < self.validation_size < 1:
            raise TrainingError(
                f"validation_size is {self.validation_size!r}; wanted a share of all rows above 0 and below 1"
            )

    def get_splits(self) -> list[tuple[Rows, Rows]]:
        """(train rows, validation rows) of each fold, oldest first; both ascending, never empty, never overlapping.

        Raises
        ------
        TrainingError
            If there are not enough rows for what is asked; the message says what would fit.
        """
        first = self.min_train if self.min_train is not None else int(self.num_windows * LEAST_TRAIN)
        rest = self.num_windows - first
        most = int(self.num_windows * self.validation_size + 1e-9)  # 0.29 of 100 rows are 29
        if most < 1:
            raise TrainingError(
                f"validation_size {self.validation_size:g} of {self.num_windows} rows is less than a row; wanted a "
                f"larger share, such as {1.5 / self.num_windows:.3g}"
            )
        if rest < self.num_steps:
            self._refuse(first, f"leaves {max(0, rest)} to validate on")
        lengths = np.full(self.num_steps, rest // self.num_steps)
        lengths[: rest % self.num_steps] += 1
        lengths = np.minimum(lengths, most)
        ends = self.num_windows - (lengths.sum() - np.cumsum(lengths))
        trained = int(ends[0] - lengths[0]) - self.gap - self.embargo
        if trained < 1:
            self._refuse(first, "leaves the first fold none to train on")
        folds = []
        for length, end in zip(lengths.tolist(), ends.tolist(), strict=True):
            stop = end - length - self.gap - self.embargo
            start = 0 if self.expanding else stop - trained
            folds.append((np.arange(start, stop, dtype=np.int64), np.arange(end - length, end, dtype=np.int64)))
        return folds

    def _refuse(self, first: int, why: str) -> NoReturn:
        least = self.gap + self.embargo + 1  # rows before the first block, of which one is trained on
        fitting = min(self.num_steps, self.num_windows - least)
        if fitting < 1:
            would = f"wanted at least {least + self.num_steps} rows, with min_train {least}"
        else:
            would = f"min_train {max(least, min(first, self.num_windows - fitting))} with {fitting} steps would fit"
        raise TrainingError(
            f"min_train {first} of {self.num_windows} rows, with gap {self.gap} and embargo {self.embargo}, {why}: too "
            f"little for {self.num_steps} steps of at least one row; {would}, or load more candles"
        )


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise TrainingError(f"{name} is {value!r}; wanted a whole number ≥ {least}")
