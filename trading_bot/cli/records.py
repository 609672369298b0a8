"""Where reading verbs get their records, and whether a daemon is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trading_bot.ports import Tx
    from trading_bot.settings import Settings


@contextmanager
def records(settings: Settings) -> Iterator[Tx]:
    """A read-only view of the bot's database.

    Raises
    ------
    StorageError
        If it cannot be read (`NoDatabase`: there is none yet).
    """
    from trading_bot.storage.store import open_readonly

    store = open_readonly(settings.database_url)
    try:
        with store.reading() as tx:
            yield tx
    finally:
        store.close()


def daemon_pid(settings: Settings) -> int | None:
    """Process id of the daemon that holds this data directory, None if there is none."""
    from trading_bot.storage.lock import holder

    found = holder(settings.data_dir)
    return None if found is None else found.pid
