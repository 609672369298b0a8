"""The TRM's loss: by hand, its gradients, its targets, and everything that is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trading_bot.errors import TrainingError
from trading_bot.training.trm_loss_functions import HALT_TARGETS, TRMLoss, class_weights_from

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def batch(rows: int = 16, seed: int = 0) -> Batch:
    """Logits (rows, 8), halt logits (rows, 1), labels and profits."""
    generator = torch.Generator().manual_seed(seed)
    return (
        2 * torch.randn(rows, 8, generator=generator).requires_grad_(),
        torch.randn(rows, 1, generator=generator).requires_grad_(),
        torch.randint(0, 8, (rows,), generator=generator),
        0.05 * torch.randn(rows, generator=generator),
    )


def leaves(rows: int = 16, seed: int = 0) -> Batch:
    task, halt, labels, pnl = batch(rows, seed)
    return task.detach().requires_grad_(), halt.detach().requires_grad_(), labels, pnl


def logits_for(chance: float, label: int = 0) -> list[float]:
    """Eight logits that give `label` this probability and the others the rest in equal parts."""
    others = math.log((1 - chance) / 7)
    return [math.log(chance) if each == label else others for each in range(8)]


def test_by_hand() -> None:
    task = torch.tensor([logits_for(0.8), logits_for(0.5, label=3)])
    halt = torch.tensor([[0.0], [math.log(3)]])  # chances ½ and ¾
    labels, pnl = torch.tensor([0, 0]), torch.tensor([0.05, -0.10])
    entropy = [-math.log(0.8), -math.log(0.5 / 7)]
    weights = [1 - math.tanh(1), 1 + math.tanh(2)]
    halting = (-math.log(0.5) - math.log(0.25)) / 2  # targets 1 (sure and right) and 0
    weighted = (weights[0] * entropy[0] + weights[1] * entropy[1]) / 2
    found = TRMLoss(lambda_halt=0.1, lambda_profit=2.0, lambda_task=0.5)(
        task, halt, labels, pnl, return_components=True
    )
    assert isinstance(found, dict)
    assert {name: float(each) for name, each in found.items()} == pytest.approx({
        "total_loss": 0.1 * halting + 2 * weighted + 0.5 * sum(entropy) / 2,
        "halt_loss": halting, "task_loss": sum(entropy) / 2, "profit_weighted_task_loss": weighted,
        "halt_rate": 0.5, "accuracy": 0.5,
    }, rel=1e-5)  # fmt: skip
    plain = TRMLoss(lambda_halt=0.1, lambda_profit=2.0, lambda_task=0.5)(task, halt, labels, pnl)
    assert isinstance(plain, Tensor)
    assert plain == found["total_loss"]


@pytest.mark.parametrize(("pnl", "weight"), [(0.10, 0.036), (0.05, 0.238), (0.0, 1.0), (-0.05, 1.762), (-0.10, 1.964)])
def test_profit_weights_are_the_formula_and_never_negative(pnl: float, weight: float) -> None:
    assert float(TRMLoss().profit_weights(torch.tensor([pnl]))[0]) == pytest.approx(weight, abs=5e-4)


def test_a_loss_is_learned_more_from_than_a_gain() -> None:
    task, halt, labels, _ = leaves(2)
    TRMLoss(lambda_halt=0.0)(task, halt, labels, torch.tensor([0.05, -0.05])).backward()
    assert task.grad is not None
    entropy = [F.cross_entropy(task[row : row + 1], labels[row : row + 1]) for row in range(2)]
    plain = [torch.autograd.grad(each, task)[0][row] / 2 for row, each in enumerate(entropy)]
    torch.testing.assert_close(task.grad[0], plain[0] * (1 - math.tanh(1)))
    torch.testing.assert_close(task.grad[1], plain[1] * (1 + math.tanh(1)))


@pytest.mark.parametrize(
    ("kind", "targets"), [("seed", [1, 0, 0, 0]), ("correct", [1, 1, 0, 0]), ("no_gain", [0, 1, 1, 0])]
)
def test_halt_targets(kind: str, targets: list[float]) -> None:
    now = torch.tensor([logits_for(0.9), logits_for(0.6), logits_for(0.9, label=2), logits_for(0.4, label=2)])
    then = torch.tensor([logits_for(0.95), logits_for(0.6), logits_for(0.99, label=2), logits_for(0.3, label=2)])
    labels, pnl = torch.zeros(4, dtype=torch.int64), torch.zeros(4)
    halt = torch.tensor([0.3, -0.2, 0.7, 1.1], requires_grad=True)
    loss = TRMLoss(lambda_halt=1.0, halt_target=kind)
    loss(now, halt, labels, pnl, further_logits=then).backward()
    wanted = torch.tensor(targets, dtype=torch.float32)
    torch.testing.assert_close(halt.grad, (halt.detach().sigmoid() - wanted) / 4)  # of BCE with exactly these targets


def test_a_choice_as_sure_as_the_threshold_is_not_confident() -> None:
    task, labels = torch.tensor([[4.0, 0.0], [0.0, 4.0]]), torch.tensor([0, 1])
    sure = float(task.softmax(1).max())
    for threshold, target in ((sure, 0.0), (sure - 1e-4, 1.0)):
        halt = torch.zeros(2, requires_grad=True)
        loss = TRMLoss(1.0, confidence_threshold=threshold, num_classes=2)
        loss(task, halt, labels, torch.zeros(2)).backward()
        assert halt.grad is not None
        assert halt.grad.tolist() == pytest.approx([(0.5 - target) / 2] * 2)


@pytest.mark.parametrize("kind", HALT_TARGETS)
def test_the_halt_target_has_no_gradient(kind: str) -> None:
    """With the choice's own losses off but for a trace, nothing of the halt loss reaches the choice."""
    task, halt, labels, pnl = leaves()
    further = leaves(seed=1)[0]
    loss = TRMLoss(lambda_halt=1e4, lambda_profit=0.0, lambda_task=1e-4, halt_target=kind)
    loss(task, halt, labels, pnl, further_logits=further).backward()
    alone = torch.autograd.grad(1e-4 * F.cross_entropy(task, labels), task)[0]
    torch.testing.assert_close(task.grad, alone)
    assert further.grad is None
    assert halt.grad is not None
    assert (halt.grad != 0).all()


