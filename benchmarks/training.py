"""Trainer ≤ 1.03 × a hand-written loop for the networks, ≤ 1.10 × for 1,200 parameters; LSTM checkpoint ≤ 20 ms.

Both loops take the same batches of 32 from the same loader, clip, step the same fused optimizer, sum the loss up and
validate once an epoch; they take turns. Their models begin with the same weights.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks._figures import goal, interleaved, median_ms, say, times
from trading_bot.models.registry import build_model, count_parameters
from trading_bot.training.checkpoint_file import read_checkpoint, write_checkpoint
from trading_bot.training.data_loaders import BatchLoader, create_data_loaders
from trading_bot.training.optimizers import create_optimizer
from trading_bot.training.trainer import Trainer

NETWORKS = ("cnn", "attention", "lstm")
ROUNDS = 4
BATCHES = 120  # a quarter of an epoch on four years of hours
SMALL_BATCHES = 1_000
ROWS = 40_000
SAVES = 30


def main() -> None:
    small = nn.Sequential(nn.Flatten(), nn.Linear(1200, 1))
    say(f"{torch.get_num_threads()} threads; the small model has {count_parameters(small)} parameters")
    for name in NETWORKS:
        compare(name, build_model(name), BATCHES, 1.03)
    compare("small", small, SMALL_BATCHES, 1.10)
    checkpoint()


def compare(name: str, model: nn.Module, batches: int, most: float) -> None:
    """The ratio of both loops for one model."""
    random = np.random.default_rng(0)
    X = np.lib.stride_tricks.sliding_window_view(
        random.normal(size=(ROWS, 40)).astype(np.float32), 30, axis=0
    ).transpose(0, 2, 1)
    y = random.normal(size=len(X)).astype(np.float32)
    train, val = create_data_loaders(X, y, 32, validation_split=0.005)
    train.max_batches = batches
    twin = copy.deepcopy(model)
    optimizer = create_optimizer(model, "adam")
    trainer = Trainer(model, train, val, nn.functional.mse_loss, optimizer, device="cpu")
    by_hand = hand_written(twin, train, val)
    loops = {"Trainer": lambda: trainer.fit(1, log_interval=0), "by hand": by_hand}
    interleaved(loops, 1)  # both are warm then
    first = interleaved(loops, ROUNDS)
    then = interleaved(dict(reversed(loops.items())), ROUNDS)  # neither is always the first of a pair
    spent = {name: first[name] + then[name] for name in loops}
    for loop, seconds in spent.items():
        times(f"{name}: a step, {loop}", [second / batches for second in seconds])
    ratios = sorted(a / b for a, b in zip(spent["Trainer"], spent["by hand"], strict=True))
    goal(f"{name}: Trainer against the loop by hand", ratios[len(ratios) // 2], "×", most=most)


def hand_written(model: nn.Module, train: BatchLoader, val: BatchLoader) -> Callable[[], float]:
    """An epoch as one writes it down."""
    optimizer = create_optimizer(model, "adam")
    parameters = list(model.parameters())

    def epoch() -> float:
        model.train()
        train.epoch = 0
        total = 0.0
        for X, y in train:
            optimizer.zero_grad(set_to_none=True)
            loss: Any = nn.functional.mse_loss(model(X), y)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            total += loss.item() * len(X)
        model.eval()
        with torch.inference_mode():
            pairs = [(model(X), y) for X, y in val]
            return float(nn.functional.mse_loss(torch.cat([p for p, _ in pairs]), torch.cat([y for _, y in pairs])))

    return epoch


def checkpoint() -> None:
    """Saving and loading the LSTM."""
    model = build_model("lstm")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        spent = interleaved(
            {
                "write and rename": lambda: write_checkpoint(path, model.state_dict(), {"epoch": 1}, durable=False),
                "… with fsync": lambda: write_checkpoint(path, model.state_dict(), {"epoch": 1}),
                "read and check": lambda: read_checkpoint(path),
                "torch.save": lambda: torch.save(model.state_dict(), path.with_suffix(".pt")),
            },
            SAVES,
        )
    for name, seconds in spent.items():
        times(f"LSTM checkpoint: {name}", seconds)
    goal("LSTM checkpoint, fsync apart", median_ms(spent["write and rename"]), "ms", most=20)
