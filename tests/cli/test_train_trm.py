"""Verb `train-trm`: from candles to a checkpoint that chooses, and everything that can be wrong with its flags."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Verb, parsed
from tests.training.forecasting import swinging
from trading_bot.cli.train_trm import verdict
from trading_bot.market_data.candle_writing import FORMATS
from trading_bot.training.history import TrainingHistory
from trading_bot.training.trm_evaluation import TRMEvaluation, TRMFold
from trading_bot.training.trm_labels import prepare_trm_data
from trading_bot.training.trm_selector import Selector

STRATEGIES = Path(__file__).parents[2] / "strategies"
QUICK = ("--batches", "1", "--batch-size", "4", "--supervision-steps", "1", "--strategy-path", str(STRATEGIES))


@pytest.fixture
def candles(home: Path) -> str:
    path = home / "BTC_USDT-1h.csv"
    FORMATS["csv"][1](path, swinging(900))
    return str(path)


def test_from_a_file_to_a_checkpoint(verb: Verb, candles: str, home: Path) -> None:
    lines = verb("train-trm", "--data", candles, *QUICK).output.splitlines()
    assert lines[0].startswith("run 20")
    assert lines[0].endswith("-trm: 900 candles of BTC/USDT 1h, 2 fits of 1 batches")
    assert [line.split("  ")[0] for line in lines[3:6]] == ["TRM", "majority class", "best on train"]
    assert lines[6].startswith(("it is not shown to earn more than", "it earned more than"))
    assert lines[7] == "steps       1.00 a choice"
    (run,) = (home / "logs/runs").iterdir()
    assert lines[8] == f"checkpoint  {Path('logs/runs') / run.name / 'model.safetensors'}"
    selector = Selector.load(run / "model.safetensors")
    choices = selector.choose(np.zeros((3, 30, 40), np.float32))
    assert choices.probabilities.shape == (3, 8)
    assert choices.steps.tolist() == [1, 1, 1]
    report = json.loads((run / "report.json").read_text())
    assert set(report["scores"]) == {"trm", "majority", "best_on_train"}
    assert selector.facts["run"] == run.name
    assert selector.facts["cost"] == 0.001


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
        ((), 2, "--data is missing"),
        (("--data", "BTC_USDT-1h.cvs"), 4, "did you mean BTC_USDT-1h.csv?"),
        (("--data", "BTC_USDT-1h.csv", "--halt-target", "sed"), 1, "unknown halt target 'sed'; did you mean 'seed'?"),
        (("--data", "BTC_USDT-1h.csv", "--device", "cuda:9"), 1, "is not on this machine"),
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


def test_an_interrupted_run_leaves_no_folder(
    verb: Verb, candles: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trading_bot.training.trm_evaluation.fit_trm", interrupted)
    verb("train-trm", "--data", candles, *QUICK, code=1)
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
    fold = TRMFold(1, 5, held, chosen, np.ones(100, np.int64), 1.0, TrainingHistory())
    assert verdict(TRMEvaluation(data, (fold,))) == words
