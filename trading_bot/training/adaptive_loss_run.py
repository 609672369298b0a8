"""One run of `train-adaptive`: a network fitted with an adaptive loss, judged on newer rows, everything in one folder.

    MODEL_ID/run.json             what was asked for, and on which candles
    MODEL_ID/state.safetensors    the training in the middle, while it lasts
    MODEL_ID/model.safetensors    the forecaster (model.json: its facts, for people)
    MODEL_ID/history.csv          losses and weights, every ten steps
    MODEL_ID/losses.png, weights.png
    MODEL_ID/report.json          scores, curves, weights, effectiveness; written last

A run that was interrupted or killed goes on, bit for bit, when it is begun again under the same name. The network that
is kept is the one that was judged: it never saw the newest rows, whose forecasts tell how far it can be trusted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trading_bot.domain.market import Candles
from trading_bot.errors import ConfigurationError, TrainingError
from trading_bot.features.selection import FeatureSelector
from trading_bot.features.table import CANDIDATES, column_names
from trading_bot.models.registry import build_model
from trading_bot.training.adaptive_loss_selection import AdaptiveLossConfig, LossSelectionManager
from trading_bot.training.adaptive_loss_trainer import AdaptiveLossTrainer, AdaptiveResults
from trading_bot.training.calibration import fit_calibration
from trading_bot.training.data_loaders import create_data_loaders
from trading_bot.training.evaluation import ARMS, baselines
from trading_bot.training.forecaster import Forecaster, ScaledForecast, describe_features
from trading_bot.training.optimizers import create_optimizer
from trading_bot.training.prepared_data import PreparedData, prepare_data
from trading_bot.training.run_folder import candle_hash, unwritable, write_json
from trading_bot.training.scoring import Score, score

DATASETS = ("CRYPTEX", "CRYPTEX_ENHANCED_OPTIMIZED")
OHLCV = ("gap", "log_high_over_low", "log_close_over_open", "log_return", "log1p_relative_volume_20")
MODEL = "model.safetensors"
CHOSEN = 20  # features that the selection leaves of the wide set


@dataclass(frozen=True, kw_only=True)
class AdaptiveRunConfig:
    """What `train-adaptive` was asked for."""

    model_id: str = "adaptive"
    source: str = DATASETS[0]  # where the candles came from, as the user named it
    loss: AdaptiveLossConfig = field(default_factory=lambda: AdaptiveLossConfig(combination="comprehensive"))
    model: str = "cnn"
    sizes: Mapping[str, Any] = field(default_factory=dict)
    features: tuple[str, ...] | None = None  # None: the 40
    select: int = 0  # so many of the wide set, chosen by the rows trained on; 0: `features`
    horizon: int = 12  # bars ahead
    length: int = 30  # bars in a window
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    validation: float = 0.15  # of the rows that are not judged
    test: float = 0.2  # the newest, judged and never trained on
    patience: int = 5
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True, slots=True, eq=False)
class AdaptiveRun:
    """What came of it.

    Attributes
    ----------
    forecaster : what `checkpoint` holds
    scores : of the newest rows, by arm: the forecaster and what it has to beat
    uncalibrated : why it cannot be a strategy: how far it can be trusted could not be measured; empty if it was
    """

    folder: Path
    results: AdaptiveResults
    forecaster: Forecaster
    scores: Mapping[str, Score]
    features: tuple[str, ...]
    steps: int
    uncalibrated: str

    @property
    def checkpoint(self) -> Path:
        return self.folder / MODEL


Watcher = Callable[[int, Mapping[str, float]], object]


def run_adaptive(
    root: Path, config: AdaptiveRunConfig, candles: Candles, watch: Watcher = lambda epoch, values: None
) -> AdaptiveRun:
    """Fit, judge and keep; what was interrupted goes on, what was finished is done anew.

    Raises
    ------
    TrainingError, CandleDataError, ConfigurationError
        If data or settings do not allow this training, or another one has this name.
    """
    data, end = _prepared(config, candles)
    torch.manual_seed(config.seed)
    network = build_model(config.model, **{**config.sizes, "time": config.length, "features": len(data.names)})
    train, val = create_data_loaders(
        data.X[:end], data.y[:end], config.batch_size, config.validation, gap=config.horizon, seed=config.seed
    )
    scale = float(train.dataset.y.astype(np.float64).std())
    model = ScaledForecast(network, scale)
    optimizer = create_optimizer(model, "adamw", config.learning_rate)
    loss = LossSelectionManager().create_adaptive_loss(config.loss, seed=config.seed)
    trainer = AdaptiveLossTrainer(model, optimizer, loss, config.device, config.model_id, gap=config.horizon)
    folder = _begin(root, config, candles)
    trainer.set_early_stopping(config.patience, min_delta=0.0)
    trainer.set_resume(folder / "state.safetensors")
    trainer.show_progress = False
    trainer.on_epoch.append(watch)
    results = trainer.train(train, val, config.epochs, log_interval=0)
    assert train.dataset.mean is not None
    assert train.dataset.std is not None
    fitted = Forecaster(
        network.cpu(), train.dataset.mean, train.dataset.std, scale, _facts(config, candles, data, end, results)
    )
    scores, judged, uncalibrated = _judged(fitted, data, end)
    replace(fitted, facts={**fitted.facts, **judged}).save(folder / MODEL)
    trainer.save_history(folder / "history.csv")
    if loss.record.lines:
        trainer.plot_loss_evolution(folder / "losses.png")
        trainer.plot_weight_evolution(folder / "weights.png")
    forecaster = Forecaster.load(folder / MODEL)  # what was written is what will be used
    told = {"scores": judged["scores"], "language_model": forecaster.label, **results.as_json()}
    write_json(folder / "report.json", told)
    (folder / "state.safetensors").unlink(missing_ok=True)
    return AdaptiveRun(folder, results, forecaster, scores, data.names, loss.steps, uncalibrated)


def _judged(fitted: Forecaster, data: PreparedData, end: int) -> tuple[dict[str, Score], dict[str, Any], str]:
    """Scores on the rows after `end`, what the checkpoint is told of them, and why it could not be calibrated if so."""
    held = slice(end + data.horizon, None)
    target = data.y[held].astype(np.float64)
    forecasts = {"model": fitted.forecast(data.X[held]), **baselines(data, slice(0, end), held)}
    scores = {arm: score(forecasts[arm], target, data.horizon) for arm in ARMS}
    calibration, uncalibrated = None, ""
    try:
        calibration = fit_calibration(forecasts["model"], target, float(target.std())).as_json()
    except TrainingError as error:
        uncalibrated = str(error)
    told = {"scores": {arm: each.as_json() for arm, each in scores.items()}, "calibration": calibration}
    return scores, told, uncalibrated


def _prepared(config: AdaptiveRunConfig, candles: Candles) -> tuple[PreparedData, int]:
    """All rows, and the end of those that training and validation may see."""
    names = column_names(CANDIDATES) if config.select else config.features
    data = prepare_data(candles, config.horizon, config.length, names)
    rows = len(data.y)
    end = rows - round(rows * config.test) - config.horizon
    if rows - end - config.horizon < 1 or end < 1:
        raise TrainingError(
            f"{rows} rows with {config.test:g} of them judged and a horizon of {config.horizon} leave {max(0, end)} to "
            "train on; wanted some of both: load more candles"
        )
    if config.select:
        trained = end - round(end * config.validation) - config.horizon
        selector = FeatureSelector(config.select, blocks=0).fit(data.X[:trained, -1], data.y[:trained])
        chosen = tuple(data.names[column] for column in selector.ranking_)
        narrow = prepare_data(candles, config.horizon, config.length, chosen)
        if len(narrow.y) != rows:  # the newest rows are the same; older ones may be more, their warm-up being shorter
            end += len(narrow.y) - rows
        return narrow, end
    return data, end


def _begin(root: Path, config: AdaptiveRunConfig, candles: Candles) -> Path:
    """The run's folder; an unfinished run in it goes on only if it is the same."""
    folder = root / config.model_id
    asked = json.loads(json.dumps({"config": asdict(config), "data": candle_hash(candles)}))
    kept = folder / "run.json"
    try:
        found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else None
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{kept} cannot be read ({error}); remove {folder} or choose another model id"
        ) from None
    if found is not None and not (folder / "report.json").exists() and found != asked:
        raise ConfigurationError(
            f"{folder} holds an unfinished training with other settings or candles; go on with those, remove it, or "
            "choose another model id"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(root, error) from None
    if (folder / "report.json").exists():
        for old in ("report.json", "state.safetensors"):
            (folder / old).unlink(missing_ok=True)
    write_json(kept, asked)
    return folder


def _facts(
    config: AdaptiveRunConfig, candles: Candles, data: PreparedData, end: int, results: AdaptiveResults
) -> dict[str, Any]:
    return {
        "run": config.model_id,
        "symbol": data.symbol,
        "timeframe": data.timeframe,
        "horizon": data.horizon,
        "features": describe_features(data.names, data.length),
        "trained_from": int(data.time[0]),
        "judged_from": int(data.time[end + data.horizon]),
        "trained_until": int(candles.time[-1]),  # nothing before it is unseen: the newest rows told its calibration
        "data_hash": candle_hash(candles),
        "training": _training(config),
        "weights": dict(results.weights),
    }


def _training(config: AdaptiveRunConfig) -> dict[str, Any]:
    """How it was trained, on one level, as `train` tells it too."""
    plain = {name: value for name, value in asdict(config).items() if name not in ("model_id", "features", "length")}
    loss = plain.pop("loss")
    return {**plain, "loss": loss.pop("combination"), **{name: value for name, value in loss.items() if value}}
