"""Verbs `list-strategies` and `new-strategy`."""

from __future__ import annotations

import keyword
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import click

from trading_bot.cli import show
from trading_bot.cli.options import configured, json_option
from trading_bot.errors import ConfigurationError, StrategyError

if TYPE_CHECKING:
    from trading_bot.settings import Settings

_TEMPLATE = Path(__file__).parent / "templates" / "strategy.py.txt"
_path_option = click.option(
    "--strategy-path", type=click.Path(path_type=Path), help="Folder instead of the configured one."
)


@click.command("list-strategies")
@configured()
@_path_option
@json_option
def list_strategies(settings: Settings, strategy_path: Path | None, as_json: bool) -> None:
    """Strategies that load, and why the others do not; the exit code is 4 if one does not.

    \b
    Example: trading-bot list-strategies --strategy-path strategies
    """
    from trading_bot.trading.strategy import scan_strategies

    folder = strategy_path or settings.strategy_path
    files = scan_strategies(folder)
    if as_json:
        found = [
            {"name": name, "warmup": each.warmup, "affinity": {str(r): w for r, w in each.affinity.items()}}
            for name, each in sorted(files.found.items())
        ]
        show.print_json({"strategies": found, "broken": {str(path): str(why) for path, why in files.broken.items()}})
    elif files.found:
        rows = [
            (name, each.warmup, "  ".join(f"{regime} {weight:g}" for regime, weight in each.affinity.items()))
            for name, each in sorted(files.found.items())
        ]
        show.table(("strategy", "warm-up>", "base weight by regime"), rows)
    else:
        click.echo(f"no strategies in {folder}; `trading-bot new-strategy NAME` writes one to start from")
    if files.broken:
        raise StrategyError("; ".join(str(error) for error in files.broken.values()))


@click.command("new-strategy")
@click.argument("name")
@configured()
@_path_option
def new_strategy(settings: Settings, name: str, strategy_path: Path | None) -> None:
    """Write NAME.py, a small working strategy to change into your own.

    \b
    Example: trading-bot new-strategy my_breakout
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower() or name.startswith("_"):
        raise click.BadParameter(f"found {name!r}, wanted a lower-case word such as my_breakout", param_hint="NAME")
    folder = strategy_path or settings.strategy_path
    path = folder / f"{name}.py"
    class_name = "".join(part.capitalize() for part in name.split("_")) or "Strategy"
    write_new(path, Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(name=name, class_name=class_name))
    click.echo(f"wrote {path}; `trading-bot list-strategies` shows it, `trading-bot backtesting -s {name}` tries it")


def write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet.

    Raises
    ------
    ConfigurationError
        It is there, or cannot be written.
    """
    try:
        if path.exists():
            raise ConfigurationError(f"{path} is there already; choose another name or move it away")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from None
