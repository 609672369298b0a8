"""The traps losses of this kind fall into, each with a version that would."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trading_bot.errors import TrainingError
from trading_bot.training.loss_functions import Loss, MADLLoss, RobustLoss, create_loss_function, madl


def market(rows: int = 512, seed: int = 3) -> Tensor:
    """Returns in σ with a slight drift, (rows,)."""
    return torch.randn(rows, generator=torch.Generator().manual_seed(seed)) + 0.1


def gradient(loss: Loss, predictions: Tensor, targets: Tensor) -> Tensor:
    given = predictions.clone().requires_grad_()
    loss(given, targets).backward()
    assert given.grad is not None
    return given.grad


@pytest.mark.parametrize("name", ["directional", "DLF"])
def test_the_direction_term_alone_moves_the_weights(name: str) -> None:
    """With sign(ŷ) in place of tanh(κẑ) this gradient is 0 everywhere."""
    targets = market()
    targets = targets[targets.abs() >= 0.05]
    found = gradient(create_loss_function(name, direction_weight=1.0), torch.zeros_like(targets), targets)
    assert torch.allclose(found, -0.5 * targets.sign() / len(targets))


@pytest.mark.parametrize("name", ["directional", "DLF", "ASYMMETRIC"])
def test_a_return_of_next_to_nothing_has_no_direction(name: str) -> None:
    """float32 0.05 has one, the number below has none."""
    edge = torch.tensor([0.05])
    below = torch.nextafter(edge, torch.zeros(1))
    loss = create_loss_function(name)
    error = {"directional": 1.05**2 / 2, "DLF": 1.05 / 2, "ASYMMETRIC": 1.05}[name]
    assert loss(torch.tensor([-1.0]), below).item() == pytest.approx(error, rel=1e-5)
    assert loss(torch.tensor([-1.0]), edge).item() > error + 0.3
    assert loss(torch.tensor([-1.0]), torch.tensor([0.0])).item() < error + 0.01


def test_sharpe_of_a_flat_book_is_finite_and_can_be_left() -> None:
    targets, loss = market(), create_loss_function("sharpe")
    flat = torch.zeros_like(targets)
    assert loss(flat, targets).item() == 1.0
    found = gradient(loss, flat, targets)
    assert torch.isfinite(found).all()
    assert (found * targets < 0).all()  # towards each return
    assert torch.isfinite(gradient(loss, flat, flat)).all()


def test_sharpe_is_within_0_and_2_and_falls_as_the_ratio_rises() -> None:
    targets, loss = market(), create_loss_function("sharpe")
    noise = market(seed=8)
    books = [skill * targets + (1 - abs(skill)) * noise for skill in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    values = [loss(book, targets).item() for book in books]
    gains = [torch.tanh(book) * targets for book in books]
    ratios = [(g.mean() / g.std()).item() for g in gains]
    assert sorted(values, reverse=True) == values
    assert sorted(ratios) == ratios
    assert all(0 <= value <= 2 for value in values)


@pytest.mark.parametrize("name", ["sharpe", "return_volatility", "trading", "MADL", "DLF", "directional"])
def test_a_straight_line_does_not_win(name: str) -> None:
    """Nor does a larger one, whose volatility is as still: what counts is what was earned."""
    targets, loss = market(), create_loss_function(name)
    better = 0.5 * targets + 0.5 * market(seed=8)
    for level in (-3.0, -0.1, 0.0, 0.1, 0.5, 3.0):
        assert loss(better, targets) < loss(torch.full_like(targets, level), targets)


@pytest.mark.parametrize("mode", ["variance", "std"])
def test_return_volatility_does_not_reward_error(mode: str) -> None:
    targets, loss = market(), create_loss_function("return_volatility", mode=mode)
    perfect, flat, inverse = (loss(share * targets, targets).item() for share in (1.0, 0.0, -1.0))
    assert perfect < flat < inverse
    noisy = [loss(targets + level * market(seed=8), targets).item() for level in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert noisy == sorted(noisy)
    found = gradient(loss, -0.5 * targets, targets)
    assert (found * targets).sum() < 0


def test_the_weight_of_a_standard_deviation_is_bounded() -> None:
    with pytest.raises(TrainingError, match=r"std_weight is 0.1; wanted a number from 0 to 0.05"):
        create_loss_function("return_volatility", mode="std", std_weight=0.1)


def test_dlf_and_trading_loss_teach_different_things() -> None:
    targets = market()
    predictions = 0.3 * market(seed=8)
    dlf, trading = (gradient(create_loss_function(name), predictions, targets) for name in ("DLF", "TRADING_LOSS"))
    assert torch.cosine_similarity(dlf, trading, dim=0) < 0.97
    direction, profit = (
        gradient(create_loss_function(name, **{option: 1.0}), predictions, targets)
        for name, option in (("DLF", "direction_weight"), ("TRADING_LOSS", "profit_weight"))
    )
    assert torch.cosine_similarity(direction, profit, dim=0) < 0.9  # one counts returns, the other weighs them


def test_trading_loss_is_never_negative() -> None:
    targets = market()
    for predictions in (targets, 1e6 * targets, -targets, torch.zeros_like(targets)):
        assert create_loss_function("trading", contiguous=True, profit_weight=1.0)(predictions, targets) >= 0


def test_asymmetry_weighs_the_error_and_is_not_itself_descended() -> None:
    targets = torch.tensor([1.0, -1.0])
    loss = create_loss_function("asymmetric")
    low, high = loss(torch.tensor([3.0, -3.0]), targets), loss(torch.tensor([-1.0, 1.0]), targets)
    assert high > 1.7 * low  # the error is 2 in both
    found = gradient(loss, torch.tensor([-1.0, 1.0]), targets)
    weight = 1 + 0.5 * (1 + torch.tanh(torch.tensor(1.0)))
    assert torch.allclose(found, 0.5 * weight * torch.tensor([-1.0, 1.0]))


def test_the_pinball_mode_biases_long() -> None:
    targets = market(4096) - 0.1
    level = torch.zeros(1)
    loss = create_loss_function("asymmetric", mode="pinball")
    for _ in range(100):
        level -= 0.5 * gradient(loss, level.expand_as(targets), targets).sum()
    assert level.item() == pytest.approx(targets.quantile(0.7).item(), abs=0.05)


def test_the_original_madl_is_a_metric_and_its_generalisation_comes_close() -> None:
    targets = market()
    predictions = market(seed=8)
    wanted = -torch.where(predictions * targets > 0, targets.abs(), -targets.abs()).mean().item()
    assert madl(predictions, targets) == pytest.approx(wanted, rel=1e-6)
    assert MADLLoss(a=1e4)(predictions, targets).item() == pytest.approx(wanted, abs=2e-3)
    assert gradient(MADLLoss(), predictions, targets).abs().max() > 0
    with pytest.raises(TrainingError, match="NaN in row 1"):
        madl(torch.tensor([1.0, float("nan")]), torch.ones(2))


def test_the_width_of_the_robust_loss_follows_the_errors_in_training_alone() -> None:
    loss = RobustLoss(sigma=0.5)
    first, second = torch.arange(1.0, 9.0), torch.arange(10.0, 90.0, 10.0)
    zeros = torch.zeros(8)
    loss.eval()
    loss(first, zeros)
    assert loss.delta.item() == 0.0
    loss.train()
    loss(first, zeros)
    assert loss.delta.item() == pytest.approx(6 / 0.5)  # the sixth of eight errors
    loss(second, zeros)
    assert loss.delta.item() == pytest.approx(0.99 * 12 + 0.01 * 120)
    loss.eval()
    loss(second, zeros)
    assert loss.delta.item() == pytest.approx(0.99 * 12 + 0.01 * 120)
    exact = RobustLoss()
    assert exact(first, first).item() == 0.0
    assert torch.isfinite(exact(first, first + 1e-3))  # a width of 0 is held at the floor


def test_one_outlier_moves_the_robust_loss_less_than_the_squared_one() -> None:
    targets = torch.zeros(100)
    predictions = market(100)
    wild = predictions.clone()
    wild[0] = 1000.0
    loss = RobustLoss().eval()
    squared = create_loss_function("mse")
    assert (
        loss(wild, targets) / loss(predictions, targets) < squared(wild, targets) / squared(predictions, targets) / 100
    )
    assert gradient(loss, wild, targets).abs().max() <= 0.01 + 1e-6
