"""Verb `experiment`: what adapting the weights of losses is worth, measured."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trading_bot.cli import show
from trading_bot.cli.experiment_options import (
    BUDGET_OPTIONS,
    Listed,
    candles_of,
    command_line,
    quietly,
    seeds_option,
    task_options,
    whole,
)
from trading_bot.cli.options import configured, json_option

if TYPE_CHECKING:
    from trading_bot.experiments.ablation_tasks import RunConfig, Task
    from trading_bot.experiments.weighted_fit import Budget
    from trading_bot.settings import Settings


@click.group()
def experiment() -> None:
    """What is claimed of adaptive losses, measured; a null result is told as such.

    \b
    Example: trading-bot experiment adaptive-vs-fixed --data candles/BTC_USDT-1h.csv.gz --seeds 1 2
    """


# monitor and controller -----------------------------------------------------------------------------------------------


@experiment.command(cls=Listed)
@configured()
@click.option(
    "--mode", default="baseline", show_default=True, help="baseline, monitor_only, controller_only or full_adaptive."
)
@whole("--seed", default=0, least=0, words="Of first weights, order and parts.")
@task_options(25)
@click.option(
    "--logdir",
    type=click.Path(path_type=Path),
    default=Path("logs/runs/experiment"),
    show_default=True,
    help="Folder of the curves.",
)
@click.option("--tensorboard", is_flag=True, help="Also write the curves for TensorBoard, there.")
@json_option
def run(
    settings: Settings, mode: str, seed: int, logdir: Path, tensorboard: bool, as_json: bool, **given: Any
) -> None:  # fmt: skip
    """One run of one mode.

    \b
    Example: trading-bot experiment run --mode baseline --seed 42 --logdir logs/baseline
    """
    from trading_bot.experiments.ablation import check_modes
    from trading_bot.experiments.ablation import run as run_mode
    from trading_bot.training.tensorboard_log import load_tensorboard

    mode = mode.replace("-", "_")
    check_modes([mode])
    if tensorboard:
        load_tensorboard()
    row, _ = run_mode(_made(settings, given), mode, seed, _config(given), logdir, tensorboard=tensorboard)
    _tell_rows([row], logdir / f"{mode}-seed-{seed}.csv", as_json=as_json)


@experiment.command(cls=Listed)
@configured()
@seeds_option(1, 42, 123)
@task_options(30)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("results.csv"),
    show_default=True,
    help="CSV file; the curves are in a folder of its name.",
)
@json_option
def phase1(settings: Settings, seeds: tuple[int, ...], output: Path, as_json: bool, **given: Any) -> None:
    """The baseline and everything adaptive, with several seeds.

    \b
    Example: trading-bot experiment phase1 --seeds 1 42 123 --epochs 30 --lr 1e-3 --output results.csv
    """
    from trading_bot.experiments.ablation import BASELINE, FULL, check_modes
    from trading_bot.experiments.ablation import phase1 as measure

    check_modes([BASELINE, FULL])
    if output.suffix != ".csv":
        raise click.BadParameter(f"--output: found {str(output)!r}, wanted a file that ends with .csv")
    with quietly():
        rows = measure(_made(settings, given), seeds, _config(given), output, _progress_of_rows)
    _tell_rows(rows, output, as_json=as_json)


@experiment.command(cls=Listed)
@configured()
@seeds_option(1, 42, 123, 456, 789)
@task_options(25)
@click.option(
    "--output-dir",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("results/ablation"),
    show_default=True,
    help="Folder of the results.",
)
@json_option
def ablation(settings: Settings, seeds: tuple[int, ...], folder: Path, as_json: bool, **given: Any) -> None:
    """Baseline, monitor, controller, both, and the placebos, with several seeds; then the effects.

    \b
    Example: trading-bot experiment ablation --seeds 1 42 123 --epochs 25 --output_dir results/ablation
    """
    from trading_bot.experiments.ablation import MODES, check_modes
    from trading_bot.experiments.ablation import ablation as measure
    from trading_bot.experiments.ablation_analysis import analyze as look
    from trading_bot.experiments.ablation_analysis import told

    check_modes(list(MODES))
    with quietly():
        rows = measure(_made(settings, given), seeds, _config(given), folder, _progress_of_rows)
    if as_json:
        show.print_json({"runs": rows, "analysis": look(folder)})
        return
    click.echo(f"{told(look(folder))}\n\nresults  {folder / 'results.csv'}")


@experiment.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@json_option
def analyze(folder: Path, as_json: bool) -> None:
    """The effects of monitor and controller, from what `ablation` wrote to DIR. Needs nothing but Python.

    \b
    Example: trading-bot experiment analyze results/ablation
    """
    from trading_bot.experiments.ablation_analysis import analyze as look
    from trading_bot.experiments.ablation_analysis import told

    found = look(folder)
    if as_json:
        show.print_json(found)
    else:
        click.echo(told(found))


def _config(given: Mapping[str, Any]) -> RunConfig:
    from trading_bot.experiments.ablation_tasks import RunConfig

    names = ("epochs", "batch_size", "learning_rate", "monitor", "controller")
    return RunConfig(**{name: given[name] for name in names})


def _made(settings: Settings, given: Mapping[str, Any]) -> Task:
    from trading_bot.experiments.ablation_tasks import Cifar10Task, MarketTask
    from trading_bot.training.prepared_data import prepare_data

    if given["task"] == "cifar10":
        return Cifar10Task(settings.data_dir / "datasets", subset=given["subset"], tell=_downloaded)
    return MarketTask(prepare_data(candles_of(settings, given["data"])[0], given["horizon"]), given["batches"])


def _downloaded(done: int, total: int | None) -> None:
    if sys.stderr.isatty():
        share = f" of {total / 1e6:.0f} MB ({done / total:.0%})" if total else " MB"
        click.echo(f"\r\033[KCIFAR-10: {done / 1e6:.0f}{share}" + "\n" * (done == total), nl=False, err=True)


def _progress_of_rows(row: Mapping[str, Any]) -> None:
    score = list(row)[2]
    click.echo(f"seed {row['seed']}  {row['mode']}: {score} {row[score]:.6f}", err=True)


def _tell_rows(rows: Sequence[Mapping[str, Any]], path: Path, *, as_json: bool) -> None:
    if as_json:
        show.print_json(list(rows))
        return
    columns = [name for name in rows[0] if not name.startswith("weight_")]
    show.table(columns, [[row[name] for name in columns] for row in rows])
    click.echo(f"written  {path}")


# adaptive against fixed, features -------------------------------------------------------------------------------------


@experiment.command("adaptive-vs-fixed", cls=Listed)
@configured()
@seeds_option(*range(1, 11))
@BUDGET_OPTIONS
@click.option("--combination", default="comprehensive", show_default=True, help="Of losses.")
@whole("--draws", default=20, words="Random static weights, of which the best is taken.")
@click.option("--arms", multiple=True, metavar="ARM …", help="Only these. [default: all]")
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=Path("logs/runs/adaptive-vs-fixed"),
    show_default=True,
    help="Where finished fits are kept.",
)
@click.option("--page-only", is_flag=True, help="Train nothing; write the page of what is finished.")
@json_option
def adaptive_vs_fixed(
    settings: Settings, seeds: tuple[int, ...], combination: str, draws: int, arms: tuple[str, ...], work: Path,
    output: Path, page_only: bool, as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Every policy of weights beside equal, tuned and random static ones, walk-forward; writes adaptive-loss.md.

    Fits that are finished are kept: a run that was stopped goes on where it was.

    \b
    Example: trading-bot experiment adaptive-vs-fixed --data candles/BTC_USDT-1h.csv.gz --seeds 1 2
    """
    from trading_bot.experiments.adaptive_vs_fixed import Plan, finished, measure
    from trading_bot.experiments.adaptive_vs_fixed_comparison import compare
    from trading_bot.experiments.adaptive_vs_fixed_report import PAGE, write
    from trading_bot.training.prepared_data import prepare_data

    candles, source, sha256 = candles_of(settings, given["data"])
    chosen = {"arms": arms} if arms else {}
    plan = Plan(
        combination=combination, seeds=seeds, folds=given["folds"], draws=draws, budget=_budget(given), **chosen
    )  # fmt: skip
    data = prepare_data(candles, given["horizon"])
    with quietly():
        cells = finished(data, plan, work) if page_only else measure(data, plan, work, _tell)
    found = compare(data, plan, cells)
    write(found, output, command_line("adaptive-vs-fixed", given["data"], found.seeds), source, sha256)
    if as_json:
        show.print_json({"seeds": found.seeds, "zero": found.zero, "arms": found.comparisons})
    else:
        click.echo(f"{len(found.arms)} arms, {len(found.seeds)} seeds, {plan.folds} folds: {output / PAGE} written")


