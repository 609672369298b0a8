"""Start-up is recovery: the same path whether the last stop was clean or a kill. Afterwards store and venue agree, or
the difference is named and its symbol quarantined."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from trading_bot.domain.account import Trade
from trading_bot.domain.journal import Snapshot
from trading_bot.domain.market import Instrument
from trading_bot.domain.orders import LIVE, Fill, Order, OrderStatus, client_order_id
from trading_bot.errors import ConfigurationError, ExchangeDenied, ExchangeError, StorageError
from trading_bot.logs import event
from trading_bot.ports import Tx
from trading_bot.trading.memory import TRADER
from trading_bot.trading.plan import DUST
from trading_bot.trading.portfolio import Account, replay
from trading_bot.trading.risk import cooled
from trading_bot.trading.trader import Trader

ACCOUNT = "account"  # name of the snapshot that opened the account
LOOK_EVERY = 0.25  # seconds between looks at orders of unknown fate, at start-up


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What recovery needs from outside: market time, the wall, a way to wait, and a fresh bot id."""

    market_time: int
    now: Callable[[], datetime]
    wait: Callable[[float], None]
    new_bot_id: Callable[[], str]
    stopping: Callable[[], bool] = lambda: False


def recover(trader: Trader, quote: str, around: Surroundings) -> None:
    """Bring memory, store and venue together; nothing is traded before this has returned.

    Raises
    ------
    ConfigurationError
        If the database belongs to an account at another venue.
    StorageError
        If the ledger contradicts itself.
    """
    opened = _open_account(trader, quote, around)
    _load_books(trader, opened)
    trader.desk.finish_intents(around.market_time, trader.bar_ms)
    _resolve_all(trader, around)
    trader.desk.watch_abandoned()
    _report_foreign_orders(trader)
    reconcile(trader)
    account = trader.desk.account
    found = f"{len(account.trades)} open trades, {len(trader.desk.live)} live orders"
    event("recovery", trader.desk.broker.venue, found,
          equity=account.equity(quote, trader.memory.prices).quantize(Decimal("0.01")), bot=trader.memory.bot_id,
          quarantine=len(trader.memory.quarantine))  # fmt: skip


def reload_books(trader: Trader) -> None:
    """Make memory what the database says: after a commit whose outcome nobody knows.

    Raises
    ------
    StorageError
    """
    with trader.store.reading() as tx:
        opened = tx.get(Snapshot, ACCOUNT)
    if opened is not None:
        _load_books(trader, opened)


def _open_account(trader: Trader, quote: str, around: Surroundings) -> Snapshot:
    """The account's opening balances: written once, the ground every later figure stands on."""
    venue = trader.desk.broker.venue
    with trader.store.reading() as tx:
        opened = tx.get(Snapshot, ACCOUNT)
    if opened is not None:
        known = opened.value
        if (known["venue"], known["quote"]) != (venue, quote):
            raise ConfigurationError(
                f"the database belongs to an account in {known['quote']} at {known['venue']}, the configuration asks "
                f"for {quote} at {venue}; use another data_dir, or `trading-bot reset` for a new paper account"
            )
        return opened
    start = {currency: balance.total for currency, balance in trader.desk.broker.balances().items() if balance.total}
    bot_id = trader.config.bot_id or around.new_bot_id()
    values = {
        "bot_id": bot_id,
        "venue": venue,
        "quote": quote,
        "start": {currency: str(total) for currency, total in sorted(start.items())},
        "opened": around.now().isoformat(),
    }
    with trader.store.transaction() as tx:
        tx.add(Snapshot(ACCOUNT, values))
    event("account", venue, f"opened with {start.get(quote, Decimal(0))} {quote}", bot=bot_id)
    return Snapshot(ACCOUNT, values)


def _load_books(trader: Trader, opened: Snapshot) -> None:
    """Positions are a fold of fills; open trades, live orders and path-dependent state come from their rows."""
    start = {currency: Decimal(total) for currency, total in opened.value["start"].items()}
    memory = trader.memory
    with trader.store.reading() as tx:
        orders = {order.client_order_id: order for order in tx.find(Order)}
        fills = tx.find(Fill)
        trades = {trade.symbol: trade for trade in tx.find(Trade, book="account", is_open=True)}
        saved = tx.get(Snapshot, TRADER)
        closed = _last_closed(tx, trader)
        # Fills that became known late can fold into fewer trades than were opened; a number is never given twice.
        opened_trades = len(tx.find(Trade, book="account"))
    _check_symbols(trader, trades, orders)
    account = replay(start, [(fill, _order_of(fill, orders)) for fill in fills], _instruments(trader, fills))
    written_off = {trade.symbol for trade in closed if trade.exit_reason == DUST}
    if set(account.trades) & set(trader.instruments) - written_off != set(trades) - written_off:
        raise StorageError(
            f"the ledger contradicts itself: its fills leave trades in {sorted(account.trades)} open, its trades table "
            f"in {sorted(trades)}; restore a backup of the database"
        )
    positions = {
        s: dataclasses.replace(p, trade_id=trades[s].id if s in trades else None) for s, p in account.positions.items()
    }
    trader.desk.account = Account(account.balances, positions, trades, max(account.trade_count, opened_trades))
    trader.desk.live = {
        key: dataclasses.replace(order, status=OrderStatus.NEW) if key in trader.desk.unsent else order
        for key, order in orders.items()
        if order.status in LIVE
    }
    memory.bot_id, memory.quote = opened.value["bot_id"], opened.value["quote"]
    memory.start_equity = start.get(memory.quote, Decimal(0))
    if saved is not None:
        trader.restore(saved.value)
    for trade in closed:
        memory.risk = cooled(memory.risk, trade, trader.bar_ms, trader.config.risk)


