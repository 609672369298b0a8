"""How many times faster each executor trains several strategies; `executors` is the command.

The same strategies, data and seeds by every executor in turns: `AdaptiveTrainer` one after another, threads, processes,
one batch. Early stopping is off, so that all do the same work.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loguru import logger
from matplotlib.figure import Figure
from torch import nn

from trading_bot import __version__
from trading_bot.domain.market import Floats
from trading_bot.experiments.report_section import table, write_section
from trading_bot.learn.adaptive_trainer import AdaptiveTrainer
from trading_bot.learn.parallel_trainer import ParallelStrategyTrainer
from trading_bot.learn.training_config import Executor, TrainingConfig
from trading_bot.models.registry import build_model, count_parameters

TITLE = "## Executors"
COUNTS = (1, 2, 4, 6, 8)  # strategies
MANY, HOPE = 6, (4.0, 8.0)  # "4–8 × faster with 6 strategies or more"
REPETITIONS = 3
WORKERS = max(2, os.cpu_count() or 1)
VALIDATION = 500
EQUAL = 1e-6  # so far apart may losses be that differ by rounding alone
EXECUTORS: tuple[Executor, ...] = ("thread", "process", "batched")
COLOURS = {"thread": "#d9a21b", "process": "#3b6ea8", "batched": "#2b7a4b"}
Job = tuple[Any, tuple[Any, Any, Any, Any]]  # model, data


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of model, and how much each of its strategies has to do."""

    name: str
    model: Callable[[], nn.Module | None]
    shape: tuple[int, ...]  # of one row
    rows: int
    epochs: int
    executors: tuple[Executor, ...]

    def jobs(self, count: int) -> list[Job]:
        """So many models, each with data and first weights of its own."""
        found = []
        for seed in range(count):
            random = np.random.default_rng(seed)
            torch.manual_seed(seed)
            X = random.normal(size=(self.rows + VALIDATION, *self.shape)).astype(np.float32)
            flat = X.reshape(len(X), -1)
            scores = flat @ random.normal(size=flat.shape[1]) / np.sqrt(flat.shape[1])
            y = (random.random(len(X)) < 1 / (1 + np.exp(-2 * scores))).astype(np.float32)
            found.append((self.model(), (X[: self.rows], y[: self.rows], X[self.rows :], y[self.rows :])))
        return found


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(40, 16), nn.ReLU(), nn.Linear(16, 1))


KINDS = (
    Kind("linear", lambda: None, (40,), 10_000, 100, EXECUTORS),
    Kind("small network", _mlp, (40,), 4_000, 60, EXECUTORS),
    Kind("CNN", lambda: build_model("cnn"), (30, 40), 2_000, 12, ("thread", "process")),
)


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What one kind of model took."""

    kind: Kind
    counts: tuple[int, ...]
    seconds: Mapping[str, Floats]  # "sequential" and executors → (repetitions, counts)
    chosen: tuple[str, ...]  # by "auto", for each of the counts
    apart: Mapping[str, float]  # executor → largest difference of a best validation loss from the sequential one's

    def faster(self, executor: str) -> Floats:
        """(repetitions, counts): sequential seconds over this executor's in the same round."""
        return np.asarray(self.seconds["sequential"] / self.seconds[executor], np.float64)

    def median(self, executor: str, count: int) -> float:
        return float(np.median(self.faster(executor)[:, self.counts.index(count)]))


def measure(kind: Kind, counts: Sequence[int], repetitions: int) -> Findings:
    """Train so many strategies, by each executor in turn, so many times."""
    everything = kind.jobs(max(counts))
    chosen = tuple(auto_picks(kind, everything[:count]) for count in counts)
    names = ("sequential", *kind.executors)
    seconds = {name: np.empty((repetitions, len(counts))) for name in names}
    apart: dict[str, float] = dict.fromkeys(kind.executors, 0.0)
    train(kind, everything[:1], "sequential")  # memory and caches as they will be
    for turn in range(repetitions):
        for place, count in enumerate(counts):
            losses = {}
            for name in names if turn % 2 == 0 else reversed(names):  # none always runs in another's wake
                began = time.perf_counter()
                losses[name] = train(kind, everything[:count], name)
                seconds[name][turn, place] = time.perf_counter() - began
            for name in kind.executors:
                apart[name] = max(apart[name], float(np.abs(losses[name] - losses["sequential"]).max()))
    return Findings(kind, tuple(counts), seconds, chosen, apart)


