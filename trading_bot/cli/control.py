"""Verbs `pause`, `resume`, `flatten`, `stop`: wishes that reach the running daemon through its database."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from trading_bot.cli.options import configured
from trading_bot.cli.records import daemon_pid
from trading_bot.errors import CommandTimeout, NotRunning

if TYPE_CHECKING:
    from trading_bot.domain.journal import Command
    from trading_bot.ports import Store
    from trading_bot.settings import Settings

_EVERY = 0.05  # seconds between looks
_timeout = click.option(
    "--timeout", type=click.FloatRange(min=0), default=10.0, show_default=True, help="Seconds to wait for the daemon."
)


@click.command()
@configured()
@_timeout
def pause(settings: Settings, timeout: float) -> None:
    """No new entries until `resume`; open trades are still watched, stops still act.

    \b
    Example: trading-bot pause
    """
    click.echo(tell(settings, "pause", timeout))


@click.command()
@configured()
@_timeout
def resume(settings: Settings, timeout: float) -> None:
    """Enter trades again; also releases the drawdown latch.

    \b
    Example: trading-bot resume
    """
    click.echo(tell(settings, "resume", timeout))


@click.command()
@configured()
@_timeout
def flatten(settings: Settings, timeout: float) -> None:
    """Sell everything at the market, then pause.

    \b
    Example: trading-bot flatten
    """
    click.echo(tell(settings, "flatten", timeout))


@click.command()
@configured()
@_timeout
def stop(settings: Settings, timeout: float) -> None:
    """Stop the daemon cleanly; open trades stay open and are watched again after the next start.

    \b
    Example: trading-bot stop --timeout 20
    """
    deadline = time.monotonic() + timeout
    answer = tell(settings, "stop", timeout)
    while daemon_pid(settings) is not None:
        if time.monotonic() > deadline:
            raise CommandTimeout(f"the daemon took the command but still runs after {timeout:g} s; ask `status` again")
        time.sleep(_EVERY)
    click.echo(answer or "stopped")


def tell(settings: Settings, name: str, timeout: float) -> str:
    """Leave a command for the daemon and wait for its answer.

    Raises
    ------
    NotRunning, CommandTimeout
    """
    from trading_bot.domain.journal import Command
    from trading_bot.storage.store import open_store

    if daemon_pid(settings) is None:
        raise NotRunning(f"no daemon runs on {settings.data_dir}; `trading-bot run` starts one")
    store = open_store(settings.database_url)
    try:
        command = Command(uuid.uuid4().hex, name, datetime.now(UTC))
        with store.transaction() as tx:
            tx.add(command)
        return _answer(store, command, settings, timeout)
    finally:
        store.close()


def _answer(store: Store, command: Command, settings: Settings, timeout: float) -> str:
    deadline = time.monotonic() + timeout
    while True:
        with store.reading() as tx:
            known = tx.get(type(command), command.id)
        if known is not None and known.handled is not None:
            return known.answer
        if time.monotonic() > deadline:
            break
        time.sleep(_EVERY)
    if daemon_pid(settings) is None:
        raise NotRunning(f"the daemon ended before it dealt with {command.name!r}; nothing was changed")
    raise CommandTimeout(
        f"no answer to {command.name!r} within {timeout:g} s; the daemon may still obey it: `trading-bot status` tells"
    )
