"""Risk as pure functions: laws of sizes, stops, latches and gates."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trading.stage import HOUR, START, candles, instrument, wander
from trading_bot.domain.account import Position, Trade
from trading_bot.domain.market import Candles
from trading_bot.domain.orders import Denied
from trading_bot.trading.config import RiskConfig, TradingConfig
from trading_bot.trading.portfolio import Account, is_dust
from trading_bot.trading.risk import (
    DAY_MS,
    Latch,
    RiskState,
    Situation,
    cooled,
    entry_gate,
    entry_size,
    marked,
    must_leave,
    net_profit_ratio,
    protective_stop,
    raised_stop,
    resumed,
    value_at_risk,
    var_gate,
    wanted_profit,
)

BTC = "BTC/USDT"
KNOWN = instrument(BTC)
OPENED = datetime.fromtimestamp(START / 1000, UTC)
money = st.decimals(Decimal(1), Decimal(10**7), places=2)


def situation(**changes: Any) -> Situation:
    made = Situation(
        symbol=BTC, close_time=START, late=False, paused=False, obstacle="", open_trades=0, cash=Decimal(10_000),
        exposure=Decimal(0), price=Decimal(100), stop=Decimal(95),
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def state(equity: str = "10000", **changes: Any) -> RiskState:
    return RiskState(peak=Decimal(equity), equity=Decimal(equity), day_start=Decimal(equity), **changes)


def trade(**changes: Any) -> Trade:
    made = Trade(
        id="T1", exchange="x", symbol=BTC, strategy="ensemble", book="account", is_open=True, open_date=OPENED,
        open_rate=Decimal(100), amount=Decimal(1), stake_amount=Decimal(100), stop_loss=Decimal(95),
        initial_stop_loss=Decimal(95), max_rate=Decimal(100),
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def bar(low: float, high: float, close: float, number: int = 1) -> Candles:
    time = np.array([START + number * HOUR - HOUR], np.int64)
    opened, highest, lowest, closed, volume = (np.array([value]) for value in (close, high, low, close, 1000.0))
    return Candles(BTC, "1h", time, opened, highest, lowest, closed, volume)


# ── sizes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    price=money, below=st.decimals(Decimal("0.0001"), Decimal("0.9"), places=4), equity=money, cash=money,
    exposure=money, risk=st.sampled_from((0.0, 0.001, 0.01, 0.5)), position=st.sampled_from((0.05, 0.4, 1.0)),
    stake=st.one_of(st.just("unlimited"), money), latch=st.sampled_from((Latch.NONE, Latch.REDUCE)),
)  # fmt: skip
def test_no_size_is_beyond_any_cap(
    price: Decimal, below: Decimal, equity: Decimal, cash: Decimal, exposure: Decimal, risk: float, position: float,
    stake: Any, latch: Latch,
) -> None:  # fmt: skip
    stop = max(KNOWN.tick, (price * (1 - below)).quantize(KNOWN.tick))
    config = TradingConfig(stake_amount=stake, risk=RiskConfig(risk_per_trade=risk, max_position=position))
    at = situation(price=price, stop=stop, cash=cash, exposure=exposure)
    size = entry_size(at, state(str(equity), latch=latch), KNOWN, config)
    if isinstance(size, Denied):
        assert "below the venue's minimum" in size.reason or "no stop fits" in size.reason
        return
    half = Decimal("0.5") if latch is Latch.REDUCE else Decimal(1)
    worth = size * price
    assert size % KNOWN.lot == 0
    assert not is_dust(size, price, KNOWN)
    assert worth <= cash
    assert worth <= Decimal(repr(position)) * equity * half
    assert worth + exposure <= Decimal("0.95") * equity
    if risk:
        assert size * (price - stop) <= Decimal(repr(risk)) * equity * half
    if stake != "unlimited":
        assert worth <= stake * half


def test_no_stop_below_a_price_of_one_tick() -> None:
    tick = Decimal("0.01")
    stop = protective_stop(tick, 0.0, KNOWN, TradingConfig())
    denied = entry_size(situation(price=tick, stop=stop), state(), KNOWN, TradingConfig())
    assert denied == Denied("no stop fits below price 0.01: the venue's tick is 0.01")


def test_the_largest_order_of_the_venue_is_not_exceeded() -> None:
    config = TradingConfig(risk=RiskConfig(risk_per_trade=0))
    known = dataclasses.replace(KNOWN, max_quantity=Decimal(3))
    assert entry_size(situation(), state(), known, config) == 3


# ── stops ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    price=st.decimals(Decimal("0.05"), Decimal(10**6), places=2), atr=st.floats(0, 1e6), loss=st.floats(-0.99, -0.01)
)
def test_a_protective_stop_is_on_a_tick_below_the_price_and_no_farther_than_the_fixed_one(
    price: Decimal, atr: float, loss: float
) -> None:
    stop = protective_stop(price, atr, KNOWN, TradingConfig(stoploss=loss))
    assert stop % KNOWN.tick == 0
    assert KNOWN.tick <= stop < price
    assert stop >= min(price * (1 + Decimal(repr(loss))), price - KNOWN.tick)


@pytest.mark.parametrize("atr", [math.nan, math.inf, 0.0, -1.0])
def test_without_a_usable_range_the_fixed_stop_stands(atr: float) -> None:
    assert protective_stop(Decimal(100), atr, KNOWN, TradingConfig(stoploss=-0.1)) == 90


@given(st.lists(st.floats(50, 200), min_size=1, max_size=30), st.booleans())
def test_a_trailing_stop_never_falls(highs: list[float], positive: bool) -> None:
    config = TradingConfig(
        trailing_stop=True, stoploss=-0.1, trailing_stop_positive=0.02 if positive else None,
        trailing_stop_positive_offset=0.05,
    )  # fmt: skip
    held = trade()
    for high in highs:
        after = raised_stop(held, bar(high - 1, high, high - 0.5), KNOWN, config)
        assert after.stop_loss is not None
        assert held.stop_loss is not None
        assert after.stop_loss >= held.stop_loss
        assert after.max_rate is not None
        assert after.stop_loss < after.max_rate
        assert after.initial_stop_loss == held.initial_stop_loss
        held = after


# ── leaving ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stop_goes_before_a_profit_and_a_profit_before_time() -> None:
    config = TradingConfig(minimal_roi={"0": 0.01}, risk=RiskConfig(max_bars=1))
    both = must_leave(trade(), bar(95.0, 110.0, 108.0), HOUR, KNOWN, config)
    assert both is not None
    assert (both.exit_reason, both.stop_price) == ("stop_loss", Decimal(95))
    profit = must_leave(trade(), bar(95.01, 110.0, 108.0), HOUR, KNOWN, config)
    assert profit is not None
    assert profit.exit_reason == "roi"
    time = must_leave(trade(), bar(95.01, 110.0, 100.0), HOUR, KNOWN, config)
    assert time is not None
    assert time.exit_reason == "time_stop"
    assert must_leave(trade(), bar(95.01, 110.0, 100.0), HOUR, KNOWN, TradingConfig()) is None


@pytest.mark.parametrize(("minutes", "wanted"), [(0, 0.1), (59, 0.1), (60, 0.05), (240, -0.01), (10**6, -0.01)])
def test_the_profit_wanted_is_that_of_the_latest_row_reached(minutes: int, wanted: float) -> None:
    assert wanted_profit(minutes, {"240": -0.01, "0": 0.1, "60": 0.05}) == wanted


def test_no_profit_is_wanted_before_the_first_row() -> None:
    assert wanted_profit(5, {"10": 0.1}) is None
    assert wanted_profit(5, {}) is None


def test_a_profit_is_net_of_both_fees() -> None:
    assert net_profit_ratio(trade(), Decimal(110), KNOWN) == pytest.approx(1.1 * 0.999**2 - 1)


# ── latch, day, cooldown ────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.decimals(Decimal(1), Decimal(20_000), places=2), min_size=1, max_size=40))
def test_the_latch_only_rises_until_resumed(path: list[Decimal]) -> None:
    now, config = state(), RiskConfig()
    for number, equity in enumerate(path):
        after = marked(now, equity, START + number * HOUR, config)
        assert after.latch >= now.latch
        assert after.peak == max(now.peak, equity)
        assert 0 <= after.drawdown <= 1
        if after.drawdown >= config.drawdown_flatten:
            assert after.latch is Latch.FLATTEN
        now = after
    again = resumed(now)
    assert (again.latch, again.drawdown) == (Latch.NONE, 0.0)


def test_a_level_of_zero_is_off() -> None:
    config = RiskConfig(drawdown_reduce=0, drawdown_halt=0, drawdown_flatten=0.5)
    assert marked(state(), Decimal(5_001), START, config).latch is Latch.NONE
    assert marked(state(), Decimal(5_000), START, config).latch is Latch.FLATTEN


def test_a_day_is_measured_from_the_last_mark_of_the_day_before() -> None:
    midnight = START // DAY_MS * DAY_MS
    config = RiskConfig()
    now = marked(state(), Decimal(9_800), midnight - HOUR, config)
    now = marked(now, Decimal(9_700), midnight, config)  # this close still belongs to the old day
    assert now.day_start == Decimal(10_000)
    now = marked(now, Decimal(9_600), midnight + HOUR, config)
    assert now.day_start == Decimal(9_700)
    assert now.day_change == pytest.approx(9_600 / 9_700 - 1)


@pytest.mark.parametrize(("profit", "rests"), [("-0.01", True), ("0", False), ("5", False)])
def test_only_a_loss_makes_a_symbol_rest(profit: str, rests: bool) -> None:
    closed = trade(is_open=False, close_date=OPENED, close_profit_abs=Decimal(profit))
    after = cooled(RiskState(), closed, HOUR, RiskConfig(cooldown_bars=3))
    assert dict(after.cooldown) == ({BTC: START + 3 * HOUR} if rests else {})


# ── gates ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("at", "before", "reason"),
    [
        ({"late": True, "paused": True}, {}, "late bar"),
        ({"paused": True, "obstacle": "x"}, {}, "paused by the user"),
        ({"obstacle": "quarantine: y"}, {"latch": Latch.HALT}, "quarantine: y"),
        ({}, {"latch": Latch.HALT}, "drawdown latch halt until"),
        ({}, {"latch": Latch.FLATTEN}, "drawdown latch flatten until"),
        ({"open_trades": 3}, {}, "max_open_trades 3 of 3"),
        ({"open_trades": 3}, {"cooldown": {BTC: START}}, "cooldown of 2 bars after a loss"),
    ],
)
def test_every_gate_names_itself(at: Mapping[str, Any], before: Mapping[str, Any], reason: str) -> None:
    denied = entry_gate(situation(**at), state(**before), TradingConfig())
    assert denied is not None
    assert denied.reason.startswith(reason)


def test_a_reduced_account_may_enter() -> None:
    assert entry_gate(situation(), state(latch=Latch.REDUCE), TradingConfig()) is None
    assert entry_gate(situation(), state(cooldown={BTC: START - 1}), TradingConfig()) is None


def test_the_limit_of_a_day() -> None:
    lost = dataclasses.replace(state(), equity=Decimal(9_500))
    denied = entry_gate(situation(), lost, TradingConfig())
    assert denied == Denied("daily loss limit 5.00%: day -5.00%")
    assert entry_gate(situation(), lost, TradingConfig(risk=RiskConfig(daily_loss_limit=0))) is None


# ── value at risk ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_value_at_risk_against_a_plain_computation() -> None:
    one, two = wander(400, 1, BTC), wander(400, 2, "ETH/USDT")
    config = RiskConfig(var_window=100, var_confidence=0.95)
    var = value_at_risk({BTC: 1000.0, "ETH/USDT": 500.0}, {BTC: one, "ETH/USDT": two}, HOUR, config)
    first = one.close[-100:] / one.close[-101:-1] - 1
    second = two.close[-100:] / two.close[-101:-1] - 1
    plain = sorted(1000 * first + 500 * second)
    assert var is not None
    assert -plain[5] * math.sqrt(24) <= var <= -plain[4] * math.sqrt(24)


def test_value_at_risk_uses_bars_that_all_symbols_have() -> None:
    one, two = wander(400, 1, BTC), wander(400, 2, "ETH/USDT")
    config = RiskConfig(var_window=100)
    assert value_at_risk({BTC: 1.0, "ETH/USDT": 1.0}, {BTC: one, "ETH/USDT": two[:320]}, HOUR, config) is None
    assert value_at_risk({BTC: 1.0}, {BTC: one[:20]}, HOUR, config) is None
    assert value_at_risk({BTC: 1.0}, {BTC: candles(np.full(200, 100.0))}, HOUR, config) == 0.0


def test_a_position_without_candles_counts_and_stops_nobody() -> None:
    config = RiskConfig(var_limit=0.05, var_window=100)
    rows = {BTC: wander(400, 1, BTC)}
    alone = value_at_risk({BTC: 1000.0}, rows, HOUR, config)
    assert alone is not None
    held = Account(positions={"ETH/USDT": Position("ETH/USDT", Decimal(10), Decimal(1000), "T1")})
    prices = {BTC: Decimal(100), "ETH/USDT": Decimal(100)}
    equity = Decimal(repr(round(alone * 1.5 / 0.05, 2)))  # room for one and a half

    def denied(account: Account) -> Denied | None:
        return var_gate(account, situation(), Decimal(1000), rows, prices, state(str(equity)), HOUR, config)

    assert denied(Account()) is None
    no = denied(held)
    assert no is not None
    assert no.reason.startswith("var_limit 5.00%: one-day VaR95% would be 6.6")
