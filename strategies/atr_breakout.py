"""Buy strength: a close far above its average, measured in average true ranges, often goes on rising."""

import numpy as np

from trading_bot.domain.market import Candles
from trading_bot.features.indicators import atr, ema
from trading_bot.trading.strategy import Signals, by_regime

PERIOD = 20  # bars of the average that is the middle of the channel
ATR_PERIOD = 14
BREAKOUT = 1.5  # ATRs above the middle from which it is a breakout


class AtrBreakout:
    name = "atr_breakout"
    warmup = 37 * ATR_PERIOD  # Wilder smoothing forgets its first bar after 37 periods
    affinity = by_regime(trending=0.5, ranging=0.2, volatile=0.4, choppy=0.1)

    def signals(self, candles: Candles) -> Signals:
        """Long beyond the upper band, out below the middle, no opinion between them (a breakout may rest)."""
        unit = np.maximum(atr(candles, ATR_PERIOD), 1e-9 * candles.close)  # flat prices have no range to divide by
        distance = (candles.close - ema(candles, PERIOD)) / unit
        long = distance > BREAKOUT
        out = distance < -0.1
        side = np.where(long, 1, np.where(out, -1, 0))
        # a close 3 ATR away from the middle is as sure as it gets
        return Signals(side, np.where(side == 0, 0.0, np.clip(np.abs(distance) / 3.0, 0.0, 1.0)))
