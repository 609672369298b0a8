"""The forecast evidence: what is wrong is told before the first fit, and the page says how it came about."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.forecasting import swinging
from trading_bot.errors import ConfigurationError, TrainingError
from trading_bot.experiments.forecast import main
from trading_bot.market_data.candle_writing import FORMATS


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    path = tmp_path / "BTC_USDT-1h.csv"
    FORMATS["csv"][1](path, swinging(900))
    places = {"data": path, "output": tmp_path / "page", "work": tmp_path / "work"}
    small = ["--folds", "2", "--epochs", "1", "--batches", "3", "--models", "cnn"]
    return [*(word for name, place in places.items() for word in (f"--{name}", str(place))), *small]


def test_the_page_can_be_had_again(tmp_path: Path, flags: list[str]) -> None:
    main(flags)
    page = (tmp_path / "page/forecast.md").read_text()
    for words in (
        f"--data {tmp_path / 'BTC_USDT-1h.csv'} --models cnn --folds 2 --epochs 1 --batches 3",
        "900 candles of BTC/USDT 1h", "2 walk-forward folds", "at most 3 steps of 64 rows", "| cnn |", "| ridge |",
    ):  # fmt: skip
        assert words in page, words
    assert (tmp_path / "page/forecast.png").read_bytes().startswith(b"\x89PNG")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("fold-*.safetensors")}
    assert len(kept) == 2
    main(flags)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "folds are not done again"
    assert (tmp_path / "page/forecast.md").read_text() == page


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        (["--models", "cnn,lsmt"], ConfigurationError, "unknown model 'lsmt'; did you mean 'lstm'?"),
        (["--loss", "hubert"], TrainingError, "unknown loss 'hubert'"),
        (["--folds", "5000"], TrainingError, "would fit"),
        (["--horizon", "300"], TrainingError, "to train on"),
    ],
)
def test_what_is_wrong_is_told_before_the_first_fit(
    tmp_path: Path, flags: list[str], more: list[str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        main([*flags, *more])
    assert not (tmp_path / "work").exists()
