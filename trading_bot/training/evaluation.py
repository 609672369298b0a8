"""Walk-forward: a forecaster fitted on each fold's past and judged on what followed, beside its baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trading_bot.domain.market import Floats
from trading_bot.errors import CheckpointError
from trading_bot.training.baselines import ridge_forecast
from trading_bot.training.checkpoint_file import SUFFIX, read_checkpoint, write_checkpoint
from trading_bot.training.fitting import FitConfig, Watcher, fit_forecaster
from trading_bot.training.forecaster import describe_features
from trading_bot.training.history import TrainingHistory
from trading_bot.training.prepared_data import PreparedData
from trading_bot.training.run_folder import check_settings, settings_hash
from trading_bot.training.scoring import Score, score
from trading_bot.training.walk_forward import Rows, WalkForwardValidator

ARMS = ("model", "zero", "mean", "persistence", "ridge")


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """One fold: the rows judged, each arm's forecasts of them, the curves behind the model's."""

    number: int
    trained: int
    held: Rows
    forecasts: Mapping[str, Floats]
    histories: Mapping[str, TrainingHistory]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """All folds, oldest first."""

    data: PreparedData
    folds: tuple[Fold, ...]

    def pooled(self, arm: str) -> tuple[Floats, Floats]:
        """Forecasts and targets of all folds, in order of time."""
        held = np.concatenate([fold.held for fold in self.folds])
        return np.concatenate([fold.forecasts[arm] for fold in self.folds]), self.data.y[held].astype(np.float64)

    def scores(self) -> dict[str, Score]:
        """Each arm over all folds."""
        return {arm: score(*self.pooled(arm), self.data.horizon) for arm in ARMS}

    def fold_scores(self) -> list[dict[str, Score]]:
        """Each arm in each fold."""
        horizon = self.data.horizon
        return [
            {arm: score(fold.forecasts[arm], self.data.y[fold.held].astype(np.float64), horizon) for arm in ARMS}
            for fold in self.folds
        ]


def splits_of(data: PreparedData, folds: int) -> list[tuple[Rows, Rows]]:
    """The folds of `walk_forward`; raises TrainingError if there are not enough rows."""
    return WalkForwardValidator(len(data.y), 0.2, folds, gap=data.horizon).get_splits()


def walk_forward(
    data: PreparedData,
    config: FitConfig,
    folds: int,
    folder: Path | None = None,
    watch: Watcher = lambda fit, epoch, values: None,
) -> Evaluation:
    """Fit and judge on each fold; labels that reach into a fold's test rows are purged from its training.

    Parameters
    ----------
    folder : where finished folds and the state of the one in progress are kept; what is there already is not done again

    Raises
    ------
    TrainingError
        If the rows do not allow these folds, or as `fit_forecaster`.
    CheckpointError
        If a fold that was kept is damaged, of other rows or other settings.
    """
    done = []
    asked = settings_hash(config.as_json(), describe_features(data.names, data.length), data.horizon)
    for number, (train, held) in enumerate(splits_of(data, folds), start=1):
        kept = folder / f"fold-{number}{SUFFIX}" if folder is not None else None
        if kept is not None and kept.exists():
            done.append(_read(kept, number, held, asked))
            continue
        past, test = slice(int(train[0]), int(train[-1]) + 1), slice(int(held[0]), int(held[-1]) + 1)
        fitted = fit_forecaster(
            data.X[past], data.y[past], data.horizon, config,
            folder / f"fold-{number}" if folder is not None else None,
            _naming(watch, f"fold {number}/{folds}"),
        )  # fmt: skip
        forecasts = {"model": fitted.forecaster.forecast(data.X[test]), **baselines(data, past, test)}
        fold = Fold(number, len(train), held, forecasts, fitted.histories)
        if kept is not None:
            _write(kept, fold, asked)
        done.append(fold)
    return Evaluation(data, tuple(done))


def baselines(data: PreparedData, past: slice, test: slice) -> dict[str, Floats]:
    """What a network that saw the rows `past` has to beat on the rows `test`: `ARMS` without the model."""
    rows = len(data.y[test])
    return {
        "zero": np.zeros(rows),
        "mean": np.full(rows, float(data.y[past].mean(dtype=np.float64))),
        "persistence": data.past[test].astype(np.float64),
        "ridge": ridge_forecast(data.X[past], data.y[past], data.X[test], data.horizon),
    }


def _naming(watch: Watcher, fold: str) -> Watcher:
    return lambda fit, epoch, values: watch(f"{fold} {fit}", epoch, values)


def _write(path: Path, fold: Fold, asked: str) -> None:
    tensors = {arm: torch.from_numpy(forecast) for arm, forecast in fold.forecasts.items()}
    write_checkpoint(path, tensors, {"kind": "fold", "asked": asked, "trained": fold.trained,
                                    "histories": fold.histories})  # fmt: skip


def _read(path: Path, number: int, held: Rows, asked: str) -> Fold:
    tensors, facts = read_checkpoint(path)
    check_settings(facts.get("asked"), asked, path)
    if set(tensors) != set(ARMS) or any(tensor.shape != (len(held),) for tensor in tensors.values()):
        raise CheckpointError(f"{path} is not this fold's: it holds other rows; remove it, and the fold is done again")
    histories: dict[str, Any] = facts["histories"]
    return Fold(
        number,
        facts["trained"],
        held,
        {arm: tensor.numpy() for arm, tensor in tensors.items()},
        {fit: TrainingHistory(values) for fit, values in histories.items()},
    )
