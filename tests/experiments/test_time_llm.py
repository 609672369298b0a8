"""What a language model adds: the page says what was measured, and a run that was stopped goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.models.test_time_llm import needs_transformers, save_language_model
from tests.training.forecasting import FEATURES, swinging
from trading_bot.errors import ConfigurationError, TrainingError
from trading_bot.experiments.time_llm import DEFAULT, fit_of, main
from trading_bot.experiments.time_llm_report import BASELINES, Findings, compare, write
from trading_bot.market_data.candle_writing import FORMATS
from trading_bot.training.evaluation import Evaluation, Fold, baselines, splits_of
from trading_bot.training.history import TrainingHistory
from trading_bot.training.prepared_data import prepare_data


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    path = tmp_path / "BTC_USDT-1h.csv"
    FORMATS["csv"][1](path, swinging(900))
    places = {"data": path, "output": tmp_path / "page", "work": tmp_path / "work"}
    small = ["--folds", "2", "--seeds", "2", "--epochs", "1", "--batches", "2", "--rounds", "1"]
    return [*(word for name, place in places.items() for word in (f"--{name}", str(place))), *small]


def test_without_a_language_model(tmp_path: Path, flags: list[str]) -> None:
    main([*flags, "--arms", "attention,none,cnn"])
    page = (tmp_path / "page/time-llm.md").read_text()
    for words in (
        "--data BTC_USDT-1h.csv --arms attention,none,cnn --horizon 12 --folds 2 --seeds 2 --epochs 1 --batches 2",
        "900 candles of BTC/USDT 1h", "seeds 1, 2", "at most 2 steps of 64 rows", "| small CNN | 11,921 |",
        "| Time-LLM, one attention layer | 35,202 |", "| ridge |", "no language model (none)",
    ):  # fmt: skip
        assert words in page, words
    assert str(tmp_path) not in page
    assert "No language model that was ever trained was at hand" not in page, "there is no such arm"
    assert (tmp_path / "page/time-llm.png").read_bytes().startswith(b"\x89PNG")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("fold-*.safetensors")}
    assert len(kept) == 3 * 2 * 2
    main([*flags, "--arms", "attention,none,cnn"])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "folds are not done again"
    assert (tmp_path / "page/time-llm.md").read_text().count("## What the language model adds") == 1


@needs_transformers
def test_with_one_that_was_never_trained_and_with_one_of_a_directory(tmp_path: Path, flags: list[str]) -> None:
    short = [*flags, "--arms", "backbone,none", "--seeds", "1"]
    main(short)
    page = (tmp_path / "page/time-llm.md").read_text()
    assert "**No language model that was ever trained was at hand.**" in page
    assert "--data BTC_USDT-1h.csv --arms backbone,none --horizon 12" in page
    assert "--batches 2 --llm-path DIR\n" in page, "the command that does it with a trained one"
    assert "backbone: random GPT-2 (seed 1, 2 layers, never trained)" in page
    assert "**Time-LLM, random backbone beside Time-LLM, nothing instead**" in page
    save_language_model(tmp_path / "tiny", "GPT2")
    main([*short, "--llm-path", str(tmp_path / "tiny")])
    page = (tmp_path / "page/time-llm.md").read_text()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("fold-*.safetensors")}
    main([*short, "--llm-path", str(tmp_path / "tiny")])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("fold-*.safetensors")} == kept
    save_language_model(tmp_path / "tiny", "Llama")
    main([*short, "--llm-path", str(tmp_path / "tiny")])
    again = set((tmp_path / "work").rglob("fold-*.safetensors"))
    assert len(again) == len(kept) + 2, "another language model in the same place: its two folds, no one else's"
    assert "No language model that was ever trained" not in page
    assert "Time-LLM, tiny (3 of 3 layers)" in page
    assert "--llm-path DIR" in page
    assert str(tmp_path) not in page


def test_each_seed_has_a_random_language_model_of_its_own() -> None:
    one, two = (fit_of("backbone", seed, DEFAULT) for seed in (1, 2))
    assert (one.sizes["llm_seed"], two.sizes["llm_seed"]) == (1, 2)
    assert fit_of("backbone", 2, DEFAULT, "somewhere").sizes == {"llm": "backbone", "llm_path": "somewhere"}
    assert {fit_of(arm, 1, DEFAULT).epochs for arm in ("backbone", "none", "cnn", "lstm")} == {DEFAULT.epochs}


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        (["--arms", "none,backbones"], ConfigurationError, "unknown arm 'backbones'; did you mean 'backbone'?"),
        (["--arms", "backbone", "--llm-path", "nowhere"], ConfigurationError, "'nowhere' is not a directory"),
        (["--arms", "none", "--folds", "5000"], TrainingError, "would fit"),
        (["--arms", "none", "--horizon", "300"], TrainingError, "to train on"),
    ],
)
def test_what_is_wrong_is_told_before_the_first_fit(
    tmp_path: Path, flags: list[str], more: list[str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        main([*flags, *more])
    assert not (tmp_path / "work").exists()


def made() -> Findings:
    """Two seeds and folds: `none` knows what will be but for one part in ten, `cnn` the opposite."""
    data = prepare_data(swinging(900), 3, 10, FEATURES)
    folds = []
    for number, (train, held) in enumerate(splits_of(data, 2), start=1):
        target = data.y[held].astype(np.float64)
        others = baselines(data, slice(0, int(train[-1]) + 1), slice(int(held[0]), int(held[-1]) + 1))
        folds.append((number, len(train), held, target, others))
    evaluations = {
        arm: tuple(
            Evaluation(data, tuple(Fold(number, rows, held, {"model": share * target, **others}, {"x": _curve()})
                                   for number, rows, held, target, others in folds))
            for _ in range(2)
        )
        for arm, share in (("none", 0.9), ("cnn", -1.0))
    }  # fmt: skip
    return Findings(
        data=data, config=DEFAULT, folds=2, seeds=(1, 2), evaluations=evaluations, labels={"none": "nothing"},
        random=False, parameters={"none": 5, "cnn": 7}, step={"none": 1e-3, "cnn": 2e-3}, command="the command",
        source="made here", sha256="0" * 64,
    )  # fmt: skip


def _curve() -> TrainingHistory:
    history = TrainingHistory()
    history.add({"train_loss": 1.0, "val_loss": 1.0, "seconds": 60.0})
    return history


def test_differences_are_those_of_what_was_forecast() -> None:
    found = made()
    mean = float(np.abs(np.concatenate([found.data.y[held] for _, held in splits_of(found.data, 2)])).mean())
    best, worst = compare(found, "none", "zero"), compare(found, "cnn", "none")
    assert best.error.value == pytest.approx(-0.9 * mean, rel=1e-5)
    assert best.error.high < 0
    assert best.missed is None, "no move has no sign"
    assert worst.error.value == pytest.approx(1.9 * mean, rel=1e-5)
    assert worst.missed is not None
    assert (worst.missed.value, worst.missed.low, worst.missed.high) == (1.0, 1.0, 1.0)
    assert max(best.dm, worst.dm) < 0.01
    assert found.spread("none") == pytest.approx(0.9)
    assert found.spread("zero") == 0
    assert np.mean([fold.mean() for seed in found.missed("none") for fold in seed]) == 0


def test_what_is_shown_is_said_and_what_is_not_is_not(tmp_path: Path) -> None:
    write(made(), tmp_path)
    page = (tmp_path / "time-llm.md").read_text()
    assert "**Time-LLM, nothing instead beside small CNN**: the error is smaller (" in page
    assert "by the interval and by Holm: Time-LLM, nothing instead; below that of the training's mean: Time-LLM" in page
    assert "This is a null result" not in page
    assert "4.0 min" in page, "two seeds, two folds, one minute each"
    for baseline in ("no move", "training's mean", "persistence", "ridge"):
        assert f"| {baseline} |" in page
    assert len(BASELINES) == 4
