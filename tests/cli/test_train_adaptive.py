"""Verbs `train-adaptive` and `demo-adaptive-loss`: from candles to a folder with everything, and what can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Verb, parsed
from tests.training.forecasting import swinging
from trading_bot.cli import demo_adaptive_loss
from trading_bot.features.table import INDICATORS, column_names
from trading_bot.market_data.candle_writing import FORMATS
from trading_bot.training.adaptive_loss_run import OHLCV
from trading_bot.training.forecaster import Forecaster

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
    again = parsed(verb(*words, "--json"))
    assert again["weights"] == report["weights"], "a finished run is done anew, with the same bits"
    assert again["scores"]["model"] == report["scores"]["model"]


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
        (("--model_id", "a/b"), 1, "can name a file"),
        (("--feature_selection_config", "none.json"), 4, "none.json"),
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
