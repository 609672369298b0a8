"""Each network against an independent way to the same numbers."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trading_bot.errors import TrainingError
from trading_bot.models.attention import AttentionConfig, AttentionForecaster, EncoderLayer, sinusoids
from trading_bot.models.cnn import CNNConfig, CNNForecaster
from trading_bot.models.ensemble import Combiner, EnsembleConfig, EnsembleForecaster
from trading_bot.models.lstm import LSTMConfig, LSTMForecaster


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def by_hand(x: torch.Tensor, lstm: nn.LSTM, ending: str) -> torch.Tensor:
    """All hidden states (T, H) of one direction of an LSTM over one window (T, F), gate by gate."""
    w, u, b, c = (getattr(lstm, f"{kind}_{ending}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    hidden = cell = torch.zeros(lstm.hidden_size)
    states = []
    for row in x:
        i, f, g, o = (w @ row + b + u @ hidden + c).chunk(4)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        states.append(hidden)
    return torch.stack(states)


def both_ways(x: torch.Tensor, lstm: nn.LSTM, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Forward and backward states (T, H), both in the order of time."""
    return by_hand(x, lstm, f"l{layer}"), by_hand(x.flip(0), lstm, f"l{layer}_reverse").flip(0)


@torch.no_grad()
def test_lstm_reads_the_last_state_of_each_direction() -> None:
    model = LSTMForecaster(LSTMConfig(time=7, features=3, hidden=5, dense=4)).eval()
    x = random(1, 7, 3)
    first = torch.cat(both_ways(x[0], model.lstm, 0), dim=1)
    forward, backward = both_ways(first, model.lstm, 1)
    ends = torch.cat((forward[-1], backward[0]))[None]  # the backward direction ends at the oldest candle
    torch.testing.assert_close(model(x), model.forecast(model.dense(ends)), rtol=0, atol=1e-6)


def test_lstm_begins_with_an_open_forget_gate_and_orthogonal_recurrence() -> None:
    lstm = LSTMForecaster(LSTMConfig(hidden=8)).lstm
    for ending in ("l0", "l0_reverse", "l1", "l1_reverse"):
        bias = getattr(lstm, f"bias_ih_{ending}") + getattr(lstm, f"bias_hh_{ending}")
        assert bias.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16
        for gate in getattr(lstm, f"weight_hh_{ending}").chunk(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(8), rtol=0, atol=1e-5)


@torch.no_grad()
def test_cnn_is_made_of_one_dimensional_convolutions() -> None:
    model = CNNForecaster(CNNConfig(time=30, features=4)).eval()
    x = random(3, 30, 4)
    patterns = x.transpose(1, 2)
    lengths = []
    for block in model.convolutions.children():
        convolution, normalisation = (cast(nn.Sequential, block)[number] for number in (0, 1))
        weight = cast(torch.Tensor, convolution.weight)[:, :, 0]
        patterns = F.conv1d(patterns, weight, cast(torch.Tensor, convolution.bias), padding="same")
        patterns = patterns / math.sqrt(1 + cast(nn.BatchNorm2d, normalisation).eps)  # running mean 0, variance 1
        patterns = F.max_pool1d(patterns.relu(), 2)
        lengths.append(patterns.shape[2])
    assert lengths == [15, 7, 3]
    assert model.config.pooled == 3
    torch.testing.assert_close(model(x), model.forecast(model.dense(patterns.flatten(1))), rtol=0, atol=1e-6)


def library_layer(layer: EncoderLayer, width: int, feed_forward: int) -> nn.TransformerEncoderLayer:
    """PyTorch's encoder layer with the weights of ours."""
    theirs = nn.TransformerEncoderLayer(width, layer.heads, feed_forward, dropout=0.0, batch_first=True)
    ours = layer.state_dict()
    names = {
        "self_attn.out_proj": "mixed",
        "linear1": "widen",
        "linear2": "narrow",
        "norm1": "attention_norm",
        "norm2": "feed_forward_norm",
    }
    weights = {f"{a}.{kind}": ours[f"{b}.{kind}"] for a, b in names.items() for kind in ("weight", "bias")}
    for kind in ("weight", "bias"):
        weights[f"self_attn.in_proj_{kind}"] = torch.cat((ours[f"query.{kind}"], ours[f"key_value.{kind}"]))
    theirs.load_state_dict(weights)
    return theirs


