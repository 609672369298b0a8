"""From features to a probability of each regime, and from probabilities to a regime that does not flicker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trading_bot.domain.market import Floats


def filtered(features: Sequence[Floats]) -> Floats:
    """Probability of each regime; (n, 4)."""
    _, efficiency, choppiness, ratio = features
    scores = np.stack([6 * efficiency - 2, -1.5 * ratio - 0.5, 3 * ratio - 1, 6 * choppiness - 3.5], axis=1)
    scores = np.where(np.isfinite(scores), scores, 0.0)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    posterior: Floats = weights / weights.sum(axis=1, keepdims=True)
    return posterior


def settled(posterior: Floats, min_bars: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """The regime after each bar, a new one only after leading `min_bars` bars in a row, and its probability."""
    best = posterior.argmax(axis=1)
    codes = np.empty(len(best), np.int8)
    current, candidate, lasted = int(best[0]), -1, 0
    for row, one in enumerate(best.tolist()):
        lasted = lasted + 1 if one == candidate else 1
        candidate = one
        if one != current and lasted >= min_bars:
            current = one
        codes[row] = current
    return codes, posterior[np.arange(len(best)), codes]
