"""Verb `train-trm`: a network that learns which strategy to trust, judged walk-forward and kept in a folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trading_bot.cli import show
from trading_bot.cli.options import configured, json_option, timerange_option
from trading_bot.cli.train import training_candles
from trading_bot.errors import ConfigurationError

if TYPE_CHECKING:
    from trading_bot.domain.market import Candles
    from trading_bot.settings import Settings
    from trading_bot.training.fitting import Watcher
    from trading_bot.training.trm_evaluation import TRMEvaluation, TRMScore
    from trading_bot.training.trm_labels import TRMData
    from trading_bot.training.trm_trainer import TRMFitConfig

MODEL, REPORT = "model.safetensors", "report.json"
_COLUMNS = ("choice", "rows>", "accuracy>", "95 % interval", "macro-F1>", "earned>", "95 % interval of earned")
_WORDS = {"trm": "TRM", "majority": "majority class", "best_on_train": "best on train"}


@click.command("train-trm")
@configured()
@click.option("--data", metavar="FILE|PAIR", help="Candle file, or a pair of the configuration.")
@timerange_option
@click.option("--strategy-path", type=click.Path(path_type=Path), metavar="FOLDER", help="Where the strategies are.")
@click.option("--horizon", type=click.IntRange(min=1), default=12, show_default=True, help="Bars a choice is kept.")
@click.option("--shorting", is_flag=True, help="Class short, and strategies that want out, are short.")
@click.option("--walk-forward", "folds", type=click.IntRange(min=1), default=1, show_default=True, metavar="FOLDS",
              help="Parts of the data it is judged on, each after training on what came before.")  # fmt: skip
@click.option("--batches", type=click.IntRange(min=1), help="Of a fit, up to four updates each. [default: 60]")
@click.option("--batch-size", type=click.IntRange(min=1), help="[default: 32]")
@click.option("--supervision-steps", type=click.IntRange(min=1), help="Most for one window. [default: 4]")
@click.option("--learning-rate", type=float, help="[default: 0.0003]")
@click.option("--halt-target", help="seed, correct or no_gain. [default: seed]")
@click.option("--seed", type=click.IntRange(min=0), help="[default: 0]")
@click.option("--device", help="auto, cpu, cuda or mps. [default: cpu]")
@click.option("--runs", type=click.Path(path_type=Path), help="Folder of the runs. [default: runs, beside the log]")
@json_option
def train_trm(settings: Settings, as_json: bool, **given: Any) -> None:
    """Train a Tiny Recursive Model to say which of eight strategies to trust; judge it on later data it has not seen.

    Beside it stand the majority class and the class that earned most in training. Checkpoint and report are kept in
    logs/runs/RUN. It takes no part in trading: what its choices are worth is in docs/evidence/trm.md. A training that
    is interrupted keeps nothing.

    \b
    Example: trading-bot train-trm --data candles/BTC_USDT-1h.csv.gz --walk-forward 5
    """
    from trading_bot.training.trm_evaluation import check_folds, walk_forward_trm
    from trading_bot.training.trm_trainer import fit_trm

    if not given["data"]:
        raise click.UsageError("--data is missing; wanted a candle file or a pair, such as --data BTC/USDT")
    config = _config(given)
    candles = _candles(settings, given["data"], given["timerange"])
    data = _prepared(settings, candles, given)
    check_folds(data, config, given["folds"])
    folder = _folder(given["runs"] or settings.logfile.parent / "runs")
    if not as_json:
        click.echo(f"run {folder.name}: {len(candles):,} candles of {candles.symbol} {candles.timeframe}, "
                   f"{given['folds'] + 1} fits of {config.batches} batches")  # fmt: skip
    try:
        evaluation = walk_forward_trm(data, config, given["folds"], _told())
        facts = {"run": folder.name, "trained_until": int(candles.time[-1])}
        fitted = fit_trm(data, config, watch=_told(), facts=facts)
    except BaseException:
        folder.rmdir()  # nothing is in it yet
        raise
    scores = evaluation.scores()
    digest = fitted.selector.save(folder / MODEL)
    report = _report(given, evaluation, scores, digest)
    (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if as_json:
        show.print_json({"run": folder.name, "folder": str(folder), **report})
    else:
        _print(folder, data, evaluation, scores)


def _config(given: Mapping[str, Any]) -> TRMFitConfig:
    from trading_bot.models.trm import build_trm
    from trading_bot.training.devices import pick_device
    from trading_bot.training.trm_loss_functions import TRMLoss
    from trading_bot.training.trm_trainer import TRMFitConfig

    names = ("batches", "batch_size", "learning_rate", "halt_target", "seed", "device")
    steps = given["supervision_steps"]
    config = TRMFitConfig(
        sizes={} if steps is None else {"supervision_steps": steps},
        **{name: given[name] for name in names if given[name] is not None},
    )
    build_trm(**config.sizes)  # what is wrong should be told before the candles are read
    TRMLoss(halt_target=config.halt_target)
    pick_device(config.device)
    return config


def _candles(settings: Settings, source: str, timerange: tuple[int | None, int | None]) -> Candles:
    candles, (start, end) = training_candles(settings, source), timerange
    first = 0 if start is None else int(candles.time.searchsorted(start))
    last = len(candles) if end is None else int(candles.time.searchsorted(end))
    return candles[first:last]


def _prepared(settings: Settings, candles: Candles, given: Mapping[str, Any]) -> TRMData:
    """Windows and labels; a purchase or sale costs the paper account's fee."""
    from trading_bot.trading.strategy import load_strategies, read_signals
    from trading_bot.training.trm_labels import STRATEGIES, prepare_trm_data

    strategies = load_strategies(given["strategy_path"] or settings.strategy_path, STRATEGIES)
    return prepare_trm_data(
        candles,
        {each.name: read_signals(each, candles).side for each in strategies},
        given["horizon"],
        cost=float(settings.paper.taker_fee),
        shorting=given["shorting"],
        warmup=max(each.warmup for each in strategies),
    )


