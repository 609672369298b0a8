"""The page and the picture of the TRM's evidence."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from trading_bot import __version__
from trading_bot.domain.market import Floats
from trading_bot.experiments.report_section import listed, table
from trading_bot.models.trm import build_trm
from trading_bot.training.scoring import block_interval
from trading_bot.training.trm_evaluation import ARMS, BLOCK, TRMEvaluation, TRMScore, f1_interval
from trading_bot.training.trm_labels import CLASSES, LONG, TRMData
from trading_bot.training.trm_trainer import TRMFitConfig

COMPARISONS = 4  # two opponents, two measures: their intervals hold together with 95 %
NEARLY_ALWAYS = 0.95
_NAMES = {"trm": "TRM", "majority": "majority class", "best_on_train": "best on train"}


@dataclass(frozen=True, slots=True, eq=False)
class TRMFindings:
    """Everything the page shows; an evaluation for each seed."""

    name: str
    candles: str
    sha256: str
    data: TRMData
    config: TRMFitConfig
    evaluations: tuple[TRMEvaluation, ...]
    command: str

    @property
    def seconds(self) -> float:
        """Spent on the fits, whenever they were made."""
        return sum(sum(fold.history["seconds"]) for each in self.evaluations for fold in each.folds)

    def right(self, arm: str) -> Floats:
        """Share of the seeds that chose the label, by row."""
        share: Floats = np.mean([each.right(arm) for each in self.evaluations], axis=0)
        return share

    def pnl(self, arm: str) -> Floats:
        """Mean over the seeds of what was earned, by row."""
        mean: Floats = np.mean([each.pnl(arm) for each in self.evaluations], axis=0)
        return mean

    def gained(self) -> Floats:
        """Log loss that the network's probabilities take off that of the training's class shares, by row; the mean
        over the seeds."""
        mean: Floats = np.mean([each.surprise_of_shares() - each.surprise() for each in self.evaluations], axis=0)
        return mean

    def scores(self) -> dict[str, TRMScore]:
        """The network's mean over the seeds, then each seed's, then the arms that no seed changes."""
        each_seed = [each.scores() for each in self.evaluations]
        right, pnl = self.right("trm"), self.pnl("trm")
        chosen = np.stack([each.chosen("trm") for each in self.evaluations])
        mean = TRMScore(
            rows=len(right),
            accuracy=float(right.mean()),
            accuracy_interval=block_interval(right, BLOCK),
            macro_f1=float(np.mean([scores["trm"].macro_f1 for scores in each_seed])),
            macro_f1_interval=f1_interval(chosen, self.data.labels[self.evaluations[0].held]),
            pnl=float(pnl.mean()),
            pnl_interval=block_interval(pnl, BLOCK),
        )
        seeds = {f"TRM, seed {seed}": scores["trm"] for seed, scores in enumerate(each_seed)}
        return {"TRM": mean, **seeds, **{_NAMES[arm]: each_seed[0][arm] for arm in ARMS[1:]}}


def write(findings: TRMFindings, folder: Path) -> None:
    """Write trm.md and trm.png into `folder`."""
    scores = findings.scores()
    _picture(findings, scores, folder / "trm.png")
    sections = [_head(findings), _verdict(findings), _scores(findings, scores), _probabilities(findings),
                _classes(findings), _by_fold(findings), _how(findings)]  # fmt: skip
    (folder / "trm.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _head(findings: TRMFindings) -> str:
    data, fit, folds = findings.data, findings.config, len(findings.evaluations[0].folds)
    sizes = build_trm(**fit.sizes).config
    rows = len(findings.evaluations[0].held)
    return (
        "# Which of eight strategies to trust: the TRM\n\n"
        f"{findings.candles}: {len(data.labels):,} windows of {data.length} bars × {len(data.names)} features. "
        f"Classes: {', '.join(CLASSES)}{'' if data.shorting else ' (short is flat: shorting is off)'}. The label of "
        f"bar t is the class that earned most over bars t+1 to t+{data.horizon}, net of {data.cost:.2%} for every "
        "purchase and sale; flat where that was not above 0, or not a cost more than the next best class that earned "
        "something else.\n\n"
        f"{folds} walk-forward folds × {len(findings.evaluations)} seeds: fitted on everything before a block, less "
        f"{data.horizon} purged rows, and judged in the block on decisions {data.horizon} bars apart ({rows:,} in "
        f"all), so that no two outcomes overlap. The newest {fit.validation:.0%} of the training rows (less "
        f"{data.horizon} purged) choose weights and halting threshold. Budget of a fit: {fit.batches} batches of "
        f"{fit.batch_size} windows, up to {sizes.supervision_steps} updates each (T = {sizes.cycles}, n = "
        f"{sizes.inner_steps}); AdamW at {fit.learning_rate:g}, halt target {fit.halt_target!r}. "
        f"Training took {findings.seconds / 60:.0f} minutes of one thread in all, beside other work: a small budget, a "
        "larger one is an option of the same command.\n\n"
        f"    {findings.command}\n\n"
        "Larger budgets: `--batches`, `--batch-size`, `--seeds`, `--folds`.\n\n"
        "![accuracy, what was earned, what was chosen](trm.png)"
    )


def _verdict(findings: TRMFindings) -> str:
    coverage = 1 - 0.05 / COMPARISONS
    rows, better = [], dict[str, list[str]](accuracy=[], pnl=[])
    for arm in ARMS[1:]:
        right, pnl = (of("trm") - of(arm) for of in (findings.right, findings.pnl))
        between = [block_interval(values, BLOCK, coverage=coverage) for values in (right, pnl)]
        rows.append([f"against {_NAMES[arm]}", f"{right.mean():+.2%}", _signed(*between[0]), f"{pnl.mean():+.3%}",
                     _signed(*between[1], 3)])  # fmt: skip
        for name, (low, _) in zip(better, between, strict=True):
            better[name] += [_NAMES[arm]] if low > 0 else []
    header = ("TRM", "accuracy", f"{coverage:.2%}", "earned a decision", f"{coverage:.2%}")
    beaten = [name for name in better["pnl"] if name in better["accuracy"]]
    null = (
        "\n\n**This is a null result**: within this budget the network is not shown to choose better than whoever "
        "looks at nothing. `ensemble.method: trm` stays off."
    )
    return (
        f"## Verdict\n\n{table(header, rows)}\n\nDifferences are paired row by row, the mean over seeds; the intervals "
        f"(circular block bootstrap over time) are widened for {COMPARISONS} comparisons, so that all hold together "
        f"with 95 %. More often right than: {listed(better['accuracy'])}; earned more than: {listed(better['pnl'])}; "
        f"both: {listed(beaten)}."
        + ("" if len(better["pnl"]) == len(rows) else null)  # a use it has only if it earns more than either
        + _of_one_class(findings)
    )


def _of_one_class(findings: TRMFindings) -> str:
    """That it chose one class nearly always, if it did."""
    chosen = np.concatenate([each.chosen("trm") for each in findings.evaluations])
    shares = np.bincount(chosen, minlength=len(CLASSES)) / len(chosen)
    if shares.max() < NEARLY_ALWAYS:
        return ""
    return (
        f" It chose {CLASSES[int(shares.argmax())]} in {shares.max():.1%} of its decisions: with so few updates its "
        "choice hardly tells one bar from another, and says nothing of what more training would find."
    )


def _scores(findings: TRMFindings, scores: Mapping[str, TRMScore]) -> str:
    rows = [
        [name, f"{s.accuracy:.1%}", _between(*s.accuracy_interval), f"{s.macro_f1:.3f}",
         f"{s.macro_f1_interval[0]:.3f} … {s.macro_f1_interval[1]:.3f}", f"{s.pnl:+.3%}", _signed(*s.pnl_interval, 3)]
        for name, s in scores.items()
    ]  # fmt: skip
    held = findings.evaluations[0].held
    perfect = findings.data.pnl[held, findings.data.labels[held]]
    always = findings.data.pnl[held, LONG]
    rows.append(["always long", "", "", "", "", f"{always.mean():+.3%}", _signed(*block_interval(always, BLOCK), 3)])
    rows.append(["the label itself", "", "", "", "", f"{perfect.mean():+.3%}",
                 _signed(*block_interval(perfect, BLOCK), 3)])  # fmt: skip
    header = ("", "accuracy", "95 %", "macro-F1", "95 %", "earned a decision", "95 %")
    return (
        f"## All folds together ({len(held):,} decisions never trained on)\n\n{table(header, rows)}\n\n"
        "Earned is the mean over decisions of what the chosen class earned net of costs, a share of the stake. The "
        "last line is what nobody can know: the best that could have been done."
    )


def _probabilities(findings: TRMFindings) -> str:
    """Log losses, and what is gained over the training's class shares; the interval is paired."""
    shares = findings.evaluations[0].surprise_of_shares()
    rows = [_log_loss("TRM", shares - findings.gained(), shares)]
    for seed, each in enumerate(findings.evaluations):
        rows.append(_log_loss(f"TRM, seed {seed}", each.surprise(), shares))
    rows.append(["class shares of the training rows", f"{shares.mean():.4f}", "", ""])
    low, high = block_interval(findings.gained(), BLOCK)
    told = (
        "Its probabilities tell more than the shares do" if low > 0
        else "Its probabilities tell less than the shares do" if high < 0
        else "Its probabilities are not shown to tell more than the shares, or less"
    )  # fmt: skip
    return (
        "## Its probabilities\n\n"
        f"{table(('', 'log loss', 'gained on the shares', '95 %'), rows)}\n\n"
        "Log loss is the mean of −ln of the probability given to what became the label; the shares are those of each "
        "fold's training rows, one label of each class added. Gains are paired row by row (circular block bootstrap "
        f"over time). {told}. The loss weighs classes and windows, so these probabilities are not made to be shares; "
        "as a source of weights only their proportions among the strategies count."
    )


