"""TRM, one window on one core: ≤ 10 ms a supervision step (T = 2, n = 3); training and whole choices beside it.

A choice is made once a bar and takes one to four steps, so this is what a bar's decision would wait for. The goal is
held against the processor's time: the clock's also counts what other programs took of the core meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks._figures import goal, interleaved, median_ms, say, times
from trading_bot.models.registry import count_parameters
from trading_bot.models.trm import TinyRecursiveModel, build_trm
from trading_bot.training.trm_loss_functions import TRMLoss
from trading_bot.training.trm_selector import NEVER, Selector

ROUNDS = 100
BATCH = 32
BATCH_ROUNDS = 5


def main() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(0)
        model = build_trm()
        say(f"one thread; {count_parameters(model):,} parameters")
        inference(model)
        training(model)
    finally:
        torch.set_num_threads(before)


def inference(model: TinyRecursiveModel) -> None:
    """One window: a step, and a whole choice that never stops early."""
    config = model.config
    window = np.random.default_rng(0).normal(size=(1, config.time, config.features)).astype(np.float32)
    still = np.zeros(config.features, np.float32)
    selector = Selector(model, still, still + 1, NEVER, {})
    works = {"a step": partial(selector.choose, window, 1), "all steps": partial(selector.choose, window)}
    interleaved(works, max(1, ROUNDS // 10))
    spent = interleaved(works, ROUNDS)
    for name, seconds in spent.items():
        times(f"one window: {name}", seconds)
    most = model.config.supervision_steps
    busy = {name: [processor_seconds(work) for _ in range(ROUNDS)] for name, work in works.items()}
    goal("one window: a supervision step", median_ms(busy["a step"]), "ms", most=10)
    goal(f"one window: {most} steps, each", median_ms(busy["all steps"]) / most, "ms", most=10)


def processor_seconds(work: Callable[[], object]) -> float:
    """What a call took of the processor, by this thread."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def training(model: TinyRecursiveModel) -> None:
    """A supervision step of a batch, without and with its gradient."""
    config = model.config
    x = torch.randn(BATCH, config.time, config.features)
    labels, pnl, loss = torch.randint(0, config.classes, (BATCH,)), 0.01 * torch.randn(BATCH), TRMLoss()

    def forward() -> None:
        with torch.inference_mode():
            model(x)

    def both() -> None:
        task, halt, _ = model(x)
        loss.components(task, halt, labels, pnl)["total_loss"].backward()  # type: ignore[no-untyped-call]

    for name, seconds in interleaved({"forward": forward, "forward and backward": both}, BATCH_ROUNDS).items():
        times(f"{BATCH} windows: {name}", seconds)
