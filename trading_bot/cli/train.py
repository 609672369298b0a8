"""Verb `train`: a network judged walk-forward, fitted on all rows, and registered as a candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from trading_bot.cli import show
from trading_bot.cli.language_model import language_model_options, language_model_sizes
from trading_bot.cli.options import configured, data_option, json_option, timerange_option
from trading_bot.cli.registering import check_database, check_name, register_candidate
from trading_bot.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from trading_bot.domain.market import Candles
    from trading_bot.domain.models import ModelVersion
    from trading_bot.settings import Settings
    from trading_bot.training.fitting import Watcher
    from trading_bot.training.run import Run, RunConfig, RunResult
    from trading_bot.training.scoring import Score

_COLUMNS = ("forecast", "rows>", "MAE>", "RMSE>", "skill>", "hit rate>", "95 % interval", "correlation>")

_WHAT = (
    data_option,
    click.option("--model", default="cnn", show_default=True, help="lstm, cnn, attention, ensemble or time_llm."),
    language_model_options,
    click.option("--loss", default="huber", show_default=True, help="Such as mse, huber, sharpe, financial, MADL."),
    click.option("--horizon", type=click.IntRange(min=1), default=12, show_default=True, help="Bars ahead."),
    click.option("--length", type=click.IntRange(min=1), default=30, show_default=True, help="Bars in a window."),
    click.option("--feature-selection-config", "--feature_selection_config", "selection",
                 type=click.Path(path_type=Path), metavar="FILE", help="Features chosen earlier. [default: the 40]"),
    click.option("--walk-forward", "folds", type=click.IntRange(min=1), default=1, show_default=True, metavar="FOLDS",
                 help="Parts of the data the model is judged on, each after training on what came before."),
)  # fmt: skip
_HOW = (
    click.option("--epochs", type=click.IntRange(min=1), help="[default: 5]"),
    click.option("--batch-size", type=click.IntRange(min=2), help="[default: 64]"),
    click.option("--batches-per-epoch", type=click.IntRange(min=0), help="0: all rows. [default: 100]"),
    click.option("--learning-rate", type=float, help="[default: 0.001]"),
    click.option("--optimizer", help="adam, adamw, sgd or rmsprop. [default: adamw]"),
    click.option("--scheduler", help="step, cosine or plateau. [default: none]"),
    click.option("--patience", type=click.IntRange(min=1), help="Epochs without improvement. [default: 2]"),
    click.option("--seed", type=click.IntRange(min=0), help="[default: 0]"),
    click.option("--device", help="auto, cpu, cuda or mps. [default: auto]"),
)
_HOW_NAMES = (
    "epochs", "batch_size", "batches_per_epoch", "learning_rate", "optimizer", "scheduler", "patience", "seed",
    "device",
)  # fmt: skip
_WITH_RESUME = ("resume", "runs", "tensorboard", "as_json", "config", "db_url", "verbose")


def _options(verb: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed((*_WHAT, *_HOW)):
        verb = option(verb)
    return verb


@click.command()
@configured()
@_options
@timerange_option
@click.option(
    "--strategy", "--model-id", "--model_id", "strategy", default="neural_forecast", show_default=True,
    help="Its name in the ensemble, if promoted.",
)  # fmt: skip
@click.option("--runs", type=click.Path(path_type=Path), help="Folder of the runs. [default: runs, beside the log]")
@click.option("--resume", metavar="RUN", help="Go on with an interrupted run; `latest` is the newest.")
@click.option("--tensorboard", is_flag=True, help="Also write the curves for TensorBoard, into the run's folder.")
@json_option
@click.pass_context
def train(ctx: click.Context, /, settings: Settings, as_json: bool, **given: Any) -> None:
    """Train a network to forecast returns; judge it on later data it has not seen, beside simple baselines.

    Everything is kept in logs/runs/RUN: the checkpoint, the scores, the curves as a picture. The model is registered
    as a candidate: `trading-bot models promote` makes it a strategy. Ctrl-C or a kill loses at most an epoch.

    \b
    Example: trading-bot train --model lstm --data candles/BTC_USDT-1h.csv.gz --walk-forward 5
    """
    from trading_bot.training.run import begin_run, execute, fits_of, open_run, own_candles
    from trading_bot.training.tensorboard_log import load_tensorboard

    root: Path = given["runs"] or settings.logfile.parent / "runs"
    if given["tensorboard"]:
        load_tensorboard()  # that it is missing should be told before the training
    if given["resume"] is not None:
        refuse_changes(ctx)
        run = open_run(root, given["resume"])
        candles = own_candles(run, _candles(settings, run.config))
    else:
        config = _config({**given, "data": given["data"] or first_pair(settings)})
        candles = _candles(settings, config)
        run = begin_run(root, config, candles)
    check_database(settings)
    if not as_json:
        click.echo(f"run {run.id}: {len(candles):,} candles of {candles.symbol} {candles.timeframe}, "
                   f"{fits_of(run.config)} fits of at most {run.config.fit.epochs} epochs")  # fmt: skip
    try:
        with _progress(run, fits_of(run.config), tensorboard=given["tensorboard"]) as watch:
            result = execute(run, candles, watch)
    except KeyboardInterrupt:
        elsewhere = f" --runs {given['runs']}" if given["runs"] else ""
        click.echo(f"interrupted; go on with `trading-bot train --resume {run.id}{elsewhere}`", err=True)
        raise
    version = _register(settings, result)
    if as_json:
        scores = {arm: each.as_json() for arm, each in result.scores.items()}
        show.print_json({"run": run.id, "folder": str(run.folder), "model": version.id,
                         "language_model": result.forecaster.label, "scores": scores})  # fmt: skip
    else:
        _print(result, version)


def refuse_changes(ctx: click.Context) -> None:
    """A run goes on as it was begun: a flag that says otherwise must not be ignored."""
    for option in ctx.command.params:
        given = ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if given and option.name not in _WITH_RESUME:
            raise click.UsageError(f"--resume goes on with what the run was begun with; leave {option.opts[0]} out")


def _config(given: Mapping[str, Any]) -> RunConfig:
    from trading_bot.features.selection_config import load
    from trading_bot.training.fitting import FitConfig
    from trading_bot.training.run import RunConfig

    check_name("--strategy", given["strategy"])
    features = None
    if given["selection"] is not None:
        selector = load(given["selection"])
        features = tuple(str(name) for name in selector.get_feature_names_out())
    sizes = language_model_sizes(given)
    how = {name: given[name] for name in _HOW_NAMES if given[name] is not None}
    return RunConfig(
        source=given["data"],
        timerange=given["timerange"],
        horizon=given["horizon"],
        length=given["length"],
        features=features,
        folds=given["folds"],
        strategy=given["strategy"],
        fit=replace(FitConfig(model=given["model"].lower(), sizes=sizes, loss=given["loss"]), **how),
    )


# candles --------------------------------------------------------------------------------------------------------------


def _candles(settings: Settings, config: RunConfig) -> Candles:
    start, end = config.timerange
    candles = training_candles(settings, config.source)
    first = 0 if start is None else int(candles.time.searchsorted(start))
    last = len(candles) if end is None else int(candles.time.searchsorted(end))
    return candles[first:last]


def first_pair(settings: Settings) -> str:
    """The configuration's first pair; of the local exchange, if none are named there, the first of its market."""
    from trading_bot.bootstrap import load_market
    from trading_bot.exchange.config import LOCAL

    pairs = settings.exchange.pair_whitelist
    return pairs[0] if pairs or settings.exchange.name != LOCAL else next(iter(load_market(settings)[0]))


