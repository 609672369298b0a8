"""Monitor and controller, each with and without the other: runs of four modes and two placebos, and what is kept.

Runs with the same seed have the same first weights, data and order; a rerun writes the same bytes, for no file holds a
time. Runs that are finished are kept, so that an ablation that was stopped goes on. `ablation_analysis` tells what came
out and needs nothing but Python.
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
from trading_bot.experiments.ablation_kept import Cell, Row, Run, finished, keep, key_of, learned
from trading_bot.experiments.ablation_tasks import RunConfig, Task
from trading_bot.training.adaptive_loss import POLICIES
from trading_bot.training.weight_policies import policy_options

BASELINE, FULL, AVERAGE = "baseline", "full_adaptive", "time_average"
MODES: Mapping[str, str] = MappingProxyType(  # mode → weight policy
    {BASELINE: "fixed", "monitor_only": "monitor_only", "controller_only": "controller_only", FULL: "full_adaptive"}
)
PLACEBOS: Mapping[str, str] = MappingProxyType({"random_monitor": "random_monitor", AVERAGE: "time_average"})
_MEANINGLESS = {"seconds", "val_combined"}  # a time; and what moves with the weights


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
    task: Task, mode: str, seed: int, config: RunConfig, folder: Path, *, fold: int = 0,
    weights: Mapping[str, float] | None = None, tensorboard: bool = False,
) -> Run:  # fmt: skip
    """One run, and its curve as FOLDER/MODE-seed-SEED.csv; of one of several folds, …-fold-FOLD.csv.

    Parameters
    ----------
    fold : from 0; from 1 in what is written
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
    policy = {**MODES, **PLACEBOS}[mode]
    options: dict[str, Any] = {} if weights is None else {"weights": dict(weights)}
    files = {"agent": config.monitor, "controller": config.controller}
    options |= {each: path for each, path in files.items() if path is not None and each in policy_options(policy)}
    board = folder / "tensorboard" / _name(task, mode, seed, fold) if tensorboard else None
    outcome = task.train(policy, options, seed, fold, config, board)
    columns = [column for column in outcome.history if column not in _MEANINGLESS and _tells(task, column)]
    curve = [
        {"epoch": epoch + 1, **{column: outcome.history[column][epoch] for column in columns}}
        for epoch in range(outcome.history.epochs)
    ]
    write_csv(folder / f"{_name(task, mode, seed, fold)}.csv", curve)
    where = {"fold": fold + 1} if task.folds > 1 else {}
    row = {"mode": mode, "seed": seed, **where, **outcome.scores, "epoch": outcome.epoch}
    return Run.of(row | {f"weight_{loss}": weight for loss, weight in outcome.weights.items()}, curve, outcome)


def _name(task: Task, mode: str, seed: int, fold: int) -> str:
    return f"{mode}-seed-{seed}" + (f"-fold-{fold + 1}" if task.folds > 1 else "")


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
    folder = output.with_suffix("")
    rows = [run.row for run in _measure(task, (BASELINE, FULL), seeds, config, folder, folder, tell).values()]
    write_csv(output, rows)
    return rows


def ablation(
    task: Task, seeds: Sequence[int], config: RunConfig, folder: Path, tell: Callable[[Row], object] = lambda row: None,
    *, modes: Sequence[str] | None = None, work: Path | None = None,
) -> dict[Cell, Run]:  # fmt: skip
    """Every mode with every seed and fold: results.csv and results.json in the folder, and a curve of each run.

    Parameters
    ----------
    tell : called with the row of each run that was not kept from before
    modes : which; None: the four and, of the placebos, those there are policies for
    work : folder in which finished runs are kept; None: the one of the results

    Raises
    ------
    TrainingError
        If a mode cannot be run, or as the trainer does.
    """
    if modes is None:
        modes = (*MODES, *(mode for mode, policy in PLACEBOS.items() if policy in POLICIES))
    runs = _measure(task, modes, seeds, config, folder / "curves", work or folder, tell)
    rows = [run.row for run in runs.values()]
    write_csv(folder / "results.csv", rows)
    facts = {
        "task": task.name, "metric": task.metric, "lower_is_better": task.lower, "folds": task.folds,
        "epochs": config.epochs, "batch_size": config.batch_size, "learning_rate": config.learning_rate,
        "calibration": config.calibration, "frequency": config.frequency, **learned(config), "runs": rows,
    }  # fmt: skip
    _write(folder / RESULTS, json.dumps(facts, indent=2) + "\n")
    return runs


def _measure(
    task: Task, modes: Sequence[str], seeds: Sequence[int], config: RunConfig, folder: Path, work: Path,
    tell: Callable[[Row], object],
) -> dict[Cell, Run]:  # fmt: skip
    check_modes(modes)
    if not seeds or len(set(seeds)) < len(seeds):
        raise TrainingError(f"found the seeds {list(seeds)}; wanted at least one, each once")
    if AVERAGE in modes and FULL not in modes:
        raise TrainingError(f"found {AVERAGE} without {FULL}, whose mean weights it takes; add {FULL}")
    key = key_of(task, config)
    done, runs = finished(work, key), dict[Cell, Run]()
    ordered = sorted(modes, key=lambda mode: mode == AVERAGE)  # it comes after the one it takes the weights of
    for cell in ((seed, fold, mode) for seed in seeds for fold in range(task.folds) for mode in ordered):
        seed, fold, mode = cell
        if cell in done:
            runs[cell] = done[cell]
            write_csv(folder / f"{_name(task, mode, seed, fold)}.csv", runs[cell].curve)
            continue
        weights = runs[seed, fold, FULL].averages if mode == AVERAGE else None
        runs[cell] = run(task, mode, seed, config, folder, fold=fold, weights=weights)
        keep(work, key, cell, runs[cell])
        tell(runs[cell].row)
    return runs


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
