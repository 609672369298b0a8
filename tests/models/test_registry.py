"""Networks by name, and what is said of names and sizes that do not exist."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trading_bot.errors import ConfigurationError
from trading_bot.models.attention import AttentionConfig
from trading_bot.models.cnn import CNNConfig, CNNForecaster
from trading_bot.models.ensemble import EnsembleConfig
from trading_bot.models.inputs import check_batch
from trading_bot.models.lstm import LSTMConfig
from trading_bot.models.registry import build_model, count_parameters, model_config, rebuild


def test_names_may_be_in_capitals() -> None:
    assert isinstance(build_model("CNN"), CNNForecaster)


@pytest.mark.parametrize(
    ("name", "sizes", "words"),
    [
        ("lstn", {}, "unknown model 'lstn'; did you mean 'lstm'\\? there are lstm, cnn, attention, ensemble"),
        (None, {}, "unknown model None; there are lstm"),
        ("lstm", {"hiden": 64}, "unknown size of LSTMConfig 'hiden'; did you mean 'hidden'\\? there are time, feat"),
        ("lstm", {"time": 0}, "LSTMConfig.time is 0; wanted a whole number ≥ 1"),
        ("lstm", {"layers": True}, "LSTMConfig.layers is True; wanted a whole number"),
        ("lstm", {"hidden": 12.5}, "LSTMConfig.hidden is 12.5; wanted a whole number"),
        ("lstm", {"dropout": 1.0}, "LSTMConfig.dropout is 1.0; wanted a share from 0 to below 1"),
        ("lstm", {"dropout": float("nan")}, "LSTMConfig.dropout is nan; wanted a share"),
        ("lstm", {"dropout": "0.1"}, "LSTMConfig.dropout is '0.1'; wanted a share"),
        ("cnn", {"features": -1}, "CNNConfig.features is -1; wanted a whole number ≥ 1"),
        ("cnn", {"time": 7}, "CNNConfig.time is 7; wanted at least 8, for 3 poolings by 2"),
        ("cnn", {"channels": 32}, "CNNConfig.channels is 32; wanted one or more whole numbers"),
        ("cnn", {"dense": ()}, r"CNNConfig.dense is \(\); wanted one or more whole numbers"),
        ("cnn", {"dense": (64, 0)}, r"CNNConfig.dense is \(64, 0\); wanted one or more whole numbers"),
        ("cnn", {"channels": (8, 16)}, r"kernels are \(3, 5, 7\) for channels \(8, 16\); wanted as many"),
        ("cnn", {"kernels": (3, 4, 7)}, r"kernels are \(3, 4, 7\); wanted odd numbers"),
        ("attention", {"heads": 7}, "width is 128 with 7 heads; wanted an even multiple of heads, such as 126"),
        ("attention", {"width": 9, "heads": 3}, "width is 9 with 3 heads; .* such as 12"),
        ("ensemble", {"time": 5}, "CNNConfig.time is 5; wanted at least 8"),
        ("ensemble", {"lstm": {"hiden": 3}}, "unknown size of LSTMConfig 'hiden'; did you mean 'hidden'"),
        (
            "ensemble",
            {"cnn": {"time": 30}},
            "EnsembleConfig.cnn is {'time': 30}; wanted sizes by name.* the ensemble's",
        ),
        ("ensemble", {"cnn": 3}, "EnsembleConfig.cnn is 3; wanted sizes by name"),
    ],
)
def test_what_cannot_be_built_is_told(name: Any, sizes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        build_model(name, **sizes)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("lstm", {"time": 1, "features": 1, "layers": 1, "hidden": 3, "dense": 1}),
        ("cnn", {"time": 8, "features": 1}),
        ("cnn", {"time": 9, "features": 2, "channels": [4, 4], "kernels": [1, 9], "pool": 3, "dense": [5]}),
        ("cnn", {"time": 1, "features": 2, "pool": 1}),
        ("attention", {"time": 1, "features": 1, "layers": 1, "heads": 1, "width": 2, "feed_forward": 1, "dense": 1}),
        ("attention", {"time": 50, "features": 3, "layers": 3, "heads": 2, "width": 12}),
        ("ensemble", {"time": 8, "features": 1, "lstm": {"hidden": 4}, "cnn": {"dense": [8]}, "meta": [4], "gate": 2}),
    ],
)
def test_other_sizes_work_and_survive_json(name: str, sizes: dict[str, Any]) -> None:
    model = build_model(name, **sizes)
    x = torch.randn(3, sizes["time"], sizes["features"], generator=torch.Generator().manual_seed(0))
    model(x).sum().backward()
    assert model.eval()(x).shape == (3, 1)
    twin = rebuild(model_config(model))
    assert model_config(twin) == model_config(model)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.eval()(x), model(x))


def test_whole_numbers_of_numpy_are_whole_numbers() -> None:
    assert model_config(build_model("lstm", hidden=np.int64(4)))["hidden"] == 4


def test_configurations_cannot_be_changed_and_tell_equal_from_different() -> None:
    for config in (LSTMConfig, CNNConfig, AttentionConfig, EnsembleConfig):
        assert config() == config(time=30, features=40)
        assert config() != config(time=31)
        assert len({config(), config(), config(time=31)}) == 2
        with pytest.raises(AttributeError):
            config().time = 5  # type: ignore[misc]


def test_an_ensemble_says_every_size_of_its_members() -> None:
    members = model_config(build_model("ensemble", dropout=0.0, attention={"dropout": 0.3}))
    assert members["lstm"] == {"hidden": 128, "layers": 2, "dense": 128, "dropout": 0.0}
    assert members["attention"]["dropout"] == 0.3
    assert list(members["cnn"]) == ["channels", "kernels", "pool", "dense", "dropout"]


@pytest.mark.parametrize("config", [{}, {"hidden": 3}, None, "lstm"])
def test_json_without_a_name_is_refused(config: Any) -> None:
    with pytest.raises(ConfigurationError, match="wanted a model's name and sizes"):
        rebuild(config)


def test_a_foreign_network_cannot_be_described() -> None:
    with pytest.raises(ConfigurationError, match="Linear cannot be described; wanted a network that build_model made"):
        model_config(nn.Linear(1, 1))


def test_frozen_parameters_do_not_count() -> None:
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 6


def test_the_check_of_an_input_reads_no_number() -> None:
    """On the meta device there are none, so that reading one would be an error."""
    check_batch(torch.empty(32, 30, 40, device="meta"), (30, 40), training=True)
