"""Orders at a venue that cannot be trusted: none sent twice, every fill booked once, whatever is answered and lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.trading.mutants import MUTANTS, Patch
from tests.trading.stage import instrument
from tests.trading.turmoil import PATIENCE, SYMBOLS, Turmoil
from tests.trading.unruly import Mood, UnrulyVenue
from trading_bot.domain.orders import (
    Accepted,
    Fill,
    Order,
    OrderReport,
    OrderStatus,
    OrderType,
    Purpose,
    Rejected,
    Side,
    SubmitOutcome,
    Unclear,
)
from trading_bot.errors import ExchangeDenied, ExchangeError, ExchangeThrottled, ExchangeUnreachable, InvalidTransition

DEDUP = ("global", "open", "none")
BTC, ETH = SYMBOLS

# ── random lives ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dedup", DEDUP)
def test_random_lives_at_an_unruly_venue(dedup: str) -> None:
    faults = crashes = fills = 0
    for seed in range(30):
        life = Turmoil(seed, dedup)
        life.run(80)
        faults, crashes, fills = faults + life.venue.faults, crashes + life.crashes, fills + len(life.venue.executed)
    assert (faults, crashes, fills) > (1_000, 200, 300), "too quiet to prove anything"


@pytest.mark.slow
@pytest.mark.parametrize("dedup", DEDUP)
def test_many_random_lives(dedup: str) -> None:
    for seed in range(1_000, 1_150):
        Turmoil(seed, dedup).run(120)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
@pytest.mark.parametrize("dedup", DEDUP)
def test_a_desk_with_a_mistake_is_caught(mutant: Patch, dedup: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    for seed in range(100):
        try:
            Turmoil(seed, dedup).run(80)
        except (AssertionError, InvalidTransition, ExchangeError):
            return
    pytest.fail(f"{mutant.__name__} lived 100 times undetected")


class DeskMachine(RuleBasedStateMachine):
    """Hypothesis chooses what happens next, and shrinks what goes wrong."""

    life: Turmoil

    @initialize(seed=st.integers(0, 2**16), dedup=st.sampled_from(DEDUP))
    def start(self, seed: int, dedup: str) -> None:
        self.life = Turmoil(seed, dedup)

    @rule(symbol=st.sampled_from(SYMBOLS))
    def enter(self, symbol: str) -> None:
        self._do(lambda: self.life.enter(symbol))

    @rule(symbol=st.sampled_from(SYMBOLS), purpose=st.sampled_from((Purpose.EXIT, Purpose.STOP, Purpose.FLATTEN)))
    def leave(self, symbol: str, purpose: Purpose) -> None:
        self._do(lambda: self.life.leave(symbol, purpose))

    @rule()
    def tick(self) -> None:
        self._do(self.life.tick)

    @rule()
    def sync(self) -> None:
        self._do(self.life.trader.desk.sync)

    @rule()
    def cancel(self) -> None:
        self._do(self.life.cancel)

    @rule()
    def watch(self) -> None:
        self._do(self.life.trader.desk.watch_abandoned)

    @rule()
    def crash(self) -> None:
        self._do(self.life.crash)

    @rule(after=st.integers(1, 6))
    def crash_inside_the_next_step(self, after: int) -> None:
        self.life.fuse.at = self.life.fuse.passed + after

    @rule(lost=st.sampled_from((0.0, 0.5, 1.0)), unanswered=st.sampled_from((0.0, 0.5, 1.0)))
    def answers(self, lost: float, unanswered: float) -> None:
        self.life.venue.mood.lost, self.life.venue.mood.unanswered = lost, unanswered

    @rule(down=st.sampled_from((0.0, 0.3)), late=st.sampled_from((0.0, 0.5)), at_once=st.sampled_from((0.0, 0.4, 1.0)))
    def moods(self, down: float, late: float, at_once: float) -> None:
        mood = self.life.venue.mood
        mood.down, mood.late_fills, mood.at_once = down, late, at_once

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "life"):
            self.life.check()

    def teardown(self) -> None:
        if hasattr(self, "life"):
            self.life.settle()

    def _do(self, action: Callable[[], object]) -> None:
        self.life.wait(1)
        self.life.survive(action)


DeskMachine.TestCase.settings = settings(
    max_examples=250, stateful_step_count=50, deadline=None, derandomize=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
TestDesk = DeskMachine.TestCase

# ── one unclear answer at a time ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def life() -> Turmoil:
    """A venue that behaves until it is told not to."""
    made = Turmoil(1, "open")
    made.venue.mood = Mood()
    return made


def status(life: Turmoil, purpose: Purpose = Purpose.ENTRY) -> OrderStatus:
    with life.store.reading() as tx:
        orders = [o for o in tx.find(Order) if o.purpose is purpose]
    return orders[-1].status


def taken_in_silence(life: Turmoil, at_once: float = 1.0) -> None:
    life.venue.mood = Mood(unanswered=1.0, at_once=at_once)


@pytest.mark.parametrize("hidden", [0.0, 5.0])
def test_an_order_that_arrived_in_silence_is_found(life: Turmoil, hidden: float) -> None:
    life.venue.mood = Mood(unanswered=1.0, hidden=hidden)
    life.enter(BTC)
    assert status(life) is (OrderStatus.FILLED if not hidden else OrderStatus.UNKNOWN)
    life.wait(5)
    life.trader.desk.sync()
    assert status(life) is OrderStatus.FILLED
    assert life.trader.desk.account.position(BTC).quantity > 0
    life.check()


def test_an_order_that_was_lost_is_given_up_only_after_looks_and_time(life: Turmoil) -> None:
    life.venue.mood = Mood(lost=1.0)
    life.enter(BTC)
    desk = life.trader.desk
    for _ in range(10):  # looks enough, but no time has passed
        desk.sync()
    assert status(life) is OrderStatus.UNKNOWN
    life.wait(PATIENCE.seconds - 1)
    desk.sync()
    assert status(life) is OrderStatus.UNKNOWN
    life.wait(1)
    desk.sync()
    assert status(life) is OrderStatus.ABANDONED
    assert life.venue.submits.total() == 1


def test_time_alone_is_not_enough_and_failed_looks_do_not_count(life: Turmoil) -> None:
    life.venue.mood = Mood(lost=1.0, down=1.0)
    life.enter(BTC)
    life.wait(10 * PATIENCE.seconds)
    for _ in range(20):
        life.trader.desk.sync()
    assert status(life) is OrderStatus.UNKNOWN
    life.venue.mood = Mood()
    for _ in range(PATIENCE.lookups - 1):
        life.trader.desk.sync()
        assert status(life) is OrderStatus.UNKNOWN
    life.trader.desk.sync()
    assert status(life) is OrderStatus.ABANDONED


def test_an_unknown_order_holds_its_own_symbol_only(life: Turmoil) -> None:
    life.venue.mood = Mood(lost=1.0)
    life.enter(BTC)
    life.venue.mood = Mood()
    life.enter(ETH)
    blocking = life.trader.desk.blocked(BTC)
    assert blocking is not None
    assert life.trader.desk.blocked(ETH) is None
    assert life.trader.standing(0).obstacles == {BTC: f"order {blocking.client_order_id} is unknown: looking it up"}
    assert life.trader.desk.account.position(ETH).quantity > 0


def test_an_abandoned_order_that_turns_up_is_booked(life: Turmoil) -> None:
    life.venue.mood = Mood(unanswered=1.0, hidden=600.0)
    life.enter(BTC)
    life.wait(30)
    for _ in range(PATIENCE.lookups):
        life.venue.look = lambda cid: None
        life.venue.executed, kept = [], life.venue.executed  # its executions do not show either
        life.trader.desk.sync()
        life.venue.executed = kept
    life.venue.look = None
    assert status(life) is OrderStatus.ABANDONED
    life.wait(600)
    life.trader.desk.watch_abandoned()
    assert status(life) is OrderStatus.FILLED
    assert BTC in life.trader.desk.account.trades
    life.check()


def test_not_found_is_not_believed_while_executions_are_listed(life: Turmoil) -> None:
    taken_in_silence(life)
    life.venue.look = lambda cid: None
    fills = life.venue.fills
    life.venue.fills = lambda symbol, since: [  # type: ignore[method-assign]
        Fill(
            **{**{n: getattr(f, n) for n in f.__slots__}, "client_order_id": life.venue.placed[0].order.client_order_id}
        )
        for f in fills(symbol, since)
    ]
    life.enter(BTC)
    life.wait(100)
    for _ in range(10):
        life.trader.desk.sync()
    assert status(life) is OrderStatus.UNKNOWN
    life.venue.look = None
    life.trader.desk.sync()
    assert status(life) is OrderStatus.FILLED


def test_a_rejection_is_final(life: Turmoil) -> None:
    life.venue.outcome = lambda order: Rejected("-2010", "Account has insufficient balance for requested action.")
    life.enter(BTC)
    for _ in range(3):
        life.wait(30)
        life.trader.desk.sync()
        life.trader.desk.watch_abandoned()
    assert status(life) is OrderStatus.REJECTED
    assert life.venue.submits.total() == 1
    assert not life.trader.desk.blocked(BTC)


def test_a_refused_key_is_more_than_a_rejection(life: Turmoil) -> None:
    life.venue.outcome = lambda order: Rejected("-2015", "Invalid API-key, IP, or permissions.", denied=True)
    with pytest.raises(ExchangeDenied, match="-2015"):
        life.enter(BTC)
    assert status(life) is OrderStatus.REJECTED
    life.venue.outcome = None
    life.venue.look = _raise(ExchangeDenied("key revoked"))
    life.venue.mood = Mood(unanswered=1.0)
    with pytest.raises(ExchangeDenied):
        life.enter(ETH)
    assert status(life) is OrderStatus.UNKNOWN


@pytest.mark.parametrize("error", [ExchangeUnreachable("no"), ExchangeError("garbage"), ExchangeThrottled("slow", 3)])
def test_a_look_up_that_fails_says_nothing(life: Turmoil, error: Exception) -> None:
    taken_in_silence(life)
    life.venue.look = _raise(error)
    life.enter(BTC)
    life.wait(1000)
    for _ in range(10):
        life.trader.desk.sync()
    assert status(life) is OrderStatus.UNKNOWN
    life.venue.look = None
    life.trader.desk.sync()
    assert status(life) is OrderStatus.FILLED


def test_an_accepted_order_whose_fills_cannot_be_read_is_booked_later(life: Turmoil) -> None:
    asked = life.venue.fills

    def no_fills(symbol: str, since: int) -> Any:
        raise ExchangeUnreachable("no answer")

    life.venue.fills = no_fills  # type: ignore[method-assign]

    def without_fills(order: Order) -> SubmitOutcome:
        outcome = life.venue.take(order)
        assert isinstance(outcome, Accepted)
        return Accepted(outcome.report)

    life.venue.outcome = without_fills
    life.enter(BTC)
    assert life.trader.desk.blocked(BTC) is not None
    life.venue.fills = asked  # type: ignore[method-assign]
    life.trader.desk.sync()
    assert status(life) is OrderStatus.FILLED
    life.check()


@pytest.mark.parametrize("before", [OrderStatus.OPEN, OrderStatus.ABANDONED])
def test_a_venue_that_refuses_afterwards(life: Turmoil, before: OrderStatus) -> None:
    life.venue.mood = Mood(at_once=0.0) if before is OrderStatus.OPEN else Mood(lost=1.0)
    life.enter(BTC)
    if before is OrderStatus.ABANDONED:
        life.wait(30)
        for _ in range(PATIENCE.lookups):
            life.trader.desk.sync()
    assert status(life) is before
    with life.store.reading() as tx:
        order = tx.find(Order)[0]
    life.venue.look = lambda cid: OrderReport(
        cid, "1", BTC, Side.BUY, OrderStatus.REJECTED, order.quantity, Decimal(0), Decimal(0)
    )
    life.trader.desk.sync()
    life.trader.desk.watch_abandoned()
    assert status(life) is (OrderStatus.EXPIRED if before is OrderStatus.OPEN else OrderStatus.ABANDONED)


# ── exits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_second_exit_while_the_first_is_unclear(life: Turmoil) -> None:
    life.enter(BTC)
    taken_in_silence(life)
    life.venue.look = _raise(ExchangeUnreachable("no answer"))
    life.leave(BTC, Purpose.EXIT)
    life.wait(5)
    life.leave(BTC, Purpose.FLATTEN)
    assert status(life, Purpose.FLATTEN) is OrderStatus.ABANDONED
    assert sum(n for cid, n in life.venue.submits.items() if "-f-" in cid) == 0
    life.venue.look = None
    life.trader.desk.sync()
    assert BTC not in life.trader.desk.account.trades
    life.check()


def test_an_exit_sells_what_a_cancelled_one_left(life: Turmoil) -> None:
    """A limit exit was filled in part since the plan was made; the user's own coins are not touched."""
    life.enter(BTC)
    desk = life.trader.desk
    held = desk.account.position(BTC).quantity
    life.venue.mood = Mood(at_once=0.0)
    life.leave(BTC, Purpose.EXIT)
    life.venue.execute(life.venue.placed[-1], 0.5)
    life.venue.mood = Mood()
    life.wait(5)
    life.leave(BTC, Purpose.FLATTEN)
    life.check()
    sold = [p.order.quantity for p in life.venue.placed if p.order.side is Side.SELL]
    assert sum(p.filled for p in life.venue.placed if p.order.side is Side.SELL) <= held
    assert len(sold) == 2
    assert sold[1] < sold[0]
    assert BTC not in desk.account.trades


