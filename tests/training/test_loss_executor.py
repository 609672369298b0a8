"""The executor keeps a log of what it changed, and no step that is not finite is ever kept."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trading_bot.errors import TrainingDiverged, TrainingError
from trading_bot.training.adaptive_loss_function import AdaptiveLossFunction
from trading_bot.training.adaptive_loss_trainer import create_adaptive_trainer
from trading_bot.training.loss_executor import DynamicLossExecutor
from trading_bot.training.loss_frame import Loss
from trading_bot.training.loss_functions import MAELoss, MSELoss
from trading_bot.training.weight_policies import Setting, WeightPolicy
from trading_bot.training.weight_policies.cov import CoV
from trading_bot.training.weight_policies.fixed import Fixed
from trading_bot.training.weight_policies.random_monitor import RandomMonitor

NAMES = ("mse", "mae")


def losses() -> dict[str, Loss]:
    return {"mse": MSELoss(), "mae": MAELoss()}


def executor(audit: Path | None = None, policy: WeightPolicy | None = None) -> DynamicLossExecutor:
    chosen = RandomMonitor(Setting(NAMES, 5), rate=1.0) if policy is None else policy
    return DynamicLossExecutor(losses(), chosen, audit=audit, calibration_steps=5, total_steps=60)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Bench:
    """A linear model in training with an executor."""

    def __init__(self, loss: AdaptiveLossFunction, rate: float = 0.01) -> None:
        torch.manual_seed(0)
        self.loss, self.model = loss, nn.Linear(3, 1)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=rate)
        loss.set_inner_validation(self.model, lambda number: batch(1000 + number))

    def step(self, count: int = 1, factor: float = 1.0) -> None:
        """So many; the gradients are multiplied by `factor` on their way."""
        for _ in range(count):
            X, y = batch(self.loss.steps)
            self.optimizer.zero_grad()
            value = self.loss(self.model(X), y)
            value.backward()
            for parameter in self.model.parameters():
                assert parameter.grad is not None
                parameter.grad *= factor
            self.optimizer.step()

    def weights(self) -> torch.Tensor:
        return torch.cat([parameter.detach().flatten().clone() for parameter in self.model.parameters()])


def batch(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    X = torch.randn(16, 3, generator=generator)
    return X, X @ torch.tensor([[1.0], [-1.0], [0.5]]) + 0.1 * torch.randn(16, 1, generator=generator)


# ── the log ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_is_the_executor_of_all_policies_and_keeps_a_log(tmp_path: Path) -> None:
    audit = tmp_path / "logs" / "audit.jsonl"
    plain = AdaptiveLossFunction(
        losses(), RandomMonitor(Setting(NAMES, 5), rate=1.0), calibration_steps=5, total_steps=60
    )
    one, two = Bench(executor(audit)), Bench(plain)
    for bench in (one, two):
        bench.step(30)
    assert torch.equal(one.weights(), two.weights())
    assert one.loss.weights == two.loss.weights
    moves = lines(audit)
    assert [line["step"] for line in moves] == [10, 15, 20, 25, 30]
    assert {line["event"] for line in moves} == {"weights moved"}
    assert moves[0]["before"] == {"mse": 0.5, "mae": 0.5}
    assert moves[-1]["after"] == one.loss.weights
    for line in moves:
        after = list(line["after"].values())
        assert math.fsum(after) == pytest.approx(1.0)
        assert min(after) >= 0.05
        assert math.fsum(abs(line["after"][name] - line["before"][name]) for name in NAMES) <= 0.2 + 1e-12
        ratio = (line["after"]["mae"] / line["after"]["mse"]) / (line["before"]["mae"] / line["before"]["mse"])
        assert ratio == pytest.approx(1.25 if line["action"] == 1 else 0.8)


def test_evaluation_is_not_logged(tmp_path: Path) -> None:
    bench = Bench(executor(tmp_path / "audit.jsonl"))
    bench.step(10)
    before = (tmp_path / "audit.jsonl").read_bytes()
    bench.loss.eval()
    bench.loss(bench.model(batch(1)[0]), batch(1)[1])
    assert (tmp_path / "audit.jsonl").read_bytes() == before


def test_a_skipped_component_is_logged(tmp_path: Path) -> None:
    class Sometimes(MAELoss):
        def measure(self, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return super().measure(y_hat, y) * (math.nan if bench.loss.steps == 3 else 1.0)

    loss = DynamicLossExecutor(
        {"mse": MSELoss(), "mae": Sometimes()}, Fixed(Setting(NAMES)), audit=tmp_path / "audit.jsonl"
    )
    bench = Bench(loss)
    bench.step(6)
    assert lines(tmp_path / "audit.jsonl") == [{"step": 4, "event": "component skipped", "loss": "mae", "in_all": 1}]
    assert torch.isfinite(bench.weights()).all()


def test_a_training_that_goes_on_has_the_log_of_one_that_was_not_stopped(tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    Bench(executor(whole, CoV(Setting(NAMES)))).step(40)
    first = Bench(executor(torn, CoV(Setting(NAMES))))
    first.step(23)
    state = json.loads(json.dumps(first.loss.get_extra_state()))
    model, optimizer = copy.deepcopy((first.model.state_dict(), first.optimizer.state_dict()))
    first.step(6)  # work that was lost, and is done again
    second = Bench(executor(torn, CoV(Setting(NAMES))))
    second.loss.set_extra_state(state)
    second.model.load_state_dict(model)
    second.optimizer.load_state_dict(optimizer)
    second.step(17)
    assert torn.read_bytes() == whole.read_bytes()


def test_a_log_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").write_text("no json\n")
    loss = executor(tmp_path / "audit.jsonl")
    with pytest.raises(TrainingError, match="no log of an executor"):
        loss.set_extra_state(loss.get_extra_state())


# ── the guard ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_step_without_a_finite_gradient_is_skipped(tmp_path: Path) -> None:
    loss = executor(tmp_path / "audit.jsonl", Fixed(Setting(NAMES)))
    bench = Bench(loss)
    guard = loss.guard(bench.model, bench.optimizer, max_grad_norm=1e6)
    bench.step(3)
    before = bench.weights()
    for factor in (math.nan, math.inf):
        bench.step(factor=factor)
        assert torch.equal(bench.weights(), before), "no momentum either"
    bench.step()
    assert not torch.equal(bench.weights(), before)
    assert (guard.skipped, guard.restored, guard.clipped) == (2, 0, 0)
    assert [line["event"] for line in lines(tmp_path / "audit.jsonl")] == ["step skipped"] * 2
    bench.step(9, factor=math.nan)
    with pytest.raises(TrainingDiverged, match=r"10 steps in a row could not be taken.*gradient was not finite"):
        bench.step(factor=math.nan)


def test_parameters_that_are_not_finite_are_restored() -> None:
    loss = executor(policy=Fixed(Setting(NAMES)))
    bench = Bench(loss)
    guard = loss.guard(bench.model, bench.optimizer)
    start = bench.weights()
    bench.step(4)
    bench.optimizer.param_groups[0]["lr"] = math.inf
    bench.step()
    assert torch.equal(bench.weights(), start), "from the last copy, which is that of the beginning"
    assert bench.optimizer.param_groups[0]["lr"] == 0.01
    assert not bench.optimizer.state_dict()["state"]
    bench.step(3)
    assert torch.isfinite(bench.weights()).all()
    assert guard.restored == 1
    for _ in range(9):
        bench.optimizer.param_groups[0]["lr"] = math.inf
        bench.step()
    bench.optimizer.param_groups[0]["lr"] = math.inf
    with pytest.raises(TrainingDiverged, match="left parameters that are not finite"):
        bench.step()


def test_gradients_are_clipped(tmp_path: Path) -> None:
    loss = executor(tmp_path / "audit.jsonl", Fixed(Setting(NAMES)))
    bench = Bench(loss)
    guard = loss.guard(bench.model, bench.optimizer, max_grad_norm=0.5)
    bench.step(factor=1000.0)
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in bench.model.parameters() if p.grad is not None))
    assert norm == pytest.approx(0.5, rel=1e-4)
    (line,) = lines(tmp_path / "audit.jsonl")
    assert line["event"] == "gradient clipped"
    assert line["norm"] > 100
    guard.remove()
    bench.step(factor=math.nan)
    assert torch.isnan(bench.weights()).all(), "nobody watches any more"


def test_a_policy_that_wants_it_is_told_the_learning_rate() -> None:
    loss = executor()
    bench = Bench(loss)
    loss.guard(bench.model, bench.optimizer)
    bench.step(2)
    bench.optimizer.param_groups[0]["lr"] = 0.005
    bench.step(2)
    assert (loss.policy.memory["first_rate"], loss.policy.memory["rate"]) == (0.01, 0.005)


def test_it_serves_in_the_trainer(tmp_path: Path) -> None:
    loss = executor(tmp_path / "audit.jsonl")
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    trainer = create_adaptive_trainer(model, optimizer, "cpu", loss)
    trainer.show_progress = False
    guard = loss.guard(model, optimizer)
    loader = [batch(number) for number in range(10)]
    results = trainer.train(loader, loader[:1], 5, log_interval=0)
    assert results.history["val_loss"][-1] < results.history["val_loss"][0]
    assert {line["event"] for line in lines(tmp_path / "audit.jsonl")} >= {"weights moved"}
    assert guard.skipped == guard.restored == 0
