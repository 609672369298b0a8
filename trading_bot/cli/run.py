"""Verbs `run` (the daemon) and `simulate` (the local exchange alone), both in the foreground."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from trading_bot import __version__
from trading_bot.cli.main import VERBOSE
from trading_bot.cli.options import configured
from trading_bot.errors import TradingBotError

if TYPE_CHECKING:
    from trading_bot.logs import LoggingConfig
    from trading_bot.settings import Settings

_MODES = {
    "paper": "trading on paper, on the local exchange",
    "paper-venue": "trading on paper, orders matched in this process",
    "sandbox": "trading in the exchange's sandbox",
    "live": "TRADING REAL MONEY",
}


@click.command()
@configured(market=True)
@click.pass_context
def run(ctx: click.Context, settings: Settings) -> None:
    """Trade until stopped by Ctrl-C, SIGTERM or `trading-bot stop`; alias: trade.

    \b
    Examples: trading-bot run
              trading-bot run -c config/binance-paper.yaml -p BTC/USDT
    """
    from trading_bot.logs import last_words, setup
    from trading_bot.service.stopping import ended_by_signals
    from trading_bot.settings import check_credentials

    check_credentials(settings)
    setup(_logging(ctx, settings), settings.logfile)
    with ended_by_signals(settings.service.shutdown_seconds):
        _banner(settings)
        from trading_bot.service.daemon import run_bot

        try:
            code = run_bot(settings)
        except TradingBotError as error:
            last_words(str(error))
            raise
    ctx.exit(code)


@click.command()
@configured(market=True)
@click.pass_context
def simulate(ctx: click.Context, settings: Settings) -> None:
    """Run the local exchange alone; it speaks Binance's protocol on 127.0.0.1 and keeps its state in the data folder.

    \b
    Example: trading-bot simulate -c config/paper.yaml
    """
    from trading_bot.logs import setup

    logfile = settings.logfile.with_name("exchange.log")
    setup(_logging(ctx, settings), logfile, link=False)
    from trading_bot.bootstrap import serve_exchange

    click.echo(f"Local exchange: {market(settings)}; its log is {logfile}; Ctrl-C stops it.")
    ctx.exit(serve_exchange(settings, lambda server: click.echo(f"Listening on {server.url}")))


def _logging(ctx: click.Context, settings: Settings) -> LoggingConfig:
    """The log's configuration; `-v` shows DEBUG on the console as well."""
    if ctx.meta.get(VERBOSE, 0):
        return dataclasses.replace(settings.logging, console_level="DEBUG")
    return settings.logging


def market(settings: Settings) -> str:
    """What the local exchange replays and how fast, in words."""
    config = settings.market
    if config.candles == "synthetic":
        what = f"the synthetic market (seed {settings.synthetic.seed})"
    else:
        paths = [config.candles] if isinstance(config.candles, str) else config.candles
        what = ", ".join(paths)
    pace = config.candles_per_second
    return f"{what}, {'in lockstep' if pace == 'lockstep' else f'{pace:g} candles a second'}"


def _banner(settings: Settings) -> None:
    """What runs, where the log is, what to type next."""
    from trading_bot.exchange.config import LOCAL
    from trading_bot.settings import mask_passwords

    local = settings.exchange.name == LOCAL
    pairs = ", ".join(settings.exchange.pair_whitelist) or "every pair of the market"
    strategies = ", ".join(settings.strategies) or f"all in {settings.strategy_path}/"
    first = next(iter(settings.exchange.pair_whitelist or settings.synthetic.symbols))
    click.secho(f"trading-bot {__version__}: {_MODES[settings.mode]}", bold=True)
    for label, value in (
        ("exchange", market(settings) if local else settings.exchange.name),
        ("pairs", f"{pairs}, {settings.timeframe or 'timeframe of the candles'}"),
        ("strategies", strategies),
        ("database", mask_passwords(settings.database_url)),
        ("log", f"{settings.logfile}; follow it with: tail -f bot_debug.log"),
        ("next", f"trading-bot status   trading-bot why {first}   trading-bot show-trades   (Ctrl-C here stops)"),
    ):
        click.echo(f"  {label:<11}{value}")
