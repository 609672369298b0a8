"""Every limit of loss, shown on the real local exchange: HTTP, unmodified ccxt, candles made for the purpose."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import talib

from tests.end_to_end.crafted import FIRST, HOUR, QUIET, Script, crafted, flat, path
from trading_bot.domain.orders import OrderStatus, Purpose
from trading_bot.trading.risk import Latch

BTC, ETH, ADA = "BTC/USDT", "ETH/USDT", "ADA/USDT"

# ── leaving ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stop_on_a_gap_slips_and_is_recorded_so(tmp_path: Path) -> None:
    bars = [*flat(100.0, 2), *flat(80.0, 3)]
    with crafted(tmp_path, {BTC: bars}, {BTC: {0: 1}}, stoploss=-0.05) as show:
        show.play()
        (trade,) = show.trades()
        assert (trade.exit_reason, trade.is_open) == ("stop_loss", False)
        assert trade.stop_loss == Decimal("95")
        assert trade.close_rate is not None
        assert trade.close_rate < Decimal("80.01") < trade.stop_loss
        assert trade.close_profit is not None
        assert trade.close_profit < Decimal("-0.19")
        assert show.outcomes()[2] == "sell"
        assert show.decisions()[2].reason == "stop_loss: low 79.89 at or below stop 95.00"
        (line,) = show.logged("fill", "sell", "stop=95.00")
        slipped = float(line.split("slippage=")[1].split(" bp")[0])
        assert slipped == pytest.approx(float((95 - trade.close_rate) / 95 * 10_000), abs=0.1)
        assert slipped > 1500
        (exit_,) = [order for order in show.orders() if order.purpose is Purpose.STOP]
        assert (exit_.stop_price, exit_.reason) == (Decimal("95"), "stop_loss")


def test_a_stop_stands_so_many_average_ranges_below(tmp_path: Path) -> None:
    quiet = flat(100.0, QUIET, wick=1.0)
    bars = [*flat(100.0, 3, wick=1.0), *path(95.0, 95.0, wick=0.5), *flat(94.0, 3)]
    risk = {"atr_stop_multiple": 3.0, "atr_period": 14}
    with crafted(tmp_path, {BTC: bars}, {BTC: {0: 1}}, quiet={BTC: quiet}, stoploss=-0.5, risk=risk) as show:
        show.play()
        (trade,) = show.trades()
        rows = np.array([*quiet, bars[0]], float)
        atr = talib.ATR(rows[:, 1], rows[:, 2], rows[:, 3], 14)[-1]
        assert trade.initial_stop_loss is not None
        assert float(trade.initial_stop_loss) == pytest.approx(100 - 3 * atr, abs=0.011)
        assert trade.exit_reason == "stop_loss"
        assert show.outcomes()[5] == "sell", "the first low at or below 94"


def test_a_trailing_stop_follows_the_best_price_and_never_falls(tmp_path: Path) -> None:
    bars = path(100, 105, 110, 120, 116, 115, 113.5, 113, 113)
    with crafted(tmp_path, {BTC: bars}, {BTC: {0: 1}}, stoploss=-0.05, trailing_stop=True) as show:
        stops = []
        for _ in bars[:-1]:
            show.step()
            stops += [trade.stop_loss or Decimal(0) for trade in show.trades() if trade.is_open]
        assert stops == sorted(stops)
        show.play()
        (trade,) = show.trades()
        assert trade.exit_reason == "trailing_stop_loss"
        assert trade.max_rate == Decimal("120.11")
        assert trade.stop_loss == Decimal("114.11")  # 5 % below, on the next tick up
        assert trade.initial_stop_loss == Decimal(95)
        assert trade.close_profit is not None
        assert trade.close_profit > 0
        assert show.outcomes()[6] == "sell"


def test_a_trailing_stop_comes_closer_once_in_profit(tmp_path: Path) -> None:
    bars = path(100, 103, 106, 105, 103.5, 103.5)
    settings: dict[str, Any] = {
        "trailing_stop": True, "trailing_stop_positive": 0.02, "trailing_stop_positive_offset": 0.05
    }  # fmt: skip
    with crafted(tmp_path, {BTC: bars}, {BTC: {0: 1}}, stoploss=-0.10, **settings) as show:
        show.step(3)
        assert show.trades()[0].stop_loss == Decimal("103.99")  # 106.11 less 2 %, from 5 % profit on
        show.play()
        assert show.trades()[0].exit_reason == "trailing_stop_loss"


def test_a_profit_that_suffices_depends_on_the_time_in_the_trade(tmp_path: Path) -> None:
    bars = path(100, 104, 104, 104, 104, 104)
    roi = {"0": 0.10, "180": 0.02}
    with crafted(tmp_path, {BTC: bars}, {BTC: {0: 1}}, minimal_roi=roi) as show:
        show.play()
        (trade,) = show.trades()
        assert show.outcomes() == {**dict.fromkeys(range(-1, 3), "hold"), 0: "buy", 3: "sell", 4: "hold", 5: "hold"}
        assert trade.exit_reason == "roi"
        assert show.decisions()[3].reason.startswith("roi: profit 3.")
        assert trade.close_profit is not None
        assert trade.close_profit > Decimal("0.02")


def test_a_trade_ends_when_its_bars_are_over(tmp_path: Path) -> None:
    with crafted(tmp_path, {BTC: flat(100.0, 10)}, {BTC: {0: 1}}, risk={"max_bars": 5}) as show:
        show.play()
        (trade,) = show.trades()
        assert trade.exit_reason == "time_stop"
        assert trade.close_date is not None
        assert (trade.close_date - trade.open_date).total_seconds() == 5 * 3600


# ── not entering ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_after_a_loss_a_symbol_rests(tmp_path: Path) -> None:
    bars = [*flat(100.0, 2), *path(90.0), *flat(90.0, 6)]
    scripts = {BTC: dict.fromkeys(range(len(bars)), 1), ETH: {4: 1}}
    with crafted(
        tmp_path, {BTC: bars, ETH: flat(100.0, len(bars))}, scripts, stoploss=-0.05, risk={"cooldown_bars": 2}
    ) as show:
        show.play()
        said = show.decisions()
        assert said[2].outcome == "sell"
        assert [said[bar].outcome for bar in (3, 4)] == ["denied", "denied"]
        assert said[3].reason == "cooldown of 2 bars after a loss"
        assert said[5].outcome == "buy"
        assert show.outcomes(ETH)[4] == "buy", "another symbol has no part in it"


def test_a_day_with_too_great_a_loss_sees_no_more_entries(tmp_path: Path) -> None:
    bars = [*flat(100.0, 2), *path(84.0), *flat(84.0, 24)]
    scripts = {BTC: {0: 1, 4: 1, 23: 1, 24: 1}}
    risk = {"daily_loss_limit": 0.05, "max_position": 0.4}
    with crafted(tmp_path, {BTC: bars}, scripts, stoploss=-0.10, risk=risk) as show:
        show.play()
        said = show.decisions()
        assert said[2].outcome == "sell"
        for bar in (4,):
            assert said[bar].outcome == "denied"
            assert said[bar].reason.startswith("daily loss limit 5.00%: day -6.")
        assert (FIRST + 23 * HOUR) // 86_400_000 == FIRST // 86_400_000
        assert said[23].outcome == "denied", "the bar that closes at midnight still belongs to the day"
        assert said[24].outcome == "buy"


def test_drawdown_takes_permission_away_step_by_step_and_only_resume_gives_it_back(tmp_path: Path) -> None:
    falling = [100.0, 100.0, 94.0, 88.0, 82.0, 75.0, 75.0, 75.0, 75.0, 75.0, 75.0, 75.0]
    scripts = {BTC: {0: 1, 8: 1, 9: 1, 10: 1}, ETH: {4: 1}}
    risk = {"drawdown_reduce": 0.10, "drawdown_halt": 0.15, "drawdown_flatten": 0.20, "max_position": 0.9}
    with crafted(tmp_path, {BTC: path(*falling), ETH: flat(100.0, 12)}, scripts, stoploss=-0.9, risk=risk) as show:

        def latch() -> Latch:
            return show.bot.trader.memory.risk.latch

        show.step(2)
        assert latch() is Latch.NONE
        seen: list[Latch] = []
        while not seen or seen[-1] is not Latch.FLATTEN:
            show.step()
            seen.append(latch())
        assert seen == [Latch.NONE, Latch.REDUCE, Latch.HALT, Latch.FLATTEN]
        assert show.decisions(ETH)[4].reason == "drawdown latch halt until `trading-bot resume`"
        assert show.decisions()[5].reason.startswith("drawdown_stop: 2")
        sold = next(trade for trade in show.trades() if trade.symbol == BTC)
        assert (sold.is_open, sold.exit_reason) == (False, "drawdown_stop")
        assert {trade.is_open for trade in show.trades()} <= {False}

        show.restart()
        assert latch() is Latch.FLATTEN
        show.step(4)
        assert show.outcomes()[8] == "denied"
        assert show.decisions()[8].reason == "drawdown latch flatten until `trading-bot resume`"
        answer = show.tell("resume")
        assert "drawdown latch flatten released" in answer
        assert latch() is Latch.NONE
        show.restart()
        assert latch() is Latch.NONE
        show.step(1)
        assert show.outcomes()[10] == "buy"
        show.play()


def test_a_reduced_account_enters_with_half(tmp_path: Path) -> None:
    bars = path(100, 100, 86, 86, 86, 86)
    scripts = {BTC: {0: 1, 2: -1, 4: 1}}
    risk = {"drawdown_reduce": 0.10, "max_position": 0.8}
    with crafted(tmp_path, {BTC: bars}, scripts, stoploss=-0.9, risk=risk) as show:
        show.play()
        first, second = show.trades()
        equity = show.bot.trader.memory.risk.equity
        assert float(first.stake_amount) == pytest.approx(8_000, rel=0.01)
        assert float(second.stake_amount) == pytest.approx(float(equity) * 0.4, rel=0.01)


def test_an_entry_is_denied_that_would_take_value_at_risk_over_its_limit(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    closes = np.round(100 * np.exp(np.cumsum(random.normal(0, 0.02, QUIET))), 2)
    wild = path(*closes.tolist(), wick=0.5)
    price = float(closes[-1])
    bars = {BTC: flat(price, 4), ETH: flat(100.0, 4)}
    scripts = {BTC: {0: 1}, ETH: {1: 1}}
    with crafted(tmp_path, bars, scripts, quiet={BTC: wild}, risk={"var_limit": 0.05}) as show:
        show.play()
        returns = np.diff(np.append(closes, price)[-481:]) / np.append(closes, price)[-481:-1]
        day = -np.quantile(returns, 0.05) * np.sqrt(24) * 0.4
        said = show.decisions()[0]
        assert said.outcome == "denied"
        assert said.reason.startswith("var_limit 5.00%: one-day VaR95% would be ")
        assert float(said.reason.split()[-1].rstrip("%")) / 100 == pytest.approx(day, rel=0.05)
        assert show.outcomes(ETH)[1] == "buy", "a quiet one is let in"


def test_entries_compete_by_score_then_by_name(tmp_path: Path) -> None:
    bars = {symbol: flat(100.0, 8) for symbol in (ADA, BTC, ETH)}
    scripts: dict[str, Script] = {
        ADA: {0: (1, 0.5), 2: -1, 4: (1, 0.7)},
        BTC: {0: (1, 0.6), 2: -1, 4: (1, 0.7)},
        ETH: {0: (1, 0.9), 2: -1, 4: (1, 0.7)},
    }
    with crafted(tmp_path, bars, scripts, max_open_trades=2, risk={"max_position": 0.2}) as show:
        show.play()
        assert [show.outcomes(s)[0] for s in (ADA, BTC, ETH)] == ["denied", "buy", "buy"]
        assert show.decisions(ADA)[0].reason == "max_open_trades 2 of 2"
        assert [show.outcomes(s)[4] for s in (ADA, BTC, ETH)] == ["buy", "buy", "denied"]


def test_sizes_are_capped_by_position_exposure_and_cash(tmp_path: Path) -> None:
    bars = {symbol: flat(100.0, 4) for symbol in (ADA, BTC, ETH)}
    scripts = {ADA: {0: (1, 0.9)}, BTC: {0: (1, 0.8)}, ETH: {0: (1, 0.7)}}
    risk = {"max_position": 0.6, "max_exposure": 1.0}
    with crafted(tmp_path, bars, scripts, risk=risk) as show:
        show.play()
        stakes = [float(trade.stake_amount) for trade in sorted(show.trades(), key=lambda t: t.symbol)]
        assert stakes[0] == pytest.approx(6_000, rel=0.002)  # max_position
        assert 3_800 < stakes[1] < 3_980  # what cash is left, less the margin for costs
        assert len(stakes) == 2
        assert show.outcomes(ETH)[0] == "denied"
        assert "below the venue's minimum 5.00" in show.decisions(ETH)[0].reason


def test_exposure_caps_what_a_second_position_may_be(tmp_path: Path) -> None:
    bars = {symbol: flat(100.0, 4) for symbol in (BTC, ETH)}
    scripts = {BTC: {0: 1}, ETH: {1: 1}}
    with crafted(tmp_path, bars, scripts, risk={"max_position": 0.4, "max_exposure": 0.5}) as show:
        show.play()
        stakes = {trade.symbol: float(trade.stake_amount) for trade in show.trades()}
        assert stakes[BTC] == pytest.approx(4_000, rel=0.002)
        assert stakes[ETH] == pytest.approx(1_000, rel=0.02)


def test_risk_per_trade_sets_the_size(tmp_path: Path) -> None:
    risk = {"risk_per_trade": 0.01, "max_position": 0.9}
    with crafted(tmp_path, {BTC: flat(100.0, 3)}, {BTC: {0: 1}}, stoploss=-0.05, risk=risk) as show:
        show.play()
        assert float(show.trades()[0].stake_amount) == pytest.approx(100 / 0.05, rel=0.002)


def test_what_the_venue_would_not_take_is_denied_with_the_reason(tmp_path: Path) -> None:
    with crafted(tmp_path, {BTC: flat(100.0, 3)}, {BTC: {0: 1}}, stake_amount=3) as show:
        show.play()
        said = show.decisions()[0]
        assert (said.outcome, said.reason) == (
            "denied", "size 3.00 USDT by stake_amount is below the venue's minimum 5.00"
        )  # fmt: skip
        assert not show.orders()


# ── limit orders ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_limit_entry_that_is_not_filled_is_cancelled_in_time(tmp_path: Path) -> None:
    bars = [*flat(100.0), *path(101.0, 103.0, 103.0, 103.0, begin=100.5, wick=0.2)]
    with crafted(tmp_path, {BTC: bars}, {BTC: {0: 1, 1: 1}}, order_types={"entry": "limit"}) as show:
        show.step()
        (order,) = show.orders()
        assert (order.status, order.price) == (OrderStatus.OPEN, Decimal(100))
        assert show.local.exchange is not None
        assert len(show.local.exchange.venue.open_orders()) == 1
        show.step()
        assert show.decisions()[1].reason == f"order under way: {order.client_order_id}"
        show.play()
        (order,) = show.orders()
        assert (order.status, order.filled) == (OrderStatus.CANCELED, Decimal(0))
        assert not show.local.exchange.venue.open_orders()
        assert not show.trades()
        assert show.logged("order", "is canceled")


def test_a_limit_exit_gives_way_to_a_stop(tmp_path: Path) -> None:
    bars = [*flat(100.0, 2), *flat(99.0), *flat(94.0, 3)]
    with crafted(tmp_path, {BTC: bars}, {BTC: {0: 1, 1: -1}}, stoploss=-0.05, order_types={"exit": "limit"}) as show:
        show.play()
        (trade,) = show.trades()
        assert trade.exit_reason == "stop_loss"
        kinds = {order.purpose: order.status for order in show.orders()}
        assert kinds[Purpose.EXIT] is OrderStatus.CANCELED
        assert kinds[Purpose.STOP] is OrderStatus.FILLED


def test_a_position_too_small_to_sell_ends_as_dust(tmp_path: Path) -> None:
    """Worth 6 when bought, 4.80 when the stop is hit: the venue takes no order for it, and it holds no place."""
    bars = [*flat(100.0, 2), *flat(80.0, 4)]
    with crafted(tmp_path, {BTC: bars}, {BTC: {0: 1, 4: 1}}, stoploss=-0.05, stake_amount=6, max_open_trades=1) as show:
        show.play()
        first, second = show.trades()
        assert (first.exit_reason, first.is_open, first.close_amount) == ("dust", False, Decimal(0))
        assert show.decisions()[2].outcome == "denied"
        assert show.decisions()[2].reason.startswith("dust: ")
        assert show.outcomes()[4] == "buy"
        assert second.is_open
        show.restart()
        show.agree()
        assert show.bot.trader.desk.account.trades == {BTC: second}
