"""One forecaster fitted: inner validation, early stopping, and the ensemble's out-of-fold combination."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from trading_bot.errors import TrainingError
from trading_bot.features.columns import Features
from trading_bot.models.ensemble import EnsembleForecaster
from trading_bot.models.registry import build_model
from trading_bot.training.batches import check_size
from trading_bot.training.data_loaders import BatchLoader, TimeSeriesDataset, create_data_loaders
from trading_bot.training.devices import pick_device
from trading_bot.training.forecaster import Forecaster, ScaledForecast
from trading_bot.training.history import TrainingHistory
from trading_bot.training.loss_functions import create_loss_function
from trading_bot.training.optimizers import create_optimizer, create_scheduler
from trading_bot.training.trainer import Trainer
from trading_bot.training.walk_forward import Rows, WalkForwardValidator

OUT_OF_FOLD = 2  # walk-forward folds that give the ensemble's combination something to learn from
LEAST_TRAINED = 8  # rows: what a batch of any loss needs


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a forecaster is fitted. The defaults are bearable on two cores: at most 500 steps of 64 rows a network."""

    model: str = "cnn"
    sizes: Mapping[str, Any] = field(default_factory=dict)
    loss: str = "huber"
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    scheduler: str | None = None
    epochs: int = 5
    batch_size: int = 64
    batches_per_epoch: int = 100  # of a new order each epoch; 0: all rows
    patience: int = 2
    validation: float = 0.15  # the newest part of the training rows, for early stopping
    max_grad_norm: float = 1.0
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 1, "batches_per_epoch": 0, "patience": 1, "seed": 0}
        for name, lowest in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value < 2**63:
                raise TrainingError(f"{name} is {value!r}; wanted a whole number ≥ {lowest}")
        if not 0 < self.validation < 1:
            raise TrainingError(f"validation is {self.validation!r}; wanted a share above 0 and below 1, such as 0.15")
        if not self.max_grad_norm > 0:
            raise TrainingError(f"max_grad_norm is {self.max_grad_norm!r}; wanted a number above 0")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Watcher(Protocol):
    """Told after each epoch which fit it was, the epoch from 0, and its numbers."""

    def __call__(self, fit: str, epoch: int, values: Mapping[str, float]) -> object: ...


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A forecaster and the curves of the fits behind it, by name."""

    forecaster: Forecaster
    histories: Mapping[str, TrainingHistory]


def number_of_fits(config: FitConfig) -> int:
    """How many networks one call of `fit_forecaster` trains."""
    return 1 if config.model.lower() != "ensemble" else 3 * (OUT_OF_FOLD + 1) + 1


def check_rows(y: Features, horizon: int, config: FitConfig) -> None:
    """Everything that can be known to be wrong with the targets y (n,) of one fit, oldest first, before it begins.

    Raises
    ------
    TrainingError
        If they are too few, or no direction can be learned from them.
    """
    check_target(y)
    ends = [len(y)]
    if config.model.lower() == "ensemble":
        folds = _out_of_fold(len(y), horizon)
        ends += [int(train[-1]) + 1 for train, _ in folds] + [sum(len(held) for _, held in folds)]
    for end in ends:
        held = round(end * config.validation)
        if end - held - horizon < LEAST_TRAINED or held < 1:
            raise TrainingError(
                f"{end} rows, of which {held} validate and {horizon} are purged, leave {max(0, end - held - horizon)} "
                f"to train on; wanted at least {LEAST_TRAINED}, and one that validates: load more candles, judge on "
                "fewer folds or shorten the horizon"
            )


def _out_of_fold(rows: int, horizon: int) -> list[tuple[Rows, Rows]]:
    """The folds whose forecasts the ensemble's combination learns from."""
    return WalkForwardValidator(rows, 0.5, OUT_OF_FOLD, gap=horizon).get_splits()


def check_config(config: FitConfig, length: int, features: int) -> None:
    """Everything that can be known to be wrong with settings before a training begins.

    Raises
    ------
    TrainingError, ConfigurationError
    """
    with torch.device("meta"):  # shapes alone: no memory, no chance used up
        model = build_model(config.model, **config.sizes, time=length, features=features)
    optimizer = create_optimizer(model, config.optimizer, config.learning_rate)
    if config.scheduler is not None:
        create_scheduler(optimizer, config.scheduler)
    check_size(model, create_loss_function(config.loss), config.batch_size)
    pick_device(config.device)


def fit_forecaster(
    X: Features,
    y: Features,
    horizon: int,
    config: FitConfig,
    folder: Path | None = None,
    watch: Watcher = lambda fit, epoch, values: None,
    facts: Mapping[str, Any] | None = None,
) -> Fitted:
    """Fit on these rows, oldest first; the newest part of them decides when to stop.

    Parameters
    ----------
    X : float32 (n, time, features)
    y : float32 (n,), returns over `horizon` bars
    horizon : rows purged wherever two parts meet
    folder : where the state is kept after every epoch; a fit that was interrupted goes on from there
    facts : what the forecaster shall remember

    Raises
    ------
    TrainingError
        If rows are too few or tell nothing, or the loss ceases to be finite.
    """
    check_rows(y, horizon, config)
    check_config(config, X.shape[1], X.shape[2])
    fitting = _Fitting(X, y, horizon, config, folder, watch)
    before = torch.get_rng_state()
    try:
        network = fitting.whole_network()
    finally:
        torch.set_rng_state(before)  # the caller's chance is not ours to move
    whole = fitting.dataset(len(X))
    assert whole.mean is not None
    assert whole.std is not None
    forecaster = Forecaster(network.cpu(), whole.mean, whole.std, fitting.scale(len(X)), dict(facts or {}))
    return Fitted(forecaster, fitting.histories)


