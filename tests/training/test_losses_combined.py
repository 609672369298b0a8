"""Losses together, and losses by name."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from trading_bot.errors import TrainingError
from trading_bot.training import loss_functions
from trading_bot.training.loss_functions import (
    LOSS_PRESETS,
    LOSSES,
    AsymmetricLoss,
    CombinedLoss,
    DirectionalAccuracyLoss,
    DLFLoss,
    MADLLoss,
    MAELoss,
    MSELoss,
    QuantileLoss,
    ReturnVolatilityLoss,
    RobustLoss,
    SharpeRatioLoss,
    TradingLoss,
    create_loss_function,
)


def batch() -> tuple[Tensor, Tensor]:
    predictions, targets = torch.randn(2, 64, 1, generator=torch.Generator().manual_seed(2))
    return predictions, targets


def seeds_example() -> CombinedLoss:
    return CombinedLoss(losses={"mse": MSELoss(), "mae": MAELoss()}, weights={"mse": 0.7, "mae": 0.3})


def test_the_sum_is_weighted_and_its_parts_can_be_read() -> None:
    predictions, targets = batch()
    loss = seeds_example()
    assert all(math.isnan(value) for value in loss.components.values())
    mse, mae = MSELoss()(predictions, targets).item(), MAELoss()(predictions, targets).item()
    assert loss(predictions.requires_grad_(), targets).item() == pytest.approx(0.7 * mse + 0.3 * mae)
    assert loss.components == pytest.approx({"mse": mse, "mae": mae})
    loss.set_weights({"mae": 6, "mse": 2})
    assert loss.weights == pytest.approx({"mse": 0.25, "mae": 0.75})
    loss.set_scales({"mse": 2.0, "mae": 4.0})
    assert loss(predictions, targets).item() == pytest.approx(0.25 * mse / 2 + 0.75 * mae / 4)
    assert CombinedLoss({"a": MSELoss(), "b": MAELoss()}).weights == {"a": 0.5, "b": 0.5}


def test_calibration_makes_every_part_one_and_changes_no_state_but_scales() -> None:
    predictions, targets = batch()
    loss = CombinedLoss({"robust": RobustLoss(), "sharpe": SharpeRatioLoss(), "mse": MSELoss()})
    loss(predictions, targets)
    before = copy.deepcopy(loss.state_dict())
    scales = loss.calibrate(5 * predictions, targets)
    assert scales == pytest.approx({name: abs(value) for name, value in loss.components.items()})
    after = loss.state_dict()
    assert [key for key in before if not torch.equal(before[key], after[key])] == ["_scales"]
    assert loss.training
    assert loss.eval()(5 * predictions, targets).item() == pytest.approx(1.0, abs=0.02)  # the width has an inertia


def test_scales_weights_and_widths_are_saved() -> None:
    predictions, targets = batch()
    loss = CombinedLoss({"robust": RobustLoss(), "mae": MAELoss()}, {"robust": 1, "mae": 3}, sigma=0.5)
    loss(predictions, targets)
    loss.calibrate(predictions, targets)
    other = CombinedLoss({"robust": RobustLoss(), "mae": MAELoss()})
    other.load_state_dict(loss.state_dict())
    assert other.weights == loss.weights
    assert torch.equal(other(predictions, targets), loss(predictions, targets))


def test_a_part_keeps_its_scale_unless_all_are_given_one() -> None:
    parts = {"a": MSELoss(sigma=2.0), "b": MSELoss(sigma=3.0)}
    assert [part.sigma.item() for part in CombinedLoss(parts).parts.values()] == [2.0, 3.0]  # type: ignore[operator]
    assert [part.sigma.item() for part in CombinedLoss(parts, sigma=4.0).parts.values()] == [4.0, 4.0]  # type: ignore[operator]


def test_the_whole_teaches_what_its_parts_do() -> None:
    """A robust part's width moves with it, and a combination may hold another."""
    predictions, targets = batch()
    robust = RobustLoss()
    loss = CombinedLoss({"inner": CombinedLoss({"r": robust}), "mse": MSELoss()})
    loss(predictions, targets)
    assert robust.delta.item() > 0
    assert loss.additive
    assert not CombinedLoss({"loss": loss, "s": SharpeRatioLoss()}).additive


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"losses": {}}, "no losses to combine"),
        ({"losses": {"mse": torch.nn.MSELoss()}}, "'mse' is a MSELoss; wanted one of this package's"),
        ({"losses": {"a.b": MSELoss()}}, "cannot call its part 'a.b'"),
        ({"losses": {"keys": MSELoss()}}, "cannot call its part 'keys'"),
        (
            {"losses": {"mse": MSELoss()}, "weights": {"msee": 1}},
            "unknown loss in the weights 'msee'; did you mean 'mse'",
        ),
        ({"losses": {"mse": MSELoss()}, "weights": {}}, "no weight for mse"),
        ({"losses": {"mse": MSELoss()}, "weights": {"mse": 0}}, "weights sum to 0"),
        ({"losses": {"mse": MSELoss()}, "weights": {"mse": -1}}, "weight of 'mse' is -1"),
        ({"losses": {"mse": MSELoss()}, "weights": {"mse": float("nan")}}, "weight of 'mse' is nan"),
        ({"losses": {"mse": MSELoss()}, "scales": {"mse": 0}}, "scale of 'mse' is 0"),
    ],
)
def test_what_cannot_be_combined(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        CombinedLoss(**arguments)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *LOSSES.items(),
        ("MSE", MSELoss),
        ("MSELoss", MSELoss),
        ("SharpeRatioLoss", SharpeRatioLoss),
        ("sharpe_ratio", SharpeRatioLoss),
        ("Return-Volatility", ReturnVolatilityLoss),
        ("dlf", DLFLoss),
        ("trading", TradingLoss),
        ("trading_loss", TradingLoss),
        ("sharpe_loss", SharpeRatioLoss),
        ("robust", RobustLoss),
        ("asymmetric", AsymmetricLoss),
        ("madl", MADLLoss),
        ("directional", DirectionalAccuracyLoss),
        ("DirectionalAccuracy", DirectionalAccuracyLoss),
    ],
)
def test_a_loss_by_any_of_its_names(name: str, kind: type) -> None:
    options: dict[str, Any] = {"losses": {"mse": "MSE"}} if kind is CombinedLoss else {}
    assert type(create_loss_function(name, **options)) is kind


