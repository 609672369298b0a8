"""Verbs `download-data`, `list-data`, `list-timeframes`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trading_bot.cli import show
from trading_bot.cli.options import configured, json_option, symbols, timerange_option

if TYPE_CHECKING:
    from trading_bot.market_data.file_candles import StoredCandles
    from trading_bot.settings import Settings

_DAY_MS = 86_400_000
POLYGON = "polygon"
_COLUMNS = ("pair", "timeframe", "from", "to", "bars>", "gaps>", "missing>", "file")


def _pairs_of_source(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Keep `-p` from the settings where it names what another source has: no pair of the exchange needs to be it."""

    @functools.wraps(verb)  # and with it the options
    def call(**given: Any) -> Any:
        if given["source"] == POLYGON:
            given["pairs"], given["wanted"] = (), tuple(symbols(given["pairs"]))
        return verb(**given)

    return call


@click.command("download-data")
@_pairs_of_source
@configured(market=True)
@timerange_option
@click.option(
    "--days", type=click.IntRange(min=1), default=30, show_default=True, help="How far back without --timerange."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to. [default: where `backtesting` looks]")
@click.option(
    "--source",
    type=click.Choice(["exchange", POLYGON]),
    default="exchange",
    help="Polygon.io wants a key in POLYGON_API_KEY. [default: the configured exchange]",
)
@click.option("--adjusted", is_flag=True, help="Polygon: stock prices as if later splits had happened before.")
@json_option
def download_data(
    settings: Settings,
    timerange: tuple[int | None, int | None],
    days: int,
    folder: Path | None,
    source: str,
    adjusted: bool,
    as_json: bool,
    wanted: tuple[str, ...] = (),
) -> None:
    """Fetch closed candles from the exchange into Feather files; what is there already is continued.

    \b
    Example: trading-bot download-data -c config/binance-paper.yaml -p BTC/USDT -i 1h --timerange 20240101-
    Example: trading-bot download-data --source polygon -p AAPL,BTC/USD -i 1h --timerange 20240101-
    """
    start, end = timerange

    def begin(until: int) -> int:
        return start if start is not None else until - days * _DAY_MS

    if source == POLYGON:
        _print(_from_polygon(settings, wanted, folder, adjusted, begin, end), as_json)
        return
    if adjusted:
        raise click.UsageError("--adjusted is for --source polygon; an exchange's prices know no splits")
    from trading_bot.bootstrap import build_candle_source, candle_folder
    from trading_bot.market_data.download import download

    target = folder or candle_folder(settings)
    with build_candle_source(settings) as access:
        until = min(access.clock.now(), end or access.clock.now())
        rows = download(access.source, access.symbols, access.timeframe, begin(until), target, now=lambda: until)
    _print(rows, as_json)


def _from_polygon(
    settings: Settings,
    wanted: Sequence[str],
    folder: Path | None,
    adjusted: bool,
    begin: Callable[[int], int],
    end: int | None,
) -> list[StoredCandles]:
    """Download from Polygon; adjusted prices are another market than those that were paid."""
    from trading_bot.market_data import polygon_candles
    from trading_bot.market_data.download import download
    from trading_bot.market_data.polygon_replies import read_key, ticker_of, window_of

    pairs = wanted or settings.exchange.pair_whitelist
    if not pairs or settings.timeframe is None:
        raise click.UsageError("--source polygon wants -p and -i, such as -p AAPL -i 1h")
    window_of(settings.timeframe)
    for symbol in pairs:
        ticker_of(symbol)
    source = polygon_candles.PolygonCandles(read_key(os.environ), base=polygon_candles.BASE, adjusted=adjusted)
    until = min(source.now(), end or source.now())
    target = folder or settings.data_dir / "candles" / (f"{POLYGON}-adjusted" if adjusted else POLYGON)
    return download(source, pairs, settings.timeframe, begin(until), target, now=lambda: until)


@click.command("list-data")
@configured()
@click.option("--folder", type=click.Path(path_type=Path), help="Look here instead of in DATA_DIR/candles.")
@json_option
def list_data(settings: Settings, folder: Path | None, as_json: bool) -> None:
    """Stored candles: what there is, from when to when, with how many gaps.

    \b
    Example: trading-bot list-data
    """
    from trading_bot.market_data.file_candles import list_data as stored_in

    root = folder or settings.data_dir / "candles"
    folders = [root, *sorted(path for path in root.glob("*") if path.is_dir())]
    rows = [row for each in folders for row in stored_in(each)]
    if rows or as_json:
        _print(rows, as_json)
    else:
        click.echo(f"no candle files in {root}; `trading-bot download-data` fetches some")


def _print(rows: list[StoredCandles], as_json: bool) -> None:
    if as_json:
        show.print_json(rows)
        return
    show.table(_COLUMNS, [_row(row) for row in rows])


def _row(row: StoredCandles) -> tuple[object, ...]:
    if row.problem:
        return row.symbol, row.timeframe, "-", "-", "-", "-", "-", row.problem
    span = show.bar(row.first), show.bar(row.last)
    return row.symbol, row.timeframe, *span, row.rows, row.gaps, row.missing_bars, row.path


@click.command("list-timeframes")
@configured()
@json_option
def list_timeframes(settings: Settings, as_json: bool) -> None:
    """Timeframes the exchange offers (the local exchange: those of its candles).

    \b
    Example: trading-bot list-timeframes -c config/binance-paper.yaml
    """
    found = _timeframes(settings)
    if as_json:
        show.print_json(found)
    else:
        click.echo(f"{settings.exchange.name}: {', '.join(found) or 'it does not say'}")


def _timeframes(settings: Settings) -> list[str]:
    from trading_bot.exchange.config import LOCAL

    if settings.exchange.name != LOCAL:
        from trading_bot.exchange.ccxt_client import build_client

        return list(build_client(settings.exchange).timeframes or {})
    given = settings.market.candles
    if given == "synthetic":
        return [settings.synthetic.timeframe]
    from trading_bot.market_data.candle_files import parse_name

    names = [parse_name(Path(path)) for path in ((given,) if isinstance(given, str) else given)]
    return sorted({name[1] for name in names if name is not None})
