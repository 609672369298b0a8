"""Verbs `train-adaptive` and `demo-adaptive-loss`: from candles to a folder with everything, and what can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Verb, parsed
from tests.training.forecasting import swinging
from trading_bot.bootstrap.strategies import chosen_strategies
from trading_bot.cli import demo_adaptive_loss
from trading_bot.features.table import INDICATORS, column_names
from trading_bot.market_data.candle_writing import FORMATS
from trading_bot.settings import load_settings
from trading_bot.trading.neural_forecast import NeuralForecast
from trading_bot.trading.strategy import read_latest, read_signals
from trading_bot.training.adaptive_loss_run import OHLCV
from trading_bot.training.forecaster import Forecaster
from trading_bot.training.prepared_data import prepare_data

QUICK = ("--epochs", "12", "--batch_size", "64", "--patience", "12")  # 120 steps: 100, and a few that adapt


@pytest.fixture
def candles(home: Path) -> str:
    path = home / "BTC_USDT-1h.csv"
    FORMATS["csv"][1](path, swinging(1300))
    return str(path)


def test_from_a_file_to_a_folder(verb: Verb, candles: str, home: Path) -> None:
    words = ("train-adaptive", "--data", candles, "--loss_combination", "trading_focused",
             "--adaptation-strategy", "schedule_based", "--model_id", "mine", *QUICK)  # fmt: skip
    told = verb(*words).output.splitlines()
    assert told[0] == "mine: 1,300 candles of BTC/USDT 1h, cnn, trading_focused, schedule_based"
    assert [line.split()[0] for line in told[3:6]] == ["dlf", "trading", "sharpe"]
    assert any(line.startswith("combined loss ") and "mere re-weighting" in line for line in told)
    folder = home / "logs/adaptive/mine"
    assert {path.name for path in folder.iterdir()} == {
        "run.json", "model.safetensors", "model.json", "history.csv", "losses.png", "weights.png", "report.json",
    }  # fmt: skip
    report = json.loads((folder / "report.json").read_text())
    assert sum(report["weights"].values()) == pytest.approx(1.0)
    forecaster = Forecaster.load(folder / "model.safetensors")
    assert tuple(forecaster.facts["features"]["names"]) == column_names(INDICATORS)
    assert set(report["scores"]) == {"model", "zero", "mean", "persistence", "ridge"}
    assert any(line.startswith("hit rate ") for line in told)
    assert told[-1].startswith("registered  mine-")
    again = parsed(verb(*words, "--json"))
    assert again["weights"] == report["weights"], "a finished run is done anew, with the same bits"
    assert again["scores"]["model"] == report["scores"]["model"]
    (listed,) = parsed(verb("models", "list", "--json"))
    assert again["model"] == listed["id"], "… and is the same model, which is registered once"


@pytest.mark.parametrize("data", ["BTC_USDT-1h.csv", "CRYPTEX", "CRYPTEX_ENHANCED_OPTIMIZED"])
def test_what_was_registered_becomes_a_strategy(verb: Verb, candles: str, home: Path, data: str) -> None:
    """With the 40 features, with open, high, low, close and volume alone, and with 20 chosen of the wide set."""
    (home / "mine.yaml").write_text(f"market:\n  candles: {candles}\n  history: 1300\n")
    words = ("train-adaptive", "-c", "mine.yaml", "--data", data, "--model_id", "mine", *QUICK, "--json")
    told = parsed(verb(*words))
    assert told["not_registered"] is None
    shown = verb("models", "show", told["model"]).output
    for hint in ("cnn (", "BTC/USDT 1h, 12 bars ahead", "loss comprehensive", "adaptation_strategy performance_based"):
        assert hint in shown, hint
    scores = parsed(verb("models", "show", told["model"], "--json"))["scores"]
    assert scores["hit_rate"] == told["scores"]["model"]["hit_rate"]
    assert scores["mae_zero"] == told["scores"]["zero"]["mae"]
    assert "mine: " in verb("models", "promote", told["model"]).output
    settings = load_settings((), {"strategies": ["mine"]}, {})
    (network,) = [each for each in chosen_strategies(settings) if each.name == "mine"]
    assert isinstance(network, NeuralForecast)
    (home / "bot.yaml").write_text("strategies: [mine]\n")
    findings = {each["check"]: each for each in parsed(verb("doctor", "-c", "bot.yaml", "--json"))}
    assert "mine" in str(findings["strategies"]), "the doctor takes a promoted network for a strategy, as a start does"
    market = swinging(1800)  # 500 bars more, which it has not seen
    latest = read_latest(network, market)
    assert not latest.note
    assert network.forecaster is not None
    rows = prepare_data(market, 12, 30, network.forecaster.facts["features"]["names"])
    forecast = network.forecaster.forecast(rows.X[-1:])
    assert np.sign(forecast)[0] == read_signals(network, market[: int(rows.index[-1]) + 1]).side[-1] != 0


def test_a_model_that_cannot_be_calibrated_is_not_registered(verb: Verb, candles: str, home: Path) -> None:
    short = ("train-adaptive", "--data", candles, "--timerange", "20240101-20240122", "--adaptation_strategy", "cov",
             "--epochs", "1", "--batch_size", "32")  # fmt: skip
    told = verb(*short).output
    assert "not registered, for it could not be a strategy: " in told
    assert "forecasts are too few to calibrate on" in told
    assert parsed(verb("models", "list", "--json")) == []
    found = parsed(verb(*short, "--json"))
    assert found["model"] is None
    assert "too few to calibrate on" in found["not_registered"]


def test_datasets_by_name(verb: Verb, candles: str, home: Path) -> None:
    (home / "mine.yaml").write_text(f"market:\n  candles: {candles}\n  history: 1300\n")
    common = ("train-adaptive", "-c", "mine.yaml", "--adaptation_strategy", "cov", "--epochs", "1", "--json")
    plain = parsed(verb(*common))
    assert plain["features"] == list(OHLCV)
    wide = parsed(verb(*common, "--data", "cryptex_enhanced_optimized", "--model-id", "wide"))
    assert len(wide["features"]) == 20
    assert set(plain["weights"]) == {"mse", "dlf", "trading", "asymmetric"}
    assert plain["effectiveness"] is None, "too few steps to adapt"


def test_an_unfinished_run_goes_on_only_as_it_was_begun(verb: Verb, candles: str, home: Path) -> None:
    words = ("train-adaptive", "--data", candles, "--adaptation-strategy", "cov", "--epochs", "1")
    verb(*words)
    (home / "logs/adaptive/adaptive/report.json").unlink()
    assert "holds an unfinished training with other settings" in verb(*words, "--seed", "1", code=4).stderr
    verb(*words)


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (("--loss_combination", "tradin_focused"), 1, "did you mean 'trading_focused'"),
        (("--adaptation_strategy", "performance"), 1, "did you mean 'performance_based'"),
        (("--llm_path", "x"), 2, "--llm-path is for --model time_llm"),
        (("--model", "cnm"), 4, "did you mean 'cnn'"),
        (("--llm", "none"), 2, "--llm is for --model time_llm"),
        (("--model", "time_llm", "--llm", "none", "--llm_path", "x"), 2, "leave out --llm-path"),
        (("--model", "time_llm", "--llm", "some"), 2, "'some' is not one of 'backbone', 'attention', 'none'"),
        (("--model_id", "a/b"), 2, "--model-id: found 'a/b', wanted a word"),
        (("--feature_selection_config", "none.json"), 4, "none.json"),
        (("--runs", "BTC_USDT-1h.csv"), 4, "no run can be kept in BTC_USDT-1h.csv"),
        (("--timerange", "20240101-20240112"), 1, "load more"),
    ],
)
def test_mistakes(verb: Verb, candles: str, words: tuple[str, ...], code: int, hint: str) -> None:
    result = verb("train-adaptive", "--data", candles, *words, code=code)
    assert hint in result.stderr


def test_demo(verb: Verb, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_adaptive_loss, "BARS", 1200)
    monkeypatch.setattr(demo_adaptive_loss, "EPOCHS", 16)
    told = verb("demo-adaptive-loss", "--plots", "pictures").output
    assert "combined loss " in told
    assert "mere re-weighting" in told
    for name in ("losses.png", "weights.png"):
        assert (home / "pictures" / name).read_bytes().startswith(b"\x89PNG")
    found = parsed(verb("demo-adaptive-loss", "--adaptation_strategy", "rlw", "--json"))
    first, last = found["evolution"][0]["weights"], found["evolution"][-1]["weights"]
    assert set(first.values()) == {0.25}
    assert first != last
    assert "unknown combination" in verb("demo-adaptive-loss", "--loss-combination", "x", code=1).stderr
