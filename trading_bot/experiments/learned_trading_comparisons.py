"""Which arms are compared, on which bars, and what the hopes of the requirements come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trading_bot import metrics
from trading_bot.domain.market import Floats, Regime
from trading_bot.experiments.learned_trading_runs import METHODS, Market, Run
from trading_bot.experiments.learned_trading_scores import (
    PATH_DRAWS,
    Blocks,
    Estimate,
    drawdowns,
    estimate,
    total,
)

REGIMES = tuple(regime.value for regime in Regime)
RANGING_HOPE, DRAWDOWN_HOPE = 0.15, -0.10  # the modest ends of "15–25 %" and "10–20 %"
Key = tuple[str, bool]  # method, meta-labels


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """The runs on one market under one configuration of limits; all decided the same bars."""

    market: Market
    limits: bool
    runs: Mapping[Key, Run]

    @property
    def name(self) -> str:
        return self.market.name + ("" if self.limits else ", no drawdown limits")

    @property
    def short(self) -> str:
        return self.market.short + ("" if self.limits else ", no limits")

    @property
    def first(self) -> Run:
        """The run whose regimes are used for all: they do not depend on how strategies are weighed."""
        return next(iter(self.runs.values()))

    def daily(self) -> list[Floats]:
        """Each arm's returns of days."""
        return [run.daily() for run in self.runs.values()]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One arm less another: sums of net returns over all bars and over those of each regime; maximum drawdowns."""

    setting: str
    name: str
    everywhere: Estimate
    by_regime: Mapping[str, Estimate]
    drawdown: Estimate


@dataclass(frozen=True, slots=True)
class Hope:
    """What a method came to beside equal weights.

    Attributes
    ----------
    sums : of net returns over ranging bars: equal weights', the method's
    ranging : their difference as a share of the first's size; interval likewise
    falls : maximum drawdowns: equal weights', the method's
    drawdown : the second over the first, less 1
    """

    setting: str
    name: str
    sums: tuple[float, float]
    ranging: Estimate
    falls: tuple[float, float]
    drawdown: Estimate


def settings_of(runs: Sequence[Run]) -> list[Setting]:
    """Runs that may be compared, in the order given."""
    groups: dict[tuple[Market, bool], dict[Key, Run]] = {}
    for run in runs:
        arm = run.arm
        groups.setdefault((arm.market, arm.limits), {})[arm.method, arm.learning] = run
    found = [Setting(market, limits, members) for (market, limits), members in groups.items()]
    for setting in found:
        for run in setting.runs.values():
            assert np.array_equal(run.time, setting.first.time), "arms decide the same bars"
    return found


def compare(setting: Setting) -> tuple[list[Comparison], list[Hope]]:
    """Every comparison that the arms allow, and the hopes beside equal weights."""
    runs = setting.runs
    returns = {key: run.returns for key, run in runs.items()}
    blocks = Blocks(len(setting.first.returns))
    drawn = drawdowns(np.array(list(returns.values())), Blocks(blocks.n, draws=PATH_DRAWS))
    falls = dict(zip(returns, drawn.T, strict=True))
    deepest = {key: _fall(run) for key, run in runs.items()}
    within = {regime: setting.first.before == regime for regime in REGIMES}
    comparisons = [
        Comparison(
            setting.short,
            name,
            total(returns[one] - returns[other], blocks),
            {regime: total((returns[one] - returns[other]) * bars, blocks) for regime, bars in within.items()},
            estimate(deepest[one] - deepest[other], falls[one] - falls[other]),
        )
        for name, one, other in _pairs(runs)
    ]
    hopes = []
    for method, learning in runs:
        if method == "equal" or ("equal", learning) not in runs:
            continue
        one, other = (method, learning), ("equal", learning)
        sums = [float(returns[key][within["ranging"]].sum()) for key in (other, one)]
        size = max(abs(sums[0]), 1e-12)
        hopes.append(
            Hope(
                setting.short,
                runs[one].arm.name,
                (sums[0], sums[1]),
                total((returns[one] - returns[other]) * within["ranging"] / size, blocks),
                (deepest[other], deepest[one]),
                estimate(
                    deepest[one] / max(deepest[other], 1e-12) - 1, falls[one] / np.maximum(falls[other], 1e-12) - 1
                ),
            )
        )
    return comparisons, hopes


def verdict(found: Estimate, hope: float) -> str:
    """Whether a hope is met for sure, surely not, or neither; a negative hope is one of something lower."""
    low, high = (found.low, found.high) if hope > 0 else (-found.high, -found.low)
    if low >= abs(hope):
        return "met"
    return "excluded" if high < abs(hope) else "not shown"


def _pairs(runs: Mapping[Key, Run]) -> list[tuple[str, Key, Key]]:
    found = [(f"meta-labels on − off, {method}", (method, True), (method, False)) for method in METHODS]
    for learning, words in ((False, "off"), (True, "on")):
        found += [
            (f"{one} − {other}, meta-labels {words}", (one, learning), (other, learning))
            for one, other in (("table", "equal"), ("hedge", "equal"), ("hedge", "table"))
        ]
    return [each for each in found if each[1] in runs and each[2] in runs]


def _fall(run: Run) -> float:
    fall = metrics.max_drawdown(run.equity)
    return fall.account if fall is not None else 0.0
