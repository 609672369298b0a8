"""What a weight policy is shown, what it may ask for, and what all of them have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from trading_bot.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Alignment:
    """What one inner-validation batch says: the fixed metric there, and how well each loss serves it.

    Attributes
    ----------
    metric : the fixed metric's value
    cosines : of ∇θ metric and ∇θ Lᵢ, one for each loss, in [-1, 1]
    """

    metric: float
    cosines: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """One step, after the losses have been measured and before the model has moved.

    Attributes
    ----------
    step : since the scales were frozen, from 1
    progress : share of the steps from there to the end of the training, 0 to 1
    losses : Lᵢ/sᵢ of this batch
    sizes : the same, moved up where a loss has been negative, so that each is above 0: for rules that divide
    weights : those in force
    gradients : (K, numbers in the prediction), of Lᵢ/sᵢ at the output
    inner : (number of the batch) → what that inner-validation batch says; costs a forward and K + 1 backward passes
    """

    step: int
    progress: float
    losses: tuple[float, ...]
    sizes: tuple[float, ...]
    weights: tuple[float, ...]
    gradients: Tensor
    inner: Callable[[int], Alignment]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a policy wants.

    Attributes
    ----------
    weights : not negative, of any sum; None leaves them as they are. The executor brings them on the simplex, holds
        each above the floor, and goes no further towards them than one update may
    objective : added to the gradient, not to the value, of the combined loss: of the policy's own parameters alone
    """

    weights: Sequence[float] | None = None
    objective: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """What every policy is told when it is made.

    Attributes
    ----------
    names : of the losses, in order
    frequency : steps between adaptations, for policies that do not adapt at every step
    window : measurements that count
    seed : of whatever is left to chance; each draw depends on it and on the step alone
    """

    names: tuple[str, ...]
    frequency: int = 50
    window: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        require_whole(1, adaptation_frequency=self.frequency, performance_window=self.window)
        require_whole(0, seed=self.seed)


def require_whole(least: int, **given: Any) -> None:
    """Refuse what is no whole number of at least `least`, by its name."""
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise TrainingError(f"{name} is {value!r}; wanted a whole number ≥ {least}")


class WeightPolicy(ABC):
    """Decides what the weights should be; one verb.

    Attributes
    ----------
    memory : everything it remembers from step to step, as numbers, texts, lists and dicts of them: the executor saves
        and restores it
    parameters : its own, if it learns by gradient; they belong in the optimizer, as a group of their own
    needs_inner : whether it asks for inner-validation batches
    """

    needs_inner: bool = False

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.count = len(setting.names)
        self.memory: dict[str, Any] = {}
        self.parameters: tuple[nn.Parameter, ...] = ()

    @abstractmethod
    def weigh(self, seen: Seen) -> Wish:
        """What it wants after this step was seen; called once a step of training, never in validation."""


# rules that the literature states by epoch ----------------------------------------------------------------------------


def no_periods(count: int) -> dict[str, Any]:
    """What a policy of so many losses has to remember for `two_periods`."""
    return {"sum": [0.0] * count, "before": None}


def two_periods(memory: dict[str, Any], seen: Seen, steps: int) -> tuple[list[float], list[float]] | None:
    """Take a step in; at the end of a period of so many steps its mean losses and the last one's, else None."""
    memory["sum"] = [total + size for total, size in zip(memory["sum"], seen.sizes, strict=True)]
    if seen.step % steps:
        return None
    means, before = [total / steps for total in memory["sum"]], memory["before"]
    memory["sum"], memory["before"] = [0.0] * len(means), means
    return None if before is None else (means, before)