def _log_loss(name: str, surprise: Floats, shares: Floats) -> list[str]:
    gained = shares - surprise
    low, high = block_interval(gained, BLOCK)
    return [name, f"{surprise.mean():.4f}", f"{gained.mean():+.4f}", f"{low:+.4f} … {high:+.4f}"]


def _classes(findings: TRMFindings) -> str:
    data, first = findings.data, findings.evaluations[0]
    held = first.held
    columns = {"labels": data.labels[held]} | {
        f"TRM, seed {seed}": each.chosen("trm") for seed, each in enumerate(findings.evaluations)
    }
    rows = [
        [name, *(f"{(chosen == number).mean():.1%}" for chosen in columns.values()),
         f"{data.pnl[held, number].mean():+.3%}"]
        for number, name in enumerate(CLASSES)
    ]  # fmt: skip
    steps = "; ".join(f"seed {seed}: {each.mean_steps:.2f}" for seed, each in enumerate(findings.evaluations))
    return (
        f"## What was chosen\n\n{table(('class', *columns, 'chosen always, earned'), rows)}\n\n"
        f"Supervision steps that a decision took, on average: {steps}."
    )


def _by_fold(findings: TRMFindings) -> str:
    header = ("fold", "trained on", "TRM", "majority", "best on train", "labels of the majority's class", "steps")
    rows = []
    data = findings.data
    for number, fold in enumerate(findings.evaluations[0].folds):
        days = [str(data.time[fold.held[row]].astype("datetime64[ms]"))[:10] for row in (0, -1)]
        cells = []
        for arm in ARMS:
            chosen = [each.folds[number].chosen[arm] for each in findings.evaluations]
            right = np.mean([each == data.labels[fold.held] for each in chosen])
            pnl = np.mean([data.pnl[fold.held, each] for each in chosen])
            named = "" if arm == "trm" else f" ({CLASSES[chosen[0][0]]})"
            cells.append(f"{right:.1%}, {pnl:+.3%}{named}")
        share = (data.labels[: fold.trained] == fold.chosen["majority"][0]).mean()
        steps = np.mean([each.folds[number].steps for each in findings.evaluations])
        rows.append([f"{days[0]} … {days[1]}", f"{fold.trained:,}", *cells, f"{share:.1%}", f"{steps:.2f}"])
    return f"## Fold by fold (accuracy, earned a decision; mean over seeds)\n\n{table(header, rows)}"


