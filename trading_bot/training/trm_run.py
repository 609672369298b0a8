"""One run of `train-trm`: judged walk-forward, then fitted once more on all rows, and everything kept in one folder.

    RUN/trm.json                   what was asked for, on which candles and labels
    RUN/folds/fold-K.safetensors   what was said in a fold, once it is done
    RUN/model.safetensors          the selector (model.json: its facts, for people)
    RUN/report.json                scores and curves; written last

A run that was interrupted or killed is executed again with the same folder: folds that are done are not done again.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trading_bot import __version__
from trading_bot.domain.market import Candles
from trading_bot.durable import remove_leftovers
from trading_bot.errors import CheckpointError, ConfigurationError
from trading_bot.training.checkpoint_file import file_sha256
from trading_bot.training.fitting import Watcher
from trading_bot.training.run_folder import (
    candle_hash,
    candles_of,
    describe_candles,
    find_folder,
    new_folder,
    write_json,
)
from trading_bot.training.scoring import block_interval
from trading_bot.training.trm_evaluation import BLOCK, TRMEvaluation, check_folds, walk_forward_trm
from trading_bot.training.trm_labels import TRMData
from trading_bot.training.trm_selector import Selector
from trading_bot.training.trm_trainer import TRMFitConfig, fit_trm

ASKED, MODEL, REPORT = "trm.json", "model.safetensors", "report.json"


@dataclass(frozen=True, kw_only=True)
class TRMRunConfig:
    """What `train-trm` was asked for."""

    source: str = ""  # where the candles came from, as the user named it
    timerange: tuple[int | None, int | None] = (None, None)
    strategy_path: str = ""  # where the strategies came from
    horizon: int = 12  # bars a choice is kept
    cost: float = 0.001  # of buying or selling once, a ratio
    shorting: bool = False
    folds: int = 1
    fit: TRMFitConfig = field(default_factory=TRMFitConfig)


@dataclass(frozen=True, slots=True, eq=False)
class TRMRun:
    """A run's folder and what it is about."""

    folder: Path
    config: TRMRunConfig
    created: str
    data_hash: str
    labels_hash: str
    period: tuple[int, int]  # open of its first and last candle, UTC ms

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def finished(self) -> bool:
        return (self.folder / MODEL).exists() and (self.folder / REPORT).exists()

    def own_candles(self, candles: Candles) -> Candles:
        """The candles it was begun with, without those that came since; a CheckpointError if they are not there."""
        return candles_of(self.id, self.period, self.data_hash, candles)


@dataclass(frozen=True, slots=True, eq=False)
class TRMRunResult:
    """What came out: the selector in `checkpoint`, judged by `evaluation`."""

    run: TRMRun
    checkpoint: Path
    sha256: str
    selector: Selector
    evaluation: TRMEvaluation


def begin_trm_run(root: Path, config: TRMRunConfig, candles: Candles, data: TRMData) -> TRMRun:
    """A new folder under `root`; raises TrainingError, and writes nothing, if the rows do not allow its folds."""
    check_folds(data, config.fit, config.folds)
    moment = datetime.now(UTC)
    folder = new_folder(root, moment, "trm")
    created = moment.isoformat(timespec="seconds")
    content = {"created": created, "config": asdict(config), "data": describe_candles(candles),
               "labels": labels_hash(data)}  # fmt: skip
    write_json(folder / ASKED, content)
    period = int(candles.time[0]), int(candles.time[-1])
    return TRMRun(folder, config, created, candle_hash(candles), labels_hash(data), period)


def open_trm_run(root: Path, name: str) -> TRMRun:
    """A run that was begun earlier; `latest` is the newest. A ConfigurationError if there is none, or it is damaged."""
    folder = find_folder(root, name, ASKED)
    try:
        content = json.loads((folder / ASKED).read_text(encoding="utf-8"))
        values, data = content["config"], content["data"]
        config = TRMRunConfig(
            **{**values, "fit": TRMFitConfig(**values["fit"]), "timerange": tuple(values["timerange"])}
        )
        period = int(data["from"]), int(data["to"])
        return TRMRun(folder, config, content["created"], data["hash"], content["labels"], period)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{folder / ASKED} cannot be read ({error}); begin a new run") from None


def execute_trm(
    run: TRMRun, candles: Candles, data: TRMData, watch: Watcher = lambda fit, epoch, values: None
) -> TRMRunResult:
    """Do what is not done yet of a run; of one that is finished nothing.

    Parameters
    ----------
    candles : the run's own
    data : made of them as `run.config` says

    Raises
    ------
    CheckpointError
        If candles or labels are not those it was begun with, or a file of it is damaged.
    TrainingError
        As `fit_trm`.
    """
    candles = run.own_candles(candles)
    if labels_hash(data) != run.labels_hash:
        raise CheckpointError(
            f"run {run.id} was begun with labels {run.labels_hash}, these are {labels_hash(data)}: the strategies have "
            "changed since; put their files back, or begin a new run"
        )
    folds, checkpoint = run.folder / "folds", run.folder / MODEL
    for folder in (run.folder, folds):
        remove_leftovers(folder)
    evaluation = walk_forward_trm(data, run.config.fit, run.config.folds, watch, folds)
    if not run.finished:  # else its bytes are registered: other threads or versions would write others
        fitted = fit_trm(
            data, run.config.fit, None, lambda fit, epoch, values: watch(f"final {fit}", epoch, values),
            _facts(run, candles),
        )  # fmt: skip
        fitted.selector.save(checkpoint)
        _report(run, evaluation, fitted.history)
    return TRMRunResult(run, checkpoint, file_sha256(checkpoint), Selector.load(checkpoint), evaluation)


def labels_hash(data: TRMData) -> str:
    """Hash of what every class earned, and so of the strategies, costs and horizon behind it."""
    digest = hashlib.sha256(data.pnl.tobytes())
    digest.update(data.labels.tobytes())
    digest.update(data.time.tobytes())
    return digest.hexdigest()[:16]


def scores_of(evaluation: TRMEvaluation) -> dict[str, Any]:
    """How good the choices and probabilities were, as a registered model tells it."""
    said, shares = evaluation.surprise(), evaluation.surprise_of_shares()
    return {
        **evaluation.scores()["trm"].as_json(),
        "log_loss": float(said.mean()),
        "log_loss_shares": float(shares.mean()),
        "log_loss_gain": float((shares - said).mean()),
        "log_loss_gain_interval": block_interval(shares - said, BLOCK),
        "steps": evaluation.mean_steps,
    }


def _facts(run: TRMRun, candles: Candles) -> dict[str, Any]:
    return {
        "run": run.id,
        "created": run.created,
        "trained_until": int(candles.time[-1]),  # the last label ends at its close
        "data_hash": run.data_hash,
        "labels_hash": run.labels_hash,
        "folds": run.config.folds,
        "versions": {"trading_bot": __version__, "torch": torch.__version__, "numpy": np.__version__,
                     "python": platform.python_version()},
    }  # fmt: skip


def _report(run: TRMRun, evaluation: TRMEvaluation, final: Mapping[str, Any]) -> None:
    folds = [
        {"fold": fold.number, "trained": fold.trained, "decisions": len(fold.held), "threshold": fold.threshold,
         "steps": float(fold.steps.mean()), "history": dict(fold.history)}
        for fold in evaluation.folds
    ]  # fmt: skip
    arms = {arm: each.as_json() for arm, each in evaluation.scores().items()}
    write_json(run.folder / REPORT, {"data": run.config.source, "scores": arms, "trm": scores_of(evaluation),
                                     "folds": folds, "final": dict(final)})  # fmt: skip
