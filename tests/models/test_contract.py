"""What every network of the table must do, whatever is inside it."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import json
import pkgutil
from itertools import pairwise
from typing import Any, NamedTuple, cast

import pytest
import torch
import torch._dynamo
from torch import nn

import trading_bot.models
from trading_bot.errors import TrainingError
from trading_bot.models.registry import MODELS, build_model, count_parameters, model_config, rebuild
from trading_bot.models.time_llm import READERS, TimeLLM

TIME, FEATURES = 12, 6  # smaller than the default, for speed and because other sizes must work too


class Case(NamedTuple):
    """A network of the table, one of its kinds."""

    name: str
    parameters: int  # at the default sizes
    kind: dict[str, Any]
    quick: dict[str, Any]  # sizes that spare time where they are of no concern


SHORT = {"description": "", "llm_layers": 1}  # of prompts, and of the language model
CASES = {
    "lstm": Case("lstm", 602_625, {}, {}),
    "cnn": Case("cnn", 130_081, {}, {}),
    "attention": Case("attention", 410_241, {}, {}),
    "ensemble": Case("ensemble", 1_145_959, {}, {}),
    "time_llm none": Case("time_llm", 30_946, {"llm": "none"}, {}),
    "time_llm attention": Case("time_llm", 35_202, {"llm": "attention"}, {}),
    "time_llm backbone": Case("time_llm", 71_010, {"llm": "backbone"}, SHORT),
}
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason="transformers is not installed (pip install 'trading-bot[llm]')",
)
every_model = pytest.mark.parametrize(
    "name", [pytest.param(each, marks=needs_transformers) if "backbone" in each else each for each in CASES]
)


def small(name: str, seed: int = 0, dropout: float = 0.2, features: int = FEATURES) -> nn.Module:
    case = CASES[name]
    torch.manual_seed(seed)
    return build_model(case.name, time=TIME, features=features, dropout=dropout, **case.kind, **case.quick)


def windows(count: int, seed: int = 1, features: int = FEATURES) -> torch.Tensor:
    """Random windows (count, TIME, features)."""
    return torch.randn(count, TIME, features, generator=torch.Generator().manual_seed(seed))


def targets(count: int, seed: int = 2) -> torch.Tensor:
    """Standardised targets (count, 1)."""
    return torch.randn(count, 1, generator=torch.Generator().manual_seed(seed))


def forecasts(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(x)
    return found


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int, rate: float = 3e-3) -> list[float]:
    """The training loss before each of the steps."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    model.train()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


def silent(model: nn.Module) -> set[str]:
    """Parameters that shift all rows alike before a BatchNorm, which subtracts them again with the batch's mean.

    They have no gradient in training, and have one where BatchNorm uses its running mean.
    """
    biases = {
        f"{path}.{before}.bias"
        for path, module in model.named_modules()
        if isinstance(module, nn.Sequential)
        for (before, layer), (_, after) in pairwise(module.named_children())
        if isinstance(layer, nn.Linear | nn.Conv2d) and isinstance(after, nn.BatchNorm1d | nn.BatchNorm2d)
    }
    # The encoder's last normalisation goes straight into a linear layer with BatchNorm.
    shifts = {path for path, _ in model.named_parameters() if path.endswith("encoder.1.feed_forward_norm.bias")}
    return biases | shifts


def test_the_table_holds_every_network_there_is() -> None:
    found = {
        each
        for module in pkgutil.iter_modules(trading_bot.models.__path__)
        for each in vars(importlib.import_module(f"trading_bot.models.{module.name}")).values()
        if inspect.isclass(each) and issubclass(each, nn.Module) and each.__name__.endswith(("Forecaster", "LLM"))
    }
    assert len(found) == len(MODELS) == 5
    assert found == {entry.module for entry in MODELS.values()}
    assert {case.name for case in CASES.values()} == set(MODELS)
    assert {case.kind["llm"] for case in CASES.values() if case.name == "time_llm"} == set(READERS)
    assert len(CASES) == 7


@every_model
def test_sizes_are_exact(name: str) -> None:
    case = CASES[name]
    model = build_model(case.name, **case.kind)
    assert count_parameters(model) == case.parameters
    assert forecasts(model, torch.zeros(2, 30, 40)).shape == (2, 1)


@every_model
def test_overfits_64_windows(name: str) -> None:
    """Time-LLM takes each feature's mean and spread out of the window, and without a language model is a straight line.

    So it needs more features than a network with hidden layers does, and with a language model more steps.
    """
    straight = CASES[name].name == "time_llm"
    features, steps, rate = (32, 60, 1e-2) if straight else (FEATURES, 30, 3e-3)
    model = small(name, dropout=0.0, features=features)
    losses = train(model, windows(64, features=features), targets(64), steps=steps, rate=rate)
    assert 0.8 < losses[0] < 1.2  # the first forecast is near the targets' mean
    assert losses[-1] < 0.02 * losses[0]


@every_model
def test_gradients_reach_every_parameter(name: str) -> None:
    """Small ones, too: prototypes of a language model never trained are much alike, so that patches find few words."""
    model = small(name, dropout=0.0)
    least = 1e-9 if "backbone" in name else 2e-6
    train(model, windows(32), targets(32), steps=5)  # forecasts, small at first, come to the targets' scale
    for training in (True, False):
        model.train(training).zero_grad()
        nn.functional.mse_loss(model(windows(32, seed=4)), targets(32, seed=5)).backward()  # type: ignore[no-untyped-call]
        largest = {path: cast(torch.Tensor, each.grad).abs().max().item() for path, each in model.named_parameters()}
        assert {path for path, most in largest.items() if most < least} == (silent(model) if training else set())


