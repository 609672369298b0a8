"""Verb `train-adaptive`: a network fitted with several losses whose weights adapt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trading_bot.cli import show
from trading_bot.cli.language_model import language_model_options, language_model_sizes
from trading_bot.cli.options import configured, json_option, timerange_option
from trading_bot.cli.registering import check_database, check_name, register_candidate
from trading_bot.cli.train import first_pair, print_registered, print_scores, training_candles

if TYPE_CHECKING:
    from trading_bot.domain.market import Candles
    from trading_bot.domain.models import ModelVersion
    from trading_bot.settings import Settings
    from trading_bot.training.adaptive_loss_run import AdaptiveRun, AdaptiveRunConfig

_SAME = {"token_normalize_func": lambda token: token.replace("_", "-")}  # --loss_combination is --loss-combination


@click.command("train-adaptive", context_settings=_SAME)
@configured()
@click.option("--loss-combination", default="comprehensive", show_default=True,
              help="basic, trading_focused, robust_prediction, comprehensive or directional_focused.")  # fmt: skip
@click.option("--adaptation-strategy", default="performance_based", show_default=True,
              help="Such as performance_based, learning_based, hybrid, schedule_based, fixed.")  # fmt: skip
@click.option("--adaptation-frequency", type=click.IntRange(min=1), default=50, show_default=True, help="Steps.")
@click.option("--performance-window", type=click.IntRange(min=1), default=20, show_default=True, help="Measurements.")
@click.option("--data", default="CRYPTEX", show_default=True, metavar="NAME|FILE|PAIR",
              help="CRYPTEX: open, high, low, close and volume of the configured candles, as changes; "
              "CRYPTEX_ENHANCED_OPTIMIZED: the best 20 of the wide features; a file or pair: the 40.")  # fmt: skip
@click.option("--feature-selection-config", "selection", type=click.Path(path_type=Path), metavar="FILE",
              help="Features chosen earlier.")  # fmt: skip
@click.option("--model", default="cnn", show_default=True, help="lstm, cnn, attention, ensemble or time_llm.")
@language_model_options
@click.option("--model-id", default="adaptive", show_default=True, metavar="NAME",
              help="Name of the run's folder and, if promoted, in the ensemble.")  # fmt: skip
@click.option("--horizon", type=click.IntRange(min=1), default=12, show_default=True, help="Bars ahead.")
@click.option("--length", type=click.IntRange(min=1), default=30, show_default=True, help="Bars in a window.")
@click.option("--epochs", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=2), default=128, show_default=True)
@click.option("--learning-rate", type=float, default=0.001, show_default=True)
@click.option("--patience", type=click.IntRange(min=1), default=5, show_default=True,
              help="Epochs without improvement of the fixed metric.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@timerange_option
@click.option("--runs", type=click.Path(path_type=Path), help="Folder of the runs. [default: adaptive, beside the log]")
@json_option
def train_adaptive(settings: Settings, as_json: bool, **given: Any) -> None:
    """Train a network with several losses at once, their weights adapting as it learns.

    Progress is judged by the mean error in units of the target's spread, which does not move with the weights; the
    newest fifth of the data is not trained on and judges the result. Everything is kept in logs/adaptive/NAME: the
    model, losses and weights as a table and as pictures. The model is registered as a candidate: `trading-bot models
    promote` makes it a strategy. Ctrl-C or a kill loses at most an epoch: the same command goes on from there. Options
    may be written with dashes or underscores.

    \b
    Example: trading-bot train-adaptive --loss_combination trading_focused --data candles/BTC_USDT-1h.csv.gz
    """
    from trading_bot.training.adaptive_loss_run import run_adaptive

    config = _config(given)
    candles = _candles(settings, config, given["timerange"])
    root: Path = given["runs"] or settings.logfile.parent / "adaptive"
    check_database(settings)
    if not as_json:
        click.echo(f"{config.model_id}: {len(candles):,} candles of {candles.symbol} {candles.timeframe}, "
                   f"{config.model}, {config.loss.combination}, {config.loss.adaptation_strategy}")  # fmt: skip
    try:
        with _progress(config.epochs) as watch:
            run = run_adaptive(root, config, candles, watch)
    except KeyboardInterrupt:
        click.echo("interrupted; the same command goes on from the last whole epoch", err=True)
        raise
    version = _register(settings, config, run)
    if as_json:
        scores = {arm: each.as_json() for arm, each in run.scores.items()}
        show.print_json({"folder": str(run.folder), "model": None if version is None else version.id,
                         "not_registered": run.uncalibrated or None, "language_model": run.forecaster.label,
                         "features": run.features, "steps": run.steps, "scores": scores,
                         **run.results.as_json()})  # fmt: skip
    else:
        _print(config, run, version)


def _config(given: Mapping[str, Any]) -> AdaptiveRunConfig:
    from trading_bot.features.selection_config import load
    from trading_bot.training.adaptive_loss import AdaptiveLossConfig
    from trading_bot.training.adaptive_loss_run import CHOSEN, DATASETS, OHLCV, AdaptiveRunConfig

    check_name("--model-id", given["model_id"])
    sizes = language_model_sizes(given)
    name = given["data"].upper()
    features: tuple[str, ...] | None = OHLCV if name == DATASETS[0] else None
    if given["selection"] is not None:
        features = tuple(str(each) for each in load(given["selection"]).get_feature_names_out())
    return AdaptiveRunConfig(
        model_id=given["model_id"],
        source=name if name in DATASETS else given["data"],
        loss=AdaptiveLossConfig(
            combination=given["loss_combination"],
            adaptation_strategy=given["adaptation_strategy"],
            adaptation_frequency=given["adaptation_frequency"],
            performance_window=given["performance_window"],
        ),
        model=given["model"].lower(),
        sizes=sizes,
        features=features,
        select=CHOSEN if name == DATASETS[1] and features is None else 0,
        **{each: given[each] for each in _HOW},
    )


_HOW = ("horizon", "length", "epochs", "batch_size", "learning_rate", "patience", "seed", "device")


def _candles(settings: Settings, config: AdaptiveRunConfig, timerange: tuple[int | None, int | None]) -> Candles:
    from trading_bot.training.adaptive_loss_run import DATASETS

    name = config.source
    candles = training_candles(settings, first_pair(settings) if name in DATASETS else name)
    start, end = timerange
    first = 0 if start is None else int(candles.time.searchsorted(start))
    return candles[first : len(candles) if end is None else int(candles.time.searchsorted(end))]


def _register(settings: Settings, config: AdaptiveRunConfig, run: AdaptiveRun) -> ModelVersion | None:
    """Keep the model as a candidate under an id that its bytes make: the same training again is the same model.

    None if it could not be a strategy: one that was never calibrated would have no opinion.
    """
    from trading_bot.training.checkpoint_file import file_sha256

    if run.uncalibrated:
        return None
    facts = run.forecaster.facts
    scores = {**run.scores["model"].as_json(), "mae_zero": run.scores["zero"].mae}
    return register_candidate(
        settings, run.checkpoint, facts, scores,
        name=config.model_id, run=file_sha256(run.checkpoint)[:12], more={"loss": facts["training"]["loss"]},
    )  # fmt: skip


def _print(config: AdaptiveRunConfig, run: AdaptiveRun, version: ModelVersion | None) -> None:
    results = run.results
    rows = [(name, f"{weight:.3f}", f"{results.scales[name]:.4g}", results.skipped[name])
            for name, weight in results.weights.items()]  # fmt: skip
    show.table(("loss", "weight>", "scale>", "skipped>"), rows, f"after {run.steps} steps")
    print_effectiveness(results.effectiveness)
    for first, second, cosine in results.redundant:
        click.echo(f"{first} and {second} pull the same way (cosine {cosine:.3f}); one of them may go")
    print_scores(run.scores, f"forecasts {config.horizon} bars ahead of the newest rows, never trained on")
    click.echo(f"kept in     {run.folder}")
    if version is not None:
        print_registered(version)
    else:
        click.echo(f"not registered, for it could not be a strategy: {run.uncalibrated}")


def print_effectiveness(found: Any) -> None:
    """Learning and re-weighting apart, in words."""
    if found is None:
        click.echo("too few steps for the weights to adapt: the first 100 measure the losses' scales; give more epochs")
        return
    click.echo(f"combined loss {found.start:.4f} to {found.end:.4f}: learning {found.learning:+.4f}, "
               f"mere re-weighting {found.reweighting:+.4f}")  # fmt: skip


@contextmanager
def _progress(epochs: int) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """A bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("training", total=epochs)

        def watch(epoch: int, values: Mapping[str, float]) -> None:
            text = f"epoch {epoch + 1}  train {values['train_loss']:.4g}  metric {values['val_loss']:.4g}"
            progress.update(task, completed=epoch + 1, description=text)

        yield watch
