"""The training loop: what it does to weights, when it stops, what it keeps, and that it goes on bit for bit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from trading_bot.errors import CheckpointError, TrainingError
from trading_bot.models.registry import build_model
from trading_bot.training.data_loaders import BatchLoader, create_data_loaders
from trading_bot.training.devices import available_devices, pick_device
from trading_bot.training.loss_functions import create_loss_function
from trading_bot.training.trainer import (
    ModelCheckpoint,
    Trainer,
    TrainingHistory,
    create_optimizer,
    create_scheduler,
    hit_rate,
)

SMALL: dict[str, Any] = {"channels": (4, 4), "kernels": (3, 3), "dense": (8,), "time": 6, "features": 3}


def rows(n: int = 200, seed: int = 0) -> tuple[Any, Any]:
    """Windows whose last bar tells the target, with noise."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, 6, 3)).astype(np.float32)
    y = (X[:, -1] @ np.array([1.0, -0.5, 0.2]) + random.normal(0, 0.3, n)).astype(np.float32)
    return X, y


def make(
    *, seed: int = 0, loss: Any = None, scheduler: str | None = None, batch_size: int = 32, dropout: float = 0.2,
    lr: float = 0.01, optimizer: str = "adam",
) -> Trainer:  # fmt: skip
    """A small CNN on those rows, everything seeded."""
    torch.manual_seed(seed)
    model = build_model("cnn", **SMALL, dropout=dropout)
    train, val = create_data_loaders(*rows(), batch_size=batch_size, seed=seed)
    made = create_optimizer(model, optimizer, lr=lr)
    schedule = None if scheduler is None else create_scheduler(made, scheduler)
    return Trainer(model, train, val, loss or create_loss_function("mse"), made, device="cpu", scheduler=schedule)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_it_learns_and_tells() -> None:
    history = make(dropout=0.0).fit(12)
    assert isinstance(history, dict)
    assert set(history) == {
        "train_loss", "val_loss", "val_mae", "val_hit_rate", "learning_rate", "grad_norm", "seconds",
    }  # fmt: skip
    assert {len(values) for values in history.values()} == {12}
    assert history["val_loss"][-1] < 0.5 * history["val_loss"][0]
    assert history["val_hit_rate"][-1] > 0.8
    assert history["learning_rate"] == [0.01] * 12
    assert all(norm > 0 for norm in history["grad_norm"])


def test_same_seed_same_bytes_other_seed_other_curves() -> None:
    def trained(seed: int) -> Trainer:
        trainer = make(seed=seed)
        trainer.fit(3)
        return trainer

    first, again, other = trained(0), trained(0), trained(1)
    assert first.history["val_loss"] == again.history["val_loss"] != other.history["val_loss"]
    assert_same(weights(first), weights(again))


