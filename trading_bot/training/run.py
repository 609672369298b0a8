"""One run of `train`: judged walk-forward, then fitted once more on all rows, and everything kept in one folder.

    RUN/run.json             what was asked for, and on which candles
    RUN/fold-K.safetensors   a fold's forecasts, once it is done
    RUN/model.safetensors    the forecaster (model.json: its facts, for people)
    RUN/report.json          scores and curves
    RUN/curves.png           the same as a picture

A run that was interrupted or killed is executed again with the same folder: what is done is not done again.
"""

from __future__ import annotations

import json
import platform
import shutil
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
from trading_bot.errors import ConfigurationError
from trading_bot.training.calibration import check_enough, fit_calibration
from trading_bot.training.checkpoint_file import file_sha256
from trading_bot.training.curves import draw_curves
from trading_bot.training.evaluation import Evaluation, splits_of, walk_forward
from trading_bot.training.fitting import FitConfig, Watcher, check_config, check_rows, fit_forecaster, number_of_fits
from trading_bot.training.forecaster import Forecaster, describe_features
from trading_bot.training.prepared_data import PreparedData, prepare_data
from trading_bot.training.run_folder import (
    candle_hash,
    candles_of,
    describe_candles,
    find_folder,
    new_folder,
    write_json,
)
from trading_bot.training.scoring import Score

MODEL = "model.safetensors"
REPORT = "report.json"  # written last


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What `train` was asked for."""

    source: str = ""  # where the candles came from, as the user named it
    timerange: tuple[int | None, int | None] = (None, None)
    horizon: int = 12  # bars ahead
    length: int = 30  # bars in a window
    features: tuple[str, ...] | None = None  # None: the 40
    folds: int = 1
    strategy: str = "neural_forecast"
    fit: FitConfig = field(default_factory=FitConfig)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A run's folder and what it is about."""

    folder: Path
    config: RunConfig
    data_hash: str
    period: tuple[int, int]  # open of its first and last candle, UTC ms

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def finished(self) -> bool:
        return (self.folder / MODEL).exists() and (self.folder / REPORT).exists()


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """What came out: the forecaster in `checkpoint`, judged by `evaluation`."""

    run: Run
    checkpoint: Path
    sha256: str
    forecaster: Forecaster
    evaluation: Evaluation
    scores: Mapping[str, Score]


def begin_run(root: Path, config: RunConfig, candles: Candles) -> Run:
    """A new folder under `root`, after everything that can be wrong has been looked at.

    Raises
    ------
    TrainingError, CandleDataError, ConfigurationError
        If data or settings do not allow this training; nothing is written then.
    """
    _prepared(config, candles)
    moment = datetime.now(UTC)
    folder = new_folder(root, moment, config.fit.model.lower())
    content = {
        "created": moment.isoformat(timespec="seconds"), "config": asdict(config), "data": describe_candles(candles),
    }  # fmt: skip
    write_json(folder / "run.json", content)
    return Run(folder, config, candle_hash(candles), (int(candles.time[0]), int(candles.time[-1])))


