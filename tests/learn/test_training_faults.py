"""Workers that take too much memory, hang where nothing but SIGKILL ends them, or are killed at any moment."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.learn.strategies_data import Array, alive, logistic
from trading_bot.learn.optimizer import AdaptiveTrainer, ParallelStrategyTrainer, StrategyTrainingReport, TrainingConfig
from trading_bot.learn.training_worker import LOG

KILLS = int(os.environ.get("TRAINING_KILLS", "100"))
GOOD = logistic(0)
MEGABYTE = 1 << 20
ENOUGH = 2048  # megabytes at which a leak gives up: then nothing stopped it

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


def with_features(X: Any) -> tuple[Any, ...]:
    return (X, *GOOD[1:])


class Leaks:
    """Takes memory in pieces until none is to be had, and gives nothing back even then."""

    kept: ClassVar[list[bytearray]] = []

    def __init__(self, piece: int) -> None:
        self.piece = piece

    def __array__(self, *_: Any, **__: Any) -> Array:
        while len(self.kept) * self.piece < ENOUGH * MEGABYTE:
            self.kept.append(bytearray(self.piece))
        raise AssertionError("nothing held it back")


class NeedsMuch:
    """Takes 512 MB for a moment."""

    def __array__(self, *_: Any, **__: Any) -> Array:
        assert len(bytearray(512 * MEGABYTE))
        array: Array = GOOD[0]
        return array


class IsTold:
    """Sends itself SIGTERM, having said that it ignores it or not; if it still lives it says so and hangs.

    It hangs within one call that gives no other thread of Python a turn and no handler of a signal a chance.
    """

    def __init__(self, said: Path, *, ignores: bool) -> None:
        self.said, self.ignores = said, ignores

    def __array__(self, *_: Any, **__: Any) -> Array:
        if self.ignores:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGTERM)
        self.said.write_text(str(os.getpid()))
        return np.array(sum(itertools.repeat(0)))


def assert_trained_as_alone(report: StrategyTrainingReport, data: Any, config: TrainingConfig, epochs: int) -> None:
    alone = AdaptiveTrainer(config)
    X, y, X_val, y_val = data
    alone.fit(X, y, X_val, y_val, epochs=epochs)
    best = alone.best_weights()
    assert best is not None
    assert report.weights is not None, report.error
    np.testing.assert_array_equal(report.weights["weight"], best["weight"])


@linux
@pytest.mark.slow
def test_a_leak_ends_at_its_limit_and_its_strategy_alone_fails() -> None:
    data = {
        "within its limit": logistic(1),
        "has no limit": with_features(NeedsMuch()),
        "large pieces": with_features(Leaks(16 * MEGABYTE)),
        "small pieces": with_features(Leaks(400)),
        "needs much": with_features(NeedsMuch()),
        "good": logistic(2),
    }
    limited: dict[str, Any] = {"memory_limit_mb": 64}
    configs = dict.fromkeys(data, limited) | {"has no limit": None}
    trainer = ParallelStrategyTrainer(TrainingConfig(executor="process", max_workers=1))  # one goes on with the next
    reports = trainer.train_strategies(configs, data, epochs=3)
    assert {name: report.status for name, report in reports.items()} == {
        "within its limit": "trained", "has no limit": "trained", "large pieces": "failed", "small pieces": "failed",
        "needs much": "failed", "good": "trained",
    }  # fmt: skip
    for name in ("large pieces", "small pieces", "needs much"):
        error = str(reports[name].error)
        assert error.startswith("MemoryError")
        assert error.endswith("it may take 64 MB: raise memory_limit_mb, or train on fewer rows")
    for name in ("within its limit", "good"):
        assert_trained_as_alone(reports[name], data[name], TrainingConfig(), 3)
    assert not multiprocessing.active_children()


@linux
@pytest.mark.slow
def test_sigterm_ends_a_worker_or_if_it_is_ignored_the_deadline_does(tmp_path: Path) -> None:
    data = {
        "ignores": with_features(IsTold(tmp_path / "ignores", ignores=True)),
        "obeys": with_features(IsTold(tmp_path / "obeys", ignores=False)),
        "gives NaN": GOOD,
        "good": logistic(3),
    }
    configs: dict[str, Any] = dict.fromkeys(data) | {"ignores": {"timeout_seconds": 5.0}}
    configs["gives NaN"] = {"loss": "squared_error", "learning_rate_initial": 900.0, "gradient_clip": 1e300}
    configs["gives NaN"] |= {"batch_size": 8, "use_adaptive_lr": False}
    trainer = ParallelStrategyTrainer(TrainingConfig(executor="process", max_workers=2))
    reports = trainer.train_strategies(configs, data, epochs=3)
    assert reports["ignores"].status == "timed_out"
    assert 5.0 <= reports["ignores"].seconds <= 5.0 + 5.0
    assert not alive(int((tmp_path / "ignores").read_text()))
    assert reports["obeys"].status == "died"
    assert "ended by SIGTERM" in str(reports["obeys"].error)
    assert not (tmp_path / "obeys").exists()
    assert reports["gives NaN"].status == "failed"
    assert "not finite" in str(reports["gives NaN"].error)
    assert_trained_as_alone(reports["good"], data["good"], TrainingConfig(), 3)
    assert not multiprocessing.active_children()


class Killer(threading.Thread):
    """Kills the first so many workers, each once: half of them as they start, half of them while they train."""

    def __init__(self, kills: int) -> None:
        super().__init__(daemon=True)
        self.others = children()
        self.seen: list[int] = []
        self.killed: dict[int, bool] = {}  # pid → whether it was training
        self.enough = threading.Event()
        self._kills = kills
        self._random = random.Random(7)
        self._due: dict[int, float] = {}  # pid → when

    def run(self) -> None:
        while len(self.killed) < self._kills and not self.enough.is_set():
            now = time.monotonic()
            self.seen += [pid for pid in children() if pid not in self.others + self.seen]
            for place, pid in enumerate(self.seen[: self._kills]):  # those born first; none is used twice
                if pid not in self._due and (place % 2 == 0 or trains(pid)):
                    self._due[pid] = now + self._random.uniform(0.0, 0.1 if place % 2 else 0.3)
            for pid in [pid for pid, due in self._due.items() if due <= now and pid not in self.killed]:
                self.killed[pid] = trains(pid)
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)


def children() -> list[int]:
    """Processes of this one's, the first-born first: also those that ended and were not asked for their exit codes."""
    while (found := _listed()) != _listed():  # a list that was read while a process ended may lack another one
        pass
    return sorted(found)


