"""Optimizers and schedules by name; what is wrong is told before the first step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau, StepLR

from trading_bot.errors import TrainingError
from trading_bot.training.optimizers import OPTIMIZERS, SCHEDULERS, create_optimizer, create_scheduler


def line() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


@pytest.mark.parametrize(("name", "kind"), [("adam", Adam), ("adamw", AdamW), ("sgd", SGD), ("rmsprop", RMSprop)])
def test_all_of_them_learn(name: str, kind: type[Any]) -> None:
    assert len(OPTIMIZERS) == 4
    model = line()
    optimizer = create_optimizer(model, name.upper(), lr=0.02)
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == 0.02
    assert optimizer.param_groups[0].get("fused") == (None if name == "rmsprop" else True)
    X = torch.randn(64, 3)
    y = X @ torch.tensor([[1.0], [-2.0], [0.5]])
    losses = []
    for _ in range(200):
        loss = (model(X) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0]


def test_defaults_and_options() -> None:
    assert create_optimizer(line()).param_groups[0]["lr"] == 0.001
    assert type(create_optimizer(line())) is Adam
    assert create_optimizer(line(), "sgd").param_groups[0]["momentum"] == 0.9
    chosen = create_optimizer(line().parameters(), "sgd", momentum=0.5, weight_decay=0.1).param_groups[0]
    assert (chosen["momentum"], chosen["weight_decay"]) == (0.5, 0.1)


@pytest.mark.parametrize("option", ["foreach", "differentiable"])
@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_another_way_to_step_may_be_chosen(name: str, option: str) -> None:
    group = create_optimizer(line(), name, **{option: True}).param_groups[0]
    assert group[option] is True
    assert not group["fused"]
    assert not create_optimizer(line(), name, fused=False).param_groups[0]["fused"]


def test_only_what_has_a_gradient_is_trained() -> None:
    model = line()
    model.bias.requires_grad_(False)
    assert create_optimizer(model).param_groups[0]["params"] == [model.weight]
    model.weight.requires_grad_(False)
    with pytest.raises(TrainingError, match="there is no parameter to train"):
        create_optimizer(model)
    with pytest.raises(TrainingError, match="there is no parameter to train"):
        create_optimizer([])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("adan", {}, "unknown optimizer 'adan'; did you mean 'adam'"),
        ("lion", {}, "there are adam, adamw, sgd, rmsprop"),
        (None, {}, "unknown optimizer None"),
        ("adam", {"lr": 0}, "lr is 0; wanted a learning rate above 0"),
        ("adam", {"lr": -0.1}, "lr is -0.1"),
        ("adam", {"lr": float("nan")}, "lr is nan"),
        ("adam", {"lr": float("inf")}, "lr is inf"),
        ("adam", {"lr": True}, "lr is True"),
        ("adam", {"lr": "0.1"}, "lr is '0.1'"),
        ("adam", {"weight_decai": 0.1}, "optimizer 'adam': unknown option 'weight_decai'; did you mean 'weight_decay'"),
        ("adam", {"momentum": 0.9}, "optimizer 'adam': unknown option 'momentum'"),
        ("rmsprop", {"fused": True}, "unknown option 'fused'"),
        ("adam", {"betas": (2.0, 0.9)}, "optimizer 'adam' cannot be made of .*: Invalid beta"),
        ("sgd", {"momentum": 0, "nesterov": True}, "optimizer 'sgd' cannot be made of"),
        ("adamw", {"fused": True, "foreach": True}, "optimizer 'adamw' cannot be made of"),
    ],
)
def test_optimizers_that_cannot_be(name: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        create_optimizer(line(), name, **options)


def rates(name: str, epochs: int, losses: list[float] | None = None, **options: Any) -> list[float]:
    optimizer = create_optimizer(line(), "sgd", lr=1.0)
    scheduler = create_scheduler(optimizer, name, **options)
    seen = []
    for epoch in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(*([] if losses is None else [losses[epoch]]))  # type: ignore[arg-type]
    return seen


def test_the_three_schedules() -> None:
    assert len(SCHEDULERS) == 3
    assert rates("step", 21) == pytest.approx([1.0] * 10 + [0.1] * 10 + [0.01])
    assert rates("Step", 5, step_size=2, gamma=0.5) == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert rates("cosine", 3, T_max=2) == pytest.approx([1.0, 0.5, 0.0], abs=1e-12)
    assert rates("cosine", 101)[50] == pytest.approx(0.5)
    assert rates("plateau", 5, [3.0, 2.0, 2.0, 2.0, 2.0], patience=1) == pytest.approx([1, 1, 1, 1, 0.1])
    optimizer = create_optimizer(line())
    kinds = {name: type(create_scheduler(optimizer, name)) for name in SCHEDULERS}
    assert kinds == {"step": StepLR, "cosine": CosineAnnealingLR, "plateau": ReduceLROnPlateau}
    assert type(create_scheduler(optimizer)) is CosineAnnealingLR


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("cosin", {}, "unknown scheduler 'cosin'; did you mean 'cosine'"),
        ("warmup", {}, "there are step, cosine, plateau"),
        ("cosine", {"t_max": 5}, "scheduler 'cosine': unknown option 't_max'; did you mean 'T_max'"),
        ("step", {"T_max": 5}, "scheduler 'step': unknown option 'T_max'"),
        ("step", {"step_size": 0}, "step_size is 0; wanted a whole number of epochs ≥ 1"),
        ("cosine", {"T_max": 0}, "T_max is 0; wanted a whole number of epochs ≥ 1"),
        ("cosine", {"T_max": 2.5}, "T_max is 2.5"),
        ("plateau", {"factor": 2.0}, "scheduler 'plateau' cannot be made of .*: Factor should be"),
        ("plateau", {"mode": "lowest"}, "scheduler 'plateau' cannot be made of"),
    ],
)
def test_schedules_that_cannot_be(name: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        create_scheduler(create_optimizer(line()), name, **options)
    with pytest.raises(TrainingError, match="scheduler 'step' cannot be made of"):
        create_scheduler(None, "step")  # type: ignore[arg-type]
