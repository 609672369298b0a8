"""Verb `train-strategies`: train the strategies' models now, in the daemon or, where none runs, here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from trading_bot.cli import show
from trading_bot.cli.control import tell
from trading_bot.cli.options import configured, json_option, moment
from trading_bot.cli.records import daemon_pid

if TYPE_CHECKING:
    from trading_bot.domain.journal import Training
    from trading_bot.settings import Settings


@click.command("train-strategies")
@configured(market=True)
@click.option("--until", metavar="TIME", help="Learn from candles up to here only, such as 2024-01-31 (no daemon).")
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=10.0, show_default=True, help="Seconds to wait for the daemon."
)
@json_option
def train_strategies(settings: Settings, until: str | None, timeout: float, as_json: bool) -> None:
    """Train a model of each strategy's signals: how probable it is that taking one pays.

    A better model is promoted and used from the next bar; the others are kept as rejected. A running daemon trains by
    itself (`learning` in the configuration); this asks it to do so now. Without a daemon the training is done here, on
    the candles that the account has seen so far (a real venue's: those stored).

    \b
    Example: trading-bot train-strategies -c config/paper.yaml
    """
    if daemon_pid(settings) is not None:
        if until is not None:
            raise click.UsageError("--until is for a training without a daemon; stop it first")
        answer = tell(settings, "train", timeout)
        if as_json:
            show.print_json({"answer": answer})
        else:
            click.echo(answer)
        return
    from trading_bot.bootstrap import train_strategies as train_here

    told = train_here(settings, None if until is None else moment(until))
    if as_json:
        show.print_json(told)
    else:
        print_trainings(told)


def print_trainings(trainings: Sequence[Training]) -> None:
    """A table, the reasons in words."""
    rows = [
        (each.strategy, show.bar(each.time), each.trigger, each.outcome.replace("_", " "), each.model, each.reason)
        for each in trainings
    ]
    show.table(("strategy", "bar", "trigger", "outcome", "model", "reason"), rows)
