"""The executor of all weight policies with a log of what it did, and a guard over the optimizer's steps."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from trading_bot.durable import replacing
from trading_bot.errors import TrainingDiverged, TrainingError
from trading_bot.training.adaptive_loss_function import SKIPS, AdaptiveLossFunction
from trading_bot.training.loss_frame import Loss, positive
from trading_bot.training.monitor_decisions import Told
from trading_bot.training.weight_policies.policy import WeightPolicy

KEEP_EVERY = 50  # steps between two copies of what a bad step is undone with


class DynamicLossExecutor(AdaptiveLossFunction):
    """`AdaptiveLossFunction`, which already clamps weights, holds them above the floor, limits how far they move and
    skips components that are not finite; and what it does is logged, a line of JSON each.

    `guard` adds what a loss cannot do by itself: gradients are clipped, a step whose gradient is not finite is skipped,
    and parameters that are not finite after a step are restored, with the optimizer's state.

    Parameters
    ----------
    losses, policy, options : as of `AdaptiveLossFunction`
    audit : the log, which is appended to; when a saved state is restored, lines after that step are taken back

    Raises
    ------
    TrainingError
        As `AdaptiveLossFunction`; if the log cannot be written.
    TrainingDiverged
        If ten steps in a row could not be taken.
    """

    def __init__(
        self, losses: Mapping[str, Loss], policy: WeightPolicy, *, audit: str | Path | None = None, **options: Any
    ) -> None:
        super().__init__(losses, policy, **options)
        self.audit = None if audit is None else Path(audit)

    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """The combined loss, a float32 scalar; in training also a line of the log for whatever it changed."""
        step, weights, skipped = self.steps, self.weights, dict(self.skipped)
        value = super().forward(predictions, targets)
        if self.audit is None or self.steps == step:
            return value
        for name, times in self.skipped.items():
            if times != skipped[name]:
                self._log("component skipped", loss=name, in_all=times)
        if self.weights != weights:
            actions = self.policy.memory.get("actions")
            told = {"action": actions[-1]} if actions else {}
            self._log("weights moved", before=weights, after=self.weights, **told)
        return value

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        if self.audit is not None and self.audit.exists():
            try:
                lines = self.audit.read_text(encoding="utf-8").splitlines(keepends=True)
                with replacing(self.audit) as file:
                    file.writelines(line.encode() for line in lines if json.loads(line)["step"] <= self.steps)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise TrainingError(
                    f"{self.audit} is no log of an executor, or cannot be written ({error}); give another file"
                ) from None

    def guard(self, model: nn.Module, optimizer: Optimizer, max_grad_norm: float = 1.0) -> Guard:
        """Watch over the optimizer's steps from now on, whoever calls them, until the guard is removed."""
        return Guard(self, model, optimizer, max_grad_norm)

    def _log(self, what: str, **facts: Any) -> None:
        if self.audit is None:
            return
        line = json.dumps({"step": self.steps, "event": what, **facts})
        try:
            self.audit.parent.mkdir(parents=True, exist_ok=True)
            with self.audit.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            raise TrainingError(f"{self.audit} cannot be written: {error.strerror}; choose another file") from None


class Guard:
    """What `DynamicLossExecutor.guard` began.

    Attributes
    ----------
    skipped, restored, clipped : steps
    """

    def __init__(
        self, executor: DynamicLossExecutor, model: nn.Module, optimizer: Optimizer, max_grad_norm: float
    ) -> None:
        self.executor, self.model, self.optimizer = executor, model, optimizer
        self.max_grad_norm = positive("max_grad_norm", max_grad_norm)
        self.skipped = self.restored = self.clipped = 0
        self._steps = self._failed = 0
        self._good = self._copy()
        self._handles: list[RemovableHandle] = [
            optimizer.register_step_pre_hook(lambda *_: self._before()),
            optimizer.register_step_post_hook(lambda *_: self._after()),
        ]

    def remove(self) -> None:
        """Watch no more."""
        for handle in self._handles:
            handle.remove()

    def _before(self) -> None:
        if isinstance(self.executor.policy, Told):
            self.executor.policy.tell_rate(float(self.optimizer.param_groups[0]["lr"]))
        if self._steps % KEEP_EVERY == 0 and not self._failed:
            self._good = self._copy()
        self._steps += 1
        parameters = list(self.model.parameters())
        norm = float(nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None]))
        if not math.isfinite(norm):
            for group in self.optimizer.param_groups:  # a parameter without gradient is left alone
                for parameter in group["params"]:
                    parameter.grad = None
            self.skipped += 1
            self._fail("step skipped", "its gradient was not finite")
        elif norm > self.max_grad_norm:
            nn.utils.clip_grads_with_norm_(parameters, self.max_grad_norm, torch.tensor(norm))
            self.clipped += 1
            self.executor._log("gradient clipped", norm=norm)

    def _after(self) -> None:
        sums = torch.stack([parameter.detach().sum() for parameter in self.model.parameters()])
        if not math.isfinite(float(sums.sum())):
            model, optimizer = self._good
            self.model.load_state_dict(model)
            self.optimizer.load_state_dict(copy.deepcopy(optimizer))
            self.restored += 1
            self._fail("parameters restored", "it left parameters that are not finite")
        elif any(parameter.grad is not None for parameter in self.model.parameters()):
            self._failed = 0

    def _fail(self, what: str, why: str) -> None:
        self._failed += 1
        self.executor._log(what)
        if self._failed >= SKIPS:
            raise TrainingDiverged(
                f"{SKIPS} steps in a row could not be taken, the last because {why}; lower the learning rate or look "
                "for extremes in the data"
            )

    def _copy(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        model = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        return model, copy.deepcopy(self.optimizer.state_dict())
