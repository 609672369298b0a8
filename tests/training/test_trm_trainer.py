"""The TRM's fit: what it learns from, what it may not see, when it stops, and that it can be had again."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.features.market import candles_of
from tests.training.test_trm_labels import random_sides
from trading_bot.errors import CheckpointError, ConfigurationError, TrainingError
from trading_bot.models.trm import build_trm
from trading_bot.training.checkpoint_file import read_checkpoint, write_checkpoint
from trading_bot.training.statistics import column_statistics
from trading_bot.training.trm_evaluation import (
    ARMS,
    constant_choices,
    f1_interval,
    score_choices,
    walk_forward_trm,
)
from trading_bot.training.trm_labels import CLASSES, FLAT, LONG, TRMData, prepare_trm_data
from trading_bot.training.trm_selector import (
    AT_ONCE,
    NEVER,
    Selector,
    every_step,
    normalised_windows,
    pick_threshold,
    steps_taken,
)
from trading_bot.training.trm_trainer import (
    Average,
    TRMFitConfig,
    earned,
    fit_trm,
    pnl_scale_from,
    split_rows,
)

TINY: dict[str, Any] = {"width": 16, "heads": 2, "feed_forward": 24, "blocks": 1, "inner_steps": 1}
QUICK = TRMFitConfig(sizes=TINY, batches=6, batch_size=16, looks=2, validation_rows=32, learning_rate=3e-3)


@functools.cache
def prepared(rows: int = 700) -> TRMData:
    return prepare_trm_data(candles_of(rows), random_sides(rows), horizon=6)


@functools.cache
def tellable(rows: int = 400) -> TRMData:
    """Windows whose first features say which class pays."""
    data, random = prepared(), np.random.default_rng(0)
    labels = random.choice([FLAT, LONG, 5], rows)
    X = random.normal(size=(rows, 30, 40)).astype(np.float32)
    X[:, -10:, :4] += 2.0 * (labels == LONG)[:, None, None] - 2.0 * (labels == 5)[:, None, None]
    pnl = np.full((rows, len(CLASSES)), -0.01)
    pnl[np.arange(rows), labels] = 0.02
    pnl[:, FLAT] = 0
    return dataclasses.replace(
        data, X=X, labels=labels.astype(np.int64), pnl=pnl, index=np.arange(rows), time=data.time[:1] + np.arange(rows)
    )


@functools.cache
def fitted() -> Selector:
    return fit_trm(prepared(), QUICK).selector


def test_learns_what_can_be_told() -> None:
    data = tellable()
    sizes = {**TINY, "cycles": 1, "supervision_steps": 2}
    config = dataclasses.replace(QUICK, sizes=sizes, batches=60, batch_size=32)
    seen = list[dict[str, float]]()
    found = fit_trm(data, config, 300, lambda fit, epoch, values: seen.append(dict(values)))
    choices = found.selector.choose(data.X[306:])
    assert (choices.classes == data.labels[306:]).mean() > 0.8
    assert found.history["val_loss"][1] < found.history["val_loss"][0]
    assert [each["val_loss"] for each in seen] == found.history["val_loss"]
    assert choices.probabilities.sum(axis=1) == pytest.approx(1)
    assert 1 <= choices.steps.min() <= choices.steps.max() <= 2


def test_the_seed_decides_everything() -> None:
    torch.rand(3)  # whatever was drawn before does not matter
    again = fit_trm(prepared(), QUICK).selector
    first = fitted()
    for (name, a), b in zip(first.network.state_dict().items(), again.network.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert first.threshold == again.threshold
    other = fit_trm(prepared(), dataclasses.replace(QUICK, seed=1)).selector
    assert not torch.equal(first.network.task.weight, other.network.task.weight)


def test_nothing_after_its_rows_is_looked_at() -> None:
    data = prepared()
    X, pnl, labels = data.X.copy(), data.pnl.copy(), data.labels.copy()
    X[300:], pnl[300:], labels[300:] = 1e3, -0.5, 7
    changed = dataclasses.replace(data, X=X, pnl=pnl, labels=labels)
    one, two = (fit_trm(each, QUICK, 300).selector for each in (data, changed))
    assert torch.equal(one.network.task.weight, two.network.task.weight)
    assert one.threshold == two.threshold
    assert one.facts == two.facts


def test_scales_are_of_the_trained_rows_alone() -> None:
    """Neither the purged rows nor those that validate change mean, deviation, class weights or the scale of profits."""
    data = prepared()
    trained, first = split_rows(400, data.horizon, QUICK.validation)
    assert (trained, first) == (334, 340)
    X, pnl, labels = data.X.copy(), data.pnl.copy(), data.labels.copy()
    X[trained:], pnl[trained:], labels[trained:] = 7.0, 0.3, 7
    changed = dataclasses.replace(data, X=X, pnl=pnl, labels=labels)
    one, two = (fit_trm(each, dataclasses.replace(QUICK, batches=1, looks=1), 400) for each in (data, changed))
    np.testing.assert_array_equal(one.selector.mean, two.selector.mean)
    np.testing.assert_array_equal(one.selector.std, two.selector.std)
    for name in ("pnl_scale", "class_weights", "trained_rows"):
        assert one.selector.facts[name] == two.selector.facts[name]
    assert one.selector.facts["pnl_scale"] == pytest.approx(pnl_scale_from(data.pnl[:trained]))
    assert one.history["train_loss"] == two.history["train_loss"]
    rows = data.X[:trained].reshape(-1, 40)
    np.testing.assert_allclose(one.selector.mean, rows.mean(0), atol=1e-4)


def test_each_supervision_step_is_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = {"count": 0}
    real = Average.update

    def counted(self: Average, network: Any) -> None:
        updates["count"] += 1
        real(self, network)

    monkeypatch.setattr(Average, "update", counted)
    found = fit_trm(prepared(), dataclasses.replace(QUICK, batches=3, looks=1))
    assert updates["count"] == 3 * 4
    assert found.history["steps"] == [4.0]


def test_a_batch_that_would_stop_is_not_thought_about_further(monkeypatch: pytest.MonkeyPatch) -> None:
    def eager(**sizes: Any) -> Any:
        model = build_trm(**sizes)
        with torch.no_grad():
            model.halt.bias.fill_(5.0)
        return model

    monkeypatch.setattr("trading_bot.training.trm_trainer.build_trm", eager)
    assert fit_trm(prepared(), dataclasses.replace(QUICK, batches=2, looks=1)).history["steps"] == [1.0]


@pytest.mark.parametrize("kind", ["correct", "no_gain"])
def test_other_halt_targets(kind: str) -> None:
    found = fit_trm(prepared(), dataclasses.replace(QUICK, batches=2, looks=1, halt_target=kind))
    assert np.isfinite(found.history["val_loss"]).all()


def test_the_average_of_weights() -> None:
    torch.manual_seed(0)
    model = build_trm(**TINY)
    average, start = Average(model, 0.999), model.task.bias.clone()
    with torch.no_grad():
        model.task.bias.fill_(1.0)
    average.update(model)
    torch.testing.assert_close(average.network.task.bias, start + (1 - start) * (1 - 2 / 11))
    for _ in range(200):
        average.update(model)
    torch.testing.assert_close(average.network.task.bias, torch.ones(8), rtol=0, atol=1e-6)
    late = Average(model, 0.9)
    late.updates = 10_000
    with torch.no_grad():
        model.task.bias.zero_()
    late.update(model)
    torch.testing.assert_close(late.network.task.bias, torch.full((8,), 0.9))


def test_what_was_earned_is_that_of_the_class_that_would_be_chosen() -> None:
    task = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]], requires_grad=True)
    found = earned(task, torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]))
    assert found.tolist() == pytest.approx([0.2, 0.4])
    assert not found.requires_grad


# halting --------------------------------------------------------------------------------------------------------------


def test_steps_by_threshold() -> None:
    halts = torch.tensor([[0.1, 0.6, 0.2], [0.7, 0.1, 0.3], [0.1, 0.1, 0.1]])
    assert steps_taken(halts, 0.5).tolist() == [2, 1, 3]
    assert steps_taken(halts, AT_ONCE).tolist() == [1, 1, 1]
    assert steps_taken(halts, NEVER).tolist() == [3, 3, 3]


def test_the_threshold_is_the_best_on_the_rows_given() -> None:
    labels = torch.zeros(10, dtype=torch.int64)
    right, wrong = torch.tensor([3.0, 0.0]).expand(10, 2), torch.tensor([0.0, 3.0]).expand(10, 2)
    said = torch.linspace(0.1, 0.8, 10).repeat(3, 1)
    assert pick_threshold(torch.stack((right, wrong, wrong)), said, labels) == AT_ONCE
    assert pick_threshold(torch.stack((wrong, wrong, right)), said, labels) == NEVER
    assert pick_threshold(torch.stack((right, right, right)), said, labels) == AT_ONCE, "as good, and sooner"
    half = torch.arange(10) < 5  # these are right at the first step, the others at the last
    mixed = torch.stack((torch.where(half[:, None], right, wrong), wrong, torch.where(half[:, None], wrong, right)))
    threshold = pick_threshold(mixed, torch.where(half, 0.6, 0.3).repeat(3, 1), labels)
    assert 0.3 <= threshold < 0.6


def test_rows_that_are_done_do_not_disturb_the_others() -> None:
    """Choosing with a threshold equals thinking all steps about all windows and reading each at its own."""
    torch.manual_seed(1)
    network, X = build_trm(**TINY), prepared().X[:300]
    with torch.no_grad():
        network.halt.weight.normal_()
        network.halt.bias.zero_()
    mean, std = column_statistics(X)
    tasks, halts = every_step(network, normalised_windows(X, mean, std))
    threshold = float(halts.quantile(0.5))
    found = Selector(network, mean, std, threshold, {}).choose(X)
    steps = steps_taken(halts, threshold)
    assert set(found.steps) == {1, 2, 3, 4}
    assert (found.steps == steps.numpy()).mean() > 0.99  # a chance at the threshold may round to either side
    same = found.steps == steps.numpy()
    wanted = tasks[steps - 1, torch.arange(300)].softmax(1).numpy()
    np.testing.assert_allclose(found.probabilities[same], wanted[same], atol=1e-5)
    assert Selector(network, mean, std, AT_ONCE, {}).choose(X[:9]).steps.tolist() == [1] * 9
    assert Selector(network, mean, std, NEVER, {}).choose(X[:9], most=3).steps.tolist() == [3] * 9
    assert len(Selector(network, mean, std, NEVER, {}).choose(X[:0]).classes) == 0


# on disk --------------------------------------------------------------------------------------------------------------


def test_what_is_loaded_chooses_as_what_was_saved(tmp_path: Path) -> None:
    path, X = tmp_path / "run" / "model.safetensors", prepared().X[:40]
    digest = fitted().save(path)
    loaded = Selector.load(path)
    before, after = fitted().choose(X), loaded.choose(X)
    np.testing.assert_array_equal(before.probabilities, after.probabilities)
    np.testing.assert_array_equal(before.steps, after.steps)
    assert loaded.threshold == fitted().threshold
    assert loaded.save(path) == digest
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["classes"] == list(CLASSES)
    assert (told["horizon"], told["cost"], told["shorting"]) == (6, 0.001, False)
    assert told["features"]["length"] == 30
    assert TRMFitConfig(**told["training"]) == QUICK


def test_another_file_is_no_selector(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    fitted().save(path)
    tensors, facts = read_checkpoint(path)
    write_checkpoint(path, tensors, {**facts, "kind": "forecaster"})
    with pytest.raises(CheckpointError, match="is no selector but a forecaster; `train-trm` writes them"):
        Selector.load(path)
    write_checkpoint(path, tensors, {**facts, "model": {**facts["model"], "width": 32}})
    with pytest.raises(CheckpointError, match="belongs to another architecture"):
        Selector.load(path)
    write_checkpoint(path, tensors, {**facts, "model": {**facts["model"], "width": 7}})
    with pytest.raises(CheckpointError, match=r"cannot be rebuilt: TRMConfig\.width is 7"):
        Selector.load(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="is no whole checkpoint"):
        Selector.load(path)


# judged ---------------------------------------------------------------------------------------------------------------


def test_walk_forward() -> None:
    data = prepared()
    found = walk_forward_trm(data, QUICK, 2)
    assert [fold.trained for fold in found.folds] == sorted(fold.trained for fold in found.folds)
    for fold in found.folds:
        assert set(fold.chosen) == set(ARMS)
        assert (np.diff(fold.held) == data.horizon).all(), "outcomes do not overlap"
        assert fold.held[0] - fold.trained == data.horizon, "what reaches into the fold is purged"
        assert all(len(each) == len(fold.held) for each in (*fold.chosen.values(), fold.steps))
        for arm, choice in constant_choices(data, fold.trained).items():
            assert (fold.chosen[arm] == choice).all()
    scores = found.scores()
    assert scores["majority"].accuracy == pytest.approx((found.chosen("majority") == data.labels[found.held]).mean())
    assert scores["trm"].pnl == pytest.approx(
        np.mean([data.pnl[row, choice] for row, choice in zip(found.held, found.chosen("trm"), strict=True)])
    )
    assert 1 <= found.mean_steps <= 4
    again = walk_forward_trm(data, QUICK, 2)
    np.testing.assert_array_equal(found.chosen("trm"), again.chosen("trm"))


def test_constant_choices_look_at_the_training_rows_alone() -> None:
    data = tellable()
    labels, pnl = data.labels.copy(), data.pnl.copy()
    labels[:60], labels[60:] = 5, LONG
    pnl[:60, 4], pnl[60:, 6] = 0.5, 0.9
    changed = dataclasses.replace(data, labels=labels, pnl=pnl)
    assert constant_choices(changed, 60) == {"majority": 5, "best_on_train": 4}
    assert constant_choices(changed, 400)["majority"] == LONG


def test_scores_by_hand() -> None:
    labels, chosen = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0])
    found = score_choices(chosen, labels, np.array([0, 0.01, 0.02, -0.01, 0.03]))
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.macro_f1 == pytest.approx((2 / 4 + 4 / 5 + 0) / 3)
    assert found.pnl == pytest.approx(0.01)
    assert found.macro_f1_interval == (0.0, 1.0), "too few rows to know"
    with pytest.raises(TrainingError, match=r"choices have shape \(0,\)"):
        score_choices(chosen[:0], labels[:0], np.empty(0))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1_000))
def test_the_interval_of_f1_holds_its_value(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, 400)
    chosen = np.where(random.random(400) < 0.5, labels, random.integers(0, 3, 400))
    low, high = f1_interval(chosen[None], labels, seed)
    value = score_choices(chosen, labels, np.zeros(400)).macro_f1
    assert low < value < high
    assert 0.05 < high - low < 0.2
    assert f1_interval(labels[None], labels) == (1.0, 1.0)


# refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"batches": 0}, "batches is 0; wanted a whole number ≥ 1"),
        ({"seed": -1}, "seed is -1"),
        ({"validation": 1.0}, "validation is 1.0; wanted a share"),
        ({"ema": 1.5}, "ema is 1.5"),
        ({"max_grad_norm": 0}, "max_grad_norm is 0; wanted a finite number above 0"),
    ],
)
def test_wrong_settings_are_told(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError) as told:
        dataclasses.replace(QUICK, **changed)
    assert words in str(told.value)


def test_what_cannot_be_trained_is_told() -> None:
    data = prepared()
    with pytest.raises(TrainingError, match="10 rows, of which 2 validate and 6 are purged, leave 2 to train on"):
        fit_trm(data, QUICK, 10)
    with pytest.raises(TrainingError, match="would fit"):
        walk_forward_trm(data, QUICK, 1_000)
    with pytest.raises(TrainingError, match="no class ever earned or lost anything"):
        fit_trm(dataclasses.replace(data, pnl=np.zeros_like(data.pnl)), QUICK)
    with pytest.raises(ConfigurationError, match="unknown size of TRMConfig 'widht'"):
        fit_trm(data, dataclasses.replace(QUICK, sizes={"widht": 3}))
    with pytest.raises(TrainingError, match="unknown halt target"):
        fit_trm(data, dataclasses.replace(QUICK, halt_target="sed"))
    with pytest.raises(TrainingError, match="is not on this machine"):
        fit_trm(data, dataclasses.replace(QUICK, device="cuda:9"))
    broken = data.X[:3].copy()
    broken[1, 2, 3] = np.nan
    with pytest.raises(TrainingError, match="a window holds a value that is not finite"):
        fitted().choose(broken)
    with pytest.raises(TrainingError, match="most is 0; wanted a whole number"):
        fitted().choose(data.X[:3], most=0)
