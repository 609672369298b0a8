"""Linear model ≥ 8 × a PyTorch loop, ≥ 15 × SGDClassifier; eight batched ≥ 16 × PyTorch loops, ≥ 1.7 × one by one.

All on one thread, in turns: 8 logistic models on 20,000 × 40 rows of their own, batch 256. The PyTorch loop takes the
same steps on the same batches (weighted loss, clipped norm, decay of the weights alone, momentum), sums the loss up and
validates once an epoch, with nothing that Python could spare it. With one feature matrix for all and labels of its own
for each, batched ≥ 30 × PyTorch; eight networks by batched products ≥ 2.5 × PyTorch.

Four CNNs of 130,000 parameters, on 2,000 windows of their own, by two processes ≥ 1.8 × one after another in this one,
one thread each: the whole call, with the processes' start, and also without what a call of one epoch takes. A machine
that does other things shows less; CPU seconds, the last figure, say what two free cores would give.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import SGDClassifier
from torch import nn

from benchmarks._figures import goal, interleaved, say, times
from trading_bot.learn.batched_linear import LinearStack
from trading_bot.learn.batched_networks import NetworkStack
from trading_bot.learn.batched_training import Member
from trading_bot.learn.optimizer import AdaptiveTrainer, ParallelStrategyTrainer, TrainingConfig
from trading_bot.learn.strategy_report import StrategyJob
from trading_bot.learn.training_data import batch_order, prepare
from trading_bot.models.registry import build_model

ROWS, VALIDATION, FEATURES = 20_000, 4_000, 40
STRATEGIES, HIDDEN = 8, 16
ROUNDS, NETWORK_ROUNDS = 9, 5
WINDOWS, WORKERS, CNNS = 2_000, 2, 4
EPOCHS, CNN_ROUNDS = 100, 3
CONFIG = TrainingConfig(use_adaptive_lr=False, learning_rate_decay=1.0, loss="log_loss")
Data = tuple[Any, Any, Any, Any]


def main() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        own = [data(seed) for seed in range(STRATEGIES)]
        one_model(own[0])
        several(own)
        shared(own)
        networks(own)
        processes()
    finally:
        torch.set_num_threads(before)


def data(seed: int) -> Data:
    """X_train, y_train, X_val, y_val, float32."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(ROWS + VALIDATION, FEATURES)).astype(np.float32)
    y = (random.random(len(X)) < 1 / (1 + np.exp(-X @ random.normal(size=FEATURES) / 4))).astype(np.float32)
    return X[:ROWS], y[:ROWS], X[ROWS:], y[ROWS:]


def one_model(rows: Data) -> None:
    """An epoch of one logistic model."""
    works: dict[str, Callable[[], object]] = {
        "AdaptiveTrainer": ours(rows),
        "PyTorch loop": torch_loop(nn.Linear(FEATURES, 1), rows),
        "partial_fit": sklearn_epoch(rows),
    }
    interleaved(works, 1)  # memory and caches as they will be
    spent = interleaved(works, ROUNDS)
    for name, seconds in spent.items():
        times(f"one model, an epoch: {name}", seconds)
    goal("linear model against a PyTorch loop", ratio(spent, "PyTorch loop", "AdaptiveTrainer"), "×", least=8)
    goal("linear model against SGDClassifier", ratio(spent, "partial_fit", "AdaptiveTrainer"), "×", least=15)


def several(own: Sequence[Data]) -> None:
    """An epoch of eight logistic models, each with its own rows."""
    alone = [ours(rows) for rows in own]
    loops = [torch_loop(nn.Linear(FEATURES, 1), rows) for rows in own]
    works: dict[str, Callable[[], object]] = {
        "batched": batched(own, LinearStack),
        "one by one": partial(each, alone),
        "PyTorch": partial(each, loops),
    }
    interleaved(works, 1)
    spent = interleaved(works, ROUNDS)
    for name, seconds in spent.items():
        times(f"{STRATEGIES} models, an epoch: {name}", seconds)
    goal("batched against PyTorch loops", ratio(spent, "PyTorch", "batched"), "×", least=16)
    goal("batched against one by one", ratio(spent, "one by one", "batched"), "×", least=1.7)