def training_candles(settings: Settings, name: str) -> Candles:
    """Candles to train on: of a file, or of a pair of the configuration.

    Of a pair at the local exchange only the bars that have been replayed so far (or the history it begins with): a
    network must not be trained on what it will trade.

    Raises
    ------
    ConfigurationError
        If there is no such file or pair.
    """
    from trading_bot.bootstrap import load_market, stored_market
    from trading_bot.exchange.config import LOCAL
    from trading_bot.market_data.candle_files import missing, read

    path = Path(name)
    if path.is_file():
        return read(path)[0]
    if name.count("/") != 1 or path.suffix:
        raise ConfigurationError(missing(path))
    symbol = name.upper()
    if settings.exchange.name != LOCAL:
        return stored_market(settings, (symbol,))[0][symbol]
    candles, described = load_market(settings)
    if symbol not in candles:
        raise ConfigurationError(f"no candles of {symbol}: the market is {described}; choose one of its pairs")
    return candles[symbol][: _replayed(settings, candles[symbol])]


def _replayed(settings: Settings, candles: Candles) -> int:
    """How many of a replayed market's bars have closed by now."""
    from trading_bot.storage.store import open_readonly
    from trading_bot.trading.memory import last_bar

    try:
        with closing(open_readonly(settings.database_url)) as store:
            time = last_bar(store)
    except StorageError:  # the bot has not run yet
        time = None
    begun = min(settings.market.history, len(candles))
    return begun if time is None else max(begun, int(candles.time.searchsorted(time, "right")))


