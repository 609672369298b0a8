"""Monitor and controller, each with and without the other: runs of four modes and two placebos, and what is kept.

Runs with the same seed have the same first weights, data and order; a rerun writes the same bytes, for no file holds a
time. `ablation_analysis` tells what came out and needs nothing but Python.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trading_bot.durable import replacing
from trading_bot.errors import TrainingError, unknown
from trading_bot.experiments.ablation_analysis import RESULTS
from trading_bot.experiments.ablation_tasks import Outcome, RunConfig, Task
from trading_bot.training.adaptive_loss import POLICIES
from trading_bot.training.weight_policies import policy_options

BASELINE, FULL, AVERAGE = "baseline", "full_adaptive", "time_average"
MODES: Mapping[str, str] = MappingProxyType(  # mode → weight policy
    {BASELINE: "fixed", "monitor_only": "monitor_only", "controller_only": "controller_only", FULL: "full_adaptive"}
)
PLACEBOS: Mapping[str, str] = MappingProxyType({"random_monitor": "random_monitor", AVERAGE: "time_average"})
_MEANINGLESS = {"seconds", "val_combined"}  # a time; and what moves with the weights

Row = dict[str, Any]


def check_modes(modes: Sequence[str]) -> None:
    """Refuse a mode that is unknown, or whose weight policy this version does not have.

    Raises
    ------
    TrainingError
    """
    known = {**MODES, **PLACEBOS}
    for mode in modes:
        if mode not in known:
            raise TrainingError(unknown("mode", mode, known))
        if known[mode] not in POLICIES:
            there = ", ".join(each for each, policy in known.items() if policy in POLICIES)
            raise TrainingError(
                f"the mode {mode!r} needs the weight policy {known[mode]!r}, and there is none among "
                f"{', '.join(POLICIES)}; choose a mode that can be run: {there}"
            )


def run(
    task: Task, mode: str, seed: int, config: RunConfig, folder: Path, *,
    weights: Mapping[str, float] | None = None, tensorboard: bool = False,
) -> tuple[Row, Outcome]:  # fmt: skip
    """One run, and its curve as FOLDER/MODE-seed-SEED.csv.

    Parameters
    ----------
    weights : of `time_average`, those that it keeps constant
    tensorboard : write its curves too, into a folder of that name

    Raises
    ------
    TrainingError
        If the mode cannot be run, or as the trainer does.
    ConfigurationError
        If TensorBoard is wanted and not installed.
    """
    check_modes([mode])
    if mode == AVERAGE and weights is None:
        raise TrainingError(f"{AVERAGE} has no weights of its own; run the ablation, which takes them from {FULL}")
    name = f"{mode}-seed-{seed}"
    policy = {**MODES, **PLACEBOS}[mode]
    options: dict[str, Any] = {} if weights is None else {"weights": dict(weights)}
    learned = {"agent": config.monitor, "controller": config.controller}
    options |= {each: path for each, path in learned.items() if path is not None and each in policy_options(policy)}
    board = folder / "tensorboard" / name if tensorboard else None
    outcome = task.train(policy, options, seed, config, board)
    columns = [column for column in outcome.history if column not in _MEANINGLESS and _tells(task, column)]
    curve = [
        {"epoch": epoch + 1, **{column: outcome.history[column][epoch] for column in columns}}
        for epoch in range(outcome.history.epochs)
    ]
    write_csv(folder / f"{name}.csv", curve)
    row = {"mode": mode, "seed": seed, **outcome.scores, "epoch": outcome.epoch}
    return row | {f"weight_{loss}": weight for loss, weight in outcome.weights.items()}, outcome


def _tells(task: Task, column: str) -> bool:
    """Errors and hits of forecasts mean nothing for images."""
    return task.name == "market" or column not in ("val_mae", "val_hit_rate")


def phase1(
    task: Task, seeds: Sequence[int], config: RunConfig, output: Path, tell: Callable[[Row], object] = lambda row: None
) -> list[Row]:
    """The baseline and everything adaptive, with every seed, as one CSV file; the curves are in a folder beside it.

    Raises
    ------
    TrainingError
        If a mode cannot be run, or as the trainer does.
    """
    rows = _measure(task, (BASELINE, FULL), seeds, config, output.with_suffix(""), tell)
    write_csv(output, rows)
    return rows


def ablation(
    task: Task, seeds: Sequence[int], config: RunConfig, folder: Path, tell: Callable[[Row], object] = lambda row: None,
    *, modes: Sequence[str] | None = None,
) -> list[Row]:  # fmt: skip
    """Every mode with every seed: results.csv and results.json in the folder, and a curve of each run.

    Parameters
    ----------
    modes : which; None: the four and, of the placebos, those there are policies for

    Raises
    ------
    TrainingError
        If a mode cannot be run, or as the trainer does.
    """
    if modes is None:
        modes = (*MODES, *(mode for mode, policy in PLACEBOS.items() if policy in POLICIES))
    rows = _measure(task, modes, seeds, config, folder / "curves", tell)
    write_csv(folder / "results.csv", rows)
    facts = {
        "task": task.name, "metric": task.metric, "lower_is_better": task.lower, "epochs": config.epochs,
        "batch_size": config.batch_size, "learning_rate": config.learning_rate, "runs": rows,
    }  # fmt: skip
    _write(folder / RESULTS, json.dumps(facts, indent=2) + "\n")
    return rows


def _measure(
    task: Task, modes: Sequence[str], seeds: Sequence[int], config: RunConfig, folder: Path,
    tell: Callable[[Row], object],
) -> list[Row]:  # fmt: skip
    check_modes(modes)
    if not seeds or len(set(seeds)) < len(seeds):
        raise TrainingError(f"found the seeds {list(seeds)}; wanted at least one, each once")
    if AVERAGE in modes and FULL not in modes:
        raise TrainingError(f"found {AVERAGE} without {FULL}, whose mean weights it takes; add {FULL}")
    rows = []
    for seed in seeds:
        average: Mapping[str, float] | None = None
        for mode in sorted(modes, key=lambda mode: mode == AVERAGE):  # it comes after the one it takes the weights of
            row, outcome = run(task, mode, seed, config, folder, weights=average if mode == AVERAGE else None)
            average = outcome.averages if mode == FULL else average
            rows.append(row)
            tell(row)
    return rows


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as a table under the names of the first.

    Raises
    ------
    TrainingError
        If the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    _write(path, text.getvalue())


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise TrainingError(f"{path} cannot be written ({error.strerror}); choose another folder") from error
