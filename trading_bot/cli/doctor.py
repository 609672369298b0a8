"""Verb `doctor`: everything the bot needs, each in one line, with what to do where something is missing."""

from __future__ import annotations

import importlib.metadata
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trading_bot.cli import show
from trading_bot.cli.options import DEFAULT_CONFIG, json_option, settings_of, verbose_option
from trading_bot.errors import TradingBotError

if TYPE_CHECKING:
    from trading_bot.settings import Settings

Check = Callable[["Settings"], str]
_PACKAGES = (
    "numpy",
    "pandas",
    "ccxt",
    "APScheduler",
    "SQLAlchemy",
    "alembic",
    "loguru",
    "TA-Lib",
    "pyarrow",
    "uvicorn",
)


@click.command()
@click.option("-c", "--config", multiple=True, type=click.Path(path_type=Path), metavar="FILE", help="As for `run`.")
@click.option("--db-url", metavar="URL", help="Database instead of the configured one.")
@verbose_option
@json_option
def doctor(config: tuple[Path, ...], db_url: str | None, as_json: bool) -> None:
    """Check Python, packages, configuration, strategies, folders, database, log, port and candles.

    The exit code is 1 if there is a problem.

    \b
    Example: trading-bot doctor -c config/paper.yaml
    """
    findings = list(_examine(config, db_url))
    if as_json:
        show.print_json([{"check": name, "ok": ok, "found": found} for name, ok, found in findings])
    else:
        for name, ok, found in findings:
            mark = click.style("ok     ", fg="green") if ok else click.style("problem", fg="red")
            click.echo(f"{mark}  {name:<14}{found}")
    if not all(ok for _, ok, _ in findings):
        click.get_current_context().exit(1)


def _examine(config: tuple[Path, ...], db_url: str | None) -> Iterator[tuple[str, bool, str]]:
    yield _try("python", _python)
    yield _try("packages", _packages)
    try:
        settings = settings_of(config, {"db_url": db_url})
    except TradingBotError as error:
        yield "configuration", False, str(error)
        return
    source = ", ".join(map(str, config)) or (str(DEFAULT_CONFIG) if DEFAULT_CONFIG.exists() else "built-in defaults")
    yield "configuration", True, f"{source}; mode {settings.mode}"
    checks: dict[str, Check] = {
        "credentials": _credentials,
        "strategies": _strategies,
        "data folder": lambda s: _writable(s.data_dir),
        "database": _database,
        "log": lambda s: _writable(s.logfile.parent, s.logfile),
        "local port": _port,
        "candles": _candles,
    }
    for name, check in checks.items():
        yield _try(name, lambda check=check: check(settings))  # type: ignore[misc]


def _try(name: str, check: Callable[[], str]) -> tuple[str, bool, str]:
    from trading_bot.logs import redact

    try:
        return name, True, redact(check())
    except TradingBotError as error:
        return name, False, redact(str(error))
    except Exception as error:
        return name, False, redact(f"{type(error).__name__}: {error}")


def _python() -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 11):  # noqa: UP036 - that is what is checked here
        raise TradingBotError(f"found Python {version}, wanted 3.11 or newer; install one and make a new environment")
    return version


def _packages() -> str:
    missing = []
    for package in _PACKAGES:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        raise TradingBotError(
            f"not installed: {', '.join(missing)}; `pip install -c constraints.txt -e .` in this folder"
        )
    return f"{len(_PACKAGES)} of {len(_PACKAGES)} installed"


def _credentials(settings: Settings) -> str:
    from trading_bot.exchange.config import LOCAL
    from trading_bot.settings import check_credentials

    check_credentials(settings)
    paper = settings.exchange.name == LOCAL or settings.exchange.orders == "paper"
    return "none needed" if paper else "given"


def _strategies(settings: Settings) -> str:
    from trading_bot.bootstrap.selectors import promoted_selectors
    from trading_bot.bootstrap.strategies import choose

    rules, networks = choose(settings)
    names = [*(rule.name for rule in rules), *(version.strategy for version in networks)]
    selectors = [version.strategy for version in promoted_selectors(settings)]
    weighed = f"; weighed by {', '.join(selectors)}" if selectors else ""
    return ", ".join(names) + weighed


def _writable(folder: Path, file: Path | None = None) -> str:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if file is not None and file.exists():
            with file.open("a"):
                pass
    except OSError as error:
        raise TradingBotError(f"cannot write {file or folder}: {error.strerror}; mend its permissions") from error
    return f"{file or folder} can be written"


def _database(settings: Settings) -> str:
    from trading_bot.errors import NoDatabase
    from trading_bot.settings import mask_passwords
    from trading_bot.storage.store import open_readonly

    url = mask_passwords(settings.database_url)
    try:
        open_readonly(settings.database_url).close()
    except NoDatabase:
        return f"{url}: none yet; `trading-bot run` makes it"
    return f"{url} opens"


def _port(settings: Settings) -> str:
    from trading_bot.cli.records import daemon_pid

    port = settings.market.port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if daemon_pid(settings) is not None:
                return f"{port}: in use, a daemon runs"
            raise TradingBotError(f"port {port}: {error.strerror}; set market.port to 0 for any free one") from error
    return f"{port}: free" if port else "any free one"


def _candles(settings: Settings) -> str:
    from trading_bot.exchange.config import LOCAL

    if settings.exchange.name != LOCAL:
        return f"from {settings.exchange.name}, {settings.timeframe}"
    given: Any = settings.market.candles
    if given == "synthetic":
        return f"synthetic, {settings.synthetic.timeframe}, {', '.join(settings.synthetic.symbols)}"
    from trading_bot.market_data.file_candles import FileCandles

    files = FileCandles([Path(path) for path in ([given] if isinstance(given, str) else given)])
    return files.describe()
