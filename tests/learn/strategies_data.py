"""Training data of made-up strategies, and data that misbehave where they are read: in the worker."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trading_bot.learn.optimizer import ParallelStrategyTrainer, TrainingConfig

Array = npt.NDArray[Any]
Data = tuple[Any, Any, Any, Any]


def logistic(seed: int, rows: int = 700, features: int = 5, dtype: type[np.floating[Any]] = np.float64) -> Data:
    """X_train, y_train, X_val, y_val of labels that depend on the features."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows + 300, features)).astype(dtype)
    y = (random.random(len(X)) < 1 / (1 + np.exp(-X @ random.normal(size=features)))).astype(dtype)
    return X[:rows], y[:rows], X[rows:], y[rows:]


def linear(seed: int, rows: int = 700, features: int = 5) -> Data:
    """The same of real targets."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows + 300, features))
    y = X @ random.normal(size=features) + 0.3 + 0.5 * random.normal(size=len(X))
    return X[:rows], y[:rows], X[rows:], y[rows:]


class Hangs:
    """Never gives its numbers, ignores SIGTERM and has begun a program of its own; says the pids of both."""

    def __init__(self, said: Path) -> None:
        self.said = said

    def __array__(self, *_: Any, **__: Any) -> Array:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        written = self.said.with_suffix(".part")
        written.write_text(f"{os.getpid()} {other.pid}")
        written.rename(self.said)
        while True:
            time.sleep(0.01)


class Killed:
    """Is ended from outside, as by the kernel when memory runs out."""

    def __array__(self, *_: Any, **__: Any) -> Array:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")


class TooLarge:
    """Asks for more memory than there is."""

    def __array__(self, *_: Any, **__: Any) -> Array:
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        return np.ones((1 << 20, 1 << 12))


class Exits:
    def __array__(self, *_: Any, **__: Any) -> Array:
        sys.exit(7)


class HangsInALibrary(Hangs):
    """Somewhere that gives no other thread a turn."""

    def __array__(self, *_: Any, **__: Any) -> Array:
        written = self.said.with_suffix(".part")
        written.write_text(str(os.getpid()))
        written.rename(self.said)
        return np.array(sum(itertools.repeat(0)))


class ExitsAtOnce:
    def __array__(self, *_: Any, **__: Any) -> Array:
        os._exit(3)


class Raises:
    def __array__(self, *_: Any, **__: Any) -> Array:
        raise KeyError("no such column")


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not asked for its exit code does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def until(seconds: float, *files: Path) -> list[str]:
    """What the files hold, once all are there."""
    deadline = time.monotonic() + seconds
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline, f"none of {files} within {seconds} s"
        time.sleep(0.02)
    return [file.read_text() for file in files]


def train_hanging(folder: str) -> None:
    """Train two strategies that never end; Ctrl-C is heard, also where this was started in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _, y, X_val, y_val = logistic(0)
    kinds = {"one": Hangs, "two": HangsInALibrary}
    data = {name: (kind(Path(folder) / name), y, X_val, y_val) for name, kind in kinds.items()}
    ParallelStrategyTrainer(TrainingConfig(executor="process", max_workers=2)).train_strategies(list(data), data)
