"""The page and the picture of the market's ablation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trading_bot.experiments.ablation import AVERAGE, BASELINE, FULL, MODES, PLACEBOS
from trading_bot.experiments.ablation_analysis import Interval
from trading_bot.experiments.ablation_effects import ADAPTED, AblationFindings
from trading_bot.experiments.adaptive_vs_fixed import EQUAL, TUNED
from trading_bot.experiments.adaptive_vs_fixed_report import never_moved
from trading_bot.experiments.report_section import (
    between,
    chance,
    counted,
    drawn_from,
    how_it_was_measured,
    listed,
    table,
    write_section,
)
from trading_bot.experiments.statistics import Difference, holm
from trading_bot.training.monitor_shipped import CONTROLLER, FOLDER, MONITOR

PAGE, PICTURE = "ablation.md", "ablation.png"
TITLE = "## Monitor and controller on the market"
SEED_FIRST = "+1.3"
SEED_OWN: Mapping[str, str] = {"monitor_only": "−0.3", "controller_only": "+0.8", FULL: "−0.1"}
MAKE = "python -m trading_bot.experiments.meta_training"
Name = TypeVar("Name")
ERROR, HITS = 1e5, -100.0  # units of the tables


def write(findings: AblationFindings, folder: Path, command: str, source: str, sha256: str) -> None:
    """Put the section into ablation.md in `folder`, and the picture beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    _picture(findings, folder / PICTURE)
    parts = [
        TITLE, _head(findings, command, source), _learned(findings), f"![modes and effects]({PICTURE})",
        _verdict(findings), _modes(findings), _effects(findings), _weights(findings), _seed_own(findings),
        _images(), how_it_was_measured(source, sha256),
    ]  # fmt: skip
    write_section(folder / PAGE, "\n\n".join(parts), "# Ablation of the loss monitor and the controller")


def _head(found: AblationFindings, command: str, source: str) -> str:
    data, plan, budget, config = found.found.data, found.found.plan, found.found.plan.budget, found.config
    seeds, cells = found.found.seeds, len(found.found.seeds) * plan.folds
    fits = cells * (len(MODES) + len(PLACEBOS))
    return (
        f"Written by `{command}`. {source}: {len(data.y):,} windows of {data.length} bars × {len(data.names)} "
        f"features, return over {data.horizon} bars, {counted(plan.folds, 'walk-forward fold')}, {data.horizon} rows "
        f"purged wherever two parts meet; losses `{plan.combination}`, of which the first is the main one. "
        f"**The budget is small**: {counted(len(seeds), 'seed')} ({', '.join(map(str, seeds))}), {budget.steps} steps "
        f"of {budget.batch_size} rows a fit, AdamW at {budget.learning_rate:g}, a CNN of some 12,000 weights; "
        f"{fits:,} fits of modes and {cells * plan.draws:,} to tune. Larger ones by the same command: `--seeds`, "
        "`--epochs`, `--batches`, `--folds`. What is finished is kept in `--work`; given that of `experiment "
        "adaptive-vs-fixed`, of the same budget, it takes the tuned weights from there."
        "\n\n"
        f"All have the same first weights, rows, order and steps. The first {budget.calibration} steps have equal "
        f"weights, for the scales; then a monitor decides every {config.frequency} steps. "
        f"`{BASELINE}` is equal weights throughout; “{TUNED}” is the best of {plan.draws} random draws by the "
        f"validation error, for each seed and fold anew: {plan.draws} fits where a mode has one. Two placebos: "
        f"`random_monitor` acts by chance, `{AVERAGE}` keeps the weights that `{FULL}` had on average. The metric was "
        "fixed beforehand: mean absolute error and hit rate over the folds' rows, of the model of the epoch with the "
        "lowest validation error."
    )


