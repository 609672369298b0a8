"""Time-LLM by `train` and `train-adaptive`: which language model reads is on record, and it is the same ever after."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Verb, parsed
from tests.models.test_time_llm import needs_transformers, save_language_model
from tests.service.stand import log_lines
from tests.training.forecasting import swinging
from trading_bot.bootstrap.strategies import chosen_strategies
from trading_bot.errors import CheckpointError
from trading_bot.market_data.candle_writing import FORMATS
from trading_bot.settings import load_settings
from trading_bot.training.forecaster import Forecaster
from trading_bot.training.prepared_data import prepare_data

QUICK = ("--epochs", "2", "--batches-per-epoch", "2", "--batch-size", "16")
WINDOWS = np.random.default_rng(0).normal(size=(20, 30, 40)).astype(np.float32)


@pytest.fixture
def candles(home: Path) -> str:
    path = home / "BTC_USDT-1h.csv"
    FORMATS["csv"][1](path, swinging(700))
    return str(path)


@pytest.fixture
def directory(home: Path) -> Path:
    """A language model as transformers saves it: three layers that were never trained."""
    save_language_model(home / "tiny", "GPT2")
    return home / "tiny"


def checkpoint(home: Path, told: dict[str, Any]) -> Path:
    return home / "logs/runs" / str(told["run"]) / "model.safetensors"


@pytest.mark.parametrize("llm", ["attention", "none"])
def test_without_a_language_model_from_a_file_to_a_champion(verb: Verb, candles: str, home: Path, llm: str) -> None:
    told = parsed(verb("train", "--data", candles, "--model", "time_llm", "--llm", llm, *QUICK, "--json"))
    assert told["language_model"] == f"no language model ({llm})"
    facts = json.loads(checkpoint(home, told).with_suffix(".json").read_text())
    assert facts["model"] | {"name": "time_llm", "llm": llm} == facts["model"]
    shown = verb("models", "show", told["model"]).output
    assert "time_llm (" in shown
    assert f"no language model ({llm})" in shown
    assert "is its first champion" in verb("models", "promote", told["model"]).output


@needs_transformers
def test_a_random_one_is_called_random_wherever_it_is_told_of(verb: Verb, candles: str, home: Path) -> None:
    label = "random GPT-2 (seed 0, 2 layers, never trained)"
    words = ("train-adaptive", "--data", candles, "--model", "time_llm", "--model_id", "words", "--epochs", "1",
             "--adaptation_strategy", "cov", "--batch_size", "64")  # fmt: skip
    told = verb(*words)
    assert f"reads with  {label}" in told.stdout.splitlines()
    assert f"Time-LLM reads with {label}" in told.stderr, "in the log"
    folder = home / "logs/adaptive/words"
    for name in ("model.json", "report.json"):
        assert json.loads((folder / name).read_text())["language_model"] == label, name
    (version,) = parsed(verb("models", "list", "--json"))
    assert version["config"]["language_model"] == label
    assert label in verb("models", "show", version["id"]).output
    verb("models", "promote", version["id"])
    with log_lines() as lines:
        chosen_strategies(load_settings((), {"strategies": ["words"]}, {}))
    assert any(f"reads_with={label}" in line for line in lines), "in the daemon's log"


@needs_transformers
@pytest.mark.parametrize("option", ["--llm-path", "--llm_path"])
def test_of_a_directory_trained_saved_and_loaded(
    verb: Verb, candles: str, home: Path, directory: Path, option: str
) -> None:
    told = parsed(verb("train", "--data", candles, "--model", "Time_LLM", option, "tiny", "--llm-layers", "2",
                       *QUICK, "--json"))  # fmt: skip
    assert told["language_model"] == "tiny (2 of 3 layers)"
    path = checkpoint(home, told)
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["model"]["llm_path"] == str(directory), "the whole path: who loads it may stand elsewhere"
    assert facts["language_model"] == told["language_model"]
    assert json.loads((path.parent / "report.json").read_text())["language_model"] == told["language_model"]
    first, second = Forecaster.load(path), Forecaster.load(path)
    np.testing.assert_array_equal(first.forecast(WINDOWS), second.forecast(WINDOWS))
    assert first.label == told["language_model"]
    verb("models", "promote", told["model"])


@needs_transformers
def test_random_is_no_directory(verb: Verb, candles: str) -> None:
    """It is what the error about a directory that is not there advises."""
    told = parsed(verb("train", "--data", candles, "--model", "time_llm", "--llm-path", "random", *QUICK, "--json"))
    assert "never trained" in told["language_model"]


@needs_transformers
def test_interrupted_and_resumed_it_ends_with_the_same_bits(
    verb: Verb, candles: str, home: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trading_bot.training.trainer as trainer

    words = ("train", "--data", candles, "--model", "time_llm", "--llm-path", "tiny", *QUICK)
    whole = parsed(verb(*words, "--runs", "whole", "--json"))
    real = trainer.save_state  # type: ignore[attr-defined]

    def interrupted(*arguments: Any) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "save_state", interrupted)
    verb(*words, code=1)
    monkeypatch.undo()
    monkeypatch.chdir(home)
    resumed = parsed(verb("train", "--resume", "latest", "--json"))
    assert resumed["scores"] == whole["scores"]
    ended, straight = (
        Forecaster.load(folder / each["run"] / "model.safetensors")
        for folder, each in ((home / "logs/runs", resumed), (home / "whole", whole))
    )
    np.testing.assert_array_equal(ended.forecast(WINDOWS), straight.forecast(WINDOWS))
    refused = verb("train", "--resume", "latest", "--llm", "none", code=2).stderr
    assert "--resume goes on with what the run was begun with; leave --llm out" in refused


@needs_transformers
def test_a_directory_that_has_gone_or_holds_another_model(
    verb: Verb, candles: str, home: Path, directory: Path
) -> None:
    told = parsed(verb("train-adaptive", "--data", candles, "--model", "time_llm", "--llm_path", "tiny",
                       "--adaptation_strategy", "cov", "--epochs", "1", "--json"))  # fmt: skip
    path = Path(told["folder"]) / "model.safetensors"
    market = prepare_data(swinging(700), 12, 30, tuple(told["features"]))
    before = Forecaster.load(path).forecast(market.X[:5])
    directory.rename(home / "away")
    with pytest.raises(CheckpointError, match=r"cannot be rebuilt: llm_path '.*tiny' is not a directory; .*mend that"):
        Forecaster.load(path)
    save_language_model(directory, "Llama")
    with pytest.raises(CheckpointError, match=r"safetensors: these weights were fitted to another language model than "
                                              r"tiny \(3 of 3 layers\); wanted the same: put back"):  # fmt: skip
        Forecaster.load(path)
    shutil.rmtree(directory)
    (home / "away").rename(directory)
    np.testing.assert_array_equal(Forecaster.load(path).forecast(market.X[:5]), before)
    other = json.loads((directory / "tokenizer.json").read_text())
    other["model"]["vocab"] |= {"Candles": 4, "upward": 1}
    (directory / "tokenizer.json").write_text(json.dumps(other))
    with pytest.raises(CheckpointError, match="fitted to another language model"):
        Forecaster.load(path)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--model", "cnn", "--llm-path", "x"), 2, "--llm-path is for --model time_llm, not cnn; leave it out"),
        (("--model", "lstm", "--llm", "none"), 2, "--llm is for --model time_llm"),
        (("--model", "time_llm", "--llm", "none", "--llm-layers", "2"), 2, "leave out --llm-layers"),
        (("--model", "time_llm", "--llm-layers", "0"), 2, "--llm-layers"),
        (("--model", "time_llm", "--llm-path", "nowhere"), 4, "nowhere' is not a directory"),
        (("--model", "time_llm", "--llm", "none", "--length", "5"), 4, "patch is 8 with stride 4 and time 5"),
    ],
)
@pytest.mark.parametrize("name", ["train", "train-adaptive"])
def test_what_is_wrong_is_told_before_anything_is_trained(
    verb: Verb, candles: str, home: Path, name: str, arguments: tuple[str, ...], code: int, words: str
) -> None:
    assert words in verb(name, "--data", candles, *arguments, code=code).stderr
    assert not list(home.glob("logs/runs/*"))
    assert not list(home.glob("logs/adaptive/*"))


def test_without_transformers_it_says_what_to_install(
    verb: Verb, candles: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    for name in ("train", "train-adaptive"):
        told = verb(name, "--data", candles, "--model", "time_llm", code=4).stderr
        assert "pip install 'trading-bot[llm]'" in told
