"""What every loss obeys, whichever it is."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from trading_bot.errors import TrainingError
from trading_bot.training.adaptive_loss import AdaptiveLossFunction
from trading_bot.training.loss_functions import LOSSES, CombinedLoss, Loss, MAELoss, QuantileLoss, create_loss_function
from trading_bot.training.position_losses import PositionLoss

SIGMA = 0.02
MAKE: dict[str, Callable[[], Loss]] = {
    **{name: partial(create_loss_function, name, sigma=SIGMA) for name in LOSSES if name != "combined"},
    "pinball": lambda: create_loss_function("asymmetric", mode="pinball", sigma=SIGMA),
    "std": lambda: create_loss_function("return_volatility", mode="std", sigma=SIGMA),
    "contiguous": lambda: create_loss_function("trading", contiguous=True, sigma=SIGMA),
    "combined": lambda: create_loss_function("combined", losses={"d": "DLF", "r": "ROBUST", "m": "mse"}, sigma=SIGMA),
    "combined of positions": lambda: create_loss_function("combined", losses={"s": "sharpe", "m": "MADL"}, sigma=SIGMA),
}
IN_UNITS = {"quantile", "pinball"}  # measured in the target's own units, without σ
every_loss = pytest.mark.parametrize("name", MAKE)


def batch(rows: int = 64, horizon: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predictions that know a little, targets that all have a direction; both (rows, horizon)."""
    generator = torch.Generator().manual_seed(seed)
    targets = SIGMA * torch.randn(rows, horizon, generator=generator)
    targets = torch.where(targets.abs() < 0.1 * SIGMA, 0.1 * SIGMA, targets)
    predictions = 0.3 * targets + 0.5 * SIGMA * torch.randn(rows, horizon, generator=generator)
    return predictions, targets


def gradient(loss: Loss, predictions: Tensor, targets: Tensor) -> Tensor:
    given_here = predictions.clone().requires_grad_()
    loss(given_here, targets).backward()
    assert given_here.grad is not None
    return given_here.grad


def test_these_are_all_there_are() -> None:
    def below(kind: type) -> Iterator[type]:
        each: type
        for each in kind.__subclasses__():
            yield each
            yield from below(each)

    single = {k for k in below(Loss) if k.__module__.startswith("trading_bot.training.") and not inspect.isabstract(k)}
    found = {kind for kind in single if not issubclass(kind, AdaptiveLossFunction)}  # that is several at once
    assert found == set(LOSSES.values())
    assert len(found) == 13
    assert {type(make()) for make in MAKE.values()} == found


@every_loss
def test_is_a_finite_float32_scalar_and_leaves_its_arguments_alone(name: str) -> None:
    predictions, targets = batch()
    before = predictions.clone(), targets.clone()
    value = MAKE[name]()(predictions, targets)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.equal(predictions, before[0])
    assert torch.equal(targets, before[1])


@every_loss
def test_a_batch_may_be_written_in_three_ways(name: str) -> None:
    predictions, targets = batch(horizon=1)
    wanted = MAKE[name]()(predictions, targets)
    shapes = ((64,), (64, 1), (64, 1, 1))
    for a in shapes:
        for b in shapes:
            assert torch.equal(MAKE[name]()(predictions.reshape(a), targets.reshape(b)), wanted)
    predictions, targets = batch(horizon=3)
    assert torch.equal(MAKE[name]()(predictions[..., None], targets), MAKE[name]()(predictions, targets))


@every_loss
@pytest.mark.parametrize("sigmas", [0.5, 3.0, 40.0, 1e4], ids=str)
def test_every_wrong_prediction_has_a_gradient_however_sure_it_is(name: str, sigmas: float) -> None:
    _, targets = batch(horizon=1)
    wrong = -sigmas * SIGMA * targets.sign()
    found = gradient(MAKE[name](), wrong, targets)
    assert torch.isfinite(found).all()
    assert (found != 0).all()


@every_loss
def test_descent_lowers_it_and_finds_the_direction(name: str) -> None:
    """From weights that are sure of the opposite, each step as long as the last."""
    features = torch.randn(256, 2, generator=torch.Generator().manual_seed(1))
    targets = SIGMA * features[:, 0]
    weights = torch.tensor([-10 * SIGMA, 0.0], requires_grad=True)
    loss = MAKE[name]()
    first = loss((features * weights).sum(1), targets).item()
    for _ in range(80):
        value = loss((features * weights).sum(1), targets)
        (slope,) = torch.autograd.grad(value, weights)
        weights = (weights - 0.2 * SIGMA * slope.sign()).detach().requires_grad_()
    assert value.item() < first
    assert weights[0].item() > 0