def train(kind: Kind, jobs: Sequence[Job], how: str, epochs: int | None = None) -> Floats:
    """Best validation losses of the jobs, trained by an executor or one after another ("sequential")."""
    epochs = epochs or kind.epochs
    config = TrainingConfig(early_stopping_patience=epochs + 1, max_workers=WORKERS)
    if how == "sequential":
        trainers = [AdaptiveTrainer(config, deepcopy(model)) for model, _ in jobs]
        summaries = [each.fit(*data, epochs=epochs) for each, (_, data) in zip(trainers, jobs, strict=True)]
        return np.array([each["best_val_loss"] for each in summaries])
    trainer = ParallelStrategyTrainer(replace(config, executor=how))  # type: ignore[arg-type]
    names = [f"{place}" for place in range(len(jobs))]
    models = {name: {"model": model} for name, (model, _) in zip(names, jobs, strict=True)}
    reports = trainer.train_strategies(
        models, {name: data for name, (_, data) in zip(names, jobs, strict=True)}, epochs
    )
    return np.array([report["best_val_loss"] for report in reports.values()])


def auto_picks(kind: Kind, jobs: Sequence[Job]) -> str:
    """The executor "auto" takes for these, as the log tells it."""
    told: list[str] = []
    sink = logger.add(lambda message: told.append(str(message)), level="INFO", format="{message}")
    try:
        train(kind, jobs, "auto", epochs=1)
    finally:
        logger.remove(sink)
    found = re.search(r"executor=(\w+)", told[-1])
    return found[1] if found else "unknown"


def section(found: Sequence[Findings], command: str, seconds: float, others: float | None) -> str:
    """The words and tables of the section.

    Parameters
    ----------
    others : cores that other work kept busy meanwhile; None where the system does not tell
    """
    cores = os.cpu_count() or 1
    repetitions = len(found[0].seconds["sequential"])
    return "\n\n".join([
        TITLE,
        f"Written by `{command}` in {seconds:.0f} s (trading_bot {__version__}, numpy {np.__version__}, torch "
        f"{torch.__version__}, {platform.machine()}, {cores} cores)."
        + ("" if others is None else f" Other work kept {others:.1f} of the {cores} cores busy meanwhile.")
        + (" What needs several cores did worse for that than it would alone." if (others or 0.0) >= 0.2 else ""),
        "How many times faster each executor trains all strategies than `AdaptiveTrainer` does one after another in "
        "one process: wall time of the whole call, the start of processes included. The median of "
        f"{repetitions} rounds (least … most); executors take turns on the same data, seeds and first weights, one "
        f"thread each, {WORKERS} workers. Early stopping is off, so that all do the same work.",
        *(_results(each) for each in found),
        _apart(found),
        f"**The hope was {HOPE[0]:g}–{HOPE[1]:g} × with {MANY} strategies or more.** "
        + " ".join(verdict(each) for each in found),
        f"Threads and processes cannot gain more than the number of cores, here {cores}; a batch uses one core and "
        "saves what Python and PyTorch spend on each small step. A process pays for its start (with PyTorch more than "
        "a second), so what takes less alone is trained sooner by any other way; `auto` takes processes for it "
        "nevertheless, since only a process can be killed at its deadline.",
        "![Speed-up by executor](executors.png)",
    ])  # fmt: skip


def _results(found: Findings) -> str:
    kind = found.kind
    model = kind.model()
    size = f"{count_parameters(model):,} parameters" if model is not None else f"{kind.shape[0]} features"
    rows = []
    for place, count in enumerate(found.counts):
        spent = float(np.median(found.seconds["sequential"][:, place]))
        cells = [_spread(found.faster(name)[:, place]) if name in kind.executors else "–" for name in EXECUTORS]
        rows.append([f"{count}", f"{spent:.2f}", *cells, found.chosen[place]])
    header = ["strategies", "one by one, s", *(f"{name}, ×" for name in EXECUTORS), "auto picks"]
    return f"{kind.name}: {size}, {kind.rows:,} rows, {kind.epochs} epochs a strategy\n\n{table(header, rows)}"


