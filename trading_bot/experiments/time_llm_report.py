"""The page and the picture of what a language model adds to Time-LLM."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import sklearn
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trading_bot import __version__
from trading_bot.domain.market import Floats
from trading_bot.experiments.adaptive_vs_fixed_comparison import Losses, over_seeds
from trading_bot.experiments.report_section import (
    between,
    chance,
    counted,
    drawn_from,
    listed,
    table,
    write_section,
)
from trading_bot.experiments.statistics import Difference, diebold_mariano, holm, paired_difference
from trading_bot.training.devices import pick_device
from trading_bot.training.evaluation import Evaluation
from trading_bot.training.fitting import FitConfig
from trading_bot.training.prepared_data import PreparedData

PAGE, PICTURE = "time-llm.md", "time-llm.png"
BASELINES = ("zero", "mean", "persistence", "ridge")
SUBJECT = "backbone"
LEVEL = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """Everything the page shows.

    Attributes
    ----------
    evaluations : by arm, one for each of `seeds`
    labels : by arm of Time-LLM, what reads the patches
    random : whether the language model was never trained
    parameters : by arm, how many are trained
    step : by arm, CPU seconds of a step
    """

    data: PreparedData
    config: FitConfig
    folds: int
    seeds: tuple[int, ...]
    evaluations: Mapping[str, tuple[Evaluation, ...]]
    labels: Mapping[str, str]
    random: bool
    parameters: Mapping[str, int]
    step: Mapping[str, float]
    command: str
    source: str
    sha256: str

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(self.evaluations)

    def errors(self, arm: str) -> Losses:
        """Absolute errors of a network or of a baseline, which no seed changes."""
        return [[np.abs(forecast - target) for forecast, target in seed] for seed in self._pairs(arm)]

    def missed(self, arm: str) -> Losses:
        """1 where the sign was wrong, of the rows that moved."""
        return [
            [(np.sign(forecast) != np.sign(target))[target != 0].astype(np.float64) for forecast, target in seed]
            for seed in self._pairs(arm)
        ]

    def spread(self, arm: str) -> float:
        """How far its forecasts move within a fold, in units of how far the targets do; the mean over seeds and folds.

        Near 0 a network says about the same whatever it sees.
        """
        return float(np.mean([forecast.std() / target.std() for seed in self._pairs(arm) for forecast, target in seed]))

    def _pairs(self, arm: str) -> list[list[tuple[Floats, Floats]]]:
        own = self.evaluations[self.arms[0] if arm in BASELINES else arm]
        name = arm if arm in BASELINES else "model"
        return [
            [(fold.forecasts[name], self.data.y[fold.held].astype(np.float64)) for fold in evaluation.folds]
            for evaluation in own
        ]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One arm beside another: below 0 the first is better.

    Attributes
    ----------
    error : difference of mean absolute errors
    dm : Diebold and Mariano's p of the errors averaged over seeds
    missed : difference of the shares of wrong signs; None beside a forecast without a sign
    """

    first: str
    second: str
    error: Difference
    dm: float
    missed: Difference | None


def compare(found: Findings, first: str, second: str) -> Comparison:
    """Paired by seed, fold and row."""
    own, other = found.errors(first), found.errors(second)
    block = 2 * found.data.horizon
    signs = None if second == "zero" else paired_difference(found.missed(first), found.missed(second), block)
    dm = diebold_mariano(over_seeds(own), over_seeds(other), found.data.horizon).p
    return Comparison(first, second, paired_difference(own, other, block), dm, signs)


