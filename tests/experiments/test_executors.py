"""The evidence about executors: they do the same work, verdicts follow the figures, the page can be had again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import trading_bot.experiments.executors as command
from trading_bot.experiments import executor_speed
from trading_bot.experiments.executor_speed import KINDS, Findings, measure, verdict

LINEAR, SMALL, CNN = KINDS
PNG = b"\x89PNG\r\n\x1a\n"


def findings(*gains: float) -> Findings:
    """Linear models trained in one second by a batch that is so much faster with 2, 6 and 8 strategies."""
    fast = np.ones((3, 3))
    seconds = {"sequential": fast * gains, "thread": fast * gains, "process": fast * gains, "batched": fast}
    return Findings(LINEAR, (2, 6, 8), seconds, ("batched", "batched", "process"), {})


def test_the_verdict_is_about_six_strategies_or_more() -> None:
    said = "the best is batched, 4.5 × with 6 and 5.0 × with 8, which `auto` picks."
    assert verdict(findings(1.0, 4.5, 5.0)) == f"linear: met; {said}"
    assert verdict(findings(9.0, 3.9, 3.0)).startswith("linear: not met; the best is batched, 3.9 × with 6")
    assert verdict(findings(1.0, 3.9, 4.1)).startswith("linear: met in part")
    other = replace(findings(1.0, 2.0, 2.0), chosen=("process",) * 3)
    assert verdict(other).endswith("2.0 × with 8, `auto` picks process, 1.0 × or more.")


def test_each_strategy_has_data_and_first_weights_of_its_own_and_the_same_again() -> None:
    one, two = replace(CNN, rows=20).jobs(2)
    again = replace(CNN, rows=20).jobs(1)[0]
    for job, alike in ((two, False), (again, True)):
        assert np.array_equal(one[1][0], job[1][0]) == alike
        weights = [model.state_dict()["forecast.weight"] for model, _ in (one, job)]
        assert np.array_equal(*weights) == alike
    assert one[1][0].shape == (20, 30, 40)


def test_every_executor_does_the_work_of_training_one_after_another() -> None:
    found = measure(replace(LINEAR, rows=400, epochs=3, executors=("thread", "batched")), (1, 2), 2)
    assert max(found.apart.values()) < executor_speed.EQUAL
    assert found.chosen == ("process", "batched")
    assert all(seconds.shape == (2, 2) and (seconds > 0).all() for seconds in found.seconds.values())
    np.testing.assert_allclose(found.faster("thread") * found.seconds["thread"], found.seconds["sequential"])


def test_a_worker_that_imports_the_command_again_loads_nothing_by_it() -> None:
    assert not hasattr(command, "main")
    assert not hasattr(command, "torch")


@pytest.mark.slow
def test_the_section_and_its_picture_can_be_had_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = (replace(LINEAR, rows=300, epochs=2), replace(SMALL, rows=300, epochs=2, executors=("thread", "batched")))
    monkeypatch.setattr(executor_speed, "KINDS", kinds)
    monkeypatch.setattr(executor_speed, "COUNTS", (2, 6))
    page = tmp_path / "learning.md"
    page.write_text("# Learning\n\n## Executors\n\nold words\n\n## Another\n\nkept\n")
    executor_speed.main(["--output", str(tmp_path), "--repetitions", "1"])
    text = page.read_text()
    assert "old words" not in text
    assert text.endswith("\n\n## Another\n\nkept\n")
    for words in ("--output docs/evidence --repetitions 1`", "| 6 |", "| batched |", "small network: 673 parameters"):
        assert words in text
    assert "nan" not in text
    assert (tmp_path / "executors.png").read_bytes().startswith(PNG)
    printed = capsys.readouterr().out
    assert "linear: " in printed
    assert "small network: " in printed
