"""Markets made for a test: seeded candles in CSV files, and a strategy that trades all the time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.daemon import ROOT
from trading_bot.domain.market import Candles, timeframe_ms

START = 1_704_067_200_000  # 2024-01-01

_BUSY = '''
import numpy as np

from trading_bot.trading.strategy import Signals, by_regime


class Busy:
    """In for a few bars, out for a few, each symbol in a beat of its own: as many orders as there can be.

    Answers as a strategy with a model does: with the model's name, the newest row alone, now and then a note.
    """

    name = "busy"
    warmup = 10
    affinity = by_regime(trending=1.0, ranging=1.0, volatile=1.0, choppy=1.0)
    model_version = "busy-1"

    def latest(self, candles):
        whole = self.signals(candles.tail(2))
        note = f"cautious: close {candles.close[-1]}" if whole.side[-1] < 0 else ""
        return Signals(whole.side[-1:], whole.confidence[-1:], note)

    def signals(self, candles):
        beat = candles.time // (candles.time[1] - candles.time[0]) + len(candles.symbol) + ord(candles.symbol[0])
        side = np.where(beat % 5 < 2, 1, -1)
        return Signals(side, np.full(len(candles), 0.9))
'''

BUSY_RISK = {
    "cooldown_bars": 0,
    "daily_loss_limit": 0,
    "drawdown_reduce": 0,
    "drawdown_halt": 0,
    "drawdown_flatten": 0,
    "var_limit": 0,
}


def busy_strategy(folder: Path) -> Path:
    """A folder with that strategy alone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "busy.py").write_text(_BUSY)
    return folder


def walk(symbol: str, bars: int, seed: int, price: float, volume: float = 1000.0) -> Candles:
    """A seeded random walk; prices and volumes have two decimals."""
    random = np.random.default_rng(seed)
    closes = np.round(price * np.exp(np.cumsum(random.normal(0, 0.01, bars))), 2)
    opens = np.concatenate([[price], closes[:-1]])
    spread = np.round(np.abs(random.normal(0, 0.004, (2, bars))) * closes, 2)
    return Candles(
        symbol,
        "1h",
        START + np.arange(bars) * timeframe_ms("1h"),
        opens,
        np.round(np.maximum(opens, closes) + spread[0], 2),
        np.round(np.minimum(opens, closes) - spread[1], 2),
        closes,
        np.round(random.uniform(0.5, 1.5, bars) * volume, 2),
    )


def write_csv(folder: Path, candles: Candles) -> str:
    """The candles as a CSV file; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{candles.symbol.replace('/', '_')}-{candles.timeframe}.csv"
    columns = (candles.time, candles.open, candles.high, candles.low, candles.close, candles.volume)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    lines = [",".join(str(value) for value in row) for row in rows]
    path.write_text("timestamp,open,high,low,close,volume\n" + "\n".join(lines) + "\n")
    return str(path)


def write_walks(folder: Path, bars: int, volume: float = 1000.0) -> list[str]:
    """Three symbols; at a small `volume` orders take several bars to fill."""
    return [
        write_csv(folder, walk("BTC/USDT", bars, 1, 400.0, volume)),
        write_csv(folder, walk("ETH/USDT", bars, 2, 50.0, 8 * volume)),
        write_csv(folder, walk("ADA/USDT", bars, 3, 5.0, 80 * volume)),
    ]


def real_candles(*names: str) -> list[str]:
    """Paths of candle files that are not part of the project; the test is skipped where they are not."""
    folder = Path(os.environ.get("TRADING_BOT_DATA", ROOT.parent / "shared" / "data")).resolve()
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        pytest.skip(f"no real candles {missing[0]} in {folder}; set TRADING_BOT_DATA to the folder that has them")
    return [str(folder / name) for name in names]
