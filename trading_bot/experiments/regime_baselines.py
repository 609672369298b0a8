"""A detector to beat: volatility alone, cut where it pays best."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
import talib

from trading_bot.domain.market import Candles, Floats
from trading_bot.experiments.regime_scores import Codes
from trading_bot.learn.regime_detector import REGIMES


@dataclass(frozen=True, slots=True)
class VolatilityThreshold:
    """The naive detector: volatility against its own history, cut at three thresholds tuned on the tuning markets.

    `order` says which regime each of the four bands, from the calmest, is taken for.
    """

    thresholds: tuple[float, float, float]
    order: tuple[int, int, int, int]

    def tell(self, ratio: Floats) -> Codes:
        return np.array(self.order, np.int8)[np.digitize(ratio, self.thresholds)]

    @staticmethod
    def ratio(candles: Candles, period: int = 24, history: int = 480) -> Floats:
        """Logarithm of the standard deviation of the last 24 returns against that of the last 480; float64 (n,)."""
        returns = np.diff(np.log(candles.close), prepend=np.log(candles.close[:1]))
        short, long = talib.STDDEV(returns, period), talib.STDDEV(returns, history)
        return np.asarray(np.log(np.maximum(short, 1e-12) / np.maximum(long, 1e-12)))

    @classmethod
    def tuned(cls, ratio: Floats, truth: Codes) -> VolatilityThreshold:
        """The best macro-F1 over a grid of thresholds and all orders of regimes (coordinate ascent from quartiles)."""
        grid = np.quantile(ratio, np.linspace(0.04, 0.96, 24))
        bins = np.digitize(ratio, grid)
        cumulative = np.zeros((len(grid) + 2, len(REGIMES)))
        np.add.at(cumulative[1:], (bins, truth), 1)
        cumulative = cumulative.cumsum(axis=0)  # bars of each regime below each cut
        total = cumulative[-1]
        best_score, best = -1.0, (0, 0, 0)
        chosen, orders = (0, 1, 2, 3), [(a, b, c, d) for a, b, c, d in permutations(range(4))]
        for cuts in combinations(range(len(grid)), 3):
            edges = np.array([0, *(cut + 1 for cut in cuts), len(grid) + 1])
            inside = np.diff(cumulative[edges], axis=0)  # (band, regime)
            score_of = 2 * inside / (total[None, :] + inside.sum(axis=1)[:, None])
            for order in orders:
                score = float(score_of[np.arange(4), order].mean())
                if score > best_score:
                    best_score, best, chosen = score, cuts, order
        return cls((float(grid[best[0]]), float(grid[best[1]]), float(grid[best[2]])), chosen)
