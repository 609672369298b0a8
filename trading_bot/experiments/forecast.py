"""`python -m trading_bot.experiments.forecast` judges the networks walk-forward and writes docs/evidence/forecast.md.

Each network is fitted on the past of each fold and forecasts what follows, beside zero, the training's mean,
persistence and ridge regression, which see the same rows. The measures are fixed: squared error against the zero
forecast, and how often the sign was right. Finished folds are kept, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from trading_bot.domain.market import Candles
from trading_bot.experiments.forecast_report import Findings, ModelFindings, write
from trading_bot.market_data.candle_files import read
from trading_bot.training.evaluation import splits_of, walk_forward
from trading_bot.training.fitting import FitConfig, Watcher, check_config, check_rows
from trading_bot.training.forecaster import describe_features
from trading_bot.training.prepared_data import PreparedData, prepare_data

DATA = Path("../shared/data/BTC_USDT-1h.csv.gz")
NETWORKS = ("lstm", "cnn", "attention", "ensemble")  # Time-LLM needs an extra, and has a page of its own


def judge(
    data: PreparedData, models: tuple[str, ...], folds: int, seeds: int, config: FitConfig, work: Path
) -> tuple[ModelFindings, ...]:
    """Every model, with every seed."""
    found = []
    for model in models:
        evaluations = []
        for seed in range(seeds):
            fit = dataclasses.replace(config, model=model, seed=seed)
            folder = work / f"{model}-{seed}-{key_of(data, fit, folds)}"
            evaluations.append(walk_forward(data, fit, folds, folder, told(f"{model} seed {seed}")))
        found.append(ModelFindings(model, tuple(evaluations)))
    return tuple(found)


def key_of(data: PreparedData, fit: FitConfig, folds: int) -> str:
    """So that folds of other data or settings are not taken for these."""
    what = [fit.as_json(), folds, data.horizon, describe_features(data.names, data.length)]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    digest.update(data.y.tobytes())
    return digest.hexdigest()[:10]


def told(what: str, step: str = "epoch") -> Watcher:
    """A line for each epoch, or what a step is called, on a terminal in the place of the one before."""

    def tell(fit: str, epoch: int, values: Mapping[str, float]) -> None:
        text = f"{what}  {fit}  {step} {epoch + 1}  val {values['val_loss']:.4g}  {values['seconds']:.1f} s"
        print(f"\r\033[K{text}" if sys.stderr.isatty() else text, end="" if sys.stderr.isatty() else "\n",
              file=sys.stderr, flush=True)  # fmt: skip

    return tell


def main(arguments: list[str] | None = None) -> None:
    default = FitConfig()
    parser = argparse.ArgumentParser(prog="python -m trading_bot.experiments.forecast", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="candle file")
    parser.add_argument("--output", type=Path, default=Path("docs/evidence"), help="folder for page and picture")
    parser.add_argument("--models", default=",".join(NETWORKS), help="which, separated by commas")
    parser.add_argument("--horizon", type=int, default=12, help="bars ahead")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1, help="initialisations and data orders of each fit")
    parser.add_argument("--epochs", type=int, default=default.epochs)
    parser.add_argument("--batches", type=int, default=default.batches_per_epoch, help="a epoch; 0: all rows")
    parser.add_argument("--loss", default=default.loss)
    parser.add_argument("--work", type=Path, default=Path("logs/runs/forecast-evidence"), help="where folds are kept")
    options = parser.parse_args(arguments)
    candles = read(options.data)[0]
    config = dataclasses.replace(default, epochs=options.epochs, batches_per_epoch=options.batches, loss=options.loss)
    data = prepare_data(candles, options.horizon)
    models = tuple(options.models.split(","))
    for model in models:  # before the first is trained
        check_config(dataclasses.replace(config, model=model), data.length, len(data.names))
    for train, _ in splits_of(data, options.folds):
        check_rows(data.y[train], data.horizon, config)
    found = judge(data, models, options.folds, options.seeds, config, options.work)
    changed = "".join(
        f" --{name} {value}" for name, value in vars(options).items()
        if name not in ("output", "work") and value != parser.get_default(name)
    )  # fmt: skip
    options.output.mkdir(parents=True, exist_ok=True)
    write(
        Findings(
            name=options.data.name.partition(".")[0],
            candles=describe(candles),
            sha256=hashlib.sha256(options.data.read_bytes()).hexdigest(),
            data=data,
            config=config,
            folds=options.folds,
            seeds=options.seeds,
            models=found,
            command=f"python -m trading_bot.experiments.forecast --output docs/evidence{changed}",
        ),
        options.output,
    )
    print(f"{options.output / 'forecast.md'} written")


def describe(candles: Candles) -> str:
    """What they are, in words."""
    dates = [str(candles.time[row].astype("datetime64[ms]"))[:10] for row in (0, -1)]
    return f"{len(candles):,} candles of {candles.symbol} {candles.timeframe}, {dates[0]} to {dates[1]}"


if __name__ == "__main__":
    main()
