"""TimeSeriesDataset: statistics of the training rows alone, nothing copied, nothing broken let in."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.utils.data import DataLoader

from tests.training.datasets import statistics_of
from trading_bot.errors import TrainingError
from trading_bot.training.data_loaders import TimeSeriesDataset

Array = npt.NDArray[np.float32]

N, TIME, WIDTH = 50, 6, 3


def matrix(seed: int = 0, rows: int = N + TIME - 1) -> Array:
    random = np.random.default_rng(seed)
    return (random.normal(size=(rows, WIDTH)) * [1, 100, 0.01] + [5, -300, 0]).astype(np.float32)


def views_of(rows: Array, time: int = TIME) -> list[Array]:
    """The windows over these rows: candle by candle in memory, and feature by feature."""
    by_row = np.lib.stride_tricks.sliding_window_view(rows, time, axis=0).transpose(0, 2, 1)
    by_feature = np.lib.stride_tricks.sliding_window_view(np.ascontiguousarray(rows.T), time, axis=1)
    return [by_row, by_feature.transpose(1, 2, 0)]


def y_of(n: int = N) -> Array:
    return np.arange(n, dtype=np.float32)


def test_a_batch_is_normalised_feature_by_feature() -> None:
    X = np.ascontiguousarray(views_of(matrix())[0])
    dataset = TimeSeriesDataset(X, y_of())
    assert len(dataset) == N
    exact = X.astype(np.float64)
    mean, std = exact.mean(axis=(0, 1)), exact.std(axis=(0, 1))
    np.testing.assert_allclose(statistics_of(dataset), [mean, std], rtol=1e-6)
    rows = np.array([7, 0, 49])
    batch, target = dataset.batch(rows)
    assert (batch.dtype, target.dtype) == (torch.float32, torch.float32)
    np.testing.assert_allclose(batch.numpy(), (exact[rows] - mean) / std, atol=2e-5)
    assert target.tolist() == [[7.0], [0.0], [49.0]]


@pytest.mark.parametrize("kept", [slice(None), slice(3, 4), slice(11, 40)])
@pytest.mark.parametrize("layout", [0, 1])
def test_a_view_has_the_statistics_of_its_copy(layout: int, kept: slice) -> None:
    X = views_of(matrix())[layout][kept]
    view, copy = TimeSeriesDataset(X, y_of(len(X))), TimeSeriesDataset(X.copy(), y_of(len(X)))
    np.testing.assert_allclose(statistics_of(view), statistics_of(copy), rtol=3e-7)
    assert np.shares_memory(view.X, X)


def test_a_view_that_skips_or_goes_back_has_the_statistics_of_its_copy() -> None:
    for X in (views_of(matrix())[0][::2], views_of(matrix())[0][::-1], views_of(matrix())[1][::-1, ::-1]):
        view, copy = TimeSeriesDataset(X, y_of(len(X))), TimeSeriesDataset(X.copy(), y_of(len(X)))
        np.testing.assert_allclose(statistics_of(view), statistics_of(copy), rtol=3e-7)
        assert (view.batch(slice(0, 5))[0] - copy.batch(slice(0, 5))[0]).abs().max() < 1e-5


def test_given_statistics_are_used_and_extremes_change_nothing() -> None:
    train = TimeSeriesDataset(views_of(matrix())[0], y_of())
    extremes = views_of(matrix(1) * 1e6)[0]
    held = TimeSeriesDataset(extremes, y_of(), mean=train.mean, std=train.std)
    mean, std = statistics_of(train)
    assert np.array_equal(statistics_of(held), [mean, std])
    np.testing.assert_allclose(held.batch(slice(0, 9))[0], (extremes[:9] - mean) / std, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -12345.678, 3e30, 1e-40])
def test_a_feature_that_does_not_move_is_centred_and_not_divided(value: float) -> None:
    X = np.random.default_rng(3).normal(size=(200, TIME, 2)).astype(np.float32)
    X[:, :, 0] = value
    train = TimeSeriesDataset(X, y_of(200))
    assert statistics_of(train)[1, 0] == 1
    assert (train.batch(slice(None))[0][:, :, 0] == 0).all()
    moved = X[:10].copy()
    moved[:, :, 0] = value + 1 if abs(value) < 1e6 else value
    held = TimeSeriesDataset(moved, y_of(10), mean=train.mean, std=np.array([0, 1e-40]))
    assert held.batch(slice(None))[0].isfinite().all(), "a spread of 0 that is passed in does not divide either"


def test_movement_too_small_for_a_float32_is_none() -> None:
    X = np.random.default_rng(3).normal(size=(100, TIME, 1)).astype(np.float32)
    assert TimeSeriesDataset((X * 1e-40).astype(np.float32), y_of(100)).batch(slice(None))[0].isfinite().all()
    assert TimeSeriesDataset(X * np.float32(1e-30), y_of(100)).batch(slice(None))[0].std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layout", [0, 1, 2])
def test_what_is_not_finite_is_refused_or_dropped(bad: float, layout: int) -> None:
    rows = matrix()
    rows[20, 1] = bad
    X = [*views_of(rows), np.ascontiguousarray(views_of(rows)[0])][layout]
    with pytest.raises(TrainingError, match=r"row 15 of 50 holds a value that is not finite \(6 rows do\).*nan='drop'"):
        TimeSeriesDataset(X, y_of())
    left = [row for row in range(N) if not row <= 20 < row + TIME]
    y = y_of()
    y[3] = bad
    left.remove(3)
    dropped = TimeSeriesDataset(X, y, nan="drop")
    kept = TimeSeriesDataset(X[left], y[left])
    assert len(dropped) == len(left) == N - TIME - 1
    assert dropped.y[:, 0].tolist() == left
    assert np.shares_memory(dropped.X, X), "a view of a million windows is not unfolded for the sake of one"
    np.testing.assert_allclose(statistics_of(dropped), statistics_of(kept), rtol=3e-7)
    for at in (slice(10, 20), slice(None), np.array([16, 2, 40])):
        np.testing.assert_allclose(dropped.batch(at)[0], kept.batch(at)[0], atol=1e-5)
        assert torch.equal(dropped.batch(at)[1], kept.batch(at)[1])


def test_nothing_left_after_dropping_is_refused() -> None:
    with pytest.raises(TrainingError, match="all 50 rows hold a value that is not finite"):
        TimeSeriesDataset(views_of(matrix() * np.float32(np.nan))[0], y_of(), nan="drop")
    with pytest.raises(TrainingError, match="nan is 'fill'; wanted 'error' or 'drop'"):
        TimeSeriesDataset(views_of(matrix())[0], y_of(), nan="fill")  # type: ignore[arg-type]


def test_a_batch_is_its_items_in_memory_of_its_own() -> None:
    X = views_of(matrix())[0]
    before = X.copy()
    for normalize in (True, False):
        dataset = TimeSeriesDataset(X, np.stack([y_of(), -y_of()], axis=1), normalize)
        for rows in (slice(4, 9), np.arange(4, 9)):
            batch, target = dataset.batch(rows)
            for number, (window, goal) in enumerate(dataset[row] for row in range(4, 9)):
                assert torch.equal(window, batch[number])
                assert torch.equal(goal, target[number])
            batch.zero_()
            target.zero_()
    assert np.array_equal(X, before)
    assert torch.equal(dataset[-1][0], dataset[N - 1][0])
    for outside in (N, -N - 1):
        with pytest.raises(IndexError):
            dataset[outside]


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int32, np.uint8, ">f4"])
def test_other_numbers_are_converted(kind: Any) -> None:
    X = np.random.default_rng(0).integers(0, 100, (9, 4, 2))
    whole = TimeSeriesDataset(X.astype(np.float32), y_of(9))
    made = TimeSeriesDataset(X.astype(kind), y_of(9).astype(kind))
    assert np.array_equal(made.batch(slice(None))[0], whole.batch(slice(None))[0])
    assert made.y.dtype == np.float32


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
def test_tensors_serve_too(kind: torch.dtype) -> None:
    X = torch.arange(24).reshape(4, 3, 2)
    made = TimeSeriesDataset(X.to(kind), torch.arange(4).to(kind))
    assert torch.equal(made.batch(slice(None))[0], TimeSeriesDataset(X.numpy(), y_of(4)).batch(slice(None))[0])


def test_pytorchs_own_loader_takes_it() -> None:
    dataset = TimeSeriesDataset(views_of(matrix())[1], y_of())
    batches = list(DataLoader(dataset, batch_size=16))
    assert [len(X) for X, _ in batches] == [16, 16, 16, 2]
    assert torch.equal(torch.cat([X for X, _ in batches]), dataset.batch(slice(None))[0])


def test_a_million_windows_are_wrapped_and_dropped_from_without_a_copy() -> None:
    n, time, width = 1_000_000, 30, 40
    rows = np.zeros((n + time - 1, width), np.float32)
    rows[:1000] = np.random.default_rng(0).normal(size=(1000, width))
    rows[500_000, 7] = np.nan
    X, y = views_of(rows, time)[0], np.zeros(n, np.float32)
    tracemalloc.start()
    try:
        dataset = TimeSeriesDataset(X, y, nan="drop")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(dataset) == n - time
    assert np.shares_memory(dataset.X, rows)
    assert peak < 80e6, "the windows are 4.8 GB, the rows they are made of 160 MB"


GOOD = np.zeros((5, 4, 3), np.float32)


@pytest.mark.parametrize(
    ("X", "y", "words"),
    [
        (GOOD[:0], y_of(0), r"X has shape \(0, 4, 3\); wanted \(rows, time, features\), none of them 0"),
        (GOOD[:, :, :0], y_of(5), r"X has shape \(5, 4, 0\)"),
        (GOOD[:, 0, 0], y_of(5), r"X has shape \(5,\)"),
        (GOOD[None], y_of(5), r"X has shape \(1, 5, 4, 3\)"),
        (1.0, y_of(5), r"X has shape \(\)"),
        (GOOD, y_of(4), "X has 5 rows and y 4; wanted one target for each window"),
        (GOOD, y_of(0), r"y has shape \(0,\); wanted \(rows,\) or \(rows, horizon\)"),
        (GOOD, GOOD, r"y has shape \(5, 4, 3\)"),
        (GOOD, 1.0, r"y has shape \(\)"),
        (GOOD.astype(str), y_of(5), "X is an array of <U32; wanted numbers, best float32"),
        (GOOD.astype(complex), y_of(5), "X is an array of complex128"),
        (GOOD, [None] * 5, "y is an array of object"),
        (GOOD, [True] * 5, "y is an array of bool"),
        ([[1.0], [1.0, 2.0]], y_of(2), "X is no array"),
        (GOOD.astype(float) + 1e300, y_of(5), "row 0 of 5 holds a value that is not finite"),
        (GOOD, np.full(5, 1e300), "row 0 of 5 holds a value that is not finite"),
    ],
)
def test_what_does_not_fit_is_refused(X: Any, y: Any, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        TimeSeriesDataset(X, y)


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ([0, 0, 0], None, "found only one of mean and std"),
        (None, [1, 1, 1], "found only one of mean and std"),
        ([0, 0], [1, 1, 1], "mean has 2 values; wanted a finite one for each of 3 features"),
        ([0, 0, 0], [1, 1, 1, 1], "std has 4 values"),
        ([0, np.nan, 0], [1, 1, 1], "mean has 3 values; wanted a finite one"),
    ],
)
def test_statistics_of_something_else_are_refused(mean: Any, std: Any, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        TimeSeriesDataset(GOOD, y_of(5), mean=mean, std=std)
