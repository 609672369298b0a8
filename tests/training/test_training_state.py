"""A state comes back as it was, key for key and bit for bit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trading_bot.errors import CheckpointError
from trading_bot.training.checkpoint_file import write_checkpoint
from trading_bot.training.optimizers import OPTIMIZERS, SCHEDULERS, create_optimizer, create_scheduler
from trading_bot.training.training_state import load_state, save_state


def assert_same(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    if isinstance(wanted, torch.Tensor):
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted)
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted)
        assert [type(key) for key in found] == [type(key) for key in wanted]
        for key, value in wanted.items():
            assert_same(found[key], value)
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other)
    elif isinstance(wanted, float) and math.isnan(wanted):
        assert math.isnan(found)
    else:
        assert found == wanted


def test_round_trip(tmp_path: Path) -> None:
    state: dict[Any, Any] = {
        "tensors": {"a/b": torch.rand(3), "a": {"b": torch.zeros(2, dtype=torch.int64)}},
        1: {0: torch.tensor(1.5), "0": torch.tensor(2.5), 2.5: "a float", True: "not 1"},
        "tuple": (0.9, 0.999, (torch.tensor([]), [])),
        "list": [1, [2.0, (3,)], {}, None, False, ""],
        "numbers": [math.inf, -math.inf, math.nan, 0.1 + 0.2, 5e-324, 2**70, -0.0],
        "words that mean something": {"__tensor__": "x", "tuple": [1], "items": [[1, 2]]},
        "generator": torch.get_rng_state(),
    }
    save_state(tmp_path / "new" / "state", state)
    assert_same(load_state(tmp_path / "new" / "state"), state)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_optimizers_and_schedulers_come_back(tmp_path: Path, optimizer: str, scheduler: str) -> None:
    torch.manual_seed(1)
    model = nn.Linear(3, 1)
    steps = create_optimizer(model, optimizer)
    rates = create_scheduler(steps, scheduler)
    for _ in range(3):
        steps.zero_grad()
        model(torch.randn(5, 3)).square().sum().backward()
        steps.step()
        rates.step(1.0) if scheduler == "plateau" else rates.step()  # type: ignore[arg-type]
    state = {"optimizer": steps.state_dict(), "scheduler": rates.state_dict()}
    save_state(tmp_path / "state", state)
    found = load_state(tmp_path / "state")
    assert_same(found["scheduler"], state["scheduler"])
    assert_same(found["optimizer"]["param_groups"], state["optimizer"]["param_groups"])
    assert_same(found["optimizer"]["state"], dict(state["optimizer"]["state"]))


@pytest.mark.parametrize("thing", [lambda: None, object(), {1, 2}, {(1, 2): 3}, {None: 1}, b"bytes"])
def test_what_cannot_be_written_is_told_before_anything_is(tmp_path: Path, thing: Any) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be saved to be resumed: /scheduler/0 .*wanted states"):
        save_state(tmp_path / "state", {"scheduler": [thing]})
    assert not list(tmp_path.iterdir())


def test_what_is_no_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with pytest.raises(CheckpointError, match="No such file"):
        load_state(path)
    write_checkpoint(path, {}, {"kind": "forecaster"})
    with pytest.raises(CheckpointError, match="is no state of a training but a forecaster"):
        load_state(path)
    write_checkpoint(path, {}, {})
    with pytest.raises(CheckpointError, match="is no state of a training but a model"):
        load_state(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="cut short"):
        load_state(path)
