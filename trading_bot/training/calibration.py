"""How often a forecast's sign is right, by how far from zero it is: Platt's scaling on rows the network never saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from trading_bot.domain.market import Floats
from trading_bot.errors import CheckpointError, TrainingError

LEAST_ROWS = 50


@dataclass(frozen=True, slots=True)
class Calibration:
    """P(sign right) = 1 / (1 + exp(-(intercept + slope · strength))), strength = |forecast| / scale.

    Attributes
    ----------
    intercept, slope : slope ≥ 0, a larger forecast is never trusted less
    scale : standard deviation of the targets it was fitted on, the unit of strength
    most : strength from which nothing is known; a larger one counts as this
    rows : how many it was fitted on
    hit_rate : of those rows
    """

    intercept: float
    slope: float
    scale: float
    most: float
    rows: int
    hit_rate: float

    def probability(self, forecast: Floats) -> Floats:
        """Probability that the forecast's sign is right, for each."""
        strength = np.minimum(np.abs(forecast) / self.scale, self.most)
        result: Floats = expit(self.intercept + self.slope * strength)
        return result

    def confidence(self, forecast: Floats) -> Floats:
        """2·P - 1 where that is positive, else 0: nothing at a coin's toss, 1 at certainty."""
        return np.maximum(2 * self.probability(forecast) - 1, 0.0)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """What `as_json` gave; a CheckpointError if it is something else."""
        try:
            numbers = {name: float(values[name]) for name in cls.__slots__}
            made = cls(**{**numbers, "rows": int(values["rows"])})  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"the calibration {values!r} is incomplete ({error}); train again") from None
        if not np.isfinite(list(numbers.values())).all() or min(made.slope, made.most) < 0 or made.scale <= 0:
            raise CheckpointError(f"the calibration {values!r} is out of range; train again")
        return made


def check_enough(told: npt.NDArray[np.bool_]) -> None:
    """Refuse fewer rows that tell something than a calibration needs.

    Raises
    ------
    TrainingError
    """
    if told.sum() < LEAST_ROWS:
        raise TrainingError(
            f"{int(told.sum())} forecasts are too few to calibrate on; at least {LEAST_ROWS} are needed: load more "
            "candles, or judge on more folds"
        )


def fit_calibration(forecast: Floats, target: Floats, scale: float) -> Calibration:
    """Fit it on forecasts of rows that were not trained on; rows whose target is 0 tell nothing and are left out.

    Raises
    ------
    TrainingError
        If there are too few rows.
    """
    told = (target != 0) & (forecast != 0)
    check_enough(told)
    strength = np.abs(forecast[told]) / scale
    right = np.sign(forecast[told]) == np.sign(target[told])
    share = (right.sum() + 1) / (len(right) + 2)  # Platt's targets: a few rows that are all right are no certainty
    intercept, slope = float(logit(share)), 0.0
    if 0 < right.sum() < len(right) and strength.std() > 0:
        fitted = LogisticRegression(C=1e6, max_iter=1000).fit(strength[:, None] / strength.std(), right)
        if fitted.coef_[0, 0] > 0:
            intercept, slope = float(fitted.intercept_[0]), float(fitted.coef_[0, 0] / strength.std())
    return Calibration(
        intercept, slope, float(scale), float(np.quantile(strength, 0.99)), int(told.sum()), float(right.mean())
    )
