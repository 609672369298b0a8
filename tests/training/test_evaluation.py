"""Walk-forward: what each fold may know, and what is kept of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.training.forecasting import FEATURES, QUICK, swinging
from trading_bot.errors import CheckpointError, TrainingError
from trading_bot.training.evaluation import ARMS, Evaluation, walk_forward
from trading_bot.training.prepared_data import prepare_data

DATA = prepare_data(swinging(), 3, 10, FEATURES)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return walk_forward(DATA, QUICK, 3)


def test_each_fold_is_judged_on_what_came_after_its_training(evaluation: Evaluation) -> None:
    assert [fold.number for fold in evaluation.folds] == [1, 2, 3]
    for fold in evaluation.folds:
        assert set(fold.forecasts) == set(ARMS)
        assert fold.trained == fold.held[0] - DATA.horizon
        assert all(len(forecast) == len(fold.held) for forecast in fold.forecasts.values())
    held = np.concatenate([fold.held for fold in evaluation.folds])
    np.testing.assert_array_equal(held, np.arange(held[0], len(DATA.y)))


def test_baselines_are_what_their_names_say(evaluation: Evaluation) -> None:
    fold = evaluation.folds[1]
    assert not fold.forecasts["zero"].any()
    np.testing.assert_allclose(fold.forecasts["persistence"], DATA.past[fold.held], rtol=1e-6)
    np.testing.assert_allclose(fold.forecasts["mean"], DATA.y[: fold.trained].mean(), rtol=1e-4)
    scores = evaluation.scores()
    assert scores["zero"].skill == 0
    assert scores["zero"].hit_rate is None
    assert scores["ridge"].skill > 0.02, "this price returns to its mean, which a straight line can tell"
    assert scores["persistence"].skill < 0
    assert set(evaluation.fold_scores()[0]) == set(ARMS)


def test_a_fold_s_future_changes_nothing_in_its_forecasts(evaluation: Evaluation) -> None:
    first = evaluation.folds[0]
    end = int(first.held[-1]) + 1
    X, y = DATA.X.copy(), DATA.y.copy()
    y[first.held[0] :] = 9  # the labels it is judged by, and all later ones
    X[end:] = 9
    spoiled = walk_forward(dataclasses.replace(DATA, X=X, y=y), QUICK, 3).folds[0]
    for arm in ARMS:
        np.testing.assert_array_equal(spoiled.forecasts[arm], first.forecasts[arm], err_msg=arm)


def test_finished_folds_are_not_done_again(tmp_path: Path, evaluation: Evaluation) -> None:
    def stop_in_the_third(fit: str, epoch: int, values: object) -> None:
        if fit.startswith("fold 3/3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        walk_forward(DATA, QUICK, 3, tmp_path, stop_in_the_third)
    seen: list[str] = []
    resumed = walk_forward(DATA, QUICK, 3, tmp_path, lambda fit, epoch, values: seen.append(f"{fit} {epoch}"))
    assert seen == ["fold 3/3 cnn 1", "fold 3/3 cnn 2"]
    for fold, whole in zip(resumed.folds, evaluation.folds, strict=True):
        for arm in ARMS:
            np.testing.assert_array_equal(fold.forecasts[arm], whole.forecasts[arm])
        assert fold.trained == whole.trained
        assert fold.histories["cnn"]["val_loss"] == whole.histories["cnn"]["val_loss"]
    with pytest.raises(CheckpointError, match=r"fold-1\.safetensors is not this fold's: it holds other rows"):
        walk_forward(DATA, QUICK, 4, tmp_path)
    with pytest.raises(CheckpointError, match=r"fold-1\.safetensors was made with settings or features \w+, wanted"):
        walk_forward(DATA, dataclasses.replace(QUICK, learning_rate=0.002), 3, tmp_path)
    damaged = tmp_path / "fold-1.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="cut short"):
        walk_forward(DATA, QUICK, 3, tmp_path)


def test_impossible_folds_say_what_would_fit() -> None:
    with pytest.raises(TrainingError, match="would fit"):
        walk_forward(DATA, QUICK, 10_000)
