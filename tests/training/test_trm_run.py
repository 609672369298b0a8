"""A run of `train-trm`: finished fits stay, wherever it was stopped; the same comes of it; and what no longer fits."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.features.market import candles_of
from tests.training.test_trm_labels import random_sides
from tests.training.test_trm_trainer import QUICK
from trading_bot.errors import CheckpointError, ConfigurationError, TrainingError
from trading_bot.training import trm_evaluation
from trading_bot.training.history import TrainingHistory
from trading_bot.training.trm_evaluation import TRMEvaluation, TRMFold, class_shares, walk_forward_trm
from trading_bot.training.trm_labels import CLASSES, TRMData, prepare_trm_data
from trading_bot.training.trm_run import (
    TRMRun,
    TRMRunConfig,
    TRMRunResult,
    begin_trm_run,
    execute_trm,
    open_trm_run,
    scores_of,
)
from trading_bot.training.trm_selector import Selector
from trading_bot.training.trm_trainer import fit_trm

ROOT = Path(__file__).parents[2]
LATER = candles_of(720)
CANDLES = LATER[:700]
CONFIG = TRMRunConfig(source="made here", strategy_path="strategies", horizon=6, folds=3, fit=QUICK)


def prepared(seed: int = 0) -> TRMData:
    sides = random_sides(700)
    sides = {name: np.roll(side, seed) for name, side in sides.items()}
    return prepare_trm_data(CANDLES, sides, horizon=6)


def begun(root: Path) -> TRMRun:
    return begin_trm_run(root, CONFIG, CANDLES, prepared())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> TRMRunResult:
    return execute_trm(begun(tmp_path_factory.mktemp("runs")), CANDLES, prepared())


def assert_same(one: TRMRunResult, other: TRMRunResult) -> None:
    """To the last bit, but for the run's own name and the seconds it took."""
    assert scores_of(one.evaluation) == scores_of(other.evaluation)
    for a, b in zip(one.evaluation.folds, other.evaluation.folds, strict=True):
        np.testing.assert_array_equal(a.probabilities, b.probabilities)
        assert (a.threshold, a.trained) == (b.threshold, b.trained)
        assert a.history["val_loss"] == b.history["val_loss"]
    weights = one.selector.network.state_dict()
    assert all(torch.equal(weights[name], each) for name, each in other.selector.network.state_dict().items())
    assert one.selector.threshold == other.selector.threshold


def test_everything_is_in_its_folder(done: TRMRunResult) -> None:
    folder = done.run.folder
    assert sorted(path.name for path in folder.iterdir()) == [
        "folds", "model.json", "model.safetensors", "report.json", "trm.json",
    ]  # fmt: skip
    assert [path.name for path in sorted((folder / "folds").iterdir())] == [
        f"fold-{number}.safetensors" for number in (1, 2, 3)
    ]
    report = json.loads((folder / "report.json").read_text())
    assert set(report["scores"]) == {"trm", "majority", "best_on_train"}
    assert [fold["fold"] for fold in report["folds"]] == [1, 2, 3]
    assert len(report["final"]["val_loss"]) == QUICK.looks
    facts = done.selector.facts
    assert facts["trained_until"] == CANDLES.time[-1]
    assert (facts["run"], facts["data_hash"], facts["folds"]) == (done.run.id, done.run.data_hash, 3)
    assert done.run.finished


