"""The usage blocks of the adaptive loss's first specification run as they stand there, but for the module's prefix.

Where the folder with the original text is at hand, the blocks here are held against it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trading_bot.models.registry import build_model
from trading_bot.training.adaptive_loss import COMBINATIONS, LossSelectionManager
from trading_bot.training.data_loaders import create_data_loaders
from trading_bot.training.devices import available_devices
from trading_bot.training.optimizers import create_optimizer
from trading_bot.training.weight_policies import POLICIES

SEED = next((Path(__file__).parents[2] / "shared" / "seeds").glob("000_*.md"), Path("000.md"))

LOSSES = {
    "basic": "losses = {'mse': 'MSE', 'mae': 'MAE'}",
    "trading_focused": "losses = {'dlf': 'DLF', 'trading': 'TRADING_LOSS', 'sharpe': 'SHARPE_LOSS'}",
    "robust_prediction": "losses = {'mse': 'MSE', 'dlf': 'DLF', 'robust': 'ROBUST'}",
    "comprehensive": ("losses = {'mse': 'MSE', 'dlf': 'DLF', 'trading': 'TRADING_LOSS', 'asymmetric': 'ASYMMETRIC'}"),
    "directional_focused": "losses = {'dlf': 'DLF', 'madl': 'MADL', 'asymmetric': 'ASYMMETRIC'}",
}
BLOCKS = [
    """
from utils.adaptive_loss import create_adaptive_loss

# Create custom adaptive loss
adaptive_loss = create_adaptive_loss(
    combination='trading_focused',
    adaptation_strategy='performance_based',
    adaptation_frequency=50,
    performance_window=20
)
""",
    """
from utils.adaptive_loss_trainer import create_adaptive_trainer

# Create adaptive trainer
trainer = create_adaptive_trainer(
    model=model,
    optimizer=optimizer,
    device=device,
    loss_combination='comprehensive',
    model_id='my_adaptive_model'
)

# Train with adaptive loss
results = trainer.train(train_loader, val_loader, epochs=20)
""",
]


def run(block: str, **given: Any) -> dict[str, Any]:
    names = dict(given)
    exec(block.replace("from utils.", "from trading_bot.training."), names)
    return names


@pytest.mark.parametrize("name", LOSSES)
def test_combinations(name: str) -> None:
    losses = run(LOSSES[name])["losses"]
    assert COMBINATIONS[name].losses == losses
    assert list(LossSelectionManager().create_adaptive_loss(losses, "fixed").weights) == list(losses)


def test_custom_loss() -> None:
    loss = run(BLOCKS[0])["adaptive_loss"]
    assert loss.weights == pytest.approx({"dlf": 1 / 3, "trading": 1 / 3, "sharpe": 1 / 3})
    setting = loss.policy.setting
    assert (type(loss.policy), setting.frequency, setting.window) == (POLICIES["performance_based"], 50, 20)
    loss.eval()
    assert torch.isfinite(loss(torch.randn(64, 1), torch.randn(64, 1)))


def test_training() -> None:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    X = random.normal(size=(400, 30, 40)).astype(np.float32)
    y = (0.01 * X[:, -1, 0] + random.normal(0, 0.003, 400)).astype(np.float32)
    train_loader, val_loader = create_data_loaders(X, y, batch_size=32)
    model = build_model("cnn", channels=(4, 4), kernels=(3, 3), dense=(8,))
    device = torch.device(available_devices()[0])
    names = run(
        BLOCKS[1], model=model, optimizer=create_optimizer(model, "adam", lr=0.001), device=device,
        train_loader=train_loader, val_loader=val_loader,
    )  # fmt: skip
    results = names["results"]
    assert results.history.epochs == 20
    assert names["trainer"].model_id == "my_adaptive_model"
    assert set(results.weights) == {"mse", "dlf", "trading", "asymmetric"}
    assert len(set(results.weights.values())) > 1, "20 epochs of 8 steps: it has adapted"


def test_the_strategies_are_there() -> None:
    assert {"performance_based", "learning_based", "hybrid", "schedule_based"} <= set(POLICIES)


@pytest.mark.skipif(not SEED.is_file(), reason=f"the original text is not here: {SEED.name}")
def test_these_are_all_the_blocks_there_are() -> None:
    text = SEED.read_text()
    blocks = [block.strip() for block in re.findall(r"^ *```python\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)]
    assert blocks == [*LOSSES.values(), *(block.strip() for block in BLOCKS)]
    assert re.findall(r"^### \d\. \*\*[\w ]+\*\* \(`(\w+)`\)$", text, re.MULTILINE) == list(LOSSES)
