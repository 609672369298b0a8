"""Windows and targets for the trainer: normalised by the training rows alone, batched by slicing.

The data is in memory, so a batch is one indexing operation over all its rows. PyTorch's own DataLoader takes one item
at a time and stacks them, which is several times slower (`benchmarks/features.py`); a Trainer takes either.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from trading_bot.errors import TrainingError
from trading_bot.features.columns import Features
from trading_bot.training.prepared_data import PreparedData, prepare_data
from trading_bot.training.statistics import SMALLEST, column_statistics, finite_windows
from trading_bot.training.walk_forward import Rows, WalkForwardValidator

__all__ = [
    "BatchLoader",
    "PreparedData",
    "TimeSeriesDataset",
    "WalkForwardValidator",
    "create_data_loaders",
    "create_walk_forward_loaders",
    "prepare_data",
]

Batch = tuple[torch.Tensor, torch.Tensor]


class TimeSeriesDataset(Dataset[Batch]):
    """Windows X (n, time, features) and targets y (n,) or (n, H), normalised feature by feature when a batch is taken.

    No window is copied before: X may be a strided view over a matrix. A feature that does not move in the training rows
    is centred and not divided.

    Parameters
    ----------
    X : float32 (n, time, features) (other numbers are converted, which copies); (n, features) is taken too
    y : (n,) or (n, H)
    normalize : subtract the mean, divide by the standard deviation of each feature
    mean, std : float32 (features,), those of the training part for a validation or test set; computed from X if absent
    nan : what a value that is not finite does: "error", or "drop" its window

    Attributes
    ----------
    X : float32, all windows that were given, those that were dropped too
    mean, std : float32 (features,), or None with `normalize=False`; std is 1 where a feature does not move
    y : float32 (n, H), without those that were dropped

    Raises
    ------
    TrainingError
        If shapes or lengths do not fit, there is no row, a value is not finite, or statistics are of another width.
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        normalize: bool = True,
        mean: Any = None,
        std: Any = None,
        *,
        nan: Literal["error", "drop"] = "error",
    ) -> None:
        self.X, self.y = _windows(X), _targets(y)
        if len(self.X) != len(self.y):
            raise TrainingError(f"X has {len(self.X)} rows and y {len(self.y)}; wanted one target for each window")
        if nan not in ("error", "drop"):
            raise TrainingError(f"nan is {nan!r}; wanted 'error' or 'drop'")
        good = self._finite(nan)
        self._kept = None if good is None else np.flatnonzero(good)
        self.y = self.y if good is None else self.y[good]
        if (mean is None) != (std is None):
            raise TrainingError("found only one of mean and std; wanted both (of the training part) or neither")
        self.mean: npt.NDArray[np.float32] | None = None
        self.std: npt.NDArray[np.float32] | None = None
        if normalize:
            self.mean, self.std = column_statistics(self.X, good) if mean is None else self._given(mean, std)
            self._factor = 1 / self.std

    def _finite(self, nan: str) -> npt.NDArray[np.bool_] | None:
        """Which rows are to be kept; None for all."""
        good: npt.NDArray[np.bool_] = finite_windows(self.X) & np.isfinite(self.y).all(axis=1)
        if good.all():
            return None
        if nan == "error":
            row = int(np.flatnonzero(~good)[0])
            raise TrainingError(
                f"row {row} of {len(good)} holds a value that is not finite ({int((~good).sum())} rows do); "
                "mend the data, or pass nan='drop' to leave those windows out"
            )
        if not good.any():
            raise TrainingError(f"all {len(good)} rows hold a value that is not finite; none is left to train on")
        return good

    def _given(self, mean: Any, std: Any) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        given = [np.array(values, np.float32).reshape(-1) for values in (mean, std)]
        for name, values in zip(("mean", "std"), given, strict=True):
            if len(values) != self.X.shape[-1] or not np.isfinite(values).all():
                raise TrainingError(
                    f"{name} has {len(values)} values; wanted a finite one for each of {self.X.shape[-1]} features"
                )
        return given[0], np.where(given[1] >= SMALLEST, given[1], np.float32(1))

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, row: int) -> Batch:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        X, y = self.batch(np.array([row % len(self)]))
        return X[0], y[0]

    def batch(self, rows: Rows | slice) -> Batch:
        """The windows (B, time, features) and targets (B, H) of `rows`, float32, in memory of their own."""
        chosen = rows if self._kept is None else self._kept[rows]
        part = self.X[chosen]  # a copy already, unless it is a slice
        X = np.array(part, order="C", copy=isinstance(chosen, slice) or None)
        if self.mean is not None:  # by numpy: so little work is done before PyTorch has woken its threads
            np.subtract(X, self.mean, out=X)
            np.multiply(X, self._factor, out=X)
        return torch.from_numpy(X), torch.from_numpy(np.array(self.y[rows]))


