"""A spawned process for each strategy: what hangs, dies or leaks there harms nothing else.

A pool's workers share one pipe and its lock: one that is killed at the wrong moment breaks the pool, and one that dies
before it has told which task it took breaks it for all. So each has a pipe for words and, for each job, a folder: the
job lies there as a file, its log grows there, its result appears there whole or not at all. Starting a process takes a
third of a second, three with torch, so one that has trained well gets the next job.
"""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import pickle
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from trading_bot.errors import TrainingStopped
from trading_bot.learn.strategy_report import StrategyJob, StrategyTrainingReport, say
from trading_bot.learn.training_worker import JOB, LOG, RESULT, work

if TYPE_CHECKING:
    from loguru import Record

TICK = 0.2  # seconds between looks at logs and deadlines


def train_in_processes(
    jobs: Sequence[StrategyJob], workers: int, stopping: Callable[[], bool] = lambda: False
) -> list[StrategyTrainingReport]:
    """Train each in a process, at most `workers` at once; in the order they came.

    A process goes on with another job only after one that ended well. It is killed when its deadline passes, when this
    function is interrupted, when `stopping` says so (TrainingStopped is raised then), and when the process that called
    it ends in whatever way.
    """
    waiting = list(reversed(jobs))
    staff: list[_Worker] = []
    reports: dict[str, StrategyTrainingReport] = {}
    with tempfile.TemporaryDirectory(prefix="trading-bot-training-") as folder:
        try:
            while len(reports) < len(jobs):
                if stopping():
                    raise TrainingStopped("the training was given up; its processes were ended")
                while waiting and (free := _free(staff, workers, Path(folder))):
                    job = waiting.pop()
                    if (refused := free.begin(job, Path(folder) / f"{len(waiting)}")) is not None:
                        reports[job.name] = refused
                _wait(staff)
                for worker in list(staff):
                    if (report := worker.look()) is not None:
                        reports[report.strategy] = report
                    if worker.ended:
                        staff.remove(worker)
        finally:
            for worker in staff:
                worker.kill()
    return [reports[job.name] for job in jobs]


def _free(staff: list[_Worker], workers: int, folder: Path) -> _Worker | None:
    """One that has no job, hired if need be; None if all have."""
    idle = next((worker for worker in staff if worker.job is None), None)
    if idle is None and len(staff) < workers:
        idle = _Worker(folder)
        staff.append(idle)
    return idle


def _wait(staff: Sequence[_Worker]) -> None:
    """Until one of those at work has something to say, a deadline, or a moment."""
    busy = [worker for worker in staff if worker.job is not None]
    if busy:
        first = min(worker.deadline for worker in busy)
        wait([each.pipe for each in busy], max(0.0, min(TICK, first - time.monotonic())))


class _Worker:
    """A process with a pipe of its own, on which it is told where a job lies and tells that it is done."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.job: StrategyJob | None = None
        self.ended = False
        self.deadline = math.inf  # monotonic
        self._folder = Path()
        self._began = time.monotonic()
        self._read = 0  # bytes of the log
        self._process = context.Process(target=work, args=(theirs, folder), daemon=True)
        self._process.start()
        theirs.close()  # so that the pipe ends when the process does

    def begin(self, job: StrategyJob, folder: Path) -> StrategyTrainingReport | None:
        """Hand over a job; a report where it cannot be."""
        folder.mkdir()
        try:
            (folder / JOB).write_bytes(pickle.dumps(job))
        except Exception as error:  # pickling runs the model's own code
            return StrategyTrainingReport(
                job.name, "failed", seconds=0.0, error=f"cannot be sent to a process: {say(error)}; define its "
                "model's class at the top of a module, or choose executor='thread'",
            )  # fmt: skip
        (folder / LOG).touch()
        self.job, self._folder, self._read, self._began = job, folder, 0, time.monotonic()
        self.deadline = self._began + job.config.timeout_seconds
        with contextlib.suppress(OSError):  # it died between two jobs: seen at the next look
            self.pipe.send(folder)
        return None

    def look(self) -> StrategyTrainingReport | None:
        """Pass its log on; what became of its job, None while there is nothing to tell. One that is late is killed."""
        if (job := self.job) is None:
            return None
        self._pass_on_log()
        heard, late = self.pipe.poll(), time.monotonic() >= self.deadline
        if not (heard or late):
            return None
        seconds = time.monotonic() - self._began
        try:
            done = heard and bool(self.pipe.recv())
        except (EOFError, OSError):
            done = False
        if not done:
            self.kill()
        self._pass_on_log()
        report = self._report(job, seconds, late=late and not heard)
        self.job, self.deadline = None, math.inf
        if not report.trained:
            self.kill()  # it may be harmed
        return report

    def _report(self, job: StrategyJob, seconds: float, *, late: bool) -> StrategyTrainingReport:
        if (result := self._folder / RESULT).exists():
            report: StrategyTrainingReport = pickle.loads(result.read_bytes())  # noqa: S301 our worker wrote it
            return replace(report, strategy=job.name, seconds=seconds)
        if late:
            return StrategyTrainingReport(
                job.name, "timed_out", seconds=seconds, error=f"killed at its deadline of "
                f"{job.config.timeout_seconds:g} s; raise timeout_seconds or train fewer epochs",
            )  # fmt: skip
        return StrategyTrainingReport(job.name, "died", seconds=seconds, error=_cause(self._process.exitcode))

    def kill(self) -> None:
        """End it and what it started, at once, whatever it does; it holds nothing that others need."""
        if not self.ended and self._process.pid is not None:
            with contextlib.suppress(OSError, AttributeError):  # gone, or not yet the head of a group, or Windows
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.join()
            self.pipe.close()
        self.ended = True

    def _pass_on_log(self) -> None:
        """Write the lines that are new to this process's log, with their own times."""
        with (self._folder / LOG).open("rb") as file:
            file.seek(self._read)
            *lines, _ = file.read().split(b"\n")  # the last one may be growing still
        self._read += sum(len(line) + 1 for line in lines)
        for line in lines:
            written = json.loads(line)
            then = logger.patch(partial(_date, datetime.fromisoformat(written["time"])))
            then.log(written["level"], "{}", written["message"])


def _date(time: datetime, record: Record) -> None:
    record["time"] = time


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        memory = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{memory}; the other strategies were not affected"
    return (
        f"its process ended with exit code {code} and no result; a script that trains needs "
        '`if __name__ == "__main__":` around what it does'
    )
