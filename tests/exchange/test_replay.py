"""A replayed market: its time line, and that nothing of the future shows but one open."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from tests.exchange.replays import HOUR, START, rows, wandering
from trading_bot.domain.market import Candles
from trading_bot.errors import CandleDataError, ConfigurationError
from trading_bot.exchange.config import PaperConfig
from trading_bot.exchange.replay import ReplayMarket, Step, default_balances, instruments_from
from trading_bot.ports import CandleSource, MarketClock, MarketEnded

BTC, ETH = "BTC/USDT", "ETH/USDT"
FLAT = (10.0, 11.0, 9.0, 10.0, 5.0)


def test_it_is_a_source_and_a_clock() -> None:
    market: CandleSource = ReplayMarket({BTC: wandering(BTC, 10, 1)}, history=5)
    clock: MarketClock = ReplayMarket({BTC: wandering(BTC, 10, 1)}, history=5)
    assert len(market.candles(BTC, "1h")) == 5
    assert clock.now() == START + 5 * HOUR


def test_the_clock_reports_each_close_once_and_then_ends() -> None:
    market = ReplayMarket({BTC: wandering(BTC, 8, 1)}, history=5)
    assert [market.next_close(0) for _ in range(4)] == [START + hour * HOUR for hour in (5, 6, 7, 8)]
    with pytest.raises(MarketEnded):
        market.next_close(0)
    assert market.ended


def test_it_ends_after_max_bars() -> None:
    market = ReplayMarket({BTC: wandering(BTC, 100, 1)}, history=5, max_bars=2)
    assert market.remaining == 2
    market.advance()
    market.advance()
    with pytest.raises(MarketEnded):
        market.advance()


def test_gaps_and_late_symbols_are_skipped() -> None:
    candles = {
        BTC: rows(BTC, FLAT, FLAT, FLAT, FLAT, hours=[0, 1, 2, 5]),
        ETH: rows(ETH, FLAT, FLAT, FLAT, hours=[2, 3, 5]),
    }
    market = ReplayMarket(candles, history=1)
    assert len(market.candles(ETH, "1h")) == 0
    assert market.forming(ETH) is None
    told = [(step.time, set(step.closed), set(step.opened)) for step in iter_steps(market)]
    hour = {n: START + n * HOUR for n in range(7)}
    assert told == [
        (hour[2], {BTC}, {BTC, ETH}),
        (hour[3], {BTC, ETH}, {ETH}),
        (hour[4], {ETH}, set()),  # the next bar opens only an hour later
        (hour[6], {BTC, ETH}, set()),
    ]


def iter_steps(market: ReplayMarket) -> list[Step]:
    steps = []
    while not market.ended:
        steps.append(market.advance())
    return steps


def test_since_and_limit_read_as_the_port_says() -> None:
    market = ReplayMarket({BTC: wandering(BTC, 20, 1)}, history=10)
    every = market.candles(BTC, "1h")
    assert every.time.tolist() == [START + n * HOUR for n in range(10)]
    assert market.candles(BTC, "1h", None, 3).time.tolist() == every.time[-3:].tolist()
    assert market.candles(BTC, "1h", START + 4 * HOUR, 2).time.tolist() == every.time[4:6].tolist()
    assert market.candles(BTC, "1h", START + 4 * HOUR - 1).time.tolist() == every.time[4:].tolist()
    assert len(market.candles(BTC, "1h", START + 10 * HOUR)) == 0
    assert len(market.candles(BTC, "1h", None, 0)) == 0


def test_nothing_of_the_future_shows_but_the_open_in_progress() -> None:
    """Two markets that agree up to a bar, and in the open of the next, cannot be told apart until that bar closes."""
    known = 30
    one, other = wandering(BTC, 60, 1), wandering(BTC, 60, 2)
    twin = one[:known].joined(other[known:])
    opens = twin.open.copy()
    opens[known] = one.open[known]
    twin = Candles(BTC, "1h", twin.time, opens, twin.high, twin.low, twin.close, twin.volume)
    markets = [ReplayMarket({BTC: candles}, history=10) for candles in (one, twin)]
    while True:
        assert len({seen(market) for market in markets}) == 1
        if markets[0].now() == START + known * HOUR:
            break
        for market in markets:
            market.advance()
    for market in markets:
        market.advance()
    assert len({seen(market) for market in markets}) == 2


def seen(market: ReplayMarket) -> tuple[object, ...]:
    closed = market.candles(BTC, "1h")
    assert closed.time[-1] + HOUR <= market.now()
    columns = (closed.time, closed.open, closed.high, closed.low, closed.close, closed.volume)
    asked_ahead = market.candles(BTC, "1h", market.now())
    assert len(asked_ahead) == 0
    return (market.now(), market.forming(BTC), *(column.tobytes() for column in columns))


def test_seek_goes_on_where_it_was() -> None:
    candles = {BTC: wandering(BTC, 60, 1, gaps=True), ETH: wandering(ETH, 50, 2, first=5, gaps=True)}
    market = ReplayMarket(candles, history=10)
    for _ in range(17):
        market.advance()
    other = ReplayMarket(candles, history=10)
    assert other.seek(market.now() + HOUR // 2) == market.now()
    assert [step.time for step in iter_steps(other)] == [step.time for step in iter_steps(market)]
    first = ReplayMarket(candles, history=10).now()
    assert other.seek(0) == first
    assert other.seek(START * 2) > first
    assert other.ended


def test_candles_are_views() -> None:
    candles = wandering(BTC, 20, 1)
    assert np.shares_memory(ReplayMarket({BTC: candles}, history=10).candles(BTC, "1h").close, candles.close)


@pytest.mark.parametrize(
    ("candles", "history", "words"),
    [
        ({}, 1, "candles of one timeframe, found 0 symbols"),
        ({BTC: Candles.empty(BTC, "1h")}, 1, "that have rows"),
        ({BTC: wandering(BTC, 5, 1), ETH: Candles.empty(ETH, "5m")}, 1, r"timeframes \['1h', '5m'\]"),
        ({BTC: wandering(BTC, 5, 1)}, 5, "market.history is 5 bars, but the candles have 5 bar times"),
        ({BTC: wandering(BTC, 5, 1)}, 0, "market.history is 0 bars"),
    ],
)
def test_nothing_to_replay_is_said(candles: dict[str, Candles], history: int, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ReplayMarket(candles, history=history)


def test_candles_out_of_order_are_refused() -> None:
    with pytest.raises(CandleDataError, match="not in rising order"):
        ReplayMarket({BTC: rows(BTC, FLAT, FLAT, FLAT, hours=[0, 2, 1])}, history=1)


def test_unknown_candles_are_an_error_that_lists_the_known() -> None:
    market = ReplayMarket({BTC: wandering(BTC, 5, 1)}, history=1)
    for symbol, timeframe in ((ETH, "1h"), (BTC, "5m")):
        with pytest.raises(CandleDataError, match="it has BTC/USDT 1h"):
            market.candles(symbol, timeframe)


def test_tick_and_lot_come_from_the_decimals() -> None:
    table = rows(BTC, (40_148.0, 40_357.5, 39_906.25, 40_182.0, 0.1 + 0.2), (1, 1, 1, 1, 1))
    whole = rows("ADA/EUR", (3.0, 4.0, 2.0, 3.0, 1000.0))
    tiny = rows("SHIB/EUR", (1e-05, 1.2e-05, 1e-05, 1.1e-05, 12.0))
    paper = PaperConfig(min_notional=Decimal(7), maker_fee=Decimal(0), taker_fee=Decimal("0.002"))
    made = instruments_from({BTC: table, "ADA/EUR": whole, "SHIB/EUR": tiny}, paper)
    assert [(made[s].tick, made[s].lot) for s in made] == [
        (Decimal("0.01"), Decimal("1E-8")),
        (Decimal("1"), Decimal("1")),
        (Decimal("0.000001"), Decimal("1")),
    ]
    assert (made[BTC].base, made[BTC].quote) == ("BTC", "USDT")
    assert made[BTC].min_notional == 7
    assert (made[BTC].maker_fee, made[BTC].taker_fee) == (Decimal(0), Decimal("0.002"))


def test_a_symbol_without_a_slash_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="wanted BASE/QUOTE"):
        instruments_from({"BTCUSDT": rows("BTCUSDT", FLAT)}, PaperConfig())


def test_the_account_begins_with_ten_thousand_of_the_first_quote() -> None:
    assert default_balances(["BTC/EUR", ETH], PaperConfig()) == {"EUR": 10_000}
    assert default_balances([BTC], PaperConfig(balances={"BTC": Decimal(2)})) == {"BTC": 2}
    with pytest.raises(ConfigurationError, match="no symbols"):
        default_balances([], PaperConfig())
