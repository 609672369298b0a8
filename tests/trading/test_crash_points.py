"""Killed at every point where a kill can matter, the bot ends with the ledger it would have had without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import MemoryStore
from tests.trading.stage import HOUR, START, WARMUP, Crash, Fuse, Stage, wander
from trading_bot.domain.account import Trade
from trading_bot.domain.journal import Decision
from trading_bot.domain.orders import Fill, Order
from trading_bot.domain.venue import VenueFill
from trading_bot.ports import Store
from trading_bot.storage.store import open_store

BARS = 80


def stage(store: Store) -> Stage:
    """Two symbols, twenty entries and exits."""
    markets = {s: wander(BARS, seed, s) for seed, s in enumerate(("BTC/USDT", "ETH/USDT"), 1)}
    first = WARMUP + 10
    scripts = {
        "BTC/USDT": {START + (first + 4 * i) * HOUR: 1 if i % 2 == 0 else -1 for i in range(12)},
        "ETH/USDT": {START + (first + 1 + 5 * i) * HOUR: 1 if i % 2 == 0 else -1 for i in range(9)},
    }
    return Stage(markets, scripts, store=store)


def fills_of(made: Stage) -> list[tuple[Any, ...]]:
    """What the venue executed, without the names of the orders."""
    fills: list[VenueFill] = []
    for symbol in made.candles:
        fills += made.venue.fills(symbol)
    return [(f.symbol, f.side, f.price, f.quantity, f.fee, f.time) for f in fills]


def check_same_books(made: Stage) -> None:
    """Venue, orders, fills and trades tell one story."""
    venue = {(f.symbol, str(f.trade_id)): f.quantity for s in made.candles for f in made.venue.fills(s)}
    with made.store.reading() as tx:
        ours = {(f.symbol, f.trade_id): f.quantity for f in tx.find(Fill)}
        orders = tx.find(Order)
        trades = tx.find(Trade, book="account")
    assert ours == venue
    assert sum(o.filled for o in orders) == sum(venue.values())
    assert not [o for o in orders if o.is_live]
    held = {c: b.total for c, b in made.venue.balances().items() if b.total}
    assert {c: total for c, total in made.trader.desk.account.balances.items() if total} == held
    assert len({t.id for t in trades}) == len(trades)
    assert not made.trader.memory.quarantine


def life_with_a_kill(at: int, store: Store) -> Stage:
    made = stage(store)
    fuse = Fuse(at)
    while True:
        try:
            made.live(fuse)
        except Crash:
            fuse = Fuse()
        else:
            return made


@pytest.fixture(scope="module")
def undisturbed() -> tuple[Stage, int]:
    made, fuse = stage(MemoryStore()), Fuse()
    made.live(fuse)
    check_same_books(made)
    assert len(fills_of(made)) >= 15
    return made, fuse.passed


def decisions_of(store: Store) -> list[tuple[Any, ...]]:
    with store.reading() as tx:
        return [(d.symbol, d.time, d.outcome, d.reason, d.score, d.notes, d.model_versions) for d in tx.find(Decision)]


@pytest.mark.slow
def test_every_point_of_a_session_in_memory(undisturbed: tuple[Stage, int]) -> None:
    wanted, points = undisturbed
    assert points >= 300
    for at in range(1, points + 1):
        made = life_with_a_kill(at, MemoryStore())
        check_same_books(made)
        assert fills_of(made) == fills_of(wanted), f"killed at point {at}"
        assert decisions_of(made.store) == decisions_of(wanted.store), f"killed at point {at}"


@pytest.mark.slow
def test_every_seventh_point_on_sqlite(undisturbed: tuple[Stage, int], tmp_path: Path) -> None:
    wanted, points = undisturbed
    for at in range(1, points + 1, 7):
        store = open_store(f"sqlite:///{tmp_path}/{at}.sqlite")
        made = life_with_a_kill(at, store)
        check_same_books(made)
        assert fills_of(made) == fills_of(wanted), f"killed at point {at}"
        store.close()


def test_a_desk_that_records_after_submitting_is_caught(
    undisturbed: tuple[Stage, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness can fail: without the durable intent, kills lose or repeat orders."""
    from trading_bot.trading.order_protocol import OrderDesk

    intend: Callable[..., bool] = OrderDesk.intend
    assert intend is not None
    monkeypatch.setattr(OrderDesk, "intend", lambda self, tx, order: True)
    monkeypatch.setattr(OrderDesk, "_write", lambda self, order: (self._keep(order), order)[1])
    wanted, points = undisturbed
    wrong = 0
    for at in range(1, points + 1, 5):
        try:
            made = life_with_a_kill(at, MemoryStore())
            check_same_books(made)
            wrong += fills_of(made) != fills_of(wanted)
        except (AssertionError, KeyError):
            wrong += 1
    assert wrong > 0
