"""Verb `backtesting`: the same trader over stored candles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from trading_bot.cli import show
from trading_bot.cli.options import configured, json_option, timerange_option

if TYPE_CHECKING:
    from trading_bot.settings import Settings

_RATIOS = ("ratio", "change", "rate", "account", "exposure", "var_", "cvar_", "best", "worst", "average", "cagr")
_SIGNED = ("profit", "change", "best", "worst", "cagr")


@click.command()
@configured(market=True)
@timerange_option
@click.option("--walk-forward", is_flag=True, help="Train the strategies' models on the way, as the daemon would.")
@json_option
def backtesting(
    settings: Settings, timerange: tuple[int | None, int | None], walk_forward: bool, as_json: bool
) -> None:
    """Trade stored candles with the same code and the same matching as the daemon, and sum the result up.

    With --walk-forward strategies begin without models and learn as the daemon would have, at each date from what was
    known then. Without it they have the models that are in use now, for bars these have not learned from.

    \b
    Example: trading-bot backtesting -c config/paper.yaml --timerange 20240101-20240301
    """
    from trading_bot.bootstrap import run_backtest

    with _progress() as on_bar:
        summary = run_backtest(settings, timerange, on_bar, walk_forward=walk_forward).summary
    if as_json:
        show.print_json(dict(summary))
    else:
        _print(summary)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal; nothing where standard error is none."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("backtesting", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _print(summary: Mapping[str, Any]) -> None:
    """Single figures as one table, then one table for each group of them."""
    single = {name: value for name, value in summary.items() if not isinstance(value, Mapping)}
    show.table(("backtest", "value>"), [(_words(name), _figure(name, value)) for name, value in single.items()])
    for name, group in summary.items():
        if isinstance(group, Mapping) and group:
            click.echo()
            _print_group(name, group)


def _print_group(name: str, group: Mapping[str, Any]) -> None:
    if not all(isinstance(value, Mapping) for value in group.values()):
        show.table((_words(name), "value>"), [(key, _figure(key, value)) for key, value in group.items()])
        return
    columns = list(dict.fromkeys(column for value in group.values() for column in value))
    rows = [(key, *(_figure(column, value.get(column)) for column in columns)) for key, value in group.items()]
    show.table((_words(name), *(f"{_words(column)}>" for column in columns)), rows)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _figure(name: str, value: Any) -> str:
    """A figure for people: ratios as percent, lists spelled out, undefined as a dash."""
    if isinstance(value, list | tuple):
        return ", ".join(show.text(item) for item in value) or "-"
    if isinstance(value, float) and any(part in name for part in _RATIOS) and name != "expectancy_ratio":
        return f"{value:+.2%}" if any(part in name for part in _SIGNED) else f"{value:.2%}"
    if isinstance(value, str) and value.endswith("+00:00"):
        return value[:16].replace("T", " ")
    return show.text(value)
