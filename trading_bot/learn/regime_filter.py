"""From features to the probability of each regime, and from probabilities to a regime that does not flicker.

A hidden Markov filter with five states (a trend is up or down), whose evidence is linear in the features and whose
numbers were trained through the recursion itself by `python -m trading_bot.experiments.regime_tuning` on synthetic
markets. Its memory is bounded: rows come in blocks, and each block's filter starts afresh some rows before it. What it
says of a row therefore costs the same however long the window, and a window's beginning is soon forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from trading_bot.domain.market import Floats
from trading_bot.learn.regime_features import FIRST

Four = tuple[float, float, float, float]  # trending, ranging, volatile, choppy
Value = TypeVar("Value", float, Floats)

WEIGHTS: Mapping[str, Four] = {
    "adx": (-0.034, 0.024, 0.010, 0.001),
    "efficiency": (0.125, -0.058, -0.051, -0.016),
    "choppiness": (0.116, 0.130, -0.230, -0.017),
    "volatility": (0.399, 0.217, -0.311, -0.304),
    "volatility_bar": (-0.526, -0.538, 0.618, 0.446),
    "volatility_day": (0.064, 0.246, -0.246, -0.065),
    "surprise": (-0.015, 0.227, -0.200, -0.011),
    "echo": (0.064, 0.095, 0.126, -0.286),
    "second_echo": (0.018, 0.040, 0.023, -0.082),
    "reversion": (0.010, 0.095, -0.016, -0.090),
    "body": (0.481, -0.009, 0.181, -0.653),
    "jump": (0.234, -0.078, 0.487, -0.643),
    "volume": (-0.164, 0.340, -0.594, 0.419),
    "volume_bar": (0.188, -0.407, 0.696, -0.477),
}
BIAS: Four = (-0.309, -0.219, 0.167, 0.361)
LEAN: Mapping[str, float] = {
    "move": 0.448,
    "momentum": 0.052,
}
LEAVE: Four = (0.0119, 0.0055, 0.0034, 0.0132)
ENTER: Four = (0.403, 0.221, 0.096, 0.280)

BLOCK = 32  # rows whose filters share a beginning


def lead(min_bars: int) -> int:
    """Rows before its block at which a filter starts: enough that where it started no longer matters.

    Regimes are left so seldom that a wrong start lingers for as long as the bars say little: after 80 rows one bar in
    350 was told differently than by a filter of unbounded memory, after 320 none of 108,000.
    """
    return 320 + 8 * min_bars


@dataclass(slots=True)
class Progress:
    """Where the filter stood after the rows it was last asked about. It goes on from there if, and only if, the
    evidence of those rows is the same to the last bit, so that nothing but time depends on it."""

    evidence: Floats = field(default_factory=lambda: np.empty((5, 0)))  # (5, rows seen)
    state: tuple[float, ...] = (0.2, 0.2, 0.2, 0.2, 0.2)
    current: int = -1
    candidate: int = -1
    lasted: int = 0


def judge_newest(
    features: Mapping[str, Floats], rows: int, min_bars: int, progress: Progress | None = None
) -> tuple[int, float]:
    """Regime (its place in `Regime`) and probability after row `rows` − 1: the last of what `judge_all` says.

    `progress` is brought up to date; given again with the next bar, one step of the filter is left to do.
    """
    start = max(FIRST, (rows - 1) // BLOCK * BLOCK - lead(min_bars))
    evidence = np.stack(_evidence(features, slice(start, rows)))
    progress = progress or Progress()
    seen = progress.evidence.shape[1]
    if not 0 < seen < rows - start or not np.array_equal(evidence[:, :seen], progress.evidence):
        fresh = Progress()
        seen, progress.state = 0, fresh.state
        progress.current, progress.candidate, progress.lasted = fresh.current, fresh.candidate, fresh.lasted
    state, current = progress.state, progress.current
    candidate, lasted = progress.candidate, progress.lasted
    four: tuple[float, ...] = ()
    for factors in evidence[:, seen:].T.tolist():
        state = _step(state, tuple(factors))
        four = (state[0] + state[1], state[2], state[3], state[4])
        leader = four.index(max(four))
        lasted = lasted + 1 if leader == candidate else 1
        candidate = leader
        if current < 0 or (leader != current and lasted >= min_bars):
            current = leader
    progress.evidence, progress.state, progress.current = evidence, state, current
    progress.candidate, progress.lasted = candidate, lasted
    return current, four[current]


def judge_all(features: Mapping[str, Floats], rows: int, min_bars: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """Regime (int8) and probability (float64) after every row, all blocks at once; rows before `FIRST` say nothing."""
    before = lead(min_bars)
    codes, confidence = np.zeros(rows, np.int8), np.full(rows, np.nan)
    evidence = _evidence(features, slice(0, rows))
    starts = np.arange(0, rows, BLOCK) - before
    state = tuple(np.full(len(starts), 0.2) for _ in range(5))
    current = np.full(len(starts), -1)
    candidate, lasted = current.copy(), np.zeros(len(starts), np.int64)
    for offset in range(before + BLOCK):
        at = starts + offset
        going = (at >= FIRST) & (at < rows)
        at = np.clip(at, 0, rows - 1)
        stepped = _step(state, tuple(values[at] for values in evidence))
        state = tuple(np.where(going, new, old) for new, old in zip(stepped, state, strict=True))
        four = np.stack([state[0] + state[1], state[2], state[3], state[4]])
        leader = np.where(going, four.argmax(axis=0), candidate)
        lasted = np.where(leader == candidate, lasted + going, 1)
        candidate = leader
        current = np.where((current < 0) | ((leader != current) & (lasted >= min_bars)), leader, current)
        if offset >= before:
            codes[at[going]] = current[going]
            confidence[at[going]] = four[current, np.arange(len(starts))][going]
    return codes, confidence


def _evidence(features: Mapping[str, Floats], rows: slice) -> list[Floats]:
    """How well each state (up, down, ranging, volatile, choppy) explains each row, the best 1.

    Sums term by term: a matrix product would round differently for windows of different length.
    """
    weights = np.array([*WEIGHTS.values()])[:, :, None]
    score = np.array(BIAS)[:, None] + np.zeros((4, len(features[next(iter(WEIGHTS))][rows])))
    for weight, name in zip(weights, WEIGHTS, strict=True):
        score += weight * features[name][rows]
    lean = np.zeros(score.shape[1])
    for name, one in LEAN.items():
        lean += one * features[name][rows]
    states = [score[0] + lean, score[0] - lean, score[1], score[2], score[3]]
    best = np.maximum(np.maximum(states[0], states[1]), np.maximum(states[2], np.maximum(states[3], states[4])))
    return [np.exp(one - best) for one in states]


_STAY = tuple(1.0 - chance for chance in LEAVE)
_HALF = 0.5 * ENTER[0]


def _step(state: tuple[Value, ...], factors: tuple[Value, ...]) -> tuple[Value, ...]:
    """One bar of the forward recursion; floats and arrays alike, so that one row and many agree to the last bit."""
    up, down, ranging, volatile, choppy = state
    leaving = LEAVE[0] * (up + down) + LEAVE[1] * ranging + LEAVE[2] * volatile + LEAVE[3] * choppy
    up = (_STAY[0] * up + _HALF * leaving) * factors[0]
    down = (_STAY[0] * down + _HALF * leaving) * factors[1]
    ranging = (_STAY[1] * ranging + ENTER[1] * leaving) * factors[2]
    volatile = (_STAY[2] * volatile + ENTER[2] * leaving) * factors[3]
    choppy = (_STAY[3] * choppy + ENTER[3] * leaving) * factors[4]
    total = up + down + ranging + volatile + choppy
    return up / total, down / total, ranging / total, volatile / total, choppy / total
