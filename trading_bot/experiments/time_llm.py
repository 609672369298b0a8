"""`python -m trading_bot.experiments.time_llm` asks what a language model adds; writes docs/evidence/time-llm.md.

Time-LLM, its two ablations (one attention layer, or nothing, in the language model's place), a small CNN and a small
LSTM: fitted on the past of each walk-forward fold with several seeds, for as many steps, and judged on what follows,
beside forecasts that learn nothing. Without `--llm-path` the language model is a tiny random one that was never
trained, with other weights for each seed. Finished folds are kept, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loguru import logger
from torch import nn

from trading_bot.domain.market import Floats
from trading_bot.errors import ConfigurationError, unknown
from trading_bot.experiments.forecast import DATA, describe, key_of, told
from trading_bot.experiments.time_llm_report import PAGE, Findings, write
from trading_bot.experiments.weighted_fit import SIZES
from trading_bot.market_data.candle_files import read
from trading_bot.models.registry import build_model, count_parameters, label_of
from trading_bot.models.time_llm_backbone import RANDOM
from trading_bot.training.evaluation import Evaluation, splits_of, walk_forward
from trading_bot.training.fitting import FitConfig, check_config, check_rows
from trading_bot.training.optimizers import create_optimizer
from trading_bot.training.prepared_data import PreparedData, prepare_data

ARMS = ("backbone", "attention", "none", "cnn", "lstm")  # three of Time-LLM, two small networks of other kinds
SMALL_LSTM: Mapping[str, Any] = {"hidden": 32, "layers": 1, "dense": 32}
DEFAULT = FitConfig(epochs=3, batches_per_epoch=25)


def fit_of(arm: str, seed: int, config: FitConfig, llm_path: str = RANDOM) -> FitConfig:
    """How an arm is fitted.

    Raises
    ------
    ConfigurationError
        If there is no such arm.
    """
    if arm not in ARMS:
        raise ConfigurationError(unknown("arm", arm, ARMS))
    if arm in ("cnn", "lstm"):
        return dataclasses.replace(config, model=arm, sizes=SIZES if arm == "cnn" else SMALL_LSTM, seed=seed)
    sizes: dict[str, Any] = {"llm": arm}
    if arm == "backbone":
        sizes |= {"llm_path": llm_path} if llm_path != RANDOM else {"llm_path": RANDOM, "llm_seed": seed}
    return dataclasses.replace(config, model="time_llm", sizes=sizes, seed=seed)


def judge(
    data: PreparedData, arms: Sequence[str], seeds: Sequence[int], folds: int, config: FitConfig, work: Path,
    llm_path: str = RANDOM, read_by: str = "",
) -> dict[str, tuple[Evaluation, ...]]:  # fmt: skip
    """Every arm with every seed, seed by seed; by arm, an evaluation for each seed.

    Parameters
    ----------
    read_by : what tells the language model of `llm_path` from another that was there before, for `backbone`
    """
    found: dict[str, list[Evaluation]] = {arm: [] for arm in arms}
    for seed in seeds:
        for arm in arms:
            fit = fit_of(arm, seed, config, llm_path)
            model = f"-{read_by}" if read_by and arm == "backbone" else ""
            folder = work / f"{arm}-{seed}-{key_of(data, fit, folds)}{model}"
            found[arm].append(walk_forward(data, fit, folds, folder, told(f"{arm} seed {seed}")))
    return {arm: tuple(each) for arm, each in found.items()}


def networks_of(
    arms: Sequence[str], data: PreparedData, config: FitConfig, seed: int, llm_path: str
) -> dict[str, nn.Module]:
    """A network of each arm, not trained."""
    fits = {arm: fit_of(arm, seed, config, llm_path) for arm in arms}
    return {
        arm: build_model(fit.model, **fit.sizes, time=data.length, features=len(data.names))
        for arm, fit in fits.items()
    }


def fingerprint_of(network: nn.Module) -> str:
    """Ten letters of the fingerprint of its language model."""
    (found,) = (each for name, each in network.named_buffers() if name.endswith("fingerprint"))
    return bytes(found.tolist()).hex()[:10]


def step_seconds(
    networks: Mapping[str, nn.Module], data: PreparedData, rows: int, rounds: int, steps: int = 3
) -> dict[str, Floats]:
    """CPU seconds of a training step of `rows` rows, by arm and round; the arms take turns."""
    X, y = torch.from_numpy(np.ascontiguousarray(data.X[:rows])), torch.from_numpy(data.y[:rows, None].copy())
    turns = {arm: _turn(network, X, y, steps) for arm, network in networks.items()}
    spent: dict[str, list[float]] = {arm: [] for arm in networks}
    for _ in range(rounds + 1):
        for arm, turn in turns.items():
            began = time.process_time()
            turn()
            spent[arm].append((time.process_time() - began) / steps)
    return {arm: np.array(each[1:]) for arm, each in spent.items()}  # the first is a warm-up


def _turn(network: nn.Module, X: torch.Tensor, y: torch.Tensor, steps: int) -> Callable[[], None]:
    optimizer = create_optimizer(network.train(), "adamw")

    def turn() -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.mse_loss(network(X), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return turn


def main(arguments: list[str] | None = None) -> None:
    options = _options(arguments)
    logger.disable("trading_bot.models")  # one line a fit, which the page says once
    try:
        _run(options)
    finally:
        logger.enable("trading_bot.models")


def _run(options: argparse.Namespace) -> None:
    candles = read(options.data)[0]
    config = dataclasses.replace(DEFAULT, epochs=options.epochs, batches_per_epoch=options.batches)
    arms, seeds, llm_path = tuple(options.arms.split(",")), tuple(range(1, options.seeds + 1)), options.llm_path
    data = prepare_data(candles, options.horizon)
    for arm in arms:  # before the first is trained
        check_config(fit_of(arm, seeds[0], config, llm_path), data.length, len(data.names))
    for train, _ in splits_of(data, options.folds):
        check_rows(data.y[train], data.horizon, config)
    networks = networks_of(arms, data, config, seeds[0], llm_path)
    read_by = fingerprint_of(networks["backbone"]) if "backbone" in arms and llm_path != RANDOM else ""
    found = judge(data, arms, seeds, options.folds, config, options.work, llm_path, read_by)
    findings = Findings(
        data=data,
        config=config,
        folds=options.folds,
        seeds=seeds,
        evaluations=found,
        labels={arm: label for arm, network in networks.items() if (label := label_of(network)) is not None},
        random="backbone" in arms and llm_path == RANDOM,
        parameters={arm: count_parameters(network) for arm, network in networks.items()},
        step={arm: float(np.median(each)) for arm, each in
              step_seconds(networks, data, config.batch_size, options.rounds).items()},
        command=_command(options),
        source=describe(candles),
        sha256=hashlib.sha256(options.data.read_bytes()).hexdigest(),
    )  # fmt: skip
    write(findings, options.output)
    print(f"{options.output / PAGE} written")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trading_bot.experiments.time_llm", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="candle file")
    parser.add_argument("--output", type=Path, default=Path("docs/evidence"), help="folder for page and picture")
    parser.add_argument("--llm-path", metavar="DIR", default=RANDOM, help="directory of a language model")
    parser.add_argument("--arms", default=",".join(ARMS), help="which, separated by commas")
    parser.add_argument("--horizon", type=int, default=12, help="bars ahead")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=10, help="initialisations and data orders of each fit")
    parser.add_argument("--epochs", type=int, default=DEFAULT.epochs)
    parser.add_argument("--batches", type=int, default=DEFAULT.batches_per_epoch, help="an epoch; 0: all rows")
    parser.add_argument("--rounds", type=int, default=9, help="in which the time of a step is measured")
    parser.add_argument("--work", type=Path, default=Path("logs/runs/time-llm"), help="where finished folds are kept")
    options = parser.parse_args(arguments)
    if options.seeds < 1 or options.rounds < 1:
        parser.error(f"found {options.seeds} seeds and {options.rounds} rounds; wanted at least 1 of each")
    return options


def _command(options: argparse.Namespace) -> str:
    """How the page is had again, without the places of this machine."""
    names = ("arms", "horizon", "folds", "seeds", "epochs", "batches")
    words = [f"--{name} {getattr(options, name)}" for name in names]
    words += [] if options.llm_path == RANDOM else ["--llm-path DIR"]
    return f"python -m trading_bot.experiments.time_llm --data {options.data.name} {' '.join(words)}"


if __name__ == "__main__":
    main()
