"""Batches in an order that can be had again, and loaders split in time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.datasets import statistics_of
from trading_bot.errors import TrainingError
from trading_bot.training.data_loaders import (
    BatchLoader,
    TimeSeriesDataset,
    WalkForwardValidator,
    create_data_loaders,
    create_walk_forward_loaders,
)


def numbered(rows: int) -> TimeSeriesDataset:
    """Row k has the target k and nothing but k in its window."""
    numbers = np.arange(rows, dtype=np.float32)
    return TimeSeriesDataset(numbers[:, None, None], numbers, normalize=False)


def epoch_of(loader: BatchLoader) -> list[list[int]]:
    """The rows of each batch."""
    batches = list(loader)
    assert all(torch.equal(X[:, 0], y) for X, y in batches), "a window keeps its target"
    return [y[:, 0].int().tolist() for _, y in batches]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_laws_of_an_epoch(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 70))
    size = data.draw(st.integers(1, 24))
    drop_last, shuffle = data.draw(st.booleans()) and rows >= size, data.draw(st.booleans())
    most = data.draw(st.none() | st.integers(1, 9))
    seed = data.draw(st.integers(0, 5))
    loader = BatchLoader(numbered(rows), size, shuffle, drop_last, seed, most)
    loader.least = data.draw(st.integers(1, min(rows, size)))

    first, second = epoch_of(loader), epoch_of(loader)
    for epoch in (first, second):
        assert len(epoch) == len(loader) >= 1
        assert all(min(loader.least, size) <= len(batch) < size + loader.least for batch in epoch)
        assert all(len(batch) == size for batch in epoch[:-1])
        seen = [row for batch in epoch for row in batch]
        assert len(set(seen)) == len(seen)
        wanted = rows - rows % size if drop_last else rows
        if most is None:
            assert len(seen) == wanted
        else:
            assert len(epoch) <= most
            assert len(seen) == wanted or len(epoch) == most
        if not shuffle:
            assert seen == list(range(len(seen)))

    again = BatchLoader(numbered(rows), size, shuffle, drop_last, seed, most)
    again.least = loader.least
    again.epoch = 1  # what a training that is resumed sets
    assert epoch_of(again) == second, "the order is a function of seed and epoch alone"


def test_each_epoch_and_each_seed_has_another_order() -> None:
    loader, other = BatchLoader(numbered(50), 50, shuffle=True), BatchLoader(numbered(50), 50, shuffle=True, seed=1)
    orders = [epoch_of(each)[0] for each in (loader, loader, loader, other)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert list(range(50)) not in orders


def test_fewer_batches_an_epoch_are_another_sample_each_time() -> None:
    loader = BatchLoader(numbered(1000), 10, shuffle=True, max_batches=3)
    epochs = [{row for batch in epoch_of(loader) for row in batch} for _ in range(4)]
    assert [len(epoch) for epoch in epochs] == [30] * 4
    assert len(set.union(*epochs)) > 100


def test_a_last_batch_too_small_joins_the_one_before() -> None:
    loader = BatchLoader(numbered(33), 16)
    assert [len(batch) for batch in epoch_of(loader)] == [16, 16, 1]
    loader.least = 2
    assert [len(batch) for batch in epoch_of(loader)] == [16, 17]
    assert len(loader) == 2


@pytest.mark.parametrize("name", ["batch_size", "max_batches"])
@pytest.mark.parametrize("number", [0, -1, 2.0, True, "8"])
def test_numbers_that_make_no_batch(name: str, number: Any) -> None:
    with pytest.raises(TrainingError, match=f"{name} is {number!r}; wanted a whole number ≥ 1"):
        BatchLoader(numbered(9), **{name: number})


def test_dropping_the_only_batch_is_refused() -> None:
    with pytest.raises(TrainingError, match="9 rows make no full batch of 10 and drop_last leaves nothing"):
        BatchLoader(numbered(9), 10, drop_last=True)


def series(n: int = 100, seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    return random.normal(size=(n, 5, 3)).astype(np.float32), np.arange(n, dtype=np.float32)


def targets(loader: BatchLoader) -> list[int]:
    return [int(y) for _, batch in loader for y in batch[:, 0]]


def test_the_split_is_in_time_and_only_the_older_part_is_shuffled() -> None:
    X, y = series()
    train, val = create_data_loaders(X, y, batch_size=32, validation_split=0.2, gap=7)
    assert targets(val) == list(range(80, 100))
    order = targets(train)
    assert order != sorted(order)
    assert sorted(order) == list(range(73))
    assert (len(train), len(train.dataset), len(val.dataset)) == (3, 73, 20)
    assert next(iter(train))[0].shape == (32, 5, 3)
    plain, _ = create_data_loaders(X, y, shuffle=False, drop_last=True)
    assert targets(plain) == list(range(64))
    assert np.shares_memory(train.dataset.X, X)
    assert np.shares_memory(val.dataset.X, X)


def test_nothing_but_the_training_rows_has_a_say_in_the_statistics() -> None:
    X, y = series()
    before, _ = create_data_loaders(X, y, gap=7)
    X[73:] = 1e6  # the purged rows and the validation rows
    after, val = create_data_loaders(X, y, gap=7)
    for one, other in ((before, after), (after, val)):
        assert np.array_equal(statistics_of(one.dataset), statistics_of(other.dataset))
    X[72] = 1e6
    moved, _ = create_data_loaders(X, y, gap=7)
    assert not np.array_equal(statistics_of(before.dataset), statistics_of(moved.dataset))


def test_normalising_can_be_left_out() -> None:
    X, y = series()
    for train, val in (create_data_loaders(X, y, normalize=False), *create_walk_forward_loaders(X, y, normalize=False)):
        assert train.dataset.mean is val.dataset.mean is None
        assert torch.equal(val.dataset.batch(slice(0, 1))[0][0], torch.from_numpy(X[int(val.dataset.y[0, 0])]))


def test_walk_forward_loaders_are_the_validators_folds() -> None:
    X, y = series(1000)
    loaders = create_walk_forward_loaders(
        X, y, batch_size=32, validation_fraction=0.2, num_steps=12, normalize=True, gap=6, embargo=2
    )
    splits = WalkForwardValidator(1000, 0.2, 12, gap=6, embargo=2).get_splits()
    assert len(loaders) == len(splits) == 12
    for (train, val), (past, held) in zip(loaders, splits, strict=True):
        assert sorted(targets(train)) == past.tolist()
        assert targets(val) == held.tolist()
        exact = X[past].astype(np.float64)
        wanted = [exact.mean(axis=(0, 1)), exact.std(axis=(0, 1))]
        np.testing.assert_allclose(statistics_of(train.dataset), wanted, rtol=1e-6)
        assert np.array_equal(statistics_of(train.dataset), statistics_of(val.dataset))


def test_statistics_of_a_fold_know_nothing_of_later_ones() -> None:
    X, y = series(200)
    before = create_walk_forward_loaders(X, y, num_steps=4, gap=5)
    X[140:] += 1000  # in the fourth fold's training, and in the third's validation
    after = create_walk_forward_loaders(X, y, num_steps=4, gap=5)
    same = [
        np.array_equal(statistics_of(one.dataset), statistics_of(other.dataset))
        for (one, _), (other, _) in zip(before, after, strict=True)
    ]
    assert same == [True, True, True, False]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"validation_split": 0}, "validation_split is 0; wanted a share above 0 and below 1"),
        ({"validation_split": 1.0}, "validation_split is 1.0"),
        ({"validation_split": float("nan")}, "validation_split is nan"),
        ({"gap": -1}, "gap is -1; wanted a whole number ≥ 0: the label's horizon"),
        ({"gap": 1.5}, "gap is 1.5"),
        ({"gap": 80}, "100 rows with validation_split 0.2 and gap 80 leave 0 to train on and 20 to validate on"),
        ({"validation_split": 0.001}, "leave 100 to train on and 0 to validate on; wanted at least one each"),
        ({"y": np.zeros(99)}, "X has 100 rows and y 99"),
        ({"y": np.zeros(0)}, r"y has shape \(0,\)"),
        ({"X": np.zeros((0, 5, 3))}, r"X has shape \(0, 5, 3\)"),
        ({"X": np.full((100, 5, 3), "a")}, "X is an array of <U1"),
        ({"X": np.full((100, 5, 3), np.nan)}, "holds a value that is not finite"),
        ({"y": np.full(100, np.nan)}, "holds a value that is not finite"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 90, "drop_last": True}, "80 rows make no full batch of 90"),
    ],
)
def test_what_cannot_be_split_is_refused(wrong: dict[str, Any], words: str) -> None:
    X, y = series()
    with pytest.raises(TrainingError, match=words):
        create_data_loaders(**{"X": X, "y": y, **wrong})


def test_folds_that_cannot_be_are_refused() -> None:
    X, y = series(20)
    with pytest.raises(TrainingError, match=r"min_train 8 of 20 rows.*too little for 13 steps.*would fit"):
        create_walk_forward_loaders(X, y, num_steps=13)
    with pytest.raises(TrainingError, match="X has 20 rows and y 19"):
        create_walk_forward_loaders(X, y[1:], num_steps=2)