def _spread(ratios: Floats) -> str:
    return f"{np.median(ratios):.2f} ({ratios.min():.2f} … {ratios.max():.2f})"


def _apart(found: Sequence[Findings]) -> str:
    """Where an executor's results are the sequential ones, and where not."""
    largest = max((apart for each in found for apart in each.apart.values() if apart <= EQUAL), default=0.0)
    words = [f"Best validation losses are the sequential ones within {largest:.0e}."]
    for each in found:
        words += [
            f"Not so {each.kind.name} by {name}: up to {apart:.0e} apart. Its dropout draws from PyTorch's one "
            "generator, which threads share."
            for name, apart in each.apart.items()
            if apart > EQUAL
        ]
    return " ".join(words)


def verdict(found: Findings) -> str:
    """Whether the hope came true for one kind of model, by which executor, and what `auto` does there."""
    counts = [count for count in found.counts if count >= MANY]
    if not counts:
        return f"{found.kind.name}: not measured."
    gains: dict[str, list[float]] = {
        name: [found.median(name, count) for count in counts] for name in found.kind.executors
    }
    best = max(gains, key=lambda name: min(gains[name]))
    said = " and ".join(f"{gain:.1f} × with {count}" for gain, count in zip(gains[best], counts, strict=True))
    met = "met" if min(gains[best]) >= HOPE[0] else "met in part" if max(gains[best]) >= HOPE[0] else "not met"
    picked = found.chosen[found.counts.index(counts[0])]
    choice = "which `auto` picks" if picked == best else f"`auto` picks {picked}, {min(gains[picked]):.1f} × or more"
    return f"{found.kind.name}: {met}; the best is {best}, {said}, {choice}."


def picture(found: Sequence[Findings], path: Path) -> None:
    """Speed-up over the number of strategies, a panel for each kind of model."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for panel, each in zip(panels, found, strict=True):
        for place, name in enumerate(each.kind.executors):
            ratios = each.faster(name)
            middle = np.median(ratios, axis=0)
            reach = [middle - ratios.min(axis=0), ratios.max(axis=0) - middle]
            counts = np.array(each.counts) + 0.08 * (place - 1)
            panel.errorbar(counts, middle, reach, fmt="o-", color=COLOURS[name], capsize=3, label=name, linewidth=1.2)
        panel.axhline(1, color="#8a8a8a", linewidth=1, linestyle=":")
        panel.fill_between([MANY - 0.5, max(COUNTS) + 0.5], *HOPE, color="#c0392b", alpha=0.10, linewidth=0)
        panel.text(max(COUNTS) + 0.4, HOPE[1] * 0.93, "hoped for", ha="right", va="top", fontsize=8, color="#c0392b")
        panel.set_yscale("log", base=2)
        panel.set_yticks([0.125, 0.25, 0.5, 1, 2, 4, 8], ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
        panel.set_xticks(each.counts)
        panel.set_xlabel("strategies")
        panel.set_title(each.kind.name, fontsize=10)
        panel.grid(alpha=0.25, axis="y")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("times as fast as one after another")
    panels[0].legend(frameon=False, fontsize=9, loc="lower right")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _busy_of_others() -> float | None:
    """CPU seconds of the machine but not of this process and of those it saw end, since some moment; Linux alone."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, path.read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m trading_bot.experiments.executors", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/evidence"), help="folder of learning.md")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="rounds of each measurement")
    options = parser.parse_args(arguments)
    started, threads, busy = time.monotonic(), torch.get_num_threads(), _busy_of_others()
    torch.set_num_threads(1)
    try:
        found = [measure(kind, COUNTS, options.repetitions) for kind in KINDS]
    finally:
        torch.set_num_threads(threads)
    changed = f" --repetitions {options.repetitions}" if options.repetitions != REPETITIONS else ""
    command = f"python -m trading_bot.experiments.executors --output docs/evidence{changed}"
    seconds, then = time.monotonic() - started, _busy_of_others()
    others = None if busy is None or then is None else max(0.0, (then - busy) / seconds)
    write_section(options.output / "learning.md", section(found, command, seconds, others), "# Learning")
    picture(found, options.output / "executors.png")
    print("\n".join(verdict(each) for each in found))
