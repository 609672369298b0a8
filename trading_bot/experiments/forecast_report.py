"""The page and the picture of the forecast evidence."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sklearn
import torch
from matplotlib.figure import Figure

from trading_bot import __version__
from trading_bot.domain.market import Floats
from trading_bot.experiments.report_section import chance, listed, table
from trading_bot.experiments.statistics import diebold_mariano, holm
from trading_bot.training.devices import pick_device
from trading_bot.training.evaluation import ARMS, Evaluation
from trading_bot.training.fitting import FitConfig
from trading_bot.training.prepared_data import PreparedData
from trading_bot.training.scoring import Score, block_interval, score


@dataclass(frozen=True, slots=True, eq=False)
class ModelFindings:
    """One model: an evaluation for each seed."""

    name: str
    evaluations: tuple[Evaluation, ...]

    @property
    def seconds(self) -> float:
        """Spent on its fits, whenever they were made."""
        folds = [fold for evaluation in self.evaluations for fold in evaluation.folds]
        return sum(sum(history["seconds"]) for fold in folds for history in fold.histories.values())

    def forecast(self) -> tuple[Floats, Floats]:
        """The mean over seeds of the forecasts, and the targets."""
        parts = [evaluation.pooled("model") for evaluation in self.evaluations]
        return np.mean([forecast for forecast, _ in parts], axis=0), parts[0][1]


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """Everything the page shows."""

    name: str
    candles: str
    sha256: str
    data: PreparedData
    config: FitConfig
    folds: int
    seeds: int
    models: tuple[ModelFindings, ...]
    command: str

    def scores(self) -> dict[str, Score]:
        """The models, then the baselines (which no seed changes)."""
        horizon = self.data.horizon
        models = {model.name: score(*model.forecast(), horizon) for model in self.models}
        first = self.models[0].evaluations[0]
        return {**models, **{arm: score(*first.pooled(arm), horizon) for arm in ARMS if arm != "model"}}


def write(findings: Findings, folder: Path) -> None:
    """Write forecast.md and forecast.png into `folder`."""
    scores = findings.scores()
    _picture(findings, scores, folder / "forecast.png")
    sections = [_head(findings), _verdict(findings, scores), _scores(scores), _by_fold(findings), _how(findings)]
    (folder / "forecast.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _head(findings: Findings) -> str:
    data, fit = findings.data, findings.config
    steps = fit.epochs * fit.batches_per_epoch if fit.batches_per_epoch else None
    budget = f"{steps} steps" if steps else f"{fit.epochs} epochs"
    return (
        f"# Forecasting {data.horizon} bars ahead\n\n"
        f"{findings.candles}: {len(data.y):,} windows of {data.length} bars × {len(data.names)} features. "
        f"{findings.folds} walk-forward folds: each network is fitted on everything before a block (less "
        f"{data.horizon} purged rows) and judged on the block; the newest {fit.validation:.0%} of its training rows "
        f"decide when to stop. Budget of a fit: at most {budget} of {fit.batch_size} rows, loss {fit.loss}, "
        f"{fit.optimizer} at {fit.learning_rate:g}, patience {fit.patience} epochs; {findings.seeds} seed(s)"
        f"{', forecasts averaged over them' if findings.seeds > 1 else ''}. The whole page took "
        f"{sum(model.seconds for model in findings.models) / 60:.0f} minutes of training.\n\n"
        f"    {findings.command}\n\n"
        "Larger budgets: `--epochs`, `--batches 0` (all rows), `--seeds`, `--folds`.\n\n"
        "![hit rates and skill](forecast.png)"
    )


def _verdict(findings: Findings, scores: dict[str, Score]) -> str:
    """What the numbers carry: differences paired row by row, intervals widened for as many networks as were tried."""
    coverage = 1 - 0.05 / len(findings.models)  # Bonferroni
    both = [differences(model, findings.data.horizon, coverage) for model in findings.models]
    adjusted = np.transpose([holm([pair[which].p for pair in both]) for which in range(2)])
    rows, above, below, directed = [], [], [], []
    for model, (error, direction), (error_p, direction_p) in zip(findings.models, both, adjusted, strict=True):
        rows.append((model.name, *_cells(error, error_p), *_cells(direction, direction_p)))
        above += [model.name] if error.interval[0] > 0 else []
        below += [model.name] if error.interval[1] < 0 else []
        directed += [model.name] if direction.interval[0] > 0 else []
    header = ("network", "skill against zero", f"{coverage:.2%}", "p", "Holm",
              "hits beyond the mean's", f"{coverage:.2%}", "p", "Holm")  # fmt: skip
    null = (
        "\n\n**This is a null result**: within this budget no network is shown to forecast these returns better than "
        "no forecast at all, nor their direction better than the past's drift. That is to be expected of hourly "
        "prices, and why a promoted network's confidence is its calibrated chance of being right and no more: near "
        "nothing here."
    )
    return (
        f"## Verdict\n\n{table(header, rows)}\n\nDifferences are paired row by row; the intervals are widened for "
        f"{len(findings.models)} networks, so that all hold together with 95 %. p is Diebold and Mariano's, two-sided "
        f"(Bartlett weights over {both[0][0].lags} lags, small-sample correction), and under Holm it is adjusted for "
        f"the networks of its column; the intervals decide. A squared error below the zero forecast's: "
        f"{listed(above)}; above it: {listed(below)}. A direction better than always forecasting the "
        f"training's mean, which is right {scores['mean'].hit_rate or 0:.1%} of the time: {listed(directed)}."
        + ("" if above or directed else null)
    )


@dataclass(frozen=True, slots=True)
class Gain:
    """By how much a network is better than what it is compared with: mean and interval, Diebold and Mariano's p."""

    mean: float
    interval: tuple[float, float]
    p: float
    lags: int


