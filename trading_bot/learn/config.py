"""What the user may set about regimes, the ensemble, trained networks and what is learned while trading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class RegimeConfig:
    """How sure and how patient the regime detector is."""

    min_bars: int = 3  # a new regime must last so many bars before it replaces the old one

    def __post_init__(self) -> None:
        if not 1 <= self.min_bars <= 500:
            raise ValueError(f"regime.min_bars should be between 1 and 500, is {self.min_bars}")


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """How weights follow regime and record, and when their sum is a signal."""

    # hedge: times weights learned bar by bar; trm: times what a promoted model trusts each with; equal: all alike
    method: Literal["table", "hedge", "trm", "equal"] = "table"
    threshold: float = 0.20  # |score| from which the ensemble has an opinion
    floor: float = 0.02  # no strategy weighs less
    max_step: float = 0.05  # no weight moves further in one bar
    window: int = 50  # trades a strategy is judged by
    min_trades: int = 10  # trades at which the record counts half
    log_change: float = 0.10  # a weight change from which it is a line in the log
    hedge_rate: float = 0.03  # hedge: what earning a bar's usual move adds to the logarithm of a weight
    hedge_share: float = 0.0005  # hedge: part of the learned weights dealt out evenly every bar

    def __post_init__(self) -> None:
        if self.method not in ("table", "hedge", "trm", "equal"):
            raise ValueError(f"ensemble.method should be table, hedge, trm or equal, is {self.method!r}")
        for name, low, high in (
            ("threshold", 0.0, 1.0),
            ("floor", 0.0, 0.5),
            ("max_step", 0.001, 1.0),
            ("window", 1, 10_000),
            ("min_trades", 1, 10_000),
            ("log_change", 0.0, 1.0),
            ("hedge_rate", 0.0001, 2.0),
            ("hedge_share", 0.0001, 0.5),  # never 0: a weight of nothing could not come back
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"ensemble.{name} should be between {low} and {high}, is {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class NeuralConfig:
    """Which promoted networks may speak, as strategies or (`ensemble.method: trm`) of strategies."""

    enabled: bool = True  # false: as if none had been promoted
    max_age_days: float = 90.0  # a network falls silent so long (market time) after the last candle it was trained on

    def __post_init__(self) -> None:
        if not 0 < self.max_age_days <= 100_000:
            raise ValueError(f"neural.max_age_days should be above 0 and at most 100000, is {self.max_age_days:g}")


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """When the models of the strategies' signals are trained, on what, and how much better a new one must be."""

    enabled: bool = True  # false: no training, and the rules' own confidences
    every_bars: int = 168  # bars between trainings
    check_bars: int = 24  # bars between looks at how the champions do
    train_bars: int = 8_760  # newest bars learned from
    horizon: int = 12  # bars after which a signal is judged, unless the strategy turned before
    margin: float = 0.001  # part of the champion's log loss that a challenger must take off, for sure
    epochs: int = 100
    max_workers: int = 2  # strategies trained at once, each in a process of its own
    timeout_seconds: float = 300.0  # a strategy's training is killed after so long
    memory_limit_mb: int = 2_000  # … or when it takes more memory than this
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("every_bars", 1, 1_000_000),
            ("check_bars", 1, 1_000_000),
            ("train_bars", 500, 10_000_000),
            ("horizon", 1, 1_000),
            ("margin", 0.0, 1.0),
            ("epochs", 1, 100_000),
            ("max_workers", 1, 1_024),
            ("timeout_seconds", 1.0, 604_800.0),
            ("memory_limit_mb", 100, 10_000_000),
            ("seed", 0, 2**63 - 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"learning.{name} should be between {low} and {high}, is {getattr(self, name)}")
