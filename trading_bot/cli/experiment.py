"""Verb `experiment`: what adapting the weights of losses is worth, measured."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
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
    from trading_bot.experiments.ablation_kept import Cell, Run
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
    done = run_mode(_made(settings, given), mode, seed, _config(given), logdir, tensorboard=tensorboard)
    _tell_rows([done.row], logdir / f"{mode}-seed-{seed}.csv", as_json=as_json)


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
    """The baseline and everything adaptive, with several seeds. A run that was stopped goes on where it was.

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
@whole("--folds", default=1, words="Walk-forward folds of the market; 1: the newest fifth judges.")
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    help="Where finished runs are kept. [default: the folder of the results]",
)
@click.option(
    "--page",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also beside static weights that were tuned, as ablation.md there; of the market.",
)
@whole("--draws", default=20, words="Random static weights, of which the best is taken, for the page.")
@json_option
def ablation(
    settings: Settings, seeds: tuple[int, ...], folder: Path, folds: int, work: Path | None, page: Path | None,
    draws: int, as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Baseline, monitor, controller, both, and the placebos, with several seeds; then the effects.

    Runs that are finished are kept: an ablation that was stopped goes on where it was.

    \b
    Example: trading-bot experiment ablation --seeds 1 42 123 --epochs 25 --output_dir results/ablation
    """
    from trading_bot.experiments.ablation import MODES, check_modes
    from trading_bot.experiments.ablation import ablation as measure
    from trading_bot.experiments.ablation_analysis import analyze as look
    from trading_bot.experiments.ablation_analysis import told

    check_modes(list(MODES))
    if given["task"] != "market" and (folds > 1 or page is not None):
        raise click.BadParameter(f"--folds and --page are of the market, not of {given['task']}; leave them out")
    task, config = _made(settings, given, folds), _config(given)
    with quietly():
        runs = measure(task, seeds, config, folder, _progress_of_rows, work=work)
        if page is not None:
            _write_page(settings, task, runs, config, work or folder, draws, page, given["data"])
    if as_json:
        show.print_json({"runs": [run.row for run in runs.values()], "analysis": look(folder)})
        return
    click.echo(f"{told(look(folder))}\n\nresults  {folder / 'results.csv'}")


def _write_page(
    settings: Settings, task: Task, runs: Mapping[Cell, Run], config: RunConfig, work: Path, draws: int, page: Path,
    data: str | None,
) -> None:  # fmt: skip
    from trading_bot.experiments.ablation_effects import judge
    from trading_bot.experiments.ablation_report import PAGE, write
    from trading_bot.experiments.ablation_tasks import MarketTask

    assert isinstance(task, MarketTask)
    found = judge(task, runs, config, work, draws, _tell)
    _, source, sha256 = candles_of(settings, data)
    write(found, page, command_line("ablation", data, found.found.seeds), source, sha256)
    click.echo(f"written  {page / PAGE}", err=True)


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

    names = ("epochs", "batch_size", "learning_rate", "calibration", "frequency", "monitor", "controller")
    return RunConfig(**{name: given[name] for name in names})


def _made(settings: Settings, given: Mapping[str, Any], folds: int = 1) -> Task:
    from trading_bot.experiments.ablation_tasks import Cifar10Task, MarketTask
    from trading_bot.training.prepared_data import prepare_data

    if given["task"] == "cifar10":
        return Cifar10Task(settings.data_dir / "datasets", subset=given["subset"], tell=_downloaded)
    data = prepare_data(candles_of(settings, given["data"])[0], given["horizon"])
    return MarketTask(data, given["batches"], folds)


def _downloaded(done: int, total: int | None) -> None:
    if sys.stderr.isatty():
        share = f" of {total / 1e6:.0f} MB ({done / total:.0%})" if total else " MB"
        click.echo(f"\r\033[KCIFAR-10: {done / 1e6:.0f}{share}" + "\n" * (done == total), nl=False, err=True)


def _progress_of_rows(row: Mapping[str, Any]) -> None:
    score = next(name for name in row if name not in ("mode", "seed", "fold"))
    fold = f"  fold {row['fold']}" if "fold" in row else ""
    click.echo(f"seed {row['seed']}{fold}  {row['mode']}: {score} {row[score]:.6f}", err=True)


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
@click.option(
    "--combinations",
    "--combination",
    multiple=True,
    metavar="NAME …",
    default=("comprehensive",),
    show_default=True,
    help="Of losses, one or several, or all.",
)
@whole("--draws", default=20, words="Random static weights, of which the best is taken.")
@click.option(
    "--arms",
    multiple=True,
    metavar="ARM …",
    help="Only these. [default: all on one combination; on the others the static ones and the four strategies]",
)
@whole("--trend-bars", default=720, words="Bars of the return that tells a bull market.")
@whole("--volatility-bars", default=168, words="Bars whose volatility tells a stable market.")
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
    settings: Settings, seeds: tuple[int, ...], combinations: tuple[str, ...], draws: int, arms: tuple[str, ...],
    trend_bars: int, volatility_bars: int, work: Path, output: Path, page_only: bool, as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Every policy of weights beside equal, tuned and random static ones, walk-forward; writes adaptive-loss.md.

    Several combinations are also held beside each other, over all rows and by the market's condition. Fits that are
    finished are kept: a run that was stopped goes on where it was.

    \b
    Example: trading-bot experiment adaptive-vs-fixed --data candles/BTC_USDT-1h.csv.gz --seeds 1 2
             trading-bot experiment adaptive-vs-fixed --data candles/BTC_USDT-1h.csv.gz --combinations all
    """
    from trading_bot.experiments.adaptive_vs_fixed import Plan, finished, measure
    from trading_bot.experiments.adaptive_vs_fixed_combinations import gather, plans_of
    from trading_bot.experiments.adaptive_vs_fixed_combinations_report import write_combinations
    from trading_bot.experiments.adaptive_vs_fixed_comparison import compare
    from trading_bot.experiments.adaptive_vs_fixed_conditions import conditions_of
    from trading_bot.experiments.adaptive_vs_fixed_conditions_report import write_conditions
    from trading_bot.experiments.adaptive_vs_fixed_report import PAGE, write
    from trading_bot.training.adaptive_loss import COMBINATIONS
    from trading_bot.training.prepared_data import prepare_data

    candles, source, sha256 = candles_of(settings, given["data"])
    plan = Plan(seeds=seeds, folds=given["folds"], draws=draws, budget=_budget(given))
    plans = plans_of(plan, tuple(COMBINATIONS) if combinations == ("all",) else combinations, arms)
    several, bars = len(plans) > 1, (trend_bars, volatility_bars)
    data = prepare_data(candles, given["horizon"])
    conditions = conditions_of(candles, data, plan.folds, *bars) if several else ()
    cells = {}
    with quietly():
        for each in plans:
            tell = partial(_tell_of, each.combination) if several else _tell
            cells[each.combination] = finished(data, each, work) if page_only else measure(data, each, work, tell)
    found = compare(data, plans[0], cells[plans[0].combination])
    together = gather(data, plans, cells) if several else None
    command = command_line("adaptive-vs-fixed", given["data"], found.seeds)
    write(found, output, command, source, sha256)
    told = {"seeds": found.seeds, "zero": found.zero, "arms": found.comparisons}
    if together is not None:
        told["combinations"] = write_combinations(together, output, command)
        told["conditions"] = write_conditions(together, conditions, bars, output, command)
    if as_json:
        show.print_json(told)
        return
    counts = [f"{len(found.arms)} arms, {len(found.seeds)} seeds, {plan.folds} folds"]
    if together is not None:
        counts.append(f"{len(together.combinations)} combinations, {len(together.arms)} arms, "
                      f"{len(together.seeds)} seeds")  # fmt: skip
    click.echo(f"{'; '.join(counts)}: {output / PAGE} written")


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


def _tell_of(combination: str, line: str) -> None:
    _tell(f"{combination}  {line}")


def _budget(given: Mapping[str, Any]) -> Budget:
    from trading_bot.experiments.weighted_fit import Budget

    return Budget(epochs=given["epochs"], batches=given["batches"], batch_size=given["batch_size"])
