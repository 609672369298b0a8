"""What a user can get wrong, in one table: each is told in one sentence, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.features.market import candles_of
from trading_bot.errors import CandleDataError, CheckpointError, ConfigurationError, TrainingError
from trading_bot.models.registry import build_model
from trading_bot.training.calibration import fit_calibration
from trading_bot.training.data_loaders import (
    TimeSeriesDataset,
    WalkForwardValidator,
    create_data_loaders,
    prepare_data,
)
from trading_bot.training.loss_functions import create_loss_function
from trading_bot.training.model_checkpoint import ModelCheckpoint
from trading_bot.training.optimizers import create_optimizer, create_scheduler
from trading_bot.training.trainer import Trainer

X, Y = np.ones((40, 5, 3), np.float32), np.ones(40, np.float32)
BROKEN = np.where(np.arange(40) == 7, np.nan, Y)
FEW = np.ones(40)
LINE = nn.Linear(3, 1)


def trainer(device: str) -> Trainer:
    train, val = create_data_loaders(X, Y)
    return Trainer(LINE, train, val, nn.functional.mse_loss, create_optimizer(LINE), device=device)


def load(folder: Path, data: bytes | None) -> None:
    checkpoint = ModelCheckpoint(folder)
    checkpoint.save(LINE, 1.0)
    whole = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(whole[: len(whole) // 2] if data is None else data)
    checkpoint.load_best(LINE)


CASES: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "empty": (lambda _: create_data_loaders(X[:0], Y[:0]), TrainingError, "none of them 0"),
    "too short to split": (lambda _: create_data_loaders(X[:2], Y[:2]), TrainingError, "load more candles"),
    "too few candles": (lambda _: prepare_data(candles_of(64)), CandleDataError, "are needed"),
    "NaN in X": (lambda _: create_data_loaders(X * np.nan, Y), TrainingError, "not finite.*nan='drop'"),
    "NaN in y": (lambda _: create_data_loaders(X, BROKEN), TrainingError, "row 7 of 32 .*not finite"),
    "wrong shape": (lambda _: create_data_loaders(X[0, 0], Y), TrainingError, r"wanted \(rows, time, features\)"),
    "wrong dtype": (lambda _: TimeSeriesDataset(X.astype(str), Y), TrainingError, "wanted numbers, best float32"),
    "mismatched lengths": (lambda _: create_data_loaders(X, Y[1:]), TrainingError, "X has 40 rows and y 39"),
    "too few to calibrate on": (lambda _: fit_calibration(FEW, FEW, 1.0), TrainingError, "at least 50"),
    "absent device": (lambda _: trainer("cuda:99"), TrainingError, "'cuda:99' is not on this machine; it has .*cpu"),
    "truncated checkpoint": (lambda folder: load(folder, None), CheckpointError, "cut short"),
    "foreign checkpoint": (lambda folder: load(folder, b"\x80\x04K\x01."), CheckpointError, "something else"),
    "absent checkpoint": (lambda at: ModelCheckpoint(at).load_best(LINE), CheckpointError, "No such file"),
    "impossible folds": (lambda _: WalkForwardValidator(10, 0.2, 12).get_splits(), TrainingError, "would fit"),
    "unknown model": (lambda _: build_model("lsmt"), ConfigurationError, "did you mean 'lstm'"),
    "unknown loss": (lambda _: create_loss_function("hubber"), TrainingError, "did you mean 'huber'"),
    "unknown optimizer": (lambda _: create_optimizer(LINE, "adamm"), TrainingError, "did you mean 'adam'"),
    "unknown scheduler": (
        lambda _: create_scheduler(create_optimizer(LINE), "plato"), TrainingError, "did you mean 'plateau'"
    ),
    "horizon beyond the data": (
        lambda _: prepare_data(candles_of(300), horizon=300), CandleDataError, "300 bars; at least 301 are needed"
    ),
    "gap beyond the data": (lambda _: create_data_loaders(X, Y, gap=32), TrainingError, "leave 0 to train on"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_is_told(case: str, tmp_path: Path) -> None:
    call, kind, words = CASES[case]
    before = LINE.weight.clone()
    with pytest.raises(kind, match=words) as caught:
        call(tmp_path)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert torch.equal(LINE.weight, before)


def test_a_feature_that_does_not_move_is_no_error() -> None:
    train, _ = create_data_loaders(X, Y)
    assert (next(iter(train))[0] == 0).all()
