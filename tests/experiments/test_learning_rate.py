"""The learning-rate evidence: the target is the true minimum's, figures are right, the page can be had again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from trading_bot.experiments import learning_rate
from trading_bot.experiments.learning_rate import JUDGING_SEEDS, PROBLEMS, TUNING_SEEDS, exact_losses, saving, verdict
from trading_bot.learn.training_data import sample_weights


def test_the_target_is_that_of_the_exact_minimum() -> None:
    for problem in (PROBLEMS[1], PROBLEMS[-1]):
        X, y, X_val, y_val = problem.draw(0)
        weights = sample_weights(len(y))
        start, least = exact_losses(problem.loss, X, y, X_val, y_val)
        if problem.loss == "log_loss":
            p = LogisticRegression(C=np.inf, tol=1e-10).fit(X, y, weights).predict_proba(X_val)[:, 1]
            assert least == pytest.approx(-np.log(np.where(y_val == 1, p, 1 - p)).mean(), rel=1e-6)
            assert start == pytest.approx(np.log(2))
        else:
            forecast = LinearRegression().fit(X, y, weights).predict(X_val)
            assert least == pytest.approx(np.square(forecast - y_val).mean())
            assert start == pytest.approx(np.square(y_val).mean())


def test_a_saving_is_of_mean_epochs_and_its_verdict_follows_the_interval() -> None:
    epochs = np.tile([[[6.0, 10.0, 6.0]], [[14.0, 30.0, 14.0]]], (1, 20, 1))  # two problems, twenty seeds alike
    assert saving(epochs, 1) == pytest.approx((0.5, 0.5, 0.5))
    assert verdict(epochs) == "Against plain decay 0.95: it is met. Against constant: no gain is shown."
    assert not set(TUNING_SEEDS) & set(JUDGING_SEEDS)
    assert len(JUDGING_SEEDS) >= 20


def test_the_page_can_be_had_again_and_other_sections_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(learning_rate, "PROBLEMS", PROBLEMS[::6])
    page = tmp_path / "learning.md"
    page.write_text("# Learning\n\n## Learning rate\n\nold words\n\n## Another\n\nkept\n")
    for _ in range(2):
        learning_rate.main(["--output", str(tmp_path), "--seeds", "2", "--epochs", "4"])
        text = page.read_text()
        assert text.count("## Learning rate") == 1
        assert "old words" not in text
        assert text.endswith("\n\n## Another\n\nkept\n")
        assert "--output docs/evidence --seeds 2 --epochs 4" in text
        assert "| least squares, condition 1, noise 0.5 |" in text
    assert "nan" not in text
    assert "fewer epochs than plain decay" in capsys.readouterr().out
