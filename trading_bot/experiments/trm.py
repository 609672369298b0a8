"""`python -m trading_bot.experiments.trm` judges the TRM's choices walk-forward and writes docs/evidence/trm.md.

In each fold the network learns from the past which of eight ways to trade paid over the next bars, then chooses in the
fold, every `--horizon` bars, beside two that always choose the same: the majority class of its training rows and the
class that earned most in them. Measures are fixed: accuracy, macro-F1, what the chosen class earned after costs, and
the log loss of its probabilities. Finished fits are kept, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from pathlib import Path

import torch

from trading_bot.experiments.forecast import describe, told
from trading_bot.experiments.trm_report import TRMFindings, write
from trading_bot.market_data.candle_files import read
from trading_bot.trading.strategy import load_strategies, read_signals
from trading_bot.training.forecaster import describe_features
from trading_bot.training.trm_evaluation import TRMEvaluation, check_folds, walk_forward_trm
from trading_bot.training.trm_labels import STRATEGIES, TRMData, prepare_trm_data
from trading_bot.training.trm_trainer import TRMFitConfig

DATA = Path("../shared/data/BTC_USDT-1h.csv.gz")


def judge(data: TRMData, config: TRMFitConfig, folds: int, seeds: int, work: Path) -> tuple[TRMEvaluation, ...]:
    """An evaluation with every seed; folds that are in `work` already are read from there."""
    found = []
    for seed in range(seeds):
        fit = dataclasses.replace(config, seed=seed)
        folder = work / f"trm-{seed}-{_key(data, fit, folds)}"
        found.append(walk_forward_trm(data, fit, folds, told(f"seed {seed}", "look"), folder))
    return tuple(found)


def _key(data: TRMData, fit: TRMFitConfig, folds: int) -> str:
    """So that choices of other data or settings are not taken for these."""
    what = [fit.as_json(), folds, data.horizon, data.cost, data.shorting, describe_features(data.names, data.length)]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    digest.update(data.pnl.tobytes())
    digest.update(data.labels.tobytes())
    return digest.hexdigest()[:10]


def main(arguments: list[str] | None = None) -> None:
    default = TRMFitConfig()
    parser = argparse.ArgumentParser(prog="python -m trading_bot.experiments.trm", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="candle file")
    parser.add_argument("--output", type=Path, default=Path("docs/evidence"), help="folder for page and picture")
    parser.add_argument("--strategies", type=Path, default=Path("strategies"), help="folder of the strategies")
    parser.add_argument("--horizon", type=int, default=12, help="bars a choice is kept")
    parser.add_argument("--cost", type=float, default=0.001, help="of buying or selling once, a ratio")
    parser.add_argument("--shorting", action="store_true", help="let class 2 and the strategies go short")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2, help="initialisations and data orders of each fit")
    parser.add_argument("--batches", type=int, default=default.batches, help="of a fit, each with up to N_sup updates")
    parser.add_argument("--batch-size", type=int, default=default.batch_size)
    parser.add_argument("--halt-target", default=default.halt_target, help="seed, correct or no_gain")
    parser.add_argument("--work", type=Path, default=Path("logs/runs/trm-evidence"), help="where fits are kept")
    options = parser.parse_args(arguments)
    candles = read(options.data)[0]
    strategies = load_strategies(options.strategies, STRATEGIES)
    data = prepare_trm_data(
        candles, {each.name: read_signals(each, candles).side for each in strategies},
        options.horizon, cost=options.cost, shorting=options.shorting, warmup=max(each.warmup for each in strategies),
    )  # fmt: skip
    config = dataclasses.replace(
        default, batches=options.batches, batch_size=options.batch_size, halt_target=options.halt_target
    )
    check_folds(data, config, options.folds)
    torch.set_num_threads(1)  # the budget is one core's, and one thread's sums have one order
    found = judge(data, config, options.folds, options.seeds, options.work)
    changed = "".join(
        f" --{name.replace('_', '-')}" + ("" if value is True else f" {value}") for name, value in vars(options).items()
        if name not in ("output", "work", "data") and value != parser.get_default(name)
    )  # fmt: skip
    options.output.mkdir(parents=True, exist_ok=True)
    write(
        TRMFindings(
            name=options.data.name.partition(".")[0],
            candles=describe(candles),
            sha256=hashlib.sha256(options.data.read_bytes()).hexdigest(),
            data=data,
            config=config,
            evaluations=found,
            command=f"python -m trading_bot.experiments.trm --data {options.data.name} --output docs/evidence{changed}",
        ),
        options.output,
    )
    print(f"{options.output / 'trm.md'} written")


if __name__ == "__main__":
    main()
