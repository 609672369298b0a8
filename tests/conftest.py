"""Fixtures every part may ask for."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: threads of processes that share cores wait

from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from tests.databases import PostgresServer, running_postgres, why_no_postgres
from trading_bot import logs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first, so that no core waits for another's at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session", autouse=True)
def quiet_log() -> None:
    """No line on stderr for every event; a test that wants the log adds a sink of its own."""
    logger.remove()


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test registers as a secret is not masked in the words of the next."""
    monkeypatch.setattr(logs, "_secrets", set())


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, one for each test process; the test is skipped where none can be started."""
    if (reason := why_no_postgres()) is not None:
        pytest.skip(reason)
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a new, empty database: each test that asks runs once on either."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/data/trading.sqlite"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database()
    yield url
    server.drop_database(url)
