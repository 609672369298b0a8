"""Verb `convert-data`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trading_bot.cli import show
from trading_bot.cli.options import json_option, separated, symbols, verbose_option

if TYPE_CHECKING:
    from trading_bot.market_data.convert import Converted

_COLUMNS = ("pair", "timeframe", "from", "to", "bars>", "file", "what was done")


@click.command("convert-data")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE|FOLDER...")
@click.option(
    "--format-to", "to", required=True, metavar="FORMAT", help="feather, csv, csv.gz, parquet or json (freqtrade's)."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to. [default: beside each file]")
@click.option("--erase", is_flag=True, help="Delete each file once what it became was read back.")
@click.option("--overwrite", is_flag=True, help="Replace files that hold other candles.")
@click.option("-p", "--pairs", multiple=True, metavar="PAIRS", help="Only these pairs: BTC/USDT,ETH/USDT.")
@click.option("-i", "--timeframe", "timeframes", multiple=True, metavar="TIMEFRAME", help="Only these, such as 1h.")
@verbose_option
@json_option
def convert_data(
    paths: tuple[Path, ...],
    to: str,
    folder: Path | None,
    erase: bool,
    overwrite: bool,
    pairs: tuple[str, ...],
    timeframes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Candle files from one format into another, every number the same; freqtrade's Feather and JSON are read too.

    \b
    Example: trading-bot convert-data user_data/data/binance --format-to feather --folder data/candles/binance
    """
    from trading_bot.logs import console_only
    from trading_bot.market_data.convert import convert

    console_only()
    rows = convert(
        paths,
        to,
        folder=folder,
        pairs=symbols(pairs),
        timeframes=separated(timeframes),
        erase=erase,
        overwrite=overwrite,
    )
    if as_json:
        show.print_json(rows)
        return
    show.table(_COLUMNS, [_row(row) for row in rows])


def _row(row: Converted) -> tuple[object, ...]:
    done = "written" if row.written else "was there"
    words = "; ".join((f"{done}, {row.source.name} deleted" if row.erased else done, *row.notes))
    return row.symbol, row.timeframe, show.bar(row.first), show.bar(row.last), row.rows, row.target, words
