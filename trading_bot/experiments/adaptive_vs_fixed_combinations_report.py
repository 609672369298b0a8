"""The section and the picture of all combinations of losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trading_bot.experiments.adaptive_vs_fixed import EQUAL, RANDOM, SINGLE, TUNED
from trading_bot.experiments.adaptive_vs_fixed_combinations import (
    BEST,
    CHOSEN,
    Arm,
    Measured,
    Pair,
    across,
    beside_nothing,
    reference,
    within,
)
from trading_bot.experiments.adaptive_vs_fixed_comparison import mean_of
from trading_bot.experiments.adaptive_vs_fixed_report import never_moved
from trading_bot.experiments.report_section import (
    between,
    chance,
    counted,
    drawn_from,
    listed,
    table,
    write_section,
)
from trading_bot.experiments.statistics import holm
from trading_bot.training.adaptive_loss import COMBINATIONS

PAGE, PICTURE = "adaptive-loss.md", "adaptive-loss-combinations.png"
TITLE = "## Every combination of losses"
COLOURS = ("#1b6ca8", "#c97b12", "#3a8f4d", "#8e4aa0", "#444444", "#b03a5b")


def write_combinations(found: Measured, folder: Path, command: str) -> tuple[Pair, ...]:
    """Put the section into adaptive-loss.md in `folder`, and the picture beside it; what was compared."""
    folder.mkdir(parents=True, exist_ok=True)
    arms, combinations = within(found), across(found)
    _picture(found, arms, combinations, folder / PICTURE)
    parts = [
        TITLE, _head(found, command), f"![policies within, and combinations beside each other]({PICTURE})",
        _verdict(found, arms, combinations), _across(found, combinations),
        *(_within(found, name, arms) for name in found.combinations), _weights(found),
    ]  # fmt: skip
    write_section(folder / PAGE, "\n\n".join(parts), "# Adaptive loss")
    return (*arms, *combinations)


def _head(found: Measured, command: str) -> str:
    plan = found.plans[0]
    cells = [
        found.cells[name][seed, fold, arm]
        for name in found.combinations for seed in found.seeds for fold in range(plan.folds) for arm in found.arms
    ]  # fmt: skip
    fits, seconds = sum(each.fits for each in cells), sum(each.seconds for each in cells)
    names = "; ".join(f"`{name}` ({', '.join(COMBINATIONS[name].losses)})" for name in found.combinations)
    return (
        f"Written by `{command}`. The candles, rows, folds and budget of the section above, the same for all: {names}; "
        f"{counted(len(found.seeds), 'seed')} ({', '.join(map(str, found.seeds))}), {fits:,} fits in "
        f"{seconds / 60:.0f} minutes of one core. Every fit of a seed and fold begins with the same weights and sees "
        "the same rows in the same order, so combinations are paired just as arms are. "
        f"“{BEST}” takes of the policies the one with the lowest validation error, and “{CHOSEN}” so the combination, "
        "for each seed and fold anew: the validation error is the same for all, the mean absolute error."
        + (f"\n\n**Not measured yet:** {'; '.join(found.missing)}." if found.missing else "")
    )


# verdict --------------------------------------------------------------------------------------------------------------


def _verdict(found: Measured, arms: Sequence[Pair], combinations: Sequence[Pair]) -> str:
    family = [pair for pair in arms if pair.error_holm is not None]
    words = ["“Lower” and “higher” are differences whose 95 % interval is without 0."]
    if never_moved(found.plans[0]):
        words.append(f"**Within a combination nothing was compared**: {never_moved(found.plans[0])}")
    elif not family:
        words.append("**Nothing is said of adapting**: no policy is among the arms that all combinations have.")
    else:
        words += _of_policies(family)
    means = {
        way: min((mean_of(found.lost[name, way][0]), name) for name in found.combinations) for way in found.ways
    }  # fmt: skip
    lowest = ", ".join(f"`{name}` with {_way(way)} ({1e5 * mean:.1f} · 10⁻⁵)" for way, (mean, name) in means.items())
    plainest = reference(found)
    words.append(
        f"Combinations beside `{plainest}`, {len(combinations)} comparisons: {told(combinations, _across_name)}. "
        f"The lowest mean errors: {lowest}."
        + ("" if any(map(better, combinations)) else f" **None is shown to have a lower error than `{plainest}`.**")
    )
    return "### Verdict on combinations\n\n" + "\n\n".join(words)


def _of_policies(family: Sequence[Pair]) -> list[str]:
    words = []
    for other in (TUNED, EQUAL):
        pairs = [pair for pair in family if pair.second[1] == other]
        words.append(f"Policies beside {other} weights, {len(pairs)} comparisons: {told(pairs, _within_name)}.")
    gain = [_within_name(pair) for pair in family if pair.second[1] == TUNED and better(pair)]
    shown = (
        f"**A gain over tuned weights is shown** for {listed(gain)}." if gain
        else "**No gain is shown**: within this budget no policy is shown to have a lower error than tuned weights of "
        "the same losses, in any combination."
    )  # fmt: skip
    return [
        *words,
        f"Holm is over all {len(family)} of these (policies × combinations × tuned and equal), errors and hits apart. "
        f"{shown}",
    ]


def told(pairs: Sequence[Pair], name: Callable[[Pair], str]) -> str:
    """What is shown of pairs, in words: by their intervals alone, and by Holm."""
    parts = []
    for what, field in (("the error", "error"), ("the share of wrong signs", "missed")):
        below = [name(pair) for pair in pairs if getattr(pair, field).high < 0]
        above = [name(pair) for pair in pairs if getattr(pair, field).low > 0]
        sure = [name(pair) for pair in pairs if better(pair, field) or worse(pair, field)]
        parts.append(f"{what} is lower in {_counted(below)}, higher in {_counted(above)}; of these by Holm's p < 0.05: "
                     f"{listed(sure)}")  # fmt: skip
    return "; ".join(parts)


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "none"


def better(pair: Pair, field: str = "error") -> bool:
    """Whether the first is shown to have fewer errors, or fewer wrong signs (`missed`), beside all of the family."""
    return getattr(pair, field).high < 0 and _sure(pair, field)


def worse(pair: Pair, field: str = "error") -> bool:
    """… to have more."""
    return getattr(pair, field).low > 0 and _sure(pair, field)


def _sure(pair: Pair, field: str) -> bool:
    p = getattr(pair, f"{field}_holm")
    return p is not None and p < 0.05


def _within_name(pair: Pair) -> str:
    return f"{pair.first[1]} of `{pair.first[0]}`"


def _across_name(pair: Pair) -> str:
    return f"`{pair.first[0]}` with {_way(pair.first[1])}"


def _way(way: str) -> str:
    return f"the {way}" if way == BEST else f"{way} weights"


# tables ---------------------------------------------------------------------------------------------------------------


def _across(found: Measured, pairs: Sequence[Pair]) -> str:
    by_arm = {pair.first: pair for pair in pairs}
    nothing = beside_nothing(found)
    holms = dict(zip(nothing, holm([each.p for each in nothing.values()]), strict=True))
    rows = [
        [f"{way}, {name}", *scores(found, (name, way)), *_cells(by_arm.get((name, way))),
         between(nothing[name, way], 1e5), chance(float(holms[name, way]))]
        for way in found.ways for name in (*found.combinations, CHOSEN)
    ]  # fmt: skip
    plainest = reference(found)
    header = ("weights, combination", "MAE, 10⁻⁵", "hit rate", f"MAE − {plainest}, 10⁻⁵ (95 %)", "Holm", "DM p",
              f"hits − {plainest}, points (95 %)", "Holm", "MAE − no move, 10⁻⁵ (95 %)", "Holm")  # fmt: skip
    return (
        f"### Combinations beside each other\n\n{table(header, rows)}\n\nEach combination is held against "
        f"`{plainest}` with weights of the same kind, and against forecasting no move at all; Holm over the "
        f"{len(pairs)} and the {len(nothing)} comparisons of a column. Intervals and p, here and below, by a bootstrap "
        f"over {drawn_from(len(found.seeds), found.plans[0].folds)}."
    )


def _within(found: Measured, name: str, pairs: Sequence[Pair]) -> str:
    own = {(pair.first[1], pair.second[1]): pair for pair in pairs if pair.first[0] == name}
    rows = []
    for arm in found.arms:
        tuned, equal = own.get((arm, TUNED)), own.get((arm, EQUAL))
        rows.append([arm, *scores(found, (name, arm)), *_cells(tuned), *_cells(equal)])
    columns = [
        words
        for other in ("tuned", "equal")
        for words in (f"MAE − {other}, 10⁻⁵ (95 %)", "Holm", "DM p", f"hits − {other}, points (95 %)", "Holm")
    ]
    losses = ", ".join(COMBINATIONS[name].losses)
    return f"### `{name}`: {losses}\n\n" + table(("arm", "MAE, 10⁻⁵", "hit rate", *columns), rows)


def scores(found: Measured, arm: Arm) -> list[str]:
    """Mean absolute error and hit rate, as they are shown."""
    errors, missed = found.lost[arm]
    return [f"{1e5 * mean_of(errors):.1f}", f"{1 - mean_of(missed):.2%}"]


def _cells(pair: Pair | None) -> list[str]:
    if pair is None:
        return ["–"] * 5
    return [between(pair.error, 1e5), chance(pair.error_holm), chance(pair.dm), between(pair.missed, -100),
            chance(pair.missed_holm)]  # fmt: skip


def _weights(found: Measured) -> str:
    folds, rows = range(found.plans[0].folds), []
    for name in found.combinations:
        cells, losses = found.cells[name], tuple(COMBINATIONS[name].losses)
        for arm in (arm for arm in found.arms if arm != SINGLE):
            ends = [cells[seed, fold, arm].weights for seed in found.seeds for fold in folds]
            rows.append([f"{name}, {arm}", _spread(ends, losses)])
        if SINGLE in found.arms:
            singles = [cells[seed, fold, SINGLE].about for seed in found.seeds for fold in folds]
            rows.append([f"{name}, {SINGLE}", " · ".join(f"{loss} {singles.count(loss)} ×" for loss in losses)])
    return (
        "### Where the weights of each combination went\n\n"
        + table(("combination, arm", "weights at the end, ± deviation between fits"), rows)
        + f"\n\nMeans over seeds and folds; of “{SINGLE}”, how often which was taken. “{RANDOM}” is one draw a fit."
    )


def _spread(ends: Sequence[Mapping[str, float]], losses: Sequence[str]) -> str:
    columns = {loss: [end[loss] for end in ends] for loss in losses}
    return " · ".join(f"{loss} {np.mean(each):.2f} ± {np.std(each):.2f}" for loss, each in columns.items())


# picture --------------------------------------------------------------------------------------------------------------


def _picture(found: Measured, arms: Sequence[Pair], combinations: Sequence[Pair], path: Path) -> None:
    figure = Figure(figsize=(11.5, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    tuned = [pair for pair in arms if pair.second[1] == TUNED and pair.first[1] in found.policies]
    intervals(left, tuned, found.combinations, found.policies)
    left.set_title("Policies: MAE − tuned static of the same losses, 10⁻⁵ (left is better), 95 %", fontsize=9)
    names = [name for name in (*found.combinations, CHOSEN) if name != reference(found)]
    intervals(right, combinations, names, found.ways)
    right.set_title(f"Combinations: MAE − {reference(found)}, 10⁻⁵ (left is better), 95 %", fontsize=9)
    for panel, arms_shown in ((left, found.policies), (right, found.ways)):
        panel.set_visible(bool(arms_shown))
        if not arms_shown:
            continue
        panel.legend(fontsize=8, frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.06))
    figure.savefig(path, dpi=110, metadata={"Software": None})


def intervals(
    panel: Axes, pairs: Sequence[Pair], names: Sequence[str], arms: Sequence[str], of: int = 0
) -> None:  # fmt: skip
    """Differences of the error with their intervals: a group for each combination, a colour for each arm.

    Parameters
    ----------
    of : whether the groups are the combinations of the first (0) or of the second (1) of each pair
    """
    step = 0.8 / max(1, len(arms))
    for number, arm in enumerate(arms):
        shown = [pair for pair in pairs if pair.first[1] == arm and (pair.first, pair.second)[of][0] in names]
        places = [names.index((pair.first, pair.second)[of][0]) - 0.4 + step * (number + 0.5) for pair in shown]
        values = [1e5 * pair.error.value for pair in shown]
        reach = [[max(0.0, 1e5 * (pair.error.value - pair.error.low)) for pair in shown],
                 [max(0.0, 1e5 * (pair.error.high - pair.error.value)) for pair in shown]]  # fmt: skip
        panel.errorbar(values, places, xerr=reach, fmt="o", markersize=4, capsize=2.5, label=arm,
                       color=COLOURS[number % len(COLOURS)])  # fmt: skip
    panel.axvline(0, color="#c0392b", linewidth=1, linestyle=":")
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.grid(alpha=0.25, axis="x")
    panel.spines[["top", "right"]].set_visible(False)
