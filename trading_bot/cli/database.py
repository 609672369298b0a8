"""Verb `db`: the database's own affairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from trading_bot.cli.options import configured

if TYPE_CHECKING:
    from trading_bot.settings import Settings


@click.group()
def db() -> None:
    """The database's own affairs.

    \b
    Example: trading-bot db upgrade
    """


@db.command()
@configured()
def upgrade(settings: Settings) -> None:
    """Make the tables, or bring them to this program's revision (`run` does so by itself).

    \b
    Example: trading-bot db upgrade --db-url sqlite:///data/trading_bot.sqlite
    """
    from trading_bot.settings import mask_passwords
    from trading_bot.storage.migrations import HEAD
    from trading_bot.storage.store import upgrade as bring_up

    before = bring_up(settings.database_url)
    url = mask_passwords(settings.database_url)
    if before == HEAD:
        click.echo(f"{url} is at revision {HEAD} already")
    else:
        click.echo(f"{url}: {'made' if before is None else f'from revision {before}'}, now at {HEAD}")
