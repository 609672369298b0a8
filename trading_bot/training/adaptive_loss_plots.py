"""Losses and weights over a training, as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trading_bot.training.adaptive_loss_record import Line
from trading_bot.training.history import TrainingHistory

_COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#edae49", "#6c4f77", "#8d8741", "#3f3f3f")


def draw_losses(
    path: Path,
    title: str,
    lines: Sequence[Line],
    scales: Mapping[str, float],
    calibrated: int,
    history: TrainingHistory,
) -> None:
    """Write a PNG: each loss in its own scale and the combined one by step, the fixed metric by epoch.

    Parameters
    ----------
    calibrated : step at which the scales were frozen
    """
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    figure.suptitle(title)
    steps = [line.step for line in lines]
    for place, (name, scale) in enumerate(scales.items()):
        losses = [line.components[place] / scale for line in lines]
        left.plot(steps, losses, color=_COLOURS[place % len(_COLOURS)], linewidth=1, label=name)
    combined = [
        sum(w * loss / scale for w, loss, scale in zip(line.weights, line.components, scales.values(), strict=True))
        for line in lines
    ]
    left.plot(steps, combined, color="black", linewidth=1.8, label="combined")
    left.set_title("training loss, in units of its own scale", fontsize=10)
    _by_step(left, calibrated)
    epochs = range(1, history.epochs + 1)
    right.plot(epochs, history.get("val_loss", []), "o-", color=_COLOURS[0], markersize=3, linewidth=1.4)
    if (best := history.best_epoch) is not None:
        right.plot(best + 1, history["val_loss"][best], "o", color=_COLOURS[1], markersize=7, label="best")
        right.legend(fontsize=8, frameon=False)
    right.set_title("fixed metric on the validation rows", fontsize=10)
    right.set_xlabel("epoch")
    right.xaxis.get_major_locator().set_params(integer=True)
    right.grid(alpha=0.25)
    figure.savefig(path, dpi=110)


def draw_weights(path: Path, title: str, names: Sequence[str], lines: Sequence[Line], calibrated: int) -> None:
    """Write a PNG of the weights by step."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    panel = figure.subplots()
    figure.suptitle(title)
    steps = [line.step for line in lines]
    for place, name in enumerate(names):
        weights = [line.weights[place] for line in lines]
        panel.plot(steps, weights, color=_COLOURS[place % len(_COLOURS)], linewidth=1.6, label=name)
    panel.axhline(0.05, color="#888888", linewidth=1, linestyle=":")
    panel.set_ylim(0, None)
    panel.set_ylabel("weight")
    panel.set_title("weights (dotted: the least a loss may have)", fontsize=10)
    _by_step(panel, calibrated)
    figure.savefig(path, dpi=110)


def _by_step(panel: Axes, calibrated: int) -> None:
    panel.axvline(calibrated, color="#888888", linewidth=1, linestyle="--")
    panel.set_xlabel("step (dashed: scales frozen, adaptation begins)")
    panel.legend(fontsize=8, frameon=False)
    panel.grid(alpha=0.25)
