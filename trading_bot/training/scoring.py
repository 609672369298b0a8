"""How good forecasts of returns were."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trading_bot.domain.market import Floats
from trading_bot.errors import TrainingError

DRAWS = 2_000  # of the bootstrap
COVERAGE = 0.95
FEWEST = 4  # blocks


@dataclass(frozen=True, slots=True)
class Score:
    """One arm's score over rows that were not trained on.

    Attributes
    ----------
    rows : how many
    mae, rmse : of the return
    skill : 1 - MSE / MSE of the zero forecast: above 0 it is better than forecasting nothing
    skill_interval : its 95 % interval, by the same bootstrap of the differences of squared errors
    hit_rate : share of the moves whose sign was right; None where nothing was forecast
    hit_rate_interval : its 95 % interval by a block bootstrap, since neighbouring targets overlap
    correlation : of forecast and target; None where one of them does not move
    """

    rows: int
    mae: float
    rmse: float
    skill: float
    skill_interval: tuple[float, float]
    hit_rate: float | None
    hit_rate_interval: tuple[float, float] | None
    correlation: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def score(forecast: Floats, target: Floats, horizon: int, seed: int = 0) -> Score:
    """Score forecasts (n,) against returns (n,) over `horizon` bars, in order of time.

    Raises
    ------
    TrainingError
        If there are none, or not as many of one as of the other.
    """
    forecast, target = np.asarray(forecast, np.float64), np.asarray(target, np.float64)
    if forecast.shape != target.shape or forecast.ndim != 1 or not len(target):
        raise TrainingError(
            f"forecasts have shape {forecast.shape} and targets {target.shape}; wanted (n,) of both, n ≥ 1"
        )
    error = forecast - target
    told = (forecast != 0) & (target != 0)
    right = (np.sign(forecast) == np.sign(target))[told].astype(np.float64)
    moves = forecast.std() > 0 and target.std() > 0
    gain = (target**2 - error**2) / ((target**2).mean() or 1.0)  # its mean is the skill
    return Score(
        rows=len(target),
        mae=float(np.abs(error).mean()),
        rmse=float(np.sqrt((error**2).mean())),
        skill=float(gain.mean()),
        skill_interval=block_interval(gain, 2 * horizon, seed),
        hit_rate=float(right.mean()) if len(right) else None,
        hit_rate_interval=block_interval(right, 2 * horizon, seed) if len(right) else None,
        correlation=float(np.corrcoef(forecast, target)[0, 1]) if moves else None,
    )


def block_interval(values: Floats, block: int, seed: int = 0, coverage: float = COVERAGE) -> tuple[float, float]:
    """Interval of the mean of values in order of time, by the circular block bootstrap (Politis and Romano 1992).

    Blocks are at least n^(1/3) long and wrap around at the end, so that every value is drawn as often. Where fewer than
    four fit, nothing is known of how the mean varies: the interval is from the lowest value to the highest.
    """
    n = len(values)
    length = max(1, block, round(n ** (1 / 3)))
    if n < FEWEST * length:
        return float(values.min()), float(values.max())
    cumulated = np.concatenate(([0.0], np.cumsum(np.concatenate((values, values[: length - 1])))))
    sums = cumulated[length:] - cumulated[:-length]  # of the block that begins at each value
    starts = np.random.default_rng(seed).integers(0, n, (DRAWS, round(n / length)))
    means = sums[starts].mean(axis=1) / length
    low, high = np.quantile(means, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)
