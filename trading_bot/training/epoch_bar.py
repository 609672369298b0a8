"""A training's progress on a terminal, and nothing anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

PAUSE = 0.1  # seconds between two looks of the bar: drawing must not cost what it shows


class EpochBar:
    """One bar over all batches of all epochs, with the newest losses beside it."""

    def __init__(self, epochs: int, batches: int, *, shown: bool = True) -> None:
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if shown and console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task("training", total=epochs * batches)
        self._batches, self._epochs, self._done, self._next = batches, 0, 0, 0.0

    def __enter__(self) -> EpochBar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def batch(self) -> None:
        """One batch more."""
        if self._bar is None:
            return
        self._done += 1
        if (now := time.monotonic()) >= self._next:
            self._next = now + PAUSE
            self._bar.update(self._task, completed=self._done)

    def epoch(self, values: Mapping[str, float]) -> None:
        """The end of an epoch."""
        if self._bar is None:
            return
        self._epochs += 1
        text = f"epoch {self._epochs}  train {values['train_loss']:.4g}  val {values['val_loss']:.4g}"
        self._bar.update(self._task, completed=self._epochs * self._batches, description=text)
