"""Folds in time: each one trains on the past and is judged on what came next."""

from __future__ import annotations

from dataclasses import dataclass

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
    min_train : rows the first fold has before its block, the purged ones included
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
        for name, least in (("num_windows", 1), ("num_steps", 1), ("gap", 0), ("embargo", 0)):
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
        most = int(self.num_windows * self.validation_size)
        if rest < self.num_steps or most < 1:
            self._refuse(first, max(0, min(rest, self.num_steps) if most else 0))
        if first <= self.gap + self.embargo:
            raise TrainingError(
                f"the first fold has {first} rows before its validation block, and gap {self.gap} with embargo "
                f"{self.embargo} take all of them; wanted min_train ≥ {self.gap + self.embargo + 1} "
                f"of {self.num_windows} rows: load more candles or shorten the horizon"
            )
        lengths = np.full(self.num_steps, rest // self.num_steps)
        lengths[: rest % self.num_steps] += 1
        lengths = np.minimum(lengths, most)
        ends = self.num_windows - (lengths.sum() - np.cumsum(lengths))
        trained = int(ends[0] - lengths[0]) - self.gap - self.embargo
        folds = []
        for length, end in zip(lengths.tolist(), ends.tolist(), strict=True):
            stop = end - length - self.gap - self.embargo
            start = 0 if self.expanding else stop - trained
            folds.append((np.arange(start, stop, dtype=np.int64), np.arange(end - length, end, dtype=np.int64)))
        return folds

    def _refuse(self, first: int, fitting: int) -> None:
        would = f"at most {fitting} steps fit" if fitting else "no step fits"
        raise TrainingError(
            f"{self.num_windows} rows with min_train {first} leave {self.num_windows - first} to validate on, too few "
            f"for {self.num_steps} steps of at least one row (validation_size {self.validation_size:g}); {would}: load "
            "more candles, or ask for fewer steps or a smaller min_train"
        )


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise TrainingError(f"{name} is {value!r}; wanted a whole number ≥ {least}")
