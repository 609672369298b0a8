"""Every benchmark runs, small: what it measures exists and its table is printed. How fast is not looked at here."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import pytest
from loguru import logger

import benchmarks
from benchmarks import _figures

SMALL: dict[str, dict[str, float]] = {
    "adaptive_loss": {"BATCH": 8, "STEPS": 12, "ROUNDS": 1, "CALIBRATION": 2},
    "candles_store": {"CANDLES": 3000, "ROUNDS": 1, "WINDOWS": 20},
    "decision_path": {"BARS": 15},
    "feature_selection": {"ROUNDS": 2, "STEPS": 1, "BATCH": 4},
    "features": {"BARS": 600, "ROUNDS": 2, "BATCHES": 3},
    "indicators": {"ROUNDS": 3},
    "lateness": {"BARS": 25, "HISTORY": 1200},
    "learning": {
        "ROWS": 600,
        "VALIDATION": 300,
        "STRATEGIES": 2,
        "ROUNDS": 1,
        "NETWORK_ROUNDS": 1,
        "WINDOWS": 300,
        "CNNS": 1,
        "WORKERS": 1,
        "EPOCHS": 4,
        "CNN_ROUNDS": 1,
    },
    "losses": {"BATCH": 64, "ROUNDS": 3},
    "memory": {"CANDLES": 60, "SAMPLE_SECONDS": 0.05},
    "start_up": {"ROUNDS": 1, "BARS": 2},
    "storage_commit": {"ROUNDS": 2, "COMMITS": 2},
    "throughput": {"BARS": 25, "WARM_UP": 2},
    "training": {"ROUNDS": 1, "BATCHES": 2, "SMALL_BATCHES": 3, "ROWS": 400, "SAVES": 2},
    "trm": {"ROUNDS": 2, "BATCH": 2, "BATCH_ROUNDS": 1},
}
DAEMONS = {"lateness", "memory", "start_up", "throughput"}  # those that start one


def module(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name}")


def test_every_benchmark_is_tried_here() -> None:
    found = {m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_")}
    assert found == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_its_first_line_says_the_goal_and_its_sizes_are_constants(name: str) -> None:
    first = (module(name).__doc__ or "").splitlines()[0]
    assert "≤" in first or "≥" in first
    assert all(hasattr(module(name), size) for size in SMALL[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_it_runs(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for size, value in SMALL[name].items():
        monkeypatch.setattr(module(name), size, value)
    try:
        module(name).main()
    finally:
        logger.remove()
    printed = capsys.readouterr().out
    assert " goal " in printed
    assert "nan" not in printed


def test_a_missed_goal_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert _figures.goal("speed", 3.0, "×", least=3)
    assert not _figures.goal("speed", 2.9, "×", least=3)
    assert not _figures.goal("time", 1.1, "s", most=1)
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["met", "MISSED", "MISSED"]


def test_percentiles_are_of_the_sorted_durations() -> None:
    seconds = [i / 1000 for i in range(100, 0, -1)]
    assert _figures.median_ms(seconds) == pytest.approx(50.5)
    assert _figures.high_ms(seconds) == pytest.approx(100)
    assert _figures.high_ms([0.002]) == pytest.approx(2)
