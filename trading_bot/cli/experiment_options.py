"""The options that the verbs of `experiment` share, and what they add up to."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from trading_bot.cli.options import data_option

if TYPE_CHECKING:
    from trading_bot.domain.market import Candles
    from trading_bot.settings import Settings

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Listed(click.Command):
    """Takes `--seeds 1 42 123`, as well as the option again for each, and `--batch_size` for `--batch-size`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        lists = {name for each in self.params if each.name in ("seeds", "arms", "combinations") for name in each.opts}
        spread: list[str] = []
        option, alone = "", False
        for word in map(_dashed, args):
            if alone and word.startswith("-"):
                spread.append(option)  # without a value: click says so
            if word in lists:
                option, alone = word, True
            elif option and not word.startswith("-"):
                spread, alone = [*spread, option, word], False
            else:
                spread, option, alone = [*spread, word], "", False
        return super().parse_args(ctx, [*spread, option] if alone else spread)


def _dashed(word: str) -> str:
    name, equals, value = word.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}" if word.startswith("--") else word


def several(*options: Decorator) -> Decorator:
    """These options, in this order."""

    def decorate(verb: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            verb = option(verb)
        return verb

    return decorate


def whole(*names: str, default: int, least: int = 1, words: str) -> Decorator:
    """An option that is a whole number."""
    return click.option(*names, type=click.IntRange(min=least), default=default, show_default=True, help=words)


def seeds_option(*default: int) -> Decorator:
    """`--seeds`, with these if none are given."""
    return click.option(
        "--seeds", multiple=True, type=click.IntRange(min=0), default=default, show_default=True, metavar="SEED …",
        help="One or several: --seeds 1 42 123.",
    )  # fmt: skip


def task_options(epochs: int) -> Decorator:
    """What is learned, and for how long."""
    return several(
        click.option("--task", type=click.Choice(["market", "cifar10"]), default="market", show_default=True,
                     help="Forecast returns, or tell images apart."),
        data_option,
        HORIZON,
        whole("--subset", default=5_000, least=2, words="Images of CIFAR-10 to train on and choose by."),
        whole("--epochs", default=epochs, words="Epochs of each run."),
        whole("--batch-size", default=128, least=2, words="Rows a step."),
        whole("--batches", default=25, words="Batches an epoch, of the market."),
        click.option("--lr", "--learning-rate", "learning_rate", metavar="RATE",
                     type=click.FloatRange(min=0, min_open=True),
                     help="Learning rate. [default: 0.0001 of the market, 0.001 of the images]"),
        whole("--calibration", default=50, words="Steps of equal weights first, for the scales."),
        whole("--frequency", default=50, words="Steps between decisions of a monitor."),
        click.option("--monitor", type=_FILE, metavar="FILE", help="A loss monitor. [default: the shipped one]"),
        click.option("--controller", type=_FILE, metavar="FILE", help="A controller. [default: the shipped one]"),
    )  # fmt: skip


_FILE = click.Path(path_type=Path)
HORIZON = whole("--horizon", default=12, words="Bars ahead.")
BUDGET_OPTIONS = several(
    data_option,
    HORIZON,
    whole("--folds", default=5, words="Walk-forward folds."),
    whole("--epochs", default=12, words="Epochs of a fit."),
    whole("--batches", default=25, words="Batches an epoch."),
    whole("--batch-size", default=64, least=8, words="Rows a step."),
    click.option("--output", type=click.Path(path_type=Path), default=Path("docs/evidence"), show_default=True,
                 help="Folder of the page."),
)  # fmt: skip


@contextmanager
def quietly() -> Iterator[None]:
    """Without a warning for each of hundreds of fits: what matters of them is told at the end."""
    from loguru import logger

    logger.disable("trading_bot.training")
    try:
        yield
    finally:
        logger.enable("trading_bot.training")


def candles_of(settings: Settings, name: str | None) -> tuple[Candles, str, str]:
    """The candles, what they are in words, and the SHA-256 of their file or, of a pair, of their numbers."""
    from trading_bot.cli.train import first_pair, training_candles

    name = name or first_pair(settings)
    candles = training_candles(settings, name)
    path = Path(name)
    content = path.read_bytes() if path.is_file() else candles.time.tobytes() + candles.close.tobytes()
    days = [str(candles.time[row].astype("datetime64[ms]"))[:10] for row in (0, -1)]
    words = f"{len(candles):,} candles of {candles.symbol} {candles.timeframe}, {days[0]} to {days[1]}"
    return candles, words, hashlib.sha256(content).hexdigest()


def command_line(verb: str, data: str | None, seeds: Sequence[int]) -> str:
    """How the page is had again, without the places of this machine; what was left at its default is left out."""
    ctx = click.get_current_context()
    name_of = Path(data).name if data and Path(data).is_file() else data
    words = ["trading-bot", "experiment", verb, *(["--data", name_of] if name_of else [])]
    for each in ctx.command.params:
        name = each.name or ""
        if name in ("data", "seeds", "output", "folder", "work", "page_only", "as_json", "config", "db_url", "verbose"):
            continue
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            value = ctx.params[name]
            value = value.name if isinstance(value, Path) and value.is_absolute() else value
            words += [each.opts[0], *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return shlex.join([*words, "--seeds", *map(str, seeds)])
