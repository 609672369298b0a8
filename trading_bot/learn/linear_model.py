"""Logistic regression and least squares, their gradients written out: a step is a dozen calls into numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from trading_bot.errors import CheckpointError, TrainingError
from trading_bot.learn.training_config import LossName, TrainingConfig
from trading_bot.learn.training_data import Array, TrainingData, batch_order, batch_rows
from trading_bot.learn.training_progress import Progress


def row_losses(scores: Array, centred: Array, loss: LossName) -> Array:
    """Each row's loss, of its score and what `centred_targets` made of its target; any one shape.

    log_loss: log(1 + exp(-u)) with u = score·(±1), written so that no exponential overflows.
    """
    if loss == "squared_error":
        squares: Array = np.square(scores - centred)
        return squares
    u = scores * centred
    losses: Array = np.log(1 + np.exp(-np.abs(u))) + np.maximum(-u, 0)
    return losses


def centred_targets(y: Array, loss: LossName) -> Array:
    """Labels 0 and 1 as -1 and 1, for log_loss; real targets as they are."""
    return 2 * y - 1 if loss == "log_loss" else y


def step_scales(weights: Array, rows: Any, loss: LossName) -> Array:
    """What each row's residual is multiplied by: derivative of the batch's weighted mean; `rows` of its batch.

    log_loss: d/dz = p - y = (tanh(z/2) - (±1)) / 2; squared_error: d/dz = 2·(z - y).
    """
    scales: Array = (weights * (0.5 if loss == "log_loss" else 2.0) / rows).astype(weights.dtype)
    return scales


def mean_of_scaled(total: Any, rows: Any, loss: LossName) -> Any:
    """Σ weight·loss of a batch, from Σ scale·loss."""
    return total * rows * (2.0 if loss == "log_loss" else 0.5)


def probabilities(scores: Array) -> Array:
    """1 / (1 + exp(-score)), by way of tanh, which cannot overflow."""
    likely: Array = 0.5 * (1 + np.tanh(0.5 * scores))
    return likely


def mean_loss(X: Array, centred: Array, theta: Array, loss: LossName) -> float:
    """Unweighted, summed in float64."""
    scores = X.dot(theta[:-1]).astype(np.float64) + float(theta[-1])
    return float(row_losses(scores, centred.astype(np.float64), loss).mean())


class LinearModel:
    """score = x·weight + bias, from zero.

    Attributes
    ----------
    theta : (d + 1,), weights then bias; of the data's dtype
    velocity : (d + 1,), the momentum buffers in the same places
    """

    def __init__(self, config: TrainingConfig, features: int, dtype: Any) -> None:
        self._config = config
        self.theta: Array = np.zeros(features + 1, dtype)
        self.velocity: Array = np.zeros(features + 1, dtype)
        self._data: TrainingData | None = None
        self._prepared: list[tuple[Array, Array, Array]] = []

    def check(self, X: Array) -> None:
        """Refuse rows of another width.

        Raises
        ------
        TrainingError
        """
        if X.shape[1] != len(self.theta) - 1:
            raise TrainingError(f"X has {X.shape[1]} columns; wanted the {len(self.theta) - 1} this model began with")

    def train_epoch(self, data: TrainingData, epoch: int, progress: Progress) -> tuple[float, float]:
        """One step for each batch; weighted mean loss over the rows, mean norm of the gradients before clipping.

        Raises
        ------
        TrainingDiverged
        """
        batches, rows = self._batches(data), batch_rows(len(data.y), self._config)
        order = batch_order(self._config, epoch, len(batches)).tolist()
        scores = np.zeros((len(batches), int(rows[0])), data.X.dtype)
        with np.errstate(all="ignore"):  # what is not finite is looked for after each step
            taken, norms = self._steps(batches, order, scores, epoch, progress, log=data.loss == "log_loss")
            if not taken:
                return math.nan, math.nan
            total = 0.0
            for batch in taken:
                _, centred, scale = batches[batch]
                losses = row_losses(scores[batch, : len(centred)], centred, data.loss)
                total += mean_of_scaled(float(scale.dot(losses)), int(rows[batch]), data.loss)
        return total / int(rows[taken].sum()), norms / len(taken)

    def _steps(
        self, batches: list[tuple[Array, Array, Array]], order: list[int], scores: Array, epoch: int,
        progress: Progress, *, log: bool,
    ) -> tuple[list[int], float]:  # fmt: skip
        """The batches whose step was taken, and the sum of their gradients' norms."""
        config, rate = self._config, progress.learning_rate
        clip, momentum, keep = config.gradient_clip, config.momentum, 1 - rate * config.weight_decay
        theta, velocity = self.theta, self.velocity
        weight, bias = theta[:-1], theta[-1:]
        gradient = np.empty_like(theta)
        gradient_weight = gradient[:-1]
        ones, half = np.ones(scores.shape[1], theta.dtype), theta.dtype.type(0.5)
        residuals = np.empty_like(ones)
        taken: list[int] = []
        norms = 0.0
        for batch in order:
            X, centred, scale = batches[batch]  # (b, d), (b,), (b,)
            rows = len(centred)
            z, residual, one = scores[batch, :rows], residuals[:rows], ones[:rows]
            X.dot(weight, z)
            np.add(z, bias, z)
            if log:
                np.multiply(z, half, residual)
                np.tanh(residual, residual)
                np.subtract(residual, centred, residual)
            else:
                np.subtract(z, centred, residual)
            np.multiply(residual, scale, residual)
            residual.dot(X, gradient_weight)
            gradient[-1] = one.dot(residual)
            norm = math.sqrt(gradient.dot(gradient))
            if not math.isfinite(norm + float(one.dot(z))):  # a loss is finite exactly where its score is
                progress.skip(epoch, batch)
                continue
            progress.skipped_in_a_row = 0
            taken.append(batch)
            norms += norm
            np.multiply(gradient, rate if norm <= clip else rate * clip / norm, gradient)
            np.multiply(weight, keep, weight)
            np.multiply(velocity, momentum, velocity)
            np.subtract(velocity, gradient, velocity)
            np.add(theta, velocity, theta)
        return taken, norms

    def _batches(self, data: TrainingData) -> list[tuple[Array, Array, Array]]:
        """X, centred targets and scales of each batch: views, made again only for other data."""
        known = self._data
        if known is None or known.X is not data.X or known.loss != data.loss or not np.array_equal(known.y, data.y):
            size, n = int(self._config.batch_size), len(data.y)
            rows = np.repeat(batch_rows(n, self._config), size)[:n]
            centred, scale = centred_targets(data.y, data.loss), step_scales(data.weights, rows, data.loss)
            self._prepared = [
                (data.X[at : at + size], centred[at : at + size], scale[at : at + size]) for at in range(0, n, size)
            ]
            self._data = data
        return self._prepared

    def validate(self, data: TrainingData) -> float:
        """Unweighted mean loss over the validation rows."""
        with np.errstate(all="ignore"):
            return mean_loss(data.X_val, centred_targets(data.y_val, data.loss), self.theta, data.loss)

    def scores(self, X: Array) -> Array:
        """X (n, d) → (n,)."""
        scores: Array = X.dot(self.theta[:-1]) + self.theta[-1]
        return scores

    def weights(self) -> dict[str, Array]:
        """A copy: weight (d,), bias (1,)."""
        return named(self.theta)

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        """What `weights` gave. The momentum stays."""
        _fill(self.theta, weights)

    def momentum(self) -> dict[str, Array]:
        """A copy, under the names of `weights`."""
        return named(self.velocity)

    def load_momentum(self, momentum: Mapping[str, Array]) -> None:
        _fill(self.velocity, momentum)

    def rest(self) -> None:
        """Set the momentum to 0."""
        self.velocity[:] = 0


def named(theta: Array) -> dict[str, Array]:
    """(d + 1,) as weight (d,) and bias (1,), copied."""
    return {"weight": theta[:-1].copy(), "bias": theta[-1:].copy()}


def _fill(place: Array, values: Mapping[str, Array]) -> None:
    found = {name: np.shape(value) for name, value in values.items()}
    wanted = {"weight": (len(place) - 1,), "bias": (1,)}
    if found != wanted:
        raise CheckpointError(
            f"these weights have shapes {found}; wanted {wanted}, of a linear model of these features"
        )
    place[:-1], place[-1:] = values["weight"], values["bias"]
