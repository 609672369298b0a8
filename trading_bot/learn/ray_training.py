"""Trainings as tasks of a Ray cluster. Importing this imports Ray (`pip install "trading-bot[ray]"`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import ray

from trading_bot.learn.strategy_report import StrategyJob, StrategyTrainingReport, say, train_job

TICK = 0.5  # seconds between looks at deadlines


def train_on_ray(jobs: Sequence[StrategyJob], workers: int) -> list[StrategyTrainingReport]:
    """Train each as a task of one CPU, at most `workers` at once; in the order they came.

    Joins the cluster that `RAY_ADDRESS` names or that the caller has joined; else Ray begins one on this machine. A
    task that is late is cancelled by force, which ends its worker. Log lines stay with Ray's workers.
    """
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    task = ray.remote(num_cpus=1, max_retries=0)(train_job)
    waiting = list(reversed(jobs))
    running: dict[object, tuple[StrategyJob, float]] = {}
    reports: dict[str, StrategyTrainingReport] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop()
                running[task.remote(job)] = (job, time.monotonic())
            ready, _ = ray.wait(list(running), num_returns=1, timeout=TICK)
            for reference, (job, began) in list(running.items()):
                seconds = time.monotonic() - began
                if reference in ready:
                    reports[job.name] = replace(_result(reference, job), seconds=seconds)
                elif seconds >= job.config.timeout_seconds:
                    ray.cancel(reference, force=True)
                    reports[job.name] = StrategyTrainingReport(
                        job.name, "timed_out", seconds=seconds,
                        error=f"cancelled at its deadline of {job.config.timeout_seconds:g} s; raise timeout_seconds "
                        "or train fewer epochs",
                    )  # fmt: skip
                else:
                    continue
                del running[reference]
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
    return [reports[job.name] for job in jobs]


def _result(reference: object, job: StrategyJob) -> StrategyTrainingReport:
    try:
        report: StrategyTrainingReport = ray.get(reference)
    except ray.exceptions.RayError as error:  # its worker died, or the task could not be rebuilt there
        return StrategyTrainingReport(job.name, "died", error=say(error))
    return report
