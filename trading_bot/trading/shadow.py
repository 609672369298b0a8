"""A shadow book: one strategy's own signals on one symbol, traded alone and on paper, with spread, impact and fees.

A strategy's record must not depend on the weight it happened to have, so each is judged by its shadow book. The rule is
the ensemble's: +1 be long, -1 be flat, 0 keep what is held. A signal at the close of bar t is filled at the open of bar
t+1, which the book learns when that bar has closed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from trading_bot.domain.account import Trade
from trading_bot.domain.market import Instrument
from trading_bot.matching import HISTORY, Bar, MatchingConfig, fill_market, liquidity
from trading_bot.matching import bars as bars_of
from trading_bot.trading.events import BarsClosed
from trading_bot.trading.views import View

_GRAIN = Decimal("1E-12")


@dataclass(frozen=True, slots=True)
class ShadowState:
    """One book in integer ticks and lots; plain values."""

    want: int = 0  # the signal waiting for the next open: +1, -1 or 0
    lots: int = 0
    entry_ticks: int = 0
    entry_time: int = 0
    regime: str = ""
    mark: int = 0  # close it was last valued at, in ticks; 0 while nothing is held
    gain: float = 0.0  # earned on its newest bar, net of fees: a ratio of what it was worth before it


IDLE = ShadowState()


@dataclass(frozen=True, slots=True)
class ShadowFill:
    """What a step did: the round trip it closed, if any, in ticks and lots."""

    entry_ticks: int
    exit_ticks: int
    lots: int
    entry_time: int
    exit_time: int
    regime: str


def step(
    state: ShadowState, bars: Sequence[Bar], time: int, stake_lots: int, config: MatchingConfig
) -> tuple[ShadowState, ShadowFill | None]:
    """Fill what was wanted at the open of the newest of `bars` (opened at `time`, ms), judged by the bars before it."""
    buy = state.want > 0 and state.lots == 0
    if not buy and not (state.want < 0 and state.lots > 0):
        return dataclasses.replace(state, want=0), None
    book = liquidity(bars[:-1], config)
    lots, ticks = fill_market(buy, stake_lots if buy else state.lots, bars[-1].open, book, config)
    if lots == 0:
        return state, None  # no volume: try again at the next open
    if buy:
        return dataclasses.replace(state, want=0, lots=lots, entry_ticks=ticks, entry_time=time), None
    done = ShadowFill(state.entry_ticks, ticks, lots, state.entry_time, time, state.regime)
    left = state.lots - lots
    return dataclasses.replace(state, want=-1 if left else 0, lots=left), done


def wish(state: ShadowState, side: int, regime: str) -> ShadowState:
    """Remember the newest signal; 0 keeps whatever is still waiting, what is held already needs no order."""
    if side == 0:
        return state
    want = 0 if (state.lots > 0) == (side > 0) else side
    if want == state.want:
        return state
    return dataclasses.replace(state, want=want, regime=regime if want > 0 else state.regime)


def valued(before: ShadowState, after: ShadowState, exit_ticks: int, close: int, fee: float) -> ShadowState:
    """`after` a bar, valued at its `close`: bought at its open, sold (some of it at `exit_ticks`) or merely held.

    Fees are a taker's, paid when they fall due. After bars that were missed the gain is that since the last one seen.
    """
    gain = 0.0
    if after.lots > before.lots:
        gain = close / after.entry_ticks - 1.0 - fee
    elif before.lots and before.mark:
        sold = before.lots - after.lots
        gain = (sold * exit_ticks * (1.0 - fee) + after.lots * close) / (before.lots * before.mark) - 1.0
    return dataclasses.replace(after, mark=close if after.lots else 0, gain=gain)


def stake_in_lots(instrument: Instrument, price: Decimal) -> int:
    """Lots of a shadow trade: two hundred times the least the venue takes, so that rounding does not matter."""
    least = max(instrument.min_notional, instrument.min_quantity * price)
    return max(1, instrument.lots(200 * least / price))


def shadow_trade(strategy: str, instrument: Instrument, fill: ShadowFill, run_id: str) -> Trade:
    """The round trip as a Trade in exact money, fees as a taker on both sides."""
    amount = instrument.quantity(fill.lots)
    entry, exit_ = instrument.price(fill.entry_ticks), instrument.price(fill.exit_ticks)
    stake, proceeds = entry * amount, exit_ * amount
    fees = (stake * instrument.taker_fee).quantize(_GRAIN), (proceeds * instrument.taker_fee).quantize(_GRAIN)
    profit = proceeds - stake - sum(fees)
    return Trade(
        id=f"S-{strategy}-{instrument.symbol}-{fill.entry_time // 1000}-{fill.exit_time // 1000}",
        exchange="shadow",
        symbol=instrument.symbol,
        strategy=strategy,
        book="shadow",
        is_open=False,
        open_date=_date(fill.entry_time),
        open_rate=entry,
        amount=amount,
        stake_amount=stake,
        fee_open=fees[0],
        fee_close=fees[1],
        close_date=_date(fill.exit_time),
        close_rate=exit_,
        close_amount=amount,
        close_profit=(profit / stake).quantize(_GRAIN),
        close_profit_abs=profit,
        exit_reason="exit_signal",
        regime=fill.regime,
        run_id=run_id,
    )


@dataclass(slots=True)
class ShadowShelf:
    """All shadow books: one for each strategy and symbol."""

    strategies: Sequence[str]
    books: dict[tuple[str, str], ShadowState] = field(default_factory=dict)

    def step(
        self,
        bars: BarsClosed,
        views: Mapping[str, View],
        instruments: Mapping[str, Instrument],
        config: MatchingConfig,
        run_id: str,
    ) -> list[Trade]:
        """Fill what the books wanted at this bar's open, value them at its close, then note what their strategies
        want now; closed trades."""
        closed = []
        for symbol, view in views.items():
            instrument, close = instruments[symbol], 0
            history: Sequence[Bar] = ()
            for strategy in self.strategies:
                before = book = self.books.get((strategy, symbol), IDLE)
                fill = None
                if book.want:
                    history = history or bars_of(view.candles, instrument, HISTORY + 1)  # the newest and its judges
                    stake = stake_in_lots(instrument, instrument.price(max(1, history[-1].open)))
                    book, fill = step(book, history, bars.time, stake, config)
                    if fill is not None:
                        closed.append(shadow_trade(strategy, instrument, fill, run_id))
                if before.lots or book.lots or book.gain:
                    close = close or instrument.ticks(view.candles.close[-1])
                    sold_at = 0 if fill is None else fill.exit_ticks
                    book = valued(before, book, sold_at, close, float(instrument.taker_fee))
                side = view.signals.get(strategy, (0, 0.0))[0]
                self.books[strategy, symbol] = wish(book, side, view.regime)
        return closed

    def gains(self, symbol: str) -> dict[str, float]:
        """What each strategy's book earned on the newest bar of `symbol`, net of fees; 0 where it held nothing."""
        return {strategy: self.books.get((strategy, symbol), IDLE).gain for strategy in self.strategies}

    def snapshot(self) -> dict[str, list[int | float | str]]:
        """The books that hold, want or have just earned something, JSON-able."""
        return {
            f"{name} {symbol}": [
                book.want,
                book.lots,
                book.entry_ticks,
                book.entry_time,
                book.regime,
                book.mark,
                book.gain,
            ]
            for (name, symbol), book in self.books.items()
            if book != IDLE
        }

    def restore(self, saved: Mapping[str, Sequence[Any]]) -> None:
        """Go on from `snapshot`; books of strategies that are gone are dropped."""
        self.books = {}
        for key, values in saved.items():
            name, symbol = key.split(" ", 1)
            if name in self.strategies:
                self.books[name, symbol] = ShadowState(*values)


def _date(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
