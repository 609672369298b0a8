"""Buy below the lower Bollinger band: a price two deviations under its mean tends to return to it; sell there."""

import numpy as np

from trading_bot.domain.market import Candles
from trading_bot.features.indicators import bollinger
from trading_bot.trading.strategy import Signals, by_regime

PERIOD = 20
DEVIATIONS = 2.0


class BollingerReversion:
    name = "bollinger_reversion"
    warmup = PERIOD
    affinity = by_regime(trending=0.1, ranging=0.4, volatile=0.2, choppy=0.4)

    def signals(self, candles: Candles) -> Signals:
        """Long under the lower band, out above the mean, no opinion on the way back up."""
        upper, middle, _ = bollinger(candles, PERIOD, DEVIATIONS)
        deviation = (upper - middle) / DEVIATIONS
        moving = deviation > 1e-5 * candles.close  # below this the deviation is rounding, not movement
        score = (candles.close - middle) / np.where(moving, deviation, np.inf)  # deviations from the mean
        long = score < -DEVIATIONS
        out = score > 0.25
        side = np.where(long, 1, np.where(out, -1, 0))
        # three deviations below is as good a purchase as it gets, two above as good a sale
        confidence = np.where(long, 0.5 - (score + DEVIATIONS) / 2.0, score / DEVIATIONS)
        return Signals(side, np.where(side == 0, 0.0, np.clip(confidence, 0.0, 1.0)))
