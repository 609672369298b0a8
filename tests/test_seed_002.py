"""The blocks of the TRM loss's first specification run as they stand there, but for the module's prefix.

Those that are marked as errors there raise ours. What is no Python but Python-like (a shape in words, `AND`) is read as
it is meant. Where the folder with the original text is at hand, the blocks here are held against it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trading_bot.errors import TrainingError
from trading_bot.training.trm_loss_functions import TRMLoss

SEED = next((Path(__file__).parents[2] / "shared" / "seeds").glob("002_*.md"), Path("002.md"))

BLOCKS = [
    """
from src.training.trm_loss_functions import TRMLoss
""",
    """
# Initialize
criterion = TRMLoss(lambda_halt=0.01, lambda_profit=1.0)

# Forward pass
loss = criterion(task_logits, halt_logits, labels, pnl)

# Backward
loss.backward()
""",
    """
task_logits: (batch_size, 8)      # 8-way strategy logits
halt_logits: (batch_size, 1)      # Halt decision logits
labels:      (batch_size,)        # Ground truth (0-7)
pnl:         (batch_size,)        # Profit/loss per sample
""",
    """
probs = softmax(task_logits)
is_confident = max(probs) > 0.7
is_correct = argmax(probs) == label
halt_target = is_confident AND is_correct
""",
    """
# Compute weights from training data
counts = torch.bincount(train_labels)
weights = 1.0 / counts
weights = weights / weights.sum() * len(weights)

# Use in loss
criterion = TRMLoss(class_weights=weights)
""",
    """
components = criterion(
    task_logits, halt_logits, labels, pnl,
    return_components=True
)

# Log individual components
wandb.log({
    'loss/total': components['total_loss'],
    'loss/halt': components['halt_loss'],
    'loss/task': components['task_loss'],
    'loss/profit_weighted': components['profit_weighted_task_loss']
})
""",
    """
# ❌ ERROR
task_logits = torch.randn(batch, 10)  # Wrong!

# ✅ CORRECT
task_logits = torch.randn(batch, 8)   # Must be 8 classes
""",
    """
# ❌ ERROR
labels = torch.randint(0, 8, (32,))
pnl = torch.randn(64)  # Wrong size!

# ✅ CORRECT
labels = torch.randint(0, 8, (32,))
pnl = torch.randn(32)  # Same batch size
""",
    """
# Both work:
halt_logits = torch.randn(batch, 1)  # 2D
halt_logits = torch.randn(batch)     # 1D
""",
]


class Log:
    """Stands in for the service that the monitoring block writes to."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Tensor]] = []

    def log(self, values: dict[str, Tensor]) -> None:
        self.lines.append(values)


@pytest.fixture
def names() -> dict[str, Any]:
    """Everything the blocks take as given."""
    torch.manual_seed(0)
    return {
        "torch": torch, "TRMLoss": TRMLoss, "criterion": TRMLoss(), "wandb": Log(), "batch": 32, "batch_size": 32,
        "task_logits": torch.randn(32, 8, requires_grad=True), "halt_logits": torch.randn(32, 1, requires_grad=True),
        "labels": torch.randint(0, 8, (32,)), "pnl": 0.05 * torch.randn(32),
        "train_labels": torch.arange(200) % 8,
    }  # fmt: skip


def run(block: str, names: dict[str, Any]) -> dict[str, Any]:
    text = block.replace("src.training.", "trading_bot.training.")
    exec(compile(text, "block", "exec", dont_inherit=True), names)  # annotations are evaluated, as in a file of its own
    return names


def called(names: dict[str, Any]) -> Tensor:
    loss: Tensor = names["criterion"](*(names[name] for name in ("task_logits", "halt_logits", "labels", "pnl")))
    return loss


