"""Verb `reset`: a new paper account; the old one is put aside, nothing is deleted."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trading_bot.cli.options import configured
from trading_bot.errors import AlreadyRunning, ConfigurationError, StorageError

if TYPE_CHECKING:
    from trading_bot.settings import Settings

_PATIENCE = 10.0  # seconds for a left-over local exchange to end


@click.command()
@configured()
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(settings: Settings, yes: bool) -> None:
    """Begin a new paper account: the database and the local exchange's state move to DATA_DIR/old-DATE.

    \b
    Example: trading-bot reset --yes
    """
    from trading_bot.storage.lock import DataLock

    parts = _parts(settings)
    if not parts:
        click.echo(f"nothing to put aside in {settings.data_dir}: the next `trading-bot run` opens a new account")
        return
    aside = settings.data_dir / f"old-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    if not yes:
        click.confirm(f"Put the account in {settings.data_dir} aside in {aside} and begin a new one?", abort=True)
    with DataLock(settings.data_dir, run_id="reset", db_url=settings.db_url):
        _end_exchange(settings)
        try:
            aside.mkdir()
            for part in _parts(settings):
                part.rename(aside / part.name)
        except OSError as error:
            raise StorageError(f"cannot move {error.filename} to {aside}: {error.strerror}") from error
    click.echo(f"the old account is kept in {aside}; the next `trading-bot run` opens a new one")


def _parts(settings: Settings) -> list[Path]:
    """What makes up the account on disk.

    Raises
    ------
    ConfigurationError
        The account is not on paper, or its database is not a file of ours.
    """
    from sqlalchemy.engine import make_url

    if settings.mode not in ("paper", "paper-venue"):
        raise ConfigurationError(
            f"reset begins a new paper account, but orders of this configuration go to {settings.exchange.name}; "
            "its account can only be left, with another data_dir"
        )
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite":
        raise ConfigurationError(
            "reset moves a SQLite file aside; with PostgreSQL name a new database in db_url instead"
        )
    database = Path(url.database or "")
    candidates = [database, *(database.with_name(f"{database.name}{end}") for end in ("-wal", "-shm", "-journal"))]
    return [path for path in (*candidates, settings.data_dir / "exchange") if path.exists()]


def _end_exchange(settings: Settings) -> None:
    """Stop a local exchange that outlived a killed bot: its state is about to be moved."""
    from trading_bot.bootstrap import exchange_state
    from trading_bot.exchange.local_control import LocalControl
    from trading_bot.exchange.simulator.server import find_server

    state = exchange_state(settings)
    server = find_server(state)
    if server is None:
        return
    control = LocalControl(server.url)
    try:
        control.post("stop")
    finally:
        control.close()
    deadline = time.monotonic() + _PATIENCE
    while find_server(state) is not None:
        if time.monotonic() > deadline:
            raise AlreadyRunning(f"the local exchange (pid {server.pid}) does not end; stop it, then reset again")
        time.sleep(0.05)
