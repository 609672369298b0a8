"""A training with an adaptive loss: what is set aside, optimised and decisive, and that it goes on bit for bit."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loguru import logger
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from tests.training.test_trainer import SMALL, assert_same, rows
from trading_bot.errors import CheckpointError, TrainingError
from trading_bot.models.registry import build_model
from trading_bot.training.adaptive_loss import POLICIES, create_adaptive_loss
from trading_bot.training.adaptive_loss_inner import set_aside
from trading_bot.training.adaptive_loss_trainer import AdaptiveLossTrainer, create_adaptive_trainer
from trading_bot.training.data_loaders import BatchLoader, TimeSeriesDataset, create_data_loaders
from trading_bot.training.loss_functions import MSELoss
from trading_bot.training.optimizers import create_optimizer
from trading_bot.training.trainer import ModelCheckpoint, Trainer

CPU = torch.device("cpu")
EPOCHS = 4
STEPS = 10  # an epoch; 8 where rows are set aside


def make(
    policy: str = "cov", *, seed: int = 0, combination: Any = "comprehensive", **options: Any
) -> AdaptiveLossTrainer:
    """A small CNN with dropout, and a loss that adapts after a few steps."""
    torch.manual_seed(seed)
    model = build_model("cnn", **SMALL, dropout=0.2)
    defaults: dict[str, Any] = {"calibration_steps": 6, "adaptation_frequency": 10, "record_every": 2}
    trainer = create_adaptive_trainer(
        model, create_optimizer(model, "adam", lr=0.01), "cpu", combination, "test", adaptation_strategy=policy,
        seed=seed, **{**defaults, **options},
    )  # fmt: skip
    trainer.show_progress = False
    return trainer


def loaders(seed: int = 0) -> tuple[BatchLoader, BatchLoader]:
    return create_data_loaders(*rows(400), batch_size=32, seed=seed)


def outcome(trainer: AdaptiveLossTrainer) -> tuple[Any, ...]:
    """Everything a training leaves, to be compared."""
    curves = {name: values for name, values in trainer.history.items() if name != "seconds"}
    return curves, trainer.loss.get_extra_state(), trainer.optimizer.state_dict()["param_groups"]


# ── the whole of it, for all policies ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", POLICIES)
def test_it_learns_and_a_resumed_training_has_the_same_bits(name: str, tmp_path: Path) -> None:
    whole = make(name)
    results = whole.train(*loaders(), EPOCHS, log_interval=0)
    assert results.history["val_loss"][-1] < results.history["val_loss"][0]
    assert sum(results.weights.values()) == pytest.approx(1.0)
    assert results.effectiveness is not None
    assert results.effectiveness.learning < 0
    assert json.loads(json.dumps(results.as_json()))["weights"] == results.weights

    first = make(name)
    first.set_resume(tmp_path / "state.safetensors")
    first.on_epoch.append(interrupting(after=2))
    with pytest.raises(KeyboardInterrupt):
        first.train(*loaders(), EPOCHS, log_interval=0)
    second = make(name)
    torch.manual_seed(99)
    second.set_resume(tmp_path / "state.safetensors")
    second.train(*loaders(), EPOCHS, log_interval=0)
    assert_same(whole.model.state_dict(), second.model.state_dict())
    assert outcome(whole) == outcome(second)
    if name == "cov":  # and the one that was interrupted may go on itself
        first.on_epoch.clear()
        first.train(*loaders(), EPOCHS, log_interval=0)
        assert outcome(whole) == outcome(first)


def interrupting(after: int) -> Callable[[int, Mapping[str, float]], None]:
    def tell(epoch: int, values: Mapping[str, float]) -> None:
        if epoch + 1 == after:
            raise KeyboardInterrupt

    return tell


KILLED = """
import os, signal, sys
from tests.training.test_adaptive_loss_trainer import loaders, make
trainer = make("hybrid")
trainer.set_resume(sys.argv[1])
trainer.on_epoch.append(lambda epoch, values: os.kill(os.getpid(), signal.SIGKILL) if epoch == 1 else None)
trainer.train(*loaders(), 4, log_interval=0)
"""


def test_killed_and_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], cwd=Path(__file__).parents[2], env={"OMP_NUM_THREADS": "1"},
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    whole, again = make("hybrid"), make("hybrid")
    whole.train(*loaders(), EPOCHS, log_interval=0)
    again.set_resume(path)
    again.train(*loaders(), EPOCHS, log_interval=0)
    assert_same(whole.model.state_dict(), again.model.state_dict())
    assert outcome(whole) == outcome(again)


@pytest.mark.parametrize("name", POLICIES)
def test_the_validation_rows_move_no_weight(name: str) -> None:
    """Other validation rows, however wild: the same weights, and the same steps of the model."""
    X, y = rows(400)
    told = []
    for held in (y, np.where(np.arange(400) < 320, y, -1000 * y).astype(np.float32)):
        trainer = make(name)
        train, _ = create_data_loaders(X[:320], y[:320], 32, validation_split=0.1)
        _, val = create_data_loaders(X, held, 32)
        trainer.train(train, val, 3, log_interval=0)
        state = trainer.loss.get_extra_state()
        del state["last"]
        told.append((trainer.history["train_loss"], state))
    assert told[0] == told[1]


def test_same_seed_same_bytes_other_seed_other_curves() -> None:
    def trained(seed: int) -> AdaptiveLossTrainer:
        trainer = make("rlw", seed=seed)
        trainer.train(*loaders(seed), EPOCHS, log_interval=0)
        return trainer

    first, again, other = trained(1), trained(1), trained(2)
    assert outcome(first) == outcome(again)
    assert_same(first.model.state_dict(), again.model.state_dict())
    assert first.history["val_loss"] != other.history["val_loss"]
    assert [line.weights for line in first.loss.record.lines] != [line.weights for line in other.loss.record.lines]


# ── learned weights ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["learning_based", "hybrid"])
def test_learned_weights_are_in_the_optimizer_as_a_group_of_their_own(name: str) -> None:
    trainer = make(name, learned_rate=0.02)
    (v,) = trainer.loss.policy.parameters
    own = [group for group in trainer.optimizer.param_groups if any(each is v for each in group["params"])]
    assert len(trainer.optimizer.param_groups) == 2
    assert [(len(group["params"]), group["lr"], group["weight_decay"]) for group in own] == [(1, 0.02, 0.0)]
    trainer.train(*loaders(), EPOCHS, log_interval=0)
    assert v.abs().min() > 0, "every one has moved"
    assert v in trainer.optimizer.state
    AdaptiveLossTrainer(trainer.model, trainer.optimizer, trainer.loss, "cpu")
    assert len(trainer.optimizer.param_groups) == 2, "not a second time"
    assert len(make("cov").optimizer.param_groups) == 1


def test_learned_weights_without_their_group_are_found_out() -> None:
    torch.manual_seed(0)
    model = build_model("cnn", **SMALL)
    loss = create_adaptive_loss("basic", "learning_based", calibration_steps=5)
    trainer = Trainer(model, *loaders(), loss, create_optimizer(model, "adam"), "cpu")
    trainer.show_progress = False
    with pytest.raises(TrainingError, match="they are in no optimizer"):
        trainer.fit(3, log_interval=0)


def test_what_the_weights_want_does_not_shorten_the_models_step() -> None:
    """The trainer clips by the model's gradient alone: here that of the other parameter is a million."""
    torch.manual_seed(0)
    model, other = build_model("cnn", **SMALL), torch.nn.Parameter(torch.zeros(()))
    optimizer = create_optimizer(model, "adam")
    optimizer.add_param_group({"params": [other], "clip": False})
    trainer = Trainer(model, *loaders(), lambda p, y: (p - y).square().mean() + 1e6 * other, optimizer, "cpu")
    trainer.show_progress = False
    assert trainer.fit(1, log_interval=0)["grad_norm"][0] < 1000
    assert other.item() < 0, "it was optimised"
    assert [group.get("clip", True) for group in make("learning_based").optimizer.param_groups] == [True, False]


