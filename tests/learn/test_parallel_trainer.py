"""ParallelStrategyTrainer: what it is given, what it reports, and that processes and threads keep their troubles."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loguru import logger
from torch import nn

from tests.learn.strategies_data import (
    Exits,
    ExitsAtOnce,
    Hangs,
    Killed,
    Raises,
    TooLarge,
    alive,
    logistic,
    train_hanging,
    until,
)
from trading_bot.errors import TrainingError
from trading_bot.learn.optimizer import AdaptiveTrainer, ParallelStrategyTrainer, TrainingConfig

ROOT = Path(__file__).parents[2]
GOOD = logistic(0)


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), format="{level} {message}")
    yield lines
    logger.remove(sink)


def with_features(X: Any) -> tuple[Any, ...]:
    return (X, *GOOD[1:])


@pytest.mark.slow
def test_whatever_a_worker_does_only_its_strategy_fails(tmp_path: Path, log: list[str]) -> None:
    nan = GOOD[0].copy()
    nan[5] = np.nan
    data = {
        "hangs": with_features(Hangs(tmp_path / "pids")),
        "first good": logistic(1),
        "killed": with_features(Killed()),
        "too large": with_features(TooLarge()),
        "nan": with_features(nan),
        "raises": with_features(Raises()),
        "exits": with_features(Exits()),
        "exits at once": with_features(ExitsAtOnce()),
        "cannot travel": with_features(threading.Lock()),
        "last good": logistic(2),
    }
    configs = dict.fromkeys(data) | {"hangs": {"timeout_seconds": 6.0}}
    trainer = ParallelStrategyTrainer(TrainingConfig(executor="process", max_workers=2))
    reports = trainer.train_strategies(configs, data, epochs=5)
    written = list(log)
    assert {name: report.status for name, report in reports.items()} == {
        "hangs": "timed_out", "first good": "trained", "killed": "died", "too large": "failed", "nan": "failed",
        "raises": "failed", "exits": "failed", "exits at once": "died", "cannot travel": "failed",
        "last good": "trained",
    }  # fmt: skip
    for name, words in {
        "hangs": "killed at its deadline of 6 s", "killed": "ended by SIGKILL", "too large": "MemoryError",
        "nan": "X_train holds 5 numbers that are not finite", "raises": "KeyError: 'no such column'",
        "exits": "SystemExit: 7", "exits at once": "exit code 3", "cannot travel": "cannot be sent to a process",
    }.items():  # fmt: skip
        assert words in str(reports[name].error), name
    assert 6.0 <= reports["hangs"].seconds <= 6.0 + 5.0
    for name in ("first good", "last good"):
        alone = AdaptiveTrainer()
        X, y, X_val, y_val = data[name]
        alone.fit(X, y, X_val, y_val, epochs=5)
        best, found = alone.best_weights(), reports[name].weights
        assert best is not None
        assert found is not None
        np.testing.assert_array_equal(found["weight"], best["weight"])
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert not any(alive(pid) for pid in pids), "neither the worker nor what it began"
    assert not multiprocessing.active_children()
    for epoch in range(5):
        assert any(line.startswith("DEBUG learn") and f"first good  epoch {epoch} " in line for line in written)
    assert sum("INFO learn" in line and "trained" in line for line in written) == 3  # two strategies and all
    assert sum(line.startswith("WARNING learn") for line in written) == 8
    assert "2 of 10 strategies trained" in written[-1]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_process_that_asked(tmp_path: Path, how: signal.Signals) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    program = f"from tests.learn.strategies_data import train_hanging; train_hanging({str(tmp_path)!r})"
    assert train_hanging.__name__ in program
    asking = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, env=os.environ | {"TMPDIR": str(scratch)}
    )
    pids = [int(pid) for text in until(30, tmp_path / "one", tmp_path / "two") for pid in text.split()]
    try:
        assert all(alive(pid) for pid in pids)
        os.kill(asking.pid, how)
        _, told = asking.communicate(timeout=60)  # on a busy machine
        assert asking.returncode != 0
        assert (b"KeyboardInterrupt" in told) == (how is signal.SIGINT)
        deadline = time.monotonic() + 10
        while any(alive(pid) for pid in pids):
            assert time.monotonic() < deadline, "a worker lives on"
            time.sleep(0.02)
        assert not list(scratch.iterdir())
    finally:
        for pid in filter(alive, (asking.pid, *pids)):
            os.kill(pid, signal.SIGKILL)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))


@pytest.mark.slow
def test_networks_travel_to_a_process_and_their_weights_back() -> None:
    models = {name: network() for name in ("a", "b", "c")}
    trainer = ParallelStrategyTrainer(TrainingConfig(executor="process", max_workers=2))
    configs = {name: {"model": model, "seed": seed} for seed, (name, model) in enumerate(models.items())}
    reports = trainer.train_strategies(configs, dict.fromkeys(models, GOOD), epochs=3)
    for seed, (name, model) in enumerate(models.items()):
        alone = AdaptiveTrainer(TrainingConfig(seed=seed), model)
        summary = alone.fit(*GOOD, epochs=3)
        assert reports[name]["best_val_loss"] == summary["best_val_loss"]
        fresh = network()
        weights = reports[name].weights
        assert weights is not None
        fresh.load_state_dict({part: torch.from_numpy(value) for part, value in weights.items()})
        assert torch.equal(fresh(torch.ones(1, 5)), model(torch.ones(1, 5)))


def test_threads_give_what_training_alone_gives_and_report_what_hangs(tmp_path: Path, log: list[str]) -> None:
    class Waits:
        def __array__(self, *_: Any, **__: Any) -> Any:
            released.wait(60)
            return GOOD[0]

    released = threading.Event()
    data = {"waits": with_features(Waits()), "exits": with_features(Exits()), "good": logistic(3), "late": GOOD}
    configs: dict[str, Any] = dict.fromkeys(data)
    configs |= {"waits": {"timeout_seconds": 0.2}, "late": {"timeout_seconds": 1e-6}}
    trainer = ParallelStrategyTrainer(TrainingConfig(executor="thread", max_workers=1))
    reports = trainer.train_strategies(configs, data, epochs=4)
    last = log[-1]
    released.set()
    assert [report.status for report in reports.values()] == ["timed_out", "failed", "trained", "timed_out"]
    assert "its thread goes on" in str(reports["waits"].error)
    alone = AdaptiveTrainer()
    X, y, X_val, y_val = data["good"]
    summary = alone.fit(X, y, X_val, y_val, epochs=4)
    assert {**reports["good"].summary, "seconds": 0} == {**summary, "seconds": 0}
    assert "executor=thread" in last


def test_a_report_is_a_mapping() -> None:
    reports = ParallelStrategyTrainer(TrainingConfig(executor="batched")).train_strategies(["a"], {"a": GOOD}, epochs=2)
    report = reports["a"]
    assert isinstance(report, Mapping)
    assert report["status"] == "trained"
    assert report["error"] is None
    assert report["epochs_trained"] == report["summary"]["epochs_trained"] == 2
    assert set(report["weights"]) == {"weight", "bias"}
    assert dict(report).keys() >= {"strategy", "seconds", "best_val_loss", "best_epoch", "stopped_early"}
    assert len(report) == len(dict(report))


@pytest.mark.parametrize(
    ("models", "chosen"),
    [
        ([None, None], "batched"),
        ([None], "process"),
        ([network(), network()], "batched"),
        ([None, network()], "process"),
        ([network(), nn.Sequential(nn.Linear(5, 1))], "process"),
        ([nn.Linear(5, 1), nn.Linear(5, 1)], "process"),
    ],
)
def test_auto_takes_one_program_for_one_small_architecture_and_processes_for_all_else(
    models: list[Any], chosen: str, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[int] = []

    def begin(jobs: Any, workers: int, stopping: Any) -> list[Any]:
        began.append(workers)
        return []

    monkeypatch.setattr("trading_bot.learn.parallel_trainer.train_in_processes", begin)
    configs = {f"{place}": {"model": model} for place, model in enumerate(models)}
    ParallelStrategyTrainer().train_strategies(configs, dict.fromkeys(configs, GOOD), epochs=1)
    assert f"executor={chosen}" in log[-1]
    assert bool(began) == (chosen == "process")


@pytest.mark.parametrize(
    ("configs", "data", "words"),
    [
        ({}, {}, "strategy_configs is {}; wanted a mapping"),
        ("atr", {"atr": GOOD}, "strategy_configs is 'atr'"),
        (["atr"], [GOOD], "training_data is a list; wanted a mapping"),
        (["atr"], {"art": GOOD}, "unknown strategy 'atr'; did you mean 'art'"),
        ({"atr": 3}, {"atr": GOOD}, "atr: its settings are 3"),
        ({"atr": {"batchsize": 3}}, {"atr": GOOD}, "atr: unknown setting 'batchsize'; did you mean 'batch_size'"),
        ({"atr": {"executor": "thread"}}, {"atr": GOOD}, "atr: unknown setting 'executor'"),
        ({"atr": {"batch_size": 0}}, {"atr": GOOD}, r"atr: TrainingConfig\.batch_size is 0"),
        (["atr"], {"atr": GOOD[:3]}, r"atr: its data are a tuple; wanted \(X_train"),
        (["atr"], {"atr": {"X_train": 1}}, "atr: its data lack y_train"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(configs: Any, data: Any, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        ParallelStrategyTrainer().train_strategies(configs, data)


def test_ray_is_asked_for_by_the_name_of_its_extra() -> None:
    with pytest.raises(TrainingError, match=r"Ray, which is not installed; pip install \"trading-bot\[ray\]\""):
        ParallelStrategyTrainer(TrainingConfig(executor="ray")).train_strategies(["a"], {"a": GOOD})
