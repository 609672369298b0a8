"""Losses, forward and backward at B = 4096: pointwise ≤ 2.2 × torch's mse_loss, pinball ≤ 3 ×, of positions ≤ 6 ×.

Both sides on one thread, in turns, a backward pass into the predictions each time. With more threads the figure would
be how long one of them waits for a processor: no operation here is large enough to share.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._figures import goal, interleaved, median_ms, times
from trading_bot.training.loss_functions import LOSSES, CombinedLoss, Loss, QuantileLoss, create_loss_function

BATCH = 4096
ROUNDS = 500
POINTWISE, PINBALL, POSITIONS = 2.2, 3.0, 6.0
SIGMA = 0.01
BARE = "torch mse_loss"


def main() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        compare()
    finally:
        torch.set_num_threads(before)


def compare() -> None:
    generator = torch.Generator().manual_seed(4)
    predictions = (SIGMA * torch.randn(BATCH, 1, generator=generator)).requires_grad_()
    targets = SIGMA * torch.randn(BATCH, 1, generator=generator)
    losses = tried()
    works: dict[str, Callable[[], object]] = {BARE: partial(step, F.mse_loss, predictions, targets)}
    works |= {name: partial(step, loss, predictions, targets) for name, (loss, _) in losses.items()}
    interleaved(works, max(ROUNDS // 20, 1))  # memory and caches as they will be
    spent = interleaved(works, ROUNDS)
    times(BARE, spent[BARE])
    bare = median_ms(spent[BARE])
    for name, (_, most) in losses.items():
        goal(name, median_ms(spent[name]) / bare, "×", most=most)


def tried() -> dict[str, tuple[Loss, float]]:
    """Every loss with its goal; those built on positions once more where turnover costs."""
    pointwise = {"mse", "mae", "huber", "ROBUST"}
    found: dict[str, tuple[Loss, float]] = {}
    for name, kind in LOSSES.items():
        if kind is CombinedLoss or name == "SHARPE_LOSS":
            continue
        most = POINTWISE if name in pointwise else PINBALL if kind is QuantileLoss else POSITIONS
        found[name] = create_loss_function(name, sigma=SIGMA), most
    for name in ("sharpe", "return_volatility", "TRADING_LOSS"):
        found[f"{name}, contiguous"] = create_loss_function(name, sigma=SIGMA, contiguous=True), POSITIONS
    return found


def step(loss: Callable[[Tensor, Tensor], Tensor], predictions: Tensor, targets: Tensor) -> None:
    predictions.grad = None
    loss(predictions, targets).backward()  # type: ignore[no-untyped-call]
