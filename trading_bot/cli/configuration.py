"""Verbs `show-config` and `new-config`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trading_bot.cli import show
from trading_bot.cli.options import configured, json_option, verbose_option
from trading_bot.cli.strategies import write_new

if TYPE_CHECKING:
    from trading_bot.settings import Settings

TEMPLATE = Path(__file__).parent / "templates" / "default.yaml"


@click.command("show-config")
@configured(market=True)
@click.option("--schema", is_flag=True, help="The JSON schema of a configuration file instead.")
@json_option
def show_config(settings: Settings, schema: bool, as_json: bool) -> None:
    """The configuration in force (files, environment and flags merged), secrets masked.

    \b
    Example: trading-bot show-config -c config/paper.yaml --json
    """
    import yaml

    from trading_bot.settings import redacted
    from trading_bot.settings import schema as json_schema

    if schema:
        show.print_json(json_schema())
    elif as_json:
        show.print_json(redacted(settings))
    else:
        click.echo(yaml.safe_dump(redacted(settings), sort_keys=False, allow_unicode=True), nl=False)


@click.command("new-config")
@click.argument("path", type=click.Path(path_type=Path), default=Path("config.yaml"))
@verbose_option
def new_config(path: Path) -> None:
    """Write a configuration file with every key, its default and what it does.

    \b
    Example: trading-bot new-config config/mine.yaml
    """
    write_new(path, TEMPLATE.read_text(encoding="utf-8"))
    click.echo(f"wrote {path}; `trading-bot run -c {path}` uses it")
