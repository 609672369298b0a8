"""What a candle does to orders: pure functions of whole ticks and lots, shared by every simulated fill.

The backtest, the paper venue, the local exchange and the shadow books all call these, so that their fills agree.
Nothing here is a venue's rule book (filters, balances, fees); it only answers "how much, at what price".

A candle hides most of what happened inside it. What is assumed instead, with the coefficients of `MatchingConfig`:

- spread      = `spread` x mean true range of the last `window` bars, at least one tick
- impact      = `impact` x mean true range x sqrt(lots / mean volume): the square-root law (Almgren, Thum, Hauptmann,
                Li, "Direct Estimation of Equity Market Impact", 2005; Toth et al., Phys. Rev. X 1, 021006, 2011)
- participation: in one bar at most `participation` x the last closed bar's volume is taken, and a resting order gets
                at most that share of the bar it meets; no volume, no fill
- path        : inside a bar the price goes open -> low -> high -> close when it closes at or above its open, else
                open -> high -> low -> close (`path` can fix either)
- queue       : a resting order stands behind `limit_queue` x mean volume; a bar that only touches its price trades
                `touch` x its volume there, first for those ahead
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, isfinite, sqrt
from typing import Literal, NamedTuple

import numpy as np

from trading_bot.domain.market import Candles, Instrument
from trading_bot.errors import CandleDataError


@dataclass(frozen=True, kw_only=True)
class MatchingConfig:
    """How generous the simulated market is. Fractions unless said otherwise."""

    participation: float = 0.10  # share of a bar's volume that may be ours
    window: int = 20  # closed bars that tell volatility and volume
    spread: float = 0.02  # bid-ask distance, of the mean true range
    impact: float = 0.30  # price moved by taking the mean volume of a bar, of the mean true range
    max_cost: float = 0.05  # half spread and impact together never exceed this part of the price
    limit_queue: float = 0.02  # lots ahead of a new resting order, of the mean volume
    touch: float = 0.05  # part of a bar's volume that trades at its high or low exactly
    late: float = 0.05  # an order placed later than this part into a bar does not meet that bar
    reserve_margin: float = 0.05  # set aside beyond today's cost for the rest of a market buy
    path: Literal["body", "low_first", "high_first"] = "body"

    def __post_init__(self) -> None:
        for name in ("participation", "max_cost", "touch", "late"):
            self._between(name, 0, 1)
        for name in ("spread", "impact", "limit_queue", "reserve_margin"):
            self._between(name, 0, 10)
        self._between("window", 1, HISTORY - 1)
        if self.path not in ("body", "low_first", "high_first"):
            raise ValueError(f"matching.path should be body, low_first or high_first, is {self.path!r}")

    def _between(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise ValueError(f"matching.{name} should be between {low:g} and {high:g}, is {value:g}")


HISTORY = 32  # closed bars to keep for `liquidity`; the longest window and the close before it fit in


class Bar(NamedTuple):
    """One closed candle: prices in ticks, volume in lots."""

    open: int
    high: int
    low: int
    close: int
    volume: int


class Liquidity(NamedTuple):
    """What the market offers while a bar is in progress, judged from the closed bars before it.

    `spread` and `volatility` in ticks (volatility: mean true range), `depth` (mean volume) and `cap` in lots.
    """

    spread: int
    volatility: int
    depth: int
    cap: int


def bar(candles: Candles, row: int, instrument: Instrument) -> Bar:
    """Row `row` of `candles` in whole ticks and lots, each the nearest.

    Raises
    ------
    CandleDataError
        If a price or the volume is not a finite number.
    """
    tick, lot = float(instrument.tick), float(instrument.lot)
    prices = [float(column[row]) for column in (candles.open, candles.high, candles.low, candles.close)]
    volume = float(candles.volume[row])
    if not (isfinite(sum(prices)) and isfinite(volume)):
        raise CandleDataError(
            f"{candles.symbol} bar {int(candles.time[row])}: prices {prices} and volume {volume} should be finite"
        )
    opened, high, low, close = (round(price / tick) for price in prices)
    return Bar(opened, high, low, close, max(0, round(volume / lot)))


def bars(candles: Candles, instrument: Instrument, last: int = HISTORY) -> list[Bar]:
    """The newest `last` candles in whole ticks and lots, oldest first: `bar` of each, all at once."""
    newest = candles.tail(last)
    prices = [column / float(instrument.tick) for column in (newest.open, newest.high, newest.low, newest.close)]
    columns = [*prices, np.maximum(newest.volume / float(instrument.lot), 0.0)]
    if not all(np.isfinite(column).all() for column in columns):
        return [bar(newest, row, instrument) for row in range(len(newest))]  # says which one is wrong
    return [Bar(*row) for row in zip(*(np.rint(column).astype(np.int64).tolist() for column in columns), strict=True)]


def liquidity(recent: Sequence[Bar], config: MatchingConfig) -> Liquidity:
    """Spread, volatility, depth and participation cap after the closed bars `recent` (oldest first).

    Flat prices leave a spread of one tick and no impact; a last bar without volume (or no bar at all) leaves a cap
    of 0, with which nothing fills.
    """
    if not recent:
        return Liquidity(spread=1, volatility=0, depth=1, cap=0)
    first = max(0, len(recent) - config.window)
    ranges = volume = 0
    for row in range(first, len(recent)):
        now = recent[row]
        before = recent[row - 1].close if row else now.open
        ranges += max(now.high, before) - min(now.low, before)
        volume += now.volume
    count = len(recent) - first
    volatility = ranges // count
    return Liquidity(
        spread=max(1, ceil(config.spread * volatility)),
        volatility=volatility,
        depth=max(1, volume // count),
        cap=int(config.participation * recent[-1].volume),
    )


def taker_price(is_buy: bool, lots: int, price_ticks: int, market: Liquidity, config: MatchingConfig) -> int:
    """Price in ticks at which `lots` are taken at once: half the spread and the impact, rounded against the taker."""
    impact = ceil(config.impact * market.volatility * sqrt(lots / market.depth))
    cost = min((market.spread + 1) // 2 + impact, max(1, int(config.max_cost * price_ticks)))
    return price_ticks + cost if is_buy else max(1, price_ticks - cost)


def fill_market(
    is_buy: bool, lots: int, price_ticks: int, market: Liquidity, config: MatchingConfig, limit_ticks: int = 0
) -> tuple[int, int]:
    """Take up to `lots` at once at the current price.

    Parameters
    ----------
    price_ticks
        Current price: in a replay the open of the bar in progress.
    market
        From the last closed bars; its `cap` is what is left of it for this order.
    limit_ticks
        Worst price accepted; 0: any.

    Returns
    -------
    (filled lots, price in ticks)
        No lots where there is no volume or the limit is out of reach.
    """
    filled = max(0, min(lots, market.cap))
    if filled == 0:
        return 0, price_ticks
    price = taker_price(is_buy, filled, price_ticks, market, config)
    if limit_ticks and _beyond(is_buy, price, limit_ticks):
        reachable, too_many = 0, filled  # impact grows with size: find the largest size within the limit
        while too_many - reachable > 1:
            middle = (reachable + too_many) // 2
            if _beyond(is_buy, taker_price(is_buy, middle, price_ticks, market, config), limit_ticks):
                too_many = middle
            else:
                reachable = middle
        filled = reachable
        price = taker_price(is_buy, filled, price_ticks, market, config) if filled else price_ticks
    return filled, price


def _beyond(is_buy: bool, price: int, limit: int) -> bool:
    return price > limit if is_buy else price < limit


def walk(candle: Bar, path: str = "body") -> tuple[int, int, int, int]:
    """The four prices of a candle in the order they are assumed to have been traded (see the module's text)."""
    low_first = candle.close >= candle.open if path == "body" else path == "low_first"
    if low_first:
        return candle.open, candle.low, candle.high, candle.close
    return candle.open, candle.high, candle.low, candle.close


def reach(is_buy: bool, limit_ticks: int, candle: Bar, path: str = "body") -> int:
    """How far, in ticks, the price travels inside `candle` until a resting order at `limit_ticks` is reached.

    Orders that are reached sooner fill first. An order that is not reached gets the whole way plus one.
    """
    points = walk(candle, path)
    if not _beyond(is_buy, points[0], limit_ticks):
        return 0
    travelled = 0
    for here, there in pairwise(points):
        if not _beyond(is_buy, there, limit_ticks):
            return travelled + abs(here - limit_ticks)
        travelled += abs(there - here)
    return travelled + 1


def queue(market: Liquidity, config: MatchingConfig) -> int:
    """Lots assumed to stand before a limit order that begins to rest now."""
    return int(config.limit_queue * market.depth)


def fill_limit(
    is_buy: bool, lots: int, limit_ticks: int, candle: Bar, queue_ahead: int, config: MatchingConfig
) -> tuple[int, int, int]:
    """Let a resting order of `lots` meet a closed candle that it stood through from its open.

    A candle that opens beyond the limit fills at its open (the better price); one that trades through fills at the
    limit; one that only touches the limit first serves those ahead in the queue. At most the participation share.

    Returns
    -------
    (filled lots, price in ticks, lots still ahead)
    """
    share = min(lots, int(config.participation * candle.volume))
    extreme = candle.low if is_buy else candle.high
    if share <= 0 or _beyond(is_buy, extreme, limit_ticks):
        return 0, limit_ticks, queue_ahead
    if extreme != limit_ticks:
        better = candle.open if not _beyond(is_buy, candle.open, limit_ticks) else limit_ticks
        return share, better, 0
    at_price = int(config.touch * candle.volume)
    return min(share, max(0, at_price - queue_ahead)), limit_ticks, max(0, queue_ahead - at_price)