def _order_of(fill: Fill, orders: Mapping[str, Order]) -> Order:
    if fill.client_order_id not in orders:
        raise StorageError(
            f"the ledger contradicts itself: fill {fill.trade_id} of {fill.symbol} belongs to order "
            f"{fill.client_order_id}, which is not there; restore a backup of the database"
        )
    return orders[fill.client_order_id]


def _instruments(trader: Trader, fills: Sequence[Fill]) -> dict[str, Instrument]:
    """Those of every symbol that was ever traded; of one that is no longer configured, as much as books need."""
    found = dict(trader.instruments)
    for symbol in {fill.symbol for fill in fills} - set(found):
        base, _, quote = symbol.partition("/")
        grain, zero = Decimal("1E-18"), Decimal(0)
        found[symbol] = Instrument(symbol, base, quote, grain, grain, zero, grain, zero, zero, zero, active=False)
    return found


def _last_closed(tx: Tx, trader: Trader) -> list[Trade]:
    found = (
        tx.find(Trade, last=1, strategy="ensemble", book="account", is_open=False, symbol=s) for s in trader.instruments
    )
    return [trade for trades in found for trade in trades]


def _check_symbols(trader: Trader, trades: Mapping[str, Trade], orders: Mapping[str, Order]) -> None:
    gone = {order.symbol for order in orders.values()} - set(trader.instruments)
    for symbol in sorted(gone & (set(trades) | {o.symbol for o in orders.values() if o.is_live})):
        raise ConfigurationError(
            f"{symbol} has an open trade or order but is not among the configured pairs; add it to "
            "exchange.pair_whitelist until it is closed"
        )


def _resolve_all(trader: Trader, around: Surroundings) -> None:
    """Learn the fate of every order on the wire; what the venue surely never got is sent anew while it is wanted."""
    deadline = 3 * trader.config.unclear_orders.seconds + 10
    waited = 0.0
    while True:
        before = {o.client_order_id: o for o in trader.desk.live.values() if o.status is not OrderStatus.OPEN}
        over = trader.desk.sync()
        for order in over:
            if order.status is OrderStatus.ABANDONED and trader.desk.still_wanted(
                order, around.market_time, trader.bar_ms
            ):
                _send_again(trader, order)
        unclear = [o for o in trader.desk.live.values() if o.status in (OrderStatus.SENT, OrderStatus.UNKNOWN)]
        if not unclear or waited > deadline or around.stopping():
            return
        if not before:
            event("recovery", unclear[0].symbol, "waiting for the fate of orders", orders=len(unclear))
        around.wait(LOOK_EVERY)
        waited += LOOK_EVERY


def _send_again(trader: Trader, order: Order) -> None:
    """The same wish under the next attempt's id."""
    attempt = order.attempt + 1
    again = dataclasses.replace(
        order,
        client_order_id=client_order_id(trader.memory.bot_id, order.symbol, order.bar_time, order.purpose, attempt),
        attempt=attempt,
        status=OrderStatus.NEW,
        not_found=0,
        sent_date=None,
        message="",
        exchange_order_id=None,
    )
    with trader.store.transaction() as tx:
        trader.desk.intend(tx, again)
    trader.desk.send(again)


def _report_foreign_orders(trader: Trader) -> None:
    try:
        orders = trader.desk.broker.open_orders()
    except ExchangeDenied:
        raise
    except ExchangeError as error:
        event("recovery", trader.desk.broker.venue, f"open orders could not be read: {error}", level="WARNING")
        return
    prefix = f"{trader.memory.bot_id}-"
    for report in orders:
        if not report.client_order_id.startswith(prefix):
            event("recovery", report.symbol, f"not our order, left alone: {report.side} {report.quantity}",
                  level="WARNING", order=report.client_order_id or report.exchange_order_id)  # fmt: skip


def reconcile(trader: Trader) -> None:
    """Compare our books with the venue's balances, symbol by symbol, where nothing of ours is under way."""
    memory, desk = trader.memory, trader.desk
    try:
        theirs = desk.broker.balances()
    except ExchangeDenied:
        raise
    except ExchangeError as error:
        memory.degraded["reconcile"] = str(error)
        event("reconcile", desk.broker.venue, f"balances could not be read: {error}", level="WARNING")
        return
    memory.degraded.pop("reconcile", None)
    for symbol, instrument in trader.instruments.items():
        if desk.live_orders(symbol):
            continue
        _compare(
            trader, symbol, instrument.base, theirs[instrument.base].total if instrument.base in theirs else Decimal(0)
        )
    if not desk.live:
        total = theirs[memory.quote].total if memory.quote in theirs else Decimal(0)
        _compare_cash(trader, desk.account, total)


def _compare(trader: Trader, symbol: str, currency: str, theirs: Decimal) -> None:
    ours = trader.desk.account.balances.get(currency, Decimal(0))
    known = trader.memory.quarantine
    if ours == theirs:
        if known.pop(symbol, None):
            event("reconcile", symbol, "agrees again; quarantine lifted")
        return
    message = f"quarantine: the venue holds {theirs} {currency}, our fills make {ours}"
    if known.get(symbol) != message:
        event("reconcile", symbol, f"{message}; no entries until they agree", level="ERROR")
    known[symbol] = message


def _compare_cash(trader: Trader, account: Account, theirs: Decimal) -> None:
    memory = trader.memory
    ours = account.balances.get(memory.quote, Decimal(0))
    if ours == theirs:
        memory.degraded.pop("cash", None)
        return
    message = f"the venue holds {theirs} {memory.quote}, our fills make {ours}"
    if memory.degraded.get("cash") != message:
        event("reconcile", trader.desk.broker.venue, message, level="WARNING")
    memory.degraded["cash"] = message