def test_profits_have_no_gradient_and_the_choice_has() -> None:
    task, halt, labels, pnl = leaves()
    pnl.requires_grad_()
    parts = TRMLoss().components(task, halt, labels, pnl)
    parts["total_loss"].backward()  # type: ignore[no-untyped-call]
    assert pnl.grad is None
    assert task.grad is not None
    assert (task.grad.abs().sum(1) > 0).all()
    assert [name for name, each in parts.items() if each.requires_grad] == ["total_loss"]


def test_a_step_against_the_gradient_lowers_it() -> None:
    task, halt, labels, pnl = leaves()
    loss = TRMLoss()
    before = loss.components(task, halt, labels, pnl)["total_loss"]
    before.backward()  # type: ignore[no-untyped-call]
    assert task.grad is not None
    assert halt.grad is not None
    after = loss.components(task - 0.1 * task.grad, halt - 0.1 * halt.grad, labels, pnl)["total_loss"]
    assert after < before


def test_class_weights_multiply_their_rows_alone() -> None:
    task, halt, labels, pnl = batch()
    weights = torch.arange(1.0, 9.0)
    found = TRMLoss(0.0, class_weights=weights).components(task, halt, labels, pnl)
    each = F.cross_entropy(task, labels, reduction="none") * weights[labels]
    torch.testing.assert_close(found["task_loss"], each.mean().detach())
    torch.testing.assert_close(found["total_loss"], (each * (1 - torch.tanh(pnl / 0.05))).mean())
    assert "class_weights" in dict(TRMLoss(class_weights=weights).named_buffers())


