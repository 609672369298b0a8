"""Folds in time: never empty, never overlapping, never touched by a label of their future."""

from __future__ import annotations

import dataclasses
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_bot.errors import TrainingError
from trading_bot.training.walk_forward import Rows, WalkForwardValidator

Splits = list[tuple[Rows, Rows]]

ASKED = st.builds(
    WalkForwardValidator,
    num_windows=st.integers(2, 300),
    validation_size=st.floats(0.001, 0.9),
    num_steps=st.integers(1, 20),
    gap=st.integers(0, 30),
    embargo=st.integers(0, 10),
    min_train=st.none() | st.integers(1, 330),
    expanding=st.booleans(),
)


def check(splits: Splits, rows: int, steps: int, apart: int = 0) -> None:
    """What every walk-forward split has to be."""
    assert len(splits) == steps
    for train, held in splits:
        assert len(train) > 0
        assert len(held) > 0
        assert (np.diff(train) == 1).all()
        assert (np.diff(held) == 1).all()
        assert train[0] >= 0
        assert train[-1] == held[0] - apart - 1, "as late as the gap allows, and no later"
    for (_, held), (_, following) in pairwise(splits):
        assert following[0] == held[-1] + 1
    assert splits[-1][1][-1] == rows - 1


def advised(asked: WalkForwardValidator, message: str) -> WalkForwardValidator:
    """What the refusal says would fit."""
    if found := re.search(r"a larger share, such as (\S+)$", message):
        return dataclasses.replace(asked, validation_size=float(found[1]))
    if found := re.search(r"min_train (\d+) with (\d+) steps would fit", message):
        return dataclasses.replace(asked, min_train=int(found[1]), num_steps=int(found[2]))
    found = re.search(r"wanted at least (\d+) rows, with min_train (\d+)", message)
    assert found is not None, message
    return dataclasses.replace(asked, num_windows=int(found[1]), min_train=int(found[2]))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(ASKED)
def test_laws(asked: WalkForwardValidator) -> None:
    refused: list[str] = []
    while True:
        try:
            splits = asked.get_splits()
            break
        except TrainingError as error:
            refused.append(str(error))
        assert len(refused) <= 2, f"what it said would fit does not: {refused}"
        asked = advised(asked, refused[-1])

    n, apart = asked.num_windows, asked.gap + asked.embargo
    check(splits, n, asked.num_steps, apart)
    first = splits[0][1][0]
    assert first >= (int(n * 0.4) if asked.min_train is None else asked.min_train)
    lengths = [len(held) for _, held in splits]
    assert max(lengths) <= n * asked.validation_size + 1e-6
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)
    trained = [len(train) for train, _ in splits]
    if asked.expanding:
        assert all(train[0] == 0 for train, _ in splits)
        assert [after - before for before, after in pairwise(trained)] == lengths[:-1]
    else:
        assert set(trained) == {trained[0]}
        assert splits[0][0][0] == 0


def test_the_example_of_the_seed() -> None:
    splits = WalkForwardValidator(num_windows=1000, validation_size=0.2, num_steps=12).get_splits()
    check(splits, 1000, 12)
    assert [len(held) for _, held in splits] == [50] * 12
    assert [len(train) for train, _ in splits] == [400 + 50 * fold for fold in range(12)]


def test_blocks_that_are_capped_are_the_newest_ones() -> None:
    splits = WalkForwardValidator(1000, 0.02, 5, gap=7, embargo=3).get_splits()
    check(splits, 1000, 5, apart=10)
    assert [len(held) for _, held in splits] == [20] * 5
    assert len(splits[0][0]) == 890


def test_a_gap_longer_than_the_least_training_fits_where_blocks_leave_room() -> None:
    splits = WalkForwardValidator(1000, 0.01, 12, gap=20, min_train=10).get_splits()
    check(splits, 1000, 12, apart=20)


def test_a_share_is_not_a_row_short_by_rounding() -> None:
    assert 100 * 0.29 < 29
    assert len(WalkForwardValidator(100, 0.29, 1).get_splits()[0][1]) == 29


def test_the_trap_of_a_first_fold_with_no_rows() -> None:
    """A well-known faulty version trains fold k on the rows before k * step: the first fold has none."""

    def faulty(rows: int, steps: int) -> Splits:
        step = rows // steps
        return [(np.arange(k * step), np.arange(k * step, (k + 1) * step)) for k in range(steps)]

    with pytest.raises(AssertionError):
        check(faulty(60, 5), 60, 5)
    check(WalkForwardValidator(60, 0.2, 5).get_splits(), 60, 5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"num_windows": 1}, "num_windows is 1; wanted a whole number ≥ 2"),
        ({"num_windows": 99.0}, "num_windows is 99.0"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"num_steps": True}, "num_steps is True"),
        ({"gap": -1}, "gap is -1; wanted a whole number ≥ 0"),
        ({"embargo": -2}, "embargo is -2"),
        ({"min_train": 0}, "min_train is 0"),
        ({"validation_size": 0}, "validation_size is 0; wanted a share"),
        ({"validation_size": 200}, "validation_size is 200; wanted a share"),
        ({"validation_size": float("nan")}, "validation_size is nan"),
    ],
)
def test_numbers_that_mean_nothing(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(words)):
        WalkForwardValidator(**{"num_windows": 100, **wrong})


def test_impossible_requests_say_what_was_found_and_what_would_fit() -> None:
    with pytest.raises(TrainingError, match=r"min_train 4 of 10 rows.*leaves 6 to validate on.*min_train 3 with 7"):
        WalkForwardValidator(10, 0.2, 7).get_splits()
    with pytest.raises(TrainingError, match=r"leaves the first fold none to train on.* min_train 61 with 12 steps"):
        WalkForwardValidator(100, 0.2, 12, gap=48, embargo=12).get_splits()
    with pytest.raises(TrainingError, match=r"min_train 150 of 100 rows.*leaves 0 to validate on"):
        WalkForwardValidator(100, 0.2, 12, min_train=150).get_splits()
    with pytest.raises(TrainingError, match=r"wanted at least 32 rows, with min_train 31"):
        WalkForwardValidator(20, 0.2, 1, gap=30).get_splits()