def test_an_exit_of_nothing_is_given_up(life: Turmoil) -> None:
    life.enter(BTC)
    life.leave(BTC, Purpose.EXIT)
    desk = life.trader.desk
    stale = Order(
        "test-BTCUSDT-1-x-9", BTC, Side.SELL, OrderType.MARKET, Decimal(1), Purpose.EXIT, 1000, life.venue.time
    )
    with life.store.transaction() as tx:
        desk.intend(tx, stale)
    assert desk.send(stale).status is OrderStatus.ABANDONED
    assert "test-BTCUSDT-1-x-9" not in life.venue.submits


def test_a_cancel_that_fails_leaves_the_order_watched(life: Turmoil) -> None:
    life.venue.mood = Mood(at_once=0.3)
    life.enter(BTC)
    life.venue.mood = Mood(down=1.0)
    order = next(iter(life.trader.desk.live.values()))
    assert life.trader.desk.cancel(order).status is OrderStatus.OPEN
    life.venue.mood = Mood()
    ended = life.trader.desk.cancel(order)
    assert ended.status in (OrderStatus.CANCELED, OrderStatus.FILLED)
    assert life.trader.desk.account.position(BTC).quantity == sum(
        f.quantity - f.fee for f in life.venue.executed
    )  # what it had filled is kept