def test_normalised_weights_have_a_mean_of_1() -> None:
    task, halt, labels, _ = batch()
    equal = torch.full((16,), 0.04)
    plain, scaled = (TRMLoss(0.0, normalize_weights=each) for each in (False, True))
    entropy = F.cross_entropy(task, labels)
    torch.testing.assert_close(scaled.components(task, halt, labels, equal)["total_loss"], entropy)
    torch.testing.assert_close(
        plain.components(task, halt, labels, equal)["total_loss"], entropy * (1 - math.tanh(0.8))
    )


def test_both_shapes_of_halt_logits_are_the_same() -> None:
    task, halt, labels, pnl = batch()
    assert TRMLoss()(task, halt, labels, pnl) == TRMLoss()(task, halt[:, 0], labels, pnl)
    assert TRMLoss()(task[:1], halt[:1], labels[:1], pnl[:1]) == TRMLoss()(task[:1], halt[0], labels[:1], pnl[:1])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-6, 1.0, 1e4, 1e30, 3e38]),
    profit=st.sampled_from([0.0, 0.03, 1e6, 3e38]),
    kind=st.sampled_from(["seed", "correct"]),
    normalize=st.booleans(),
)
def test_finite_and_not_negative_for_every_finite_input(
    seed: int, scale: float, profit: float, kind: str, normalize: bool
) -> None:
    task, halt, labels, pnl = leaves(6, seed)
    unit = task.detach() / task.detach().abs().max()
    task = (scale * unit).requires_grad_()
    halt = (scale * (halt.detach() / halt.detach().abs().max())).requires_grad_()
    pnl = profit * (pnl / pnl.abs().max())
    loss = TRMLoss(halt_target=kind, normalize_weights=normalize).components(task, halt, labels, pnl)
    assert all(torch.isfinite(each) and each >= 0 for each in loss.values())
    loss["total_loss"].backward()  # type: ignore[no-untyped-call]
    for given_here in (task, halt):
        assert given_here.grad is not None
        assert torch.isfinite(given_here.grad).all()
    assert 0 <= float(loss["accuracy"]) <= 1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    task, halt, labels, pnl = batch(12, seed)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    loss = TRMLoss(lambda_task=0.3)
    torch.testing.assert_close(loss(task, halt, labels, pnl), loss(task[order], halt[order], labels[order], pnl[order]))


def test_float32_under_autocast_and_for_other_floats() -> None:
    task, halt, labels, pnl = (each.detach() for each in batch())
    whole = TRMLoss().components(task, halt, labels, pnl)["total_loss"]
    with torch.autocast("cpu", torch.bfloat16):
        assert TRMLoss().components(task, halt, labels, pnl)["total_loss"] == whole
    low = TRMLoss().components(task.bfloat16(), halt.double(), labels.int(), pnl.double())["total_loss"]
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, whole, rtol=2e-2, atol=0)
    assert torch.isfinite(TRMLoss().components(task.double() * 1e300, halt, labels, pnl)["total_loss"])


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(0, 40), min_size=8, max_size=8).filter(any))
def test_class_weights_are_inverse_roots_of_mean_1(counts: list[int]) -> None:
    labels = np.repeat(np.arange(8), counts)
    weights = class_weights_from(labels)
    assert weights.shape == (8,)
    assert weights.dtype == torch.float32
    assert float(weights[labels].mean()) == pytest.approx(1, rel=1e-5)
    roots = [1 / math.sqrt(max(1, count)) for count in counts]
    assert (weights / weights[0]).tolist() == pytest.approx([root / roots[0] for root in roots], rel=1e-5)


def test_class_weights_by_hand() -> None:
    # 1 / √4, 1 / √1, and a class without a sample as one with a single one; mean over samples (4 · ½ + 1) / 5 = 0.6
    assert class_weights_from(torch.tensor([0, 0, 0, 0, 1]), 3).tolist() == pytest.approx([0.5 / 0.6, 1 / 0.6, 1 / 0.6])
    TRMLoss(class_weights=class_weights_from([0, 1, 1]))


