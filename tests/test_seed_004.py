"""The usage blocks of the training pipeline's first specification run as they stand there, but for the module's prefix.

A block that names `cuda` is given the device this machine has; epochs and rows are few. Where the folder with the
original text is at hand, the blocks here are held against it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trading_bot.models.registry import build_model, count_parameters
from trading_bot.training import data_loaders, loss_functions, trainer
from trading_bot.training.devices import available_devices
from trading_bot.training.loss_functions import LOSS_PRESETS, MSELoss

SEED = next((Path(__file__).parents[2] / "shared" / "seeds").glob("004_*.md"), Path("004.md"))

PUBLIC = {
    loss_functions: (
        "MSELoss", "MAELoss", "HuberLoss", "SharpeRatioLoss", "QuantileLoss", "DirectionalAccuracyLoss",
        "ReturnVolatilityLoss", "CombinedLoss", "create_loss_function",
    ),
    trainer: ("EarlyStopping", "ModelCheckpoint", "Trainer", "create_optimizer", "create_scheduler"),
    data_loaders: (
        "TimeSeriesDataset", "WalkForwardValidator", "create_data_loaders", "create_walk_forward_loaders",
        "prepare_data",
    ),
}  # fmt: skip

BLOCKS = [
    """
loss_fn = create_loss_function('sharpe')  # Sharpe ratio loss
loss = loss_fn(predictions, targets)       # Scalar loss value

# Combined losses
combined = CombinedLoss(
    losses={'mse': MSELoss(), 'mae': MAELoss()},
    weights={'mse': 0.7, 'mae': 0.3}
)
""",
    """
early_stop = EarlyStopping(patience=15, min_delta=1e-4)
should_stop = early_stop(current_val_loss)
""",
    """
checkpoint = ModelCheckpoint(
    dirpath='./checkpoints',
    filename='best_model.pt',
    monitor='val_loss',
    mode='min'
)
checkpoint.save(model, val_loss)
""",
    """
trainer = Trainer(
    model=model,
    train_dataloader=train_loader,
    val_dataloader=val_loader,
    loss_fn=loss_fn,
    optimizer=optimizer,
    device='cuda',
    scheduler=scheduler,
    max_grad_norm=1.0
)

trainer.set_early_stopping(patience=15)
trainer.set_checkpoint('./checkpoints')
history = trainer.fit(epochs=100)
""",
    """
dataset = TimeSeriesDataset(
    X=feature_windows,
    y=targets,
    normalize=True,
    mean=train_mean,
    std=train_std
)
""",
    """
validator = WalkForwardValidator(
    num_windows=1000,
    validation_size=0.2,
    num_steps=12  # 12 walk-forward steps
)
splits = validator.get_splits()
""",
    """
train_loader, val_loader = create_data_loaders(
    X=features,
    y=targets,
    batch_size=32,
    validation_split=0.2,
    normalize=True
)
""",
    """
# Loss and optimizer
loss_fn = create_loss_function('mse')
optimizer = create_optimizer(model, 'adam', lr=0.001)

# Data loaders
train_loader, val_loader = create_data_loaders(
    X, y, batch_size=32, validation_split=0.2
)

# Trainer
trainer = Trainer(
    model=model,
    train_dataloader=train_loader,
    val_dataloader=val_loader,
    loss_fn=loss_fn,
    optimizer=optimizer,
    device='cuda'
)

# Train
history = trainer.fit(epochs=100, early_stopping_patience=15)
""",
    """
# Learning rate scheduler
scheduler = create_scheduler(
    optimizer,
    'cosine',
    T_max=100
)

# Trainer with scheduler
trainer = Trainer(
    model=model,
    train_dataloader=train_loader,
    val_dataloader=val_loader,
    loss_fn=loss_fn,
    optimizer=optimizer,
    scheduler=scheduler,
    max_grad_norm=1.0
)

trainer.set_early_stopping(patience=15, min_delta=1e-4)
trainer.set_checkpoint('./checkpoints')

# Train
history = trainer.fit(epochs=200, log_interval=5)
""",
    """
# Create walk-forward loaders
wf_loaders = create_walk_forward_loaders(
    X, y,
    batch_size=32,
    validation_fraction=0.2,
    num_steps=12,
    normalize=True
)

