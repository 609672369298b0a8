"""The words and tables of what became of models: trained, promoted, on later signals, and with shuffled labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trading_bot.experiments.learned_trading_comparisons import Setting
from trading_bot.experiments.learned_trading_control import KINDS, Calibration, Control
from trading_bot.experiments.learned_trading_runs import outcomes
from trading_bot.experiments.learned_trading_scores import share_by_group, share_interval
from trading_bot.experiments.report_section import table
from trading_bot.learn.retraining import COVERAGE

CONTROL_TITLE = "## Shuffled labels"
NOMINAL = (1 - COVERAGE) / 2  # lower end of a challenger's two-sided interval above the margin
_ENDED = ("promoted", "rejected", "too_little", "failed", "pinned", "rolled_back")


def trainings(settings: Sequence[Setting], controls: Sequence[Control]) -> str:
    """How the trainings on the way ended."""
    chance = {each.market: _total(each.promoted("shifted")) for each in controls}
    rows, alike = [], True
    for setting in settings:
        learning = [run for run in setting.runs.values() if run.arm.learning]
        if not learning or not setting.limits:
            continue
        alike = alike and all(run.trainings == learning[0].trainings for run in learning)
        for run in learning if not alike else learning[:1]:
            ended = outcomes(run.trainings)
            judged = ended["promoted"] + ended["rejected"]
            shares = [_share(ended["promoted"], judged), _share(*chance.get(setting.short, (0, 0)))]
            rows.append([setting.short, *(str(ended[each]) for each in _ENDED), *shares])
    same = (
        "The same models in every arm that learns: they are trained on the strategies' own signals and shadow trades, "
        "which no weight touches."
        if alike
        else "Rows: each arm that learns, in the order table, hedge, equal."
    )
    header = ["", *(each.replace("_", " ") for each in _ENDED), "promoted of those judged", "of shifted labels"]
    return (
        f"Trainings (one for each strategy and week, and after each roll-back):\n\n{table(header, rows)}\n\n{same} "
        "Last column: the share promoted on labels that tell nothing, see the next section (there against the rule, "
        "here against the champion where there is one). Where the two are near one another, that a model was promoted "
        "is no sign that there was something to learn."
    )


def calibration(calibrations: Mapping[str, Calibration | None]) -> str:
    """Whether promoted models kept their word."""
    rows, words = [], []
    for market, found in calibrations.items():
        if found is None:
            words.append(f"{market}: no promoted model spoke.")
            continue
        rows.append([market, *(f"{said:.2f} → {paid:.2f} ({n:,})" for said, paid, n in found.bins)])
        gain, low, high = found.gain
        told = "better" if low > 0 else "worse" if high < 0 else "null"
        words.append(
            f"{market}: the models took {gain:+.2%} ({low:+.2%} … {high:+.2%}; {told}) off the log loss of the rules' "
            f"own confidences calibrated on what was known at each promotion ({found.loss:.4f} against "
            f"{found.before:.4f}), on {found.signals:,} signals at {found.bars:,} bars. Mean P was "
            f"{found.means[0]:.2f} where the rules themselves said {found.means[1]:.2f}."
        )
    if not rows:
        return " ".join(words)
    words.append("A lower confidence makes a lower score: part of what meta-labels do is to trade less or more.")
    fifths = ["", *(f"{number}. fifth" for number in range(1, 6))]
    head = "Promoted models on the signals that came after (mean P → share that paid, and signals, by fifths of P):"
    return f"{head}\n\n{table(fifths, rows)}\n\n{' '.join(words)}"


def control_section(controls: Sequence[Control], draws: int, margin: float, how: str) -> str:
    """How often labels that tell nothing are promoted."""
    groups = {f"{each.market}, {kind}": each.promoted(kind) for each in controls for kind in KINDS}
    lacking = {f"{each.market}, {kind}": each.counts[kind] for each in controls for kind in KINDS}
    for kind in KINDS[1:]:
        groups[f"all, {kind}"] = [group for each in controls for group in each.promoted(kind)]
        lacking[f"all, {kind}"] = [counts for each in controls for counts in each.counts[kind]]
    rows, above = [], dict[str, list[str]](binomial=[], date=[])
    for name, found in groups.items():
        promoted, judged = _total(found)
        intervals = dict(zip(above, (share_interval(promoted, judged), share_by_group(found)), strict=True))
        told = [f"{low:.2%} … {high:.2%}" if judged else "–" for low, high in intervals.values()]
        missing = sum(each["too_little"] for each in lacking[name])
        rows.append([name, f"{judged:,}", str(promoted), _share(promoted, judged), *told, str(missing)])
        for way, (low, _) in intervals.items():
            if low > NOMINAL and KINDS[0] not in name:
                above[way].append(name)
    first = controls[0]
    dates = "; ".join(f"{each.market} {each.dates[0]} to {each.dates[1]}" for each in controls)
    return "\n\n".join([
        CONTROL_TITLE,
        how,
        "The retraining on labels that have nothing to do with the signals: outcomes shifted in a circle by a random "
        "20–80 % of their number (which keeps good and bad times together), or permuted. There is no champion: the "
        f"opponent is the rule's own confidence. {draws} draws of each kind for every strategy at each of "
        f"{len(first.counts[KINDS[0]])} dates, spread evenly ({dates}). *As they were*: the true labels at the same "
        "dates, once each. A promotion wants the lower end of a two-sided "
        f"{COVERAGE:.0%} interval of the gain above the margin ({margin:.1%}): were the gain exactly the margin, "
        f"{NOMINAL:.1%} would be promoted. A model of nothing gains "
        "less than nothing, and one whose calibration finds no slope is rejected outright: fewer are to be expected.",
        table(["", "trainings judged", "promoted", "share", "95 %, binomial", "95 %, by date", "too little"], rows),
        "Binomial: Wilson's, as if trainings were independent. By date: bootstrap over dates, whose strategies and "
        "draws share candles (windows of neighbouring dates overlap, so even this is rather narrow). Shuffled labels "
        f"promoted more often than the nominal {NOMINAL:.1%}, by the binomial interval: {_listed(above['binomial'])}; "
        f"by date: {_listed(above['date'])}. It is the rate of one look: a year of weekly trainings of six strategies "
        "is some 310 looks.",
    ])  # fmt: skip


def _total(groups: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(hits for hits, _ in groups), sum(tried for _, tried in groups)


def _share(hits: int, tried: int) -> str:
    return f"{hits / tried:.2%}" if tried else "–"


def _listed(names: Sequence[str]) -> str:
    return "; ".join(names) or "none"
