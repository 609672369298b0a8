"""The recursive network: its size, its gradients, what it carries and what it does not."""

from __future__ import annotations

import json
from typing import cast

import pytest
import torch
from torch import nn

from trading_bot.errors import ConfigurationError, TrainingError
from trading_bot.models.registry import MODELS, count_parameters
from trading_bot.models.trm import (
    Block,
    Carry,
    TinyRecursiveModel,
    TRMConfig,
    build_trm,
    normalised,
    rebuild_trm,
    trm_config,
)

SMALL = {"time": 12, "features": 6, "width": 16, "heads": 2, "feed_forward": 24}


def small(seed: int = 0, **sizes: int) -> TinyRecursiveModel:
    torch.manual_seed(seed)
    return build_trm(**{**SMALL, **sizes})


def windows(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 12, 6, generator=torch.Generator().manual_seed(seed))


def labels(count: int, seed: int = 2) -> torch.Tensor:
    return torch.randint(0, 8, (count,), generator=torch.Generator().manual_seed(seed))


def train(model: TinyRecursiveModel, x: torch.Tensor, y: torch.Tensor, batches: int) -> list[float]:
    """Deep supervision, every step an update; the loss of each batch's last step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(batches):
        carry = None
        for _ in range(model.config.supervision_steps):
            task, halt, carry = model(x, carry)
            optimizer.zero_grad()
            right = (task.argmax(1) == y).float()
            loss = nn.functional.cross_entropy(task, y)
            both = loss + nn.functional.binary_cross_entropy_with_logits(halt[:, 0], right)
            both.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        losses.append(loss.item())
    return losses


def test_its_size_is_exact_and_made_of_these_parts() -> None:
    model = build_trm()
    assert count_parameters(model) == 432_521
    assert [count_parameters(block) for block in model.network] == [212_992, 212_992]
    parts = {name: count_parameters(each) for name, each in model.named_children()}
    assert parts == {"project": 5_248, "network": 425_984, "task": 1_032, "halt": 129}
    assert model.summary.numel() == 128
    task, halt, carry = model(torch.zeros(2, 30, 40))
    assert (task.shape, halt.shape) == ((2, 8), (2, 1))
    assert carry.high.shape == carry.low.shape == (2, 31, 128)
    assert halt.flatten().tolist() == [-5, -5]


def test_it_is_no_forecaster_of_the_table() -> None:
    assert "trm" not in MODELS
    assert TinyRecursiveModel not in {entry.module for entry in MODELS.values()}


def test_the_recursion_is_the_one_of_the_paper() -> None:
    model, x = small(cycles=3, inner_steps=2), windows(4)
    high, low = model.first_thought(4)
    seen = model.embedded(x)
    for _ in range(3):
        for _ in range(2):
            low = model.network(low + high + seen)
        high = model.network(high + low)
    task, halt, carry = model(x)
    torch.testing.assert_close(carry.high, high, rtol=0, atol=1e-5)
    torch.testing.assert_close(carry.low, low, rtol=0, atol=1e-5)
    torch.testing.assert_close(task, model.task(high[:, 0]), rtol=0, atol=1e-5)
    torch.testing.assert_close(halt, model.halt(high[:, 0]), rtol=0, atol=1e-5)
    assert seen.shape == (4, 13, 16)
    torch.testing.assert_close(seen[:, 1:], model.project(x) + model.positions[1:])


def test_only_the_last_cycle_has_a_gradient() -> None:
    """Two cycles have the gradient of one that begins where the first ended."""
    two, one, x = small(cycles=2), small(cycles=1), windows(4)
    with torch.no_grad():
        carry = one(x)[2]
    for model, start in ((two, None), (one, carry)):
        model.zero_grad()
        model(x, start)[0].square().sum().backward()
    for (name, a), (_, b) in zip(two.named_parameters(), one.named_parameters(), strict=True):
        if a.grad is None or b.grad is None:
            assert name.startswith("halt")
            continue
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


def test_the_carry_has_no_gradient_and_changes_the_answer() -> None:
    model, x = small(), windows(4)
    first, _, carry = model(x)
    assert not carry.high.requires_grad
    assert not carry.low.requires_grad
    second, _, _ = model(x, carry)
    assert (first != second).any(dim=1).all()
    kept = carry.take(torch.tensor([False, True, True, False]))
    assert isinstance(kept, Carry)
    torch.testing.assert_close(model(x[1:3], kept)[0], second[1:3], rtol=0, atol=1e-5)


def test_gradients_reach_every_parameter() -> None:
    model = small()
    train(model, windows(32), labels(32), batches=2)  # the halt head's weights begin at 0
    model.zero_grad()
    task, halt, _ = model(windows(32, seed=4))
    (nn.functional.cross_entropy(task, labels(32, seed=5)) + halt.square().mean()).backward()
    for name, parameter in model.named_parameters():
        assert cast(torch.Tensor, parameter.grad).abs().max() > 1e-6, name


def test_overfits_64_windows() -> None:
    """One block that thinks little: a recursion learns labels drawn by lot slowly."""
    model = small(width=32, feed_forward=64, blocks=1, inner_steps=1, supervision_steps=2)
    losses = train(model, windows(64), labels(64), batches=100)
    assert losses[0] > 1.8
    assert min(losses[-5:]) < 0.2 * losses[0]


def test_a_window_alone_gets_the_answer_it_gets_in_a_batch() -> None:
    model, x = small().eval(), windows(8)
    with torch.no_grad():
        together = model(x)[0]
        alone = torch.cat([model(window[None])[0] for window in x])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)
    changed = x.clone()
    changed[5] += 1
    with torch.no_grad():
        after = model(changed)[0]
    assert (after != together).any(dim=1).tolist() == [False] * 5 + [True] + [False] * 2


def test_every_candle_counts_and_so_does_their_order() -> None:
    model, x = small().eval(), windows(1)
    with torch.no_grad():
        before = model(x)[0]
        for candle in range(12):
            other = x.clone()
            other[0, candle] += 1
            assert (model(other)[0] != before).any()
        assert (model(x.flip(1))[0] - before).abs().max() > 1e-4


def test_the_seed_decides_everything() -> None:
    once, again, other = (small(seed) for seed in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(once.state_dict().values(), again.state_dict().values(), strict=True))
    for name in ("high_start", "low_start", "summary", "project.weight"):
        assert not torch.equal(once.state_dict()[name], other.state_dict()[name])
    assert torch.equal(once(windows(3))[0], again(windows(3))[0])


def test_sizes_as_json_rebuild_it() -> None:
    model = small(cycles=3, inner_steps=1)
    config = json.loads(json.dumps(trm_config(model)))
    twin = rebuild_trm(config)
    assert twin.config == model.config
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(windows(3))[0], model(windows(3))[0])


def test_normalised_positions_have_a_root_mean_square_of_1() -> None:
    x = 7 * torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(normalised(x).square().mean(dim=2), torch.ones(3, 5), rtol=0, atol=1e-4)
    block = Block(16, 2, 24)
    torch.testing.assert_close(block(x).square().mean(dim=2), torch.ones(3, 5), rtol=0, atol=1e-4)
    assert {name.partition(".")[2] for name, _ in block.named_parameters()} == {"weight"}


def test_compiles_into_one_graph() -> None:
    model = small(blocks=1, inner_steps=1)
    try:
        explained = torch._dynamo.explain(model)(windows(2))
    finally:
        torch._dynamo.reset()
    assert explained.graph_break_count == 0


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"widht": 3}, "unknown size of TRMConfig 'widht'; did you mean 'width'?"),
        ({"cycles": 0}, "TRMConfig.cycles is 0; wanted a whole number ≥ 1"),
        ({"supervision_steps": 1.5}, "TRMConfig.supervision_steps is 1.5"),
        ({"width": 30}, "TRMConfig.width is 30 with 4 heads; wanted an even multiple of heads, such as 32"),
    ],
)
def test_wrong_sizes_are_told(sizes: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        build_trm(**sizes)
    assert words in str(told.value)


def test_wrong_inputs_are_told() -> None:
    with pytest.raises(TrainingError, match=r"found an input of shape \(12, 6\); wanted \(batch, 12, 6\)"):
        small()(windows(1)[0])
    with pytest.raises(TrainingError, match=r"wanted torch\.float32"):
        small()(windows(1).double())
    with pytest.raises(ConfigurationError, match="wanted the sizes of a 'trm'"):
        rebuild_trm({"name": "cnn"})
    assert TRMConfig().supervision_steps == 4