def test_a_schedule_of_the_learning_rate_covers_both_groups() -> None:
    trainer = make("learning_based", scheduler="cosine", learned_rate=0.02)
    trainer.train(*loaders(), 3, log_interval=0)
    factor = 0.5 * (1 + math.cos(math.pi * 3 / 100))
    assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([0.01 * factor, 0.02 * factor])


# ── what decides ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_is_judged_by_the_fixed_metric(tmp_path: Path) -> None:
    trainer = make("cov", metric="mse")
    trainer.set_early_stopping(patience=1, min_delta=100.0)
    trainer.set_checkpoint(tmp_path, monitor="val_loss")
    train, val = loaders()
    results = trainer.train(train, val, EPOCHS, log_interval=0)
    assert results.history.epochs == 2, "early stopping is passed on"
    sigma = float(train.dataset.y.std())
    assert float(trainer.loss.sigma) == pytest.approx(sigma, rel=1e-5)
    best = results.history.best_epoch
    assert best is not None
    judge = MSELoss(sigma)
    with torch.inference_mode():
        X, y = val.dataset.batch(slice(None))
        assert float(judge(trainer.model(X), y)) == pytest.approx(results.history["val_loss"][best], rel=1e-5)
    assert set(results.history) >= {"val_combined", "val_mae", "val_hit_rate"}
    other = build_model("cnn", **SMALL)
    facts = ModelCheckpoint(tmp_path).load_best(other)
    assert facts["value"] == results.history["val_loss"][best]
    assert facts["metadata"] == {"model_id": "test", "epoch": best}