def _listed() -> set[int]:
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def trains(pid: int) -> bool:
    """Whether a worker has logged its first epoch."""
    with contextlib.suppress(OSError):  # gone since
        return any(file.readlink().name == LOG and file.stat().st_size for file in Path(f"/proc/{pid}/fd").iterdir())
    return False


@linux
@pytest.mark.slow
def test_workers_killed_at_any_moment_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    victims = {f"victim {place}": GOOD for place in range(KILLS)}
    goods = {f"good {place}": logistic(place) for place in range(2)}
    config = TrainingConfig(executor="process", max_workers=4, early_stopping_patience=2, batch_size=8)
    endless = {"early_stopping_patience": 1_000_000, "timeout_seconds": 30}
    resource_tracker.ensure_running()  # keeps track for all workers and is none of them
    killer = Killer(KILLS)
    before = open_files()
    killer.start()
    try:
        reports = ParallelStrategyTrainer(config).train_strategies(
            dict.fromkeys(victims, endless) | dict.fromkeys(goods), victims | goods, epochs=1_000_000
        )
    finally:
        killer.enough.set()
        killer.join()
    assert len(killer.killed) == KILLS
    for name in victims:
        assert reports[name].status == "died"
        assert "ended by SIGKILL" in str(reports[name].error)
    assert KILLS // 2 <= sum(killer.killed.values()) < KILLS, "some were killed before they trained"
    for name, data in goods.items():
        assert_trained_as_alone(reports[name], data, config, 1_000_000)
    assert children() == killer.others, "none is alive or waits to be asked for its exit code"
    assert not any(alive(pid) for pid in killer.seen)
    assert not list(tmp_path.iterdir())
    assert open_files() <= before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
