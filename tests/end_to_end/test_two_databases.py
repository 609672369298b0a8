"""A session whose database is PostgreSQL, killed once on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases import PostgresServer
from tests.end_to_end.daemon import home
from tests.end_to_end.ledgers import story_of
from tests.end_to_end.markets import BUSY_RISK, busy_strategy, write_walks
from trading_bot.bootstrap import run_backtest

pytestmark = pytest.mark.slow


def test_a_session_on_postgresql_survives_a_kill(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.new_database()
    changes = {
        "strategy_path": str(busy_strategy(tmp_path / "strategies")),
        "market": {"candles": write_walks(tmp_path / "candles", 661), "max_bars": 60},
        "risk": BUSY_RISK,
    }
    with home(tmp_path / "postgresql", **changes, db_url=url) as bot:
        life = bot.start()
        bot.wait_for("^fill", 5)
        assert life.running
        life.kill()
        last = bot.run()
        assert last.code == 0, last.said
        books = bot.ledgers()
        books.assert_agree()
        assert not (bot.data / "trading_bot.sqlite").exists()
        assert len(books.story()) > 15
        assert books.story() == story_of(run_backtest(bot.settings()).store)
    postgres.drop_database(url)