# what came out --------------------------------------------------------------------------------------------------------


def _register(settings: Settings, result: RunResult) -> ModelVersion:
    """Keep the model as a candidate."""
    facts = result.forecaster.facts
    scores = {**result.scores["model"].as_json(), "mae_zero": result.scores["zero"].mae}
    return register_candidate(
        settings, result.checkpoint, facts, scores,
        name=result.run.config.strategy, run=result.run.id, more={"loss": facts["training"]["loss"]},
    )  # fmt: skip


def _print(result: RunResult, version: ModelVersion) -> None:
    config = result.run.config
    print_scores(result.scores, f"forecasts {config.horizon} bars ahead of rows never trained on, {config.folds} folds")
    if config.features is not None:
        click.echo("the features were chosen beforehand: if on candles judged here, these scores are too good")
    click.echo(f"curves      {result.run.folder / 'curves.png'}")
    click.echo(f"checkpoint  {result.checkpoint}")
    print_registered(version)


def print_scores(scores: Mapping[str, Score], title: str) -> None:
    """Each arm's scores as a table, and what they carry in words."""
    rows = []
    for arm, each in scores.items():
        low, high = each.hit_rate_interval or (None, None)
        interval = "-" if low is None else f"{low:.1%} to {high:.1%}"
        rate = None if each.hit_rate is None else f"{each.hit_rate:.1%}"
        rows.append((arm, each.rows, f"{each.mae:.5f}", f"{each.rmse:.5f}", f"{each.skill:+.2%}", rate, interval,
                     each.correlation))  # fmt: skip
    show.table(_COLUMNS, rows, title)
    click.echo(verdict(scores))


def print_registered(version: ModelVersion) -> None:
    """What was kept, and what is next."""
    if label := version.config.get("language_model"):
        click.echo(f"reads with  {label}")
    click.echo(f"registered  {version.id}; `trading-bot models promote {version.id}` makes it a strategy")


def verdict(scores: Mapping[str, Score]) -> str:
    """The scores of `RunResult` in words, so that a null result is not taken for more."""
    model = scores["model"]
    low, high = model.hit_rate_interval or (0.5, 0.5)
    told = "above one half" if low > 0.5 else "below one half" if high < 0.5 else "no better than a coin's toss"
    better = [arm for arm, each in scores.items() if arm != "model" and each.skill >= model.skill]
    if better:
        error = f"the error is no smaller than that of {', '.join(better)}"
    elif model.skill_interval[0] > 0:
        error = "the error is the smallest, and smaller than without a forecast"
    else:
        error = "the error is the smallest, but by no more than chance may give"
    drift = scores["mean"].hit_rate or 0.5
    if low > 0.5 and drift >= low:
        told += f", but always forecasting the training's mean is right {drift:.1%} of the time"
    return f"hit rate {told}; {error}"


@contextmanager
def _progress(run: Run, fits: int, *, tensorboard: bool) -> Iterator[Watcher]:
    """One bar over all fits on a terminal, nothing elsewhere; curves for TensorBoard where they are wanted."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    epochs, boards = run.config.fit.epochs, dict[str, Any]()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task, seen = progress.add_task("training", total=fits * epochs), list[str]()

        def watch(fit: str, epoch: int, values: Mapping[str, float]) -> None:
            if fit not in seen:
                seen.append(fit)
            text = f"{fit}  epoch {epoch + 1}  train {values['train_loss']:.4g}  val {values['val_loss']:.4g}"
            progress.update(task, completed=(len(seen) - 1) * epochs + epoch + 1, description=text)
            if tensorboard:
                from trading_bot.training.tensorboard_log import TensorBoardLog

                if fit not in boards:
                    boards[fit] = TensorBoardLog(
                        run.folder / "tensorboard" / fit.replace("/", "-of-").replace(" ", "-")
                    )
                boards[fit].write(epoch, values)

        try:
            yield watch
        finally:
            for board in boards.values():
                board.close()
