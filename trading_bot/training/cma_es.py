"""Covariance matrix adaptation: a minimum of a function that gives nothing but values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from trading_bot.errors import TrainingError
from trading_bot.training.loss_frame import positive

Floats = npt.NDArray[np.float64]


class CMAES:
    """(μ/μ_w, λ)-CMA-ES with rank-one and rank-μ updates and cumulative step-size adaptation.

    Hansen, "The CMA evolution strategy: a tutorial", arXiv 1604.00772, with its default constants. The draws of a
    generation depend on the seed and on the generation's number alone.

    Parameters
    ----------
    mean : (n,), where the search begins, n ≥ 2
    sigma : how far around it
    population : λ; 4 + ⌊3 ln n⌋ if left out

    Attributes
    ----------
    mean : (n,), what it thinks best so far
    generation : how many were told

    Raises
    ------
    TrainingError
        If a number is out of range.
    """

    def __init__(self, mean: Sequence[float] | Floats, sigma: float, population: int | None = None, seed: int = 0):
        self.mean = np.array(mean, np.float64)
        n = len(self.mean)
        self.population = 4 + int(3 * math.log(max(n, 1))) if population is None else population
        if n < 2 or self.population < 4 or not np.isfinite(self.mean).all():
            raise TrainingError(
                f"found a start of {n} numbers and a population of {self.population}; wanted at least 2 finite numbers "
                "and 4 candidates: search one number by trying a few"
            )
        self.sigma, self.seed, self.generation = positive("sigma", sigma), seed, 0
        half = self.population // 2
        raw = math.log((self.population + 1) / 2) - np.log(np.arange(1, half + 1))
        self._weights = raw / raw.sum()
        effective = 1 / float((self._weights**2).sum())  # μ_w
        self._effective = effective
        self._rate_sigma = (effective + 2) / (n + effective + 5)
        self._damping = 1 + 2 * max(0.0, math.sqrt((effective - 1) / (n + 1)) - 1) + self._rate_sigma
        self._rate_path = (4 + effective / n) / (n + 4 + 2 * effective / n)
        self._rate_one = 2 / ((n + 1.3) ** 2 + effective)
        self._rate_mu = min(1 - self._rate_one, 2 * (effective - 2 + 1 / effective) / ((n + 2) ** 2 + effective))
        self._length = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))  # E‖N(0, I)‖
        self._path_sigma, self._path, self._covariance = np.zeros(n), np.zeros(n), np.eye(n)

    def ask(self) -> Floats:
        """The candidates of this generation, (λ, n); the same ones until they are told."""
        axes, lengths = self._axes()
        drawn = np.random.default_rng((self.seed, self.generation)).standard_normal((self.population, len(self.mean)))
        candidates: Floats = self.mean + self.sigma * (drawn * lengths) @ axes.T
        return candidates

    def tell(self, candidates: Floats, costs: Sequence[float] | Floats) -> None:
        """What each of them cost, the lower the better; one that is not finite counts as the worst."""
        if len(candidates) != self.population or len(costs) != self.population:
            raise TrainingError(
                f"found {len(candidates)} candidates and {len(costs)} costs; wanted {self.population} of both, as asked"
            )
        ranked = np.where(np.isfinite(costs), costs, np.inf)
        chosen = candidates[np.argsort(ranked, kind="stable")[: len(self._weights)]]
        axes, lengths = self._axes()
        steps = (chosen - self.mean) / self.sigma
        step = self._weights @ steps
        self.mean = self.mean + self.sigma * step
        self.generation += 1
        whitened = axes @ ((axes.T @ step) / lengths)
        c = self._rate_sigma
        self._path_sigma = (1 - c) * self._path_sigma + math.sqrt(c * (2 - c) * self._effective) * whitened
        far = float(np.linalg.norm(self._path_sigma))
        n = len(self.mean)
        settled = far / math.sqrt(1 - (1 - c) ** (2 * self.generation)) < (1.4 + 2 / (n + 1)) * self._length
        c = self._rate_path
        self._path = (1 - c) * self._path + settled * math.sqrt(c * (2 - c) * self._effective) * step
        lost = (1 - settled) * c * (2 - c)  # variance that the path did not take up
        self._covariance = (
            (1 - self._rate_one - self._rate_mu + self._rate_one * lost) * self._covariance
            + self._rate_one * np.outer(self._path, self._path)
            + self._rate_mu * (steps.T * self._weights) @ steps
        )
        self.sigma *= math.exp(min(1.0, self._rate_sigma / self._damping * (far / self._length - 1)))

    def _axes(self) -> tuple[Floats, Floats]:
        """Principal axes, a column each, and the standard deviation along them."""
        values, axes = np.linalg.eigh((self._covariance + self._covariance.T) / 2)
        return axes, np.sqrt(np.maximum(values, 1e-20))


def minimise(
    cost: Callable[[Floats], float],
    mean: Sequence[float] | Floats,
    sigma: float,
    generations: int,
    population: int | None = None,
    seed: int = 0,
) -> Floats:
    """Where CMA-ES thinks `cost` is lowest after so many generations, (n,)."""
    search = CMAES(mean, sigma, population, seed)
    for _ in range(generations):
        candidates = search.ask()
        search.tell(candidates, [cost(candidate) for candidate in candidates])
    return search.mean