def differences(model: ModelFindings, horizon: int, coverage: float) -> tuple[Gain, Gain]:
    """Of squared error against the zero forecast's, and of hits against those of the training's mean."""
    forecast, target = model.forecast()
    mean = model.evaluations[0].pooled("mean")[0]
    scale = (target**2).mean() or 1.0
    missed, drift_missed = ((np.sign(each) != np.sign(target)).astype(np.float64) for each in (forecast, mean))
    return (
        _gain((forecast - target) ** 2 / scale, target**2 / scale, horizon, coverage),
        _gain(missed, drift_missed, horizon, coverage),
    )


def _gain(own: Floats, other: Floats, horizon: int, coverage: float) -> Gain:
    gain = other - own
    found = diebold_mariano(own, other, horizon)
    interval = block_interval(gain, 2 * horizon, coverage=coverage)
    return Gain(float(gain.mean()), interval, found.p, found.lags)


def _scores(scores: dict[str, Score]) -> str:
    rows = []
    for arm, each in scores.items():
        hit = "–" if each.hit_rate is None else f"{each.hit_rate:.1%}"
        between = "–" if each.hit_rate_interval is None else _between(*each.hit_rate_interval)
        tied = "–" if each.correlation is None else f"{each.correlation:+.3f}"
        rows.append((arm, f"{each.mae:.5f}", f"{each.rmse:.5f}", f"{each.skill:+.2%}",
                     _between(*each.skill_interval), hit, between, tied))  # fmt: skip
    header = ("forecast", "MAE", "RMSE", "skill", "95 %", "hit rate", "95 %", "correlation")
    count = next(iter(scores.values())).rows
    return (
        f"## All folds together ({count:,} rows never trained on)\n\n{table(header, rows)}\n\n"
        "Skill is 1 - MSE / MSE of the zero forecast. Intervals are of a circular block bootstrap with blocks of two "
        "horizons or more, since neighbouring targets overlap. Each is of one forecast by itself: where nothing is to "
        "be found, up to one in forty lies above 0 (or one half) by chance."
    )


def _by_fold(findings: Findings) -> str:
    header = ("fold", "trained on", *(f"{model.name}" for model in findings.models), "ridge", "mean")
    rows = []
    for number in range(findings.folds):
        first = findings.models[0].evaluations[0].folds[number]
        parts = [model.evaluations[0].fold_scores()[number] for model in findings.models]
        arms = [part["model"] for part in parts] + [parts[0]["ridge"], parts[0]["mean"]]
        days = [str(findings.data.time[first.held[row]].astype("datetime64[ms]"))[:10] for row in (0, -1)]
        cells = [f"{each.skill:+.2%}, {each.hit_rate or 0:.1%}" for each in arms]
        rows.append((f"{days[0]} … {days[1]}", f"{first.trained:,}", *cells))
    return f"## Fold by fold (skill, hit rate; the first seed)\n\n{table(header, rows)}"


def _how(findings: Findings) -> str:
    times = ", ".join(f"{model.name} {model.seconds / 60:.1f} min" for model in findings.models)
    return (
        f"## How it was measured\n\nTraining took: {times}, on {os.cpu_count()} cores ({platform.machine()}), device "
        f"{pick_device(findings.config.device)}; Python {platform.python_version()}, trading-bot {__version__}, torch "
        f"{torch.__version__}, scikit-learn {sklearn.__version__}, numpy {np.__version__}.\n\n"
        f"Candles: {findings.name}, sha256 `{findings.sha256}`."
    )


def _cells(gain: Gain, adjusted: float) -> tuple[str, ...]:
    return f"{gain.mean:+.2%}", _signed(*gain.interval), chance(gain.p), chance(adjusted)


def _signed(low: float, high: float) -> str:
    return f"{low:+.2%} … {high:+.2%}"


def _between(low: float, high: float) -> str:
    return f"{low:+.1%} … {high:+.1%}" if low < 0 else f"{low:.1%} … {high:.1%}"


def _picture(findings: Findings, scores: dict[str, Score], path: Path) -> None:
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = {model.name for model in findings.models}
    hits = [(arm, s.hit_rate, s.hit_rate_interval) for arm, s in scores.items() if s.hit_rate and s.hit_rate_interval]
    skills = [(arm, s.skill, s.skill_interval) for arm, s in scores.items() if arm not in ("zero", "persistence")]
    panels = ((left, hits, 0.5, "hit rate"), (right, skills, 0.0, "skill against the zero forecast"))
    for panel, arms, nothing, title in panels:
        for place, (arm, value, (low, high)) in enumerate(arms):
            reach = [[max(0, value - low)], [max(0, high - value)]]
            colour = "#1b6ca8" if arm in names else "#8a8a8a"
            panel.errorbar(place, value, reach, fmt="o", color=colour, capsize=5)
        panel.axhline(nothing, color="#c0392b", linewidth=1, linestyle=":")
        panel.set_xticks(range(len(arms)), [arm for arm, _, _ in arms], rotation=20)
        panel.set_xlim(-0.5, len(arms) - 0.5)
        panel.set_title(f"{title}, 95 % interval", fontsize=10)
        panel.grid(alpha=0.25, axis="y")
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
