"""Time-LLM: its parts against slow ways to the same numbers, the network without a language model, and with one.

What needs the library transformers is left out where that is not installed: `pip install 'trading-bot[llm]'`.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trading_bot.errors import CheckpointError, ConfigurationError, TrainingError
from trading_bot.models.registry import count_parameters
from trading_bot.models.sizes import configured
from trading_bot.models.time_llm import TimeLLM, TimeLLMConfig
from trading_bot.models.time_llm_backbone import local_backbone, padded, random_backbone
from trading_bot.models.time_llm_parts import (
    PatchEmbedding,
    Reprogramming,
    count_patches,
    denormalise,
    normalise,
    patches_of,
    prompts_of,
    top_lags,
)

TIME, FEATURES = 12, 3
SHORT = {"time": TIME, "features": FEATURES, "dropout": 0.0, "description": "Candles."}

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason="transformers is not installed (pip install 'trading-bot[llm]')",
)
every_reader = pytest.mark.parametrize("llm", ["none", "attention", pytest.param("backbone", marks=needs_transformers)])


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(llm: str, seed: int = 0, **sizes: Any) -> TimeLLM:
    torch.manual_seed(seed)
    return TimeLLM(TimeLLMConfig(**{**SHORT, "llm": llm, **sizes}))


def forecasts(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(x)
    return found


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int, rate: float = 1e-2) -> list[float]:
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


# Parts


def test_normalising_has_an_exact_inverse() -> None:
    x = (random(5, 30, 4) * torch.tensor([1e-3, 1.0, 50.0, 1e4]) + torch.tensor([0.0, 9.0, -7.0, 1e5])).double()
    normal, scale = normalise(x)
    torch.testing.assert_close(denormalise(normal, scale), x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(normal.mean(dim=1), torch.zeros(5, 4).double(), rtol=0, atol=1e-8)
    torch.testing.assert_close(normal[..., 1:].var(dim=1, correction=0), torch.ones(5, 3).double(), rtol=1e-4, atol=0)
    still = torch.full((1, 6, 1), 3.0)
    normal, scale = normalise(still)
    assert not normal.any()
    assert torch.equal(denormalise(normal, scale), still)


@pytest.mark.parametrize(
    ("time", "length", "stride", "count"), [(30, 8, 4, 7), (12, 8, 4, 3), (8, 8, 8, 2), (9, 4, 3, 3), (29, 8, 4, 7)]
)
def test_patches_as_cut_by_hand(time: int, length: int, stride: int, count: int) -> None:
    x = random(2, time, 3)
    patches = patches_of(x, length, stride)
    assert patches.shape == (2, count, 3 * length)
    assert count_patches(time, length, stride) == count
    for number in range(count):
        rows = [min(number * stride + step, time - 1) for step in range(length)]  # the newest is repeated
        assert torch.equal(patches[:, number], x[:, rows].transpose(1, 2).flatten(1))
    assert rows[-1] == time - 1, "the newest candle is in the last patch"


@torch.no_grad()
def test_embedding_reads_a_patch_and_its_neighbours_around_a_ring() -> None:
    embed, patches = PatchEmbedding(6, 5), random(2, 4, 6)
    weight = embed.convolution.weight
    found = embed(patches)
    for place in range(4):
        wanted = sum(patches[:, (place + step - 1) % 4] @ weight[:, :, step].T for step in range(3))
        torch.testing.assert_close(found[:, place], wanted)


@torch.no_grad()
def test_reprogramming_head_by_head() -> None:
    layer, patches, prototypes = Reprogramming(8, 2, 6, 10, 0.0), random(3, 4, 8), random(5, 6, seed=1)
    query, key, value = layer.query(patches), layer.key(prototypes), layer.value(prototypes)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        weights = torch.softmax(query[..., head] @ key[:, head].T / math.sqrt(4), dim=-1)  # (3, 4, 5)
        heads.append(weights @ value[:, head])
    torch.testing.assert_close(layer(patches, prototypes[None]), layer.mixed(torch.cat(heads, dim=-1)))


def test_the_prompt_in_words() -> None:
    rising = torch.tensor([[0.0, 1.0, 0.5, 2.0, 1.5, 3.0, 2.5, 4.0]])
    up, down, still = prompts_of(torch.cat((rising, rising.flip(1), torch.ones(1, 8))), "Candles.")
    lags = ", ".join(map(str, by_covariance(rising[0].tolist())))
    assert up == (
        f"<|start_prompt|>Candles. Input: 8 steps, min 0.000, max 4.000, median 1.500, trend upward, top lags {lags}."
        "<|end_prompt|>"
    )
    assert down == up.replace("upward", "downward"), "turned around in time, all else is the same"
    assert still.endswith("median 1.000, trend flat, top lags 1, 2, 3, 4, 5.<|end_prompt|>")
    assert "min nan" in prompts_of(torch.tensor([[1.0, math.nan, 2.0]]), "")[0]


def by_covariance(series: list[float]) -> list[int]:
    """The five lags at which the sum of products is largest."""
    mean = sum(series) / len(series)
    apart = [each - mean for each in series]
    sums = {lag: sum(a * b for a, b in zip(apart, apart[lag:], strict=False)) for lag in range(1, len(series))}
    return sorted(sums, key=lambda lag: (-round(sums[lag], 9), lag))[:5]


def test_lags_of_a_wave_and_by_slow_sums() -> None:
    wave = torch.sin(torch.arange(60, dtype=torch.float64) * 2 * math.pi / 6)
    assert top_lags(wave[None], 1).tolist() == [[6]] or top_lags(wave[None], 2)[0].tolist() == [6, 1]
    series = random(6, 30).double()
    assert top_lags(series).tolist() == [by_covariance(each) for each in series.tolist()]
    assert top_lags(random(1, 4).double()).shape == (1, 3), "there are no more"


def test_padding_is_at_the_left_and_masked() -> None:
    numbers, mask = padded([[7, 8, 9], [5]])
    assert numbers.tolist() == [[7, 8, 9], [0, 0, 5]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


# The network, with and without a language model


@every_reader
def test_overfits_64_windows(llm: str) -> None:
    # More numbers in a window than there are windows; a language model of one layer and short prompts, for speed.
    model = small(llm, features=8, width=64, llm_layers=1, description="")
    losses = train(model, random(64, TIME, 8), random(64, 1, seed=1), steps=40 if llm == "backbone" else 20)
    assert 0.7 < losses[0] < 1.4
    assert losses[-1] < 0.1 * losses[0]


@every_reader
def test_gradients_reach_every_parameter(llm: str) -> None:
    model = small(llm)
    train(model, random(16, TIME, FEATURES), random(16, 1, seed=1), steps=3)
    model.zero_grad()
    nn.functional.mse_loss(model(random(16, TIME, FEATURES, seed=2)), random(16, 1, seed=3)).backward()  # type: ignore[no-untyped-call]
    for path, each in model.named_parameters():
        assert each.grad is not None, path
        assert each.grad.abs().max() > 1e-9, path


@every_reader
def test_a_window_alone_and_one_with_a_nan(llm: str) -> None:
    model, x = small(llm), random(5, TIME, FEATURES)
    x[1] *= 100  # its prompt is longer than the others'
    train(model, x, random(5, 1), steps=2)
    together = forecasts(model, x)
    torch.testing.assert_close(torch.cat([forecasts(model, each[None]) for each in x]), together, rtol=1e-4, atol=1e-5)
    x[2, 5, 1] = math.nan
    broken = forecasts(model, x)
    assert broken.isnan().flatten().tolist() == [False, False, True, False, False]
    assert model.train()(x[:1]).shape == (1, 1), "one row can be trained on: there is no BatchNorm"


@every_reader
def test_the_seed_decides_and_weights_and_json_rebuild_it(llm: str) -> None:
    def trained(seed: int) -> TimeLLM:
        model = small(llm, seed, dropout=0.2)
        train(model, random(8, TIME, FEATURES), random(8, 1), steps=2)
        return model

    once, again, other = trained(5), trained(5), trained(6)
    x = random(4, TIME, FEATURES, seed=9)
    assert torch.equal(forecasts(once, x), forecasts(again, x))
    assert not torch.equal(forecasts(once, x), forecasts(other, x))
    description = json.loads(json.dumps(vars(once.config)))
    assert llm != "backbone" or description["llm_path"] == "random"
    rebuilt = TimeLLM(configured(TimeLLMConfig, description))
    rebuilt.load_state_dict(copy.deepcopy(once.state_dict()))
    assert torch.equal(forecasts(rebuilt, x), forecasts(once, x))
    assert torch.equal(forecasts(copy.deepcopy(once), x), forecasts(once, x))


@pytest.mark.parametrize("llm", ["none", "attention"])
def test_the_forecast_has_the_scale_of_the_series(llm: str) -> None:
    model, x = small(llm, series=1), random(6, TIME, FEATURES)
    with torch.no_grad():
        model.level.fill_(1)
    larger = x * torch.tensor([3.0, 40.0, 0.5]) + torch.tensor([5.0, -7.0, 2.0])
    torch.testing.assert_close(forecasts(model, larger), 40 * forecasts(model, x) - 7, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        model.forecast.weight.zero_()
    torch.testing.assert_close(forecasts(model, x), x[:, :, 1].mean(dim=1, keepdim=True))


def test_without_a_language_model_nothing_but_sizes_is_left() -> None:
    none, attention = (TimeLLM(TimeLLMConfig(llm=llm)) for llm in ("none", "attention"))
    embedding, forecast = 40 * 8 * 32 * 3, 7 * 32 + 1
    assert count_parameters(none) == embedding + forecast + 1
    assert count_parameters(attention) == count_parameters(none) + 4 * 32 * 32 + 3 * 32 + 2 * 32
    assert none.label == "no language model (none)"
    assert attention.label == "no language model (attention)"
    assert none.config.patches == 7


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (random(TIME, FEATURES), r"shape \(12, 3\); wanted \(batch, 12, 3\).*x\[None\]"),
        (random(2, TIME, FEATURES).double(), "wanted torch.float32"),
        (random(0, TIME, FEATURES), "at least 1"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(x: torch.Tensor, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        small("none")(x)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"llm": "nothing"}, "unknown TimeLLMConfig.llm 'nothing'; .*there are backbone, attention, none"),
        ({"width": 30}, r"width is 30 with 4 heads; wanted a multiple of heads, such as 32"),
        ({"time": 5}, r"patch is 8 with stride 4 and time 5; wanted stride ≤ patch ≤ time"),
        ({"patch": 4, "stride": 5}, r"patch is 4 with stride 5"),
        ({"series": 40}, "series is 40; wanted the number of a feature, from 0 to 39"),
        ({"llm_seed": -1}, "llm_seed is -1; wanted a whole number"),
        ({"prototypes": 0}, "prototypes is 0; wanted a whole number ≥ 1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        TimeLLMConfig(**sizes)


def test_without_transformers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigurationError, match=r"not installed .*'trading-bot\[llm\]', or .*llm='none' or llm='att"):
        TimeLLM(TimeLLMConfig())


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (None, r"there' is not a directory; wanted one .*nothing is downloaded.* or 'random'"),
        (
            (),
            r"there lacks config.json, weights \(\*.safetensors\), a tokenizer \(tokenizer.json or .*; wanted a whole",
        ),
        (
            ("config.json", "tokenizer.json"),
            r"there lacks weights \(\*.safetensors\); wanted .*copy there what is miss",
        ),
        (("config.json", "pytorch_model.bin", "vocab.json"), r"lacks weights \(\*.safetensors\);"),
        (("model.safetensors", "config.json"), r"there lacks a tokenizer"),
    ],
)
def test_a_directory_that_is_not_whole_is_named_with_what_is_missing(
    tmp_path: Path, files: tuple[str, ...] | None, words: str
) -> None:
    folder = tmp_path / "there"
    if files is not None:
        folder.mkdir()
        for name in files:
            (folder / name).write_text("{}")
    with pytest.raises(ConfigurationError, match=words):
        TimeLLM(TimeLLMConfig(llm_path=str(folder)))


# With a language model


@needs_transformers
def test_the_random_one_says_so_and_is_always_the_same() -> None:
    torch.manual_seed(1)
    one = small("backbone", seed=1)
    two, other = small("backbone", seed=2), small("backbone", llm_seed=1)
    assert one.label == "random GPT-2 (seed 0, 2 layers, never trained)"
    assert "seed 1" in other.label
    prints = [each.state_dict()["backbone.fingerprint"] for each in (one, two, other)]
    assert torch.equal(prints[0], prints[1])
    assert not torch.equal(prints[0], prints[2])
    with pytest.raises(CheckpointError, match=r"fitted to another language model than random GPT-2 \(seed 1"):
        other.load_state_dict(one.state_dict())


@needs_transformers
def test_the_language_model_is_frozen_and_not_in_the_checkpoint() -> None:
    model = small("backbone")
    assert model.backbone is not None
    before = {name: each.clone() for name, each in model.backbone.network.named_parameters()}
    train(model, random(8, TIME, FEATURES), random(8, 1), steps=3)
    assert all(torch.equal(before[name], each) for name, each in model.backbone.network.named_parameters())
    assert not model.backbone.network.training
    assert not any(each.requires_grad for each in model.backbone.network.parameters()), "no gradients are kept"
    assert [key for key in model.state_dict() if key.startswith("backbone")] == ["backbone.fingerprint"]
    widths = 32 * 32 + 32 + 64 * 32 + 64 * 32 + 32 + 32 * 64 + 64  # query, key, value, mixed
    assert count_parameters(model) == FEATURES * 8 * 32 * 3 + 256 * 128 + widths + (3 * 32 + 1) + 1
    model.double()
    assert model.backbone.network.dtype == torch.float64, "it moves with the rest"


@needs_transformers
def test_a_prompt_s_padding_changes_nothing_and_the_prompt_does() -> None:
    backbone, patches = random_backbone(0, 2), random(2, 3, 64)
    with torch.no_grad():
        both = backbone(["short", "a much longer prompt than that"], patches)
        torch.testing.assert_close(both[:1], backbone(["short"], patches[:1]), rtol=0, atol=1e-5)
        assert not torch.allclose(both[:1], backbone(["other"], patches[:1]), rtol=0, atol=1e-3)
        with pytest.raises(
            ConfigurationError, match=r"prompt of 1022 tokens and 3 patches; random .* reads at most 1024"
        ):
            backbone(["x" * 1022], patches[:1])


def save_language_model(folder: Path, kind: str) -> None:
    """A directory as transformers saves it, of a tiny model that was never trained."""
    transformers, tokenizers = importlib.import_module("transformers"), importlib.import_module("tokenizers")
    words = {"[UNK]": 0, "Candles": 1, ".": 2, "min": 3, "upward": 4}
    tokens = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokens.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokens, unk_token="[UNK]").save_pretrained(folder)
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 16}
    if kind != "GPT2":
        sizes |= {"intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 256}
    torch.manual_seed(3)
    config = getattr(transformers, f"{kind}Config")(**sizes, bos_token_id=0, eos_token_id=0, pad_token_id=0)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)


@needs_transformers
@pytest.mark.parametrize("kind", ["GPT2", "Llama", "Qwen2"])
def test_a_local_language_model_without_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    save_language_model(tmp_path / kind, kind)

    def refuse(*_: object) -> None:
        raise AssertionError("no connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    model = small("backbone", llm_path=str(tmp_path / kind), llm_layers=2)
    assert model.backbone is not None
    assert model.label == f"{kind} (2 of 3 layers)"
    assert model.backbone.network.config.num_hidden_layers == 2
    x = random(5, TIME, FEATURES)
    losses = train(model, x, random(5, 1), steps=5)
    assert losses[-1] < losses[0]
    torch.testing.assert_close(
        torch.cat([forecasts(model, each[None]) for each in x]), forecasts(model, x), rtol=1e-4, atol=1e-5
    )
    deeper = small("backbone", llm_path=str(tmp_path / kind), llm_layers=9)
    assert deeper.label == f"{kind} (3 of 3 layers)"
    with pytest.raises(CheckpointError, match="llm_layers"):
        deeper.load_state_dict(model.state_dict())
    with pytest.raises(ConfigurationError, match=f"channels is 64; wanted at most 48, the width of {kind}"):
        small("backbone", llm_path=str(tmp_path / kind), channels=64)


@needs_transformers
def test_a_directory_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    save_language_model(folder, "GPT2")
    weights = folder / "model.safetensors"
    safetensors = importlib.import_module("safetensors.torch")
    whole = safetensors.load_file(weights)
    first = sorted(whole)[0]
    safetensors.save_file({name: each for name, each in whole.items() if name != first}, weights, {"format": "pt"})
    with pytest.raises(ConfigurationError, match=rf"broken lacks 1 weights .*{first}; wanted all of them: copy"):
        local_backbone(str(folder), 3)
    weights.write_bytes(weights.read_bytes()[:-500])
    with pytest.raises(ConfigurationError, match=r"broken cannot be read as a language model .*copy it again, whole"):
        local_backbone(str(folder), 3)
    (folder / "config.json").write_text('{"model_type": "no such thing"}')
    with pytest.raises(ConfigurationError, match="broken cannot be read as a language model"):
        local_backbone(str(folder), 3)
