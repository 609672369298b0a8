"""What the bot writes down about itself: decisions, equity, regimes, weights, trainings, runs, commands, snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class Decision:
    """The ensemble's outcome for one symbol and bar, with everything that led to it.

    `signals` maps strategy -> [side, confidence]; `outcome` is one of buy sell hold denied late; `reason` names the
    gate or cause in words that can be read alone. `model_versions` maps each strategy that answered with a trained
    model to the model's id; `notes` maps a strategy that has something to say of its answer (why it is silent or
    cautious) to its words. In both, `ensemble.trm` stands for the model that weighs the strategies.
    """

    symbol: str
    time: int  # bar open, UTC ms
    regime: str
    weights: Mapping[str, float]
    signals: Mapping[str, tuple[int, float]]
    score: float
    side: int
    outcome: str
    reason: str
    model_versions: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    client_order_id: str | None = None
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class EquityPoint:
    """The account, marked to market at the close of the bar that opened at `time`."""

    time: int
    equity: Decimal
    cash: Decimal
    hold_equity: Decimal  # the same start capital held in equal parts of every symbol since the account began
    drawdown: float  # from the highest equity so far, 0..1
    open_trades: int
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class RegimeChange:
    symbol: str
    time: int
    old: str
    new: str
    confidence: float
    features: Mapping[str, float]
    after_bars: int
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class WeightChange:
    symbol: str
    time: int
    old: Mapping[str, float]
    new: Mapping[str, float]
    because: str
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One daemon life (or one backtest): enough to know what ran on what."""

    id: str
    mode: str
    started: datetime
    configuration: Mapping[str, Any]  # redacted
    ended: datetime | None = None
    end_reason: str = ""
    candles_hash: str = ""
    version: str = ""
    models: Mapping[str, str] = field(default_factory=dict)  # strategy -> id of the model it has in this life


@dataclass(frozen=True, slots=True)
class Training:
    """What came of training one strategy's model anew, or of looking at how its champion does, and why.

    `trigger` is one of schedule drift demand; `outcome` one of promoted rejected pinned fallen too_little failed
    rolled_back.
    """

    strategy: str
    time: int  # open of the newest bar that was known, UTC ms
    outcome: str
    trigger: str
    reason: str
    model: str | None = None  # id of the challenger; of the champion that was taken back
    scores: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A wish of the user, carried by the database to the running daemon."""

    id: str
    name: str  # pause resume flatten stop train
    given: datetime
    handled: datetime | None = None
    answer: str = ""


@dataclass(frozen=True, slots=True)
class JobRun:
    """A market-time slot that has been dealt with; (job, slot) is unique."""

    job: str
    slot: int
    date: datetime


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Path-dependent state, as JSON, under a name."""

    name: str
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CandleGap:
    """Bars the venue confirms it does not have: from `start` (inclusive) to `end` (exclusive), UTC ms."""

    symbol: str
    timeframe: str
    start: int
    end: int
