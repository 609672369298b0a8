"""A label is a sum of the next bars, so rows near a boundary know some of what lies behind it; `gap` takes that away.

Bars are independent, so nothing at all can be forecast. A learner that answers with the label of the training row
nearest in time does so all the same wherever a split leaves rows whose labels reach into the block.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from trading_bot.domain.market import Floats
from trading_bot.training.data_loaders import BatchLoader, create_data_loaders, create_walk_forward_loaders
from trading_bot.training.walk_forward import WalkForwardValidator

HORIZON = 6
FOLDS = 400
# 400 pairs of independent numbers correlate by more than 4 / √400 once in 16,000 times
NOTHING = 4 / np.sqrt(FOLDS)

Pairs = tuple[Floats, Floats]  # what the memory says of the first row of each block, and what came


def labelled(rows: int, seed: int) -> tuple[Floats, Floats]:
    """Time as the only feature (rows, 1), and the sum of the next bars (rows,)."""
    bars = np.random.default_rng(seed).normal(size=rows + HORIZON)
    cumulated = np.concatenate(([0.0], np.cumsum(bars)))
    return np.arange(rows, dtype=np.float64)[:, None], cumulated[HORIZON:-1] - cumulated[: -HORIZON - 1]


def rows_of(loader: BatchLoader) -> Pairs:
    batches = list(loader)
    X, y = torch.cat([X for X, _ in batches]), torch.cat([y for _, y in batches])
    return X[:, 0].double().numpy(), y[:, 0].double().numpy()


def memory(train: BatchLoader, held: BatchLoader) -> tuple[float, float]:
    (times, labels), (asked, truth) = rows_of(train), rows_of(held)
    first = int(np.argmin(asked))
    return float(labels[np.argmin(np.abs(times - asked[first]))]), float(truth[first])


def by_validator(gap: int) -> Pairs:
    _, y = labelled(4000, 1)
    splits = WalkForwardValidator(4000, 0.2, FOLDS, gap=gap).get_splits()
    return np.array([y[train[-1]] for train, _ in splits]), np.array([y[held[0]] for _, held in splits])


def by_walk_forward_loaders(gap: int) -> Pairs:
    X, y = labelled(4000, 2)
    pairs = create_walk_forward_loaders(X, y, 4000, num_steps=FOLDS, gap=gap)
    return tuple(np.array([memory(*pair) for pair in pairs]).T)


def by_loaders(gap: int) -> Pairs:
    told = []
    for seed in range(FOLDS):
        X, y = labelled(50, 1000 + seed)
        told.append(memory(*create_data_loaders(X, y, gap=gap)))
    return tuple(np.array(told).T)


@pytest.mark.parametrize("splits", [by_validator, by_walk_forward_loaders, by_loaders])
def test_the_gap_denies_what_a_boundary_leaks(splits: Callable[[int], Pairs]) -> None:
    leaking = float(np.corrcoef(*splits(0))[0, 1])
    assert leaking > 0.7, "neighbouring labels share 5 of 6 bars: without a gap the test must see it"
    assert abs(float(np.corrcoef(*splits(HORIZON))[0, 1])) < NOTHING
