"""What the user may tell a running bot. State change, orders and the answer are written in one transaction."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from trading_bot.domain.journal import Command
from trading_bot.domain.orders import Denied, Order
from trading_bot.logs import event
from trading_bot.ports import Tx
from trading_bot.trading.plan import sell_all
from trading_bot.trading.risk import Leave, resumed
from trading_bot.trading.trader import Trader


def obey(trader: Trader, command: Command, now: datetime) -> str:
    """Carry out pause, resume or flatten; the answer for the user. A command already handled does nothing."""
    orders: list[Order] = []
    with trader.store.transaction() as tx:
        known = tx.get(Command, command.id)
        if known is not None and known.handled is not None:
            return known.answer
        if command.name == "pause":
            trader.memory.paused = True
            answer = "paused: no entries until `trading-bot resume`; open trades are still watched"
        elif command.name == "resume":
            answer = _resume(trader)
        elif command.name == "flatten":
            orders = _flatten(trader, tx)
            answer = f"flatten: selling {len(orders)} of {len(trader.desk.account.trades)} open trades; paused"
        else:
            answer = f"unknown command {command.name!r}; known are pause, resume, flatten, stop"
        tx.update(dataclasses.replace(command, handled=now, answer=answer))
        trader.save_in(tx)
    trader.desk.live.update({order.client_order_id: order for order in orders})
    event("command", command.name, answer, level="WARNING")
    for order in orders:
        trader.desk.send(order)
    return answer


def _resume(trader: Trader) -> str:
    memory = trader.memory
    latch, was_paused = memory.risk.latch, memory.paused
    memory.paused = False
    memory.risk = resumed(memory.risk)
    parts = ["resumed" if was_paused else "was not paused"]
    if latch:
        parts.append(f"drawdown latch {latch.name.lower()} released, drawdown counts from {memory.risk.peak:.2f}")
    return "; ".join(parts)


def _flatten(trader: Trader, tx: Tx) -> list[Order]:
    """Intents to sell every open trade now, and no entries until the user resumes."""
    memory = trader.memory
    memory.paused = True
    standing = trader.standing(memory.time)
    orders = []
    for symbol, trade in trader.desk.account.trades.items():
        leave = Leave("force_exit", "force_exit: flatten")
        memory.leaving[symbol] = leave
        order: Order | Denied = sell_all(trade, leave, standing, memory.prices[symbol])
        while isinstance(order, Order) and not trader.desk.intend(tx, order):
            order = sell_all(trade, leave, standing, memory.prices[symbol], order.attempt + 1)
        if isinstance(order, Order):
            orders.append(order)
    return orders
