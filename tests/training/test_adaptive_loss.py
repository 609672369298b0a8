"""The executor of all policies: what it makes of several losses, what it counts, and what it tells; and the manager."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trading_bot.errors import ConfigurationError, TrainingDiverged, TrainingError
from trading_bot.training.adaptive_loss import (
    COMBINATIONS,
    AdaptiveLossConfig,
    AdaptiveLossFunction,
    LossSelectionManager,
    create_adaptive_loss,
)
from trading_bot.training.adaptive_loss_inner import alignment
from trading_bot.training.adaptive_loss_record import LossRecord
from trading_bot.training.loss_frame import Loss
from trading_bot.training.loss_functions import (
    CombinedLoss,
    DLFLoss,
    HuberLoss,
    MAELoss,
    MSELoss,
    QuantileLoss,
    RobustLoss,
)
from trading_bot.training.weight_policies import Setting, create_policy


def pair(seed: int = 0, rows: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions that have a gradient, and targets."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(rows, 1, generator=generator)
    return (y + torch.randn(rows, 1, generator=generator)).requires_grad_(), y


def run(loss: AdaptiveLossFunction, steps: int, first: int = 0) -> None:
    for number in range(first, first + steps):
        loss(*pair(number))


class Script(Loss):
    """A loss whose values are given, 1 after the last of them; it pulls every prediction down alike."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values: Iterator[float] = iter(values)
        self.now = 0.0

    def measure(self, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.now = next(self.values, 1.0)
        return y_hat.mean() - y_hat.mean().detach() + self.now

    def measure_within(self, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return y_hat.mean() * 0 + self.now


class Steep(Loss):
    """A loss of 1 whose gradient is not finite."""

    def measure(self, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (y_hat - y_hat.detach()).sum().abs().sqrt() + 1.0


# ── one batch ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_value_and_gradient_are_those_of_the_combined_loss() -> None:
    losses: dict[str, Loss] = {"mse": MSELoss(), "dlf": DLFLoss(), "robust": RobustLoss()}
    loss = create_adaptive_loss(losses, "fixed", weights={"mse": 2, "dlf": 1, "robust": 1}, calibration_steps=5)
    run(loss, 10)
    assert loss.weights == {"mse": 0.5, "dlf": 0.25, "robust": 0.25}
    robust = RobustLoss()
    robust.load_state_dict(losses["robust"].state_dict())
    peer = CombinedLoss({"mse": MSELoss(), "dlf": DLFLoss(), "robust": robust}, loss.weights, loss.scales)
    ours, theirs = pair(99), pair(99)
    value, expected = loss(*ours), peer(*theirs)
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert loss.components == pytest.approx(peer.components)
    (3 * value).backward()
    (3 * expected).backward()
    assert ours[0].grad is not None
    assert torch.allclose(ours[0].grad, theirs[0].grad, atol=1e-7)  # type: ignore[arg-type]
    loss.eval()
    peer.eval()
    assert loss(*pair(98)).item() == pytest.approx(peer(*pair(98)).item(), rel=1e-6)


def test_scales_are_medians_of_the_first_steps_and_frozen_then() -> None:
    values = [3.0, -1.0, 2.0, 10.0, 0.5]
    loss = create_adaptive_loss({"a": Script(values), "b": MSELoss()}, "cov", calibration_steps=5)
    seen = []
    for number in range(7):
        loss(*pair(number))
        seen.append(loss.scales["a"])
    assert seen == [3.0, 2.0, 2.0, 2.5, 2.0, 2.0, 2.0]
    assert not create_adaptive_loss("basic", "cov").calibrated
    assert loss.calibrated


def test_the_default_calibration_is_a_hundred_steps_of_equal_weights() -> None:
    loss = create_adaptive_loss("basic", "rlw")
    run(loss, 100)
    assert loss.weights == {"mse": 0.5, "mae": 0.5}
    scales = loss.scales
    run(loss, 20, 100)
    assert loss.weights != {"mse": 0.5, "mae": 0.5}
    assert loss.scales == scales


def test_shapes_half_precision_and_autocast() -> None:
    loss = create_adaptive_loss("comprehensive", "cov")
    p, y = pair()
    value = loss(p.detach()[:, 0], y)
    assert loss(p.unsqueeze(2), y).item() == pytest.approx(value.item(), rel=0.2)  # the median has moved
    half = p.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        made: Any = loss(half, y)
    assert made.dtype == torch.float32
    made.backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16


def test_what_is_not_finite_is_skipped_and_counted() -> None:
    loss = create_adaptive_loss(
        {"a": Script([1.0, math.nan, 1.0, math.inf]), "b": MSELoss()}, "fixed", calibration_steps=1
    )
    loss(*pair())
    bad = pair(1)
    value: Any = loss(*bad)
    assert value.item() == pytest.approx(0.5 * loss.components["b"] / loss.scales["b"])
    value.backward()
    assert bad[0].grad is not None
    assert torch.isfinite(bad[0].grad).all()
    assert math.isnan(loss.components["a"])
    run(loss, 3, 2)
    assert loss.skipped == {"a": 2, "b": 0}
    steep = create_adaptive_loss({"a": Steep(), "b": MSELoss()}, "fixed")
    made = pair()
    value = steep(*made)
    value.backward()
    assert steep.skipped == {"a": 1, "b": 0}, "a gradient that is not finite counts as well"
    assert torch.isfinite(made[0].grad).all()  # type: ignore[arg-type]


def test_ten_in_a_row_are_an_error() -> None:
    loss = create_adaptive_loss({"a": Script([math.nan] * 9 + [1.0] + [math.nan] * 10), "b": MSELoss()}, "fixed")
    run(loss, 19)
    with pytest.raises(TrainingDiverged, match="'a' was not finite in 10 steps in a row"):
        loss(*pair())
    assert loss.skipped == {"a": 19, "b": 0}


def test_no_weight_moves_on_a_step_that_is_not_whole() -> None:
    loss = create_adaptive_loss({"a": Script([1.0, 1.0, math.nan]), "b": MSELoss()}, "rlw", calibration_steps=1)
    run(loss, 2)
    weights = loss.weights
    loss(*pair(2))
    assert loss.weights == weights
    loss(*pair(3))
    assert loss.weights != weights


def test_arguments_that_are_not_finite_are_errors() -> None:
    loss = create_adaptive_loss("trading_focused", "cov")
    p, y = pair()
    with pytest.raises(TrainingError, match="predictions hold NaN in row 3"):
        loss(p.detach().index_fill(0, torch.tensor([3]), math.nan), y)
    with pytest.raises(TrainingError, match="targets hold infinity in row 3"):
        loss(p, y.index_fill(0, torch.tensor([3]), math.inf))
    with pytest.raises(TrainingError, match="wanted the same"):
        loss(p, y[:5])
    assert loss.steps == 0
    assert math.isfinite(loss(p.detach() * 1e30, y).item()), "what is finite, of whatever size, is measured"


def test_redundant_losses_are_told() -> None:
    loss = create_adaptive_loss({"mae": MAELoss(), "again": MAELoss(), "mse": MSELoss()}, "fixed")
    run(loss, 20)
    assert [(a, b) for a, b, _ in loss.redundant] == [("mae", "again")]
    assert loss.redundant[0][2] == pytest.approx(1.0)


def test_sigma_reaches_every_part_and_the_metric() -> None:
    loss = create_adaptive_loss("comprehensive", "fixed", sigma=0.02)
    modules = [module for module in loss.modules() if isinstance(module, Loss)]
    assert len(modules) == 6
    assert {round(float(module.sigma), 6) for module in modules} == {0.02}
    loss.fit_scale(np.array([1.0, -1.0]))
    assert float(loss.metric.sigma) == 1.0


def test_robust_keeps_learning_its_width_inside() -> None:
    loss = create_adaptive_loss("robust_prediction", "fixed")
    run(loss, 3)
    width = float(loss.parts["robust"].delta)  # type: ignore[arg-type]
    assert width > 0
    loss.eval()
    run(loss, 1, 5)
    assert float(loss.parts["robust"].delta) == width  # type: ignore[arg-type]


# ── the inner-validation batch ───────────────────────────────────────────────────────────────────────────────────────


def test_alignment_by_hand_and_nothing_else_moves() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.Dropout(0.5), torch.nn.Linear(2, 1)
    )
    X, y = torch.randn(16, 2), torch.randn(16, 1)
    model(X)
    losses: list[Loss] = [MSELoss(), HuberLoss()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chance = torch.get_rng_state()
    found = alignment(model, (X, y), MAELoss(), losses)
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert model.training
    assert model[2].training
    assert all(parameter.grad is None for parameter in model.parameters())
    model.eval()

    def gradient(loss: Loss) -> torch.Tensor:
        made = torch.autograd.grad(loss(model(X), y), list(model.parameters()))
        return torch.cat([each.flatten() for each in made])

    metric = gradient(MAELoss())
    expected = [float(torch.cosine_similarity(metric, gradient(loss), dim=0)) for loss in losses]
    assert found.cosines == pytest.approx(expected, abs=1e-6)
    assert found.metric == pytest.approx(float(MAELoss()(model(X), y).detach()))


def test_without_inner_validation_it_says_so_at_the_first_step() -> None:
    for name in ("performance_based", "hybrid"):
        loss = create_adaptive_loss("basic", name)
        with pytest.raises(
            TrainingError, match=r"needs inner-validation batches and has none.*create_adaptive_trainer"
        ):
            loss(*pair())


# ── state ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_state_goes_on_with_the_same_bits_and_refuses_another() -> None:
    loss, other = (create_adaptive_loss("comprehensive", "relobralo", calibration_steps=20) for _ in range(2))
    run(loss, 33)
    other.load_state_dict(loss.state_dict())
    run(loss, 30, 33)
    run(other, 30, 33)
    assert loss.get_extra_state() == other.get_extra_state()
    assert len(loss.record.lines) == 6
    with pytest.raises(TrainingError, match=r"the state is of ReLoBRaLo over mse, dlf.*go on with the same"):
        create_adaptive_loss("comprehensive", "cov").load_state_dict(loss.state_dict())


# ── the record ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_effectiveness_by_hand() -> None:
    record = LossRecord(("a", "b"), 1)
    for step, (losses, weights) in enumerate([((2, 10), (0.5, 0.5)), ((1, 10), (0.7, 0.3)), ((1, 5), (0.6, 0.4))]):
        record.add(step + 1, losses, weights)
    found = record.effectiveness((1.0, 10.0))
    assert found is not None
    assert found.start == 1.5
    assert found.end == pytest.approx(0.8)
    assert found.by_loss["a"] == {"learning": pytest.approx(-0.6), "reweighting": pytest.approx(0.3 - 0.1)}
    assert found.by_loss["b"] == {"learning": pytest.approx(-0.175), "reweighting": pytest.approx(-0.2 + 0.075)}
    assert found.learning + found.reweighting == pytest.approx(found.change, abs=1e-15)
    assert record.effectiveness((1.0, 10.0), since=2) is None


def test_effectiveness_adds_up_on_a_real_run_and_is_all_reweighting_where_nothing_is_learned() -> None:
    loss = create_adaptive_loss("comprehensive", "rlw", calibration_steps=20)
    run(loss, 200)
    found = loss.effectiveness()
    assert found is not None
    assert found.learning + found.reweighting == pytest.approx(found.change, abs=1e-12)
    assert found.end - found.start == found.change
    assert sum(part["learning"] for part in found.by_loss.values()) == pytest.approx(found.learning, abs=1e-12)
    still = create_adaptive_loss({"a": Script([]), "b": Script([2.0] * 999)}, "rlw", calibration_steps=20)
    run(still, 100)
    flat = still.effectiveness()
    assert flat is not None
    assert flat.learning == 0.0
    assert flat.reweighting == pytest.approx(flat.change)


def test_history_as_json_and_csv(tmp_path: Path) -> None:
    loss = create_adaptive_loss({"a": Script([1.0] * 10 + [math.nan] * 2 + [1.0] * 8), "b": MSELoss()}, "rlw",
                                calibration_steps=5, record_every=2)  # fmt: skip
    run(loss, 20)
    scales = list(loss.scales.values())
    loss.record.save(tmp_path / "deep" / "history.json", scales)
    loss.record.save(tmp_path / "history.csv", scales)
    told = json.loads((tmp_path / "deep" / "history.json").read_text())
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    assert told["scales"] == loss.scales
    assert [row["step"] for row in told["lines"]] == list(range(2, 21, 2))
    assert list(rows[0]) == ["step", "combined", "loss_a", "loss_b", "weight_a", "weight_b"] == list(told["lines"][0])
    assert float(rows[-1]["weight_a"]) == loss.weights["a"]
    assert told["lines"][5]["loss_a"] is None, "two steps of NaN"
    assert rows[5]["loss_a"] == ""
    with pytest.raises(TrainingError, match=r"wanted \.json or \.csv"):
        loss.record.save(tmp_path / "history.txt", scales)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot be written"):
        loss.record.save(tmp_path / "file" / "history.csv", scales)


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"combination": "trading"}, "did you mean 'trading_focused'"),
        ({"combination": {}}, "wanted one of basic"),
        ({"combination": {"a": "MSEE", "b": "MAE"}}, "did you mean 'mse'"),
        ({"combination": {"a": 7}}, "wanted one of this package's"),
        ({"combination": {"q": QuantileLoss((0.1, 0.9))}}, "the metric wants 1 numbers per target and the losses 2"),
        ({"combination": {f"l{i}": "mse" for i in range(21)}}, "at most 20"),
        ({"adaptation_strategy": "performance"}, "did you mean 'performance_based'"),
        ({"adaptation_frequency": 0}, "wanted a whole number ≥ 1"),
        ({"performance_window": 2.5}, "wanted a whole number ≥ 1"),
        ({"seed": -1}, "wanted a whole number ≥ 0"),
        ({"calibration_steps": 0}, "wanted a whole number ≥ 1"),
        ({"sigma": -1.0}, "sigma is -1.0"),
        ({"metric": "mea"}, "unknown loss 'mea'"),
        ({"beta": 1.0}, "unknown option of performance_based 'beta'"),
        ({"combination": {"q": "mse"}, "metric": None, "adaptation_strategy": "fixed", "weights": {"x": 1}}, "unknown"),
    ],
)
def test_bad_input(given: dict[str, Any], match: str) -> None:
    with pytest.raises(TrainingError, match=match):
        create_adaptive_loss(**given)


