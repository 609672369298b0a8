"""Linear models trained together: every step is one of each, in arrays over the strategies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from trading_bot.learn.batched_training import Blocks, Member, epoch_orders, means
from trading_bot.learn.linear_model import centred_targets, mean_loss, mean_of_scaled, named, row_losses, step_scales
from trading_bot.learn.training_data import Array, TrainingData, batch_order, batch_rows


class LinearStack:
    """S linear models on S sets of rows with as many columns, one dtype, batch size and loss.

    What differs (rows, seed, learning rate, momentum, clip, decay) is per strategy. Members that share X and the order
    of its batches share one matrix product, X (B, d) · weights (d, S), whose rows are read once for all of them.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        data, config = members[0].data, members[0].job.config
        self._loss, self._size, self._dtype = data.loss, int(config.batch_size), data.X.dtype
        self._theta: Array = np.zeros((len(members), data.X.shape[1] + 1), self._dtype)
        self._velocity = np.zeros_like(self._theta)
        self._rows = [batch_rows(len(member.data.y), member.job.config) for member in members]
        self._blocks = Blocks(members, [self._prepared(member, rows) for member, rows in zip(
            members, self._rows, strict=True)], self._size)  # fmt: skip
        size = self._size
        self._batches = [[m.data.X[at : at + size] for at in range(0, len(m.data.y), size)] for m in members]
        self._settings = {
            name: np.array([getattr(member.job.config, name) for member in members], self._dtype)
            for name in ("momentum", "gradient_clip", "weight_decay")
        }

    def _prepared(self, member: Member, rows: Any) -> tuple[Array, Array]:
        data = member.data
        each = np.repeat(rows, self._size)[: len(data.y)]
        return centred_targets(data.y, data.loss), step_scales(data.weights, each, data.loss)

    def train_epoch(self, members: Sequence[Member], places: Sequence[int], epoch: int) -> list[tuple[float, float]]:
        """One epoch of those at `places`; mean loss and mean gradient norm of each."""
        order, live = epoch_orders(members, places, epoch, batch_order)
        centred, scale = self._blocks.gathered(places, order)  # (steps, S, B)
        run = _Epoch(self, members, places, order, live)
        with np.errstate(all="ignore"):  # what is not finite is looked for after each step
            scores = run.all_steps(centred, scale, epoch)
            losses = row_losses(scores, centred, self._loss)
            sums = np.einsum("ksb,ksb->sk", scale, losses).astype(np.float64)
        rows = np.array([self._rows[place][order[at]] for at, place in enumerate(places)])  # (S, steps)
        taken = run.taken.T
        total = np.where(taken, mean_of_scaled(sums, rows, self._loss), 0.0).sum(axis=1)
        self._theta[places], self._velocity[places] = run.theta, run.velocity
        return means(total, (rows * taken).sum(axis=1), run.norms, taken.sum(axis=1))

    def validate(self, members: Sequence[Member], places: Sequence[int]) -> list[float]:
        """Mean loss of each over its validation rows."""
        with np.errstate(all="ignore"):
            return [self._validate(members[place].data, self._theta[place]) for place in places]

    def _validate(self, data: TrainingData, theta: Array) -> float:
        return mean_loss(data.X_val, centred_targets(data.y_val, data.loss), theta, data.loss)

    def weights(self, place: int) -> dict[str, Array]:
        """A copy of one member's."""
        return named(self._theta[place])