def test_the_watch_over_abandoned_orders_ends_after_a_day(life: Turmoil) -> None:
    life.venue.mood = Mood(lost=1.0)
    life.enter(BTC)
    life.wait(30)
    for _ in range(PATIENCE.lookups):
        life.trader.desk.sync()
    asked: list[str] = []

    def look(client_order_id: str) -> None:
        asked.append(client_order_id)

    life.venue.look = look
    life.trader.desk.watch_abandoned()
    assert len(asked) == 1
    life.venue.time += timedelta(hours=25)
    life.trader.desk.watch_abandoned()
    assert len(asked) == 1


def test_unclear_again_after_a_crash_it_is_looked_up_not_sent(life: Turmoil) -> None:
    taken_in_silence(life)
    life.venue.look = _raise(ExchangeUnreachable("no answer"))
    life.enter(BTC)
    life.venue.look = None
    life.venue.mood = Mood()
    life.crash()
    assert status(life) is OrderStatus.FILLED
    assert life.venue.submits.total() == 1


def _raise(error: Exception) -> Callable[[str], OrderReport | None]:
    def look(client_order_id: str) -> OrderReport | None:
        raise error

    return look


def test_the_venue_of_these_tests_can_be_unclear() -> None:
    venue = UnrulyVenue({BTC: instrument(BTC)}, Random(1), balances_={"USDT": Decimal(1000)}, mood=Mood(lost=1.0))
    order = Order("a", BTC, Side.BUY, OrderType.MARKET, Decimal(1), Purpose.ENTRY, 0, venue.time)
    assert isinstance(venue.submit(order), Unclear)
    assert not venue.placed