def test_a_policy_of_other_losses_is_an_error() -> None:
    with pytest.raises(TrainingError, match="wanted the same names in the same order"):
        AdaptiveLossFunction({"a": MSELoss(), "b": MAELoss()}, create_policy("fixed", Setting(("b", "a"))))


# ── the manager ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_combinations() -> None:
    manager = LossSelectionManager()
    assert manager.list_combinations() == [
        "basic", "trading_focused", "robust_prediction", "comprehensive", "directional_focused",
    ]  # fmt: skip
    for name in manager.list_combinations():
        info = manager.get_combination_info(name)
        assert info.best_for
        assert info.use_case
        made = manager.create_adaptive_loss(name, "cov")
        assert list(made.weights) == list(info.losses)
        assert math.isfinite(made(*pair(rows=64)).item())
    with pytest.raises(TrainingError, match="did you mean 'comprehensive'"):
        manager.get_combination_info("comprehensiv")


@pytest.mark.parametrize(
    ("task", "levels", "combination"),
    [
        ("baseline", {}, "basic"),
        ("regression", {}, "basic"),
        ("regression", {"noise": "high"}, "robust_prediction"),
        ("trading", {"noise": "high", "volatility": "high"}, "trading_focused"),
        ("direction", {}, "directional_focused"),
        ("general", {}, "comprehensive"),
        ("general", {"volatility": "high", "trend": "high"}, "robust_prediction"),
        ("general", {"trend": "high"}, "directional_focused"),
        ("general", {"volatility": "low", "noise": "low"}, "basic"),
    ],
)
def test_recommendation(task: str, levels: dict[str, str], combination: str) -> None:
    found = LossSelectionManager().recommend(task, **levels)
    assert found.combination == combination
    assert found.reason.startswith(f"{combination} for {task} (volatility ")


