"""One backtest of one arm, and what is kept of it."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trading_bot import metrics
from trading_bot.bootstrap import run_backtest
from trading_bot.domain.journal import Decision, EquityPoint, Training
from trading_bot.domain.market import Floats, Times
from trading_bot.errors import ConfigurationError
from trading_bot.market_data.candle_files import parse_name
from trading_bot.settings import Settings, load_settings

METHODS = ("table", "hedge", "equal")
WITHOUT_LIMITS = {"drawdown_reduce": 0.0, "drawdown_halt": 0.0, "drawdown_flatten": 0.0}
_TOLD = 2_000  # bars between two lines of progress
Spoken = tuple[str, str, int, float, str]  # symbol, strategy, time, P, id of the model


@dataclass(frozen=True, slots=True)
class Market:
    """Candle files that are traded together."""

    files: tuple[Path, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(symbol_of(path) for path in self.files)

    @property
    def name(self) -> str:
        return " + ".join(self.symbols)

    @property
    def short(self) -> str:
        """Its quote currency, which no other market shares."""
        return self.symbols[0].partition("/")[2]

    def hashes(self) -> list[str]:
        """SHA-256 of each file's bytes."""
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.files]


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to trade a market.

    Attributes
    ----------
    method : ensemble.method
    learning : whether models of the signals are trained on the way
    limits : whether losses halve and halt trading, as by default
    """

    market: Market
    method: str
    learning: bool
    limits: bool = True

    @property
    def name(self) -> str:
        return f"{self.method}, meta-labels {'on' if self.learning else 'off'}"

    def settings(self, bars: int = 0) -> Settings:
        """The default configuration but for what the arm is about; no trained networks."""
        chosen: dict[str, Any] = {
            "market": {"candles": [str(path) for path in self.market.files], "max_bars": bars},
            "ensemble": {"method": self.method},
            "learning": {"enabled": self.learning},
            "neural": {"enabled": False},
        }
        return load_settings([], chosen if self.limits else chosen | {"risk": WITHOUT_LIMITS}, {})


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What an arm came to.

    Attributes
    ----------
    summary : of the backtest
    time : int64 (n,), opens of the bars, UTC ms
    equity, hold : (n,), at their closes: the account, and its start capital held in equal parts of every symbol
    regime : (n,), told at their closes; of several symbols the commonest, at a tie that of the first
    reduced, halted : open of the bar at which losses halved and halted entries, for good; None where they did not
    trainings : (strategy, time, outcome, id of the model), in order
    spoken : signals whose confidence a model gave
    """

    arm: Arm
    summary: dict[str, Any]
    time: Times
    equity: Floats
    hold: Floats
    regime: npt.NDArray[np.str_]
    reduced: int | None
    halted: int | None
    trainings: tuple[tuple[str, int, str, str | None], ...]
    spoken: tuple[Spoken, ...]

    @property
    def returns(self) -> Floats:
        """Net return of every bar but the first, (n − 1,)."""
        return metrics.returns_of(self.equity)

    @property
    def before(self) -> npt.NDArray[np.str_]:
        """The regime that was known when each of these bars began, (n − 1,)."""
        return self.regime[:-1]

    def daily(self, equity: Floats | None = None) -> Floats:
        """Returns of UTC days."""
        return metrics.returns_of(metrics.daily_equity(self.time, self.equity if equity is None else equity)[1])


def symbol_of(path: Path) -> str:
    """The symbol that a candle file's name tells."""
    named = parse_name(path)
    if named is None:
        raise ConfigurationError(f"--data: {path.name} does not tell a symbol; rename it like BTC_USDT-1h.csv.gz")
    return named[0]


def markets_of(paths: Sequence[Path]) -> list[Market]:
    """Files of one quote currency are traded together; in the order given."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        if not path.is_file():
            raise ConfigurationError(f"--data: there is no candle file {path}; give files such as BTC_USDT-1h.csv.gz")
        groups.setdefault(symbol_of(path).partition("/")[2], []).append(path)
    return [Market(tuple(files)) for files in groups.values()]


def simulate(arm: Arm, bars: int) -> Run:
    """The backtest of an arm; progress goes to standard error."""
    settings = arm.settings(bars)
    result = run_backtest(settings, on_bar=_progress(arm), walk_forward=arm.learning)
    with result.store.reading() as tx:
        points, decisions, trainings = tx.find(EquityPoint), tx.find(Decision), tx.find(Training)
    fallen = np.array([point.drawdown for point in points])
    time = np.array([point.time for point in points], np.int64)
    return Run(
        arm=arm,
        summary=result.summary,
        time=time,
        equity=np.array([float(point.equity) for point in points]),
        hold=np.array([float(point.hold_equity) for point in points]),
        regime=regimes_of(time, decisions, arm.market.symbols),
        reduced=_first(time, fallen, settings.risk.drawdown_reduce),
        halted=_first(time, fallen, settings.risk.drawdown_halt),
        trainings=tuple((each.strategy, each.time, each.outcome, each.model) for each in trainings),
        spoken=tuple(_spoken(decisions)),
    )


def outcomes(trainings: Sequence[tuple[str, int, str, str | None]]) -> Counter[str]:
    """How many trainings, and looks at champions, ended how."""
    return Counter(outcome for _, _, outcome, _ in trainings)


def _progress(arm: Arm) -> Callable[[int, int], None]:
    limits = "" if arm.limits else ", no drawdown limits"

    def tell(done: int, total: int) -> None:
        if done % _TOLD == 0 or done == total:
            print(f"{arm.market.name}, {arm.name}{limits}: {done:,} of {total:,} bars", file=sys.stderr, flush=True)

    return tell


def regimes_of(time: Times, decisions: Sequence[Decision], symbols: Sequence[str]) -> npt.NDArray[np.str_]:
    """For each bar the commonest regime among the symbols, at a tie that of the first; "" where none is told."""
    told: dict[int, dict[str, str]] = {}
    for decision in decisions:
        told.setdefault(decision.time, {})[decision.symbol] = decision.regime
    found = []
    for each in time.tolist():
        regimes = [told[each][symbol] for symbol in symbols if symbol in told.get(each, {})]
        found.append(max(regimes, key=regimes.count) if regimes else "")  # the first of those as common
    return np.array(found)


def _spoken(decisions: Sequence[Decision]) -> list[Spoken]:
    return [
        (decision.symbol, strategy, decision.time, float(decision.signals[strategy][1]), version)
        for decision in decisions
        for strategy, version in decision.model_versions.items()
        if decision.signals.get(strategy, (0, 0.0))[0] != 0
    ]


def _first(time: Times, fallen: Floats, level: float) -> int | None:
    reached = np.flatnonzero(fallen >= level) if level else np.empty(0, np.int64)
    return int(time[reached[0]]) if len(reached) else None
