"""Verb `train-trm`: a network that learns which strategy to trust, judged walk-forward, registered as a candidate."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trading_bot.cli import show
from trading_bot.cli.options import configured, data_option, json_option, timerange_option
from trading_bot.cli.registering import check_database, register_candidate
from trading_bot.cli.train import first_pair, refuse_changes, training_candles

if TYPE_CHECKING:
    from trading_bot.domain.market import Candles
    from trading_bot.domain.models import ModelVersion
    from trading_bot.settings import Settings
    from trading_bot.training.fitting import Watcher
    from trading_bot.training.trm_evaluation import TRMEvaluation
    from trading_bot.training.trm_labels import TRMData
    from trading_bot.training.trm_run import TRMRunConfig, TRMRunResult

REPORT = "report.json"
_COLUMNS = ("choice", "rows>", "accuracy>", "95 % interval", "macro-F1>", "earned>", "95 % interval of earned")
_WORDS = {"trm": "TRM", "majority": "majority class", "best_on_train": "best on train"}


@click.command("train-trm")
@configured()
@data_option
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
@click.option("--resume", metavar="RUN", help="Go on with an interrupted run; `latest` is the newest.")
@json_option
@click.pass_context
def train_trm(ctx: click.Context, /, settings: Settings, as_json: bool, **given: Any) -> None:
    """Train a Tiny Recursive Model to say which of eight strategies to trust; judge it on later data it has not seen.

    Beside it stand the majority class and the class that earned most in training. Everything is kept in logs/runs/RUN.
    The model is registered as a candidate: once `trading-bot models promote` has put it in use, it weighs the
    strategies where ensemble.method is trm; what its choices are worth is in docs/evidence/trm.md. Ctrl-C or a kill
    loses at most the fit in progress.

    \b
    Example: trading-bot train-trm --data candles/BTC_USDT-1h.csv.gz --walk-forward 5
    """
    from trading_bot.training.trm_run import begin_trm_run, execute_trm, open_trm_run

    root: Path = given["runs"] or settings.logfile.parent / "runs"
    if given["resume"] is not None:
        refuse_changes(ctx)
        run = open_trm_run(root, given["resume"])
        candles = run.own_candles(_candles(settings, run.config))
        data = _prepared(candles, run.config)
    else:
        config = _config(settings, given)
        candles = _candles(settings, config)
        data = _prepared(candles, config)
        run = begin_trm_run(root, config, candles, data)
    check_database(settings)
    if not as_json:
        click.echo(f"run {run.id}: {len(candles):,} candles of {candles.symbol} {candles.timeframe}, "
                   f"{run.config.folds + 1} fits of {run.config.fit.batches} batches")  # fmt: skip
    try:
        result = execute_trm(run, candles, data, _told())
    except KeyboardInterrupt:
        elsewhere = f" --runs {given['runs']}" if given["runs"] else ""
        click.echo(f"interrupted; go on with `trading-bot train-trm --resume {run.id}{elsewhere}`", err=True)
        raise
    version = _register(settings, result)
    if as_json:
        report = json.loads((run.folder / REPORT).read_text(encoding="utf-8"))
        show.print_json({"run": run.id, "folder": str(run.folder), "model": version.id, **report})
    else:
        _print(result, version)


def _config(settings: Settings, given: Mapping[str, Any]) -> TRMRunConfig:
    """What was asked for; a purchase or sale costs the paper account's fee."""
    from trading_bot.models.trm import build_trm
    from trading_bot.training.devices import pick_device
    from trading_bot.training.trm_loss_functions import TRMLoss
    from trading_bot.training.trm_run import TRMRunConfig
    from trading_bot.training.trm_trainer import TRMFitConfig

    names = ("batches", "batch_size", "learning_rate", "halt_target", "seed", "device")
    steps = given["supervision_steps"]
    fit = TRMFitConfig(
        sizes={} if steps is None else {"supervision_steps": steps},
        **{name: given[name] for name in names if given[name] is not None},
    )
    build_trm(**fit.sizes)  # what is wrong should be told before the candles are read
    TRMLoss(halt_target=fit.halt_target)
    pick_device(fit.device)
    return TRMRunConfig(
        source=given["data"] or first_pair(settings),
        timerange=given["timerange"],
        strategy_path=str(given["strategy_path"] or settings.strategy_path),
        horizon=given["horizon"],
        cost=float(settings.paper.taker_fee),
        shorting=given["shorting"],
        folds=given["folds"],
        fit=fit,
    )


