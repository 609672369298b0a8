"""The executor of all weight policies: a combined loss whose weights move while it trains."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from trading_bot.errors import TrainingDiverged, TrainingError
from trading_bot.logs import event
from trading_bot.training.adaptive_loss_inner import alignment
from trading_bot.training.adaptive_loss_measure import joined, measure, measure_slopes, total
from trading_bot.training.adaptive_loss_record import Effectiveness, LossRecord
from trading_bot.training.adaptive_loss_redundancy import Redundancy
from trading_bot.training.adaptive_loss_scales import Scales
from trading_bot.training.combined_loss import CombinedLoss
from trading_bot.training.loss_frame import Loss, agree
from trading_bot.training.pointwise_losses import MAELoss
from trading_bot.training.weight_policies.policy import Alignment, Seen, WeightPolicy, Wish, require_whole
from trading_bot.training.weight_policies.simplex import MOST_LOSSES, equal, on_simplex, towards

SKIPS = 10  # steps in a row without a finite value of one loss
LOOK_EVERY = 10  # steps between two looks at which losses pull the same way
TELL_EVERY = 50  # steps between two looks at whether the weights are worth a line in the log
TOLD = 0.05  # ‖Δw‖₁ since the last line in the log that is worth another

Batch = tuple[Tensor, Tensor]


class AdaptiveLossFunction(Loss):
    """Σ wᵢ·Lᵢ/sᵢ, sᵢ the usual size of Lᵢ and w what the policy wants.

    For the first `calibration_steps` steps the weights are equal and sᵢ is the median of |Lᵢ| so far; then sᵢ is
    frozen and the policy begins. Weights are numbers to the model, never negative, sum to 1, are each at least 0.05 and
    move by ‖Δw‖₁ ≤ 0.2 at a time; they move in training mode with gradients on, and at no other time.

    The gradient of each loss is taken at the output alone, and what they make together is propagated back once. A loss
    that is not finite in a step is left out of it and counted; ten steps in a row are an error.

    Parameters
    ----------
    losses : by a name of the caller's, at most 20
    policy : of the weights
    metric : M, what never adapts: the trainer validates by it, and policies that ask for inner-validation batches are
        told its value there. Mean |ẑ − z| if left out
    calibration_steps : of equal weights
    total_steps : of the whole training, for policies that follow a schedule; `expect`, which the trainer calls, sets it
    record_every : steps a line of the record sums up

    Attributes
    ----------
    steps : of training so far
    record : components and weights, line by line
    skipped : by loss, in how many steps it was left out

    Raises
    ------
    TrainingError
        If the losses cannot be combined or a number is out of range; in training, if the policy asks for
        inner-validation batches and there are none.
    TrainingDiverged
        If a loss was not finite ten times in a row.
    """

    def __init__(
        self,
        losses: Mapping[str, Loss],
        policy: WeightPolicy,
        *,
        metric: Loss | None = None,
        calibration_steps: int = 100,
        total_steps: int = 1000,
        record_every: int = 10,
        sigma: float | None = None,
    ) -> None:
        super().__init__(1.0 if sigma is None else sigma)
        combined = CombinedLoss(losses)  # refuses what cannot be combined
        self.names = combined.names
        if len(self.names) > MOST_LOSSES or self.names != policy.setting.names:
            raise TrainingError(
                f"found the losses {', '.join(self.names)} and a policy of {', '.join(policy.setting.names)}; wanted "
                f"the same names in the same order, at most {MOST_LOSSES}"
            )
        require_whole(1, calibration_steps=calibration_steps, total_steps=total_steps, record_every=record_every)
        self.heads, self.additive, self.saturates = combined.heads, combined.additive, combined.saturates
        self.parts = combined.parts
        self.metric = MAELoss() if metric is None else metric
        if self.metric.heads != self.heads:
            raise TrainingError(
                f"the metric wants {self.metric.heads} numbers per target and the losses {self.heads}; give a metric "
                "that agrees with them"
            )
        self.policy = policy
        self.learned = nn.ParameterList(policy.parameters)
        self.calibration_steps = calibration_steps
        self.steps = 0
        self._begun, self._planned = 0, total_steps
        self.record = LossRecord(self.names, record_every)
        self.skipped = dict.fromkeys(self.names, 0)
        self._scales = Scales(len(self.names))
        self._weights = equal(len(self.names))
        self._last = [math.nan] * len(self.names)
        self._missed = [0] * len(self.names)  # in a row
        self._redundancy = Redundancy(self.names)
        self._told = list(self._weights)
        self._inner: Callable[[int], Alignment] | None = None
        if sigma is not None:
            self.set_scale(sigma)

    # ── what may be asked ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def weights(self) -> dict[str, float]:
        """wᵢ by name."""
        return dict(zip(self.names, self._weights, strict=True))

    @property
    def scales(self) -> dict[str, float]:
        """sᵢ by name; 1 before the first step."""
        return dict(zip(self.names, self._scales.values, strict=True))

    @property
    def components(self) -> dict[str, float]:
        """Lᵢ of the last batch, neither weighted nor scaled; NaN where it was skipped, and before the first."""
        return dict(zip(self.names, self._last, strict=True))

    @property
    def calibrated(self) -> bool:
        """Whether the scales are frozen."""
        return self.steps >= self.calibration_steps

    @property
    def total_steps(self) -> int:
        """At which of them the training ends."""
        return self._begun + self._planned

    @property
    def redundant(self) -> list[tuple[str, str, float]]:
        """Pairs of losses whose gradients at the output have a mean cosine above 0.99, and that cosine: one may go."""
        return self._redundancy.pairs

    def effectiveness(self) -> Effectiveness | None:
        """What learning and what re-weighting did to the combined loss since the scales were frozen.

        None before there are two lines of the record to compare.
        """
        return self.record.effectiveness(self._scales.values, self.calibration_steps)

    # ── what it needs ──────────────────────────────────────────────────────────────────────────────────────────────

    def set_scale(self, sigma: float) -> None:
        super().set_scale(sigma)
        for part in (*self._parts(), self.metric):
            part.set_scale(sigma)

    def expect(self, steps: int) -> None:
        """Say how many steps a training that begins now will take, for policies that follow a schedule."""
        self._begun, self._planned = self.steps, steps

    def set_inner_validation(self, model: nn.Module, batch: Callable[[int], Batch]) -> None:
        """Where policies that ask for it look at the fixed metric.

        Parameters
        ----------
        model : the one in training
        batch : number, from 0 without end → (X, y) of training rows that are set aside, on the model's device. Never
            those of the validation loader, or early stopping judges what was fitted to it
        """
        parts = self._parts()
        self._inner = lambda number: alignment(model, batch(number), self.metric, parts)

    def get_extra_state(self) -> dict[str, Any]:
        """Everything that is neither a parameter nor a buffer, for `state_dict`."""
        return {
            "names": list(self.names),
            "policy": type(self.policy).__name__,
            "steps": self.steps,
            "begun": self._begun,
            "weights": list(self._weights),
            "scales": self._scales.state(),
            "last": list(self._last),
            "missed": list(self._missed),
            "skipped": list(self.skipped.values()),
            "redundancy": self._redundancy.state(),
            "told": list(self._told),
            "memory": copy.deepcopy(self.policy.memory),
            "record": self.record.state(),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        if (state["names"], state["policy"]) != (list(self.names), type(self.policy).__name__):
            raise TrainingError(
                f"the state is of {state['policy']} over {', '.join(state['names'])}, this loss is "
                f"{type(self.policy).__name__} over {', '.join(self.names)}; go on with the same"
            )
        self.steps, self._begun = state["steps"], state["begun"]
        self._weights, self._told = list(state["weights"]), list(state["told"])
        self._last, self._missed = list(state["last"]), list(state["missed"])
        self.skipped = dict(zip(self.names, state["skipped"], strict=True))
        self._redundancy.restore(state["redundancy"])
        self._scales.restore(state["scales"])
        self.policy.memory = copy.deepcopy(state["memory"])
        self.record.restore(state["record"])

    # ── a batch ────────────────────────────────────────────────────────────────────────────────────────────────────

    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """The combined loss, a float32 scalar."""
        y_hat, y = agree(predictions, targets, self.heads)
        device = y_hat.device.type
        with torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext():
            y_hat, y = y_hat.float(), y.float()
            if self.training and torch.is_grad_enabled():
                return self._step(y_hat, y)
            values, self._last = measure(self._parts(), y_hat, y)
            return total(values, self._last, self._factors())

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        """As `forward` in evaluation."""
        return total(*measure(self._parts(), y_hat, y), self._factors())

    def _step(self, y_hat: Tensor, y: Tensor) -> Tensor:
        if self.policy.needs_inner and self._inner is None:
            raise TrainingError(
                f"{type(self.policy).__name__} needs inner-validation batches and has none; train with "
                "create_adaptive_trainer, which sets rows aside, or call set_inner_validation"
            )
        values, numbers, slopes = measure_slopes(self._parts(), y_hat, y)
        self._last = numbers
        finite = [math.isfinite(number) for number in numbers]
        self._count(finite)
        for part, sound in zip(self._parts(), finite, strict=True):
            if sound:
                part.settle()
        self.steps += 1
        wish = Wish()
        if self.steps <= self.calibration_steps:
            self._scales.add(numbers)
        elif all(finite):
            self._scales.lower(numbers)
            wish = self.policy.weigh(self._seen(numbers, slopes))
            self._move(wish)
        if self.steps % LOOK_EVERY == 1 and all(finite):
            self._redundancy.look(slopes)
        if self.steps == self.calibration_steps:
            event("training", "adaptive loss", f"scales frozen after {self.steps} steps", level="DEBUG", **self.scales)
            self._redundancy.tell()
        self.record.add(self.steps, numbers, self._weights)
        loss = joined(y_hat, values, numbers, slopes, self._factors())
        return loss if wish.objective is None else loss + (wish.objective - wish.objective.detach())

    # ── the weights ────────────────────────────────────────────────────────────────────────────────────────────────

    def _seen(self, numbers: Sequence[float], slopes: Tensor) -> Seen:
        step, scales = self.steps - self.calibration_steps, self._scales
        with torch.no_grad():
            scaled = slopes / torch.tensor(scales.values, device=slopes.device).unsqueeze(1)
        return Seen(
            step=step,
            progress=min(1.0, step / max(1, self.total_steps - self.calibration_steps)),
            losses=tuple(scales.scaled(numbers)),
            sizes=tuple(scales.above_zero(numbers)),
            weights=tuple(self._weights),
            gradients=scaled,
            inner=self._inner or _no_inner,
        )

    def _move(self, wish: Wish) -> None:
        if wish.weights is None:
            return
        self._weights = towards(self._weights, on_simplex(wish.weights))
        moved = sum(abs(now - then) for now, then in zip(self._weights, self._told, strict=True))
        if self.steps % TELL_EVERY == 0 and moved >= TOLD:
            self._told = list(self._weights)
            event("training", "adaptive loss", f"step {self.steps}: weights moved", level="DEBUG", **self.weights)

    def _factors(self) -> list[float]:
        return [weight / scale for weight, scale in zip(self._weights, self._scales.values, strict=True)]

    def _count(self, finite: Sequence[bool]) -> None:
        for place, name in enumerate(self.names):
            if finite[place]:
                self._missed[place] = 0
                continue
            self._missed[place] += 1
            self.skipped[name] += 1
            if self._missed[place] >= SKIPS:
                raise TrainingDiverged(
                    f"the loss {name!r} was not finite in {SKIPS} steps in a row; leave it out, lower the learning "
                    "rate or look for extremes in the data"
                )

    def _parts(self) -> list[Loss]:
        return [part for part in self.parts.values() if isinstance(part, Loss)]


def _no_inner(number: int) -> Alignment:
    raise TrainingError(f"inner-validation batch {number} was asked for, and none was set aside")