def test_it_does_what_a_hand_written_loop_does() -> None:
    trainer = make()
    trainer.fit(2)
    peer = make()
    model, optimizer, best = peer.model, peer.optimizer, math.inf
    kept: dict[str, torch.Tensor] = {}
    for epoch in range(2):
        model.train()
        peer.train_dataloader.epoch = epoch  # type: ignore[attr-defined]
        for X, y in peer.train_dataloader:
            optimizer.zero_grad()
            loss: Any = peer.loss_fn(model(X), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            pairs = [(model(X), y) for X, y in peer.val_dataloader]
            value = float(peer.loss_fn(torch.cat([p for p, _ in pairs]), torch.cat([y for _, y in pairs])))
        if value < best:
            best, kept = value, weights(peer)
    assert_same(weights(trainer), kept)


def test_gradients_are_clipped() -> None:
    X, y = rows()
    trainer = make(optimizer="sgd", lr=1e-6)
    trainer.optimizer.param_groups[0]["momentum"] = 0.0
    trainer.max_grad_norm = 1e-3
    train, _ = create_data_loaders(X, 1e6 * y, batch_size=160)
    trainer.train_dataloader = train
    before = weights(trainer)
    trainer.fit(1)
    moved = sum(float((trainer.model.state_dict()[name] - tensor).square().sum()) for name, tensor in before.items()
                if "running" not in name and "batches" not in name)  # fmt: skip
    assert math.sqrt(moved) <= 1e-6 * 1e-3 * 1.5
    assert trainer.history["grad_norm"][0] > 1


class Scripted(nn.Module):
    """A loss whose validation values are given; in training it is a real one."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values: Iterator[float] = iter(values)

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        real: torch.Tensor = ((prediction - target) ** 2).mean()
        return real if self.training else real * 0 + next(self.values)


def test_early_stopping_stops_and_the_best_weights_come_back() -> None:
    trainer = make(loss=Scripted([3.0, 1.0, 2.0, 2.0, 2.0, 2.0]))
    seen: list[dict[str, torch.Tensor]] = []
    trainer.on_epoch.append(lambda epoch, values: seen.append(weights(trainer)))
    history = trainer.fit(6, early_stopping_patience=2)
    assert history["val_loss"] == [3.0, 1.0, 2.0, 2.0]
    assert history.best_epoch == 1
    assert_same(weights(trainer), seen[1])
    assert not torch.equal(next(iter(seen[1].values())), next(iter(seen[3].values()))), "training went on after it"


def test_min_delta_counts_small_gains_as_none() -> None:
    values = [1.0, 0.9999, 0.9998, 0.9997]
    trainer = make(loss=Scripted(values))
    trainer.set_early_stopping(patience=2, min_delta=0.001)
    assert len(trainer.fit(4)["val_loss"]) == 3
    trainer = make(loss=Scripted(values))
    trainer.set_early_stopping(patience=2, min_delta=0.0)
    assert len(trainer.fit(4)["val_loss"]) == 4


def test_a_second_fit_begins_anew_from_the_weights_it_has() -> None:
    trainer = make()
    trainer.set_early_stopping(patience=1, min_delta=100.0)  # the first improves on infinity, the second on nothing
    assert trainer.fit(5).epochs == 2
    kept = weights(trainer)
    assert trainer.fit(5).epochs == 2, "early stopping counts from the start again"
    assert not all(torch.equal(kept[name], tensor) for name, tensor in weights(trainer).items())


def test_checkpoint_keeps_the_best(tmp_path: Path) -> None:
    trainer = make(loss=Scripted([2.0, 1.0, 3.0]))
    trainer.set_checkpoint(tmp_path / "deep" / "folder", filename="best_model.pt", metadata={"who": "test"})
    trainer.fit(3)
    other = make(seed=5)
    facts = ModelCheckpoint(tmp_path / "deep" / "folder").load_best(other.model)
    assert facts["value"] == 1.0
    assert facts["metadata"] == {"who": "test", "epoch": 1}
    assert facts["model"]["name"] == "cnn"
    assert_same(weights(other), weights(trainer))


def test_schedulers_are_stepped_once_an_epoch() -> None:
    trainer = make(scheduler="cosine")
    rates = trainer.fit(4)["learning_rate"]
    assert rates == pytest.approx([0.005 * (1 + math.cos(math.pi * epoch / 100)) for epoch in range(4)])
    trainer = make(loss=Scripted([1.0] * 14), scheduler="plateau")
    rates = trainer.fit(14)["learning_rate"]
    assert rates[0] == 0.01
    assert rates[-1] == pytest.approx(0.001), "ten epochs without improvement"


@pytest.mark.parametrize("loss", ["mse", "ROBUST"])  # a robust loss has a state of its own
@pytest.mark.parametrize("scheduler", [None, "cosine", "plateau", "step"])
def test_resumed_bit_for_bit(tmp_path: Path, loss: str, scheduler: str | None) -> None:
    def trained(folder: str, stop_after: int | None) -> Trainer:
        trainer = make(loss=create_loss_function(loss), scheduler=scheduler)
        trainer.set_early_stopping(patience=3, min_delta=0.0)
        trainer.set_checkpoint(tmp_path / folder)
        trainer.set_resume(tmp_path / folder / "state.safetensors")
        if stop_after is not None:

            def interrupt(epoch: int, values: object) -> None:
                if epoch + 1 == stop_after:
                    raise KeyboardInterrupt

            trainer.on_epoch.append(interrupt)
        try:
            trainer.fit(6)
        except KeyboardInterrupt:
            torch.manual_seed(99)  # the next process begins somewhere else
        return trainer

    whole = trained("whole", None)
    trained("parts", 2)
    trained("parts", 4)
    resumed = trained("parts", None)
    assert_same(weights(whole), weights(resumed))
    for name in ("train_loss", "val_loss", "learning_rate", "grad_norm", "val_mae"):
        assert whole.history[name] == resumed.history[name], name
    assert (tmp_path / "whole/best_model.safetensors").read_bytes() == (
        tmp_path / "parts/best_model.safetensors"
    ).read_bytes()
    finished = trained("parts", None)  # nothing is left to do
    assert_same(weights(whole), weights(finished))


def test_a_state_of_something_else_is_refused_before_training(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    trainer = make()
    trainer.set_resume(path)
    trainer.fit(1)
    other = make(loss=create_loss_function("mae"))
    other.set_resume(path)
    with pytest.raises(CheckpointError, match="trained with the loss MSELoss, this is MAELoss"):
        other.fit(2)
    larger = make()
    larger.model = build_model("cnn", **{**SMALL, "dense": (9,)})
    larger.set_resume(path)
    with pytest.raises(CheckpointError, match="another architecture"):
        larger.fit(2)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cut short"):
        make().set_resume(path)
    trainer.set_checkpoint(tmp_path)
    trainer._checkpoint.save(trainer.model, 1.0)  # type: ignore[union-attr]
    with pytest.raises(CheckpointError, match="no state of a training"):
        make().set_resume(tmp_path / "best_model.safetensors")


def test_a_loss_that_is_no_number_ends_it_with_the_best_weights_kept() -> None:
    trainer = make(loss=Scripted([1.0, math.nan]))
    first: list[dict[str, torch.Tensor]] = []
    trainer.on_epoch.append(lambda epoch, values: first.append(weights(trainer)))
    with pytest.raises(TrainingError, match=r"val_loss is nan in epoch 2 .*lower the learning rate"):
        trainer.fit(5)
    assert_same(weights(trainer), first[0])


def test_batch_statistics_warn_once_and_refuse() -> None:
    sharpe = create_loss_function("sharpe")
    with pytest.warns(UserWarning, match="SharpeRatioLoss is a statistic of the batch") as caught:
        make(loss=sharpe, batch_size=32).fit(2)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(loss=sharpe, batch_size=64).fit(1)
    with pytest.raises(TrainingError, match="batches have 4 rows; wanted at least 8"):
        make(loss=sharpe, batch_size=4)


def test_a_last_batch_that_is_too_small_joins_the_one_before() -> None:
    trainer = make(batch_size=53)  # 160 rows: 53, 53, 53 and one that BatchNorm could not take
    assert [len(X) for X, _ in trainer.train_dataloader] == [53, 53, 54]
    trainer.fit(1)


def test_pytorch_loaders_serve_too() -> None:
    X, y = rows()
    train, val = create_data_loaders(X, y)
    torch.manual_seed(0)
    model = build_model("cnn", **SMALL)
    loaders = DataLoader(train.dataset, 32, shuffle=True), DataLoader(val.dataset, 32)
    trainer = Trainer(model, *loaders, nn.functional.mse_loss, create_optimizer(model), device="cpu")
    assert trainer.fit(3)["val_loss"][-1] < 2
    with pytest.raises(TrainingError, match="pass drop_last=True"):
        Trainer(model, DataLoader(train.dataset, 53), loaders[1], nn.functional.mse_loss, create_optimizer(model))


def test_absent_devices_are_told() -> None:
    assert pick_device("auto").type == available_devices()[0].partition(":")[0]
    assert pick_device("cpu") == torch.device("cpu")
    for absent in ("cuda:99", "tpu", "xpu", "", 3):
        with pytest.raises(TrainingError, match=r"is not on this machine; it has .*cpu"):
            pick_device(absent)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: t.fit(0), "epochs is 0; wanted a whole number ≥ 1"),
        (lambda t: t.fit(True), "epochs is True"),
        (lambda t: t.fit(1, early_stopping_patience=0), "patience is 0; wanted a whole number of epochs ≥ 1"),
        (lambda t: t.set_early_stopping(3, min_delta=-1), "min_delta is -1; wanted a number ≥ 0"),
        (lambda t: t.set_checkpoint("x", monitor="val_los"), "monitor is 'val_los'; wanted one of train_loss, val_l"),
        (lambda t: t.set_checkpoint("x", mode="least"), "mode is 'least'; wanted 'min'"),
        (lambda t: Trainer(t.model, t.train_dataloader, t.val_dataloader, t.loss_fn, t.optimizer, max_grad_norm=0),
         "max_grad_norm is 0; wanted a number above 0"),
        (lambda t: Trainer(t.model, iter([]), t.val_dataloader, t.loss_fn, t.optimizer), "training loader is empty"),
        (lambda t: Trainer(t.model, t.train_dataloader, [], t.loss_fn, t.optimizer), "validation loader is empty"),
    ],
)  # fmt: skip
def test_bad_requests(call: Any, words: str) -> None:
    with pytest.raises(TrainingError) as caught:
        call(make())
    assert words in str(caught.value)


def test_hit_rate_leaves_out_what_did_not_move() -> None:
    assert hit_rate(torch.tensor([1.0, -1.0, 2.0]), torch.tensor([1.0, 1.0, 0.0])) == 0.5
    assert math.isnan(hit_rate(torch.tensor([1.0]), torch.tensor([0.0])))


def test_history_of_nothing() -> None:
    empty = TrainingHistory()
    assert empty.epochs == 0
    assert empty.best_epoch is None


def test_the_validation_loader_moves_no_weight() -> None:
    trainer = make()
    before = weights(trainer)
    trainer._validate()
    assert_same(before, weights(trainer))


def test_batch_loaders_are_handed_the_epoch() -> None:
    trainer = make()
    assert isinstance(trainer.train_dataloader, BatchLoader)
    trainer.train_dataloader.epoch = 17
    trainer.fit(2)
    assert trainer.train_dataloader.epoch == 2
