"""Verb `backtesting`: the same trader over stored candles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from trading_bot.cli import show
from trading_bot.cli.options import configured, json_option, timerange_option

if TYPE_CHECKING:
    from trading_bot.settings import Settings


@click.command()
@configured(market=True)
@timerange_option
@json_option
def backtesting(settings: Settings, timerange: tuple[int | None, int | None], as_json: bool) -> None:
    """Trade stored candles with the same code and the same matching as the daemon, and sum the result up.

    \b
    Example: trading-bot backtesting -c config/paper.yaml --timerange 20240101-20240301
    """
    from trading_bot.bootstrap import run_backtest

    result = run_backtest(settings, timerange)
    if as_json:
        show.print_json(dict(result.summary))
    else:
        show.table(("", "value>"), _rows(result.summary))


def _rows(summary: Mapping[str, Any], at: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in summary.items():
        label = f"{at}{str(name).replace('_', ' ')}"
        if isinstance(value, Mapping):
            rows += _rows(value, f"{label}: ")
        elif isinstance(value, list | tuple):
            rows.append((label, ", ".join(show.text(item) for item in value) or "-"))
        else:
            rows.append((label, show.text(value)))
    return rows
