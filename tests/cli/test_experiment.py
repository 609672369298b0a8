"""Verb `experiment`, as a user types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Verb, parsed
from tests.training.forecasting import swinging
from trading_bot.experiments import ablation as module
from trading_bot.market_data.candle_writing import FORMATS

QUICK = ("--epochs", "1", "--batches", "2", "--batch_size", "16", "--horizon", "3")


@pytest.fixture
def candles(home: Path) -> str:
    FORMATS["csv"][1](home / "BTC_USDT-1h.csv", swinging(700))
    return "BTC_USDT-1h.csv"


def test_one_run(verb: Verb, candles: str, home: Path) -> None:
    told = verb("experiment", "run", "--data", candles, "--mode", "baseline", "--seed", "4", "--logdir", "x", *QUICK)
    assert told.output.splitlines()[-1] == "written  x/baseline-seed-4.csv"
    assert (home / "x/baseline-seed-4.csv").is_file()
    row = parsed(verb("experiment", "run", "--data", candles, "--seed", "4", "--logdir", "y", "--json", *QUICK))[0]
    assert (row["mode"], row["seed"]) == ("baseline", 4)
    assert (home / "x/baseline-seed-4.csv").read_bytes() == (home / "y/baseline-seed-4.csv").read_bytes()


def test_several_seeds_in_one_option_and_an_analysis_without_torch(
    verb: Verb, candles: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = dict.fromkeys(module.MODES, "fixed")
    monkeypatch.setattr(module, "MODES", four)  # weights that stay in every mode: no effect, exactly
    monkeypatch.setattr(module, "PLACEBOS", {})
    words = ("--data", candles, "--seeds", "1", "42", "--output-dir", "results", *QUICK)
    told = verb("experiment", "ablation", *words).output
    assert "seed 42  full_adaptive: mae " in told
    assert "monitor and controller changed nothing at all" in told
    assert "monitor           +0.000000   +0.000000 … +0.000000   not shown" in told
    script = (
        "import sys\nfrom trading_bot.cli.main import cli\n"
        "try: cli.main(['experiment', 'analyze', 'results'])\nexcept SystemExit as end: assert end.code == 0\n"
        "print(sorted({'numpy', 'torch', 'pandas', 'rich', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=home)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "controller        +0.000000" in done.stdout
    found = parsed(verb("experiment", "analyze", "results", "--json"))
    assert found["effects"]["monitor"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "seeds": 2}


def test_folds_go_on_where_they_were_and_the_page_is_the_same_again(verb: Verb, candles: str, home: Path) -> None:
    words = ("experiment", "ablation", "--data", candles, "--seeds", "1", "2", "--folds", "2", *QUICK, "--calibration",
             "1", "--output_dir", "results", "--work", "kept", "--page", "docs", "--draws", "2")  # fmt: skip
    told = verb(*words)
    assert "seed 2  fold 2  time_average: mae " in told.stderr
    assert "seed 2  fold 2/2  tuned static: 2 fits" in told.stderr
    assert "2 seeds × 2 folds" in told.stdout
    page = (home / "docs/ablation.md").read_text()
    assert (
        f"Written by `trading-bot experiment ablation --data {candles} --horizon 3 --epochs 1 --batch-size 16 "
        "--batches 2 --calibration 1 --folds 2 --page docs --draws 2 --seeds 1 2`."
    ) in page
    assert "No monitor and no controller was given and none is shipped" in page
    rows = (home / "results/results.csv").read_text().splitlines()
    assert rows[0].startswith("mode,seed,fold,mae,hit_rate,epoch,weight_mse")
    assert len(rows) == 1 + 2 * 2 * (len(module.MODES) + len(module.PLACEBOS))
    before = {path: path.read_bytes() for path in home.rglob("*.*") if path.is_file()}
    again = verb(*words)
    assert "mae " not in again.stderr, "nothing was trained"
    assert {path: path.read_bytes() for path in home.rglob("*.*") if path.is_file()} == before
    found = parsed(verb("experiment", "analyze", "results", "--json"))
    assert (found["folds"], found["effects"]["interaction"]["seeds"]) == (2, 2)


def test_phase1(verb: Verb, candles: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MODES", {"baseline": "fixed", "full_adaptive": "rlw"})
    words = ("--data", candles, "--seeds", "3", "--lr", "1e-3", "--output", "out/results.csv", "--json", *QUICK)
    rows = parsed(verb("experiment", "phase1", *words))
    assert [(row["mode"], row["seed"]) for row in rows] == [("baseline", 3), ("full_adaptive", 3)]
    assert (home / "out/results.csv").read_text().startswith("mode,seed,mae,hit_rate,epoch,weight_mse,")


def test_the_pages(verb: Verb, candles: str, home: Path) -> None:
    words = ("--data", candles, "--folds", "2", *QUICK, "--output", "docs")
    arms = ("--seeds", "1", "2", "--draws", "2", "--arms", "equal", "tuned static", "rlw", "--combination", "basic")
    found = parsed(verb("experiment", "adaptive-vs-fixed", *words, *arms, "--json"))
    assert [each["arm"] for each in found["arms"]] == ["equal", "tuned static", "rlw"]
    page = (home / "docs/adaptive-loss.md").read_text()
    assert f"`trading-bot experiment adaptive-vs-fixed --data {candles} --horizon 3 --folds 2" in page
    assert "--seeds 1 2`" in page
    kept = (home / "logs/runs/adaptive-vs-fixed/fits.jsonl").read_bytes()
    again = verb("experiment", "adaptive-vs-fixed", *words, *arms, "--page-only").output
    assert again == "3 arms, 2 seeds, 2 folds: docs/adaptive-loss.md written\n"
    assert (home / "docs/adaptive-loss.md").read_text() == page
    assert (home / "logs/runs/adaptive-vs-fixed/fits.jsonl").read_bytes() == kept
    told = parsed(verb("experiment", "features", *words, "--seeds", "1", "--k", "4", "--json"))
    assert set(told["arms"]) == {"all", "chosen", "random"}
    assert "| 4 chosen |" in (home / "docs/features.md").read_text()


def test_several_combinations(verb: Verb, candles: str, home: Path) -> None:
    words = ("--data", candles, "--folds", "2", *QUICK, "--horizon", "1", "--output", "docs", "--seeds", "1", "--draws",
             "1")  # fmt: skip
    several = ("--combinations", "basic", "comprehensive", "--arms", "equal", "tuned static", "rlw")
    bars = ("--trend-bars", "48", "--volatility-bars", "2")  # enough stable rows of so few candles
    alone = verb("experiment", "adaptive-vs-fixed", *words, "--combination", "basic", *several[3:])
    assert "seed 1  fold 1/2  equal" in alone.stderr
    lacking = verb("experiment", "adaptive-vs-fixed", *words, *several, *bars, "--page-only", code=1)
    assert "no seed of [1] is finished" in lacking.stderr
    page = (home / "docs/adaptive-loss.md").read_text()
    assert "## Every combination" not in page
    told = verb("experiment", "adaptive-vs-fixed", *words, *several, *bars)
    assert "comprehensive  seed 1  fold 1/2  equal" in told.stderr
    assert "basic  seed 1" not in told.stderr, "it is in the folder already"
    assert told.stdout == ("3 arms, 1 seeds, 2 folds; 2 combinations, 3 arms, 1 seeds: docs/adaptive-loss.md written\n")
    page = (home / "docs/adaptive-loss.md").read_text()
    command = f"`trading-bot experiment adaptive-vs-fixed --data {candles} --horizon 1 --folds 2"
    for section in page.split("\n## ")[1:]:
        assert command in section
        assert "--combinations basic comprehensive" in section
        assert "--trend-bars 48" in section
    found = parsed(verb("experiment", "adaptive-vs-fixed", *words, *several, *bars, "--page-only", "--json"))
    assert (home / "docs/adaptive-loss.md").read_text() == page
    verb("experiment", "adaptive-vs-fixed", "--data", str(home / candles), *words[2:], *several, *bars, "--page-only")
    assert (home / "docs/adaptive-loss.md").read_text() == page, "the same from anywhere: no place of a machine in it"
    assert (len(found["arms"]), len(found["conditions"])) == (3, 3), "stable: basic beside the other, three arms"


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (("run", "--mode", "basline"), 1, "unknown mode 'basline'; did you mean 'baseline'?"),
        (("run", "--data", "none.csv"), 4, "none.csv"),
        (("run", "--task", "cifra10"), 2, "cifra10"),
        (("ablation", "--seeds"), 2, "--seeds"),
        (("ablation", "--seeds", "--epochs", "3"), 2, "--seeds"),
        (("ablation", "--seeds", "1", "x"), 2, "'x' is not a valid integer"),
        (("ablation", "--folds", "0"), 2, "--folds"),
        (("ablation", "--task", "cifar10", "--folds", "2"), 2, "--folds and --page are of the market, not of cifar10"),
        (("ablation", "--task", "cifar10", "--page", "docs"), 2, "are of the market, not of cifar10; leave them out"),
        (("ablation", "--data", "BTC_USDT-1h.csv", "--monitor", "none"), 1, "none cannot be read"),
        (("phase1", "--output", "results.txt"), 2, "wanted a file that ends with .csv"),
        (("analyze", "nowhere"), 1, "wanted a folder that `trading-bot experiment ablation` wrote"),
        (("adaptive-vs-fixed", "--data", "BTC_USDT-1h.csv", "--page-only"), 1, "no seed of [1, 2, 3"),
        (("adaptive-vs-fixed", "--data", "BTC_USDT-1h.csv", "--arms", "rwl"), 1, "unknown arm 'rwl'"),
        (("adaptive-vs-fixed", "--data", "BTC_USDT-1h.csv", "--combination", "basics"), 1, "unknown combination"),
        (("adaptive-vs-fixed", "--data", "BTC_USDT-1h.csv", "--combinations", "all"), 1, "rows with 720 bars before"),
        (("adaptive-vs-fixed", "--data", "BTC_USDT-1h.csv", "--combinations"), 2, "requires an argument"),
    ],
)
def test_mistakes(
    verb: Verb, candles: str, home: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, hint: str
) -> None:
    monkeypatch.setattr(module, "POLICIES", {**dict.fromkeys(module.MODES.values()), "fixed": None})
    assert hint in verb("experiment", *words, code=code).stderr
    assert not (home / "docs").exists()


def test_a_mode_without_its_policy(verb: Verb, candles: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLICIES", {"fixed": None})
    for words in (("run", "--mode", "controller-only"), ("phase1",), ("ablation",)):
        result = verb("experiment", *words, "--data", candles, code=1)
        assert "needs the weight policy" in result.stderr
    assert [path.name for path in home.iterdir()] == [candles]


def test_an_archive_that_is_not_the_official_one(verb: Verb, home: Path) -> None:
    (home / "data/datasets").mkdir(parents=True)
    (home / "data/datasets/cifar-10-binary.tar.gz").write_bytes(b"something else")
    result = verb("experiment", "run", "--task", "cifar10", "--epochs", "1", code=1)
    assert "has the SHA-256" in result.stderr
    assert "that of the official archive: remove data/datasets/cifar-10-binary.tar.gz" in result.stderr