def test_a_model_that_diverges_is_told_with_its_epoch() -> None:
    trainer = make("cov", max_grad_norm=None)
    trainer.optimizer.param_groups[0]["lr"] = 1e30
    train, val = loaders()
    train.max_batches = 1
    with pytest.raises(TrainingError, match=r"val_loss is nan in epoch 1 .*lower the learning rate"):
        trainer.train(train, val, 2)


def test_two_trainings_in_a_row_go_on_with_the_weights() -> None:
    trainer = make("schedule_based")
    trainer.train(*loaders(), 2, log_interval=0)
    assert (trainer.loss.steps, trainer.loss.total_steps) == (2 * STEPS, 2 * STEPS)
    trainer.train(*loaders(), 3, log_interval=0)
    assert (trainer.loss.steps, trainer.loss.total_steps) == (5 * STEPS, 5 * STEPS)
    assert trainer.history.epochs == 3


def test_another_loss_cannot_take_up_the_state(tmp_path: Path) -> None:
    for policy, combination in (("cov", "comprehensive"), ("dwa", "comprehensive"), ("cov", "basic")):
        trainer = make(policy, combination=combination)
        trainer.set_resume(tmp_path / "state.safetensors")
        if (policy, combination) == ("cov", "comprehensive"):
            trainer.train(*loaders(), 1, log_interval=0)
            continue
        with pytest.raises(CheckpointError, match="belongs to another optimizer or loss"):
            trainer.train(*loaders(), 1, log_interval=0)


# ── rows set aside ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_newest_fifth_is_set_aside_only_where_it_is_wanted() -> None:
    for policy, options, steps in (("cov", {}, 10), ("performance_based", {}, 8), ("cov", {"hold_out": True}, 8)):
        trainer = make(policy, **options)
        trainer.train(*loaders(), 1, log_interval=0)
        assert trainer.loss.steps == steps


def test_rows_set_aside_are_the_newest_and_never_trained_on() -> None:
    X, y = np.arange(600, dtype=np.float32).reshape(200, 3), np.arange(200, dtype=np.float32)
    train, _ = create_data_loaders(X, y, 16, normalize=False)  # rows 0 to 159
    part, batch = set_aside(train, 5, CPU)
    trained = torch.cat([y for _, y in part]).flatten().tolist()
    assert sorted(trained) == list(range(123)), "the last 32 are set aside, 5 before them purged"
    assert len(train.dataset) == 160, "the loader itself is as it was"
    X0, y0 = batch(0)
    assert y0.flatten().tolist() == list(range(128, 160))
    assert X0[:, 0].tolist() == [3.0 * row for row in range(128, 160)]


def test_batches_of_them_take_turns_and_span_the_whole() -> None:
    X, y = rows(1000)
    _, batch = set_aside(create_data_loaders(X, y, 32)[0], 0, CPU)
    seen = [batch(number)[1].flatten().tolist() for number in range(3)]
    assert [len(each) for each in seen] == [80, 80, 80]
    assert seen[2] == seen[0] != seen[1]


def test_rows_that_were_dropped_stay_dropped() -> None:
    X, y = rows(200)
    X[3] = math.nan
    whole = BatchLoader(TimeSeriesDataset(X, y, nan="drop"), 32)
    part, batch = set_aside(whole, 0, CPU)
    assert torch.cat([y for _, y in part]).flatten().tolist() == np.delete(y, 3)[:159].tolist()
    assert batch(0)[1].flatten().tolist() == y[160:].tolist()
    assert all(bool(torch.isfinite(X).all()) for X, _ in part)


def test_loaders_of_torch_and_lists_of_batches_will_do() -> None:
    X, y = (torch.from_numpy(each) for each in rows(400))
    data = TensorDataset(X, y)
    part, batch = set_aside(DataLoader(data, 32, shuffle=True, drop_last=True), 0, CPU)
    assert sorted(v for _, each in part for v in each.tolist()) == sorted(y[:320].tolist())
    assert batch(0)[1].tolist() == y[320:].tolist()
    pairs = [(X[at : at + 40], y[at : at + 40]) for at in range(0, 400, 40)]
    kept, batch = set_aside(pairs, 0, CPU)
    assert isinstance(kept, list)
    assert len(kept) == 8
    assert [
        batch(number)[1] is not None and torch.equal(batch(number)[1], pairs[8 + number % 2][1]) for number in range(3)
    ]
    trainer = make("performance_based")
    results = trainer.train(DataLoader(data, 32, shuffle=True), DataLoader(data, 64), 2, log_interval=0)
    assert results.history.epochs == 2