def check_target(y: Features) -> None:
    """Refuse a target that no direction can be learned from."""
    if not np.isfinite(y).all():
        raise TrainingError("the target holds values that are not finite; mend the candles")
    moved = y[y != 0]
    if not len(moved):
        raise TrainingError("the target is 0 in every row: the price never moves; wanted candles that do")
    if (moved > 0).all() or (moved < 0).all():
        way = "rises" if moved[0] > 0 else "falls"
        raise TrainingError(
            f"the target {way} in all of {len(y)} rows: with a single class there is no direction to learn; "
            "load more candles or shorten the horizon"
        )


class _Fitting:
    """The fits behind one forecaster. A network is fitted on rows before `end`, of which the newest part validates."""

    def __init__(
        self, X: Features, y: Features, horizon: int, config: FitConfig, folder: Path | None, watch: Watcher
    ) -> None:
        self.X, self.y, self.horizon, self.config, self.folder, self.watch = X, y, horizon, config, folder, watch
        self.histories: dict[str, TrainingHistory] = {}

    def dataset(self, end: int) -> TimeSeriesDataset:
        """The rows that a network fitted up to `end` was trained on, with their statistics."""
        return TimeSeriesDataset(self.X[: self._trained(end)], self.y[: self._trained(end)])

    def scale(self, end: int) -> float:
        return float(self.y[: self._trained(end)].astype(np.float64).std())

    def _trained(self, end: int) -> int:
        return end - round(end * self.config.validation) - self.horizon

    def network(self, name: str, end: int, sizes: Mapping[str, Any], fit: str = "") -> nn.Module:
        """A network of that name, fitted on the rows before `end`; its output is in units of `scale(end)`."""
        config = self.config
        train, val = create_data_loaders(
            self.X[:end], self.y[:end], config.batch_size, config.validation, gap=self.horizon, seed=config.seed
        )
        train.max_batches = config.batches_per_epoch or None
        torch.manual_seed(config.seed)
        network = build_model(name, **sizes)
        self._fit(ScaledForecast(network, self.scale(end)), train, val, fit or name, self.y[: self._trained(end)])
        return network

    def whole_network(self) -> nn.Module:
        """The network that the configuration asks for, fitted on all rows."""
        sizes = {**self.config.sizes, "time": self.X.shape[1], "features": self.X.shape[2]}
        if self.config.model.lower() == "ensemble":
            return self._ensemble(sizes)
        return self.network(self.config.model.lower(), len(self.X), sizes)

    def _fit(self, model: nn.Module, train: BatchLoader, val: BatchLoader, fit: str, target: Features) -> None:
        config = self.config
        loss = create_loss_function(config.loss)
        loss.fit_scale(torch.from_numpy(np.ascontiguousarray(target)))
        optimizer = create_optimizer(model, config.optimizer, config.learning_rate)
        scheduler = None
        if config.scheduler is not None:
            options = {"T_max": config.epochs} if config.scheduler.lower() == "cosine" else {}
            scheduler = create_scheduler(optimizer, config.scheduler, **options)
        trainer = Trainer(
            model, train, val, loss, optimizer, config.device, scheduler, max_grad_norm=config.max_grad_norm
        )
        trainer.show_progress = False  # whoever watches shows all fits in one
        trainer.set_early_stopping(config.patience, min_delta=0.0)
        trainer.on_epoch.append(lambda epoch, values: self.watch(fit, epoch, values))
        if self.folder is not None:
            trainer.set_resume(self.folder / f"{fit.replace(' ', '-')}.state.safetensors")
        self.histories[fit] = trainer.fit(config.epochs, log_interval=0)

    def _ensemble(self, sizes: Mapping[str, Any]) -> nn.Module:
        """The three networks fitted on all rows; their combination on forecasts of rows they had not seen."""
        config, n = self.config, len(self.X)
        torch.manual_seed(config.seed)
        whole = build_model("ensemble", **sizes)
        assert isinstance(whole, EnsembleForecaster)
        names = list(whole.base_models)
        members = {name: vars(whole.config.member(name)) for name in names}
        folds = _out_of_fold(n, self.horizon)
        seen = np.concatenate([held for _, held in folds])
        forecasts = np.empty((len(seen), len(names)), np.float32)
        scale, at = self.scale(n), 0
        for number, (train, held) in enumerate(folds, start=1):
            end = int(train[-1]) + 1
            for column, name in enumerate(names):
                network = self.network(name, end, members[name], f"{name} out of fold {number}")
                data = self.dataset(end)
                assert data.mean is not None
                assert data.std is not None
                part = Forecaster(network.cpu(), data.mean, data.std, self.scale(end), {})
                rows = slice(int(held[0]), int(held[-1]) + 1)
                forecasts[at : at + len(held), column] = part.forecast(self.X[rows]) / scale
            at += len(held)
        for name in names:
            whole.base_models[name].load_state_dict(self.network(name, n, members[name]).state_dict())
        self._combine(whole, forecasts, self.y[seen], scale)
        return whole

    def _combine(self, whole: EnsembleForecaster, forecasts: Features, y: Features, scale: float) -> None:
        config = self.config
        train, val = create_data_loaders(
            forecasts, y, config.batch_size, config.validation, normalize=False, gap=self.horizon, seed=config.seed
        )
        train.max_batches = config.batches_per_epoch or None
        torch.manual_seed(config.seed)
        self._fit(ScaledForecast(whole.combiner, scale), train, val, "combination", y)