def test_recommendation_from_data() -> None:
    manager, random = LossSelectionManager(), np.random.default_rng(0)
    quiet = random.normal(size=2000)
    assert manager.recommend_from_data(quiet).combination == "comprehensive"
    assert abs(manager.recommend_from_data(quiet).measured["trend"]) < 2
    heavy = manager.recommend_from_data(random.standard_t(3, 2000))
    assert heavy.combination == "robust_prediction"
    assert "noise high" in heavy.reason
    assert heavy.measured["noise"] > 5
    trending = np.convolve(random.normal(size=2019), np.ones(20) / 20, "valid")
    assert manager.recommend_from_data(trending).combination == "directional_focused"
    wilder = np.concatenate([quiet[:1600], 3 * quiet[1600:]])
    assert "volatility high" in manager.recommend_from_data(wilder).reason
    assert COMBINATIONS[manager.recommend_from_data(quiet, "trading").combination].name == "trading_focused"


@pytest.mark.parametrize(
    ("returns", "match"),
    [([0.1] * 10, "there are 10 returns"), ([0.1] * 60, "never move"), ([math.nan] * 60, "60 of them not finite"),
     (["a"] * 60, "are no numbers")],
)  # fmt: skip
def test_returns_that_tell_nothing(returns: Any, match: str) -> None:
    with pytest.raises(TrainingError, match=match):
        LossSelectionManager().recommend_from_data(returns)