@pytest.mark.parametrize("fast_path", [False, True])
def test_attention_is_pytorchs_encoder_read_at_the_newest_candle(fast_path: bool) -> None:
    """PyTorch takes its fused path in eval mode when no gradient is wanted."""
    model = AttentionForecaster(AttentionConfig(time=9, features=5, width=16, heads=4, feed_forward=24)).eval()
    for parameter in model.parameters():  # biases and norms, too, are other than 0 and 1
        nn.init.normal_(parameter, std=0.3)
    x = random(6, 9, 5)
    with torch.set_grad_enabled(not fast_path):
        inside = model.project(x) + sinusoids(9, 16)
        expected_weights = []
        for each in model.encoder:
            layer = library_layer(cast(EncoderLayer, each), 16, 24).eval()
            looks = layer.self_attn(inside, inside, inside, average_attn_weights=False)[1]
            expected_weights.append(looks)
            inside = layer(inside)
        expected = model.forecast(model.dense(inside[:, -1]))
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-5)
        weights = model.attention_weights(x)
        assert weights.shape == (2, 6, 4, 9, 9)
        torch.testing.assert_close(weights, torch.stack(expected_weights), rtol=0, atol=1e-5)


def test_attention_weights_add_up_to_one_and_refuse_other_shapes() -> None:
    model = AttentionForecaster(AttentionConfig())
    weights = model.attention_weights(random(1, 30, 40))
    torch.testing.assert_close(weights.sum(dim=4), torch.ones(2, 1, 8, 30), rtol=0, atol=1e-5)
    with pytest.raises(TrainingError, match=r"shape \(30, 40\)"):
        model.attention_weights(random(30, 40))


def test_positions_follow_the_formula_and_are_not_saved() -> None:
    found = sinusoids(30, 128)
    for position, number in [(0, 0), (0, 1), (7, 0), (7, 1), (29, 64), (29, 127)]:
        angle = position / 10_000 ** ((number - number % 2) / 128)
        assert found[position, number] == pytest.approx(math.cos(angle) if number % 2 else math.sin(angle), abs=1e-7)
    model = AttentionForecaster(AttentionConfig())
    assert torch.equal(model.positions, found)
    assert "positions" not in model.state_dict()


def test_ensemble_combines_the_forecasts_of_its_members() -> None:
    model = EnsembleForecaster(EnsembleConfig(time=8, features=3)).eval()
    x = random(5, 8, 3)
    assert list(model.base_models) == ["lstm", "cnn", "attention"]
    p = torch.cat([model.base_models[name](x) for name in ("lstm", "cnn", "attention")], dim=1)
    assert torch.equal(model.base_forecasts(x), p)
    assert torch.equal(model.combine(p), model(x))
    expected = (model.combiner.weights(p) * p).sum(1, keepdim=True) + model.combiner.meta(p)
    assert torch.equal(model(x), expected)


def test_the_combiner_has_the_sizes_specified() -> None:
    combiner = Combiner(EnsembleConfig())
    assert sum(each.numel() for each in combiner.meta.parameters()) == 2_561
    assert sum(each.numel() for each in combiner.gate.parameters()) == 451


def test_the_combiner_begins_near_the_plain_mean() -> None:
    torch.manual_seed(0)
    combiner = Combiner(EnsembleConfig()).eval()
    p = random(200, 3)
    assert (combiner.weights(p) - 1 / 3).abs().max() < 0.05
    assert (combiner(p) - p.mean(1, keepdim=True)).std() < 0.1


def test_the_combiner_alone_learns_whom_to_trust() -> None:
    """One member foresees, one is noise, one errs by a constant; out-of-fold forecasts are all that is needed."""
    torch.manual_seed(0)
    combiner = Combiner(EnsembleConfig(dropout=0.0))
    y = random(512, 1)
    p = torch.cat((0.3 * torch.randn(512, 1) + y, torch.randn(512, 1), 0.3 * torch.randn(512, 1) + y + 2), dim=1)
    unseen, seen = slice(0, 256), slice(256, None)
    optimizer = torch.optim.Adam(combiner.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        F.mse_loss(combiner(p[seen]), y[seen]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    combiner.eval()
    best_alone = F.mse_loss(p[unseen, :1], y[unseen])
    assert F.mse_loss(combiner(p[unseen]), y[unseen]) < best_alone
    assert best_alone < F.mse_loss(p[unseen].mean(1, keepdim=True), y[unseen])


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (random(4, 2), r"shape \(4, 2\); wanted \(batch, 3\)"),
        (random(3), r"shape \(3,\); wanted \(batch, 3\).*x\[None\]"),
        (random(4, 3).double(), "torch.float64; wanted torch.float32"),
        (random(1, 3), "found 1 row to train on"),
    ],
)
def test_the_combiner_refuses_what_is_not_three_forecasts(p: torch.Tensor, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        Combiner(EnsembleConfig())(p)


def test_members_under_autocast_are_weighed_in_float32() -> None:
    model = EnsembleForecaster(EnsembleConfig(time=8, features=3)).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.base_forecasts(random(2, 8, 3)).dtype == torch.float32
        assert model(random(2, 8, 3)).isfinite().all()
