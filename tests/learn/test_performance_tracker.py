"""A strategy's record: right, the same after a restart, and unmoved by news told late or twice."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import MemoryStore
from tests.learn.trades import closed
from trading_bot import metrics
from trading_bot.domain.account import Trade
from trading_bot.learn.performance_tracker import PerformanceTracker, StrategyMetrics
from trading_bot.storage.store import open_store

PROFITS = [0.10, -0.05, 0.02, 0.0, -0.04, -0.01, 0.03, -0.02]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    opened = MemoryStore() if request.param == "memory" else open_store(f"sqlite:///{tmp_path}/bot.sqlite")
    yield opened
    opened.close()


def recorded(store: Any, profits: list[float], **about: Any) -> PerformanceTracker:
    tracker = PerformanceTracker(store)
    for number, profit in enumerate(profits):
        tracker.record_trade(closed(number, profit, **about))
    return tracker


def test_the_metrics_are_those_of_the_trades(store: Any) -> None:
    found = recorded(store, PROFITS).metrics("ema_trend")
    assert found == StrategyMetrics(
        trades=8,
        win_rate=3 / 8,
        profit_factor=pytest.approx(0.15 / 0.12),  # type: ignore[arg-type]
        sharpe=metrics.trade_sharpe(PROFITS),
        max_drawdown=metrics.trade_max_drawdown(PROFITS),
        consecutive_losses=1,
        expectancy=pytest.approx(0.03 / 8),  # type: ignore[arg-type]
        average_win=pytest.approx(0.05),  # type: ignore[arg-type]
        average_loss=pytest.approx(0.03),  # type: ignore[arg-type]
    )


def test_a_strategy_without_trades_has_an_undefined_record(store: Any) -> None:
    assert PerformanceTracker(store).metrics("nobody") == StrategyMetrics()
    assert StrategyMetrics().trades == 0
    assert StrategyMetrics().win_rate is None


def test_what_cannot_be_known_is_none_not_zero(store: Any) -> None:
    found = recorded(store, [0.1]).metrics("ema_trend")
    assert (found.trades, found.win_rate, found.consecutive_losses) == (1, 1.0, 0)
    assert (found.profit_factor, found.sharpe, found.average_loss) == (None, None, None)


def test_only_the_newest_trades_count(store: Any) -> None:
    tracker = PerformanceTracker(store, window=3)
    for number, profit in enumerate([-0.1, -0.1, 0.1, 0.1, 0.1]):
        tracker.record_trade(closed(number, profit))
    assert tracker.metrics("ema_trend").win_rate == 1.0
    assert tracker.metrics("ema_trend", last_n=1).trades == 1
    assert tracker.metrics("ema_trend", last_n=100).trades == 5, "a longer look back than the window asks the store"
    assert tracker.metrics("ema_trend").trades == 3


def test_books_and_strategies_are_kept_apart(store: Any) -> None:
    tracker = PerformanceTracker(store)
    tracker.record_trade(closed(0, 0.1))
    tracker.record_trade(closed(1, -0.1, book="account", strategy="ensemble"))
    tracker.record_trade(closed(2, -0.1, strategy="other"))
    assert tracker.metrics("ema_trend").win_rate == 1.0
    assert tracker.metrics("other").win_rate == 0.0
    assert tracker.metrics("ensemble").trades == 0
    assert tracker.metrics("ensemble", book="account").trades == 1


def test_a_restart_changes_no_answer(store: Any) -> None:
    chance = random.Random(5)
    tracker = PerformanceTracker(store, window=20)
    for number in chance.sample(range(200), 90):
        tracker.record_trade(closed(number, round(chance.gauss(0, 0.05), 6), hours=chance.randint(1, 30)))
        assert PerformanceTracker(store, window=20).metrics("ema_trend") == tracker.metrics("ema_trend")


def test_the_trades_survive_in_sql(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bot.sqlite"
    first = open_store(url)
    before = recorded(first, PROFITS).metrics("ema_trend")
    first.close()
    second = open_store(url)
    assert PerformanceTracker(second).metrics("ema_trend") == before
    with second.reading() as tx:
        assert len(tx.find(Trade)) == 8
    second.close()


def test_a_trade_told_twice_counts_once(store: Any) -> None:
    tracker = recorded(store, PROFITS)
    before = tracker.metrics("ema_trend")
    tracker.record_trade(closed(7, PROFITS[7]))
    tracker.record_trade(closed(0, PROFITS[0]))
    assert tracker.metrics("ema_trend") == before


def test_a_trade_told_again_after_it_left_the_window_stays_out(store: Any) -> None:
    tracker = PerformanceTracker(store, window=3)
    for number in range(5):
        tracker.record_trade(closed(number, 0.1 * (number + 1)))
    before = tracker.metrics("ema_trend")
    tracker.record_trade(closed(0, 0.1))
    assert tracker.metrics("ema_trend") == before
    assert PerformanceTracker(store, window=3).metrics("ema_trend") == before


def test_late_news_goes_where_it_belongs(store: Any) -> None:
    tracker = PerformanceTracker(store)
    for number in (0, 2, 3):
        tracker.record_trade(closed(number, -0.1))
    assert tracker.metrics("ema_trend").consecutive_losses == 3
    tracker.record_trade(closed(1, 0.1))
    assert tracker.metrics("ema_trend").consecutive_losses == 2


def test_a_corrected_trade_replaces_what_was_known(store: Any) -> None:
    tracker = recorded(store, [0.1, 0.1])
    tracker.record_trade(closed(1, -0.1))
    assert tracker.metrics("ema_trend").consecutive_losses == 1
    assert tracker.metrics("ema_trend").trades == 2


def test_an_open_trade_is_written_but_not_counted(store: Any) -> None:
    tracker = recorded(store, [0.1])
    opened = dataclasses.replace(
        closed(1, 0.0), is_open=True, close_date=None, close_rate=None, close_profit=None, close_profit_abs=None
    )
    tracker.record_trade(opened)
    assert tracker.metrics("ema_trend").trades == 1
    with store.reading() as tx:
        assert tx.get(Trade, opened.id) == opened
    tracker.record_trade(closed(1, -0.2))
    assert tracker.metrics("ema_trend").trades == 2
    assert tracker.metrics("ema_trend").consecutive_losses == 1


def test_a_given_transaction_is_used_and_seen_at_once(store: Any) -> None:
    tracker = PerformanceTracker(store)
    with store.transaction() as tx:
        tracker.record_trade(closed(0, 0.1), tx)
        tracker.record_trade(closed(1, -0.1), tx)
        assert tracker.metrics("ema_trend").trades == 2
    assert tracker.metrics("ema_trend").trades == 2
    assert PerformanceTracker(store).metrics("ema_trend").trades == 2


def test_a_closed_trade_without_profit_is_refused_before_anything_is_written(store: Any) -> None:
    tracker = PerformanceTracker(store)
    with pytest.raises(ValueError, match="needs both"):
        tracker.record_trade(dataclasses.replace(closed(0, 0.1), close_profit=None))
    with store.reading() as tx:
        assert tx.find(Trade) == []


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True])
def test_counts_are_whole_and_positive(store: Any, wrong: Any) -> None:
    with pytest.raises(ValueError, match="window should be a whole number"):
        PerformanceTracker(store, window=wrong)
    with pytest.raises(ValueError, match="last_n should be a whole number"):
        PerformanceTracker(store).metrics("ema_trend", last_n=wrong)


def test_an_answer_over_many_trades_takes_milliseconds(tmp_path: Path) -> None:
    """20,000 rows here; what makes it hold for millions is that the question is served by an index."""
    store = open_store(f"sqlite:///{tmp_path}/bot.sqlite")
    with store.transaction() as tx:
        for number in range(20_000):
            tx.add(closed(number, 0.01, strategy=f"s{number % 6}"))
    took = []
    for _ in range(5):
        began = time.perf_counter()
        assert PerformanceTracker(store).metrics("s3").trades == 50
        took.append(time.perf_counter() - began)
    store.close()
    assert min(took) < 0.010


def test_profits_are_read_from_decimals_without_loss_of_sign() -> None:
    store = MemoryStore()
    tracker = PerformanceTracker(store)
    tiny = dataclasses.replace(closed(0, 0.0), close_profit=Decimal("-1E-12"))
    tracker.record_trade(tiny)
    assert tracker.metrics("ema_trend").consecutive_losses == 1
