"""A desk at an unruly venue: random orders, questions, waits and crashes, and what must hold all the while."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from random import Random

from tests.trading.stage import Crash, Fuse, Stage, instrument, wander
from tests.trading.unruly import Mood, UnrulyVenue, WatchedStore, unchanged
from trading_bot.domain.account import Trade
from trading_bot.domain.orders import (
    Fill,
    Order,
    OrderStatus,
    OrderType,
    Purpose,
    Side,
    client_order_id,
)
from trading_bot.errors import ExchangeError
from trading_bot.trading.config import TradingConfig, UnclearOrders
from trading_bot.trading.portfolio import is_dust
from trading_bot.trading.recovery import Surroundings, recover
from trading_bot.trading.trader import Trader

SYMBOLS = ("BTC/USDT", "ETH/USDT")
PATIENCE = UnclearOrders(lookups=3, seconds=20)
HIDDEN = 15.0  # seconds: less than the patience
OWN = Decimal(5)  # of each coin, the user's own: it must never be sold


class Turmoil:
    """One bot and one venue; `act` does one random thing, `check` says what must hold, `settle` ends in quiet."""

    def __init__(self, seed: int, dedup: str) -> None:
        self.random = Random(seed)
        instruments = {symbol: instrument(symbol) for symbol in SYMBOLS}
        balances = {"USDT": Decimal(10_000), "BTC": OWN, "ETH": OWN}
        self.venue = UnrulyVenue(instruments, self.random, dedup, balances)
        self.store = WatchedStore()
        self.venue.on_submit = self._check_written
        config = TradingConfig(bot_id="test", unclear_orders=PATIENCE)
        candles = {symbol: wander(40, 1, symbol) for symbol in SYMBOLS}
        self.stage = Stage(candles, {}, config=config, store=self.store, instruments=instruments)
        self.trader = self.begin()
        self.crashes = 0
        self.venue.mood = Mood(
            lost=0.15, unanswered=0.2, down=0.2, hidden=self.random.choice((0.0, HIDDEN)),
            late_fills=self.random.choice((0.0, 0.4)), at_once=self.random.choice((0.0, 0.4, 1.0)),
        )  # fmt: skip

    # ── what can happen ────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self) -> Trader:
        """A new life of the bot."""
        self.fuse = Fuse()
        trader = self.stage.make_trader(self.fuse, self.venue)
        trader.desk.now = lambda: self.venue.time
        around = Surroundings(self._market_time(), lambda: self.venue.time, self.wait, lambda: "test")
        while True:
            with suppress(ExchangeError):  # it cannot open the account without balances
                recover(trader, "USDT", around)
                return trader

    def crash(self) -> None:
        self.crashes += 1
        self.trader = self.begin()

    def wait(self, seconds: float) -> None:
        self.venue.time += timedelta(seconds=seconds)

    def enter(self, symbol: str) -> None:
        """As a plan does: where nothing is held, nothing under way and nothing unknown."""
        desk = self.trader.desk
        if symbol not in desk.account.trades and not desk.live_orders(symbol):
            self._send(symbol, Side.BUY, Purpose.ENTRY, Decimal(self.random.choice((1, 3))))

    def leave(self, symbol: str, purpose: Purpose) -> None:
        """As a plan does: a market exit that is under way is waited for, unless the user says flatten."""
        desk = self.trader.desk
        under_way = any(o.side is Side.SELL for o in desk.live_orders(symbol))
        if symbol in desk.account.trades and (purpose is Purpose.FLATTEN or not under_way):
            known = self.venue.instruments_[symbol]
            lots = known.lots(desk.account.position(symbol).quantity)
            if lots:
                self._send(symbol, Side.SELL, purpose, known.quantity(lots))

    def tick(self) -> None:
        """The market fills some of what stands."""
        for placed in self.venue.placed:
            if placed.status is OrderStatus.OPEN and self.random.random() < 0.5:
                self.venue.execute(placed, self.random.choice((0.3, 1.0)))

    def cancel(self) -> None:
        live = [o for o in self.trader.desk.live.values() if o.status is not OrderStatus.NEW]
        if live:
            self.trader.desk.cancel(self.random.choice(live))

    def act(self) -> None:
        """One random thing."""
        symbol = self.random.choice(SYMBOLS)
        actions: dict[str, Callable[[], object]] = {
            "enter": lambda: self.enter(symbol),
            "exit": lambda: self.leave(symbol, Purpose.EXIT),
            "flatten": lambda: self.leave(symbol, Purpose.FLATTEN),
            "tick": self.tick,
            "sync": self.trader.desk.sync,
            "cancel": self.cancel,
            "watch": self.trader.desk.watch_abandoned,
            "wait": lambda: self.wait(self.random.uniform(1, 15)),
            "crash": self.crash,
        }
        weights = (6, 5, 1, 5, 5, 1, 1, 4, 1)
        self.wait(1)
        if self.random.random() < 0.1:
            self.fuse.at = self.fuse.passed + self.random.randint(1, 8)
        self.survive(actions[self.random.choices(list(actions), weights)[0]])

    def survive(self, action: Callable[[], object]) -> None:
        """Do it; if the bot dies of it, it starts again."""
        try:
            action()
        except Crash:
            self.crash()

    # ── what must hold ─────────────────────────────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        """After every step."""
        twice = [cid for cid, times in self.venue.submits.items() if times > 1]
        assert not twice, f"sent twice: {twice}"
        truth = {(f.symbol, f.trade_id): unchanged(f) for f in self.venue.executed}
        with self.store.reading() as tx:
            fills, orders = tx.find(Fill), tx.find(Order)
        for fill in fills:
            assert truth[fill.symbol, fill.trade_id] == unchanged(fill)
        booked: defaultdict[str, Decimal] = defaultdict(Decimal)
        for fill in fills:
            booked[fill.client_order_id] += fill.quantity
        assert {o.client_order_id: o.filled for o in orders if o.filled} == dict(booked)
        wishes: defaultdict[str, Decimal] = defaultdict(Decimal)
        for placed in self.venue.placed:
            wishes[placed.order.client_order_id.rpartition("-")[0]] += placed.filled
        wanted = {o.client_order_id.rpartition("-")[0]: o.quantity for o in orders}
        assert all(filled <= wanted[wish] for wish, filled in wishes.items()), "more was filled than was wanted"
        account = self.trader.desk.account
        assert all(amount >= 0 for amount in account.balances.values()), account.balances
        assert all(amount >= 0 for amount in self.venue.balances_.values()), self.venue.balances_
        for symbol, held in account.positions.items():
            assert held.quantity >= 0, f"{symbol}: {held.quantity}"
            assert account.balances[symbol[:3]] == OWN + held.quantity

    def settle(self) -> None:
        """Everything comes to rest without another start; then venue, fills, orders, positions and trades agree."""
        self.venue.calm()
        self.fuse.at = -1
        desk = self.trader.desk
        for _ in range(20):
            self.wait(30)
            desk.sync()
            desk.watch_abandoned()
            for order in list(desk.live.values()):
                if order.status is OrderStatus.NEW:
                    desk.abandon(order, "the test is over")
                else:
                    desk.cancel(order)
            self.check()
            if not desk.live:
                break
        assert not desk.live, list(desk.live.values())
        with self.store.reading() as tx:
            fills = {(f.symbol, f.trade_id) for f in tx.find(Fill)}
            open_trades = {t.symbol for t in tx.find(Trade, book="account", is_open=True)}
        assert fills == {(f.symbol, f.trade_id) for f in self.venue.executed}
        assert desk.account.balances == {c: a for c, a in self.venue.balances_.items() if c in desk.account.balances}
        assert set(desk.account.trades) == open_trades
        for symbol, held in desk.account.positions.items():
            if symbol not in open_trades:
                assert is_dust(held.quantity, Decimal(99), self.venue.instruments_[symbol]), held
        before = desk.account
        self.crash()
        assert self.trader.desk.account.balances == before.balances
        assert self.trader.desk.account.trades == before.trades

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.act()
            self.check()
        self.settle()

    # ── small parts ────────────────────────────────────────────────────────────────────────────────────────────────

    def _send(self, symbol: str, side: Side, purpose: Purpose, quantity: Decimal) -> None:
        desk, time = self.trader.desk, self._market_time()
        order = Order(
            client_order_id("test", symbol, time, purpose, 1), symbol, side, OrderType.MARKET, quantity, purpose,
            time, self.venue.time,
        )  # fmt: skip
        with self.store.transaction() as tx:
            desk.intend(tx, order)
        desk.live[order.client_order_id] = order
        desk.send(order)

    def _market_time(self) -> int:
        return int(self.venue.time.timestamp() * 1000)

    def _check_written(self, order: Order) -> None:
        with self.store.reading() as tx:
            kept = tx.get(Order, order.client_order_id)
        assert kept is not None, f"{order.client_order_id} was sent before it was written down"
        assert kept.status is OrderStatus.SENT, f"{order.client_order_id} was sent while {kept.status}"