def _learned(found: AblationFindings) -> str:
    digests = [f"{name} sha256 `{digest}`" for name, digest in found.learned.items() if digest is not None]
    shipped = [name for name in (MONITOR, CONTROLLER) if (FOLDER / name).exists()]
    given = [each for each in (found.config.monitor, found.config.controller) if each is not None]
    if not digests:
        return (
            "No monitor and no controller was given and none is shipped: the modes keep equal weights, and all that "
            f"differs here is the placebos'. `{MAKE}` makes both; `--monitor FILE --controller FILE` takes them."
        )
    used = f"Used here: {'; '.join(digests)}." + "".join(
        f" There is no {name}: where it would decide, weights stay equal."
        for name, digest in found.learned.items() if digest is None
    )  # fmt: skip
    if shipped or not given:
        return f"{used} Shipped with the program: {listed(shipped)}."
    return (
        f"**What decides here was given, and is not shipped**: what `{MAKE}` learns on small synthetic "
        "regressions, and leaves in its `--work`, did not lower the error on tasks it had not met "
        "([loss-monitor.md](loss-monitor.md)), so that with the program as it comes the three modes forecast exactly "
        "what the baseline does, and every number of theirs here would be 0. That command makes a monitor and a "
        f"controller in some minutes. {used}"
    )


# verdict and tables ---------------------------------------------------------------------------------------------------


def _verdict(found: AblationFindings) -> str:
    modes = [each for each in found.found.comparisons if each.arm in ADAPTED]
    against_tuned = {each.arm: each.error for each in modes if each.error is not None}
    against_equal = {each.arm: each.beside_equal for each in modes if each.beside_equal is not None}
    words = []
    for name, differences in (("equal", against_equal), ("tuned static", against_tuned)):
        sizes = _holm(differences)
        better = [arm for arm, each in differences.items() if each.high < 0]
        sure = [arm for arm in better if sizes[arm] < 0.05]
        worse = [arm for arm, each in differences.items() if each.low > 0]
        words.append(
            f"Against {name} weights, of {len(differences)} modes and placebos, the 95 % interval of the error is "
            f"below 0: {listed(better)} (of these by Holm's p < 0.05: {listed(sure)}); above 0: {listed(worse)}."
        )
    adjusted = _holm(found.effects)
    effects = [
        f"{name} {'lowers' if each.high < 0 else 'raises'} the error (Holm's p {chance(adjusted[name])})"
        for name, each in found.effects.items() if each.high < 0 or each.low > 0
    ]  # fmt: skip
    words.append(f"Effects whose interval excludes 0: {listed(effects)}.")
    here = [
        f"{name} {'lowers' if each.mean < 0 else 'raises'} the error ({_over_seeds(each)} · 10⁻⁵)"
        for name, each in found.over_seeds.items() if _excludes_0(each)
    ]  # fmt: skip
    if here:
        words.append(f"On these very folds, over seeds alone, not adjusted and no claim: {listed(here)}.")
    beaten = [arm for arm, each in against_tuned.items()
              if each.high < 0 and _holm(against_tuned)[arm] < 0.05 and arm in MODES]  # fmt: skip
    idle = [mode for mode in MODES if mode in found.found.idle]
    if never_moved(found.found.plan):
        words.append(f"**Nothing was compared**: {never_moved(found.found.plan)}")
    elif len(idle) == len(MODES) - 1:
        words.append(
            "**Nothing is said of monitor and controller**: in no fit did one of them move a weight, so that all three "
            "modes are the baseline."
        )
    elif not beaten:
        words.append(
            "**This is a null result**: within this budget neither monitor nor controller nor both are shown to "
            "forecast better than fixed weights that were tuned."
        )
    if idle and len(idle) < len(MODES) - 1:
        words.append(f"The same as the baseline in every fit: {listed(idle)}.")
    return "### Verdict\n\n" + " ".join(words)


