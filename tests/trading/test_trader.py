"""The decision loop as a whole: told twice, told late, without a bar, amid faults and crashes, on a failing store."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.fakes import MemoryStore
from tests.trading.stage import HOUR, START, WARMUP, Crash, Fuse, Stage, candles, wander
from tests.trading.test_crash_points import check_same_books, fills_of
from trading_bot.domain.account import Trade
from trading_bot.domain.journal import Decision, EquityPoint, Snapshot
from trading_bot.domain.market import Candles
from trading_bot.domain.orders import Accepted, Fill, Order, OrderStatus, Purpose, SubmitOutcome, Unclear
from trading_bot.errors import ExchangeError, ExchangeUnreachable, StorageError
from trading_bot.ports import Broker, MarketEnded, Tx
from trading_bot.trading.config import RiskConfig, TradingConfig, UnclearOrders
from trading_bot.trading.events import BarsClosed
from trading_bot.trading.memory import TRADER
from trading_bot.trading.recovery import reload_books
from trading_bot.trading.risk import Latch
from trading_bot.trading.trader import Trader

BTC, ETH = "BTC/USDT", "ETH/USDT"
FIRST = WARMUP + 9  # number of the first bar a stage decides
QUIET = TradingConfig(
    bot_id="test",
    unclear_orders=UnclearOrders(lookups=1, seconds=0),
    stoploss=-0.5,
    risk=RiskConfig(atr_stop_multiple=0, var_limit=0, risk_per_trade=0, daily_loss_limit=0, drawdown_reduce=0,
                    drawdown_halt=0, drawdown_flatten=0, cooldown_bars=0),
)  # fmt: skip


def script(*sides: int) -> dict[int, int]:
    """Bar time -> side, from the first decided bar on."""
    return {START + (FIRST + number) * HOUR: side for number, side in enumerate(sides)}


def one(*sides: int, bars: int = 60, config: TradingConfig = QUIET, **fields: Any) -> Stage:
    """BTC on a random walk, traded by a script."""
    return Stage({BTC: wander(bars, 1)}, {BTC: script(*sides)}, config=config, **fields)


def started(made: Stage, broker: Broker | None = None) -> Trader:
    trader = made.make_trader(broker=broker)
    made.recover(trader)
    return trader


def found(made: Stage, kind: type[Any], **where: Any) -> list[Any]:
    with made.store.reading() as tx:
        return tx.find(kind, **where)


# ── chaos ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Chaos:
    """One in five calls goes wrong, before or after it took effect."""

    def __init__(self, inner: Broker, random: Random, share: float = 0.2) -> None:
        self.venue = inner.venue
        self._inner = inner
        self._random = random
        self._share = share
        self.faults: Counter[str] = Counter()
        self.submitted: Counter[str] = Counter()

    def submit(self, order: Order) -> SubmitOutcome:
        self.submitted[order.client_order_id] += 1
        if self._goes_wrong("submit before"):
            return Unclear("never left")
        outcome = self._inner.submit(order)
        return Unclear("no answer") if self._goes_wrong("submit after") else outcome

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def called(*args: Any) -> Any:
            if self._goes_wrong(f"{name} before"):
                raise ExchangeUnreachable("no answer")
            answer = method(*args)
            if self._goes_wrong(f"{name} after"):
                raise ExchangeUnreachable("no answer")
            return answer

        return called if callable(method) else method

    def _goes_wrong(self, what: str) -> bool:
        wrong = self._random.random() < self._share / 2
        self.faults[what] += wrong
        return wrong


def chaotic_life(made: Stage, broker: Broker, random: Random, crash: float) -> int:
    """To the end of the market, with crashes at `crash` of all points; how many."""
    crashes = 0
    while True:
        fuse = Fuse(int(random.expovariate(crash)) + 1 if crash else -1)
        try:
            made.live(fuse, broker)
        except Crash:
            crashes += 1
        except ExchangeError:  # no balances to open the account with
            continue
        else:
            return crashes


def chaos_stage(bars: int, seed: int) -> Stage:
    """Two symbols; an order every third bar or so."""
    random = Random(seed)
    markets = {BTC: wander(bars, seed, BTC), ETH: wander(bars, seed + 1, ETH)}
    scripts = {
        symbol: {START + bar * HOUR: random.choice((1, 0, -1)) for bar in range(FIRST, bars - 20)} for symbol in markets
    }
    return Stage(markets, scripts, config=QUIET)


@pytest.mark.slow
def test_two_thousand_bars_of_chaos() -> None:
    made, random = chaos_stage(2_000, 11), Random(11)
    broker = Chaos(made.broker, random)
    crashes = chaotic_life(made, broker, random, 0.01)
    trader = made.trader
    while trader.desk.live:
        trader.desk.sync()
    check_same_books(made)
    assert max(broker.submitted.values()) == 1, "an order was sent twice"
    assert broker.faults.total() > 1_500, broker.faults
    assert crashes > 50
    orders = found(made, Order)
    fills = found(made, Fill)
    assert len(fills) > 500
    wishes: dict[str, Decimal] = {}
    for order in orders:
        wish = order.client_order_id.rpartition("-")[0]
        wishes[wish] = wishes.get(wish, Decimal(0)) + order.filled
    wanted = {order.client_order_id.rpartition("-")[0]: order.quantity for order in orders}
    assert all(filled <= wanted[wish] for wish, filled in wishes.items())


@pytest.mark.parametrize("seed", range(4))
def test_crashes_alone_change_nothing(seed: int) -> None:
    wanted, made, random = chaos_stage(150, seed), chaos_stage(150, seed), Random(seed)
    wanted.live()
    assert chaotic_life(made, made.broker, random, 0.02) > 3
    assert fills_of(made) == fills_of(wanted)
    assert made.trader.desk.account == wanted.trader.desk.account
    assert [(d.time, d.symbol, d.outcome, d.reason) for d in found(made, Decision)] == [
        (d.time, d.symbol, d.outcome, d.reason) for d in found(wanted, Decision)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_answers_that_are_lost_change_nothing(seed: int) -> None:
    """Every order arrives, half of the answers do not: look-ups find each one before the next bar."""
    wanted, made = chaos_stage(150, seed), chaos_stage(150, seed)
    wanted.live()

    class Silent(Chaos):
        def submit(self, order: Order) -> SubmitOutcome:
            self.submitted[order.client_order_id] += 1
            outcome = self._inner.submit(order)
            return Unclear("no answer") if self._random.random() < 0.5 else outcome

    made.live(broker=Silent(made.broker, Random(seed), share=0.0))
    assert fills_of(made) == fills_of(wanted)
    check_same_books(made)


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bar_told_twice_or_out_of_order_is_decided_once() -> None:
    made = one(1, 0, 0)
    trader = started(made)
    first = made.bars()
    assert len(trader.on_bars(first)) == 1
    state = trader.snapshot()
    assert trader.on_bars(first) == []
    made.market.advance()
    second = made.bars()
    trader.on_bars(second)
    assert trader.on_bars(first) == []
    assert len(found(made, Decision)) == 2
    assert len(found(made, Order)) == 1
    assert trader.snapshot() != state


def test_late_bars_are_shown_but_not_entered_on() -> None:
    made = one(1, 1)
    trader = started(made)
    (late,) = made.step(trader, late=True)
    assert (late.outcome, late.reason) == ("late", "late bar: no entries on bars that closed while the bot was away")
    (now,) = made.step(trader)
    assert now.outcome == "buy"


def test_a_stop_acts_on_a_late_bar_a_signal_does_not() -> None:
    closes = np.array([100.0] * (FIRST + 2) + [100.0, 40.0, 40.0, 40.0])
    made = Stage({BTC: candles(closes)}, {BTC: script(1, 0, -1, 0, 0)}, config=QUIET)
    trader = started(made)
    made.step(trader)
    made.step(trader)
    (held,) = made.step(trader, late=True)
    assert held.outcome == "hold"
    assert held.reason.startswith("late bar: score -1.00")
    (sold,) = made.step(trader, late=True)
    assert sold.outcome == "sell"
    assert sold.reason.startswith("stop_loss")


def test_a_symbol_without_a_bar_is_skipped_and_the_others_go_on() -> None:
    """Also with value at risk: a position whose symbol has no bar now counts, and stops nobody."""
    config = dataclasses.replace(QUIET, risk=dataclasses.replace(QUIET.risk, var_limit=0.5))
    rows = {BTC: wander(80, 1, BTC), ETH: wander(80, 2, ETH)}
    made = Stage(rows, {BTC: script(1), ETH: script(0, 1, 0)}, config=config)
    made.history = 60
    trader = started(made)
    made.step(trader)
    bars = made.bars()
    alone = BarsClosed(bars.time, {ETH: bars.candles[ETH]})
    (decision,) = trader.on_bars(alone)
    assert (decision.symbol, decision.outcome) == (ETH, "buy")
    assert set(trader.desk.account.trades) == {BTC, ETH}


def test_too_little_history_is_told_as_such() -> None:
    made = one(1)
    trader = started(made)
    bars = made.bars()
    short = BarsClosed(bars.time, {BTC: bars.candles[BTC].tail(WARMUP - 1)})
    (decision,) = trader.on_bars(short)
    assert (decision.outcome, decision.reason) == ("hold", f"warming up: {WARMUP - 1} of {WARMUP} bars")
    assert trader.memory.time == bars.time


def test_money_lost_and_won_is_marked_to_market_at_every_bar() -> None:
    made = one(1, 0, 0, 0, 0)
    trader = started(made)
    for _ in range(5):
        made.step(trader)
        point = found(made, EquityPoint)[-1]
        price = trader.memory.prices[BTC]
        account = trader.desk.account
        if trader.memory.time > START + FIRST * HOUR:
            assert point.equity == account.balances["USDT"] + account.balances["BTC"] * price
    assert trader.memory.risk.peak >= trader.memory.risk.equity


# ── a database that fails ───────────────────────────────────────────────────────────────────────────────────────────


class FailingStore:
    """Refuses the `at`-th transaction from now on, before it begins or instead of its commit."""

    def __init__(self, inner: MemoryStore) -> None:
        self.inner = inner
        self.at = -1
        self.after_commit = False
        self.seen = 0

    @contextmanager
    def transaction(self) -> Iterator[Tx]:
        self.seen += 1
        strikes = self.seen == self.at
        if strikes and not self.after_commit:
            raise StorageError("disk full")
        with self.inner.transaction() as tx:
            yield tx
        if strikes:
            raise StorageError("the commit was cut short; whether it was kept is unknown")

    def reading(self) -> Any:
        return self.inner.reading()

    def close(self) -> None:
        pass


def told_until_it_works(trader: Trader, bars: BarsClosed) -> None:
    """What the daemon does when the database fails: memory as the database has it, then the same event again."""
    doubtful = False
    for action in (lambda: trader.on_bars(bars), trader.desk.sync):
        for _ in range(5):
            try:
                if doubtful:
                    reload_books(trader)
                    doubtful = False
                action()
            except StorageError:
                doubtful = True
                continue
            break
        else:
            raise AssertionError("it never worked")


@pytest.mark.parametrize("after_commit", [False, True], ids=["refused", "kept though it failed"])
def test_a_database_that_fails_once_anywhere_loses_nothing(after_commit: bool) -> None:
    """Every transaction of a round trip fails in its turn; the event is told again and the ledger is the same."""
    sides = (1, 0, -1, 0, 0)
    wanted = one(*sides)
    trader = started(wanted)
    for _ in sides:
        wanted.step(trader)
    at = 0
    while True:
        at += 1
        inner = MemoryStore()
        made = one(*sides, store=FailingStore(inner))
        trader = started(made)
        store = made.store
        assert isinstance(store, FailingStore)
        store.seen, store.at, store.after_commit = 0, at, after_commit
        for _ in sides:
            told_until_it_works(trader, made.bars())
            made.market.advance()
        if store.seen < at:
            break
        assert fills_of(made) == fills_of(wanted), f"transaction {at}"
        assert [o.status for o in found(made, Order)] == [OrderStatus.FILLED] * 2
        assert [t.is_open for t in found(made, Trade, book="account")] == [False]
        assert len(found(made, Decision)) == len(sides)
    assert at > 10


def test_memory_is_as_before_when_a_bar_could_not_be_written() -> None:
    made = one(1, store=FailingStore(MemoryStore()))
    trader = started(made)
    before = trader.snapshot()
    store = made.store
    assert isinstance(store, FailingStore)
    store.seen, store.at = 0, 1
    with pytest.raises(StorageError):
        trader.on_bars(made.bars())
    assert trader.snapshot() == before
    assert not found(made, Order)


# ── restarts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_everything_that_depends_on_the_past_survives() -> None:
    made = one(1, 0, 0, bars=80)
    trader = started(made)
    for _ in range(6):
        made.step(trader)
    trader.memory.risk = dataclasses.replace(trader.memory.risk, latch=Latch.HALT, cooldown={BTC: 5})
    trader.memory.paused = True
    with made.store.transaction() as tx:
        trader.save_in(tx)
    again = started(made)
    assert again.snapshot() == trader.snapshot()
    assert again.desk.account == trader.desk.account
    assert again.memory.start_equity == Decimal(10_000)
    with made.store.reading() as tx:
        saved = tx.get(Snapshot, TRADER)
    assert saved is not None
    assert saved.value == trader.snapshot()


def test_the_market_ends_and_the_position_stays() -> None:
    made = one(1, bars=40)
    trader = made.live()
    assert BTC in trader.desk.account.trades
    with pytest.raises(MarketEnded):
        made.market.advance()
    again = started(made)
    assert again.desk.account == trader.desk.account


def test_a_rejected_stop_is_tried_again_on_the_next_bar() -> None:
    closes = np.array([100.0] * (FIRST + 2) + [40.0, 40.0, 40.0, 40.0])
    made = Stage({BTC: candles(closes)}, {BTC: script(1)}, config=QUIET)

    class Moody:
        venue = made.broker.venue
        refuses = False

        def submit(self, order: Order) -> SubmitOutcome:
            from trading_bot.domain.orders import Rejected

            return Rejected("-1013", "Market is closed.") if self.refuses else made.broker.submit(order)

        def __getattr__(self, name: str) -> Any:
            return getattr(made.broker, name)

    broker: Any = Moody()
    trader = started(made, broker)
    made.step(trader)
    broker.refuses = True
    made.step(trader)
    (first,) = made.step(trader)
    assert first.outcome == "sell"
    broker.refuses = False
    (second,) = made.step(trader)
    assert second.outcome == "sell"
    assert second.reason.startswith("again: stop_loss")
    stops = [o for o in found(made, Order) if o.purpose is Purpose.STOP]
    assert [o.status for o in stops] == [OrderStatus.REJECTED, OrderStatus.FILLED]
    assert stops[0].client_order_id != stops[1].client_order_id
    assert not trader.desk.account.trades


def test_candles_are_only_read(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: Candles = wander(60, 1)
    made = Stage({BTC: rows}, {BTC: script(1, -1)}, config=QUIET)
    made.live()
    with pytest.raises(ValueError, match="read-only"):
        rows.close[0] = 1.0


# ── bars that were not seen, windows that are short ─────────────────────────────────────────────────────────────────


def dipping(bars: int = 60) -> Candles:
    """Flat at 100, but for one bar (the third decided one) that dips to 80 and comes back."""
    rows = candles(np.full(bars, 100.0))
    low = rows.low.copy()
    low[FIRST + 2] = 80.0
    return Candles(BTC, "1h", rows.time, rows.open, rows.high, low, rows.close, rows.volume)


STOPPED = dataclasses.replace(QUIET, stoploss=-0.1)


def test_a_stop_reached_in_a_bar_that_was_missed_is_hit_when_the_pair_is_back() -> None:
    made = Stage({BTC: dipping(), ETH: wander(60, 2, ETH)}, {BTC: script(1)}, config=STOPPED)
    trader = started(made)
    made.step(trader)
    made.step(trader)
    without = made.bars()
    trader.on_bars(dataclasses.replace(without, candles={ETH: without.candles[ETH]}))  # BTC could not be fetched
    made.market.advance()
    assert BTC in trader.desk.account.trades
    (decision,) = [one for one in made.step(trader) if one.symbol == BTC]
    assert decision.outcome == "sell"
    assert "low 80.00 at or below stop" in decision.reason
    (trade,) = found(made, Trade, book="account")
    assert trade.exit_reason == "stop_loss"


def test_an_open_trade_is_watched_though_its_window_is_short() -> None:
    made = Stage({BTC: dipping()}, {BTC: script(1)}, config=STOPPED)
    trader = started(made)
    made.step(trader)
    trader.warmup = 10_000
    (calm,) = made.step(trader)
    assert (calm.outcome, calm.signals) == ("hold", {})
    (out,) = made.step(trader)
    assert out.outcome == "sell"
    assert not trader.desk.account.trades
    (flat,) = made.step(trader)
    assert flat.reason.startswith("warming up: ")


@pytest.mark.parametrize("no", ["paused", "latched"])
def test_an_entry_held_back_does_not_go_out_once_entries_are_stopped(no: str) -> None:
    made = one(1)
    trader = started(made)
    trader.stopping = lambda: True
    trader.on_bars(made.bars())
    (order,) = trader.desk.live.values()
    assert order.status is OrderStatus.NEW
    trader.stopping = lambda: False
    if no == "paused":
        trader.memory.paused = True
    else:
        trader.memory.risk = dataclasses.replace(trader.memory.risk, latch=Latch.HALT)
    trader.on_bars(made.bars())
    assert not trader.desk.live
    assert [order.status for order in found(made, Order)] == [OrderStatus.ABANDONED]


def test_executions_ahead_of_the_report_end_a_trade_for_the_books_as_for_their_replay() -> None:
    made = one(1, 0, -1)
    trader = started(made)
    made.step(trader)
    made.step(trader)
    desk = trader.desk
    submit = made.broker.submit

    def lagging(order: Order) -> SubmitOutcome:
        told = submit(order)
        assert isinstance(told, Accepted)
        half = dataclasses.replace(told.report, status=OrderStatus.OPEN, filled=told.report.filled / 2)
        return Accepted(half, told.fills)

    made.broker.submit = lagging  # type: ignore[method-assign]
    made.step(trader)
    assert not desk.account.trades
    made.broker.submit = submit  # type: ignore[method-assign]
    again = made.make_trader()
    made.recover(again)  # a ledger that contradicts itself would refuse to start
    assert again.desk.account.balances == desk.account.balances
    check_same_books(made)
