"""The TRM's loss: which strategy, whether to stop, and more weight where the choice lost money.

>>> criterion = TRMLoss(lambda_halt=0.01, lambda_profit=1.0)
>>> loss = criterion(task_logits, halt_logits, labels, pnl)      # a float32 scalar, to be minimised
>>> loss.backward()

L = λ_halt · BCE(halt logits, target) + λ_profit · mean(w · CE) + λ_task · mean CE, with w = 1 - tanh(pnl / pnl_scale)
in (0, 2): 0.036 at +10 %, 0.238 at +5 %, 1 at 0, 1.762 at -5 %, 1.964 at -10 % (pnl_scale 5 %). A weight is never
negative, so that a right choice that earned is unlearned nowhere.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trading_bot.errors import TrainingError, unknown
from trading_bot.training.loss_frame import FAR, positive, require_finite, within

CLASSES = 8
HALT_TARGETS = ("seed", "correct", "no_gain")


class TRMLoss(nn.Module):
    """A number to minimise: `loss(task_logits, halt_logits, labels, pnl)`.

    Parameters
    ----------
    lambda_halt : weight of the halt loss
    lambda_profit : weight of the profit-weighted cross-entropy
    lambda_task : weight of the plain cross-entropy
    class_weights : (num_classes,), ≥ 0, of each class in both cross-entropies; see `class_weights_from`
    confidence_threshold : probability above which a choice is confident
    pnl_scale : profit, a ratio, at which the weight has fallen to 0.238
    num_classes : strategies to choose among
    halt_target : when to stop. "seed": the choice is confident and right; "correct": it is right; "no_gain": thinking
        on does not lower the cross-entropy (`further_logits` says how the next step answered)
    normalize_weights : divide the profit weights by their mean over the batch

    Raises
    ------
    TrainingError
        If a number is out of range, or both `lambda_profit` and `lambda_task` are 0: nothing would teach the choice.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        lambda_halt: float = 0.01,
        lambda_profit: float = 1.0,
        lambda_task: float = 0.0,
        class_weights: Any = None,
        confidence_threshold: float = 0.7,
        pnl_scale: float = 0.05,
        num_classes: int = CLASSES,
        halt_target: str = "seed",
        normalize_weights: bool = False,
    ) -> None:
        super().__init__()
        self.lambda_halt, self.lambda_profit, self.lambda_task = (
            within(name, value, 0.0, 1e6)
            for name, value in (
                ("lambda_halt", lambda_halt), ("lambda_profit", lambda_profit), ("lambda_task", lambda_task)
            )
        )  # fmt: skip
        if self.lambda_profit == self.lambda_task == 0:
            raise TrainingError(
                "lambda_profit and lambda_task are both 0, so nothing would teach which class to choose; wanted at "
                "least one of them above 0"
            )
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
            raise TrainingError(f"num_classes is {num_classes!r}; wanted a whole number ≥ 2")
        if halt_target not in HALT_TARGETS:
            raise TrainingError(unknown("halt target", halt_target, HALT_TARGETS))
        self.confidence_threshold = within("confidence_threshold", confidence_threshold, 0.0, 1.0)
        self.pnl_scale = positive("pnl_scale", pnl_scale)
        self.num_classes = num_classes
        self.halt_target = halt_target
        self.normalize_weights = bool(normalize_weights)
        self.register_buffer("class_weights", _class_weights(class_weights, num_classes))

    def forward(
        self,
        task_logits: Tensor,
        halt_logits: Tensor,
        labels: Tensor,
        pnl: Tensor,
        return_components: bool = False,
        further_logits: Tensor | None = None,
    ) -> Tensor | dict[str, Tensor]:
        """The loss of a batch.

        Parameters
        ----------
        task_logits : (B, num_classes)
        halt_logits : (B, 1) or (B,)
        labels : (B,), whole numbers from 0
        pnl : (B,), what the class the model would have chosen earned, a ratio; it has no gradient
        return_components : give all parts instead
        further_logits : (B, num_classes), the answer after one more step, for "no_gain" (at the last step, where there
            is no other, the `task_logits` themselves)

        Returns
        -------
        a float32 scalar; or by name `total_loss` (with its gradient), `halt_loss`, `task_loss`,
        `profit_weighted_task_loss`, `halt_rate` (share of rows that would stop) and `accuracy`

        Raises
        ------
        TrainingError
            If shapes do not fit, the batch is empty, a label is out of range, or a number is not finite.
        """
        parts = self.components(task_logits, halt_logits, labels, pnl, further_logits)
        return parts if return_components else parts["total_loss"]

    def components(
        self,
        task_logits: Tensor,
        halt_logits: Tensor,
        labels: Tensor,
        pnl: Tensor,
        further_logits: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`forward` with `return_components`."""
        halts = self._agree(task_logits, halt_logits, labels, pnl, further_logits)
        device = task_logits.device.type
        with torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext():
            further = None if further_logits is None else further_logits.detach().float()
            rest = (labels.long(), pnl.detach().float(), further)
            parts = self._measure(task_logits.float(), halts.float(), *rest)
            if not math.isfinite(parts["total_loss"].item()):
                for name, numbers in (("task_logits", task_logits), ("halt_logits", halts)):
                    require_finite(name, numbers)
                parts = self._measure(_held(task_logits), _held(halts), *rest)
        return parts

    def profit_weights(self, pnl: Tensor) -> Tensor:
        """1 - tanh(pnl / pnl_scale), in [0, 2]: (B,) → (B,)."""
        return 1 - torch.tanh(pnl / self.pnl_scale)

    def _measure(
        self, task: Tensor, halt: Tensor, labels: Tensor, pnl: Tensor, further: Tensor | None
    ) -> dict[str, Tensor]:
        entropy = F.cross_entropy(task, labels, weight=self.class_weights, reduction="none")  # (B,)
        target = self._halt_target(task.detach(), labels, further)
        halt_loss = F.binary_cross_entropy_with_logits(halt, target)
        weights = self.profit_weights(pnl)
        if self.normalize_weights:
            weights = weights / weights.mean().clamp_min(1e-6)
        weighted, plain = (weights * entropy).mean(), entropy.mean()
        total = self.lambda_halt * halt_loss + self.lambda_profit * weighted + self.lambda_task * plain
        return {
            "total_loss": total,
            "halt_loss": halt_loss.detach(),
            "task_loss": plain.detach(),
            "profit_weighted_task_loss": weighted.detach(),
            "halt_rate": (halt.detach() > 0).float().mean(),
            "accuracy": (task.detach().argmax(dim=1) == labels).float().mean(),
        }

    def _halt_target(self, task: Tensor, labels: Tensor, further: Tensor | None) -> Tensor:
        """1 where it is time to stop, (B,)."""
        if self.halt_target == "no_gain":
            assert further is not None
            now, then = (F.cross_entropy(logits, labels, reduction="none") for logits in (task, further))
            return (then >= now).float()
        confidence, choice = task.softmax(dim=1).max(dim=1)
        stop = choice == labels
        if self.halt_target == "seed":
            stop &= confidence > self.confidence_threshold
        return stop.float()

    def _agree(
        self, task_logits: Tensor, halt_logits: Tensor, labels: Tensor, pnl: Tensor, further_logits: Tensor | None
    ) -> Tensor:
        """The halt logits as (B,), once everything fits."""
        named = {"task_logits": task_logits, "halt_logits": halt_logits, "labels": labels, "pnl": pnl}
        if further_logits is not None:
            named["further_logits"] = further_logits
        for name, given in named.items():
            if not isinstance(given, Tensor):
                raise TrainingError(f"{name} are a {type(given).__name__}; wanted a torch.Tensor: torch.as_tensor")
            if given.device != task_logits.device:
                raise TrainingError(f"{name} are on {given.device}, task_logits on {task_logits.device}; move them")
        if task_logits.ndim != 2 or task_logits.shape[1] != self.num_classes or not len(task_logits):
            raise TrainingError(
                f"task_logits have shape {tuple(task_logits.shape)}; wanted (batch, {self.num_classes}), batch ≥ 1: "
                "one logit for each class, or another num_classes"
            )
        rows = len(task_logits)
        flat = halt_logits.squeeze(1) if halt_logits.ndim == 2 and halt_logits.shape[1] == 1 else halt_logits
        wanted = {"halt_logits": f"({rows}, 1) or ({rows},)", "labels": f"({rows},)", "pnl": f"({rows},)"}
        for name, given in (("halt_logits", flat), ("labels", labels), ("pnl", pnl)):
            if given.shape != (rows,):
                raise TrainingError(
                    f"{name} have shape {tuple(named[name].shape)}, task_logits {tuple(task_logits.shape)}; wanted "
                    f"{wanted[name]}: the same batch in all of them"
                )
        if further_logits is None and self.halt_target == "no_gain":
            raise TrainingError(
                "halt_target is 'no_gain', but there are no further_logits; wanted those of the next step (at the last "
                "step the task_logits themselves)"
            )
        if further_logits is not None and further_logits.shape != task_logits.shape:
            raise TrainingError(
                f"further_logits have shape {tuple(further_logits.shape)}; wanted {tuple(task_logits.shape)}, as the "
                "task_logits"
            )
        self._check_numbers(task_logits, flat, labels, pnl)
        return flat

    def _check_numbers(self, task_logits: Tensor, halt_logits: Tensor, labels: Tensor, pnl: Tensor) -> None:
        for name, given in (("task_logits", task_logits), ("halt_logits", halt_logits)):
            if not given.is_floating_point():
                raise TrainingError(f"{name} are {given.dtype}; wanted floating point: nothing is learned otherwise")
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise TrainingError(f"labels are {labels.dtype}; wanted whole numbers: labels.long() makes them")
        if pnl.is_complex():
            raise TrainingError(f"pnl are {pnl.dtype}; wanted real numbers")
        least, most = int(labels.min()), int(labels.max())
        if least < 0 or most >= self.num_classes:
            raise TrainingError(
                f"labels run from {least} to {most}; wanted 0 to {self.num_classes - 1}: one of {self.num_classes} "
                "classes in every row"
            )
        require_finite("pnl", pnl)


def class_weights_from(labels: Any, num_classes: int = CLASSES) -> Tensor:
    """Weights that make rare classes count more: 1 / √count, of mean 1 over the samples; float32 (num_classes,).

    A class without a sample counts as one with a single one. Use the training fold's labels alone.

    Raises
    ------
    TrainingError
        If there are no labels, or they are not whole numbers from 0 to `num_classes` - 1.
    """
    given = torch.as_tensor(labels).detach().cpu().flatten()
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
        raise TrainingError(f"num_classes is {num_classes!r}; wanted a whole number ≥ 2")
    if not given.numel() or given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise TrainingError(f"found {given.numel()} labels of {given.dtype}; wanted at least one, whole numbers")
    if int(given.min()) < 0 or int(given.max()) >= num_classes:
        raise TrainingError(f"labels run from {int(given.min())} to {int(given.max())}; wanted 0 to {num_classes - 1}")
    counts = torch.bincount(given.long(), minlength=num_classes).double()
    weights = counts.clamp_min(1).rsqrt()
    return (weights * given.numel() / (counts * weights).sum()).float()


def _class_weights(given: Any, num_classes: int) -> Tensor | None:
    if given is None:
        return None
    weights = torch.as_tensor(given).detach().float()
    if weights.shape != (num_classes,):
        raise TrainingError(
            f"class_weights have shape {tuple(weights.shape)}; wanted ({num_classes},), a number for each class"
        )
    if not bool((torch.isfinite(weights) & (weights >= 0)).all()) or not bool((weights > 0).any()):
        raise TrainingError(
            f"class_weights are {weights.tolist()}; wanted finite numbers ≥ 0, not all 0: class_weights_from makes "
            "such, also where a class has no sample"
        )
    return weights.clone()


def _held(logits: Tensor) -> Tensor:
    """Finite logits as float32 within ±1e15, the gradient passed through."""
    exact = logits if logits.dtype == torch.float64 else logits.float()
    return (exact.detach().clamp(-FAR, FAR) + (exact - exact.detach())).float()
