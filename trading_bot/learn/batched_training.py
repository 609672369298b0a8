"""Strategies of one architecture trained together, step by step in one program, each as if it were alone."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from trading_bot.errors import TrainingDiverged, TrainingError
from trading_bot.learn.strategy_report import StrategyJob, StrategyTrainingReport, finished, say
from trading_bot.learn.training_data import Array, TrainingData, count_batches
from trading_bot.learn.training_progress import Progress


class Member:
    """One strategy of a batch: its data, its book-keeping, its best weights."""

    def __init__(self, job: StrategyJob, data: TrainingData) -> None:
        self.job = job
        self.data = data
        self.progress = Progress(job.config, job.name)
        self.best: dict[str, Array] | None = None
        self.error: TrainingError | None = None
        self.batches = count_batches(len(data.y), job.config)

    def skip(self, epoch: int, batch: int) -> None:
        """Count a step; a training that has diverged is marked, not raised: others go on."""
        try:
            self.progress.skip(epoch, batch)
        except TrainingDiverged as error:
            self.error = error

    def report(self, seconds: float, *, late: bool) -> StrategyTrainingReport:
        name = self.job.name
        if self.error is not None:
            return StrategyTrainingReport(name, "failed", seconds=seconds, error=say(self.error))
        if late:
            return StrategyTrainingReport(
                name, "timed_out", seconds=seconds, error="not done at its deadline of "
                f"{self.job.config.timeout_seconds:g} s; raise timeout_seconds or train fewer epochs",
            )  # fmt: skip
        summary = {**self.progress.summary(), "loss": self.data.loss, "seconds": seconds}
        done = finished(name, summary, self.best)
        return StrategyTrainingReport(done.strategy, done.status, done.summary, done.weights, seconds, done.error)


class Stack(Protocol):
    """The models of all members, their parameters stacked."""

    def train_epoch(self, members: Sequence[Member], places: Sequence[int], epoch: int) -> list[tuple[float, float]]:
        """Train those at `places`; mean loss and mean gradient norm of each."""

    def validate(self, members: Sequence[Member], places: Sequence[int]) -> list[float]: ...

    def weights(self, place: int) -> dict[str, Array]: ...


def train_stack(members: Sequence[Member], stack: Stack) -> list[StrategyTrainingReport]:
    """Epoch by epoch until every member has stopped early, diverged, had its epochs or run out of time.

    Deadlines are looked at between epochs; nothing here can hang, a long epoch only ends a little late.
    """
    began = time.monotonic()
    ended: dict[int, StrategyTrainingReport] = {}
    epoch = 0
    while places := [place for place in range(len(members)) if place not in ended]:
        started = time.perf_counter()
        trained = stack.train_epoch(members, places, epoch)
        losses = stack.validate(members, places)
        share = (time.perf_counter() - started) / len(places)
        epoch += 1
        for place, (loss, norm), val_loss in zip(places, trained, losses, strict=True):
            member = members[place]
            if member.error is None:
                _, best = member.progress.finish_epoch(epoch - 1, loss, val_loss, norm, share)
                if best:
                    member.best = stack.weights(place)
            seconds = time.monotonic() - began
            done = member.error is not None or member.progress.stopped or epoch >= member.job.epochs
            late = not done and seconds >= member.job.config.timeout_seconds
            if done or late:
                ended[place] = member.report(seconds, late=late)
    return [ended[place] for place in range(len(members))]


class Blocks:
    """Targets and scales of all members, cut into batches of equal size, gathered each epoch in each one's order.

    Rows that a member's batch lacks have scale 0; steps it lacks are marked in `live`.
    """

    def __init__(self, members: Sequence[Member], values: Sequence[tuple[Array, ...]], size: int) -> None:
        self.steps = max(member.batches for member in members)
        dtype = members[0].data.X.dtype
        flat = [np.zeros((len(members), self.steps * size), dtype) for _ in values[0]]
        for place, arrays in enumerate(values):
            for stacked, array in zip(flat, arrays, strict=True):
                stacked[place, : len(array)] = array
        self._stacked: list[Array] = [stacked.reshape(len(members), self.steps, size) for stacked in flat]

    def gathered(self, places: Sequence[int], orders: Any) -> list[Array]:
        """Each (steps, S', B) for the members at `places`; `orders` (S', steps) says which batch comes when."""
        return [stacked[np.array(places)[None, :], orders.T] for stacked in self._stacked]


def epoch_orders(members: Sequence[Member], places: Sequence[int], epoch: int, orders: Any) -> tuple[Any, Any]:
    """Which batch each member takes at each step (S, steps), and at which steps it has one (S, steps).

    Parameters
    ----------
    orders : (config, epoch, batches) → the order of one member's batches
    """
    steps = max(members[place].batches for place in places)
    order = np.zeros((len(places), steps), np.int64)
    live = np.zeros((len(places), steps), np.bool_)
    for row, place in enumerate(places):
        count = members[place].batches
        order[row, :count] = orders(members[place].job.config, epoch, count)
        live[row, :count] = True
    return order, live


def means(total: Any, rows: Any, norms: Any, steps: Any) -> list[tuple[float, float]]:
    """Mean loss over the rows and mean norm over the steps of each member; NaN where no step was taken."""
    return [
        (float(t / r), float(n / s)) if s else (math.nan, math.nan)
        for t, r, n, s in zip(total, rows, norms, steps, strict=True)
    ]