def test_quick_start(names: dict[str, Any]) -> None:
    del names["TRMLoss"]
    run(BLOCKS[0], names)
    assert names["TRMLoss"] is TRMLoss
    loss = run(BLOCKS[1], names)["loss"]
    assert loss.shape == ()
    assert names["task_logits"].grad.abs().sum() > 0
    assert names["halt_logits"].grad.abs().sum() > 0


def test_input_requirements(names: dict[str, Any]) -> None:
    """Shapes in the place of types: these are the shapes that are taken."""
    shapes = run(BLOCKS[2], names)["__annotations__"]
    assert list(shapes) == ["task_logits", "halt_logits", "labels", "pnl"]
    assert all(tuple(names[name].shape) == shape for name, shape in shapes.items())
    assert torch.isfinite(called(names))


def test_halt_logic(names: dict[str, Any]) -> None:
    """What the lines say of a row is the target that the loss has for it."""
    meant = BLOCKS[3].replace(" AND ", " and ")
    assert meant != BLOCKS[3]
    task, labels = 4 * names["task_logits"].detach(), names["labels"].clone()
    labels[::2] = task.argmax(1)[::2]
    targets = []
    for row in range(32):
        local = {"softmax": lambda x: x.softmax(0), "argmax": torch.argmax, "max": max,
                 "task_logits": task[row], "label": labels[row]}  # fmt: skip
        targets.append(float(run(meant, local)["halt_target"]))
    assert 4 < sum(targets) < 28
    halt = torch.zeros(32, requires_grad=True)
    loss = TRMLoss(lambda_halt=1.0)(task, halt, labels, names["pnl"])
    assert isinstance(loss, Tensor)
    loss.backward()  # type: ignore[no-untyped-call]
    assert halt.grad is not None
    torch.testing.assert_close(0.5 - 32 * halt.grad, torch.tensor(targets))


def test_class_balancing(names: dict[str, Any]) -> None:
    run(BLOCKS[4], names)
    torch.testing.assert_close(names["criterion"].class_weights, names["weights"])
    assert torch.isfinite(called(names))


def test_monitoring(names: dict[str, Any]) -> None:
    run(BLOCKS[5], names)
    (line,) = names["wandb"].lines
    assert list(line) == ["loss/total", "loss/halt", "loss/task", "loss/profit_weighted"]
    assert float(line["loss/total"].detach()) == pytest.approx(
        0.01 * float(line["loss/halt"]) + 1.0 * float(line["loss/profit_weighted"]), rel=1e-5
    )
    assert set(names["components"]) == {
        "total_loss", "halt_loss", "task_loss", "profit_weighted_task_loss", "halt_rate", "accuracy",
    }  # fmt: skip


@pytest.mark.parametrize(("block", "words"), [(BLOCKS[6], r"wanted \(batch, 8\)"), (BLOCKS[7], "the same batch")])
def test_what_is_marked_as_an_error_is_one_and_what_as_correct_is_not(
    block: str, words: str, names: dict[str, Any]
) -> None:
    wrong, right = block.split("# ✅ CORRECT")
    run(wrong, names)
    with pytest.raises(TrainingError, match=words):
        called(names)
    run(right, names)
    assert torch.isfinite(called(names))


def test_both_shapes_of_halt_logits(names: dict[str, Any]) -> None:
    lines = [line for line in BLOCKS[8].splitlines() if "=" in line]
    assert len(lines) == 2
    for line in lines:
        run(line, names)
        assert torch.isfinite(called(names))


def test_the_defaults_are_those_of_the_table() -> None:
    loss = TRMLoss()
    found = (loss.lambda_halt, loss.lambda_profit, loss.confidence_threshold, loss.pnl_scale, loss.halt_target)
    assert found == (0.01, 1.0, 0.7, 0.05, "seed")


@pytest.mark.skipif(not SEED.is_file(), reason=f"the original text is not here: {SEED.name}")
def test_these_are_all_the_blocks_there_are() -> None:
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", SEED.read_text(), re.MULTILINE | re.DOTALL)
    assert [block.strip() for block in blocks] == [block.strip() for block in BLOCKS]