def _modes(found: AblationFindings) -> str:
    comparisons = {each.arm: each for each in found.found.comparisons}
    errors, equals = (
        _holm({arm: each for arm in ADAPTED if (each := getattr(comparisons[arm], name)) is not None})
        for name in ("error", "beside_equal")
    )
    rows = []
    for arm in (EQUAL, TUNED, *ADAPTED):
        each, hits = comparisons[arm], found.hits.get(arm)
        rows.append([
            BASELINE if arm == EQUAL else arm, f"{ERROR * each.mae:.1f}", f"{each.hit_rate:.2%}",
            between(each.beside_equal, ERROR), chance(equals.get(arm)), between(hits, HITS),
            between(each.error, ERROR), chance(errors.get(arm)), chance(each.dm), between(each.missed, HITS),
            between(each.last, ERROR),
        ])  # fmt: skip
    header = ("mode", "MAE, 10⁻⁵", "hit rate", "MAE − equal, 10⁻⁵ (95 %)", "Holm", "hits − equal, points (95 %)",
              "MAE − tuned, 10⁻⁵ (95 %)", "Holm", "DM p", "hits − tuned, points (95 %)",
              "last step: MAE − tuned, 10⁻⁵ (95 %)")  # fmt: skip
    pairs = [[f"{a} − {b}", between(each, ERROR), chance(each.p), chance(_holm(found.placebos)[a, b])]
             for (a, b), each in found.placebos.items()]  # fmt: skip
    return (
        f"### Modes\n\n{table(header, rows)}\n\nForecasting no move has a MAE of {ERROR * found.found.zero:.1f} · "
        f"10⁻⁵, and that the last move comes again {ERROR * found.found.persistence:.1f}. Differences are paired by "
        f"seed, fold and row; below 0 an error is better, above 0 hits are. Intervals by a hierarchical bootstrap over "
        f"{drawn_from(len(found.found.seeds), found.found.plan.folds)}; Holm over the {len(ADAPTED)} modes and "
        "placebos of its column; DM is Diebold and Mariano's test beside the tuned weights, of the errors averaged "
        "over seeds; the last column is of the models of the last step, in which the weights had all the time there "
        "was, and no part of the verdict."
        "\n\nAgainst what they have to beat besides:\n\n" + table(("pair", "MAE, 10⁻⁵ (95 %)", "p", "Holm"), pairs)
    )


def _effects(found: AblationFindings) -> str:
    adjusted, hits = _holm(found.effects), _holm(found.hit_effects)
    rows = [
        [name, between(each, ERROR), chance(each.p), chance(adjusted[name]),
         between(found.hit_effects[name], HITS), chance(hits[name]), _over_seeds(found.over_seeds[name])]
        for name, each in found.effects.items()
    ]  # fmt: skip
    return (
        "### Effects\n\n"
        + table(
            (
                "effect",
                "on MAE, 10⁻⁵ (95 %)",
                "p",
                "Holm",
                "on hits, points (95 %)",
                "Holm",
                "on MAE, over seeds alone",
            ),
            rows,
        )
        + "\n\nOf B (baseline), M (monitor), C (controller), F (both): monitor = ½[(M − B) + (F − C)], controller = "
        "½[(C − B) + (F − M)], interaction = ½[(F − C) − (M − B)], paired and bootstrapped as above; Holm over the "
        "three. The last column is what `trading-bot experiment analyze` tells: the means of each run, averaged over "
        "the folds of each seed, with Student's t over the seeds alone, not adjusted. It says how sure an effect is on "
        "these very folds, and nothing of other times: it cannot carry a claim."
    )


def _weights(found: AblationFindings) -> str:
    plan, seeds = found.found.plan, found.found.seeds
    cells = [(seed, fold) for seed in seeds for fold in range(plan.folds)]
    names = list(found.runs[(*cells[0], BASELINE)].weights)
    rows = []
    for mode in (*MODES, *PLACEBOS):
        runs = [found.runs[(*cell, mode)] for cell in cells]
        ends = np.array([[run.weights[name] for name in names] for run in runs])
        means = np.array([[run.averages[name] for name in names] for run in runs])
        far = np.abs(ends - 1 / len(names)).sum(axis=1)
        rows.append([
            mode, *(f"{mean:.3f}" for mean in ends.mean(axis=0)), f"{far.mean():.3f}", f"{far.max():.3f}",
            f"{(means.mean(axis=0) * len(names)).max():.2f}", f"{int((far < 1e-9).sum())} of {len(runs)}",
            f"{np.mean([run.row['epoch'] for run in runs]):.1f}",
        ])  # fmt: skip
    header = ("mode", *names, "moved", "at most", "largest mean / equal", "ends at equal", "epoch chosen")
    return (
        "### How far the weights moved\n\n"
        + table(header, rows)
        + "\n\nWeights at the end of a fit, means over seeds and folds; “moved” is the sum of their distances from "
        "equal weights, its mean and its most over the fits; then the largest weight on average over all steps, in "
        "units of the equal one, and in how many fits the weights ended where they began."
    )


# what is beside it ----------------------------------------------------------------------------------------------------


