"""The section and the picture of combinations by the market's condition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from trading_bot.experiments.adaptive_vs_fixed import EQUAL, TUNED
from trading_bot.experiments.adaptive_vs_fixed_combinations import (
    Measured,
    Pair,
    by_condition,
    inside,
    kept_folds,
)
from trading_bot.experiments.adaptive_vs_fixed_combinations_report import PAGE, better, intervals, told, worse
from trading_bot.experiments.adaptive_vs_fixed_comparison import mean_of
from trading_bot.experiments.adaptive_vs_fixed_conditions import RECOMMENDED, Conditions
from trading_bot.experiments.report_section import between, counted, drawn_from, table, write_section

PICTURE = "adaptive-loss-conditions.png"
TITLE = "## Which combination for which market"


def write_conditions(
    found: Measured, conditions: Sequence[Conditions], bars: tuple[int, int], folder: Path, command: str
) -> tuple[Pair, ...]:
    """Put the section into adaptive-loss.md in `folder`, and the picture beside it; what was compared.

    Parameters
    ----------
    bars : of the trend and of the volatility
    """
    folder.mkdir(parents=True, exist_ok=True)
    pairs = by_condition(found, conditions)
    parts = [TITLE, _head(found, bars, command)]
    if pairs:
        _picture(found, pairs, folder / PICTURE)
        parts.append(f"![recommended combinations beside the others]({PICTURE})")
    parts += [
        _verdict(found, conditions, pairs), _shares(found, conditions),
        *(_condition(found, conditions, pairs, name) for name in RECOMMENDED),
    ]  # fmt: skip
    write_section(folder / PAGE, "\n\n".join(parts), "# Adaptive loss")
    return pairs


def _head(found: Measured, bars: tuple[int, int], command: str) -> str:
    trend, volatility = bars
    advice = ", ".join(f"`{name}` ({condition})" for condition, name in RECOMMENDED.items())
    return (
        f"Written by `{command}`: the same fits, judged on part of their test rows. The description this feature began "
        f"with recommends {advice}. What a row's market is like is known when its forecast is made: a bull market "
        f"where the return over the {trend} bars up to it is in the upper third, high volatility and a stable market "
        f"where the volatility of the {volatility} bars up to it (√ of the mean squared log return of a bar) is in the "
        "upper and in the lower third. The thirds are those of the rows its fold trains on, so nothing later counts. A "
        f"row may be of two conditions, or of none. A fold with fewer than {found.least} rows of a condition that "
        "moved is left out of it, for intervals of so few rows are too narrow."
    )


# verdict --------------------------------------------------------------------------------------------------------------


def _verdict(found: Measured, conditions: Sequence[Conditions], pairs: Sequence[Pair]) -> str:
    words = []
    for condition, recommended in RECOMMENDED.items():
        own = [pair for pair in pairs if pair.condition == condition]
        if not own:
            words.append(f"**{_title(condition)}** Nothing to say: {_why(found, recommended)}.")
            continue
        words.append(
            f"**{_title(condition)}** `{recommended}` beside the others, {len(own)} comparisons: {told(own, _name)}. "
            f"By the mean error alone it is number {_places(found, own, conditions)} of {len(found.combinations)} in "
            f"these rows and number {_places(found, own)} in all rows. By the error the recommendation is "
            f"{_judged(own, 'error')}; by the hits it is {_judged(own, 'missed')}."
        )
    words.append(
        "A recommendation is supported where it is shown better, by Holm, than every other combination with the same "
        f"kind of weights, and contradicted where one of them is shown better than it. Holm is over all {len(pairs)} "
        "comparisons (conditions × kinds of weights × other combinations), errors and hits apart."
    )
    return "### Verdict on conditions\n\n" + "\n\n".join(words)


def _judged(own: Sequence[Pair], field: str) -> str:
    arms = list(dict.fromkeys(pair.first[1] for pair in own))
    supported = [arm for arm in arms if all(better(pair, field) for pair in own if pair.first[1] == arm)]
    contradicted = [arm for arm in arms if any(worse(pair, field) for pair in own if pair.first[1] == arm)]
    words = [f"**{what}** with {', '.join(names)}"
             for what, names in (("supported", supported), ("contradicted", contradicted)) if names]  # fmt: skip
    return " and ".join(words) or "**not supported**, and not contradicted"


def _places(found: Measured, own: Sequence[Pair], conditions: Sequence[Conditions] = ()) -> str:
    """The recommended one's place by mean error, over the kinds of weights; in the condition's rows, or in all."""
    name, condition = own[0].first[0], own[0].condition
    places = []
    for arm in dict.fromkeys(pair.first[1] for pair in own):
        means = {
            other: mean_of(inside(found, (other, arm), conditions, condition)[0] if conditions
                           else found.lost[other, arm][0])
            for other in found.combinations
        }  # fmt: skip
        places.append(1 + sum(mean < means[name] for mean in means.values()))
    return f"{min(places)}" if min(places) == max(places) else f"{min(places)} to {max(places)}"


def _why(found: Measured, recommended: str) -> str:
    if recommended in found.combinations:
        return "no fold has enough test rows of it"
    return f"`{recommended}` is not measured"


def _title(condition: str) -> str:
    return f"{condition[0].upper()}{condition[1:]}."


def _name(pair: Pair) -> str:
    return f"`{pair.second[0]}` with {pair.first[1]}"


# tables ---------------------------------------------------------------------------------------------------------------


def _shares(found: Measured, conditions: Sequence[Conditions]) -> str:
    rows = [
        [str(number + 1), f"{len(found.targets[number]):,}", f"{each.bull:+.1%}", f"{each.volatile:.2%}",
         f"{each.stable:.2%}", *(f"{each.masks[name].mean():.0%}" for name in RECOMMENDED)]
        for number, each in enumerate(conditions)
    ]  # fmt: skip
    header = ("fold", "test rows", "bull from a return of", "volatile from, a bar", "stable up to, a bar",
              *RECOMMENDED)  # fmt: skip
    return "### How many rows\n\n" + table(header, rows)


def _condition(found: Measured, conditions: Sequence[Conditions], pairs: Sequence[Pair], condition: str) -> str:
    folds, recommended = kept_folds(found, conditions, condition), RECOMMENDED[condition]
    title = f"### {_title(condition)[:-1]}"
    if not folds:
        return f"{title}\n\nNo fold has {found.least} rows of it that moved."
    arms = (EQUAL, TUNED, *found.policies)
    rows = [[name, *(_scores(found, conditions, condition, name, arm) for arm in arms)] for name in found.combinations]
    count = sum(int(conditions[fold].masks[condition].sum()) for fold in folds)
    words = [
        title,
        f"{count:,} rows of {len(folds)} of {counted(len(conditions), 'fold')}; intervals by a bootstrap over "
        f"{drawn_from(len(found.seeds), len(folds))}. Mean absolute error in 10⁻⁵, and hit rate:",
        table(("combination", *arms), rows),
    ]
    own = {(pair.second[0], pair.first[1]): pair for pair in pairs if pair.condition == condition}
    others = [name for name in found.combinations if name != recommended]
    for field, factor, what in (("error", 1e5, "MAE, 10⁻⁵"), ("missed", -100.0, "hits, points")):
        if own:
            words += [
                f"`{recommended}` − each other one, {what} (95 %); a star where Holm's p < 0.05:",
                table(("beside", *arms), [[name, *(_starred(own[name, arm], field, factor) for arm in arms)]
                                          for name in others]),
            ]  # fmt: skip
    return "\n\n".join(words)


def _scores(found: Measured, conditions: Sequence[Conditions], condition: str, name: str, arm: str) -> str:
    errors, missed = inside(found, (name, arm), conditions, condition)
    return f"{1e5 * mean_of(errors):.1f}, {1 - mean_of(missed):.2%}"


def _starred(pair: Pair, field: str, factor: float) -> str:
    p = pair.error_holm if field == "error" else pair.missed_holm
    return between(getattr(pair, field), factor) + (" \\*" if p is not None and p < 0.05 else "")


# picture --------------------------------------------------------------------------------------------------------------


def _picture(found: Measured, pairs: Sequence[Pair], path: Path) -> None:
    shown = [condition for condition in RECOMMENDED if any(pair.condition == condition for pair in pairs)]
    figure = Figure(figsize=(4.6 * len(shown) + 0.5, 5.6), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for panel, condition in zip(panels, shown, strict=True):
        own = [pair for pair in pairs if pair.condition == condition]
        others = [name for name in found.combinations if name != RECOMMENDED[condition]]
        intervals(panel, own, others, (EQUAL, TUNED, *found.policies), of=1)
        panel.set_title(f"{condition}: MAE of {RECOMMENDED[condition]}\n− each other one, 10⁻⁵ (left is better), 95 %",
                        fontsize=9)  # fmt: skip
    figure.legend(
        *panels[0].get_legend_handles_labels(), fontsize=8, frameon=False, ncols=6, loc="outside lower center"
    )
    figure.savefig(path, dpi=110, metadata={"Software": None})
