"""Each loss against its formula in float64, written out plainly; its gradient against differences of that formula."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from trading_bot.training.loss_functions import create_loss_function

Array = npt.NDArray[np.float64]
SIGMA = 0.02
COST = 0.001 / SIGMA


def mismatch(zh: Array, z: Array) -> Array:
    return np.asarray(0.5 * (1 - np.tanh(zh) * np.sign(z))[np.abs(z) >= 0.05])


def psi(change: Array) -> Array:
    return np.asarray(np.sqrt(change**2 + 1e-6) - 1e-3)


def gain(zh: Array, z: Array) -> Array:
    """Along the horizon."""
    a = np.tanh(zh)
    g = a * z
    g[:, 1:] -= COST * psi(np.diff(a, axis=1))
    return np.asarray(g)


def huber(e: Array, delta: float) -> Array:
    return np.where(np.abs(e) <= delta, 0.5 * e**2, delta * (np.abs(e) - 0.5 * delta))


def robust(zh: Array, z: Array, widths_of: Array) -> float:
    sizes = np.sort(np.abs(widths_of).ravel())
    delta = max(float(sizes[int(np.ceil(0.75 * sizes.size)) - 1]), 0.05)
    return float(np.mean(huber(zh - z, delta)) / delta)


def asymmetric(zh: Array, z: Array, weights_of: Array) -> float:
    m = np.where(np.abs(z) >= 0.05, 0.5 * (1 - np.tanh(weights_of) * np.sign(z)), 0)
    return float(np.mean((1 + m) * np.abs(zh - z)))


def pinball(zh: Array, z: Array, q: float) -> float:
    u = SIGMA * (z - zh)
    return float(np.mean(np.maximum(q * u, (q - 1) * u)))


def mae(zh: Array, z: Array) -> float:
    return float(np.mean(np.abs(zh - z)))


def gmadl(zh: Array, z: Array) -> float:
    return float(2 * np.mean((0.5 - 1 / (1 + np.exp(-5 * zh * z))) * np.abs(z)))


# of ẑ, z, and ẑ once more where the formula detaches it
FORMULAS: dict[str, Callable[[Array, Array, Array], float]] = {
    "mse": lambda zh, z, _: float(np.mean((zh - z) ** 2)),
    "mae": lambda zh, z, _: mae(zh, z),
    "huber": lambda zh, z, _: float(np.mean(huber(zh - z, 1.345))),
    "quantile": lambda zh, z, _: pinball(zh, z, 0.5),
    "directional": lambda zh, z, _: float(np.mean((zh - z) ** 2) + np.mean(mismatch(zh, z))) / 2,
    "sharpe": lambda zh, z, _: float(1 - gain(zh, z).mean() / np.sqrt((gain(zh, z) ** 2).mean() + 0.01)),
    "return_volatility": lambda zh, z, _: float(-gain(zh, z).mean() + 0.5 * gain(zh, z).var()),
    "DLF": lambda zh, z, _: (mae(zh, z) + float(np.mean(mismatch(zh, z)))) / 2,
    "TRADING_LOSS": lambda zh, z, _: (mae(zh, z) + float(np.mean(np.abs(z) - gain(zh, z)))) / 2,
    "ROBUST": lambda zh, z, still: robust(zh, z, still - z),
    "ASYMMETRIC": asymmetric,
    "MADL": lambda zh, z, _: gmadl(zh, z),
    "std": lambda zh, z, _: float(-gain(zh, z).mean() + 0.05 * np.sqrt(gain(zh, z).var() + 1e-6)),
    "pinball": lambda zh, z, _: pinball(zh, z, 0.7),
    "quantile 0.9": lambda zh, z, _: pinball(zh, z, 0.9),
}
OPTIONS: dict[str, tuple[str, dict[str, object]]] = {
    "std": ("return_volatility", {"mode": "std"}),
    "pinball": ("asymmetric", {"mode": "pinball"}),
    "quantile 0.9": ("quantile", {"q": 0.9}),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_value_and_gradient_are_those_of_the_formula(name: str) -> None:
    random = np.random.default_rng(5)
    z, zh = random.normal(scale=0.6, size=(2, 6, 4))
    zh = np.round(zh, 2) + 0.005  # no error at a kink
    z = np.round(z, 2)
    z[0, :3] = 0.0, 0.03, -0.04  # no direction
    called, options = OPTIONS.get(name, (name, {}))
    loss = create_loss_function(called, sigma=SIGMA, **options)
    predictions = torch.tensor(SIGMA * zh, dtype=torch.float32, requires_grad=True)
    value = loss(predictions, torch.tensor(SIGMA * z, dtype=torch.float32))
    value.backward()
    formula = FORMULAS[name]
    assert value.item() == pytest.approx(formula(zh, z, zh), rel=1e-5, abs=1e-7)
    wanted = np.empty_like(zh)
    for at in np.ndindex(zh.shape):
        step = np.zeros_like(zh)
        step[at] = 1e-5
        wanted[at] = (formula(zh + step, z, zh) - formula(zh - step, z, zh)) / 2e-5 / SIGMA
    assert predictions.grad is not None
    np.testing.assert_allclose(predictions.grad.numpy(), wanted, rtol=2e-3, atol=2e-5)


def test_the_cost_of_turnover_along_a_contiguous_batch() -> None:
    """The same numbers, once as one row of a horizon and once as a column of bars."""
    random = np.random.default_rng(6)
    y_hat, y = (torch.tensor(SIGMA * each, dtype=torch.float32) for each in random.normal(size=(2, 1, 20)))
    for name in ("sharpe", "return_volatility", "trading"):
        along = create_loss_function(name, sigma=SIGMA)
        rows = create_loss_function(name, sigma=SIGMA, contiguous=True)
        shuffled = create_loss_function(name, sigma=SIGMA)
        free = create_loss_function(name, sigma=SIGMA, cost=0.0)
        paid, column = along(y_hat, y), (y_hat.T, y.T)
        assert rows(*column).item() == pytest.approx(paid.item(), rel=1e-6)
        assert rows(y_hat[0], y[0]).item() == pytest.approx(paid.item(), rel=1e-6)
        assert shuffled(*column).item() == pytest.approx(free(y_hat, y).item(), rel=1e-6)
        assert paid > free(y_hat, y)
        assert torch.isfinite(rows(y_hat[0, :1], y[0, :1]))
