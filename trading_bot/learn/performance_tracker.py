"""Each strategy's record: statistics over its newest closed trades, kept in memory and warmed from the Store."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from trading_bot import metrics
from trading_bot.domain.account import Trade
from trading_bot.ports import Store, Tx


@dataclass(frozen=True, slots=True)
class StrategyMetrics:
    """A strategy's record over a window of closed trades; what is undefined is None.

    Profits are ratios of the stake, net of fees. `sharpe` and `max_drawdown` (a positive fraction) are over trades
    (`trade_sharpe`, `trade_max_drawdown`), not over daily equity. `consecutive_losses` is the current losing streak.
    """

    trades: int = 0
    win_rate: float | None = None
    profit_factor: float | None = None
    sharpe: float | None = None
    max_drawdown: float | None = None
    consecutive_losses: int = 0
    expectancy: float | None = None
    average_win: float | None = None
    average_loss: float | None = None


class PerformanceTracker:
    """Hears of every trade, answers with a strategy's metrics over a sliding window.

    Parameters
    ----------
    store
        Where trades are durable. A window is read from it the first time it is asked for and kept in memory from
        then on, so that a restart changes no answer.
    window
        Trades a strategy is judged by, unless `metrics` is asked for another number.
    """

    def __init__(self, store: Store, window: int = 50) -> None:
        _check_count("window", window)
        self._store = store
        self._window = window
        self._books: dict[tuple[str, str], _Window] = {}

    def record_trade(self, trade: Trade, tx: Tx | None = None) -> None:
        """Write `trade` down (again, if it changed) and count it if it is closed.

        Parameters
        ----------
        tx
            The transaction to write in; without it one is opened for this trade alone.

        Raises
        ------
        ValueError
            If a closed trade lacks its close date or profit.
        """
        if not trade.is_open:
            _row(trade)  # refused before anything is written
        if tx is None:
            with self._store.transaction() as own:
                self._record(trade, own)
        else:
            self._record(trade, tx)

    def _record(self, trade: Trade, tx: Tx) -> None:
        tx.update(trade)
        key = (trade.book, trade.strategy)
        kept = self._books.get(key)
        if kept is None:  # through this transaction: another connection would not see the trade yet
            self._books[key] = self._warm(tx, key, self._window)
        elif kept.knows(trade):  # told twice, or corrected
            self._books[key] = self._warm(tx, key, kept.size)
        elif not trade.is_open:
            kept.add(trade)

    def metrics(self, strategy: str, last_n: int | None = None, book: str = "shadow") -> StrategyMetrics:
        """The record of `strategy` over its newest `last_n` closed trades (the window's, if not given)."""
        count = self._window if last_n is None else last_n
        _check_count("last_n", count)
        key = (book, strategy)
        if key not in self._books or self._books[key].size < count:
            with self._store.reading() as tx:
                self._books[key] = self._warm(tx, key, max(count, self._window))
        return self._books[key].metrics(count)

    def forget(self) -> None:
        """Read the windows from the store anew: a transaction that counted a trade was rolled back."""
        self._books.clear()

    @staticmethod
    def _warm(tx: Tx, key: tuple[str, str], size: int) -> _Window:
        book, strategy = key
        return _Window(tx.find(Trade, last=size, strategy=strategy, book=book, is_open=False), size)


def measure(profits: list[float]) -> StrategyMetrics:
    """The metrics of these profits (ratios of the stake, oldest first)."""
    return StrategyMetrics(
        trades=len(profits),
        win_rate=metrics.win_rate(profits),
        profit_factor=metrics.profit_factor(profits),
        sharpe=metrics.trade_sharpe(profits),
        max_drawdown=metrics.trade_max_drawdown(profits),
        consecutive_losses=metrics.current_losing_streak(profits),
        expectancy=metrics.expectancy(profits),
        average_win=metrics.average_win(profits),
        average_loss=metrics.average_loss(profits),
    )


class _Window:
    """The newest closed trades of one strategy in one book, in the order they closed."""

    def __init__(self, trades: list[Trade], size: int) -> None:
        self.size = size
        self._rows = sorted(_row(trade) for trade in trades)
        self._answers: dict[int, StrategyMetrics] = {}

    def knows(self, trade: Trade) -> bool:
        return any(row.id == trade.id for row in self._rows)

    def add(self, trade: Trade) -> None:
        insort(self._rows, _row(trade))  # late news goes where it belongs
        del self._rows[: -self.size]
        self._answers.clear()

    def metrics(self, count: int) -> StrategyMetrics:
        if count not in self._answers:
            self._answers[count] = measure([row.profit for row in self._rows[-count:]])
        return self._answers[count]


class _Row(NamedTuple):
    """What is kept of a closed trade; sorts as the Store orders closed trades."""

    close_date: datetime
    open_date: datetime
    id: str
    profit: float


def _row(trade: Trade) -> _Row:
    if trade.close_date is None or trade.close_profit is None:
        raise ValueError(
            f"trade {trade.id} is closed but has close_date {trade.close_date} and close_profit "
            f"{trade.close_profit}; a closed trade needs both"
        )
    return _Row(trade.close_date, trade.open_date, trade.id, float(trade.close_profit))


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} should be a whole number of trades ≥ 1, is {value!r}")
