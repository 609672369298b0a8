"""A step with adaptive weights ≤ 1.15 × the fixed combined loss; ≤ 1.40 × where the policy looks at rows set aside.

The CNN, batches of 128, four losses, one thread. Every side has the same first weights and the same batches and steps
its own optimizer; they take turns of 20 steps, in which two inner-validation batches of 64 rows are looked at. The
calibration is over before.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from loguru import logger
from torch import nn

from benchmarks._figures import goal, interleaved, say, times
from trading_bot.models.registry import build_model
from trading_bot.training.adaptive_loss import COMBINATIONS, POLICIES, create_adaptive_loss
from trading_bot.training.loss_functions import create_loss_function
from trading_bot.training.optimizers import create_optimizer

BATCH = 128
STEPS = 20  # a turn: two looks at rows set aside
ROUNDS = 7
CALIBRATION = 20
COMBINATION = "comprehensive"
MOST = {"performance_based": 1.40, "hybrid": 1.40}
ELSE = 1.15
FIXED = "CombinedLoss"

Batch = tuple[torch.Tensor, torch.Tensor]


def main() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    logger.disable("trading_bot.training")
    try:
        compare()
    finally:
        logger.enable("trading_bot.training")
        torch.set_num_threads(before)


def compare() -> None:
    say(f"{COMBINATION}: {', '.join(COMBINATIONS[COMBINATION].losses)}")
    torch.manual_seed(0)
    first = build_model("cnn")
    batches = [batch(BATCH) for _ in range(8)]
    inner = [batch(64) for _ in range(8)]
    combined = create_loss_function("combined", losses=COMBINATIONS[COMBINATION].losses)
    works = {FIXED: steps(copy.deepcopy(first), combined, batches)}
    for name in POLICIES:
        model = copy.deepcopy(first)
        loss = create_adaptive_loss(COMBINATION, name, calibration_steps=CALIBRATION)
        loss.set_inner_validation(model, lambda number: inner[number % len(inner)])
        works[name] = steps(model, loss, batches)
    interleaved(works, 1)  # the calibration, caches and memory
    spent = interleaved(works, ROUNDS)
    times(f"a step, {FIXED}", [seconds / STEPS for seconds in spent[FIXED]])
    for name in POLICIES:
        ratios = sorted(ours / bare for ours, bare in zip(spent[name], spent[FIXED], strict=True))
        goal(f"{name} against {FIXED}", ratios[len(ratios) // 2], "×", most=MOST.get(name, ELSE))


def steps(model: nn.Module, loss: nn.Module, batches: list[Batch]) -> Callable[[], None]:
    """A turn of a training."""
    optimizer = create_optimizer([*model.parameters(), *loss.parameters()], "adam")

    def turn() -> None:
        model.train()
        for number in range(STEPS):
            X, y = batches[number % len(batches)]
            optimizer.zero_grad(set_to_none=True)
            value: Any = loss(model(X), y)
            value.backward()
            optimizer.step()

    return turn


def batch(rows: int) -> Batch:
    return torch.randn(rows, 30, 40), torch.randn(rows, 1)