def test_options_reach_the_class() -> None:
    loss = create_loss_function("sharpe", cost=0.01, contiguous=True, sigma=0.02)
    assert isinstance(loss, SharpeRatioLoss)
    assert (loss.cost, loss.contiguous) == (0.01, True)
    quantile = create_loss_function("quantile", q=(0.1, 0.9))
    assert isinstance(quantile, QuantileLoss)
    assert quantile.heads == 2


def test_presets_are_these_five_and_each_can_be_minimised() -> None:
    assert set(LOSS_PRESETS) == {"regression", "robust", "financial", "directional", "volatility_aware"}
    predictions, targets = batch()
    for name, weights in LOSS_PRESETS.items():
        assert sum(weights.values()) == pytest.approx(1)
        loss = create_loss_function(name.upper(), sigma=0.5)
        assert torch.isfinite(loss(predictions, targets))
        whole = CombinedLoss({part: create_loss_function(part, sigma=0.5) for part in weights}, weights)
        assert loss(predictions, targets).item() == pytest.approx(whole(predictions, targets).item())
    assert create_loss_function("regression")(predictions, targets) == seeds_example()(predictions, targets)


def test_a_preset_hands_an_option_to_those_that_know_it() -> None:
    loss = create_loss_function("financial", cost=0.05)
    costs = [part.cost for part in loss.modules() if isinstance(part, SharpeRatioLoss | TradingLoss)]
    assert costs == [0.05, 0.05]
    with pytest.raises(TrainingError, match=r"'delta'; .*there are .*cost"):
        create_loss_function("financial", delta=1)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("shrape", {}, "unknown loss 'shrape'; did you mean 'sharpe'"),
        ("finacial", {}, "did you mean 'financial'"),
        ("", {}, "unknown loss ''; there are mse, mae"),
        ("loss", {}, "unknown loss 'loss'"),
        ("huber", {"dleta": 1}, "unknown argument of HuberLoss 'dleta'; did you mean 'delta'.* there are delta, sigma"),
        ("mse", {"q": 0.5}, "unknown argument of MSELoss 'q'; there are sigma"),
        ("combined", {}, "CombinedLoss needs the argument losses"),
        ("huber", {"delta": -1}, "delta is -1; wanted a finite number above 0"),
        ("quantile", {"q": 1.0}, "q is 1.0; wanted a number between 0 and 1"),
        ("quantile", {"q": ()}, r"q is \(\); wanted"),
        ("asymmetric", {"mode": "pinbal"}, "mode is 'pinbal'; wanted 'direction' or 'pinball'"),
        ("sharpe", {"kappa": 0}, "kappa is 0"),
        ("sharpe", {"cost": -0.1}, "cost is -0.1"),
    ],
)
def test_what_cannot_be_made(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        create_loss_function(name, **options)


def test_everything_named_is_there() -> None:
    assert all(hasattr(loss_functions, name) for name in loss_functions.__all__)
    assert {kind.__name__ for kind in LOSSES.values()} <= set(loss_functions.__all__)
