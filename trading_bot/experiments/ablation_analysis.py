"""What an ablation found, from its folder alone: the effects of monitor and controller. Nothing but Python is needed.

>>> told(analyze(Path("results/ablation")))

Of a metric B (baseline), M (monitor), C (controller), F (both), with one value for each seed:
Mon = ½[(M − B) + (F − C)], Ctl = ½[(C − B) + (F − M)], Int = ½[(F − C) − (M − B)].
Of several folds, what is paired by seed and fold is averaged over the folds of each seed: all seeds have the same
folds, and to count each anew would make the interval too narrow. It tells of other seeds then, not of another time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from trading_bot.errors import TrainingError

RESULTS = "results.json"
FOUR = ("baseline", "monitor_only", "controller_only", "full_adaptive")
_T = (  # two-sided 95 % points of Student's t, 1 to 30 degrees of freedom
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip

Cells = Mapping[tuple[int, int], float]  # by seed and fold
Effect = Callable[[float, float, float, float], float]
EFFECTS: Mapping[str, Effect] = {
    "monitor": lambda b, m, c, f: 0.5 * ((m - b) + (f - c)),
    "controller": lambda b, m, c, f: 0.5 * ((c - b) + (f - m)),
    "interaction": lambda b, m, c, f: 0.5 * ((f - c) - (m - b)),
}


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds and its 95 % interval (Student's t over the means of each seed); None with a single seed."""

    mean: float
    low: float | None
    high: float | None
    seeds: int


@dataclass(frozen=True, slots=True)
class Analysis:
    """Everything that can be told.

    Attributes
    ----------
    metric, lower : what was measured on rows not trained on, and whether less is better
    folds : that a seed was run on
    means : by mode, over all its seeds
    differences : by mode but the baseline, from the baseline, over the seeds of both
    effects : monitor, controller, interaction, over the seeds that all four modes have; empty if there are none
    """

    task: str
    metric: str
    lower: bool
    folds: int
    means: Mapping[str, Interval]
    differences: Mapping[str, Interval]
    effects: Mapping[str, Interval]


def analyze(folder: Path) -> Analysis:
    """Read what `experiment ablation` wrote.

    Raises
    ------
    TrainingError
        If there is no such file, or it holds something else.
    """
    path = folder / RESULTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        task, metric, lower = str(facts["task"]), str(facts["metric"]), bool(facts["lower_is_better"])
        values = by_mode(facts["runs"], metric)
    except OSError as error:
        raise TrainingError(
            f"{path} cannot be read ({error.strerror}); wanted a folder that `trading-bot experiment ablation` wrote"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path} is no result of an ablation ({type(error).__name__}: {error}); run the ablation again"
        ) from None
    if not values:
        raise TrainingError(f"{path} holds no runs; run the ablation again")
    base = values.get("baseline", {})
    differences = {
        mode: interval(_by_seed([found, base], lambda value, reference: value - reference))
        for mode, found in values.items()
        if mode != "baseline" and found.keys() & base.keys()
    }
    effects = effects_over_seeds(values)
    means = {mode: interval(_by_seed([found], lambda value: value)) for mode, found in values.items()}
    folds = len({fold for found in values.values() for _, fold in found})
    return Analysis(task, metric, lower, folds, means, differences, effects)


def effects_over_seeds(values: Mapping[str, Cells]) -> dict[str, Interval]:
    """Monitor, controller, interaction; of the metric by mode."""
    four = [values.get(mode, {}) for mode in FOUR]
    return {name: interval(each) for name, effect in EFFECTS.items() if (each := _by_seed(four, effect))}


def _by_seed(modes: Sequence[Cells], combine: Callable[..., float]) -> list[float]:
    """For each seed the mean, over the folds that all these modes have of it, of what their values combine to."""
    found: dict[int, list[float]] = {}
    for seed, fold in modes[0]:
        if all((seed, fold) in mode for mode in modes):
            found.setdefault(seed, []).append(combine(*(mode[seed, fold] for mode in modes)))
    return [fmean(each) for each in found.values()]


def interval(values: Sequence[float]) -> Interval:
    """The mean of one value for each seed and its interval."""
    mean, count = fmean(values), len(values)
    if count < 2:
        return Interval(mean, None, None, count)
    freedom = count - 1
    point = _T[freedom - 1] if freedom <= len(_T) else 1.96 + 2.4 / freedom
    reach = point * stdev(values) / math.sqrt(count)
    return Interval(mean, mean - reach, mean + reach, count)


def told(found: Analysis) -> str:
    """The analysis in words and numbers, for a terminal."""
    lines = [f"{found.task}: {found.metric} by mode, {'less' if found.lower else 'more'} is better", ""]
    over = "" if found.folds == 1 else f" × {found.folds} folds"
    paired = "paired by seed" if found.folds == 1 else "paired by seed and fold, averaged over the folds of each seed"
    lines += [f"  {mode:<16} {each.mean:>10.6f}   {each.seeds} seeds{over}" for mode, each in found.means.items()]
    lines += ["", f"difference from the baseline, {paired}, 95 % interval", ""]
    lines += [f"  {mode:<16} {_shown(each)}" for mode, each in found.differences.items()]
    lines += ["", "effects: ½[(M−B)+(F−C)], ½[(C−B)+(F−M)], ½[(F−C)−(M−B)]", ""]
    lines += [f"  {name:<16} {_shown(each)}   {_verdict(each, found.lower)}" for name, each in found.effects.items()]
    if not found.effects:
        lines.append(f"  none: no seed was run in all of {', '.join(FOUR)}")
    if found.folds > 1:
        lines += ["", "over seeds alone: how sure it is on these very folds, and nothing of another time"]
    own = [each for mode, each in found.differences.items() if mode in FOUR]
    moved = [each for each in own if each.mean or each.low]
    if found.effects and not moved:
        lines += ["", "monitor and controller changed nothing at all: nothing learned was given that acts"]
    return "\n".join(lines)


def _shown(each: Interval) -> str:
    if each.low is None or each.high is None:
        return f"{each.mean:>+10.6f}   one seed: no interval"
    return f"{each.mean:>+10.6f}   {each.low:+.6f} … {each.high:+.6f}"


def _verdict(each: Interval, lower: bool) -> str:
    if each.low is None or each.high is None or each.low <= 0 <= each.high:
        return "not shown"
    return "helps" if (each.high < 0) == lower else "harms"


def by_mode(runs: Sequence[Mapping[str, Any]], metric: str) -> dict[str, dict[tuple[int, int], float]]:
    """The metric by mode, seed and fold (1 where there is but one), of the rows of a table of results.

    Raises
    ------
    ValueError, KeyError
        If a row has no finite number, is there twice, or lacks a column.
    """
    found: dict[str, dict[tuple[int, int], float]] = {}
    for each in runs:
        mode, cell, value = str(each["mode"]), (int(each["seed"]), int(each.get("fold", 1))), float(each[metric])
        if not math.isfinite(value):
            raise ValueError(f"{mode} with seed {cell[0]} has {metric} {value}")
        if cell in found.setdefault(mode, {}):
            raise ValueError(f"{mode} with seed {cell[0]} and fold {cell[1]} is there twice")
        found[mode][cell] = value
    return found