@every_model
def test_a_window_alone_gets_the_forecast_it_gets_in_a_batch(name: str) -> None:
    model = small(name)
    train(model, windows(16), targets(16), steps=2)  # BatchNorm's running statistics are no longer 0 and 1
    together = forecasts(model, windows(16))
    alone = torch.cat([forecasts(model, window[None]) for window in windows(16)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


@every_model
def test_nothing_but_its_window_changes_a_forecast(name: str) -> None:
    model = small(name)
    if isinstance(model, TimeLLM):
        nn.init.ones_(model.level)  # the window's mean counts as much as training finds: at first not at all
    series = torch.randn(40, FEATURES, generator=torch.Generator().manual_seed(3))
    changed = series.clone()
    changed[25:] += 1  # rows from 25 on: the first window that ends there is number 25 − (TIME − 1)
    before, after = (
        forecasts(model, rows.unfold(0, TIME, 1).transpose(1, 2).contiguous()) for rows in (series, changed)
    )
    first = 25 - (TIME - 1)
    if "backbone" in name:  # a longer prompt pads those of the other windows, whose sums then have another order
        torch.testing.assert_close(after[:first], before[:first], rtol=0, atol=1e-6)
    else:
        assert torch.equal(after[:first], before[:first])
    assert (after[first:] != before[first:]).all()
    assert torch.equal(forecasts(model, windows(4)), forecasts(model, windows(4)))  # nothing is carried over


@every_model
def test_a_nan_stays_in_its_forecast(name: str) -> None:
    x = windows(4)
    x[2, 5, 1] = torch.nan
    assert forecasts(small(name), x).isnan().flatten().tolist() == [False, False, True, False]


@every_model
def test_the_seed_decides_everything(name: str) -> None:
    def trained(seed: int) -> dict[str, torch.Tensor]:
        model = small(name, seed)  # dropout draws from the same seed
        train(model, windows(8), targets(8), steps=2)
        return dict(model.state_dict())

    once, again, other = trained(5), trained(5), trained(6)
    assert all(torch.equal(once[key], again[key]) for key in once)
    assert any(not torch.equal(once[key], other[key]) for key in once)


@every_model
def test_weights_and_json_rebuild_it(name: str) -> None:
    model = small(name)
    train(model, windows(16), targets(16), steps=2)
    description = json.loads(json.dumps(model_config(model)))
    torch.manual_seed(99)
    copied = rebuild(description)
    assert model_config(copied) == model_config(model) == description
    assert not torch.equal(forecasts(copied, windows(4)), forecasts(model, windows(4)))
    copied.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(forecasts(copied, windows(4)), forecasts(model, windows(4)))


@every_model
@pytest.mark.parametrize(
    ("x", "words"),
    [
        (windows(1)[0], r"shape \(12, 6\); wanted \(batch, 12, 6\).*x\[None\]"),
        (windows(4).transpose(1, 2), r"shape \(4, 6, 12\); wanted \(batch, 12, 6\).*transpose"),
        (windows(4)[:, 1:], r"shape \(4, 11, 6\); wanted \(batch, 12, 6\).*build the model"),
        (windows(4)[:0], r"shape \(0, 12, 6\); wanted .* at least 1"),
        (torch.tensor(1.0), r"shape \(\); wanted"),
        (windows(4).double(), r"torch.float64; wanted torch.float32: .*float\(\)"),
        (windows(4).long(), r"torch.int64; wanted torch.float32"),
        (windows(4).numpy(), "takes a torch.Tensor, found ndarray"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(name: str, x: torch.Tensor, words: str) -> None:
    for training in (True, False):
        with pytest.raises(TrainingError, match=words):
            small(name).train(training)(x)


@every_model
def test_one_window_cannot_be_trained_on(name: str) -> None:
    """Where there is BatchNorm; Time-LLM has none, and one row is a batch like any other."""
    model = small(name).train()
    if isinstance(model, TimeLLM):
        assert not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules())
        assert model(windows(1)).shape == (1, 1)
        return
    with pytest.raises(TrainingError, match="found 1 row to train on; BatchNorm needs at least 2"):
        model(windows(1))


@every_model
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_other_devices_forecast_the_same(name: str, device: str) -> None:
    if not (torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()):
        pytest.skip(f"this machine has no {device}")
    model = small(name, dropout=0.0)
    expected = forecasts(model, windows(16))
    there = model.to(device)
    torch.testing.assert_close(forecasts(there, windows(16).to(device)).cpu(), expected, rtol=0, atol=1e-3)
    losses = train(there, windows(16).to(device), targets(16).to(device), steps=20)
    assert losses[-1] < losses[0]


@every_model
def test_compiles_to_one_graph(name: str) -> None:
    """The check of the input, too, is part of it. `allow_rnn`: by default Dynamo passes over what holds an LSTM.

    Time-LLM with a language model does not: its prompts are words that Python writes for each batch. It says so.
    """
    model = small(name, dropout=0.0)
    if "backbone" in name:
        assert "`torch.compile` is of no use to it" in (TimeLLM.__doc__ or "")
        return
    with torch._dynamo.config.patch(allow_rnn=True):
        for training in (False, True):
            torch._dynamo.reset()
            compiled = torch.compile(model.train(training), backend="eager", fullgraph=True)
            assert torch.equal(compiled(windows(8)), model(windows(8)))
        torch._dynamo.reset()
        with pytest.raises(TrainingError, match=r"shape \(8, 11, 6\); wanted"):
            torch.compile(model, backend="eager")(windows(8)[:, 1:])
