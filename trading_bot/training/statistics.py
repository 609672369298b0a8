"""Statistics of windows that overlap, without unfolding them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trading_bot.domain.market import Floats
from trading_bot.features.columns import Features

CHUNK = 16_384  # rows looked at in one go
SMALLEST = np.finfo(np.float32).tiny  # a standard deviation below has no inverse in float32


def column_statistics(
    X: Features, keep: npt.NDArray[np.bool_] | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and standard deviation (ddof 0) of each feature over all windows and bars.

    Computed in float64. A feature that moves less than float32 can tell from its mean counts as constant: its
    standard deviation is given as 1.

    Parameters
    ----------
    X : float32 (n, time, F) or (n, F)
    keep : (n,), the windows that count, at least one; all if absent

    Returns
    -------
    two float32 (F,)
    """
    rows, weights = _distinct(X, np.ones(len(X), np.bool_) if keep is None else keep)
    total = weights.sum()
    mean = _weighted_sum(rows, weights, None) / total
    std = np.sqrt(_weighted_sum(rows, weights, mean) / total)
    still = (std <= 1e-7 * np.abs(mean)) | (std < SMALLEST)
    return mean.astype(np.float32), np.where(still, 1, std).astype(np.float32)


def finite_windows(X: Features) -> npt.NDArray[np.bool_]:
    """Which of the windows X (n, time, F) hold finite numbers only."""
    n = len(X)
    if not _slides(X):
        return np.concatenate([np.isfinite(X[at : at + CHUNK]).reshape(len(X[at : at + CHUNK]), -1).all(axis=1)
                               for at in range(0, n, CHUNK)])  # fmt: skip
    rows, _ = _distinct(X, np.ones(n, np.bool_))
    good = np.concatenate([np.isfinite(rows[at : at + CHUNK]).all(axis=1) for at in range(0, len(rows), CHUNK)])
    bad_before = np.concatenate(([0], np.cumsum(~good)))
    return bad_before[X.shape[1] :] == bad_before[:n]  # type: ignore[no-any-return]


def _slides(X: Features) -> bool:
    """Whether X is a view in which each window is the one before, moved by a row."""
    return X.ndim == 3 and X.shape[1] > 1 and X.strides[0] == X.strides[1]


def _distinct(X: Features, keep: npt.NDArray[np.bool_]) -> tuple[Features, Floats]:
    """Rows (m, F) that hold every bar, and how many of the windows that count each is in."""
    if X.ndim == 2:
        return X, keep.astype(np.float64)
    n, time, width = X.shape
    if not _slides(X):
        return X.reshape(n * time, width), np.repeat(keep, time).astype(np.float64)
    rows = np.lib.stride_tricks.as_strided(X, (n + time - 1, width), X.strides[1:], writeable=False)
    place, before = np.arange(n + time - 1), np.concatenate(([0], np.cumsum(keep)))
    weights = before[np.minimum(place + 1, n)] - before[np.maximum(place + 1 - time, 0)]
    return rows, weights.astype(np.float64)


def _weighted_sum(rows: Features, weights: Floats, centre: Floats | None) -> Floats:
    """Σ w·x of each column, or Σ w·(x - centre)²."""
    total = np.zeros(rows.shape[1])
    for at in range(0, len(rows), CHUNK):
        part, weight = rows[at : at + CHUNK].astype(np.float64), weights[at : at + CHUNK]
        part[weight == 0] = 0  # may hold what is not finite
        if centre is not None:
            part -= centre
            np.square(part, out=part)
        total += weight @ part
    return total
