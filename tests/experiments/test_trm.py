"""The TRM's evidence: what is wrong is told before the first fit, and the page says how it came about."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.forecasting import swinging
from trading_bot.errors import StrategyError, TrainingError
from trading_bot.experiments.trm import main
from trading_bot.market_data.candle_writing import FORMATS
from trading_bot.training import trm_evaluation

STRATEGIES = Path(__file__).parents[2] / "strategies"


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    path = tmp_path / "BTC_USDT-1h.csv"
    FORMATS["csv"][1](path, swinging(900))
    places = {"data": path, "output": tmp_path / "page", "work": tmp_path / "work", "strategies": STRATEGIES}
    small = ["--folds", "1", "--seeds", "2", "--batches", "1", "--batch-size", "4"]
    return [*(word for name, place in places.items() for word in (f"--{name}", str(place))), *small]


def test_the_page_can_be_had_again(tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    main(flags)
    page = (tmp_path / "page/trm.md").read_text()
    for words in (
        "--data BTC_USDT-1h.csv", "--folds 1 --batches 1 --batch-size 4", "900 candles of BTC/USDT 1h",
        "1 walk-forward folds × 2 seeds", "1 batches of 4 windows, up to 4 updates each", "| against majority class |",
        "| TRM, seed 1 |", "| best on train |", "| bollinger_reversion |", "sha256",
    ):  # fmt: skip
        assert words in page, words
    assert "null result" in page, "one batch of four windows shows nothing"
    assert (tmp_path / "page/trm.png").read_bytes().startswith(b"\x89PNG")
    assert "| TRM, seed 1 |" in page.split("## Its probabilities")[1], "log loss of each seed"
    assert "| class shares of the training rows |" in page
    monkeypatch.setattr(trm_evaluation, "fit_trm", lambda *_: pytest.fail("fits are not done again"))
    main(flags)
    assert (tmp_path / "page/trm.md").read_text() == page


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        (["--folds", "5000"], TrainingError, "would fit"),
        (["--horizon", "300"], TrainingError, "to train on|would fit"),
        (["--cost", "-1"], TrainingError, "cost is -1"),
        (["--halt-target", "sed"], TrainingError, "unknown halt target 'sed'"),
        (["--strategies", "nowhere"], StrategyError, "nowhere not found"),
    ],
)
def test_what_is_wrong_is_told_before_the_first_fit(
    tmp_path: Path, flags: list[str], more: list[str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        main([*flags, *more])
    assert not (tmp_path / "work").exists()
