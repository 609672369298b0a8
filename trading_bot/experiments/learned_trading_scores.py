"""Differences between arms that traded the same bars: paired, by the circular block bootstrap, corrected for number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from trading_bot.domain.market import Floats

BLOCK = 168  # bars, a week of hours
DRAWS = 20_000
PATH_DRAWS = 5_000  # of whole curves, for drawdowns
COVERAGE = 0.95
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, its 95 % interval, and the two-sided p of 0."""

    value: float
    low: float
    high: float
    p: float

    @property
    def null(self) -> bool:
        """Whether the interval includes 0."""
        return self.low <= 0 <= self.high


class Blocks:
    """The same draws of blocks for whatever was measured on the same bars, so that differences stay paired.

    Parameters
    ----------
    n : bars
    length : of a block, which wraps around at the end
    """

    def __init__(self, n: int, length: int = BLOCK, draws: int = DRAWS, seed: int = 0) -> None:
        self.n, self.length = n, min(length, n)
        count = max(1, round(n / self.length))
        self.starts = np.random.default_rng(seed).integers(0, n, (draws, count))

    def sums(self, values: Floats) -> Floats:
        """Of each draw, the mean times n: what all bars together would have come to; (draws,)."""
        cumulated = np.concatenate(([0.0], np.cumsum(np.concatenate((values, values[: self.length - 1])))))
        sums = cumulated[self.length :] - cumulated[: -self.length]
        found: Floats = sums[self.starts].mean(axis=1) * (self.n / self.length)
        return found

    def rows(self, draw: int) -> npt.NDArray[np.int64]:
        """The bars of one draw, in order."""
        places = (self.starts[draw][:, None] + np.arange(self.length)).ravel() % self.n
        return np.asarray(places, np.int64)


def estimate(value: float, drawn: Floats) -> Estimate:
    """Percentile interval and p of a figure from what it came to in each draw."""
    low, high = np.quantile(drawn, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    tails = min((drawn <= 0).sum(), (drawn >= 0).sum()) + 1
    return Estimate(value, float(low), float(high), min(1.0, 2 * float(tails) / (len(drawn) + 1)))


def total(values: Floats, blocks: Blocks) -> Estimate:
    """The sum of what was earned more (or less) on each bar."""
    return estimate(float(values.sum()), blocks.sums(values))


def drawdowns(returns: Floats, blocks: Blocks) -> Floats:
    """Deepest fall, as a fraction of the peak, of each arm's curve in each draw; (draws, arms).

    Parameters
    ----------
    returns : (arms, n); a draw takes the same bars of all
    """
    logs = np.log1p(returns)
    found = np.empty((len(blocks.starts), len(returns)))
    for draw in range(len(found)):
        curve = np.cumsum(logs[:, blocks.rows(draw)], axis=1)
        peaks = np.maximum(np.maximum.accumulate(curve, axis=1), 0.0)
        found[draw] = -np.expm1((curve - peaks).min(axis=1))
    return found


def share_interval(hits: int, tried: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a binomial share."""
    if not tried:
        return 0.0, 1.0
    z, share = _NORMAL.inv_cdf((1 + COVERAGE) / 2), hits / tried
    middle = (share + z * z / (2 * tried)) / (1 + z * z / tried)
    reach = z / (1 + z * z / tried) * math.sqrt(share * (1 - share) / tried + z * z / (4 * tried * tried))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def share_by_group(groups: Sequence[tuple[int, int]], seed: int = 0) -> tuple[float, float]:
    """95 % interval of a share whose trials of one group hang together: bootstrap over groups of (hits, tried)."""
    counts = np.array([group for group in groups if group[1]], np.int64).reshape(-1, 2)
    if len(counts) < 2:
        return 0.0, 1.0
    drawn = counts[np.random.default_rng(seed).integers(len(counts), size=(DRAWS, len(counts)))].sum(axis=1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)