def _seed_own(found: AblationFindings) -> str:
    comparisons = {each.arm: each for each in found.found.comparisons}
    rows = [
        [mode, told, between(found.hits[mode], HITS), between(comparisons[mode].beside_equal, ERROR)]
        for mode, told in SEED_OWN.items()
    ]
    monitor = "no monitor" if found.learned["monitor"] is None else "a monitor that is frozen"
    header = ("mode", "told: accuracy − baseline, points", "here: hits − baseline, points (95 %)",
              "here: MAE − baseline, 10⁻⁵ (95 %)")  # fmt: skip
    return (
        f"### The table this began with\n\nThe first report told of {SEED_FIRST} points of accuracy for adaptive over "
        f"baseline training, and of an ablation:\n\n{table(header, rows)}\n\nTold without intervals, of 5,000 images "
        f"of CIFAR-10 and five seeds or fewer (by its commands three for the {SEED_FIRST}, five for the ablation, in "
        "which the same adaptive mode is below the baseline). Its monitor was never trained and acted by chance on "
        f"every batch. What stands beside it is another task, {monitor}, and a metric of its own: it neither confirms "
        "nor refutes those numbers."
    )


def _images() -> str:
    return (
        "### Images\n\nThe same ablation of the image task, CIFAR-10, was **not run** for this page. It is tested "
        "from end to end on a small archive of the official format. With the archive, or a network to fetch it by:\n\n"
        "    trading-bot experiment ablation --task cifar10 --monitor FILE --controller FILE "
        "--output_dir results/ablation-cifar10\n"
        "    trading-bot experiment analyze results/ablation-cifar10"
    )


def _holm(differences: Mapping[Name, Difference]) -> dict[Name, float]:
    adjusted = holm([each.p for each in differences.values()])
    return {name: float(p) for name, p in zip(differences, adjusted, strict=True)}


def _excludes_0(each: Interval) -> bool:
    return each.low is not None and each.high is not None and (each.low > 0 or each.high < 0)


def _over_seeds(each: Interval) -> str:
    if each.low is None or each.high is None:
        return f"{ERROR * each.mean:+.2f}"
    return f"{ERROR * each.mean:+.2f} ({ERROR * each.low:+.2f} … {ERROR * each.high:+.2f})"


# picture --------------------------------------------------------------------------------------------------------------


def _picture(found: AblationFindings, path: Path) -> None:
    comparisons = {each.arm: each for each in found.found.comparisons}
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    modes, effects = figure.subplots(1, 2, width_ratios=(1.6, 1))
    _dots(modes, [(place - 0.12, comparisons[arm].beside_equal) for place, arm in enumerate(ADAPTED)], "#1b6ca8",
          "− equal weights")  # fmt: skip
    _dots(modes, [(place + 0.12, comparisons[arm].error) for place, arm in enumerate(ADAPTED)], "#c77f1b",
          "− tuned static weights")  # fmt: skip
    labels = [f"{arm} (placebo)" if arm in PLACEBOS else arm for arm in ADAPTED]
    modes.set_yticks(range(len(ADAPTED)), labels)
    modes.set_title("MAE of a mode, 10⁻⁵ (left is better), 95 %", fontsize=10)
    modes.legend(frameon=False, fontsize=9, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.07))
    _dots(effects, list(enumerate(found.effects.values())), "#1b6ca8", "")
    effects.set_yticks(range(len(found.effects)), list(found.effects))
    effects.set_title("2 × 2 effects on the MAE, 10⁻⁵, 95 %", fontsize=10)
    for panel in (modes, effects):
        panel.axvline(0, color="#c0392b", linewidth=1, linestyle=":")
        panel.grid(alpha=0.25, axis="x")
        panel.spines[["top", "right"]].set_visible(False)
        panel.invert_yaxis()
        panel.margins(y=0.12)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _dots(panel: Axes, places: Iterable[tuple[float, Difference | None]], colour: str, label: str) -> None:
    for number, (place, each) in enumerate(places):
        if each is None:
            continue
        value, low, high = (ERROR * bound for bound in (each.value, each.low, each.high))
        reach = [[max(0.0, value - low)], [max(0.0, high - value)]]
        panel.errorbar(
            value, place, xerr=reach, fmt="o", color=colour, capsize=4, label=label if label and not number else None
        )