@every_loss
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_other_floats_are_cast_and_get_their_gradient_back(name: str, dtype: torch.dtype) -> None:
    predictions, targets = (each.to(dtype) for each in batch())
    found = gradient(MAKE[name](), predictions, targets)
    assert found.dtype == dtype
    single = gradient(MAKE[name](), predictions.float(), targets.float())
    assert torch.allclose(found.float(), single.to(dtype).float(), rtol=1e-6)


@every_loss
def test_autocast_changes_nothing(name: str) -> None:
    predictions, targets = batch()
    outside = MAKE[name]()(predictions.bfloat16(), targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = MAKE[name]()(predictions.bfloat16(), targets)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, outside)


@every_loss
def test_units_decide_nothing(name: str) -> None:
    """Returns in percent, with σ and cost in percent, are the same returns."""
    predictions, targets = batch()
    loss, in_percent = MAKE[name](), MAKE[name]()
    in_percent.set_scale(100 * SIGMA)
    for part in in_percent.modules():
        if isinstance(part, PositionLoss):
            part.cost *= 100
    wanted = loss(predictions, targets).item() * (100 if name in IN_UNITS else 1)
    assert in_percent(100 * predictions, 100 * targets).item() == pytest.approx(wanted, rel=1e-4, abs=1e-6)


@every_loss
def test_additive_means_that_halves_average_to_the_whole(name: str) -> None:
    predictions, targets = batch()
    predictions[32:] *= -1  # a good half and a bad one
    loss = MAKE[name]().eval()
    if name in ("ROBUST", "combined"):
        loss.train()(predictions, targets)  # so that there is a width
        loss.eval()
    loss_of = loss if name != "contiguous" else create_loss_function("trading", sigma=SIGMA)
    halves = (loss_of(predictions[:32], targets[:32]) + loss_of(predictions[32:], targets[32:])) / 2
    assert torch.isclose(halves, loss_of(predictions, targets), rtol=1e-5) == torch.tensor(loss.additive)
    assert loss.additive == (name not in ("sharpe", "SHARPE_LOSS", "return_volatility", "std", "combined of positions"))


@every_loss
def test_evaluation_repeats_itself_and_training_repeats_from_a_checkpoint(name: str) -> None:
    first, second = batch(seed=1), batch(seed=2)
    loss = MAKE[name]()
    loss(*first)
    loss.eval()
    state = copy.deepcopy(loss.state_dict())
    assert torch.equal(loss(*second), loss(*second))
    assert all(torch.equal(value, state[key]) for key, value in loss.state_dict().items())
    resumed = MAKE[name]()
    resumed.load_state_dict(state)
    loss.train()
    resumed.train()
    for given_now in (second, first, second):
        assert torch.equal(loss(*given_now), resumed(*given_now))


@every_loss
def test_a_graph_may_be_walked_twice(name: str) -> None:
    predictions, targets = batch()
    predictions.requires_grad_()
    value = MAKE[name]()(predictions, targets)
    (once,) = torch.autograd.grad(value, predictions, retain_graph=True)
    (again,) = torch.autograd.grad(value, predictions)
    assert torch.equal(once, again)


ANY_FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from(
    [3.4e38, -3.4e38, 1e30, -1e30, 1e20, -1e19, 1e-30, 0.0, 0.02, -0.02]
)


