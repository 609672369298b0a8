"""Go with momentum: the MACD above its signal line says that a rise is gathering pace, below it that it is over."""

import numpy as np

from trading_bot.domain.market import Candles
from trading_bot.features.indicators import atr, macd
from trading_bot.trading.strategy import Signals, by_regime

FAST, SLOW, SIGNAL = 12, 26, 9
ATR_PERIOD = 14
QUIET = 0.05  # histogram, in ATR, below which there is no momentum to speak of
FULL = 0.5  # histogram, in ATR, from which momentum is as strong as it gets


class MacdMomentum:
    name = "macd_momentum"
    warmup = 20 * SLOW  # an EMA forgets its first bar after 20 periods
    affinity = by_regime(trending=0.3, ranging=0.3, volatile=0.2, choppy=0.3)

    def signals(self, candles: Candles) -> Signals:
        """Long while the histogram is positive, out while it is negative, no opinion near its zero."""
        _, _, histogram = macd(candles, FAST, SLOW, SIGNAL)
        unit = np.maximum(atr(candles, ATR_PERIOD), 1e-9 * candles.close)  # flat prices have no range to divide by
        momentum = histogram / unit
        side = np.where(momentum > QUIET, 1, np.where(momentum < -QUIET, -1, 0))
        return Signals(side, np.where(side == 0, 0.0, np.clip(np.abs(momentum) / FULL, 0.0, 1.0)))
