"""Each indicator is computed once a candle: 6 strategies on 500 bars ≤ 1.3 × the TA-Lib calls they need, made bare.

The indicators are those the strategies in `strategies/` really ask for. pandas is there for comparison, on four of
them; without the cache every strategy would pay for its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import talib

from benchmarks._figures import goal, interleaved, median_ms, say, times
from trading_bot.bootstrap import load_market
from trading_bot.domain.market import Candles
from trading_bot.features import indicators
from trading_bot.learn.dynamic_ensemble import DynamicEnsemble, RegimeDetector
from trading_bot.settings import load_settings
from trading_bot.trading.strategy import load_strategies
from trading_bot.trading.strategy_panel import StrategyPanel

WINDOW = 500
ROUNDS = 400
BARE: dict[str, Callable[..., Any]] = {
    "sma": lambda c, period: talib.SMA(c.close, period),
    "ema": lambda c, period: talib.EMA(c.close, period),
    "rsi": lambda c, period: talib.RSI(c.close, period),
    "macd": lambda c, *periods: talib.MACD(c.close, *periods),
    "atr": lambda c, period: talib.ATR(c.high, c.low, c.close, period),
    "adx": lambda c, period: talib.ADX(c.high, c.low, c.close, period),
    "bollinger": lambda c, period, width: talib.BBANDS(c.close, period, width, width),
    "highest": lambda c, period: talib.MAX(c.high, period),
    "lowest": lambda c, period: talib.MIN(c.low, period),
}


class Asked(dict[Any, Any]):
    """A cache that notes every question."""

    def __init__(self) -> None:
        super().__init__()
        self.keys_asked: list[Any] = []

    def __contains__(self, key: object) -> bool:
        self.keys_asked.append(key)
        return super().__contains__(key)


def main() -> None:
    settings = load_settings([], {"synthetic": {"bars": 2000}}, {})
    market, _ = load_market(settings)
    whole = next(iter(market.values()))
    window = whole.tail(WINDOW)
    strategies = load_strategies(Path(__file__).parent.parent / "strategies")
    panel, detector = StrategyPanel(strategies), RegimeDetector(settings.regime)
    asked = _asked(panel, window)
    needed = list(dict.fromkeys(asked))
    say(f"{len(strategies)} strategies ask {len(asked)} times for {len(needed)} indicators, {WINDOW} bars")
    judged = whole.tail(max(WINDOW, detector.warmup))
    reading, ensemble = detector.detect(judged), DynamicEnsemble(strategies, detector, settings.ensemble)
    ensemble.reweigh(reading, {})
    works: dict[str, Callable[[], object]] = {
        "TA-Lib, each needed call once": lambda: [BARE[key[0]](window, *key[1:]) for key in needed],
        "TA-Lib, each call asked for": lambda: [BARE[key[0]](window, *key[1:]) for key in asked],
        "through Candles.once": lambda: _through_once(fresh(window), asked),
        "pandas, 4 of them": lambda: _pandas(window),
        "the strategies whole": lambda: panel.answers(fresh(window)),
        "regime": lambda: detector.detect(judged),
        "weights, one step": lambda: ensemble.reweigh(reading, {}),
    }
    spent = interleaved(works, ROUNDS)
    for name, seconds in spent.items():
        times(name, seconds)
    middle = {name: median_ms(seconds) for name, seconds in spent.items()}
    goal(
        "Candles.once against the bare calls", middle["through Candles.once"] / middle[next(iter(works))], "×", most=1.3
    )


def fresh(candles: Candles) -> Candles:
    """The same candles with nothing computed yet."""
    return candles[:]


def _asked(panel: StrategyPanel, window: Candles) -> list[Any]:
    noted = Asked()
    columns = (getattr(window, name) for name in ("time", "open", "high", "low", "close", "volume"))
    panel.answers(Candles(window.symbol, window.timeframe, *columns, _cache=noted))  # type: ignore[misc]
    unknown = {key[0] for key in noted.keys_asked} - set(BARE)
    if panel.failures or unknown:
        raise RuntimeError(f"cannot be compared: {panel.failures or sorted(unknown)}")
    return noted.keys_asked


def _through_once(candles: Candles, asked: list[Any]) -> None:
    for name, *parameters in asked:
        getattr(indicators, name)(candles, *parameters)


def _pandas(candles: Candles) -> None:
    close = pd.Series(candles.close)
    close.rolling(20).mean()
    close.ewm(span=20, adjust=False).mean()
    close.rolling(20).std()
    move = close.diff()
    gain, loss = move.clip(lower=0), -move.clip(upper=0)
    100 - 100 / (1 + gain.ewm(alpha=1 / 14, adjust=False).mean() / loss.ewm(alpha=1 / 14, adjust=False).mean())
