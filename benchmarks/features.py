"""34 features of 1,000,000 bars ≤ 1.3 × the bare TA-Lib calls; windows fed ≥ 5 × as fast as by a DataLoader.

The bare calls are every TA-Lib function the 34 features need, each once, results thrown away; with its LN for the five
logarithms, and once more without. Both sides run on one thread, in turns. Features go into an array that is there.

A batch is windows (B, 30, 40) and their targets (B,), drawn in random order, as tensors. The DataLoader has PyTorch's
own TensorDataset, sampler and collate, works in this process and is given the better layout too. No side copies windows
before a batch is taken.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import talib
import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from benchmarks._figures import goal, interleaved, median_ms, say, times
from trading_bot.domain.market import Candles
from trading_bot.features.columns import Features
from trading_bot.features.compute import feature_matrix
from trading_bot.features.table import INDICATORS, Indicator, column_names
from trading_bot.features.windows import by_rows, windows_of

BARS = 1_000_000
ROUNDS = 15
BATCH = 32
BATCHES = 300
BARE_34 = 34
LENGTH = 30
SIMPLE: Any = 0  # TA-Lib's number of the simple mean


def main() -> None:
    candles = walk(BARS)
    table = first_columns(BARE_34)
    out = np.empty((BARE_34, BARS), np.float32)
    computed = interleaved(
        {
            "TA-Lib, the bare calls": lambda: bare(candles, logarithms=True),
            "TA-Lib, without its logarithms": lambda: bare(candles, logarithms=False),
            "34 features": lambda: feature_matrix(candles, table, out),
        },
        ROUNDS,
    )
    for name, seconds in computed.items():
        times(name, seconds)
    calls, fewer, ours = (median_ms(seconds) for seconds in computed.values())
    goal("34 features against the bare calls", ours / calls, "×", most=1.3)
    say(f"… against the calls without logarithms: {ours / fewer:.2f} ×")
    feed(candles)


def feed(candles: Candles) -> None:
    """The ways to take a batch of windows, against a DataLoader."""
    windows, _ = windows_of(feature_matrix(candles), LENGTH)
    beside = by_rows(windows)
    targets = np.random.default_rng(2).normal(size=len(windows)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the windows must not be written: nobody does
        sets = [TensorDataset(torch.from_numpy(each), torch.from_numpy(targets)) for each in (beside, windows)]
    spent = interleaved(
        {
            "DataLoader of by_rows(windows)": lambda: by_loader(sets[0]),
            "DataLoader of windows": lambda: by_loader(sets[1]),
            "by_rows(windows)[rows]": lambda: by_index(beside, targets),
            "windows[rows]": lambda: by_index(windows, targets),
        },
        ROUNDS,
    )
    for name, seconds in spent.items():
        times(f"{name} ({BATCHES})", seconds)
    loader, loader_too, ours, ours_too = (median_ms(seconds) for seconds in spent.values())
    goal("windows by rows against their DataLoader", loader / ours, "×", least=5)
    say(f"… both straight from the feature matrix: {loader_too / ours_too:.2f} ×; across: {loader_too / ours:.2f} ×")


def walk(bars: int) -> Candles:
    """A random walk in hours, seed fixed."""
    random = np.random.default_rng(7)
    close = 30_000 * np.exp(np.cumsum(random.normal(0, 1e-3, bars)))
    opened = np.concatenate(([close[0]], close[:-1]))
    high = np.maximum(opened, close) * (1 + random.exponential(5e-4, bars))
    low = np.minimum(opened, close) * (1 - random.exponential(5e-4, bars))
    time = np.arange(bars, dtype=np.int64) * 3_600_000
    return Candles("BTC/USDT", "1h", time, opened, high, low, close, random.lognormal(3, 1, bars))


def first_columns(count: int) -> dict[str, Indicator]:
    """The head of the table that has `count` columns."""
    table: dict[str, Indicator] = {}
    for name, indicator in INDICATORS.items():
        if len(column_names(table)) < count:
            table[name] = indicator
    if len(column_names(table)) != count:
        raise RuntimeError(f"no head of the table has {count} columns")
    return table


def bare(candles: Candles, *, logarithms: bool) -> None:
    """What TA-Lib alone takes."""
    high, low, close, volume = candles.high, candles.low, candles.close, candles.volume
    for period in (10, 20, 50):
        talib.SMA(close, period)
    for period in (12, 20, 26):
        talib.EMA(close, period)
    talib.MACD(close, 12, 26, 9)
    talib.RSI(close, 14)
    talib.STOCH(high, low, close, 14, 3, SIMPLE, 3, SIMPLE)
    talib.CCI(high, low, close, 20)
    talib.ROC(close, 12)
    talib.ROCP(close, 1)
    talib.TRIX(close, 15)
    talib.ATR(high, low, close, 14)
    talib.ATR(high, low, close, 20)
    talib.BBANDS(close, 20, 2.0, 2.0)
    talib.OBV(close, volume)
    talib.AD(high, low, close, volume)
    talib.MFI(high, low, close, volume, 14)
    talib.ADX(high, low, close, 14)
    talib.SUM(talib.TYPPRICE(high, low, close), 20)
    talib.SUM(volume, 20)
    talib.SUM(volume, 100)
    if logarithms:
        for column in (close, high, low, volume, close):
            talib.LN(column)


def _orders(count: int) -> Iterator[npt.NDArray[np.int64]]:
    random = np.random.default_rng(1)
    for _ in range(BATCHES):
        yield random.integers(0, count, BATCH)


def by_loader(items: TensorDataset) -> None:
    """Item by item."""
    order = RandomSampler(items, replacement=True, num_samples=BATCH * BATCHES)
    for _ in DataLoader(items, BATCH, sampler=order):
        pass


def by_index(windows: Features, targets: Features) -> None:
    """One indexing operation a batch."""
    for order in _orders(len(windows)):
        torch.from_numpy(np.ascontiguousarray(windows[order]))
        torch.from_numpy(targets[order])
