"""Bring a database's tables to the newest revision. Imports alembic: imported itself only where there is work to do."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

MIGRATIONS = Path(__file__).parent / "migrations"


def alembic_config(connection: Connection) -> Config:
    """Alembic's settings, without a file; `connection` is the one to work on."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def to_head(connection: Connection) -> None:
    """Run what is missing, inside the transaction `connection` has begun: all of it is kept or nothing."""
    command.upgrade(alembic_config(connection), "head")