def test_unknown_tasks_and_levels() -> None:
    with pytest.raises(TrainingError, match="did you mean 'trading'"):
        LossSelectionManager().recommend("tradin")
    with pytest.raises(TrainingError, match="noise is 'loud'; wanted one of low, medium, high"):
        LossSelectionManager().recommend("general", noise="loud")


def test_configuration_there_and_back(tmp_path: Path) -> None:
    manager = LossSelectionManager()
    config = AdaptiveLossConfig(
        combination={"mine": "MSE", "other": "DLF"}, adaptation_strategy="schedule_based", adaptation_frequency=25,
        options={"shape": "cosine", "start": {"mine": 1, "other": 1}, "metric": "mse", "calibration_steps": 7},
    )  # fmt: skip
    manager.save(tmp_path / "deep" / "loss.json", config)
    assert manager.load(tmp_path / "deep" / "loss.json") == config
    made = manager.create_adaptive_loss(manager.load(tmp_path / "deep" / "loss.json"))
    assert (list(made.weights), made.policy.setting.frequency, made.calibration_steps) == (["mine", "other"], 25, 7)
    assert type(made.metric) is MSELoss
    with pytest.raises(TrainingError, match="cannot be kept"):
        manager.save(tmp_path / "x.json", AdaptiveLossConfig(adaptation_strategy="cov", options={"metric": MSELoss()}))
    with pytest.raises(TrainingError, match="unknown combination"):
        manager.save(tmp_path / "x.json", AdaptiveLossConfig(combination="none"))
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "is no JSON"),
        ("[]", "holds a list"),
        ('{"combinatio": "basic"}', "did you mean 'combination'"),
        ('{"adaptation_strategy": "x"}', "unknown adaptation strategy"),
        ('{"options": 5}', "loss.json"),
        ('{"options": {"etaa": 5}}', "did you mean 'eta'"),
    ],
)
def test_configurations_that_make_no_sense(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "loss.json").write_text(text)
    with pytest.raises(ConfigurationError, match=match):
        LossSelectionManager().load(tmp_path / "loss.json")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        LossSelectionManager().load(tmp_path / "none.json")
