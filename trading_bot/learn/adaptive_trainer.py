"""Trains one strategy's model by mini-batch momentum SGD, epoch by epoch."""

from __future__ import annotations

import copy
import importlib
import time
import weakref
from collections.abc import Mapping
from typing import Any, Protocol

from trading_bot.errors import CheckpointError, TrainingError
from trading_bot.learn.linear_model import LinearModel, probabilities
from trading_bot.learn.training_config import LossName, TrainingConfig
from trading_bot.learn.training_data import Array, TrainingData, check_rows, prepare
from trading_bot.learn.training_progress import EpochMetrics, Progress

Weights = dict[str, Array]
_STATE = ("loss", "dtype", "weights", "momentum", "best", "progress")


class _Model(Protocol):
    def train_epoch(self, data: TrainingData, epoch: int, progress: Progress) -> tuple[float, float]: ...
    def validate(self, data: TrainingData) -> float: ...
    def scores(self, X: Array) -> Array: ...
    def weights(self) -> Weights: ...
    def load_weights(self, weights: Mapping[str, Array]) -> None: ...
    def momentum(self) -> Weights: ...
    def load_momentum(self, momentum: Mapping[str, Array]) -> None: ...
    def rest(self) -> None: ...


class AdaptiveTrainer:
    """Mini-batch momentum SGD with clipping, sample weights, an adaptive learning rate and early stopping.

    One step: forward on the batch, sample-weighted mean loss, gradient, its norm over all parameters clipped, weight
    decay (θ ← θ - lr·decay·θ, not on biases), v ← momentum·v - lr·g, θ ← θ + v. A step whose loss or gradient is not
    finite is skipped and counted.

    Parameters
    ----------
    config : the default one if absent
    model : None for a linear model (logistic regression for targets that are all 0 or 1, else least squares), or a
        network: any object with `forward` and `parameters`, giving one number a row (a logit for log_loss). It is
        trained in place
    name : what it is called in the log

    Raises
    ------
    TrainingError
        If the model cannot be trained.
    """

    def __init__(self, config: TrainingConfig | None = None, model: Any = None, *, name: str = "") -> None:
        self.config = config or TrainingConfig()
        self._flat = model is None
        self._model: _Model | None = None
        if model is not None:  # torch takes seconds to import and is not wanted for a linear model
            self._model = importlib.import_module("trading_bot.learn.module_model").ModuleModel(self.config, model)
        self._progress = Progress(self.config, name)
        self._loss: LossName | None = self.config.loss
        self._best: Weights | None = None
        self._seen: list[weakref.ref[Array]] = []

    def train_epoch(self, X_train: Any, y_train: Any, X_val: Any, y_val: Any, epoch: int) -> EpochMetrics:
        """One pass over the training rows, one look at the validation rows.

        When patience runs out the best weights come back and `should_stop` says so. X is not copied if it is float32
        or float64, and is looked through for what is not finite only when it is first seen.

        Parameters
        ----------
        X_train, X_val : (n, d), or (n, …) for a network; in time order, oldest first
        y_train, y_val : (n,) or (n, 1)
        epoch : its number, from 0; with the seed it decides the order of the batches

        Raises
        ------
        TrainingError
            Before anything is trained, if data are not as wanted.
        TrainingDiverged
            At the tenth step skipped in a row.
        """
        if isinstance(epoch, bool) or not hasattr(epoch, "__index__") or epoch < 0:
            raise TrainingError(f"epoch is {epoch!r}; wanted a whole number ≥ 0")
        data = prepare(
            X_train, y_train, X_val, y_val, self.config, flat=self._flat, loss=self._loss, known_finite=self._known
        )
        self._seen = [weakref.ref(data.X), weakref.ref(data.X_val)]
        model = self._begun(data)
        started = time.perf_counter()
        loss, grad_norm = model.train_epoch(data, int(epoch), self._progress)
        val_loss = model.validate(data)
        seconds = time.perf_counter() - started
        metrics, best = self._progress.finish_epoch(int(epoch), loss, val_loss, grad_norm, seconds)
        if best:
            self._best = model.weights()
        if self.should_stop():
            self.restore_best()
        return metrics

    def fit(self, X_train: Any, y_train: Any, X_val: Any, y_val: Any, epochs: int = 100) -> dict[str, Any]:
        """Train until patience runs out or `epochs` have passed, and keep the best weights; the summary."""
        if isinstance(epochs, bool) or not hasattr(epochs, "__index__") or epochs < 1:
            raise TrainingError(f"epochs is {epochs!r}; wanted a whole number ≥ 1")
        for epoch in range(epochs):
            self.train_epoch(X_train, y_train, X_val, y_val, epoch)
            if self.should_stop():
                break
        self.restore_best()
        return self.get_training_summary()

    def should_stop(self) -> bool:
        """Whether patience has run out."""
        return self._progress.stopped

    def restore_best(self) -> None:
        """Go back to the weights of the lowest validation loss, at rest. Without any epoch: nothing."""
        if self._model is not None and self._best is not None:
            self._model.load_weights(self._best)
            self._model.rest()

    def get_training_summary(self) -> dict[str, Any]:
        """best_val_loss (infinite before an epoch), best_epoch, epochs_trained, final_loss, final_learning_rate,
        stopped_early, skipped_steps, seconds, and loss: the name of what was minimised (None before an epoch)."""
        return {**self._progress.summary(), "loss": self._loss}

    def predict_proba(self, X: Any) -> Array:
        """Probability of a 1 for each row, (n,), by the weights as they are now.

        Raises
        ------
        TrainingError
            If nothing was trained yet, the model was not trained on log_loss, or X is not as wanted.
        """
        if self._loss == "squared_error":
            raise TrainingError("this model was trained on squared_error and has no probabilities; use predict")
        return probabilities(self._scores(X))

    def predict(self, X: Any) -> Array:
        """The target each row lets expect, (n,); for log_loss the probability of a 1. Raises as `predict_proba`."""
        return self._scores(X) if self._loss == "squared_error" else self.predict_proba(X)

    def best_weights(self) -> Weights | None:
        """By name: those of the lowest validation loss; None before an epoch."""
        return copy.deepcopy(self._best)

    def state_dict(self) -> dict[str, Any]:
        """All a trainer of the same config (and, with a network, the same architecture) needs to go on exactly."""
        model = self._model
        return {
            "loss": self._loss,
            "dtype": str(model.theta.dtype) if isinstance(model, LinearModel) else None,
            "weights": None if model is None else model.weights(),
            "momentum": None if model is None else model.momentum(),
            "best": copy.deepcopy(self._best),
            "progress": self._progress.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises
        ------
        CheckpointError
            If it is of another model, or no such state.
        """
        if missing := [name for name in _STATE if name not in state]:
            raise CheckpointError(f"the state lacks {missing[0]!r}; wanted what AdaptiveTrainer.state_dict gave")
        if (state["dtype"] is None) == self._flat and state["weights"] is not None:
            kinds = ("a network", "a linear model")
            raise CheckpointError(f"the state is of {kinds[not self._flat]}, this trainer has {kinds[self._flat]}")
        if self._flat and state["weights"] is not None:
            self._model = LinearModel(self.config, len(state["weights"]["weight"]), state["dtype"])
        if self._model is not None and state["weights"] is not None:
            self._model.load_weights(state["weights"])
            self._model.load_momentum(state["momentum"])
        self._best = copy.deepcopy(state["best"])
        self._loss = state["loss"]
        self._progress.load_state_dict(state["progress"])

    def _begun(self, data: TrainingData) -> _Model:
        self._loss = data.loss
        if self._model is None:
            self._model = LinearModel(self.config, data.X.shape[1], data.X.dtype)
        if isinstance(self._model, LinearModel):
            self._model.check(data.X)
        return self._model

    def _known(self, array: Array) -> bool:
        return any(seen() is array for seen in self._seen)

    def _scores(self, X: Any) -> Array:
        if self._model is None or self._best is None:
            raise TrainingError("nothing was trained yet; wanted a train_epoch or a load_state_dict before")
        array = check_rows("X", X, flat=self._flat)
        if isinstance(self._model, LinearModel):
            self._model.check(array)
        return self._model.scores(array)