def _candles(settings: Settings, config: TRMRunConfig) -> Candles:
    candles, (start, end) = training_candles(settings, config.source), config.timerange
    first = 0 if start is None else int(candles.time.searchsorted(start))
    last = len(candles) if end is None else int(candles.time.searchsorted(end))
    return candles[first:last]


def _prepared(candles: Candles, config: TRMRunConfig) -> TRMData:
    """Windows and labels."""
    from trading_bot.trading.strategy import load_strategies, read_signals
    from trading_bot.training.trm_labels import STRATEGIES, prepare_trm_data

    strategies = load_strategies(Path(config.strategy_path), STRATEGIES)
    return prepare_trm_data(
        candles,
        {each.name: read_signals(each, candles).side for each in strategies},
        config.horizon,
        cost=config.cost,
        shorting=config.shorting,
        warmup=max(each.warmup for each in strategies),
    )


def _told() -> Watcher:
    """One line that is written over, on a terminal alone."""

    def tell(fit: str, epoch: int, values: Mapping[str, float]) -> None:
        if sys.stderr.isatty():
            text = f"{fit}  look {epoch + 1}  train {values['train_loss']:.4g}  val {values['val_loss']:.4g}"
            click.echo(f"\r\033[K{text}", nl=False, err=True)

    return tell


def _register(settings: Settings, result: TRMRunResult) -> ModelVersion:
    """Keep the model as a candidate, to be promoted under its market's name."""
    from trading_bot.learn.model_registry import SELECTOR, selector_name
    from trading_bot.training.trm_labels import STRATEGIES
    from trading_bot.training.trm_run import scores_of

    facts = result.selector.facts
    return register_candidate(
        settings, result.checkpoint, facts, {**scores_of(result.evaluation), "verdict": verdict(result.evaluation)},
        name=selector_name(facts["symbol"], facts["timeframe"]), run=result.run.id,
        more={"kind": SELECTOR, "strategies": list(STRATEGIES)},
    )  # fmt: skip


def _print(result: TRMRunResult, version: ModelVersion) -> None:
    from trading_bot.training.trm_run import scores_of

    evaluation = result.evaluation
    rows = [
        (_WORDS[arm], each.rows, f"{each.accuracy:.1%}", "{:.1%} to {:.1%}".format(*each.accuracy_interval),
         f"{each.macro_f1:.3f}", f"{each.pnl:+.3%}", "{:+.3%} to {:+.3%}".format(*each.pnl_interval))
        for arm, each in evaluation.scores().items()
    ]  # fmt: skip
    horizon, folds = evaluation.data.horizon, len(evaluation.folds)
    show.table(_COLUMNS, rows, f"choices for {horizon} bars on rows never trained on, {folds} folds; earned: a choice")
    click.echo(verdict(evaluation))
    scores = scores_of(evaluation)
    between = "{:+.4f} to {:+.4f}".format(*scores["log_loss_gain_interval"])
    click.echo(f"log loss    {scores['log_loss']:.4f}, that of the training's class shares "
               f"{scores['log_loss_shares']:.4f}: a gain of {scores['log_loss_gain']:+.4f} ({between})")  # fmt: skip
    click.echo(f"steps       {evaluation.mean_steps:.2f} a choice")
    click.echo(f"checkpoint  {result.checkpoint}")
    click.echo(f"registered  {version.id}; `trading-bot models promote {version.id}` puts it in use where "
               "ensemble.method is trm")  # fmt: skip


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
