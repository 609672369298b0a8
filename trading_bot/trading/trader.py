"""The story: bars come in, a decision is made for every symbol, orders go out, the books and the record follow.

The same `Trader` runs in a backtest, on paper and live; only what is plugged in differs. It is single-threaded and
deterministic: the same bars, configuration and books give the same decisions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from trading_bot.domain.account import Trade, TradeShare
from trading_bot.domain.journal import Decision, Snapshot
from trading_bot.domain.market import Instrument
from trading_bot.domain.orders import Order, OrderType, Side
from trading_bot.learn.performance_tracker import PerformanceTracker
from trading_bot.matching import MatchingConfig
from trading_bot.ports import Store, Tx
from trading_bot.trading import narration
from trading_bot.trading.config import TradingConfig
from trading_bot.trading.events import BarsClosed
from trading_bot.trading.memory import STATUS, TRADER, Memory, status_of
from trading_bot.trading.order_protocol import OrderDesk
from trading_bot.trading.plan import Plan, Standing, make_plan
from trading_bot.trading.portfolio import close
from trading_bot.trading.risk import Latch, cooled, marked
from trading_bot.trading.shadow import ShadowShelf
from trading_bot.trading.views import Outlook, View, shares_of


@dataclass(slots=True)
class Trader:
    """One account's decision loop. Built by bootstrap, woken by `recovery.recover`, fed by `on_bars`."""

    config: TradingConfig
    store: Store
    desk: OrderDesk
    outlooks: Mapping[str, Outlook]  # by symbol
    shadows: ShadowShelf
    tracker: PerformanceTracker
    instruments: Mapping[str, Instrument]
    matching: MatchingConfig
    bar_ms: int
    warmup: int
    threshold: float
    run_id: str
    mode: str = ""
    stopping: Callable[[], bool] = lambda: False
    memory: Memory = field(default_factory=Memory)
    faces: dict[str, dict[str, Any]] = field(default_factory=dict)  # each symbol's newest view, for `status`

    def on_bars(self, bars: BarsClosed) -> list[Decision]:
        """Decide one bar of every symbol and act on it. A bar told twice, or out of order, is not decided again."""
        self.desk.finish_intents(bars.time + self.bar_ms, self.bar_ms)
        if bars.time <= self.memory.time:
            return []
        self._settle_orders(bars)
        before = self.snapshot()
        try:
            views = self._look(bars)
            plan = self._plan(bars, views)
            self._commit(bars, views, plan)
        except Exception:
            self.restore(before)  # nothing of this bar was written: it can be told again
            self.tracker.forget()
            raise
        self._send(plan)
        return plan.decisions

    def _settle_orders(self, bars: BarsClosed) -> None:
        """First what became of earlier orders: their fills come before this bar's decisions."""
        self.desk.sync()
        for order in list(self.desk.live.values()):
            if order.order_type is OrderType.LIMIT and self._timed_out(order, bars.time + self.bar_ms):
                self.desk.cancel(order)

    def _timed_out(self, order: Order, now: int) -> bool:
        patience = self.config.unfilledtimeout
        minutes = patience.entry if order.side is Side.BUY else patience.exit
        return now - order.order_date.timestamp() * 1000 >= minutes * 60_000

    def _look(self, bars: BarsClosed) -> dict[str, View]:
        """Every symbol's view, all by the records and gains as of the bar before."""
        metrics = {name: self.tracker.metrics(name) for name in self.shadows.strategies}
        views = {}
        for symbol in sorted(bars.candles):
            candles = bars.candles[symbol]
            unseen = self.memory.seen(symbol, candles, self.instruments[symbol])
            if len(candles) < self.warmup:
                view = View.blind(symbol, candles, f"warming up: {len(candles)} of {self.warmup} bars")
            else:
                view = self.outlooks[symbol].look(candles, metrics, self.shadows.gains(symbol), self.run_id)
            views[symbol] = dataclasses.replace(view, unseen=unseen)
        return views

    def _plan(self, bars: BarsClosed, views: Mapping[str, View]) -> Plan:
        memory = self.memory
        equity = self.desk.account.equity(memory.quote, memory.prices)
        memory.risk = marked(memory.risk, equity, bars.time + self.bar_ms, self.config.risk)
        plan = make_plan(views, self.standing(bars.time, late=bars.late))
        memory.time, memory.leaving = bars.time, plan.leaving
        return plan

    def standing(self, time: int, *, late: bool = False) -> Standing:
        """The books and limits as they are, for a plan at the bar that opened at `time`."""
        unclear = {s: o for s in self.instruments if (o := self.desk.blocked(s)) is not None}
        obstacles = {s: f"order {o.client_order_id} is {o.status}: looking it up" for s, o in unclear.items()}
        return Standing(
            bot_id=self.memory.bot_id,
            run_id=self.run_id,
            quote=self.memory.quote,
            time=time,
            bar_ms=self.bar_ms,
            late=late,
            paused=self.memory.paused,
            account=self.desk.account,
            risk=self.memory.risk,
            prices=self.memory.prices,
            instruments=self.instruments,
            obstacles={**obstacles, **self.memory.quarantine},
            live=tuple(self.desk.live.values()),
            leaving=self.memory.leaving,
            config=self.config,
            threshold=self.threshold,
        )

    def _commit(self, bars: BarsClosed, views: Mapping[str, View], plan: Plan) -> None:
        """Everything decided on this bar, and every state it left behind, in one transaction; then the log."""
        closed = self.shadows.step(bars, views, self.instruments, self.matching, self.run_id)
        equity = self.memory.equity_point(self.desk.account, self.run_id)
        account, ended = self.desk.account, list[Trade]()
        with self.store.transaction() as tx:
            for decision in plan.decisions:
                tx.update(decision)
            for order in plan.orders:
                self.desk.intend(tx, order)
            for trade in plan.trades:
                tx.update(trade)
                account = account.with_trade(trade)
            for trade in plan.dust:
                account, over = close(account, trade, datetime.fromtimestamp((bars.time + self.bar_ms) / 1000, UTC))
                tx.update(over)
                ended.append(over)
            for change in (change for view in views.values() for change in (view.regime_change, view.weight_change)):
                if change is not None:
                    tx.update(change)
            for trade in closed:
                self.tracker.record_trade(trade, tx)
            tx.update(equity)
            self.faces.update({symbol: view.face() for symbol, view in views.items()})
            self.save_in(tx)
        self.desk.account = account
        self.desk.live.update({order.client_order_id: order for order in plan.orders})
        narration.tell(views, plan, closed)
        for trade in ended:
            self.on_trade(trade)

    def _send(self, plan: Plan) -> None:
        """What is not sent because the bot is stopping stays an intent: the next start sends it if it is wanted."""
        for order in plan.orders:
            if self.stopping():
                return
            self.desk.send(order)

    # ── what is remembered ─────────────────────────────────────────────────────────────────────────────────────────

    def snapshot(self) -> dict[str, Any]:
        """All path-dependent state, JSON-able; `restore` goes on from it."""
        return {
            "memory": self.memory.as_json(),
            "outlooks": {symbol: outlook.snapshot() for symbol, outlook in self.outlooks.items()},
            "shadows": self.shadows.snapshot(),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from `snapshot`."""
        self.memory.load(saved["memory"])
        for symbol, outlook in self.outlooks.items():
            if symbol in saved["outlooks"]:
                outlook.restore(saved["outlooks"][symbol])
        self.shadows.restore(saved["shadows"])

    def save_in(self, tx: Tx) -> None:
        """Write both snapshots: the one to go on from, and the one people look at."""
        tx.update(Snapshot(TRADER, self.snapshot()))
        tx.update(Snapshot(STATUS, status_of(self.memory, self.desk.account, self.mode, self.faces)))

    def may_enter(self) -> bool:
        """Whether an entry decided earlier may still go out."""
        return not self.memory.paused and self.memory.risk.latch < Latch.HALT

    # ── what fills tell ────────────────────────────────────────────────────────────────────────────────────────────

    def annotate(self, tx: Tx, trade: Trade, order: Order) -> Trade:
        """A trade has just opened: note the regime it was entered in and each strategy's share in the decision."""
        decision = tx.get(Decision, order.symbol, order.bar_time)
        if decision is None:
            return trade
        for strategy, share in shares_of(decision.weights, decision.signals).items():
            tx.add(TradeShare(trade.id, strategy, share))
        return dataclasses.replace(trade, regime=decision.regime)

    def on_trade(self, trade: Trade) -> None:
        """A trade was opened, changed or closed by a fill."""
        narration.trade(trade)
        if not trade.is_open:
            self.tracker.record_trade(trade)
            self.memory.leaving.pop(trade.symbol, None)
            self.memory.risk = cooled(self.memory.risk, trade, self.bar_ms, self.config.risk)