def _how(findings: TRMFindings) -> str:
    return (
        f"## How it was measured\n\nOne thread of {os.cpu_count()} cores ({platform.machine()}), beside other work; "
        f"Python {platform.python_version()}, trading-bot {__version__}, torch {torch.__version__}, numpy "
        f"{np.__version__}. Seeds 0 to {len(findings.evaluations) - 1} of weights and data order, 0 of the bootstrap. "
        "The intervals say how the mean varies with time, not with the seed: compare the seeds' own lines.\n\n"
        f"Candles: {findings.name}, sha256 `{findings.sha256}`."
    )


def _signed(low: float, high: float, digits: int = 2) -> str:
    return f"{low:+.{digits}%} … {high:+.{digits}%}"


def _between(low: float, high: float) -> str:
    return f"{low:.1%} … {high:.1%}"


def _picture(findings: TRMFindings, scores: Mapping[str, TRMScore], path: Path) -> None:
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for place, (name, score) in enumerate(scores.items()):
        low, high = score.accuracy_interval
        reach = [[max(0, score.accuracy - low)], [max(0, high - score.accuracy)]]
        left.errorbar([place], [score.accuracy], yerr=reach, fmt="o", capsize=4, color=_colour(name))
    left.set_xticks(range(len(scores)), list(scores), rotation=30, ha="right")
    left.set_title("accuracy, 95 %")
    data, held = findings.data, findings.evaluations[0].held
    dates = data.time[held].astype("datetime64[ms]")
    lines = {f"TRM, seed {seed}": each.pnl("trm") for seed, each in enumerate(findings.evaluations)}
    lines |= {_NAMES[arm]: findings.pnl(arm) for arm in ARMS[1:]} | {"always long": data.pnl[held, LONG]}
    for number, (name, pnl) in enumerate(lines.items()):
        style = "--" if name == _NAMES["best_on_train"] else "-"
        middle.plot(dates, np.cumsum(pnl), style, label=name, color=_colour(name), alpha=1 - 0.25 * (number % 2))
    middle.axhline(0, color="grey", linewidth=0.8)
    middle.tick_params(axis="x", rotation=30)
    low, high = middle.get_ylim()
    middle.set_ylim(low, high + 0.3 * (high - low))  # room for the legend
    middle.legend(fontsize=8, ncols=2, loc="upper right")
    middle.set_title("earned, added up (stakes)")
    chosen = np.concatenate([each.chosen("trm") for each in findings.evaluations])
    places = np.arange(len(CLASSES))
    for shift, (name, given) in zip((-0.2, 0.2), {"labels": data.labels[held], "TRM": chosen}.items(), strict=True):
        shares = np.bincount(given, minlength=len(CLASSES)) / len(given)
        right.bar(places + shift, shares, 0.4, label=name, color=_colour(name))
    right.set_xticks(places, [name.replace("_", " ") for name in CLASSES], rotation=30, ha="right", fontsize=8)
    right.legend(fontsize=8)
    right.set_title("share of each class")
    figure.suptitle(f"TRM: {findings.name}, {data.horizon} bars a decision, {len(held):,} decisions", fontsize=11)
    figure.savefig(path, dpi=110)


def _colour(name: str) -> str:
    if name.startswith("TRM"):
        return "#1f77b4"
    return {"majority class": "#7f7f7f", "best on train": "#ff7f0e", "always long": "#2ca02c"}.get(name, "#bbbbbb")
