"""Batches too small for a model or a loss are told before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler, SubsetRandomSampler

from trading_bot.errors import TrainingError
from trading_bot.training.batches import check_batches, describe_loss
from trading_bot.training.data_loaders import BatchLoader, TimeSeriesDataset
from trading_bot.training.loss_functions import create_loss_function

PLAIN, NORMED = nn.Linear(2, 1), nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
STATISTICS = ["sharpe", "return_volatility", "financial", "volatility_aware"]


def rows(n: int) -> TimeSeriesDataset:
    return TimeSeriesDataset(np.zeros((n, 2), np.float32), np.zeros(n, np.float32))


def ours(n: int, size: int) -> BatchLoader:
    return BatchLoader(rows(n), size)


def check(model: nn.Module, train: Any, loss: str = "mse", val: Any = None) -> None:
    check_batches(model, train, ours(5, 5) if val is None else val, create_loss_function(loss))


@pytest.mark.parametrize("loss", STATISTICS)
def test_a_statistic_of_the_batch_needs_one_of_some_size(loss: str) -> None:
    for train in (ours(100, 7), ours(7, 64), DataLoader(rows(100), 7)):
        with pytest.raises(TrainingError, match=r"batches have 7 rows; wanted at least 8, for .* statistic"):
            check(PLAIN, train, loss)
    for train, size in ((ours(96, 8), 8), (ours(630, 63), 63), (ours(40, 64), 40), (DataLoader(rows(96), 32), 32)):
        with pytest.warns(UserWarning, match=f"{size} rows a batch make a noisy one; 64 or more are better") as told:
            check(PLAIN, train, loss)
        assert len(told) == 1
    check(PLAIN, ours(640, 64), loss)


def test_other_losses_take_any_batch() -> None:
    for loss in ("mse", "mae", "huber", "regression"):
        for train in (ours(1, 1), ours(33, 16), DataLoader(rows(33), 16)):
            check(PLAIN, train, loss)
    check_batches(PLAIN, ours(3, 1), ours(1, 1), nn.functional.mse_loss)


def test_batch_norm_needs_two_rows() -> None:
    for train in (ours(9, 1), ours(1, 9), DataLoader(rows(9), 1)):
        with pytest.raises(TrainingError, match="batches have 1 rows; wanted at least 2, for the model has BatchNorm"):
            check(NORMED, train)
    check(NORMED, ours(9, 2))


def test_our_loader_is_told_what_a_last_batch_must_have() -> None:
    train = ours(129, 64)
    for model, loss, least in ((NORMED, "mse", 2), (PLAIN, "sharpe", 8), (NORMED, "sharpe", 8), (PLAIN, "mse", 1)):
        check(model, train, loss)
        assert train.least == least
        assert [len(X) for X, _ in train] == ([64, 64, 1] if least == 1 else [64, 65])


def test_a_foreign_loader_with_a_last_batch_too_small_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"the last batch would have 1 rows, fewer than the 2 needed.*drop_last"):
        check(NORMED, DataLoader(rows(33), 16))
    with pytest.raises(TrainingError, match="the last batch would have 7 rows, fewer than the 8 needed"):
        check(PLAIN, DataLoader(rows(135), 64), "sharpe")
    check(NORMED, DataLoader(rows(33), 16, drop_last=True))
    check(NORMED, DataLoader(rows(34), 16))
    check(PLAIN, DataLoader(rows(136), 64), "sharpe")


def test_a_sampler_that_takes_a_part_is_counted_by_that_part() -> None:
    check(NORMED, DataLoader(rows(33), 16, sampler=SubsetRandomSampler(range(32))))
    with pytest.raises(TrainingError, match="the last batch would have 1 rows"):
        check(NORMED, DataLoader(rows(40), 16, sampler=SubsetRandomSampler(range(33))))
    check(NORMED, DataLoader(rows(33), batch_sampler=BatchSampler(SequentialSampler(rows(33)), 16, drop_last=True)))


class _Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([(torch.zeros(2), torch.zeros(1))])


def test_loaders_that_are_empty_or_cannot_tell_are_refused() -> None:
    endless: DataLoader[Any] = DataLoader(_Stream())
    without: list[Any] = [[], DataLoader(rows(3), 16, drop_last=True), (batch for batch in ours(5, 5)), endless]
    for empty in without:
        with pytest.raises(TrainingError, match="the training loader is empty or has no length; wanted at least one"):
            check(PLAIN, empty)
        with pytest.raises(TrainingError, match="the validation loader is empty or has no length"):
            check(PLAIN, ours(5, 5), val=empty)
    check(PLAIN, [(torch.zeros(4, 2), torch.zeros(4, 1))])


def test_a_loss_has_a_name() -> None:
    assert describe_loss(create_loss_function("sharpe")) == "SharpeRatioLoss"
    assert describe_loss(nn.functional.mse_loss) == "mse_loss"
