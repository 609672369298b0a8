"""The best model on disk: better ones replace it, others do not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trading_bot.errors import CheckpointError, TrainingError
from trading_bot.models.registry import build_model, model_config, rebuild
from trading_bot.training.checkpoint_file import read_checkpoint
from trading_bot.training.model_checkpoint import ModelCheckpoint
from trading_bot.training.training_state import save_state


def marked(number: float) -> nn.Linear:
    """A model that can be told from others."""
    model = nn.Linear(2, 1)
    nn.init.constant_(model.weight, number)
    return model


def mark(checkpoint: ModelCheckpoint) -> float:
    model = marked(-1)
    checkpoint.load_best(model)
    return model.weight[0, 0].item()


@pytest.mark.parametrize(
    ("mode", "values", "saved"),
    [
        ("min", [3.0, 4.0, 3.0, 2.0, math.nan, 2.5, -math.inf, 1.0], [0, 3, 7]),
        ("max", [3.0, 2.0, 3.0, 4.0, math.nan, 3.5, math.inf, 5.0], [0, 3, 7]),
    ],
)
def test_only_what_is_better_is_saved(tmp_path: Path, mode: Any, values: list[float], saved: list[int]) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "made" / "if absent", mode=mode)
    last = -1
    for number, value in enumerate(values):
        assert checkpoint.save(marked(number), value) == (number in saved)
        last = number if number in saved else last
        assert mark(checkpoint) == last
        assert checkpoint.best == values[last]


def test_a_value_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path)
    for value in (math.nan, math.inf, -math.inf):
        assert not checkpoint.save(marked(0), value)
    assert not list(tmp_path.iterdir())
    assert checkpoint.best is None


@pytest.mark.parametrize(
    ("given", "file"),
    [
        ("best_model", "best_model"),
        ("best_model.pt", "best_model"),
        ("a.safetensors.pt", "a"),
        ("lr.0.01", "lr.0.01"),
        ("v1.2.pth", "v1.2"),
    ],
)
def test_a_suffix_is_dropped(tmp_path: Path, given: str, file: str) -> None:
    checkpoint = ModelCheckpoint(dirpath=str(tmp_path), filename=given, monitor="val_loss", mode="min")
    checkpoint.save(marked(0), 1.0)
    assert checkpoint.path == tmp_path / f"{file}.safetensors"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{file}.json", f"{file}.safetensors"]


def test_facts_and_metadata_come_back_and_are_there_for_people(tmp_path: Path) -> None:
    metadata = {"features": ["rsi", "µ"], "scaler": {"mean": [0.1, -2.0]}, "epoch": 3, "none": None}
    checkpoint = ModelCheckpoint(tmp_path, monitor="val_mae", mode="max")
    torch.manual_seed(0)
    model = build_model("cnn", time=16, features=3)
    assert checkpoint.save(model, 0.25, metadata)
    again = rebuild(read_checkpoint(checkpoint.path)[1]["model"])
    facts = checkpoint.load_best(again)
    assert facts["metadata"] == metadata
    assert (facts["value"], facts["monitor"], facts["mode"]) == (0.25, "val_mae", "max")
    assert facts["model"] == model_config(model)
    assert json.loads((tmp_path / "best_model.json").read_text(encoding="utf-8")) == facts
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


class _Own(nn.Linear):
    """Somebody's own model, which has a `config` too."""

    config = "mine"


def test_somebodys_own_model_is_described_by_its_class(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path)
    assert checkpoint.save(_Own(2, 1), 1.0)
    facts = checkpoint.load_best(_Own(2, 1))
    assert (facts["model"], facts["class"]) == (None, "_Own")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (nn.Linear(3, 1), r"has weight \(1, 2\), the model \(1, 3\)"),
        (nn.Linear(2, 1, bias=False), "has bias, which the model lacks"),
        (nn.Sequential(nn.Linear(2, 1)), r"another architecture than Sequential: it lacks 0\.bias"),
    ],
)
def test_weights_of_another_architecture_are_refused(tmp_path: Path, other: nn.Module, words: str) -> None:
    checkpoint = ModelCheckpoint(tmp_path)
    checkpoint.save(marked(0), 1.0)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load_best(other)
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())


def test_what_is_not_there_or_something_else_is_refused(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path)
    with pytest.raises(CheckpointError, match="No such file"):
        checkpoint.load_best(marked(0))
    save_state(checkpoint.path, {"model": marked(0).state_dict()})
    with pytest.raises(CheckpointError, match="another architecture"):
        checkpoint.load_best(marked(0))
    torch.save(marked(0).state_dict(), checkpoint.path)
    with pytest.raises(CheckpointError, match="no whole checkpoint of this program"):
        checkpoint.load_best(marked(0))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mode": "lowest"}, r"mode is 'lowest'; wanted 'min' \(losses\) or 'max' \(scores\)"),
        ({"filename": ""}, "filename is ''; wanted the name of a file"),
        ({"filename": ".pt"}, "filename is '.pt'"),
        ({"filename": "../model"}, "without a folder"),
        ({"filename": "sub/model.pt"}, "without a folder"),
    ],
)
def test_bad_requests(tmp_path: Path, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        ModelCheckpoint(tmp_path, **wrong)


def test_what_cannot_be_written_is_told_and_is_not_the_best(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path)
    with pytest.raises(CheckpointError, match="metadata is not JSON"):
        checkpoint.save(marked(0), 1.0, {"model": marked(0)})
    (tmp_path / "file").write_text("")
    blocked = ModelCheckpoint(tmp_path / "file")
    with pytest.raises(CheckpointError, match="cannot be written"):
        blocked.save(marked(0), 1.0)
    assert checkpoint.best is blocked.best is None
    (tmp_path / "best_model.json").mkdir()
    with pytest.raises(CheckpointError, match=r"best_model\.json cannot be written"):
        checkpoint.save(marked(0), 1.0)
