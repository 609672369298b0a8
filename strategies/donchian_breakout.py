"""Buy new highs: a close above the highest price of the last day or so starts many a rise; new lows end it."""

import numpy as np

from trading_bot.domain.market import Candles
from trading_bot.features.indicators import highest, lowest, previous
from trading_bot.trading.strategy import Signals, by_regime

ENTRY = 20  # bars whose highest high must be broken to buy
EXIT = 10  # bars whose lowest low must be broken to leave
NEWS = 12  # bars after which a breakout is no news any more


class DonchianBreakout:
    name = "donchian_breakout"
    warmup = ENTRY + NEWS
    affinity = by_regime(trending=0.4, ranging=0.1, volatile=0.3, choppy=0.1)

    def signals(self, candles: Candles) -> Signals:
        """Long after a new high, out after a new low, surest on the bar itself and fading over `NEWS` bars."""
        top, bottom = previous(highest(candles, ENTRY)), previous(lowest(candles, EXIT))
        broke_out, broke_down = candles.close > top, candles.close < bottom
        width = np.maximum(top - bottom, 1e-9 * candles.close)
        beyond = np.where(broke_out, candles.close - top, bottom - candles.close) / width  # in channel widths
        strength = 0.5 + 0.5 * np.clip(beyond, 0.0, 1.0)

        rows = np.arange(len(candles))
        event = broke_out | broke_down
        last = np.maximum.accumulate(np.where(event, rows, -NEWS))  # row of the newest breakout, up or down
        freshness = np.clip(1.0 - (rows - last) / NEWS, 0.0, 1.0)
        known = np.maximum(last, 0)
        side = np.where(freshness > 0.0, np.where(broke_out[known], 1, -1), 0)
        return Signals(side, np.where(side == 0, 0.0, strength[known] * freshness))