def test_loaders_that_cannot_be_cut() -> None:
    X, y = (torch.from_numpy(each) for each in rows(100))
    for loader in (iter([(X, y)]), DataLoader(TensorDataset(X, y), sampler=WeightedRandomSampler([1.0] * 100, 100))):
        with pytest.raises(TrainingError, match="newest rows can be set aside"):
            set_aside(loader, 0, CPU)
    with pytest.raises(TrainingError, match=r"32 training rows, of which 6 are set aside.*wanted at least 8"):
        set_aside(create_data_loaders(*rows(40))[0], 0, CPU)


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pictures_and_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trainer = make("rlw")
    with pytest.raises(TrainingError, match="nothing to draw"):
        trainer.plot_loss_evolution()
    trainer.train(*loaders(), 2, log_interval=0)
    for path in (trainer.plot_loss_evolution(), trainer.plot_weight_evolution("deep/weights.png")):
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 10_000
    assert Path("test-losses.png").is_file()
    with pytest.raises(TrainingError, match=r"wanted \.png"):
        trainer.plot_weight_evolution("weights.jpg")
    assert json.loads(trainer.save_history("history.json").read_text())["lines"][-1]["step"] == 2 * STEPS
    assert trainer.save_history("history.csv").read_text().startswith("step,combined,loss_mse,")


def test_moved_weights_are_in_the_log() -> None:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{level} {message}", level="DEBUG")
    try:
        make("schedule_based").train(*loaders(), 10, log_interval=0)
        make("cov", calibration_steps=500).train(*loaders(), 1, log_interval=0)
        make("fixed", combination={"a": "mae", "b": "mae"}).train(*loaders(), 1, log_interval=0)
    finally:
        logger.remove(sink)
    moved = [line for line in lines if "weights moved" in line]
    assert [line.split("step ")[1].split(":")[0] for line in moved] == ["100"]
    assert "mse=0.1 " in moved[0]
    assert [line.split()[0] for line in lines if "will not adapt" in line or "a and b pull the same way" in line] == [
        "WARNING"
    ] * 2


def test_tensorboard_has_the_weights(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = make("schedule_based", tensorboard=tmp_path)
    trainer.train(*loaders(), 2, log_interval=0)
    found = EventAccumulator(str(tmp_path / "test"))
    found.Reload()
    assert {"val_loss", "val_combined", "weight/mse", "loss/asymmetric"} <= set(found.Tags()["scalars"])
    assert found.Scalars("weight/mse")[-1].value == pytest.approx(trainer.loss.weights["mse"])


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"gap": -1}, "gap is -1"),
        ({"learned_rate": 0}, "learned_rate is 0"),
        ({"adaptation_frequenzy": 3}, "did you mean 'adaptation_frequency'"),
        ({"device": "cudaa"}, "is not on this machine"),
        ({"model_id": "a/b"}, "can name a file"),
        ({"scheduler": "cosin"}, "did you mean 'cosine'"),
        ({"loss_combination": "none"}, "unknown combination"),
    ],
)
def test_bad_options(options: dict[str, Any], match: str) -> None:
    model = build_model("cnn", **SMALL)
    with pytest.raises(TrainingError, match=match):
        create_adaptive_trainer(model, create_optimizer(model), **{"device": "cpu", **options})


def test_a_loss_that_is_made_already_takes_no_options() -> None:
    model = build_model("cnn", **SMALL)
    loss = create_adaptive_loss("basic", "cov")
    assert create_adaptive_trainer(model, create_optimizer(model), "cpu", loss).loss is loss
    with pytest.raises(TrainingError, match="made already; leave seed out"):
        create_adaptive_trainer(model, create_optimizer(model), "cpu", loss, seed=3)


def test_small_batches_of_a_statistic_are_refused_as_ever() -> None:
    trainer = make("cov", combination="trading_focused")
    with pytest.raises(TrainingError, match="wanted at least 8"):
        trainer.train(*create_data_loaders(*rows(40), batch_size=4), 1)
    with pytest.raises(TrainingError, match="epochs is 0"):
        make("cov").train(*loaders(), 0)
