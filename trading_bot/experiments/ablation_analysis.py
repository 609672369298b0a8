"""What an ablation found, from its folder alone: the effects of monitor and controller. Nothing but Python is needed.

>>> told(analyze(Path("results/ablation")))

Of a metric B (baseline), M (monitor), C (controller), F (both), with one value for each seed:
Mon = ½[(M − B) + (F − C)], Ctl = ½[(C − B) + (F − M)], Int = ½[(F − C) − (M − B)].
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

Effect = Callable[[float, float, float, float], float]
EFFECTS: Mapping[str, Effect] = {
    "monitor": lambda b, m, c, f: 0.5 * ((m - b) + (f - c)),
    "controller": lambda b, m, c, f: 0.5 * ((c - b) + (f - m)),
    "interaction": lambda b, m, c, f: 0.5 * ((f - c) - (m - b)),
}


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds and its 95 % interval (Student's t, paired by seed); None with a single seed."""

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
    means : by mode, over all its seeds
    differences : by mode but the baseline, from the baseline, over the seeds of both
    effects : monitor, controller, interaction, over the seeds that all four modes have; empty if there are none
    """

    task: str
    metric: str
    lower: bool
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
        values = _by_mode(facts["runs"], metric)
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
        mode: interval([found[seed] - base[seed] for seed in found if seed in base])
        for mode, found in values.items()
        if mode != "baseline" and found.keys() & base.keys()
    }
    seeds = [seed for seed in base if all(seed in values.get(mode, {}) for mode in FOUR)]
    effects = {
        name: interval([effect(*(values[mode][seed] for mode in FOUR)) for seed in seeds])
        for name, effect in EFFECTS.items()
        if seeds
    }
    means = {mode: interval(list(found.values())) for mode, found in values.items()}
    return Analysis(task, metric, lower, means, differences, effects)


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
    lines += [f"  {mode:<16} {each.mean:>10.6f}   {each.seeds} seeds" for mode, each in found.means.items()]
    lines += ["", "difference from the baseline, paired by seed, 95 % interval", ""]
    lines += [f"  {mode:<16} {_shown(each)}" for mode, each in found.differences.items()]
    lines += ["", "effects: ½[(M−B)+(F−C)], ½[(C−B)+(F−M)], ½[(F−C)−(M−B)]", ""]
    lines += [f"  {name:<16} {_shown(each)}   {_verdict(each, found.lower)}" for name, each in found.effects.items()]
    if not found.effects:
        lines.append(f"  none: no seed was run in all of {', '.join(FOUR)}")
    moved = [mode for mode, each in found.differences.items() if mode in FOUR and (each.mean, each.low) != (0.0, 0.0)]
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


def _by_mode(runs: Sequence[Mapping[str, Any]], metric: str) -> dict[str, dict[int, float]]:
    """The metric by mode and seed."""
    found: dict[str, dict[int, float]] = {}
    for each in runs:
        value = float(each[metric])
        if not math.isfinite(value):
            raise ValueError(f"{each['mode']} with seed {each['seed']} has {metric} {value}")
        found.setdefault(str(each["mode"]), {})[int(each["seed"])] = value
    return found
