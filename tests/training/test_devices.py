"""The device that is asked for, or what there is instead."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trading_bot.errors import TrainingError
from trading_bot.training.devices import available_devices, pick_device


def machine(monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "there"),
    [(2, True, ["cuda:0", "cuda:1", "mps", "cpu"]), (0, True, ["mps", "cpu"]), (0, False, ["cpu"])],
)
def test_auto_takes_the_fastest_kind(monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, there: list[str]) -> None:
    machine(monkeypatch, cuda, mps)
    assert available_devices() == there
    assert pick_device() == pick_device("auto") == torch.device(there[0])
    for name in there:
        assert pick_device(name) == pick_device(torch.device(name)) == torch.device(name)


def test_a_kind_needs_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 1, mps=True)
    for name in ("cuda", "cuda:0", "mps", "mps:0", "cpu", "cpu:0"):
        assert pick_device(name) == torch.device(name)


@pytest.mark.parametrize("wanted", ["cuda:1", "cuda:7", "xpu", "meta", "gpu", "", "cuda:x", None])
def test_what_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, wanted: Any) -> None:
    machine(monkeypatch, 1, mps=False)
    with pytest.raises(TrainingError, match="not on this machine; it has cuda:0, cpu: choose one of them, or 'auto'"):
        pick_device(wanted)
    machine(monkeypatch, 0, mps=False)
    with pytest.raises(TrainingError, match="device 'cuda' is not on this machine; it has cpu: choose"):
        pick_device("cuda")
