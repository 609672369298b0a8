"""What the user may set about regimes, the ensemble and trained networks."""

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

    method: Literal["table", "hedge"] = "table"  # hedge: the table times weights learned bar by bar
    threshold: float = 0.20  # |score| from which the ensemble has an opinion
    floor: float = 0.02  # no strategy weighs less
    max_step: float = 0.05  # no weight moves further in one bar
    window: int = 50  # trades a strategy is judged by
    min_trades: int = 10  # trades at which the record counts half
    log_change: float = 0.10  # a weight change from which it is a line in the log
    hedge_rate: float = 0.03  # hedge: what earning a bar's usual move adds to the logarithm of a weight
    hedge_share: float = 0.0005  # hedge: part of the learned weights dealt out evenly every bar

    def __post_init__(self) -> None:
        if self.method not in ("table", "hedge"):
            raise ValueError(f"ensemble.method should be table or hedge, is {self.method!r}")
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
    """Which promoted networks may speak."""

    enabled: bool = True  # false: as if none had been promoted
    max_age_days: float = 90.0  # a network falls silent so long (market time) after the last candle it was trained on

    def __post_init__(self) -> None:
        if not 0 < self.max_age_days <= 100_000:
            raise ValueError(f"neural.max_age_days should be above 0 and at most 100000, is {self.max_age_days:g}")