def _folder(root: Path) -> Path:
    """A new folder for this run."""
    root.mkdir(parents=True, exist_ok=True)
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-trm"
    for attempt in range(1, 100):
        folder = root / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise ConfigurationError(f"{root / name} and 98 like it exist; remove some or wait a second")


def _told() -> Watcher:
    """One line that is written over, on a terminal alone."""

    def tell(fit: str, epoch: int, values: Mapping[str, float]) -> None:
        if sys.stderr.isatty():
            text = f"{fit}  look {epoch + 1}  train {values['train_loss']:.4g}  val {values['val_loss']:.4g}"
            click.echo(f"\r\033[K{text}", nl=False, err=True)

    return tell


def _report(
    given: Mapping[str, Any], evaluation: TRMEvaluation, scores: Mapping[str, TRMScore], digest: str
) -> dict[str, Any]:
    folds = [
        {"fold": fold.number, "trained": fold.trained, "decisions": len(fold.held), "threshold": fold.threshold,
         "steps": float(fold.steps.mean()), "history": dict(fold.history)}
        for fold in evaluation.folds
    ]  # fmt: skip
    return {
        "data": given["data"],
        "sha256": digest,
        "scores": {arm: each.as_json() for arm, each in scores.items()},
        "steps": evaluation.mean_steps,
        "folds": folds,
    }


def _print(folder: Path, data: TRMData, evaluation: TRMEvaluation, scores: Mapping[str, TRMScore]) -> None:
    rows = [
        (_WORDS[arm], each.rows, f"{each.accuracy:.1%}", "{:.1%} to {:.1%}".format(*each.accuracy_interval),
         f"{each.macro_f1:.3f}", f"{each.pnl:+.3%}", "{:+.3%} to {:+.3%}".format(*each.pnl_interval))
        for arm, each in scores.items()
    ]  # fmt: skip
    title = f"choices for {data.horizon} bars on rows never trained on, {len(evaluation.folds)} folds; earned: a choice"
    show.table(_COLUMNS, rows, title)
    click.echo(verdict(evaluation))
    click.echo(f"steps       {evaluation.mean_steps:.2f} a choice")
    click.echo(f"checkpoint  {folder / MODEL}")


def verdict(evaluation: TRMEvaluation) -> str:
    """Whether it earned more than those that look at nothing, so that a null result is not taken for more."""
    from trading_bot.training.scoring import block_interval
    from trading_bot.training.trm_evaluation import ARMS, BLOCK

    beaten = [
        _WORDS[arm] for arm in ARMS[1:] if block_interval(evaluation.pnl("trm") - evaluation.pnl(arm), BLOCK)[0] > 0
    ]
    others = [_WORDS[arm] for arm in ARMS[1:] if _WORDS[arm] not in beaten]
    if not others:
        return f"it earned more than {' and '.join(beaten)}, by more than chance may give"
    return f"it is not shown to earn more than {' or '.join(others)}"
