"""How well regimes are told: confusion, F1, lag, and what the evidence page is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from trading_bot.domain.market import Floats
from trading_bot.market_data.synthetic_dynamics import REGIMES

Codes = npt.NDArray[np.int8]
Counts = npt.NDArray[np.int64]


def confusion(truth: Codes, told: Codes) -> Counts:
    """Bars by true (row) and told (column) regime; (4, 4)."""
    counts: Counts = np.zeros((len(REGIMES), len(REGIMES)), np.int64)
    np.add.at(counts, (truth, told), 1)
    return counts


def f1(counts: Counts) -> Floats:
    """F1 of each regime, 2·hits / (true + told); 0 where a regime neither came nor was told."""
    hits = np.diag(counts).astype(np.float64)
    return np.asarray(2 * hits / np.maximum(counts.sum(axis=0) + counts.sum(axis=1), 1))


def lags(truth: Codes, told: Codes) -> tuple[list[int], int]:
    """Bars from each true change until the new regime is told for the first time, and how many spells were missed.

    A spell whose regime is told already at its first bar has lag 0.
    """
    starts = np.flatnonzero(np.diff(truth)) + 1
    found: list[int] = []
    missed = 0
    for start, end in pairwise([*starts.tolist(), len(truth)]):
        hits = np.flatnonzero(told[start:end] == truth[start])
        if len(hits):
            found.append(int(hits[0]))
        else:
            missed += 1
    return found, missed


def spell_lengths(told: Codes) -> list[list[int]]:
    """Lengths of the spells of each regime, in bars; the last one as far as it got."""
    edges = [0, *(np.flatnonzero(np.diff(told)) + 1).tolist(), len(told)]
    lengths: list[list[int]] = [[] for _ in REGIMES]
    for start, end in pairwise(edges):
        lengths[int(told[start])].append(end - start)
    return lengths


def bootstrap(values: Sequence[float], seed: int = 0, draws: int = 4_000) -> tuple[float, float]:
    """95 % percentile interval of the mean, resampling whole markets or days; NaN without values."""
    if not len(values):
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    sample = np.asarray(values, np.float64)
    means = sample[random.integers(len(sample), size=(draws, len(sample)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@dataclass(slots=True)
class Score:
    """One detector over several markets: F1 per market and regime, the sum of confusions, all lags."""

    name: str
    per_market: list[Floats] = field(default_factory=list)
    counts: Counts = field(default_factory=lambda: np.zeros((4, 4), np.int64))
    found: list[int] = field(default_factory=list)
    missed: int = 0
    changes: list[float] = field(default_factory=list)  # told changes for each true one, by market

    def add(self, pairs: Sequence[tuple[Codes, Codes]]) -> None:
        """Take up one market: (truth, told) of each of its symbols."""
        counts = np.sum([confusion(truth, told) for truth, told in pairs], axis=0)
        self.counts = self.counts + counts
        self.per_market.append(f1(counts))
        for truth, told in pairs:
            found, missed = lags(truth, told)
            self.found += found
            self.missed += missed
        told_changes = sum(int((np.diff(told) != 0).sum()) for _, told in pairs)
        self.changes.append(told_changes / max(1, sum(int((np.diff(truth) != 0).sum()) for truth, _ in pairs)))

    @property
    def macro(self) -> float:
        """Mean over markets of the mean over regimes."""
        return float(np.mean([scores.mean() for scores in self.per_market]))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of `macro`, markets resampled."""
        return bootstrap([float(scores.mean()) for scores in self.per_market])


@dataclass(frozen=True, slots=True)
class Calibration:
    """How often a stated confidence was right: bins of width 0.1 from 0.3 on."""

    stated: Floats
    right: Floats
    share: Floats


@dataclass(frozen=True, slots=True)
class RealRegime:
    """What one regime was on one real market. The next day's numbers have 95 % bootstrap intervals over days."""

    market: str
    regime: str
    share: float
    mean_bars: float
    days: int
    next_return: float  # of the 24 bars after, mean of the logarithm
    next_return_interval: tuple[float, float]
    next_volatility: float  # standard deviation of the next 24 returns, times √24
    next_volatility_interval: tuple[float, float]


@dataclass(slots=True)
class Findings:
    bars: int
    main: Score
    unseen_seeds: Score
    baselines: list[Score]
    patience: list[Score]
    calibration: Calibration
    real: list[RealRegime]
    hashes: dict[str, str]
    seconds: float = 0.0