def write(found: Findings, folder: Path) -> None:
    """Put the page and its picture into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    subject = SUBJECT if SUBJECT in found.arms else found.arms[0]
    others = [arm for arm in (*found.arms, *BASELINES) if arm != subject]
    beside = [compare(found, subject, other) for other in others]
    against = [compare(found, arm, other) for other in ("zero", "mean") for arm in found.arms]
    _picture(found, [each for each in against if each.second == "zero"], folder / PICTURE)
    parts = (
        _head(found), _verdict(found, subject, beside, against), _scores(found),
        _compared("### What reads the patches, compared", f"{_name(found, subject)} less each of the others",
                  beside, found),
        _compared("### Beside forecasts that learn nothing",
                  "Each network less the zero forecast, and less the mean of its training rows", against, found),
        _how(found),
    )  # fmt: skip
    write_section(folder / PAGE, "\n\n".join(parts), "# Time-LLM")


def _head(found: Findings) -> str:
    data, fit = found.data, found.config
    budget = f"{fit.epochs * fit.batches_per_epoch} steps" if fit.batches_per_epoch else f"{fit.epochs} epochs"
    without = (
        "\n\n**No language model that was ever trained was at hand.** What is called a backbone here is a tiny GPT-2 "
        "with random weights (others for each seed), frozen as a real one would be. So this page tells what the "
        "machinery does and costs, not what a language model knows. With one, in a local directory as transformers "
        f"saves it:\n\n    {found.command} --llm-path DIR"
    )
    return (
        "## What the language model adds\n\n"
        f"{found.source}: {len(data.y):,} windows of {data.length} bars × {len(data.names)} features, return over "
        f"{data.horizon} bars; {counted(found.folds, 'walk-forward fold')}, seeds {', '.join(map(str, found.seeds))}. "
        f"Every network is fitted on everything before a fold, less {data.horizon} purged rows, for at most {budget} "
        f"of {fit.batch_size} rows (loss {fit.loss}, {fit.optimizer} at {fit.learning_rate:g}); the newest "
        f"{fit.validation:.0%} of its rows choose the epoch. A small budget: `--epochs`, `--batches` and `--seeds` "
        f"give a larger one.\n\n    {found.command}" + (without if found.random else "") + f"\n\n![errors]({PICTURE})"
    )


def _verdict(
    found: Findings, subject: str, beside: Sequence[Comparison], against: Sequence[Comparison]
) -> str:  # fmt: skip
    error_ps, sign_ps = _adjusted(beside)
    networks = [arm for arm in found.arms if arm != subject]
    words = [
        f"**{_name(found, subject)} beside {_name(found, each.second)}**: "
        + _told("error", each.error, error_ps[each.second])
        + ("." if each.missed is None else f"; {_told('share of wrong signs', each.missed, sign_ps[each.second])}.")
        for each in beside if each.second in networks
    ]  # fmt: skip
    adjusted = dict(zip([(c.first, c.second) for c in against], holm([c.error.p for c in against]), strict=True))
    shown = {
        second: [c.first for c in against if c.second == second and c.error.high < 0
                 and adjusted[c.first, second] < LEVEL]
        for second in ("zero", "mean")
    }  # fmt: skip
    told = {second: listed([_name(found, arm) for arm in arms]) for second, arms in shown.items()}
    words.append(
        f"With an error below that of forecasting no move, by the interval and by Holm: {told['zero']}; below that of "
        f"the training's mean: {told['mean']}."
    )
    if not shown["zero"]:
        words.append(
            "**This is a null result**: within this budget none of these networks is shown to forecast better than no "
            "forecast at all."
        )
    return "### Verdict\n\n" + "\n\n".join(words)


def _told(what: str, each: Difference, p: float) -> str:
    factor, unit = (1e5, " · 10⁻⁵") if what == "error" else (100.0, " points")
    if p >= LEVEL or each.low <= 0 <= each.high:
        said = f"no difference of the {what} is shown"
    else:
        said = f"the {what} is {'smaller' if each.value < 0 else 'larger'}"
    return f"{said} ({between(each, factor)}{unit}, Holm's p {chance(p)})"


def _scores(found: Findings) -> str:
    rows = []
    for arm in (*found.arms, *BASELINES):
        errors = found.errors(arm)
        squared = [[fold**2 for fold in seed] for seed in errors]
        mae, mse = _interval(errors, found), _interval(squared, found)
        hits = None if arm == "zero" else _interval(found.missed(arm), found)
        rows.append([
            _name(found, arm), f"{found.parameters[arm]:,}" if arm in found.parameters else "–",
            f"{found.step[arm] * 1e3:.1f}" if arm in found.step else "–",
            f"{found.spread(arm):.3f}",
            "{:.1f} ({:.1f} … {:.1f})".format(*(1e5 * value for value in (mae.value, mae.low, mae.high))),
            "{:.1f} ({:.1f} … {:.1f})".format(*(1e5 * np.sqrt([mse.value, mse.low, mse.high]))),
            "–" if hits is None else f"{1 - hits.value:.2%} ({1 - hits.high:.2%} … {1 - hits.low:.2%})",
        ])  # fmt: skip
    header = ("forecast", "trained", "CPU ms a step", "spread", "MAE, 10⁻⁵ (95 %)", "RMSE, 10⁻⁵ (95 %)",
              "hit rate (95 %)")  # fmt: skip
    count = sum(len(fold.held) for fold in found.evaluations[found.arms[0]][0].folds)
    return (
        f"### Errors and hits over all folds\n\n{table(header, rows)}\n\n{count:,} rows that were never trained on. "
        f"A step is of {found.config.batch_size} rows, the median of several rounds in which the arms take turns. "
        "Spread is how far the forecasts move, in units of how far the returns do: near 0, a network says about the "
        "same whatever it sees, which costs little where there is little to be known. The intervals are wide since the "
        "market moves all arms alike; the differences below are paired."
    )


def _compared(title: str, what: str, comparisons: Sequence[Comparison], found: Findings) -> str:
    error_ps, sign_ps = holm([each.error.p for each in comparisons]), _by_place(comparisons)
    rows = [
        [
            _name(found, each.first), _name(found, each.second), between(each.error, 1e5), chance(each.error.p),
            chance(float(p)), chance(each.dm),
            *(["–"] * 3 if each.missed is None else
              [between(each.missed, -100), chance(each.missed.p), chance(sign_ps[place])]),
        ]
        for place, (each, p) in enumerate(zip(comparisons, error_ps, strict=True))
    ]  # fmt: skip
    header = ("first", "less", "MAE, 10⁻⁵ (95 %)", "p", "Holm", "DM p", "hits, points (95 %)", "p", "Holm")
    return (
        f"{title}\n\n{what}; below 0 in the errors, above 0 in the hits, the first is better.\n\n{table(header, rows)}"
        f"\n\nPaired by seed, fold and row; intervals and p by a bootstrap over "
        f"{drawn_from(len(found.seeds), found.folds)}; Holm over the rows of its column; DM is Diebold and Mariano's "
        "test of the errors averaged over seeds, with Bartlett weights."
    )


def _how(found: Findings) -> str:
    seconds = {
        arm: sum(sum(history["seconds"]) for each in own for fold in each.folds for history in fold.histories.values())
        for arm, own in found.evaluations.items()
    }
    times = ", ".join(f"{_name(found, arm)} {spent / 60:.1f} min" for arm, spent in seconds.items())
    labels = "; ".join(f"{arm}: {label}" for arm, label in found.labels.items())
    library = f", transformers {version('transformers')}" if SUBJECT in found.arms else ""
    cores = f"{torch.get_num_threads()} of {os.cpu_count()} cores ({platform.machine()})"
    return (
        f"### How it was measured\n\nWhat reads the patches — {labels or 'no Time-LLM'}. Training took {times} of "
        f"wall-clock time: {cores}, device {pick_device(found.config.device)}. Python "
        f"{platform.python_version()}, trading-bot {__version__}, torch {torch.__version__}{library}, scikit-learn "
        f"{sklearn.__version__}, numpy {np.__version__}.\n\nCandles: {found.source}, sha256 `{found.sha256}`."
    )


def _name(found: Findings, arm: str) -> str:
    if arm == SUBJECT:
        return "Time-LLM, random backbone" if found.random else f"Time-LLM, {found.labels[arm]}"
    return {"attention": "Time-LLM, one attention layer", "none": "Time-LLM, nothing instead", "cnn": "small CNN",
            "lstm": "small LSTM", "zero": "no move", "mean": "training's mean"}.get(arm, arm)  # fmt: skip


def _adjusted(comparisons: Sequence[Comparison]) -> tuple[dict[str, float], dict[str, float]]:
    """Holm's p of errors and of signs, by the second arm."""
    errors = holm([each.error.p for each in comparisons])
    signs = _by_place(comparisons)
    return (
        {each.second: float(p) for each, p in zip(comparisons, errors, strict=True)},
        {comparisons[place].second: p for place, p in signs.items()},
    )