def open_run(root: Path, name: str) -> Run:
    """A run that was begun earlier; `latest` is the newest.

    Raises
    ------
    ConfigurationError
        If there is none of this name, or its folder is damaged.
    """
    folder = find_folder(root, name, "run.json")
    try:
        content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        values = content["config"]
        config = RunConfig(
            **{**values, "fit": FitConfig(**values["fit"]), "timerange": tuple(values["timerange"]),
               "features": None if values["features"] is None else tuple(values["features"])}
        )  # fmt: skip
        data = content["data"]
        return Run(folder, config, data["hash"], (int(data["from"]), int(data["to"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{folder / 'run.json'} cannot be read ({error}); begin a new run") from None


def fits_of(config: RunConfig) -> int:
    """Networks that a run trains."""
    return (config.folds + 1) * number_of_fits(config.fit)


def own_candles(run: Run, candles: Candles) -> Candles:
    """The candles the run was begun with, without those that came since.

    Raises
    ------
    CheckpointError
        If they are not among these.
    """
    return candles_of(run.id, run.period, run.data_hash, candles)


def execute(run: Run, candles: Candles, watch: Watcher = lambda fit, epoch, values: None) -> RunResult:
    """Do what is not done yet of a run; of one that is finished nothing.

    Raises
    ------
    CheckpointError
        If the candles it was begun with are not among these, or a file of it is damaged.
    TrainingError
        As `fit_forecaster`.
    """
    candles = own_candles(run, candles)
    config, data = run.config, _prepared(run.config, candles)
    folds, checkpoint = run.folder / "folds", run.folder / MODEL
    for folder in (run.folder, folds):
        remove_leftovers(folder)
    evaluation = walk_forward(data, config.fit, config.folds, folds, watch)
    scores = evaluation.scores()
    if not run.finished:  # else its bytes are registered: other threads or versions would write others
        fitted = fit_forecaster(
            data.X, data.y, data.horizon, config.fit, run.folder / "final",
            lambda fit, epoch, values: watch(f"final {fit}", epoch, values),
            _facts(run, candles, data, evaluation, scores),
        )  # fmt: skip
        fitted.forecaster.save(checkpoint)
        _report(run, data, evaluation, scores, fitted.histories, fitted.forecaster.label)
    shutil.rmtree(run.folder / "final", ignore_errors=True)
    for number in range(1, config.folds + 1):
        shutil.rmtree(folds / f"fold-{number}", ignore_errors=True)  # states to resume from, of no use any more
    forecaster = Forecaster.load(checkpoint)  # what was written is what will be used
    return RunResult(run, checkpoint, file_sha256(checkpoint), forecaster, evaluation, scores)


def _prepared(config: RunConfig, candles: Candles) -> PreparedData:
    """The data, and every check that needs no training."""
    data = prepare_data(candles, config.horizon, config.length, config.features)
    check_config(config.fit, config.length, len(data.names))
    check_rows(data.y, data.horizon, config.fit)
    folds = splits_of(data, config.folds)
    for train, _ in folds:
        check_rows(data.y[train], data.horizon, config.fit)
    check_enough(data.y[np.concatenate([held for _, held in folds])] != 0)
    return data


def _facts(
    run: Run, candles: Candles, data: PreparedData, evaluation: Evaluation, scores: Mapping[str, Score]
) -> dict[str, Any]:
    forecast, target = evaluation.pooled("model")
    scale = float(target.std())
    config = run.config
    return {
        "run": run.id,
        "created": json.loads((run.folder / "run.json").read_text(encoding="utf-8"))["created"],
        "symbol": data.symbol,
        "timeframe": data.timeframe,
        "horizon": data.horizon,
        "features": describe_features(data.names, data.length),
        "trained_from": int(data.time[0]),
        "trained_until": int(candles.time[-1]),  # the last label ends at its close
        "data_hash": run.data_hash,
        "training": {**config.fit.as_json(), "folds": config.folds},
        "scores": {arm: each.as_json() for arm, each in scores.items()},
        "calibration": fit_calibration(forecast, target, scale).as_json(),
        "versions": {"trading_bot": __version__, "torch": torch.__version__, "numpy": np.__version__,
                     "python": platform.python_version()},
    }  # fmt: skip


def _report(
    run: Run, data: PreparedData, evaluation: Evaluation, scores: Mapping[str, Score], final: Mapping[str, Any],
    label: str | None,
) -> None:  # fmt: skip
    folds = [
        {"fold": fold.number, "trained": fold.trained, "from": int(data.time[fold.held[0]]),
         "to": int(data.time[fold.held[-1]]), "scores": {arm: each.as_json() for arm, each in arms.items()},
         "histories": fold.histories}
        for fold, arms in zip(evaluation.folds, evaluation.fold_scores(), strict=True)
    ]  # fmt: skip
    curves = [(f"fold {fold.number}", fold.histories) for fold in evaluation.folds] + [("all rows", final)]
    fit = run.config.fit
    title = f"{run.id}: {data.symbol} {data.timeframe}, {data.horizon} bars ahead, loss {fit.loss}"
    title += "" if label is None else f"\n{label}"
    draw_curves(run.folder / "curves.png", title, curves, scores)
    pooled = {arm: each.as_json() for arm, each in scores.items()}
    told = {} if label is None else {"language_model": label}
    write_json(run.folder / REPORT, {**told, "scores": pooled, "folds": folds, "final": final})
