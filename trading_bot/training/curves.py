"""A training as a picture: losses by epoch, and what the forecasts were worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trading_bot.training.history import TrainingHistory
from trading_bot.training.scoring import Score

_COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#edae49", "#6c4f77", "#8d8741", "#3f3f3f")


def draw_curves(
    path: Path, title: str, histories: Sequence[tuple[str, Mapping[str, TrainingHistory]]], scores: Mapping[str, Score]
) -> None:
    """Write a PNG.

    Parameters
    ----------
    histories : (name of a fold, its fits by name); each network has a panel of its own, each fold a colour
    scores : by arm; their hit rates with intervals in the last panel
    """
    fits = [fit for fit in dict.fromkeys(name for _, each in histories for name in each) if "out of fold" not in fit]
    figure = Figure(figsize=(4.6 * (len(fits) + 1), 4.2), layout="constrained")
    panels = figure.subplots(1, len(fits) + 1, squeeze=False)[0]
    figure.suptitle(title)
    for panel, fit in zip(panels, fits, strict=False):
        _losses(panel, fit, [(name, each[fit]) for name, each in histories if fit in each])
    _hit_rates(panels[-1], scores)
    figure.savefig(path, dpi=110)


def _losses(panel: Axes, fit: str, curves: Sequence[tuple[str, TrainingHistory]]) -> None:
    for number, (name, history) in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        epochs = range(1, history.epochs + 1)
        panel.plot(epochs, history["train_loss"], "--", color=colour, linewidth=1)
        panel.plot(epochs, history["val_loss"], "-", color=colour, linewidth=1.6, label=name)
        if (best := history.best_epoch) is not None:
            panel.plot(best + 1, history["val_loss"][best], "o", color=colour, markersize=5)
    panel.set_title(f"{fit}: loss (dashed: training, dot: best)", fontsize=10)
    panel.set_xlabel("epoch")
    panel.set_xlim(0.5, max(history.epochs for _, history in curves) + 0.5)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panel.legend(fontsize=8, frameon=False)
    panel.grid(alpha=0.25)


def _hit_rates(panel: Axes, scores: Mapping[str, Score]) -> None:
    shown = [
        (arm, each.hit_rate, each.hit_rate_interval)
        for arm, each in scores.items()
        if each.hit_rate is not None and each.hit_rate_interval is not None
    ]
    for place, (_, rate, (low, high)) in enumerate(shown):
        panel.errorbar(
            place, rate, [[max(0, rate - low)], [max(0, high - rate)]], fmt="o", color=_COLOURS[0], capsize=5
        )
    panel.axhline(0.5, color="#888888", linewidth=1, linestyle=":")
    panel.set_xticks(range(len(shown)), [arm for arm, _, _ in shown])
    panel.set_xlim(-0.5, len(shown) - 0.5)
    panel.set_title("hit rate on rows never trained on, 95 % interval", fontsize=10)
    panel.grid(alpha=0.25, axis="y")