@every_loss
@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    numbers=arrays.arrays(np.float32, st.tuples(st.just(2), st.integers(1, 5), st.integers(1, 3)), elements=ANY_FLOAT32)
)
def test_finite_numbers_give_finite_numbers(
    name: str, numbers: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> None:
    predictions, targets = torch.from_numpy(numbers.copy()).requires_grad_()
    value = MAKE[name]()(predictions, targets)
    (found,) = torch.autograd.grad(value, predictions)
    assert torch.isfinite(value)
    assert torch.isfinite(found).all()


@every_loss
def test_what_overflows_still_points_home(name: str) -> None:
    _, targets = batch(rows=4, horizon=1)
    wrong = -1e30 * targets.sign()
    found = gradient(MAKE[name](), wrong, targets)
    assert torch.isfinite(found).all()
    assert (found != 0).all()
    if name not in ("sharpe", "SHARPE_LOSS"):  # in a book that only loses, a Sharpe ratio forgives the largest losers
        assert (found * targets < 0).all()


@every_loss
@pytest.mark.parametrize(("bad", "called"), [(float("nan"), "NaN"), (float("inf"), "infinity")])
def test_nan_and_infinity_are_named_with_their_row_and_teach_nothing(name: str, bad: float, called: str) -> None:
    for which, other in (("predictions", 0), ("targets", 1)):
        given_here = [each.clone() for each in batch()]
        given_here[other][5, 1] = bad
        loss = MAKE[name]()
        before = copy.deepcopy(loss.state_dict())
        with pytest.raises(TrainingError, match=rf"{which} hold {called} in row 5 \(1 of 192"):
            loss(*given_here)
        assert all(torch.equal(value, before[key]) for key, value in loss.state_dict().items())


@every_loss
@pytest.mark.parametrize(
    ("predictions", "targets", "words"),
    [
        (torch.zeros(4, 3), torch.zeros(4, 2), r"\(4, 3\), targets \(4, 2\)"),
        (torch.zeros(4), torch.zeros(1), r"\(4,\), targets \(1,\)"),
        (torch.zeros(4, 1), torch.zeros(1, 4), r"\(4, 1\), targets \(1, 4\)"),
        (torch.tensor(0.0), torch.tensor(0.0), r"\(\), targets \(\)"),
        (torch.zeros(4, 3, 2), torch.zeros(4, 3, 2), r"wanted the same \(batch, horizon\)"),
        (torch.zeros(0, 1), torch.zeros(0, 1), "empty batch"),
        (torch.zeros(4, dtype=torch.int64), torch.zeros(4), "int64; wanted floating point"),
        (torch.zeros(4), torch.zeros(4, dtype=torch.complex64), "complex64; wanted real"),
        (np.zeros(4), torch.zeros(4), "ndarray; wanted a torch.Tensor"),
    ],
)
def test_arguments_that_cannot_be_compared(name: str, predictions: Tensor, targets: Tensor, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        MAKE[name]()(predictions, targets)


def test_whole_numbers_will_do_as_targets() -> None:
    assert MAELoss()(torch.tensor([0.5, 1.0]), torch.tensor([1, 3])).item() == pytest.approx(1.25)


@every_loss
def test_the_scale_is_fitted_and_kept(name: str) -> None:
    loss = MAKE[name]()
    returns = np.array([0.01, -0.01, 0.03, -0.03])
    assert loss.fit_scale(returns) == pytest.approx(returns.std())
    scales = [part.sigma.item() for part in loss.modules() if isinstance(part, Loss)]
    assert scales == pytest.approx([returns.std()] * len(scales))
    other = MAKE[name]()
    other.load_state_dict(loss.state_dict())
    predictions, targets = batch()
    assert torch.equal(other(predictions, targets), loss(predictions, targets))


@pytest.mark.parametrize(
    ("targets", "words"),
    [([0.1], "1 targets have no"), ([0.1, 0.1], "deviation of 0"), ([0.1, float("nan"), 0.2], "NaN in row 1")],
)
def test_targets_without_a_scale(targets: list[float], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        MAELoss().fit_scale(targets)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf"), True, "1"])
def test_sigma_is_a_positive_number(sigma: float) -> None:
    with pytest.raises(TrainingError, match="sigma is"):
        MAELoss(sigma=sigma)


def test_several_quantiles_want_a_head_for_each() -> None:
    predictions, targets = batch()
    loss = QuantileLoss(q=(0.1, 0.5, 0.9))
    apart = [QuantileLoss(q=q)(predictions, targets) for q in (0.1, 0.5, 0.9)]
    together = loss(torch.stack([predictions] * 3, dim=2), targets)
    assert together.item() == pytest.approx(torch.stack(apart).mean().item(), rel=1e-5)
    with pytest.raises(TrainingError, match=r"wanted predictions \(batch, horizon, 3\)"):
        loss(predictions, targets)
    combined = CombinedLoss({"a": loss, "b": QuantileLoss(q=[0.2, 0.3, 0.4])})
    assert torch.isfinite(combined(torch.stack([predictions] * 3, dim=2), targets))
    with pytest.raises(TrainingError, match="q 3, m 1"):
        CombinedLoss({"q": loss, "m": MAELoss()})