def shared(own: Sequence[Data]) -> None:
    """The same with one matrix of features for all."""
    X, _, X_val, _ = own[0]
    alike = [(X, y, X_val, y_val) for _, y, _, y_val in own]
    loops = [torch_loop(nn.Linear(FEATURES, 1), rows) for rows in alike]
    works: dict[str, Callable[[], object]] = {"batched": batched(alike, LinearStack), "PyTorch": partial(each, loops)}
    interleaved(works, 1)
    spent = interleaved(works, ROUNDS)
    for name, seconds in spent.items():
        times(f"{STRATEGIES} models on one matrix, an epoch: {name}", seconds)
    goal("batched on one matrix against PyTorch loops", ratio(spent, "PyTorch", "batched"), "×", least=30)


def networks(own: Sequence[Data]) -> None:
    """An epoch of eight networks with one hidden layer."""
    models = [nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1)) for _ in own]
    alone = [ours(rows, nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))) for rows in own]
    loops = [
        torch_loop(nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1)), rows) for rows in own
    ]
    works: dict[str, Callable[[], object]] = {
        "batched": batched(own, NetworkStack, models),
        "one by one": partial(each, alone),
        "PyTorch": partial(each, loops),
    }
    interleaved(works, 1)
    spent = interleaved(works, NETWORK_ROUNDS)
    for name, seconds in spent.items():
        times(f"{STRATEGIES} networks, an epoch: {name}", seconds)
    goal("networks batched against PyTorch loops", ratio(spent, "PyTorch", "batched"), "×", least=2.5)


def processes() -> None:
    """Several CNNs by ParallelStrategyTrainer in processes, and by AdaptiveTrainer one after another."""
    jobs = [(build_model("cnn"), windows(seed)) for seed in range(CNNS)]
    found: dict[str, list[float]] = {}
    busy: dict[str, float] = {}
    works: dict[str, Callable[[], object]] = {
        "start": lambda: by_processes(jobs, 1),
        "one epoch": lambda: one_by_one(jobs, 1),
        "one by one": lambda: counted("alone", partial(one_by_one, jobs, EPOCHS), found, busy),
        "processes": lambda: counted("parallel", partial(by_processes, jobs, EPOCHS), found, busy),
    }
    spent = interleaved(works, CNN_ROUNDS)
    for name in ("one by one", "processes"):
        times(f"{CNNS} CNNs, {EPOCHS} epochs: {name}", spent[name])
    apart = float(np.max(np.abs(np.subtract(found["alone"], found["parallel"]))))
    say(f"largest difference of their validation losses: {apart:.2g}")
    without = {
        "one by one": [whole - one for whole, one in zip(spent["one by one"], spent["one epoch"], strict=True)],
        "processes": [whole - one for whole, one in zip(spent["processes"], spent["start"], strict=True)],
    }
    say(f"{WORKERS} processes start and train one epoch in {np.median(spent['start']):.1f} s")
    for name, seconds in (("with their start", spent), ("without it", without)):
        ratios = [a / b for a, b in zip(seconds["one by one"], seconds["processes"], strict=True)]
        say(f"CNNs by processes, {name}: {', '.join(f'{each:.2f}' for each in sorted(ratios))} ×")
        goal(f"CNNs by {WORKERS} processes, {name}", ratio(seconds, "one by one", "processes"), "×", least=1.8)
    goal(f"… by CPU seconds on {WORKERS} cores", WORKERS * busy["alone"] / busy["parallel"], "×", least=1.8)


def counted(name: str, work: Callable[[], list[float]], found: dict[str, list[float]], busy: dict[str, float]) -> None:
    """What a work gives; and the CPU seconds it takes, of this process and of those it began and saw end, added up."""
    began = sum(os.times()[:4])
    found[name] = work()
    busy[name] = busy.get(name, 0.0) + sum(os.times()[:4]) - began


