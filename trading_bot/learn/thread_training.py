"""Trainings in threads of this process: for tests and small jobs. A thread cannot be killed."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from trading_bot.errors import TrainingStopped
from trading_bot.learn.strategy_report import OutOfTimeError, StrategyJob, StrategyTrainingReport, train_job

TICK = 0.2  # seconds between looks at deadlines


def train_in_threads(
    jobs: Sequence[StrategyJob], workers: int, stopping: Callable[[], bool] = lambda: False
) -> list[StrategyTrainingReport]:
    """Train at most `workers` at once; in the order they came.

    A thread cannot be killed. A training looks at the clock before each epoch and gives up by itself; one that hangs
    within an epoch is reported as timed out and left behind, as a daemon thread that goes on using a processor and
    its memory until the process ends. Use executor="process" where that matters. When `stopping` says so,
    TrainingStopped is raised; trainings under way end before their next epoch.
    """
    waiting = list(reversed(jobs))
    running: dict[str, float] = {}  # name → deadline, monotonic
    done: queue.SimpleQueue[StrategyTrainingReport] = queue.SimpleQueue()
    reports: dict[str, StrategyTrainingReport] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            job = waiting.pop()
            running[job.name] = time.monotonic() + job.config.timeout_seconds
            threading.Thread(target=_work, args=(job, running[job.name], done, stopping), daemon=True).start()
        try:
            report = done.get(timeout=min(TICK, max(0.0, min(running.values()) - time.monotonic()) + 0.05))
        except queue.Empty:
            if stopping():
                raise TrainingStopped("the training was given up") from None
        else:
            if running.pop(report.strategy, None) is not None:
                reports[report.strategy] = report
        now = time.monotonic()
        for job in jobs:
            if now > running.get(job.name, now) + 0.05:  # one that gives up by itself is a moment late
                del running[job.name]
                reports[job.name] = StrategyTrainingReport(
                    job.name, "timed_out", seconds=job.config.timeout_seconds, error=late(job) + "; its thread goes on"
                )
    return [reports[job.name] for job in jobs]


def late(job: StrategyJob) -> str:
    """Why a training was given up."""
    return f"not done at its deadline of {job.config.timeout_seconds:g} s; raise timeout_seconds or train fewer epochs"


def _work(
    job: StrategyJob,
    deadline: float,
    done: queue.SimpleQueue[StrategyTrainingReport],
    stopping: Callable[[], bool],
) -> None:
    def check_time() -> None:
        if stopping():
            raise OutOfTimeError("the training was given up")
        if time.monotonic() >= deadline:
            raise OutOfTimeError(late(job))

    began = time.monotonic()
    report = train_job(job, check_time)
    done.put(replace(report, seconds=time.monotonic() - began))