class BatchLoader:
    """Batches of a dataset, again in another order at each epoch if shuffled.

    The order is a function of seed and epoch alone, so that a training that was interrupted goes on with the same one.

    Parameters
    ----------
    dataset : what to batch
    batch_size : rows a batch
    shuffle : a new order at every epoch
    drop_last : leave out a last batch that is not full
    seed : of the order
    max_batches : end an epoch after so many (of a shuffled order: another sample at every epoch); None: all rows
    """

    def __init__(
        self,
        dataset: TimeSeriesDataset,
        batch_size: int = 32,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        max_batches: int | None = None,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("max_batches", 1 if max_batches is None else max_batches)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise TrainingError(f"{name} is {value!r}; wanted a whole number ≥ 1")
        if drop_last and len(dataset) < batch_size:
            raise TrainingError(
                f"{len(dataset)} rows make no full batch of {batch_size} and drop_last leaves nothing; "
                "wanted a smaller batch_size or drop_last=False"
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.seed = seed
        self.max_batches = max_batches
        self.least = 1  # a last batch of fewer rows joins the one before it; the Trainer sets what its model needs
        self.epoch = 0

    def _bounds(self) -> list[int]:
        rows, size = len(self.dataset), self.batch_size
        bounds = list(range(0, rows + 1 if rows % size == 0 or self.drop_last else rows, size))
        if bounds[-1] != rows and not self.drop_last:
            bounds.append(rows)
        if len(bounds) > 2 and bounds[-1] - bounds[-2] < self.least:
            del bounds[-2]
        return bounds if self.max_batches is None else bounds[: self.max_batches + 1]

    def __len__(self) -> int:
        return len(self._bounds()) - 1

    def __iter__(self) -> Iterator[Batch]:
        bounds, epoch = self._bounds(), self.epoch
        self.epoch += 1
        if not self.shuffle:
            for start, end in pairwise(bounds):
                yield self.dataset.batch(slice(start, end))
            return
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.dataset))
        for start, end in pairwise(bounds):
            yield self.dataset.batch(order[start:end])


def create_data_loaders(
    X: Any,
    y: Any,
    batch_size: int = 32,
    validation_split: float = 0.2,
    normalize: bool = True,
    shuffle: bool = True,
    drop_last: bool = False,
    gap: int = 0,
    *,
    seed: int = 0,
) -> tuple[BatchLoader, BatchLoader]:
    """Loaders of the older rows (to train on) and of the newest (to validate on).

    Parameters
    ----------
    X, y : as of `TimeSeriesDataset`, oldest first
    validation_split : share of the rows, the newest, to validate on
    normalize : by the statistics of the training rows, in both
    shuffle, drop_last : of the training loader
    gap : rows purged between the two: the label's horizon
    seed : of the shuffling

    Raises
    ------
    TrainingError
        If a part would be empty, or as `TimeSeriesDataset`.
    """
    windows, targets = _windows(X), _targets(y)
    if not 0 < validation_split < 1:
        raise TrainingError(
            f"validation_split is {validation_split!r}; wanted a share above 0 and below 1, such as 0.2"
        )
    if isinstance(gap, bool) or not isinstance(gap, int | np.integer) or gap < 0:
        raise TrainingError(f"gap is {gap!r}; wanted a whole number ≥ 0: the label's horizon")
    start = len(windows) - round(len(windows) * validation_split)
    if start - gap < 1 or start >= len(windows):
        raise TrainingError(
            f"{len(windows)} rows with validation_split {validation_split:g} and gap {gap} leave {max(0, start - gap)} "
            f"to train on and {len(windows) - start} to validate on; wanted at least one each: load more candles"
        )
    train, held = np.arange(start - gap), np.arange(start, len(windows))
    return _pair(windows, targets, train, held, batch_size, normalize, shuffle, drop_last, seed)


def create_walk_forward_loaders(
    X: Any,
    y: Any,
    batch_size: int = 32,
    validation_fraction: float = 0.2,
    num_steps: int = 12,
    normalize: bool = True,
    *,
    gap: int = 0,
    embargo: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
    seed: int = 0,
) -> list[tuple[BatchLoader, BatchLoader]]:
    """A pair of loaders for each fold of `WalkForwardValidator`, normalised by that fold's training rows."""
    windows, targets = _windows(X), _targets(y)
    folds = WalkForwardValidator(len(windows), validation_fraction, num_steps, gap, embargo).get_splits()
    return [
        _pair(windows, targets, train, held, batch_size, normalize, shuffle, drop_last, seed) for train, held in folds
    ]


def _pair(
    X: Features, y: Features, train: Rows, held: Rows, batch_size: int, normalize: bool, shuffle: bool,
    drop_last: bool, seed: int,
) -> tuple[BatchLoader, BatchLoader]:  # fmt: skip
    if len(X) != len(y):
        raise TrainingError(f"X has {len(X)} rows and y {len(y)}; wanted one target for each window")
    part, rest = (slice(int(rows[0]), int(rows[-1]) + 1) for rows in (train, held))  # views, nothing is copied
    older = TimeSeriesDataset(X[part], y[part], normalize)
    newer = TimeSeriesDataset(X[rest], y[rest], normalize, older.mean, older.std)
    return BatchLoader(older, batch_size, shuffle, drop_last, seed), BatchLoader(newer, max(batch_size, 256))


def _windows(X: Any) -> Features:
    array = _numbers("X", X)
    if array.ndim not in (2, 3) or not all(array.shape):
        raise TrainingError(f"X has shape {array.shape}; wanted (rows, time, features), none of them 0")
    return array


def _targets(y: Any) -> Features:
    array = _numbers("y", y)
    if array.ndim not in (1, 2) or not all(array.shape):
        raise TrainingError(f"y has shape {array.shape}; wanted (rows,) or (rows, horizon), none of them 0")
    return array.reshape(len(array), -1)


def _numbers(name: str, values: Any) -> Features:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()  # NumPy has no bfloat16
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise TrainingError(f"{name} is no array ({error}); wanted numbers, best float32") from None
    if array.dtype == np.float32:
        return array
    if array.dtype.kind not in "fiu":
        raise TrainingError(f"{name} is an array of {array.dtype}; wanted numbers, best float32")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
        return array.astype(np.float32)