# Train on each fold
results = []
for i, (train_loader, val_loader) in enumerate(wf_loaders):
    print(f"Training fold {i+1}/12...")

    trainer = Trainer(
        model=model,
        train_dataloader=train_loader,
        val_dataloader=val_loader,
        loss_fn=loss_fn,
        optimizer=optimizer
    )

    history = trainer.fit(epochs=50)
    results.append(history)
""",
]


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Everything the blocks take as given, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    X, y = random.normal(size=(100, 30, 40)).astype(np.float32), random.normal(0, 0.01, 100).astype(np.float32)
    model = build_model("cnn")
    given: dict[str, Any] = {name: getattr(module, name) for module, words in PUBLIC.items() for name in words}
    train_loader, val_loader = data_loaders.create_data_loaders(X, y)
    optimizer = trainer.create_optimizer(model, "adam", lr=0.001)
    given |= {
        "X": X, "y": y, "features": X, "feature_windows": X, "targets": y, "model": model, "optimizer": optimizer,
        "predictions": torch.randn(64, 1) * 0.01, "train_loader": train_loader, "val_loader": val_loader,
        "loss_fn": MSELoss(), "scheduler": trainer.create_scheduler(optimizer, "cosine", T_max=100),
        "current_val_loss": 0.5, "val_loss": 0.5, "train_mean": X.mean((0, 1)), "train_std": X.std((0, 1)),
    }  # fmt: skip
    return given


def run(block: str, names: dict[str, Any]) -> dict[str, Any]:
    """Execute a block: on the device that is there, and for few epochs."""
    text = block.replace("'cuda'", f"{available_devices()[0]!r}")
    text = re.sub(r"epochs=\d+", "epochs=2", text)
    exec(text, names)
    return names


def test_losses(names: dict[str, Any]) -> None:
    names["targets"] = torch.randn(64, 1) * 0.01
    loss = run(BLOCKS[0], names)["loss"]
    assert loss.shape == ()
    assert 0 <= float(loss) <= 2
    assert names["combined"].weights == pytest.approx({"mse": 0.7, "mae": 0.3})


def test_early_stopping_and_checkpoint(names: dict[str, Any]) -> None:
    assert run(BLOCKS[1], names)["should_stop"] is False
    run(BLOCKS[2], names)
    assert Path("checkpoints/best_model.safetensors").is_file()


def test_trainer(names: dict[str, Any]) -> None:
    assert len(run(BLOCKS[3], names)["history"]["val_loss"]) == 2
    assert Path("checkpoints/best_model.safetensors").is_file()


def test_data(names: dict[str, Any]) -> None:
    assert len(run(BLOCKS[4], names)["dataset"]) == 100
    splits = run(BLOCKS[5], names)["splits"]
    assert len(splits) == 12
    assert all(train[-1] < held[0] and len(train) and len(held) for train, held in splits)
    run(BLOCKS[6], names)
    X, y = next(iter(names["train_loader"]))
    assert X.shape == (32, 30, 40)
    assert len(y) == 32
    assert sum(len(X) for X, _ in names["val_loader"]) == 20


@pytest.mark.parametrize("block", BLOCKS[7:9])
def test_training(block: str, names: dict[str, Any]) -> None:
    history = run(block, names)["history"]
    assert len(history["train_loss"]) == 2
    assert all(np.isfinite(history["val_loss"]))


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.*")
def test_walk_forward(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    results = run(BLOCKS[9], names)["results"]
    assert len(results) == 12
    assert "Training fold 12/12..." in capsys.readouterr().out


def test_what_the_checklist_promises() -> None:
    assert len(LOSS_PRESETS) == 5
    counts = {name: count_parameters(build_model(name)) for name in ("lstm", "cnn", "attention", "ensemble")}
    assert {name: f"{count // 1000}K" for name, count in counts.items() if name != "ensemble"} == {
        "lstm": "602K", "cnn": "130K", "attention": "410K",
    }  # fmt: skip
    assert round(counts["ensemble"] / 1e6, 1) == 1.1


@pytest.mark.skipif(not SEED.is_file(), reason=f"the original text is not here: {SEED.name}")
def test_these_are_all_the_blocks_there_are() -> None:
    text = SEED.read_text()
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    assert [block.strip() for block in blocks] == [block.strip() for block in BLOCKS]
    promised = set(
        re.findall(r"`(\w+(?:Loss|Stopping|Checkpoint|Dataset|Validator)|create_\w+|prepare_data)(?:\(\))?`", text)
    )
    assert promised
    assert promised <= {name for words in PUBLIC.values() for name in words}
