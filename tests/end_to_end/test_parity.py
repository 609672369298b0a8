"""The same candles give the same decisions and fills wherever orders are matched: bit for bit.

Three ways: at the local exchange over HTTP, at the paper venue inside the daemon, and in a backtest. And twice the same
way in two processes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.daemon import Home, home
from tests.end_to_end.ledgers import Row, decisions_of, fills_of
from tests.end_to_end.markets import BUSY_RISK, busy_strategy, write_walks
from trading_bot.bootstrap import run_backtest

pytestmark = pytest.mark.slow


def _run(bot: Home) -> tuple[list[Row], list[Row]]:
    """A session to the end of its candles: its decisions and fills."""
    finished = bot.run()
    assert finished.code == 0, finished.said
    with bot.store() as store:
        return decisions_of(store), fills_of(store)


def _differences(name: str, ours: list[Row], theirs: list[Row]) -> str:
    """The first few rows that differ, for the message of a failed test."""
    mine, others = set(ours), set(theirs)
    rows = [("only left", row) for row in ours if row not in others] + [
        ("only right", row) for row in theirs if row not in mine
    ]
    first = sorted(rows, key=lambda item: repr(item[1][:2]))[:4]
    return f"{name}: {len(rows)} rows differ; {first}"


SESSIONS: dict[str, dict[str, Any]] = {
    "six strategies, market orders": {"market": {"max_bars": 300}, "synthetic": {"seed": 7, "bars": 910}},
    "orders at every other bar, filled in parts": {"volume": 20.0},
    "limit orders that wait, fill in parts or time out": {
        "volume": 60.0,
        "order_types": {"entry": "limit", "exit": "limit"},
        "unfilledtimeout": {"entry": 60, "exit": 60},
    },
    "weights by what shadow books earned": {
        "market": {"max_bars": 60},
        "synthetic": {"seed": 3, "bars": 670},
        "ensemble": {"method": "hedge", "hedge_rate": 0.5, "threshold": 0.0},
        "risk": BUSY_RISK,
    },
}


def _configuration(folder: Path, changes: dict[str, Any]) -> dict[str, Any]:
    if "volume" not in changes:
        return changes
    candles = write_walks(folder / "candles", 661, changes["volume"])
    given = {
        "strategy_path": str(busy_strategy(folder / "strategies")),
        "market": {"candles": candles, "max_bars": 60},
        "risk": BUSY_RISK,
    }
    return given | {key: value for key, value in changes.items() if key != "volume"}


@pytest.mark.parametrize("session", list(SESSIONS), ids=["market", "partial", "limit", "hedge"])
def test_exchange_paper_venue_and_backtest_agree(session: str, tmp_path: Path) -> None:
    changes = _configuration(tmp_path, SESSIONS[session])
    with home(tmp_path / "exchange", **changes) as bot:
        decisions, fills = _run(bot)
        result = run_backtest(bot.settings())
        backtest = decisions_of(result.store), fills_of(result.store)
    with home(tmp_path / "paper", **changes, exchange={"orders": "paper"}) as bot:
        paper = _run(bot)
    assert len(decisions) == 3 * (changes["market"]["max_bars"] + 1)
    assert len(fills) >= 20
    assert len({row[2] for row in decisions}) >= 2, "too few regimes for a comparison"
    if "volume" in SESSIONS[session]:  # the strategy that answers as one with a model
        assert {row[9] for row in decisions} == {(("busy", "busy-1"),)}
        assert len({row[10] for row in decisions}) > 50, "too few notes for a comparison"
    for name, (theirs, filled) in {"paper venue": paper, "backtest": backtest}.items():
        assert theirs == decisions, _differences(f"decisions of the {name}", decisions, theirs)
        assert filled == fills, _differences(f"fills of the {name}", fills, filled)


def test_the_same_seed_and_configuration_make_the_same_decisions_in_two_processes(tmp_path: Path) -> None:
    """Whatever the order of hashing, which differs from process to process."""
    digests = []
    for name in ("one", "other"):
        with home(tmp_path / name, market={"max_bars": 30}, synthetic={"seed": 7, "bars": 640}) as bot:
            rows = _run(bot)
            digests.append(hashlib.sha256(repr(rows).encode()).hexdigest())
            assert rows[0]
    assert digests[0] == digests[1]