def windows(seed: int) -> Data:
    """X_train, y_train, X_val, y_val of windows as the CNN takes them, float32."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(WINDOWS * 5 // 4, 30, 40)).astype(np.float32)
    y = (X[:, -5:, 0].mean(axis=1) + 0.5 * random.normal(size=len(X)) > 0).astype(np.float32)
    return X[:WINDOWS], y[:WINDOWS], X[WINDOWS:], y[WINDOWS:]


def one_by_one(jobs: Sequence[tuple[nn.Module, Data]], epochs: int) -> list[float]:
    """Best validation losses."""
    config = replace(CONFIG, early_stopping_patience=epochs)
    return [AdaptiveTrainer(config, deepcopy(model)).fit(*rows, epochs=epochs)["best_val_loss"] for model, rows in jobs]


def by_processes(jobs: Sequence[tuple[nn.Module, Data]], epochs: int) -> list[float]:
    """The same."""
    config = replace(CONFIG, early_stopping_patience=epochs, executor="process", max_workers=WORKERS)
    reports = ParallelStrategyTrainer(config).train_strategies(
        {f"{place}": {"model": model} for place, (model, _) in enumerate(jobs)},
        {f"{place}": rows for place, (_, rows) in enumerate(jobs)},
        epochs,
    )
    return [report["best_val_loss"] for report in reports.values()]


def ratio(spent: dict[str, list[float]], slow: str, fast: str) -> float:
    """Median over the rounds of one work's seconds over another's."""
    return float(np.median([a / b for a, b in zip(spent[slow], spent[fast], strict=True)]))


def each(works: Sequence[Callable[[], object]]) -> None:
    for work in works:
        work()


def ours(rows: Data, model: nn.Module | None = None) -> Callable[[], object]:
    trainer = AdaptiveTrainer(CONFIG, model)
    return lambda: trainer.train_epoch(*rows, 0)


def batched(own: Sequence[Data], kind: Any, models: Sequence[nn.Module | None] | None = None) -> Callable[[], object]:
    """An epoch of all, as `train_strategies` goes through them."""
    members = [
        Member(StrategyJob(f"{place}", CONFIG, model, rows, 1), prepare(*rows, CONFIG))
        for place, (rows, model) in enumerate(zip(own, models or [None] * len(own), strict=True))
    ]
    stack, places = kind(members), range(len(members))

    def epoch() -> None:
        found = stack.train_epoch(members, list(places), 0)
        losses = stack.validate(members, list(places))
        for member, (loss, norm), val_loss in zip(members, found, losses, strict=True):
            member.progress.finish_epoch(0, loss, val_loss, norm, 0.0)

    return epoch


def torch_loop(model: nn.Module, rows: Data) -> Callable[[], float]:
    """The same steps as one writes them down."""
    X, y, X_val, y_val = (torch.from_numpy(part) for part in rows)
    weights = torch.linspace(0.5, 1.5, len(y))
    parameters = list(model.parameters())
    decays = [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": CONFIG.weight_decay},
              {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.SGD(decays, lr=0.1, momentum=0.9, fused=True)
    size = CONFIG.batch_size

    def epoch() -> float:
        total = 0.0
        for batch in batch_order(CONFIG, 0, -(-len(y) // size)).tolist():
            part = slice(batch * size, (batch + 1) * size)
            optimizer.zero_grad(set_to_none=True)
            scores = model(X[part])[:, 0]
            loss = F.binary_cross_entropy_with_logits(scores, y[part], weights[part])
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            total += loss.item() * len(scores)
        with torch.inference_mode():
            return float(F.binary_cross_entropy_with_logits(model(X_val)[:, 0], y_val)) + total

    return epoch


def sklearn_epoch(rows: Data) -> Callable[[], object]:
    """scikit-learn's own stochastic gradient, batch by batch."""
    X, y, X_val, y_val = rows
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.1)
    weights = np.linspace(0.5, 1.5, len(y))
    size = CONFIG.batch_size

    def epoch() -> None:
        for at in range(0, len(y), size):
            part = slice(at, at + size)
            model.partial_fit(X[part], y[part], classes=(0, 1), sample_weight=weights[part])
        p = model.predict_proba(X_val)[:, 1]
        np.log(np.where(y_val == 1, p, 1 - p) + 1e-12).mean()

    return epoch
