"""A run's folder: everything of it is there, and it goes on wherever it was stopped."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.training.forecasting import FEATURES, QUICK, swinging
from trading_bot.errors import CandleDataError, CheckpointError, ConfigurationError, TradingBotError, TrainingError
from trading_bot.training.checkpoint_file import file_sha256
from trading_bot.training.forecaster import Forecaster
from trading_bot.training.run import RunConfig, RunResult, begin_run, execute, fits_of, open_run, own_candles

ROOT = Path(__file__).parents[2]
CANDLES = swinging()
CONFIG = RunConfig(source="made here", horizon=3, length=10, features=FEATURES, folds=2, fit=QUICK)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return execute(begin_run(tmp_path_factory.mktemp("runs"), CONFIG, CANDLES), CANDLES)


def test_everything_is_in_its_folder(done: RunResult) -> None:
    folder = done.run.folder
    assert sorted(path.name for path in folder.iterdir()) == [
        "curves.png", "folds", "model.json", "model.safetensors", "report.json", "run.json",
    ]  # fmt: skip
    assert sorted(path.name for path in (folder / "folds").iterdir()) == ["fold-1.safetensors", "fold-2.safetensors"]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((folder / "report.json").read_text())
    assert report["scores"]["model"] == json.loads(json.dumps(done.scores["model"].as_json()))
    assert len(report["folds"]) == 2
    assert len(report["final"]["cnn"]["val_loss"]) <= QUICK.epochs
    facts = json.loads((folder / "model.json").read_text())
    assert facts["trained_until"] == CANDLES.time[-1]
    assert facts["symbol"] == "BTC/USDT"
    assert facts["features"]["names"] == list(FEATURES)
    assert facts["scores"]["model"]["hit_rate"] == done.scores["model"].hit_rate
    assert done.sha256 == file_sha256(done.checkpoint)
    assert fits_of(CONFIG) == 3


def test_a_checkpoint_forecasts_as_the_network_did(done: RunResult) -> None:
    loaded = Forecaster.load(done.checkpoint)
    windows = np.random.default_rng(0).normal(size=(7, 10, 4)).astype(np.float32)
    np.testing.assert_array_equal(loaded.forecast(windows), done.forecaster.forecast(windows))
    assert loaded.calibration is not None
    assert 0 <= loaded.calibration.confidence(np.array([0.01]))[0] < 1


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path: Path, done: RunResult) -> None:
    run = begin_run(tmp_path, CONFIG, CANDLES)
    for place in ("fold 1/2 cnn", "fold 2/2 cnn", "final cnn"):

        def interrupt(fit: str, epoch: int, values: object, place: str = place) -> None:
            if fit == place and epoch == 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            execute(open_run(tmp_path, run.id), CANDLES, interrupt)
    assert not run.finished
    resumed = execute(open_run(tmp_path, "latest"), CANDLES)
    assert resumed.run.finished
    windows = np.random.default_rng(0).normal(size=(7, 10, 4)).astype(np.float32)
    np.testing.assert_array_equal(resumed.forecaster.forecast(windows), done.forecaster.forecast(windows))
    assert resumed.scores == done.scores


SCRIPT = """
import sys
from pathlib import Path
from tests.training.forecasting import swinging
from trading_bot.training.run import execute, open_run
execute(open_run(Path(sys.argv[1]), "latest"), swinging(), lambda fit, epoch, values: print(fit, epoch, flush=True))
print("done", flush=True)
"""


@pytest.mark.slow
def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path, done: RunResult) -> None:
    """kill -9 at several moments, most of them within an epoch; the last life is left alone."""
    run = begin_run(tmp_path, CONFIG, CANDLES)
    chance, lines = np.random.default_rng(5), list[str]()
    for life in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert process.stdout is not None
        if life < 2:
            lines.append(process.stdout.readline().strip())  # it has begun
            deadline = time.monotonic() + chance.uniform(0, 0.2)
            while time.monotonic() < deadline:
                pass
            process.send_signal(signal.SIGKILL)
        lines += process.communicate(timeout=120)[0].splitlines()
    assert lines[-1] == "done"
    assert len(lines) < 3 * 9, "what was done was not done again each time"
    ended = Forecaster.load(run.folder / "model.safetensors")
    windows = np.random.default_rng(0).normal(size=(7, 10, 4)).astype(np.float32)
    np.testing.assert_array_equal(ended.forecast(windows), done.forecaster.forecast(windows))


def test_other_candles_are_refused(tmp_path: Path) -> None:
    run = begin_run(tmp_path, CONFIG, CANDLES)
    with pytest.raises(CheckpointError, match=r"was begun on candles \w+, these are \w+ \(1499 of BTC/USDT\)"):
        execute(run, CANDLES[1:])


def test_runs_have_names_of_their_own_and_can_be_found(tmp_path: Path) -> None:
    names = {begin_run(tmp_path, CONFIG, CANDLES).id for _ in range(3)}
    assert len(names) == 3
    name = min(names)
    assert json.dumps(dataclasses.asdict(open_run(tmp_path, name).config)) == json.dumps(dataclasses.asdict(CONFIG))
    with pytest.raises(ConfigurationError, match=f"unknown run '{name[:-1]}'; did you mean"):
        open_run(tmp_path, name[:-1])
    with pytest.raises(ConfigurationError, match="there are none yet"):
        open_run(tmp_path / "nothing", "latest")
    (tmp_path / name / "run.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"run\.json cannot be read"):
        open_run(tmp_path, name)


@pytest.mark.parametrize(
    ("config", "rows", "error", "words"),
    [
        (CONFIG, 100, CandleDataError, "are too few for features"),
        (CONFIG, 0, TradingBotError, "0 candles"),
        (CONFIG, 262, CandleDataError, "leave no window of 10 bars"),
        (dataclasses.replace(CONFIG, horizon=2_000), 1_500, CandleDataError, "no return over 2000 bars"),
        (dataclasses.replace(CONFIG, horizon=1_300), 1_500, CandleDataError, "leave no window"),
        (dataclasses.replace(CONFIG, folds=5_000), 1_500, TrainingError, "would fit"),
        (
            dataclasses.replace(CONFIG, features=("rsi_15",)),
            1_500,
            ConfigurationError,
            "unknown feature 'rsi_15'; did you mean 'rsi_",
        ),
        (dataclasses.replace(CONFIG, length=3), 1_500, ConfigurationError, "wanted at least 4"),
        (
            dataclasses.replace(CONFIG, folds=1),
            480,
            TrainingError,
            "43 forecasts are too few to calibrate on",
        ),
        (dataclasses.replace(CONFIG, horizon=100), 600, TrainingError, "leave 0 to train on; wanted at least 8"),
        (dataclasses.replace(CONFIG, fit=dataclasses.replace(QUICK, loss="mze")), 1_500, TrainingError, "'mse'"),
    ],
)
def test_what_cannot_be_trained_is_told_before_anything_is_written(
    tmp_path: Path, config: RunConfig, rows: int, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        begin_run(tmp_path, config, CANDLES[:rows])
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_for_other_features_is_refused(tmp_path: Path, done: RunResult) -> None:
    facts = json.loads(json.dumps(dict(done.forecaster.facts)))
    path = tmp_path / "model.safetensors"

    def written(**features: object) -> Path:
        changed = dataclasses.replace(done.forecaster, facts={**facts, "features": {**facts["features"], **features}})
        changed.save(path)
        return path

    definitions = facts["features"]["definitions"]
    with pytest.raises(CheckpointError, match=r"its features differ: rsi_14 is now computed as .*; train again"):
        Forecaster.load(written(definitions={**definitions, "rsi_14": "rsi(period=15)[0]"}))
    with pytest.raises(CheckpointError, match="its features differ: moon_phase is unknown here"):
        Forecaster.load(written(names=["moon_phase"], definitions={"moon_phase": "moon()[0]"}))
    Forecaster.load(written())


def test_a_finished_run_is_not_trained_again(tmp_path: Path, done: RunResult) -> None:
    """Its bytes are registered: another machine's threads must not write others, nor a killed writer's rest stay."""
    folder = tmp_path / done.run.id
    shutil.copytree(done.run.folder, folder)
    for place in ("model.safetensors", "folds/fold-1.safetensors"):
        (folder / place).with_name(f".{Path(place).name}.4194305.tmp").touch()
    seen: list[str] = []
    again = execute(open_run(tmp_path, "latest"), CANDLES, lambda fit, epoch, values: seen.append(fit))
    assert not seen
    assert again.sha256 == done.sha256
    assert again.scores == done.scores
    assert not list(folder.rglob(".*.tmp"))
    (folder / "report.json").unlink()  # killed before the report was written: the last fit is done once more
    (folder / "model.safetensors").unlink()
    (folder / "final").mkdir()
    mended = execute(open_run(tmp_path, "latest"), CANDLES, lambda fit, epoch, values: seen.append(fit))
    assert set(seen) == {"final cnn"}
    assert mended.sha256 == done.sha256
    assert not (folder / "final").exists()


def test_candles_that_came_since_are_no_obstacle(tmp_path: Path, done: RunResult) -> None:
    """Those of a pair grow while the bot runs."""
    run = begin_run(tmp_path, CONFIG, CANDLES[20:1_400])
    assert len(own_candles(open_run(tmp_path, run.id), CANDLES)) == 1_380
    with pytest.raises(CheckpointError, match=r"these are \w+ \(1379 of BTC/USDT\)"):
        own_candles(run, CANDLES[:1_399])
