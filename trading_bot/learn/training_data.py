"""A strategy's training and validation rows: checked, in one dtype, cut into batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trading_bot.errors import TrainingError
from trading_bot.learn.training_config import LossName, TrainingConfig

Array = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Rows in time order, oldest first; float32 or float64 throughout.

    Attributes
    ----------
    X : (n, d), or (n, …) for a network; not copied where its dtype is float32 or float64
    y : (n,)
    weights : (n,), mean 1
    X_val, y_val : (m, …), (m,)
    loss : what is minimised
    """

    X: Array
    y: Array
    weights: Array
    X_val: Array
    y_val: Array
    loss: LossName


def prepare(
    X_train: Any, y_train: Any, X_val: Any, y_val: Any, config: TrainingConfig,
    *, flat: bool = True, loss: LossName | None = None, known_finite: Callable[[Array], bool] = lambda X: False,
) -> TrainingData:  # fmt: skip
    """Check everything and choose the loss.

    float32 stays float32, all else becomes float64: features come as float32 from the feature table and a cast would
    copy them all, while nothing is gained by computing in less than what was given.

    Parameters
    ----------
    flat : whether X must have two dimensions
    loss : what an earlier epoch decided, where the config leaves it open
    known_finite : says that an array was looked through before

    Raises
    ------
    TrainingError
        If a shape, dtype, length or number is not as wanted.
    """
    X = _matrix("X_train", X_train, None, flat=flat)
    later = _matrix("X_val", X_val, X.dtype, flat=flat)
    if X.shape[1:] != later.shape[1:]:
        raise TrainingError(f"X_val has rows of shape {later.shape[1:]}, X_train of {X.shape[1:]}; wanted the same")
    y, y_later = _targets("y_train", y_train, X), _targets("y_val", y_val, later)
    for name, array in (("X_train", X), ("X_val", later)):
        if not known_finite(array):
            _check_finite(name, array)
    for name, array in (("y_train", y), ("y_val", y_later)):
        _check_finite(name, array)
    chosen = _loss(config.loss or loss, y, y_later)
    return TrainingData(X, y, sample_weights(len(y), X.dtype, ramp=config.sample_weights), later, y_later, chosen)


def check_rows(name: str, given: Any, *, flat: bool = True) -> Array:
    """Rows to predict from, checked as `prepare` checks them.

    Raises
    ------
    TrainingError
    """
    X = _matrix(name, given, None, flat=flat)
    _check_finite(name, X)
    return X


def sample_weights(rows: int, dtype: npt.DTypeLike = np.float64, *, ramp: bool = True) -> Array:
    """Linear from 0.5 for the oldest row to 1.5 for the newest, mean 1; all 1 without `ramp`. (rows,)."""
    if not ramp or rows == 1:
        return np.ones(rows, dtype)
    weights: Array = np.linspace(0.5, 1.5, rows).astype(dtype)
    return weights


def batch_order(config: TrainingConfig, epoch: int, batches: int) -> npt.NDArray[np.int64]:
    """In which order an epoch visits its batches, which are runs of `batch_size` rows; the last may be smaller.

    Drawn from the seed and the epoch alone, so that a training that is resumed sees what it would have seen.
    """
    return np.random.default_rng((int(config.seed), epoch)).permutation(batches)


def count_batches(rows: int, config: TrainingConfig) -> int:
    """How many steps an epoch has."""
    return -(-rows // int(config.batch_size))


def batch_rows(rows: int, config: TrainingConfig) -> npt.NDArray[np.int64]:
    """How many rows each batch has."""
    size = int(config.batch_size)
    return np.minimum(size, rows - size * np.arange(count_batches(rows, config)))


def _matrix(name: str, given: Any, dtype: npt.DTypeLike | None, *, flat: bool) -> Array:
    array = _array(name, given)
    if array.ndim < 2 or (flat and array.ndim != 2):
        raise TrainingError(f"{name} has shape {array.shape}; wanted {'(n, d)' if flat else '(n, …)'}")
    if not array.size:
        raise TrainingError(f"{name} is empty, with shape {array.shape}; wanted at least one row and one column")
    wanted = dtype or (np.float32 if array.dtype == np.float32 else np.float64)
    with np.errstate(over="ignore"):  # what is too large becomes infinite and is told as such
        return array.astype(wanted, copy=False)


def _targets(name: str, given: Any, X: Array) -> Array:
    array = _array(name, given)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise TrainingError(f"{name} has shape {array.shape}; wanted (n,) or (n, 1)")
    if len(array) != len(X):
        raise TrainingError(f"{name} has {len(array)} rows, X{name[1:]} has {len(X)}; wanted as many")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, X.dtype)


def _array(name: str, given: Any) -> npt.NDArray[Any]:
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TrainingError(f"{name} is no array of numbers: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TrainingError(f"{name} has dtype {array.dtype}; wanted real numbers, float32 or float64")
    return array


def _check_finite(name: str, array: Array) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        place = tuple(int(each) for each in np.argwhere(~finite)[0])
        raise TrainingError(
            f"{name} holds {array.size - np.count_nonzero(finite)} numbers that are not finite, the first at {place}; "
            "wanted none: drop those rows or mend the features"
        )


def _loss(wanted: LossName | None, y: Array, y_val: Array) -> LossName:
    odd = [(name, labels) for name, labels in (("y_train", y), ("y_val", y_val)) if not _labels(labels)]
    if wanted == "log_loss" and odd:
        name, labels = odd[0]
        other = labels[(labels != 0) & (labels != 1)][0]
        raise TrainingError(f"{name} holds {other:g}, but log_loss wants 0 and 1 only; or set loss='squared_error'")
    return wanted or ("squared_error" if odd else "log_loss")


def _labels(y: Array) -> bool:
    return bool(((y == 0) | (y == 1)).all())