@pytest.mark.parametrize(
    ("given_here", "words"),
    [
        ({"lambda_profit": 0.0}, "lambda_profit and lambda_task are both 0"),
        ({"lambda_halt": -1}, "lambda_halt is -1; wanted a number from 0"),
        ({"lambda_task": math.nan}, "lambda_task is nan"),
        ({"pnl_scale": 0.0}, "pnl_scale is 0.0; wanted a finite number above 0"),
        ({"confidence_threshold": 1.5}, "confidence_threshold is 1.5"),
        ({"num_classes": 1}, "num_classes is 1; wanted a whole number ≥ 2"),
        ({"halt_target": "corect"}, "unknown halt target 'corect'; did you mean 'correct'?"),
        ({"class_weights": torch.ones(7)}, r"class_weights have shape (7,); wanted (8,)"),
        ({"class_weights": [1.0, -1, 1, 1, 1, 1, 1, 1]}, "wanted finite numbers ≥ 0"),
        ({"class_weights": 1 / torch.tensor([0.0, 1, 1, 1, 1, 1, 1, 1])}, "class_weights_from makes such"),
    ],
)
def test_wrong_settings_are_told(given_here: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError) as told:
        TRMLoss(**given_here)
    assert words in str(told.value)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"task": torch.zeros(16, 10)}, r"task_logits have shape (16, 10); wanted (batch, 8)"),
        ({"task": torch.zeros(16)}, "task_logits have shape (16,)"),
        ({"task": torch.zeros(0, 8)}, "batch ≥ 1"),
        ({"task": torch.zeros(16, 8, dtype=torch.int64)}, "task_logits are torch.int64; wanted floating point"),
        ({"task": torch.full((16, 8), torch.nan)}, "task_logits hold NaN in row 0"),
        ({"task": [0.0]}, "task_logits are a list; wanted a torch.Tensor"),
        ({"halt": torch.zeros(16, 2)}, r"halt_logits have shape (16, 2), task_logits (16, 8); wanted (16, 1) or (16,)"),
        ({"halt": torch.zeros(8)}, "halt_logits have shape (8,)"),
        ({"halt": torch.full((16, 1), torch.inf)}, "halt_logits hold infinity in row 0"),
        ({"labels": torch.zeros(32, dtype=torch.int64)}, "labels have shape (32,)"),
        ({"labels": torch.full((16,), 8)}, "labels run from 8 to 8; wanted 0 to 7"),
        ({"labels": torch.full((16,), -1)}, "labels run from -1 to -1"),
        ({"labels": torch.zeros(16)}, "labels are torch.float32; wanted whole numbers"),
        ({"pnl": torch.zeros(64)}, "pnl have shape (64,)"),
        ({"pnl": torch.full((16,), torch.nan)}, "pnl hold NaN in row 0"),
        ({"further": torch.zeros(16, 7)}, "further_logits have shape (16, 7); wanted (16, 8)"),
    ],
)
def test_wrong_batches_are_told(changed: dict[str, Any], words: str) -> None:
    given_here = dict(zip(("task", "halt", "labels", "pnl"), batch(), strict=True)) | {"further": None} | changed
    with pytest.raises(TrainingError) as told:
        TRMLoss()(*(given_here[name] for name in ("task", "halt", "labels", "pnl")), False, given_here["further"])
    assert words in str(told.value)


def test_no_gain_needs_the_next_answer() -> None:
    with pytest.raises(TrainingError, match="there are no further_logits; wanted those of the next step"):
        TRMLoss(halt_target="no_gain")(*batch())


@pytest.mark.parametrize("labels", [[], [8], [-1], [0.5], [True]])
def test_labels_that_are_none_have_no_weights(labels: list[Any]) -> None:
    with pytest.raises(TrainingError, match="wanted"):
        class_weights_from(labels)
