"""The flags verbs share, and the settings they add up to."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trading_bot.cli.main import VERBOSE

if TYPE_CHECKING:
    from trading_bot.settings import Settings

DEFAULT_CONFIG = Path("config/paper.yaml")
Verb = Callable[..., Any]


def _remember_verbosity(ctx: click.Context, _: click.Parameter, value: int) -> int:
    ctx.meta[VERBOSE] = max(value, ctx.meta.get(VERBOSE, 0))
    return value


verbose_option = click.option(
    "-v", "--verbose", count=True, expose_value=False, callback=_remember_verbosity,
    help="More on the console; -vv shows where an error came from.",
)  # fmt: skip
data_option = click.option(
    "--data", metavar="FILE|PAIR", help="Candle file or pair. [default: the first pair configured]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
last_option = click.option(
    "--last", type=click.IntRange(min=0), default=20, show_default=True, help="How many; 0: all."
)

_CONFIG = (
    click.option(
        "-c", "--config", "config", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
        help="Configuration file; repeatable, later ones win. [default: config/paper.yaml if there, else built in]",
    ),
    click.option("--db-url", metavar="URL", help="Database instead of the configured one."),
    verbose_option,
)  # fmt: skip
_MARKET = (
    click.option("-s", "--strategy", multiple=True, metavar="NAME", help="Only these strategies; repeatable."),
    click.option("-i", "--timeframe", metavar="TIMEFRAME", help="Candle length, such as 1h."),
    click.option("-p", "--pairs", multiple=True, metavar="PAIRS", help="Only these pairs: BTC/USDT,ETH/USDT."),
    click.option("--strategy-path", metavar="FOLDER", help="Where strategies are looked for."),
    click.option("--fee", metavar="RATIO", help="Fee of the paper account, such as 0.001."),
    click.option("--logfile", metavar="FILE", help="Log file instead of the configured one."),
)


def configured(*, market: bool = False) -> Callable[[Verb], click.Command | Verb]:
    """Give a verb `-c`, `--db-url` and `-v` (with `market` also what to trade) and call it with the settings first."""

    def decorate(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def call(config: tuple[Path, ...], db_url: str | None, **given: Any) -> Any:
            flags = {name: given.pop(name) for name in _MARKET_NAMES} if market else {}
            return verb(settings_of(config, {**flags, "db_url": db_url}), **given)

        decorated: Verb = call
        for option in reversed((*_CONFIG, *(_MARKET if market else ()))):
            decorated = option(decorated)
        return decorated

    return decorate


_MARKET_NAMES = ("strategy", "timeframe", "pairs", "strategy_path", "fee", "logfile")


def settings_of(config: tuple[Path, ...], flags: Mapping[str, Any]) -> Settings:
    """The settings of these files (or the default one) with the command line's flags on top.

    Raises
    ------
    ConfigurationError
    """
    from trading_bot.logs import console_only
    from trading_bot.settings import load_settings

    console_only()
    paths = config or ((DEFAULT_CONFIG,) if DEFAULT_CONFIG.exists() else ())
    return load_settings(paths, _overrides(flags))


def _overrides(flags: Mapping[str, Any]) -> dict[str, Any]:
    simple = ("timeframe", "strategy_path", "db_url", "logfile")
    overrides: dict[str, Any] = {name: flags[name] for name in simple if flags.get(name) is not None}
    if flags.get("strategy"):
        overrides["strategies"] = separated(flags["strategy"])
    if flags.get("pairs"):
        overrides["exchange"] = {"pair_whitelist": symbols(flags["pairs"])}
    if flags.get("fee") is not None:
        overrides["paper"] = {"maker_fee": flags["fee"], "taker_fee": flags["fee"]}
    return overrides


def separated(values: tuple[str, ...]) -> list[str]:
    """Words given by repeating an option or separated by commas or blanks, each once."""
    return list(dict.fromkeys(word for value in values for word in re.split(r"[,\s]+", value) if word))


def symbols(values: tuple[str, ...]) -> list[str]:
    """Symbols, in the upper case they have everywhere."""
    return [word.upper() for word in separated(values)]


def moment(text: str) -> int:
    """UTC milliseconds of `2024-01-31`, `2024-01-31 14:00` (or with T), `20240131` or milliseconds themselves."""
    text = text.strip()
    if re.fullmatch(r"\d{12,14}", text):
        return int(text)
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"found {text!r}, wanted a time such as '2024-01-31 14:00' (UTC)") from None
    return round((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() * 1000)


def timerange(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int | None, int | None]:
    """`20240101-20240301` as UTC milliseconds from (inclusive) and to (exclusive); either end may be left out."""
    if value is None:
        return None, None
    match = re.fullmatch(r"(\d{8}|\d{13})?-(\d{8}|\d{13})?", value)
    if match is None or not any(match.groups()):
        raise click.BadParameter(f"found {value!r}, wanted such as 20240101-20240301, 20240101- or -20240301")
    start, end = (moment(part) if part else None for part in match.groups())
    if start is not None and end is not None and start >= end:
        raise click.BadParameter(f"found {value!r}, wanted an end after its beginning")
    return start, end


timerange_option = click.option(
    "--timerange", callback=timerange, metavar="FROM-TO", help="Such as 20240101-20240301; UTC, the end not included."
)
