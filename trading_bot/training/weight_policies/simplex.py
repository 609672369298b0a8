"""The rules every policy's weights obey: sum 1, none under the floor, no more than a step at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from trading_bot.errors import TrainingError, unknown
from trading_bot.training.loss_frame import is_number

FLOOR = 0.05  # least weight of a loss
MOST_MOVED = 0.2  # ‖Δw‖₁ of one update
MOST_LOSSES = 20  # more cannot each have the floor


def equal(count: int) -> list[float]:
    """The weights at the start."""
    return [1.0 / count] * count


def on_simplex(numbers: Sequence[float], floor: float = FLOOR) -> list[float]:
    """`numbers`, not negative, divided by their sum; those under the floor raised to it, the others lowered alike.

    Raises
    ------
    TrainingError
        If one is negative or not finite, or all are 0.
    """
    total = math.fsum(numbers)
    if not 0 < total < math.inf or min(numbers) < 0:
        raise TrainingError(f"the weights wanted are {list(numbers)}; wanted finite numbers ≥ 0, one of them above 0")
    shares = [number / total for number in numbers]
    low: set[int] = set()
    while True:
        rest = math.fsum(share for place, share in enumerate(shares) if place not in low)
        factor = (1.0 - floor * len(low)) / rest if rest > 0 else 0.0
        weights = [floor if place in low else share * factor for place, share in enumerate(shares)]
        sunk = {place for place, weight in enumerate(weights) if weight < floor and place not in low}
        if not sunk:
            return weights
        low |= sunk
        if len(low) == len(shares):
            return equal(len(shares))


def towards(weights: Sequence[float], target: Sequence[float], most: float = MOST_MOVED) -> list[float]:
    """From `weights` straight to `target`, at most so far: ‖Δw‖₁ ≤ `most`. Both on the simplex, so is the result."""
    far = math.fsum(abs(b - a) for a, b in zip(weights, target, strict=True))
    if far <= most:
        return list(target)
    return [a + (b - a) * (most / far) for a, b in zip(weights, target, strict=True)]


def shares(kind: str, given: Mapping[str, float], names: Sequence[str]) -> list[float]:
    """A user's weights, in the order of the losses and with sum 1.

    Raises
    ------
    TrainingError
        If a loss is unknown or missing, or a share would be under the floor.
    """
    for name, number in given.items():
        if name not in names:
            raise TrainingError(unknown(f"loss in {kind}", name, names))
        if not (is_number(number) and 0 <= number < math.inf):
            raise TrainingError(f"{kind}: {name!r} has {number!r}; wanted a finite number ≥ 0")
    if missing := [name for name in names if name not in given]:
        raise TrainingError(f"{kind} has nothing for {', '.join(missing)}; wanted one for each of {', '.join(names)}")
    numbers = [float(given[name]) for name in names]
    total = math.fsum(numbers)
    if not 0 < total < math.inf:
        raise TrainingError(f"{kind} sums to {total}; wanted a finite number above 0")
    parts = [number / total for number in numbers]
    for name, part in zip(names, parts, strict=True):
        if part < FLOOR - 1e-9:
            raise TrainingError(
                f"{kind} gives {name!r} a share of {part:.3g}; wanted at least {FLOOR:g}: leave that loss out instead"
            )
    return parts


def softmax(numbers: Sequence[float]) -> list[float]:
    """exp(xᵢ) / Σ exp(xⱼ)."""
    top = max(numbers)
    powers = [math.exp(number - top) for number in numbers]
    total = math.fsum(powers)
    return [power / total for power in powers]
