"""The commands of the first report on the loss monitor run as they stand there, with its scripts mapped to verbs.

All flags are kept; the candles are few, and each run trains for one epoch of two batches. Where the folder with the
original text is at hand, the commands are held against it.
"""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from loguru import logger

from tests.training.forecasting import swinging
from trading_bot.cli.main import cli
from trading_bot.market_data.candle_writing import FORMATS

SEED = next((Path(__file__).parents[2] / "shared" / "seeds").glob("001_*.md"), Path("001.md"))
INSTALL = "pip install -r requirements.txt"
COMMANDS = [
    "python -m src.trainer.run_phase1_experiments --seeds 1 42 123 --epochs 30 --lr 1e-3 --batch_size 128 "
    "--output results/phase1_results.csv",
    "python -m src.trainer.run_ablation_study --seeds 1 42 123 456 789 --epochs 25 --batch_size 128 "
    "--output_dir results/ablation_study",
    "python src.trainer.simple_ablation_analysis.py results/ablation_study",
]
VERBS = {
    "src.trainer.run_phase1_experiments": "phase1",
    "src.trainer.run_ablation_study": "ablation",
    "src.trainer.simple_ablation_analysis.py": "analyze",
}
SHORT = ("--epochs", "1", "--batches", "2", "--horizon", "3")  # given after the command's own, and so in their place
FLAGS = ["--batch_size", "--epochs", "--lr", "--seed", "--logdir", "--output_dir"]
MODES = ("baseline", "monitor_only", "controller_only", "full_adaptive")


def split(command: str) -> list[str]:
    """Its verb and flags."""
    words = [word for word in shlex.split(command)[1:] if word != "-m"]
    return ["experiment", VERBS[words[0]], *words[1:]]


def call(*words: str) -> str:
    done = CliRunner().invoke(cli, list(words), prog_name="trading-bot")
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    return done.output


@pytest.fixture(autouse=True)
def market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Candles that the configuration names, in a folder to work in."""
    monkeypatch.chdir(tmp_path)
    FORMATS["csv"][1](tmp_path / "BTC_USDT-1h.csv", swinging(900))
    (tmp_path / "config").mkdir()
    (tmp_path / "config/paper.yaml").write_text("market:\n  candles: BTC_USDT-1h.csv\n  history: 900\n")
    yield tmp_path
    logger.remove()
    logger.configure(patcher=lambda record: None)


def test_phase_1(market: Path) -> None:
    call(*split(COMMANDS[0]), *SHORT)
    with (market / "results/phase1_results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["mode"], row["seed"]) for row in rows] == [
        (mode, seed) for seed in ("1", "42", "123") for mode in ("baseline", "full_adaptive")
    ]
    assert len({row["mae"] for row in rows if row["mode"] == "baseline"}) == 3, "seeds differ"


def test_ablation_and_its_analysis(market: Path) -> None:
    call(*split(COMMANDS[1]), *SHORT)
    facts = json.loads((market / "results/ablation_study/results.json").read_text())
    assert (facts["batch_size"], facts["epochs"], facts["task"]) == (128, 1, "market")
    found = {(row["mode"], row["seed"]) for row in facts["runs"]}
    assert found >= {(mode, seed) for mode in MODES for seed in (1, 42, 123, 456, 789)}
    assert {mode for mode, _ in found} - set(MODES) == {"random_monitor", "time_average"}
    told = call(*split(COMMANDS[2]))
    for mode in MODES:
        assert re.search(rf"^  {mode} +\d\.\d{{6}}   5 seeds$", told, re.MULTILINE), mode
    assert all(re.search(rf"^  {name} .*…", told, re.MULTILINE) for name in ("monitor", "controller", "interaction"))


@pytest.mark.parametrize("mode", MODES)
def test_one_run_of_each_mode(market: Path, mode: str) -> None:
    flags = ("--seed", "42", "--lr", "1e-3", "--batch_size", "128", "--logdir", "logs/x")
    call("experiment", "run", "--mode", mode, *flags, *SHORT)
    assert (market / f"logs/x/{mode}-seed-42.csv").read_text().startswith("epoch,train_loss,val_loss,")


def test_the_names_are_there() -> None:
    from trading_bot.training.loss_executor import DynamicLossExecutor
    from trading_bot.training.loss_monitor import LossMonitorAgent
    from trading_bot.training.meta_controller import MetaLearningController

    assert [each.__name__ for each in (LossMonitorAgent, MetaLearningController, DynamicLossExecutor)] == [
        "LossMonitorAgent", "MetaLearningController", "DynamicLossExecutor",
    ]  # fmt: skip


def test_every_flag_is_taken_by_some_verb() -> None:
    helps = " ".join(call("experiment", verb, "--help") for verb in ("run", "phase1", "ablation"))
    assert all(f"{flag.replace('_', '-')}" in helps for flag in FLAGS)


@pytest.mark.skipif(not SEED.is_file(), reason=f"the original text is not here: {SEED.name}")
def test_these_are_all_the_commands_and_flags_there_are() -> None:
    text = SEED.read_text()
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    assert [" ".join(block.replace("\\\n", " ").split()) for block in blocks] == [INSTALL, *COMMANDS]
    configuration = text.split("## Configuration")[1].split("\n## ")[0]
    assert re.findall(r"`(--\w+)`", configuration) == FLAGS
