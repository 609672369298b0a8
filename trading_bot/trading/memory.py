"""What the trader remembers between bars, and how it is written down so that a restart changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from trading_bot.domain.journal import EquityPoint, Snapshot
from trading_bot.domain.market import Candles, Instrument
from trading_bot.ports import Store
from trading_bot.trading.portfolio import Account, rounded
from trading_bot.trading.risk import Latch, Leave, RiskState

TRADER, STATUS = "trader", "status"  # names of the two snapshots


@dataclass(slots=True)
class Memory:
    """Path-dependent state that is neither an order nor a fill."""

    bot_id: str = ""
    quote: str = ""
    start_equity: Decimal = Decimal(0)
    time: int = -1  # open of the last bar dealt with, ms
    paused: bool = False
    risk: RiskState = field(default_factory=RiskState)
    prices: dict[str, Decimal] = field(default_factory=dict)  # newest closes
    bars: dict[str, int] = field(default_factory=dict)  # open of the last bar of each symbol that was looked at, ms
    start_prices: dict[str, Decimal] = field(default_factory=dict)  # first closes, for buy-and-hold
    leaving: dict[str, Leave] = field(default_factory=dict)
    quarantine: dict[str, str] = field(default_factory=dict)  # symbol -> unexplained difference; not saved: found again
    degraded: dict[str, str] = field(default_factory=dict)  # part -> what is wrong with it now; not saved
    learning: dict[str, Any] = field(default_factory=dict)  # for `status`: last and next training; not saved

    def seen(self, symbol: str, candles: Candles, instrument: Instrument) -> int:
        """Take the newest close as the symbol's price (the very first one starts buy-and-hold); how many of the
        candles were not seen before."""
        before = self.bars.get(symbol)
        unseen = 1 if before is None else int((candles.time > before).sum())
        self.bars[symbol] = int(candles.time[-1])
        self.prices[symbol] = instrument.price(instrument.ticks(candles.close[-1]))
        self.start_prices.setdefault(symbol, self.prices[symbol])
        return max(1, unseen)

    def hold_equity(self) -> Decimal:
        """The start capital in equal parts of every symbol, bought at its first close, without costs."""
        if not self.start_prices:
            return self.start_equity
        part = self.start_equity / len(self.start_prices)
        worth = sum((part * self.prices[s] / first for s, first in self.start_prices.items()), Decimal(0))
        return worth.quantize(Decimal("1E-8"))

    def equity_point(self, account: Account, run_id: str) -> EquityPoint:
        """The account marked to market at the newest closes."""
        return EquityPoint(
            time=self.time,
            equity=rounded(self.risk.equity),
            cash=account.balances.get(self.quote, Decimal(0)),
            hold_equity=self.hold_equity(),
            drawdown=self.risk.drawdown,
            open_trades=len(account.trades),
            run_id=run_id,
        )

    def as_json(self) -> dict[str, Any]:
        """Everything saved, money as text."""
        risk = self.risk
        return {
            "time": self.time,
            "paused": self.paused,
            "bars": dict(self.bars),
            "prices": _texts(self.prices),
            "start_prices": _texts(self.start_prices),
            "leaving": {
                s: [leave.exit_reason, leave.because, None if leave.stop_price is None else str(leave.stop_price)]
                for s, leave in self.leaving.items()
            },
            "risk": {
                "latch": int(risk.latch),
                "peak": str(risk.peak),
                "day": risk.day,
                "day_start": str(risk.day_start),
                "equity": str(risk.equity),
                "cooldown": dict(risk.cooldown),
            },
        }

    def load(self, saved: Mapping[str, Any]) -> None:
        """Go on from `as_json`."""
        risk = saved["risk"]
        self.time, self.paused = saved["time"], saved["paused"]
        self.prices, self.start_prices = _decimals(saved["prices"]), _decimals(saved["start_prices"])
        self.bars = dict(saved.get("bars", {}))
        self.leaving = {
            s: Leave(reason, because, None if stop is None else Decimal(stop))
            for s, (reason, because, stop) in saved["leaving"].items()
        }
        self.risk = RiskState(
            latch=Latch(risk["latch"]),
            peak=Decimal(risk["peak"]),
            day=risk["day"],
            day_start=Decimal(risk["day_start"]),
            equity=Decimal(risk["equity"]),
            cooldown=dict(risk["cooldown"]),
        )


def status_of(memory: Memory, account: Account, mode: str, symbols: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What `trading-bot status` shows, JSON-able."""
    trades = [
        {
            "id": trade.id,
            "symbol": trade.symbol,
            "open_date": trade.open_date.isoformat(),
            "open_rate": str(trade.open_rate),
            "amount": str(trade.amount),
            "stake_amount": str(trade.stake_amount),
            "stop_loss": None if trade.stop_loss is None else str(trade.stop_loss),
            "price": str(memory.prices.get(trade.symbol, trade.open_rate)),
            "enter_tag": trade.enter_tag,
        }
        for trade in account.trades.values()
    ]
    return {
        "state": "running",
        "mode": mode,
        "time": memory.time,
        "quote": memory.quote,
        "equity": str(memory.risk.equity),
        "start_equity": str(memory.start_equity),
        "hold_equity": str(memory.hold_equity()),
        "cash": str(account.balances.get(memory.quote, Decimal(0))),
        "drawdown": memory.risk.drawdown,
        "day_change": memory.risk.day_change,
        "latch": memory.risk.latch.name.lower(),
        "paused": memory.paused,
        "symbols": dict(symbols),
        "open_trades": trades,
        "quarantine": dict(memory.quarantine),
        "degraded": dict(memory.degraded),
        "learning": dict(memory.learning),
    }


def last_bar(store: Store) -> int | None:
    """Open of the newest bar that was dealt with, in this life or an earlier one, ms; None: there was none yet."""
    with store.reading() as tx:
        saved = tx.get(Snapshot, TRADER)
    moment = -1 if saved is None else int(saved.value["memory"]["time"])
    return None if moment < 0 else moment


def _texts(values: Mapping[str, Decimal]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items()}


def _decimals(values: Mapping[str, str]) -> dict[str, Decimal]:
    return {key: Decimal(value) for key, value in values.items()}
