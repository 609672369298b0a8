"""Verb `train-trm`: from candles to a checkpoint that chooses, and everything that can be wrong with its flags."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.cli.conftest import Verb, parsed
from tests.training.forecasting import swinging
from trading_bot.cli.train_trm import verdict
from trading_bot.market_data.candle_writing import FORMATS
from trading_bot.training import trm_evaluation, trm_run
from trading_bot.training.history import TrainingHistory
from trading_bot.training.trm_evaluation import TRMEvaluation, TRMFold
from trading_bot.training.trm_labels import prepare_trm_data
from trading_bot.training.trm_selector import Selector
from trading_bot.training.trm_trainer import fit_trm

STRATEGIES = Path(__file__).parents[2] / "strategies"
QUICK = ("--batches", "1", "--batch-size", "4", "--supervision-steps", "1", "--strategy-path", str(STRATEGIES))


def interrupting(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def candles(home: Path) -> str:
    path = home / "BTC_USDT-1h.csv"
    FORMATS["csv"][1](path, swinging(900))
    return str(path)


def test_from_a_file_to_a_candidate(verb: Verb, candles: str, home: Path) -> None:
    lines = verb("train-trm", "--data", candles, *QUICK).output.splitlines()
    assert lines[0].startswith("run 20")
    assert lines[0].endswith("-trm: 900 candles of BTC/USDT 1h, 2 fits of 1 batches")
    assert [line.split("  ")[0] for line in lines[3:6]] == ["TRM", "majority class", "best on train"]
    assert lines[6].startswith(("it is not shown to earn more than", "it earned more than"))
    assert re.fullmatch(
        r"log loss    \d\.\d{4}, that of .* shares \d\.\d{4}: a gain of [+-]\d\.\d{4} \(.* to .*\)", lines[7]
    )
    assert lines[8] == "steps       1.00 a choice"
    (run,) = (home / "logs/runs").iterdir()
    assert lines[9] == f"checkpoint  {Path('logs/runs') / run.name / 'model.safetensors'}"
    made = f"trm_BTC_USDT_1h-{run.name}"
    assert lines[10] == (
        f"registered  {made}; `trading-bot models promote {made}` puts it in use where ensemble.method is trm"
    )
    selector = Selector.load(run / "model.safetensors")
    choices = selector.choose(np.zeros((3, 30, 40), np.float32))
    assert choices.probabilities.shape == (3, 8)
    assert choices.steps.tolist() == [1, 1, 1]
    report = json.loads((run / "report.json").read_text())
    assert set(report["scores"]) == {"trm", "majority", "best_on_train"}
    assert selector.facts["run"] == run.name
    assert selector.facts["cost"] == 0.001
    (listed,) = parsed(verb("models", "list", "--json"))
    assert (listed["id"], listed["strategy"], listed["status"]) == (made, "trm_BTC_USDT_1h", "candidate")
    assert listed["config"]["trained_until"] == int(swinging(900).time[-1])
    assert listed["scores"]["log_loss"] == report["trm"]["log_loss"]
    kept = home / "data/models" / f"{made}.safetensors"
    assert kept.read_bytes() == (run / "model.safetensors").read_bytes()


def test_it_is_promoted_pinned_taken_back_and_never_taken_for_a_forecaster(
    verb: Verb, candles: str, home: Path
) -> None:
    first, second = (
        parsed(verb("train-trm", "--data", candles, *QUICK, "--seed", seed, "--json"))["model"] for seed in ("0", "1")
    )
    later = "a running daemon uses it from its next start, where ensemble.method is trm"
    assert verb("models", "promote", first).output == f"trm_BTC_USDT_1h: {first} is its first champion; {later}\n"
    assert verb("models", "promote", second).output == f"trm_BTC_USDT_1h: {second} replaces {first}; {later}\n"
    assert "is pinned" in verb("models", "pin", second).output
    row = next(line for line in verb("models", "list").output.splitlines() if second in line)
    assert " ".join(row.split()).startswith(f"{second} trm_BTC_USDT_1h champion, pinned selector BTC/USDT 1h 12 ")
    told = verb("models", "show", second).output
    assert "Weighs        ema_trend, atr_breakout, rsi_mean_reversion, bollinger_reversion, macd_momentum on" in told
    for label in (
        "Network       trm (",
        "Accuracy      ",
        "Earned        ",
        "Training      batch_size 4, batches 1, ",
        "Log loss      ",
        "Verdict       it ",
    ):
        assert label in told, label
    back = verb("models", "rollback", "trm_BTC_USDT_1h").output
    assert back == f"trm_BTC_USDT_1h: {first} is back, {second} retired; {later}\n"
    said = verb("models", "rollback", "trm_BTC_USDT_1h", code=1).stderr
    assert "train another, or set ensemble.method to table" in said
    said = verb("models", "compare", second, first, "--data", candles, code=1).stderr
    assert f"{second} is a selector of strategies, wanted a network that forecasts" in said


def test_two_begun_in_one_second_in_other_folders_are_both_registered(
    verb: Verb, candles: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    monkeypatch.setattr(trm_run, "datetime", SimpleNamespace(now=lambda _: moment))
    first, second = (
        parsed(verb("train-trm", "--data", candles, *QUICK, "--runs", seed, "--seed", seed, "--json")) for seed in "12"
    )
    assert first["run"] == second["run"] == "20260102-030405-trm"
    assert first["model"] == "trm_BTC_USDT_1h-20260102-030405-trm"
    assert re.fullmatch(re.escape(first["model"]) + "-[0-9a-f]{8}", second["model"])
    again = parsed(verb("train-trm", "--resume", "latest", "--runs", "2", "--json"))
    assert again["model"] == second["model"], "told again, it is no third one"
    assert [each["id"] for each in parsed(verb("models", "list", "--json"))] == [first["model"], second["model"]]
    for each in (first, second):
        verb("models", "promote", each["model"])


def test_doctor_says_that_the_ensemble_lacks_its_selector(verb: Verb, candles: str, home: Path) -> None:
    (home / "bot.yaml").write_text(f"ensemble: {{method: trm}}\nstrategy_path: {STRATEGIES}\n")
    said = verb("doctor", "-c", "bot.yaml", code=1).stdout
    assert "ensemble.method is trm, which wants a promoted selector, found none" in said
    made = parsed(verb("train-trm", "--data", candles, *QUICK, "--json"))["model"]
    verb("models", "promote", made)
    assert "; weighed by trm_BTC_USDT_1h" in verb("doctor", "-c", "bot.yaml").stdout


def test_an_interrupted_run_goes_on_and_comes_to_the_same(
    verb: Verb, candles: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--data", candles, *QUICK, "--walk-forward", "3")
    whole = parsed(verb("train-trm", *flags, "--json"))
    fits = list[int]()

    def interrupted(*given: Any) -> Any:
        fits.append(given[2])
        if len(fits) == 3:
            raise KeyboardInterrupt
        return fit_trm(*given)

    monkeypatch.setattr(trm_evaluation, "fit_trm", interrupted)
    result = verb("train-trm", *flags, "--runs", "cut", code=1)
    (run,) = (home / "cut").iterdir()
    assert f"interrupted; go on with `trading-bot train-trm --resume {run.name} --runs cut`" in result.stderr
    assert sorted(path.name for path in (run / "folds").iterdir()) == ["fold-1.safetensors", "fold-2.safetensors"]
    told = verb("train-trm", "--resume", "latest", "--runs", "cut", "--seed", "3", code=2).stderr
    assert "--resume goes on with what the run was begun with; leave --seed out" in told
    resumed = parsed(verb("train-trm", "--resume", "latest", "--runs", "cut", "--json"))
    assert len(fits) == 4, "one fold more, and none again"
    assert resumed["scores"] == whole["scores"]
    assert resumed["trm"] == whole["trm"]
    ours, theirs = (
        Selector.load(Path(each["folder"]) / "model.safetensors").network.state_dict() for each in (resumed, whole)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    again = parsed(verb("train-trm", "--resume", run.name, "--runs", "cut", "--json"))
    assert len(fits) == 4, "of a run that is finished nothing is done"
    assert again == resumed


def test_strategies_that_changed_meanwhile_are_noticed(
    verb: Verb, candles: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(STRATEGIES, home / "mine")
    flags = [*QUICK[:-1], "mine"]
    monkeypatch.setattr(trm_evaluation, "fit_trm", interrupting)
    verb("train-trm", "--data", candles, *flags, code=1)
    path = home / "mine/ema_trend.py"
    path.write_text(path.read_text().replace("FAST, SLOW = 10, 25", "FAST, SLOW = 4, 25"))
    said = verb("train-trm", "--resume", "latest", code=1).stderr
    assert "the strategies have changed since; put their files back, or begin a new run" in said


def test_as_json_and_with_options(verb: Verb, candles: str, home: Path) -> None:
    (home / "bot.yaml").write_text("paper: {taker_fee: '0.002'}\n")
    arguments = (
        "--horizon", "3", "--shorting", "--walk-forward", "2", "--seed", "4", "--halt-target", "correct",
        "--learning-rate", "0.001", "--runs", "elsewhere", "--timerange", "-20240201", "-c", "bot.yaml",
    )  # fmt: skip
    told = parsed(verb("train-trm", "--data", candles, *QUICK, *arguments, "--json"))
    facts = json.loads((home / "elsewhere" / told["run"] / "model.json").read_text())
    assert (facts["horizon"], facts["shorting"], facts["cost"]) == (3, True, 0.002)
    fit = facts["training"]
    assert (fit["seed"], fit["halt_target"], fit["learning_rate"]) == (4, "correct", 0.001)
    assert [fold["fold"] for fold in told["folds"]] == [1, 2]
    assert facts["trained_until"] == int(swinging(900).time[31 * 24 - 1])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--data", "BTC_USDT-1h.cvs"), 4, "did you mean BTC_USDT-1h.csv?"),
        (("--data", "BTC_USDT-1h.csv", "--halt-target", "sed"), 1, "unknown halt target 'sed'; did you mean 'seed'?"),
        (("--data", "BTC_USDT-1h.csv", "--device", "cuda:9"), 1, "is not on this machine"),
        (
            ("--data", "BTC_USDT-1h.csv", "--learning-rate", "-1"),
            1,
            "learning_rate is -1.0; wanted a finite number above 0",
        ),
        (("--data", "BTC_USDT-1h.csv", "--runs", "BTC_USDT-1h.csv"), 4, "no run can be kept in BTC_USDT-1h.csv"),
        (("--data", "BTC_USDT-1h.csv", "--walk-forward", "5000"), 1, "would fit"),
        (("--data", "BTC_USDT-1h.csv", "--horizon", "5000"), 1, "no outcome over 5000 bars"),
        (("--data", "BTC_USDT-1h.csv", "--timerange", "20240101-20240122"), 1, "after 520 bars of warm-up"),
        (("--data", "BTC_USDT-1h.csv", "--strategy-path", "nowhere"), 4, "strategy folder nowhere not found"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_trained(
    verb: Verb, candles: str, home: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    result = verb("train-trm", *QUICK, *arguments, code=code)
    assert words in result.stderr
    assert not list(home.glob("logs/runs/*"))


@pytest.mark.parametrize(
    ("trm", "words"),
    [
        (1, "it earned more than majority class and best on train, by more than chance may give"),
        (0, "it is not shown to earn more than majority class or best on train"),
    ],
)
def test_no_more_is_said_than_the_interval_carries(trm: int, words: str) -> None:
    market = swinging(900)
    sides = {name: np.zeros(900, np.int8) for name in ("ema_trend", "atr_breakout", "rsi_mean_reversion",
                                                       "bollinger_reversion", "macd_momentum")}  # fmt: skip
    data = prepare_trm_data(market, sides)
    data.pnl[:, 1] = 0.01
    held = np.arange(0, 500, 5)
    chosen = {arm: np.full(100, choice) for arm, choice in (("trm", trm), ("majority", 0), ("best_on_train", 0))}
    fold = TRMFold(1, 5, held, chosen, np.full((100, 8), 1 / 8), np.ones(100, np.int64), 1.0, TrainingHistory())
    assert verdict(TRMEvaluation(data, (fold,))) == words