def _by_place(comparisons: Sequence[Comparison]) -> dict[int, float]:
    """Holm's p of the signs, by the place of the comparison among all."""
    there = {place: each.missed.p for place, each in enumerate(comparisons) if each.missed is not None}
    return dict(zip(there, map(float, holm(list(there.values()))), strict=True)) if there else {}


def _interval(losses: Losses, found: Findings) -> Difference:
    """Of their mean."""
    nothing = [[np.zeros(len(fold)) for fold in seed] for seed in losses]
    return paired_difference(losses, nothing, 2 * found.data.horizon)


def _picture(found: Findings, against_zero: Sequence[Comparison], path: Path) -> None:
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for place, each in enumerate(against_zero):
        _bar(left, place, *(1e5 * value for value in (each.error.value, each.error.low, each.error.high)))
        missed = _interval(found.missed(each.first), found)
        _bar(right, place, *(100 * (1 - value) for value in (missed.value, missed.high, missed.low)))
    drift = _interval(found.missed("mean"), found)
    left.axvline(0, color="#c0392b", linewidth=1, linestyle=":")
    right.axvline(100 * (1 - drift.value), color="#c0392b", linewidth=1, linestyle=":")
    left.set_yticks(range(len(against_zero)), [_name(found, each.first) for each in against_zero])
    left.invert_yaxis()
    left.set_title("MAE less that of no move, 10⁻⁵ (left is better), 95 %", fontsize=10)
    right.set_title("hit rate, % (dotted: the training's mean), 95 %", fontsize=10)
    for panel in (left, right):
        panel.grid(alpha=0.25, axis="x")
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _bar(panel: Axes, place: int, value: float, low: float, high: float) -> None:
    reach = [[max(0.0, value - low)], [max(0.0, high - value)]]
    panel.errorbar(value, place, xerr=reach, fmt="o", color="#1b6ca8", capsize=4)