def test_it_is_the_evaluation_without_a_folder(done: TRMRunResult) -> None:
    bare = walk_forward_trm(prepared(), QUICK, 3)
    assert scores_of(bare) == scores_of(done.evaluation)


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_interrupted_in_any_fold_it_goes_on_and_comes_to_the_same(
    done: TRMRunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fold: int
) -> None:
    fits = list[int]()

    def interrupted(*given: Any) -> Any:
        fits.append(given[2])
        if len(fits) == fold:
            raise KeyboardInterrupt
        return fit_trm(*given)

    monkeypatch.setattr(trm_evaluation, "fit_trm", interrupted)
    run = begun(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        execute_trm(run, CANDLES, prepared())
    assert len(list((run.folder / "folds").glob("*"))) == fold - 1
    assert not run.finished
    again = open_trm_run(tmp_path, "latest")
    assert (again.config, again.period, again.created) == (run.config, run.period, run.created)
    resumed = execute_trm(again, CANDLES, prepared())
    assert len(fits) == 3 + 1, "the fold that was cut short, and no other, is fitted again"
    assert_same(resumed, done)


def test_interrupted_in_the_last_fit_no_fold_is_fitted_again(
    done: TRMRunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(tmp_path)

    def stop(fit: str, epoch: int, values: object) -> None:
        if fit.startswith("final"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute_trm(run, CANDLES, prepared(), stop)
    monkeypatch.setattr(trm_evaluation, "fit_trm", lambda *_: pytest.fail("folds are done"))
    resumed = execute_trm(run, CANDLES, prepared())
    assert_same(resumed, done)
    before = resumed.checkpoint.stat().st_mtime_ns, resumed.sha256
    finished = execute_trm(open_trm_run(tmp_path, run.id), CANDLES, prepared())
    assert (finished.checkpoint.stat().st_mtime_ns, finished.sha256) == before, "it is not written again"


SCRIPT = """
import sys, time
from pathlib import Path
from tests.training.test_trm_run import CANDLES, begun, prepared
from trading_bot.training.trm_run import execute_trm
def slow(fit, epoch, values):
    print(fit, flush=True)
    time.sleep(0.5)
execute_trm(begun(Path(sys.argv[1])), CANDLES, prepared(), slow)
"""


def test_killed_it_goes_on_and_comes_to_the_same(done: TRMRunResult, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("fold 2/3"):
                time.sleep(0.1)
                process.send_signal(signal.SIGKILL)
                break
    run = open_trm_run(tmp_path, "latest")
    assert [path.name for path in (run.folder / "folds").glob("fold*")] == ["fold-1.safetensors"]
    assert_same(execute_trm(run, CANDLES, prepared()), done)


# What no longer fits


def test_other_candles_labels_or_files_are_refused(done: TRMRunResult, tmp_path: Path) -> None:
    shutil.copytree(done.run.folder, tmp_path / done.run.id)
    run = open_trm_run(tmp_path, "latest")
    with pytest.raises(CheckpointError, match=r"was begun on candles .*, these are .*begin a new run"):
        execute_trm(run, CANDLES[:600], prepared())
    assert len(run.own_candles(LATER)) == 700, "those that came since are left out"
    with pytest.raises(CheckpointError, match="the strategies have changed since"):
        execute_trm(run, CANDLES, prepared(seed=5))
    with pytest.raises(CheckpointError, match=r"fold-1\.safetensors was made with settings or features \w+, wanted"):
        walk_forward_trm(prepared(), dataclasses.replace(QUICK, learning_rate=0.002), 2, folder=run.folder / "folds")
    fold = run.folder / "folds/fold-2.safetensors"
    (run.folder / "folds/fold-1.safetensors").replace(fold)
    with pytest.raises(CheckpointError, match="is not this fold's: it holds other rows; remove it"):
        walk_forward_trm(prepared(), QUICK, 3, folder=fold.parent)
    fold.write_bytes(fold.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="is no whole checkpoint"):
        walk_forward_trm(prepared(), QUICK, 3, folder=fold.parent)


def test_a_run_that_is_not_there_or_damaged_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown run 'latest'.*none yet"):
        open_trm_run(tmp_path, "latest")
    run = begun(tmp_path)
    with pytest.raises(ConfigurationError, match=f"did you mean '{run.id}'"):
        open_trm_run(tmp_path, run.id[:-1])
    (run.folder / "trm.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"cannot be read .*begin a new run"):
        open_trm_run(tmp_path, run.id)
    with pytest.raises(TrainingError, match="would fit"):
        begin_trm_run(tmp_path / "other", dataclasses.replace(CONFIG, folds=900), CANDLES, prepared())
    assert not (tmp_path / "other").exists()


def test_runs_of_train_are_none_of_these(tmp_path: Path) -> None:
    run = begun(tmp_path)
    (tmp_path / "20990101-000000-cnn").mkdir()
    (tmp_path / "20990101-000000-cnn/run.json").write_text("{}")
    assert open_trm_run(tmp_path, "latest").id == run.id


# The log loss


def test_log_losses_by_hand() -> None:
    data = dataclasses.replace(prepared(), labels=np.array([0, 0, 1, 0, 1, 3], np.int64))
    said = np.full((2, 8), 0.02)
    said[0, 1], said[1, 3] = 0.5, 0.0
    fold = TRMFold(1, 4, np.array([4, 5]), {}, said, np.ones(2, np.int64), 1.0, TrainingHistory())
    found = TRMEvaluation(data, (fold,))
    assert found.surprise()[0] == pytest.approx(np.log(2))
    assert 700 < found.surprise()[1] < 710, "a class it held impossible costs much, and not more than can be added up"
    assert class_shares(data.labels[:4]).tolist() == pytest.approx([4 / 12, 2 / 12, *[1 / 12] * 6])
    assert found.surprise_of_shares() == pytest.approx([np.log(6), np.log(12)])


def test_shares_are_those_of_the_training_rows_alone(done: TRMRunResult) -> None:
    evaluation = done.evaluation
    labels, first = evaluation.data.labels.copy(), evaluation.folds[0]
    before = evaluation.surprise_of_shares()[: len(first.held)]
    labels[first.held[-1] + 1 :] = len(CLASSES) - 1
    changed = TRMEvaluation(dataclasses.replace(evaluation.data, labels=labels), evaluation.folds)
    np.testing.assert_array_equal(changed.surprise_of_shares()[: len(first.held)], before)


def test_the_checkpoint_is_what_was_fitted(done: TRMRunResult) -> None:
    assert Selector.load(done.checkpoint).facts == done.selector.facts
    scores = scores_of(done.evaluation)
    low, high = scores["log_loss_gain_interval"]
    assert low <= scores["log_loss_gain"] <= high
    assert scores["log_loss_gain"] == pytest.approx(scores["log_loss_shares"] - scores["log_loss"])
