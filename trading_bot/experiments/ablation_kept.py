"""Runs of an ablation that are finished, as lines of a file: what was stopped goes on from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trading_bot import __version__
from trading_bot.domain.market import Floats
from trading_bot.experiments.ablation_tasks import Outcome, RunConfig, Task
from trading_bot.experiments.kept_lines import append_line, packed, read_lines, unpacked
from trading_bot.training.checkpoint_file import file_sha256
from trading_bot.training.monitor_shipped import CONTROLLER, FOLDER, MONITOR

FILE = "runs.jsonl"

Row = dict[str, Any]
Cell = tuple[int, int, str]  # seed, fold from 0, mode


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One finished run.

    Attributes
    ----------
    row : what the table of results says of it
    curve : a row for each epoch
    averages : of the weights by loss, over all steps
    validation : of the chosen epoch
    chosen, last : forecasts of the rows that judge, to single precision, as of `Outcome`
    """

    row: Row
    curve: Sequence[Row]
    averages: Mapping[str, float]
    validation: float
    chosen: Floats | None
    last: Floats | None

    @classmethod
    def of(cls, row: Row, curve: Sequence[Row], outcome: Outcome) -> Run:
        """Of a training that has just ended, exactly as it will be read again."""
        forecasts = (None if each is None else each.astype(np.float32).astype(np.float64)
                     for each in (outcome.chosen, outcome.last))  # fmt: skip
        return cls(row, curve, outcome.averages, outcome.validation, *forecasts)

    @property
    def weights(self) -> dict[str, float]:
        """By loss, at the end."""
        return {name.removeprefix("weight_"): self.row[name] for name in self.row if name.startswith("weight_")}

    def as_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("row", "curve", "averages", "validation")}
        forecasts = {"chosen": self.chosen, "last": self.last}
        return plain | {name: None if each is None else packed(each) for name, each in forecasts.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Run:
        """What `as_json` gave."""
        forecasts = (None if values[name] is None else unpacked(values[name]) for name in ("chosen", "last"))
        plain = (values[name] for name in ("row", "curve", "averages", "validation"))
        return cls(*plain, *forecasts)


def learned(config: RunConfig) -> dict[str, str | None]:
    """SHA-256 of the monitor and of the controller that runs use; None where there is none.

    Raises
    ------
    CheckpointError
        If one that is given cannot be read.
    """
    given = {"monitor": (config.monitor, MONITOR), "controller": (config.controller, CONTROLLER)}
    found: dict[str, str | None] = {}
    for name, (path, shipped) in given.items():
        used = FOLDER / shipped if path is None else path
        found[name] = None if path is None and not used.exists() else file_sha256(used)
    return found


def key_of(task: Task, config: RunConfig) -> str:
    """So that runs of another task, budget or program, or by another monitor, are not taken for these."""
    numbers = {name: value for name, value in asdict(config).items() if name not in ("monitor", "controller")}
    what = json.dumps([__version__, task.identity(), numbers, learned(config)], sort_keys=True)
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def finished(folder: Path, key: str) -> dict[Cell, Run]:
    """The runs of that key that the folder keeps."""
    return {
        (values["seed"], values["fold"], values["mode"]): Run.from_json(values)
        for values in read_lines(folder / FILE)
        if values.get("key") == key
    }


def keep(folder: Path, key: str, cell: Cell, run: Run) -> None:
    """Add a run to those in the folder."""
    seed, fold, mode = cell
    append_line(folder / FILE, {"key": key, "seed": seed, "fold": fold, "mode": mode, **run.as_json()})
