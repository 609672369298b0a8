"""The verbs: one table from word to module, so that `--help` and each verb import only what they need."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

import click

from trading_bot import __version__
from trading_bot.errors import TradingBotError

VERBOSE = "trading_bot.verbose"
VERBS: dict[str, tuple[str, str]] = {  # verb -> module below trading_bot.cli, one line of help
    "run": ("run", "Trade until stopped (alias: trade)."),
    "simulate": ("run", "Run the local exchange alone."),
    "status": ("status", "How the bot is doing."),
    "show-trades": ("journal", "Trades, newest last."),
    "show-decisions": ("journal", "Decisions, newest last."),
    "why": ("why", "Explain a decision in words."),
    "trace": ("trace", "One trade from candle to fill."),
    "pause": ("control", "No new entries until `resume`."),
    "resume": ("control", "Enter trades again; releases the drawdown latch."),
    "flatten": ("control", "Sell everything, then pause."),
    "stop": ("control", "Stop the daemon cleanly."),
    "train": ("train", "Train a network to forecast, and judge it."),
    "train-adaptive": ("train_adaptive", "Train with losses whose weights adapt."),
    "demo-adaptive-loss": ("demo_adaptive_loss", "See the weights of several losses adapt."),
    "train-strategies": ("train_strategies", "Train the strategies' models now."),
    "train-trm": ("train_trm", "Train a network to say which strategy to trust."),
    "experiment": ("experiment", "What adaptive losses are worth, measured."),
    "backtesting": ("backtesting", "The same trader over stored candles."),
    "download-data": ("data", "Fetch candles and store them."),
    "convert-data": ("convert", "Candle files from one format into another."),
    "list-data": ("data", "Stored candles."),
    "list-timeframes": ("data", "Timeframes of the exchange."),
    "list-strategies": ("strategies", "Strategies found, or why not."),
    "new-strategy": ("strategies", "Write a strategy to start from."),
    "show-config": ("configuration", "The configuration in force, secrets masked."),
    "new-config": ("configuration", "Write a commented configuration file."),
    "models": ("models", "Trained models: list them, choose the one in use."),
    "doctor": ("doctor", "Check everything the bot needs."),
    "reset": ("reset", "Begin a new paper account; the old one is kept."),
    "db": ("database", "The database's own affairs."),
}
ALIASES = {"trade": "run"}


class Verbs(click.Group):
    """Loads a verb's module when the verb is called; turns our errors into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in VERBS:
            return None
        module = importlib.import_module(f"trading_bot.cli.{VERBS[name][0]}")
        command: click.Command = getattr(module, name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = get_close_matches(args[0], [*VERBS, *ALIASES], n=1)
        if args[0] not in VERBS and args[0] not in ALIASES and not args[0].startswith("-"):
            hint = f"did you mean '{near[0]}'?" if near else "`trading-bot --help` lists them"
            ctx.fail(f"no verb {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, KeyboardInterrupt, BrokenPipeError):
            raise
        except TradingBotError as error:
            _report(str(error), error, ctx)
            ctx.exit(error.exit_code)
        except Exception as error:
            cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            _report(f"unexpected {cause} (-vv shows where)", error, ctx)
            ctx.exit(1)


def _report(text: str, error: Exception, ctx: click.Context) -> None:
    from trading_bot.logs import redact

    if ctx.meta.get(VERBOSE, 0) >= 2:
        click.echo(redact("".join(traceback.format_exception(error))), err=True)
    click.echo(f"error: {redact(' '.join(text.split()))}", err=True)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="trading-bot")
def cli() -> None:
    """An adaptive trading bot: candles in, one explained decision a bar, orders out, results learned from.

    Start with `trading-bot run`: it trades on paper against its own local exchange and needs no key and no network.
    """


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run one verb and exit with its code: 0 ok, 1 error, 2 usage, 3 not running, 4 configuration, 5 time-out."""
    cli.main(args=None if args is None else list(args), prog_name="trading-bot")
    sys.exit(0)
