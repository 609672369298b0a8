"""What the regime detector looks at: causal, scale-free measures of trend, reversal, volatility and volume.

Prices enter as logarithms, volatility as the logarithm of the true range against its own mean of the last 480 bars
(of all bars there are while fewer), so that neither the price's scale nor the timeframe matters.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import talib

from trading_bot.domain.market import Floats

HISTORY = 480  # bars that volatility and volume are compared with
FIRST = 96  # rows before the first one with features: less history says nothing
DAY = 24  # bars of the slower measures
_ADX_PERIOD = 14
_ADX_UNIT = 25.0  # where a trend is said to begin
_RANGE_TO_MOVE = 0.6  # a bar's standard deviation is about this share of its mean true range
_MOST = 3.0  # standard deviations at which a move is cut
_NOTHING = 1e-300

# Read alike for either direction of the market.
NAMES = (
    "adx", "efficiency", "choppiness", "volatility", "volatility_bar", "volatility_day", "surprise", "echo",
    "second_echo", "reversion", "body", "jump", "volume", "volume_bar",
)  # fmt: skip
# Change their sign with the market's direction.
SIGNED = ("move", "momentum")


def features_of(high: Floats, low: Floats, close: Floats, volume: Floats) -> dict[str, Floats]:
    """Features of every bar; row t from rows ≤ t.

    Returns
    -------
    dict
        Name -> float64 (n,); rows before `FIRST` hold nothing of use.

        adx : Wilder's average directional index / 25
        efficiency : Kaufman's efficiency ratio over 24 bars, 0 … 1
        choppiness : Dreiss's choppiness index over 24 bars, 0 … 1 (he shows it × 100)
        volatility_bar, volatility, volatility_day : log of the true range of 1, 6, 24 bars against its history
        surprise : |move|; move : the bar's return in standard deviations of the twelve bars before, at most 3
        echo, second_echo : product of this move and the last one, the last but one (negative: taken back)
        reversion : how far the bar went back towards the mean of the 24 before it
        body : share of the true range that the close-to-close move makes up
        jump : squared logarithm of moves above one standard deviation
        volume_bar, volume : log of the volume of 1, 6 bars against its history
        momentum : return over 12 bars in standard deviations
    """
    tops, bottoms, price = np.log(high), np.log(low), np.log(close)
    before = np.concatenate((price[:1], price[:-1]))
    moved = price - before
    distance = np.abs(moved)
    raw = np.maximum(tops, before) - np.minimum(bottoms, before)
    true_range = np.maximum(raw, np.maximum(0.05 * _past_mean(raw, DAY), 1e-9))  # a bar without trades is not calm
    log_range = np.log(true_range)
    usual = _past_mean(log_range, HISTORY)
    deviation = _later(_RANGE_TO_MOVE * np.exp(_mean(log_range, 12)), 1)
    move = np.clip(moved / deviation, -_MOST, _MOST)
    surprise = np.abs(move)
    last = _later(move, 1)
    path = talib.SUM(distance, DAY)
    spread = talib.MAX(tops, DAY) - talib.MIN(bottoms, DAY)
    away = np.clip((before - _later(_mean(price, DAY), 1)) / (deviation * (0.5 * DAY**0.5)), -_MOST, _MOST)
    log_volume = np.log(np.maximum(volume, np.maximum(1e-3 * _past_mean(volume, DAY), _NOTHING)))
    usual_volume = _past_mean(log_volume, HISTORY)
    return {
        "adx": talib.ADX(high, low, close, _ADX_PERIOD) / _ADX_UNIT,
        "efficiency": np.abs(price - _later(price, DAY)) / np.maximum(path, _NOTHING),
        "choppiness": np.log(np.maximum(talib.SUM(true_range, DAY), 1e-9) / np.maximum(spread, 1e-9)) / np.log(DAY),
        "volatility": _mean(log_range, 6) - usual,
        "volatility_bar": np.clip(log_range - usual, -_MOST, _MOST),
        "volatility_day": _mean(log_range, DAY) - usual,
        "surprise": surprise,
        "echo": move * last,
        "second_echo": move * _later(move, 2),
        "reversion": -away * move,
        "body": np.minimum(distance / true_range, 1.0),
        "jump": np.log(np.maximum(surprise, 1.0)) ** 2,
        "volume": _mean(log_volume, 6) - usual_volume,
        "volume_bar": np.clip(log_volume - usual_volume, -_MOST, _MOST),
        "move": move,
        "momentum": np.clip((price - _later(price, 12)) / (deviation * 12**0.5), -4.0, 4.0),
    }


def shown(features: Mapping[str, Floats]) -> dict[str, Floats]:
    """The features people know, in the units they know them in: adx 0 … 100, efficiency and choppiness 0 … 1,
    volatility_ratio (true range of 6 bars in multiples of its history)."""
    return {
        "adx": features["adx"] * _ADX_UNIT,
        "efficiency": features["efficiency"],
        "choppiness": features["choppiness"],
        "volatility_ratio": np.exp(features["volatility"]),
    }


def _mean(values: Floats, period: int) -> Floats:
    mean: Floats = talib.SMA(values, period)
    return mean


def _past_mean(values: Floats, period: int) -> Floats:
    """Mean of the last `period` values, of all there are while fewer."""
    mean: Floats = np.empty_like(values)
    early = min(len(values), period - 1)
    mean[:early] = np.cumsum(values[:early]) / np.arange(1, early + 1)
    if len(values) > early:
        mean[early:] = talib.SMA(values, period)[early:]
    return mean


def _later(values: Floats, bars: int) -> Floats:
    """Each value `bars` rows later; the first rows repeat the first value."""
    later: Floats = np.empty_like(values)
    later[:bars] = values[:1]
    later[bars:] = values[:-bars]
    return later
