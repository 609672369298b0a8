"""A training step with 20 features ≥ 3 × as fast as with 60: what the description hoped for, since 60 / 20 is 3.

CNN, LSTM and Time-LLM as they come: windows of 30 bars, batches of 64, AdamW, one thread. A turn is some steps of one
model with one number of features; the turns of a model take turns, and a ratio is of one round. What counts is the
processor's time, since the clock's also counts what other programs took of the core meanwhile. Only the first layer
of a network grows with its features. Beside 60: the 88 candidates, of which the selection chooses.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from loguru import logger
from torch import nn

from benchmarks._figures import goal, say, times
from trading_bot.models.registry import build_model, count_parameters
from trading_bot.models.time_llm import TimeLLM, TimeLLMConfig
from trading_bot.training.optimizers import create_optimizer

FEW, MANY, ALL = 20, 60, 88
LENGTH = 30
BATCH = 64
STEPS = 5  # a turn
ROUNDS = 21

Build = Callable[[int], nn.Module]


def main() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    logger.disable("trading_bot.models")
    try:
        for name, build in networks().items():
            compare(name, build)
    finally:
        logger.enable("trading_bot.models")
        torch.set_num_threads(before)


def networks() -> dict[str, Build]:
    """What builds each of them for so many features."""
    found: dict[str, Build] = {
        "CNN": lambda features: build_model("cnn", time=LENGTH, features=features),
        "LSTM": lambda features: build_model("lstm", time=LENGTH, features=features),
        "Time-LLM, no language model": partial(time_llm, "none"),
        "Time-LLM, one attention layer": partial(time_llm, "attention"),
    }
    if importlib.util.find_spec("transformers") is None:
        say("skipped: Time-LLM with a language model, since transformers is not installed (the extra llm)")
    else:
        found["Time-LLM, random language model"] = partial(time_llm, "backbone")
    return found


def time_llm(llm: str, features: int) -> nn.Module:
    return TimeLLM(TimeLLMConfig(time=LENGTH, features=features, llm=llm))


def compare(name: str, build: Build) -> None:
    """Its step with each number of features, and the ratios to the fewest."""
    counts = (FEW, MANY, ALL)
    torch.manual_seed(0)
    models = {count: build(count) for count in counts}
    turns = {count: steps(model, count) for count, model in models.items()}
    spent: dict[int, list[float]] = {count: [] for count in counts}
    for number in range(ROUNDS + 1):
        for count, turn in turns.items():
            began = time.process_time()
            turn()
            if number:  # the first is a warm-up
                spent[count].append((time.process_time() - began) / STEPS)
    for count in counts:
        times(f"{name}: {count} features", spent[count])
        say(f"… {count_parameters(models[count]):,} parameters that are trained")
    ratios = {count: sorted(a / b for a, b in zip(spent[count], spent[FEW], strict=True)) for count in counts}
    goal(f"{name}: {MANY} against {FEW}", statistics.median(ratios[MANY]), "×", least=MANY / FEW)
    low, high = (ratios[MANY][round(share * (ROUNDS - 1))] for share in (0.25, 0.75))
    say(f"… the middle half {low:.2f} … {high:.2f} ×; {ALL} against {FEW}: {statistics.median(ratios[ALL]):.2f} ×")


def steps(model: nn.Module, features: int) -> Callable[[], None]:
    """A turn of a training, on one batch."""
    optimizer = create_optimizer(model, "adamw")
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(BATCH, LENGTH, features, generator=generator)
    y = torch.randn(BATCH, 1, generator=generator)
    model.train()

    def turn() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            loss: Any = nn.functional.mse_loss(model(X), y)
            loss.backward()
            optimizer.step()

    return turn
