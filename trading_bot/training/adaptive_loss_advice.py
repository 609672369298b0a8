"""Which combination suits a task and a market, with the reason in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from trading_bot.errors import TrainingError, unknown

LEVELS = ("low", "medium", "high")
LEAST_RETURNS = 50
TASKS: Mapping[str, str] = MappingProxyType(  # task → combination where the market does not object
    {
        "baseline": "basic",
        "regression": "basic",
        "trading": "trading_focused",
        "direction": "directional_focused",
        "general": "comprehensive",
    }
)

# of each measurement: below the first low, above the second high
BOUNDS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "volatility": (0.8, 1.25),  # standard deviation of the last fifth, against that of the whole
        "trend": (0.5, 2.0),  # variance ratio of 10 bars − 1, in its standard errors under a random walk
        "noise": (1.0, 5.0),  # excess kurtosis
    }
)
HORIZON = 10  # bars of the variance ratio


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A combination and why.

    Attributes
    ----------
    combination : its name
    reason : in words
    measured : what was found in the data, if any was given
    """

    combination: str
    reason: str
    measured: Mapping[str, float]


def advise(task: str, levels: Mapping[str, str], measured: Mapping[str, float] | None = None) -> Recommendation:
    """The task's combination, unless the market is too noisy or too volatile for it, or trends.

    Raises
    ------
    TrainingError
        If the task or a level is unknown.
    """
    word = str(task).lower()
    if word not in TASKS:
        raise TrainingError(unknown("task", task, TASKS))
    for name, level in levels.items():
        if level not in LEVELS:
            raise TrainingError(f"{name} is {level!r}; wanted one of {', '.join(LEVELS)}")
    rough = [name for name in ("noise", "volatility") if levels[name] == "high"]
    found = ", ".join(f"{name} {levels[name]}" for name in levels)
    if word in ("regression", "general") and rough:
        chosen, why = "robust_prediction", f"{' and '.join(rough)} would let a few bars rule a squared error"
    elif word == "general" and levels["trend"] == "high":
        chosen, why = "directional_focused", "returns follow each other, so direction is what can be learned"
    elif word == "general" and all(levels[name] == "low" for name in ("volatility", "noise")):
        chosen, why = "basic", "a quiet market asks for nothing more than the plain errors"
    else:
        chosen, why = TASKS[word], f"it is made for {word}, and nothing in the market speaks against it"
    return Recommendation(chosen, f"{chosen} for {word} ({found}): {why}", dict(measured or {}))


def measure_returns(returns: Any) -> tuple[dict[str, str], dict[str, float]]:
    """Levels and measurements of per-bar returns, oldest first.

    Raises
    ------
    TrainingError
        If they are no numbers, fewer than 50, not finite, or never move.
    """
    try:
        values = np.asarray(returns, np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"the returns are no numbers ({error}); wanted an array (n,)") from None
    if len(values) < LEAST_RETURNS or not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise TrainingError(
            f"there are {len(values)} returns, {bad} of them not finite; wanted at least {LEAST_RETURNS}, all finite"
        )
    spread = float(values.std())
    if spread <= 1e-12:
        raise TrainingError("the returns never move; wanted the returns of a market that does")
    centred = values - values.mean()
    measured = {
        "volatility": float(values[-max(10, len(values) // 5) :].std()) / spread,
        "trend": _trend(centred),
        "noise": float((centred**4).mean()) / spread**4 - 3.0,
    }
    levels = {
        name: "low" if value < BOUNDS[name][0] else "high" if value > BOUNDS[name][1] else "medium"
        for name, value in measured.items()
    }
    return levels, measured


def _trend(centred: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """(Variance ratio − 1) in standard errors, Lo and MacKinlay 1988; above 0 where returns follow each other."""
    n, q = len(centred), HORIZON
    sums = np.convolve(centred, np.ones(q), "valid")
    ratio = float((sums**2).mean() / (q * (centred**2).mean()))
    error = float(np.sqrt(2.0 * (2 * q - 1) * (q - 1) / (3.0 * q * n)))
    return (ratio - 1.0) / error
