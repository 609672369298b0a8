"""Follow the trend: long while a fast average stands clearly above a slow one, out when it falls below."""

import numpy as np

from trading_bot.domain.market import Candles
from trading_bot.features.indicators import atr, ema
from trading_bot.trading.strategy import Signals, by_regime

FAST, SLOW = 10, 25
ATR_PERIOD = 14
QUIET = 0.1  # distance of the averages, in ATR, below which there is no trend
FULL = 1.5  # distance, in ATR, from which the trend is as clear as it gets


class EmaTrend:
    name = "ema_trend"
    warmup = max(20 * SLOW, 37 * ATR_PERIOD)  # bars after which EMA and Wilder smoothing forget their first bar
    affinity = by_regime(trending=0.4, ranging=0.1, volatile=0.2, choppy=0.1)

    def signals(self, candles: Candles) -> Signals:
        """Long in a rising trend, out in a falling one, no opinion without a trend."""
        unit = np.maximum(atr(candles, ATR_PERIOD), 1e-9 * candles.close)  # flat prices have no range to divide by
        trend = (ema(candles, FAST) - ema(candles, SLOW)) / unit
        side = np.where(trend > QUIET, 1, np.where(trend < -QUIET, -1, 0))
        return Signals(side, np.where(side == 0, 0.0, np.clip(np.abs(trend) / FULL, 0.0, 1.0)))
