"""A dict of lists."""

from __future__ import annotations

import math

import pytest

from trading_bot.training.history import TrainingHistory


def test_it_is_a_dict_of_lists() -> None:
    history = TrainingHistory()
    assert (history.epochs, history.best_epoch, dict(history)) == (0, None, {})
    for loss in (2.0, 1.0, 1.0, 3.0):
        history.add({"train_loss": loss, "val_loss": 2 * loss})
    assert history == {"train_loss": [2.0, 1.0, 1.0, 3.0], "val_loss": [4.0, 2.0, 2.0, 6.0]}
    assert (history.epochs, history.best_epoch) == (4, 1)


@pytest.mark.parametrize(
    ("losses", "best"), [([math.nan, 5.0, 4.0], 2), ([-math.inf, 5.0], 1), ([math.nan], None), ([math.inf], None)]
)
def test_a_loss_that_is_no_number_is_never_the_best(losses: list[float], best: int | None) -> None:
    history = TrainingHistory()
    for loss in losses:
        history.add({"val_loss": loss})
    assert history.best_epoch == best
