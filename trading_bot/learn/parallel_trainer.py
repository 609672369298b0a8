"""Trains the models of several strategies, each on its own data and each to its own end."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trading_bot.errors import TradingBotError, TrainingError, unknown
from trading_bot.learn.batched_linear import LinearStack
from trading_bot.learn.batched_training import Member, Stack, train_stack
from trading_bot.learn.process_training import train_in_processes
from trading_bot.learn.strategy_report import StrategyJob, StrategyTrainingReport, log_reports, say
from trading_bot.learn.thread_training import train_in_threads
from trading_bot.learn.training_config import TrainingConfig
from trading_bot.learn.training_data import TrainingData, prepare

PARTS = ("X_train", "y_train", "X_val", "y_val")
_FIELDS = {field.name for field in dataclasses.fields(TrainingConfig)}
_OF_ALL = ("executor", "max_workers")  # settings of the whole, not of one strategy


class ParallelStrategyTrainer:
    """Trains strategies side by side; one that fails harms no other.

    Executors, chosen by `config.executor`:

    - "process": a spawned process for each, killed when its deadline passes; at most `max_workers` at once
    - "batched": strategies of one architecture (all linear; or an nn.Sequential of nn.Linear and activations, of at
      most 100,000 parameters) in one program, on one core; results as if each were trained alone, up to rounding.
      Deadlines are looked at between epochs
    - "thread": for tests and small jobs. A thread cannot be killed: one that hangs is reported and left behind
    - "ray": tasks of a Ray cluster
    - "auto": "batched" if there are two strategies or more and all are of one such architecture, else "process"

    Parameters
    ----------
    config : of every strategy, and of the whole
    stopping : asked now and then by "process" and "thread"; once it says so the training is given up
    """

    def __init__(self, config: TrainingConfig | None = None, stopping: Callable[[], bool] = lambda: False) -> None:
        self.config = config or TrainingConfig()
        self._stopping = stopping

    def train_strategies(
        self, strategy_configs: Mapping[str, Any] | Sequence[str], training_data: Mapping[str, Any], epochs: int = 100
    ) -> dict[str, StrategyTrainingReport]:
        """Train every strategy; a report of each, in the order given, and a summary table in the log.

        Parameters
        ----------
        strategy_configs : strategy → None, a TrainingConfig, or a mapping of its fields that differ from this trainer's
            config and, for a network, "model"; names alone if none differs. A copy of the model is trained: the report
            has its weights
        training_data : strategy → (X_train, y_train, X_val, y_val) or a mapping of these names, as
            `AdaptiveTrainer.train_epoch` takes them
        epochs : most for each

        Raises
        ------
        TrainingError
            Before any work, if a setting is wrong or a strategy has no data. Data that are themselves wrong fail their
            strategy alone.
        TrainingStopped
            When `stopping` says so; no process is left.
        """
        if isinstance(epochs, bool) or not hasattr(epochs, "__index__") or epochs < 1:
            raise TrainingError(f"epochs is {epochs!r}; wanted a whole number ≥ 1")
        jobs = self._jobs(strategy_configs, training_data, int(epochs))
        executor = self._executor(jobs)
        started = time.monotonic()
        workers = int(self.config.max_workers)
        if executor == "batched":
            found = train_batched(jobs)
        elif executor == "thread":
            found = train_in_threads(jobs, workers, self._stopping)
        elif executor == "ray":
            found = _ray().train_on_ray(jobs, workers)
        else:
            found = train_in_processes(jobs, workers, self._stopping)
        reports = {report.strategy: report for report in found}
        log_reports(reports, time.monotonic() - started, executor)
        return reports

    def _jobs(
        self, configs: Mapping[str, Any] | Sequence[str], data: Mapping[str, Any], epochs: int
    ) -> list[StrategyJob]:
        if isinstance(configs, str) or not isinstance(configs, Mapping | Sequence) or not configs:
            raise TrainingError(f"strategy_configs is {configs!r}; wanted a mapping from strategy to its settings")
        if not isinstance(data, Mapping):
            raise TrainingError(f"training_data is a {type(data).__name__}; wanted a mapping from strategy to its data")
        table = configs if isinstance(configs, Mapping) else dict.fromkeys(configs)
        for name in table:
            if name not in data:
                raise TrainingError(f"training_data: {unknown('strategy', name, map(str, data))}")
        return [self._job(str(name), given, data[name], epochs) for name, given in table.items()]

    def _job(self, name: str, given: Any, data: Any, epochs: int) -> StrategyJob:
        config, model = self.config, None
        if isinstance(given, TrainingConfig):
            config = given
        elif isinstance(given, Mapping):
            settings = dict(given)
            model = settings.pop("model", None)
            if odd := [each for each in settings if each not in _FIELDS or each in _OF_ALL]:
                raise TrainingError(f"{name}: {unknown('setting', odd[0], ['model', *sorted(_FIELDS - {*_OF_ALL})])}")
            try:
                config = dataclasses.replace(config, **settings)
            except TrainingError as error:
                raise TrainingError(f"{name}: {error}") from None
        elif given is not None:
            raise TrainingError(f"{name}: its settings are {given!r}; wanted None, a TrainingConfig or a mapping")
        if isinstance(data, Mapping):
            if missing := [part for part in PARTS if part not in data]:
                raise TrainingError(f"{name}: its data lack {missing[0]}; wanted {', '.join(PARTS)}")
            data = tuple(data[part] for part in PARTS)
        if not isinstance(data, tuple | list) or len(data) != len(PARTS):
            raise TrainingError(f"{name}: its data are a {type(data).__name__}; wanted ({', '.join(PARTS)})")
        return StrategyJob(name, config, model, (data[0], data[1], data[2], data[3]), epochs)

    def _executor(self, jobs: Sequence[StrategyJob]) -> str:
        executor = self.config.executor
        kinds = {_architecture(job) for job in jobs}
        alike = len(kinds) == 1 and None not in kinds
        if executor == "auto":
            return "batched" if alike and len(jobs) > 1 else "process"
        if executor == "batched" and None in kinds:
            job = next(job for job in jobs if _architecture(job) is None)
            raise TrainingError(
                f"{job.name}: its model, a {type(job.model).__name__}, cannot be trained in a batch; wanted None or an "
                "nn.Sequential of nn.Linear and activations: choose executor='process'"
            )
        if executor == "ray":
            _ray()
        return executor


def train_batched(jobs: Sequence[StrategyJob]) -> list[StrategyTrainingReport]:
    """Train together those that can be; in the order they came."""
    reports: dict[str, StrategyTrainingReport] = {}
    groups: dict[Any, list[Member]] = {}
    for job in jobs:
        try:
            data = _prepared(job)
        except TradingBotError as error:
            reports[job.name] = StrategyTrainingReport(job.name, "failed", seconds=0.0, error=say(error))
            continue
        kind = (_architecture(job), data.X.shape[1], data.X.dtype.str, data.loss, int(job.config.batch_size))
        groups.setdefault(kind, []).append(Member(job, data))
    for members in groups.values():
        for report in train_stack(members, _stack(members)):
            reports[report.strategy] = report
    return [reports[job.name] for job in jobs]


def _prepared(job: StrategyJob) -> TrainingData:
    data = prepare(*job.data, job.config)
    if job.model is not None:  # what does not fit is said now, in the network's own words
        _networks().check_fits(job.model, data.X)
    return data


def _stack(members: Sequence[Member]) -> Stack:
    if members[0].job.model is None:
        return LinearStack(members)
    stack: Stack = _networks().NetworkStack(members)
    return stack


def _architecture(job: StrategyJob) -> str | None:
    """Words equal for models that can be trained in one batch; None for one that cannot be."""
    if job.model is None:
        return "linear"
    if "torch" not in sys.modules:  # then it cannot be a network that torch made
        return None
    found: str | None = _networks().architecture(job.model)
    return found


def _networks() -> Any:
    return importlib.import_module("trading_bot.learn.batched_networks")


def _ray() -> Any:
    if importlib.util.find_spec("ray") is None:
        raise TrainingError(
            "executor='ray' needs Ray, which is not installed; pip install \"trading-bot[ray]\" or choose 'process'"
        )
    return importlib.import_module("trading_bot.learn.ray_training")