@experiment.command(cls=Listed)
@configured()
@seeds_option(1, 2, 3)
@BUDGET_OPTIONS
@whole("--k", default=20, words="Features that are chosen.")
@json_option
def features(
    settings: Settings, seeds: tuple[int, ...], k: int, output: Path, as_json: bool, **given: Any
) -> None:  # fmt: skip
    """All features, 20 chosen and 20 at random: quality and time of a step; writes features.md.

    \b
    Example: trading-bot experiment features --data candles/BTC_USDT-1h.csv.gz --seeds 1 2 3
    """
    from trading_bot.experiments.feature_choice import PAGE, compare_features, summary, write_features

    candles, source, sha256 = candles_of(settings, given["data"])
    with quietly():
        found = compare_features(candles, given["horizon"], seeds, given["folds"], _budget(given), k, _tell)
    write_features(found, output, command_line("features", given["data"], seeds), source, sha256)
    if as_json:
        show.print_json(summary(found))
    else:
        click.echo(f"{output / PAGE} written")


def _tell(line: str) -> None:
    click.echo(line, err=True)


def _budget(given: Mapping[str, Any]) -> Budget:
    from trading_bot.experiments.weighted_fit import Budget

    return Budget(epochs=given["epochs"], batches=given["batches"], batch_size=given["batch_size"])
