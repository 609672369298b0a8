"""Verb `train`: from candles to a registered model, and everything that can be wrong with its flags."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.cli.account import write_account
from tests.cli.conftest import Verb, parsed
from tests.features.market import HOUR_MS
from tests.training.forecasting import swinging
from trading_bot.bootstrap import load_market
from trading_bot.cli.train import training_candles, verdict
from trading_bot.features.compute import feature_matrix
from trading_bot.features.selection import FeatureSelector
from trading_bot.features.selection_config import save
from trading_bot.features.windows import forward_returns
from trading_bot.market_data.candle_writing import FORMATS
from trading_bot.settings import load_settings
from trading_bot.storage.store import open_store
from trading_bot.training.scoring import Score

QUICK = ("--epochs", "1", "--batches-per-epoch", "4")


@pytest.fixture
def candles(home: Path) -> str:
    path = home / "BTC_USDT-1h.csv"
    FORMATS["csv"][1](path, swinging(900))
    return str(path)


def test_from_a_file_to_a_strategy(verb: Verb, candles: str, home: Path) -> None:
    result = verb("train", "--data", candles, "--walk-forward", "2", *QUICK)
    lines = result.output.splitlines()
    assert lines[0].startswith("run 20")
    assert lines[0].endswith("-cnn: 900 candles of BTC/USDT 1h, 3 fits of at most 1 epochs")
    assert [line.split()[0] for line in lines[3:8]] == ["model", "zero", "mean", "persistence", "ridge"]
    assert lines[8].startswith("hit rate ")
    run = next((home / "logs/runs").iterdir())
    assert (run / "curves.png").is_file()
    assert (run / "model.safetensors").is_file()
    listed = parsed(verb("models", "list", "--json"))
    assert [(each["id"], each["strategy"], each["status"]) for each in listed] == [
        (f"neural_forecast-{run.name}", "neural_forecast", "candidate")
    ]
    assert listed[0]["config"]["model"]["name"] == "cnn"
    assert listed[0]["config"]["trained_until"] == json.loads((run / "run.json").read_text())["data"]["to"]
    assert (
        listed[0]["scores"]["hit_rate"] == json.loads((run / "report.json").read_text())["scores"]["model"]["hit_rate"]
    )
    assert "is its first champion" in verb("models", "promote", listed[0]["id"]).output
    table = verb("models", "list").output
    assert "champion" in table
    assert f"{listed[0]['scores']['skill']:+.2%}" in table


def test_two_models_are_compared_on_what_neither_has_seen(verb: Verb, candles: str) -> None:
    seen = ("--timerange", "-20240128", "--horizon", "3")  # 648 of 900 bars
    ids = [parsed(verb("train", "--data", candles, *QUICK, *seen, "--seed", seed, "--json"))["model"] for seed in "12"]
    assert (
        "has no champion; no model has been promoted"
        in verb("models", "compare", ids[1], "--data", candles, code=1).stderr
    )
    verb("models", "promote", ids[0])
    told = verb("models", "compare", ids[1], "--data", candles).output
    assert told.splitlines()[0].strip() == "2024-01-28 03:00 to 2024-02-07 08:00"
    assert f"{ids[1]} is not shown to be better: it explains " in told or f"{ids[1]} is better: it explains " in told
    found = parsed(verb("models", "compare", ids[1], ids[0], "--data", candles, "--margin", "0.5", "--json"))
    assert (found["champion"], found["challenger"], found["better"]) == (ids[0], ids[1], False)
    assert found["comparison"]["margin"] == 0.5
    assert "is the champion itself" in verb("models", "compare", ids[0], "--data", candles, code=1).stderr


def test_as_json_and_with_options(verb: Verb, candles: str, home: Path) -> None:
    arguments = (
        "--model", "LSTM", "--loss", "sharpe", "--horizon", "3", "--length", "8", "--batch-size", "64",
        "--optimizer", "rmsprop", "--scheduler", "cosine", "--learning-rate", "0.01", "--patience", "1", "--seed", "4",
        "--model_id", "neural_btc", "--runs", "elsewhere", "--timerange", "20240101-20240201",
    )  # fmt: skip
    told = parsed(verb("train", "--data", candles, *QUICK, *arguments, "--json"))
    assert told["model"] == f"neural_btc-{told['run']}"
    config = json.loads((home / "elsewhere" / told["run"] / "run.json").read_text())
    assert config["data"]["rows"] == 31 * 24
    fit = config["config"]["fit"]
    assert (fit["model"], fit["loss"], fit["optimizer"], fit["scheduler"]) == ("lstm", "sharpe", "rmsprop", "cosine")
    assert (fit["batch_size"], fit["seed"], fit["learning_rate"]) == (64, 4, 0.01)
    assert set(told["scores"]) == {"model", "zero", "mean", "persistence", "ridge"}


def test_features_that_were_selected(verb: Verb, candles: str, home: Path) -> None:
    market = swinging(900)
    matrix = feature_matrix(market)
    returns = forward_returns(market, 3)
    rows = matrix.index < len(returns)
    table = pd.DataFrame(matrix.values.T[rows], columns=list(matrix.names))
    selector = FeatureSelector(k=5).fit(table, returns[matrix.index[rows]])
    save(selector, home / "feature_selection_config.json")
    flag = ("--feature_selection_config", "feature_selection_config.json")
    told = parsed(verb("train", "--data", candles, *QUICK, "--horizon", "3", *flag, "--json"))
    facts = json.loads((home / "logs/runs" / told["run"] / "model.json").read_text())
    assert facts["features"]["names"] == [str(name) for name in selector.get_feature_names_out()]
    assert len(facts["scaler"]["mean"]) == 5
    said = verb("train", "--data", candles, *QUICK, "--horizon", "3", *flag).output
    assert "the features were chosen beforehand" in said


def test_interrupted_and_resumed(verb: Verb, candles: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import trading_bot.training.trainer as trainer

    calls = {"left": 2}
    real = trainer.save_state  # type: ignore[attr-defined]

    def interrupted(*arguments: Any) -> None:
        real(*arguments)
        calls["left"] -= 1
        if not calls["left"]:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "save_state", interrupted)
    quick = ("--epochs", "2", "--batches-per-epoch", "4")
    stopped = verb("train", "--data", candles, *quick, code=1)
    run = next((home / "logs/runs").iterdir()).name
    assert f"interrupted; go on with `trading-bot train --resume {run}`" in stopped.stderr
    monkeypatch.undo()
    monkeypatch.chdir(home)
    resumed = verb("train", "--resume", run, "-v")
    assert f"neural_forecast-{run}" in resumed.output
    model = home / "logs/runs" / run / "model.safetensors"
    written = model.stat().st_mtime_ns
    again = verb("train", "--resume", "latest")  # of a finished one: nothing is trained, the same is registered
    assert f"neural_forecast-{run}" in again.output
    assert model.stat().st_mtime_ns == written
    assert len(parsed(verb("models", "list", "--json"))) == 1
    assert "did you mean" in verb("train", "--resume", run[:-1], code=4).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--data", "BTC_USDT-1h.cvs"), 4, "did you mean BTC_USDT-1h.csv?"),
        (("--data", "XRP/USDT"), 4, "no candles of XRP/USDT: the market is"),
        (("--data", "BTC_USDT-1h.csv", "--model", "lsmt"), 4, "unknown model 'lsmt'; did you mean 'lstm'?"),
        (("--data", "BTC_USDT-1h.csv", "--loss", "hubert"), 1, "unknown loss 'hubert'; did you mean 'huber'?"),
        (("--data", "BTC_USDT-1h.csv", "--optimizer", "adams"), 1, "unknown optimizer 'adams'"),
        (("--data", "BTC_USDT-1h.csv", "--scheduler", "cosines"), 1, "unknown scheduler 'cosines'"),
        (("--data", "BTC_USDT-1h.csv", "--device", "cuda:9"), 1, "is not on this machine; it has"),
        (("--data", "BTC_USDT-1h.csv", "--horizon", "5000"), 1, "no return over 5000 bars"),
        (("--data", "BTC_USDT-1h.csv", "--walk-forward", "5000"), 1, "would fit"),
        (("--data", "BTC_USDT-1h.csv", "--walk-forward", "0"), 2, "--walk-forward"),
        (("--data", "BTC_USDT-1h.csv", "--timerange", "20240101-20240105"), 1, "96 candles of BTC/USDT are too few"),
        (("--data", "BTC_USDT-1h.csv", "--timerange", "20350101-"), 1, "0 candles"),
        (("--data", "BTC_USDT-1h.csv", "--strategy", "my-name"), 2, "wanted a word"),
        (("--data", "BTC_USDT-1h.csv", "--batch-size", "4", "--loss", "sharpe"), 1, "wanted at least 8"),
        (("--data", "BTC_USDT-1h.csv", "--feature-selection-config", "x.json"), 4, "x.json cannot be read"),
        (("--resume", "latest"), 4, "there are none yet"),
        (("--resume", "latest", "--epochs", "9"), 2, "--resume goes on with what the run was begun with"),
        (("--data", "BTC_USDT-1h.csv", "--strategy", "größe"), 2, "wanted a word"),
        (("--data", "BTC_USDT-1h.csv", "--strategy", "_mine"), 2, "wanted a word"),
        (("--data", "BTC_USDT-1h.csv", "--strategy", "trm_mine"), 2, "those of `train-trm`'s selectors"),
        (("--data", "BTC_USDT-1h.csv", "--strategy", "x" * 61), 2, "wanted a word"),
        (("--data", "BTC_USDT-1h.csv", "--seed", "-1"), 2, "--seed"),
        (("--data", "BTC_USDT-1h.csv", "--timerange", "20240101-20240121"), 1, "too few to calibrate on"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_before_anything_is_trained(
    verb: Verb, candles: str, home: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    result = verb("train", *arguments, code=code)
    assert words in result.stderr
    if code != 2:
        assert result.stderr.count("\n") == 1
    assert not list(home.glob("logs/runs/*"))
    assert not (home / "data").exists()


def test_a_pair_of_the_local_exchange_is_only_what_was_replayed(home: Path) -> None:
    settings = load_settings((), {"market": {"history": 700}, "synthetic": {"bars": 1_200}}, {})
    whole = load_market(settings)[0]["BTC/USDT"]
    known = training_candles(settings, "btc/usdt")
    np.testing.assert_array_equal(known.close, whole.close[:700])
    write_account(home / "data")
    store = open_store(settings.database_url)
    with store.transaction() as tx:
        from trading_bot.domain.journal import Snapshot
        from trading_bot.trading.memory import TRADER

        tx.update(Snapshot(TRADER, {"memory": {"time": int(whole.time[900])}}))
    store.close()
    np.testing.assert_array_equal(training_candles(settings, "BTC/USDT").close, whole.close[:901])
    assert int(whole.time[1] - whole.time[0]) == HOUR_MS


def test_what_the_end_needs_is_looked_at_before_the_training(
    verb: Verb, candles: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "data").mkdir()
    (home / "data/trading_bot.sqlite").write_text("something else entirely, and long enough to be looked at\n" * 20)
    result = verb("train", "--data", candles, *QUICK, code=1)
    assert "is not a SQLite database" in result.stderr
    assert not list(home.glob("logs/runs/*/folds"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    runs = list(home.glob("logs/runs/*"))
    assert "TensorBoard is not installed" in verb("train", "--data", candles, *QUICK, "--tensorboard", code=4).stderr
    assert list(home.glob("logs/runs/*")) == runs


def test_a_run_of_a_pair_goes_on_though_its_candles_have_grown(verb: Verb, home: Path) -> None:
    (home / "bot.yaml").write_text("market: {history: 700}\nsynthetic: {bars: 1200}\n")
    told = parsed(verb("train", "--data", "BTC/USDT", *QUICK, "--json", "-c", "bot.yaml"))
    (home / "bot.yaml").write_text("market: {history: 800}\nsynthetic: {bars: 1200}\n")
    assert parsed(verb("train", "--resume", told["run"], "--json", "-c", "bot.yaml"))["model"] == told["model"]


@pytest.mark.parametrize(
    ("skill", "interval", "words"),
    [
        (0.03, (0.01, 0.05), "the error is the smallest, and smaller than without a forecast"),
        (0.03, (-0.01, 0.05), "the error is the smallest, but by no more than chance may give"),
        (0.01, (0.005, 0.05), "the error is no smaller than that of ridge"),
    ],
)
def test_no_more_is_said_than_the_intervals_carry(skill: float, interval: tuple[float, float], words: str) -> None:
    zero = Score(500, 0.01, 0.02, 0.0, (0.0, 0.0), None, None, None)
    model = dataclasses.replace(zero, skill=skill, skill_interval=interval, hit_rate=0.6, hit_rate_interval=(0.4, 0.7))
    scores = {"model": model, "zero": zero, "mean": zero, "ridge": dataclasses.replace(zero, skill=0.02)}
    assert verdict(scores) == f"hit rate no better than a coin's toss; {words}"


def test_tensorboard(verb: Verb, candles: str, home: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra [tensorboard] is not installed")
    told = parsed(verb("train", "--data", candles, *QUICK, "--tensorboard", "--json"))
    events = sorted((home / "logs/runs" / told["run"] / "tensorboard").glob("*/events*"))
    assert [path.parent.name for path in events] == ["final-cnn", "fold-1-of-1-cnn"]
    assert all(path.stat().st_size for path in events)
