"""Buy weakness: a price that fell fast (low RSI) tends to come back; sell when it has."""

import numpy as np

from trading_bot.domain.market import Candles
from trading_bot.features.indicators import atr, rsi
from trading_bot.trading.strategy import Signals, by_regime

PERIOD = 14
OVERSOLD = 35.0  # buy below
RECOVERED = 55.0  # sell above: the reversion has happened


class RsiMeanReversion:
    name = "rsi_mean_reversion"
    warmup = 37 * PERIOD  # Wilder smoothing forgets its first bar after 37 periods
    affinity = by_regime(trending=0.2, ranging=0.5, volatile=0.4, choppy=0.6)

    def signals(self, candles: Candles) -> Signals:
        """Long while oversold, out once recovered, no opinion between the two."""
        strength = rsi(candles, PERIOD)
        moving = (
            atr(candles, PERIOD) > 1e-9 * candles.close
        )  # the RSI of flat prices is 0 by convention, not by weakness
        long = moving & (strength < OVERSOLD)
        out = moving & (strength > RECOVERED)
        side = np.where(long, 1, np.where(out, -1, 0))
        # an RSI of 20 is as good a purchase as it gets, one of 80 as good a sale
        confidence = np.where(long, 0.5 + (OVERSOLD - strength) / 30.0, (strength - RECOVERED) / 25.0)
        return Signals(side, np.where(side == 0, 0.0, np.clip(confidence, 0.0, 1.0)))