class _Epoch:
    """The arrays of one epoch over the members that still train."""

    def __init__(self, stack: LinearStack, members: Sequence[Member], places: Sequence[int], order: Any, live: Any):
        self._members = [members[place] for place in places]
        self._batches = [stack._batches[place] for place in places]
        self._order, self._live, self._log = order, live, stack._loss == "log_loss"
        self._size, dtype = stack._size, stack._dtype
        self.theta, self.velocity = stack._theta[places], stack._velocity[places]
        rates = np.array([member.progress.learning_rate for member in self._members], dtype)
        momentum, self._clip, decay = (stack._settings[name][places] for name in stack._settings)
        self._rates, self._momentum = rates, momentum[:, None]
        self._keep = (1 - rates * decay)[:, None]
        self.taken = live.T.copy()  # (steps, S), less what is skipped
        self.norms = np.zeros(len(places))
        self._skipped = any(member.progress.skipped_in_a_row for member in self._members)
        first = self._members[0].data.X
        same_order = bool((order == order[0]).all() and (live == live[0]).all())
        self._shared = same_order and all(member.data.X is first for member in self._members)

    def all_steps(self, centred: Array, scale: Array, epoch: int) -> Array:
        """The scores (steps, S, B), each at the weights its step began with; 0 where there is no row."""
        steps, members, size = centred.shape
        scores = np.zeros_like(centred)
        residual, ones = np.empty((members, size), centred.dtype), np.ones(size, centred.dtype)
        gradient = np.empty_like(self.theta)
        weight, bias = self.theta[:, :-1], self.theta[:, -1:]
        half, whole = centred.dtype.type(0.5), self._live.all(axis=0)
        for step in range(steps):
            z = scores[step]
            self._forward(step, weight, z)
            np.add(z, bias, z)
            if self._log:
                np.multiply(z, half, residual)
                np.tanh(residual, residual)
                np.subtract(residual, centred[step], residual)
            else:
                np.subtract(z, centred[step], residual)
            np.multiply(residual, scale[step], residual)
            self._backward(step, residual, gradient)
            gradient[:, -1] = residual.dot(ones)
            norm = np.sqrt(np.einsum("sd,sd->s", gradient, gradient))
            good = np.isfinite(norm + z.dot(ones))
            if whole[step] and good.all():
                self._step_of_all(gradient, norm, weight)
                if self._skipped:  # before this step
                    self._took_a_step(range(members))
            else:
                self._some(step, epoch, gradient, norm, good)
        return scores

    def _forward(self, step: int, weight: Array, z: Array) -> None:
        """z (S, B) = weights · rows, for each its own rows or for all the same."""
        order = self._order[:, step]
        if self._shared:
            X = self._batches[0][order[0]]
            z[:, : len(X)] = np.matmul(X, weight.T).T  # the product is faster this way round
            return
        for row, batches in enumerate(self._batches):
            X = batches[order[row]]
            X.dot(weight[row], z[row, : len(X)])

    def _backward(self, step: int, residual: Array, gradient: Array) -> None:
        order = self._order[:, step]
        if self._shared:
            X = self._batches[0][order[0]]
            np.matmul(residual[:, : len(X)], X, out=gradient[:, :-1])
            return
        for row, batches in enumerate(self._batches):
            X = batches[order[row]]
            residual[row, : len(X)].dot(X, gradient[row, :-1])

    def _step_of_all(self, gradient: Array, norm: Array, weight: Array) -> None:
        """Clip, decay, momentum, parameters, in place; `weight` is the view of theta that decays."""
        factor = np.where(norm > self._clip, self._rates * self._clip / norm, self._rates)
        gradient *= factor[:, None]
        weight *= self._keep
        self.velocity *= self._momentum
        self.velocity -= gradient
        self.theta += self.velocity
        self.norms += norm

    def _step(self, gradient: Array, norm: Array, rows: Any) -> None:
        """The same for the members at `rows` alone."""
        clip, rates = self._clip[rows], self._rates[rows]
        factor = np.where(norm > clip, rates * clip / norm, rates)
        self.theta[rows, :-1] *= self._keep[rows]
        self.velocity[rows] *= self._momentum[rows]
        self.velocity[rows] -= gradient * factor[:, None]
        self.theta[rows] += self.velocity[rows]
        self.norms[rows] += norm

    def _some(self, step: int, epoch: int, gradient: Array, norm: Array, good: Any) -> None:
        """A step that not every member has or can take."""
        has = self._live[:, step]
        self._skipped = True
        for row in np.flatnonzero(has & ~good).tolist():
            if self._members[row].error is None:
                self._members[row].skip(epoch, int(self._order[row, step]))
        can = has & good & np.array([member.error is None for member in self._members])
        self.taken[step] = can
        rows = np.flatnonzero(can)
        self._took_a_step(rows.tolist())
        if len(rows):
            self._step(gradient[rows], norm[rows], rows)

    def _took_a_step(self, rows: Iterable[int]) -> None:
        for row in rows:
            self._members[row].progress.skipped_in_a_row = 0
