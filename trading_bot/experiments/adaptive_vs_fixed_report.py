"""The section and the picture of adaptive against fixed weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from trading_bot.experiments.adaptive_vs_fixed import EQUAL, RANDOM, SINGLE, STATIC, TUNED, Plan
from trading_bot.experiments.adaptive_vs_fixed_comparison import Findings
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

PAGE, PICTURE = "adaptive-loss.md", "adaptive-loss.png"
TITLE = "## Adaptive against fixed weights"
SEEDS_OWN = (
    ("Basic", "62.9 %", "MSE 47 %, MAE 53 %"),
    ("Trading focused", "89.8 %", "DLF 34 %, trading 41 %, Sharpe 25 %"),
    ("Comprehensive", "84.5 %", "MSE 25 %, DLF 32 %, trading 42 %"),
)


def write(findings: Findings, folder: Path, command: str, source: str, sha256: str) -> None:
    """Put the section into adaptive-loss.md in `folder`, and the picture beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    _picture(findings, folder / PICTURE)
    parts = [
        TITLE, _head(findings, command, source), f"![differences from tuned static weights]({PICTURE})",
        _verdict(findings), _scores(findings), _last(findings), _weights(findings), _seed_own(),
        how_it_was_measured(source, sha256, "; seconds are of CPU"),
    ]  # fmt: skip
    write_section(folder / PAGE, "\n\n".join(parts), "# Adaptive loss")


def _head(found: Findings, command: str, source: str) -> str:
    data, plan, budget = found.data, found.plan, found.plan.budget
    cells = [found.cells[seed, fold, arm] for seed in found.seeds for fold in range(plan.folds) for arm in found.arms]
    fits, seconds = sum(each.fits for each in cells), sum(each.seconds for each in cells)
    return (
        f"Written by `{command}`. {source}: {len(data.y):,} windows of {data.length} bars × {len(data.names)} "
        f"features, return over {data.horizon} bars, {counted(plan.folds, 'walk-forward fold')}, {data.horizon} rows "
        f"purged wherever two parts meet; losses `{plan.combination}`. **The budget is small**: "
        f"{counted(len(found.seeds), 'seed')} ({', '.join(map(str, found.seeds))}), {budget.steps} steps of "
        f"{budget.batch_size} rows a fit, AdamW at {budget.learning_rate:g}, a CNN of some 12,000 weights; {fits:,} "
        f"fits in {seconds / 60:.0f} minutes of one core ({seconds / fits:.1f} s a fit). Larger budgets by the same "
        "command: `--seeds`, `--epochs`, `--batches`, `--folds`."
        "\n\n"
        f"All arms have the same first weights, rows, order and steps: the newest {budget.validation:.0%} of a fold's "
        "training rows choose the epoch, the newest fifth of the rest is set aside for policies that ask for "
        f"inner-validation batches, and nobody trains on it. The first {budget.calibration} steps have equal weights, "
        f"for the scales; policies adapt every {budget.frequency} steps or at each. “{TUNED}” takes the best of "
        f"{plan.draws} random draws and “{SINGLE}” the best of the losses, both by the validation error, for each seed "
        f"and fold anew: {plan.draws} fits where a policy has one. “{RANDOM}” is one draw, not chosen. The metric was "
        "fixed beforehand: mean absolute error and hit rate over the folds' rows, of the model of the epoch with the "
        "lowest validation error; the learning rate and the number of steps were chosen on validation rows of the "
        "first fold, with other seeds."
    )


def _verdict(found: Findings) -> str:
    arms = [each for each in found.comparisons if each.arm in found.policies]
    better = [each.arm for each in arms if each.error is not None and each.error.high < 0]
    worse = [each.arm for each in arms if each.error is not None and each.error.low > 0]
    surer = [
        each.arm for each, p in zip(arms, _adjusted([each.error for each in arms]), strict=True)
        if each.arm in better and p < 0.05
    ]  # fmt: skip
    directed = [each.arm for each in arms if each.missed is not None and each.missed.high < 0]
    by_arm = {each.arm: each for each in found.comparisons}
    words = [
        f"Policies whose mean absolute error is below that of the tuned static weights, the 95 % interval without 0: "
        f"{listed(better)}; of these by Holm's p < 0.05 over {len(arms)} policies: {listed(surer)}. Above it: "
        f"{listed(worse)}. With more hits, likewise: {listed(directed)}."
    ]
    if not surer:
        words.append(_null(found))
    best = min(found.comparisons, key=lambda each: each.mae)
    words.append(
        f"The lowest error of all has {best.arm} ({best.mae:.5f}); forecasting no move at all has {found.zero:.5f}. "
        + (
            "No arm is better than that by its mean."
            if best.mae >= found.zero
            else f"Equal weights have {by_arm[EQUAL].mae:.5f}."
            if EQUAL in by_arm
            else ""
        )
    )
    if found.idle:
        words.append(
            f"The same as equal weights in every fit: {listed(found.idle)}; nothing made them move a weight. (What "
            "follows a trained monitor or controller has nothing to follow where none was worth shipping.)"
        )
    missing = [arm for arm in found.plan.arms if arm not in found.arms]
    if missing:
        words.append(f"Not measured yet: {', '.join(missing)}.")
    return "### Verdict\n\n" + " ".join(words)


def _null(found: Findings) -> str:
    if not found.policies:
        return "**Nothing is said of adapting**: no policy is among the arms."
    if never_moved(found.plan):
        return f"**Nothing was compared**: {never_moved(found.plan)}"
    if len(found.idle) == len(found.policies):
        return "**Nothing was compared**: no policy moved a weight in any fit."
    return (
        "**This is a null result**: within this budget no way of adapting the weights is shown to forecast better "
        "than fixed weights that were tuned."
    )


def never_moved(plan: Plan) -> str:
    """Where all steps of a fit are of equal weights, in words; else nothing."""
    budget = plan.budget
    if budget.steps > budget.calibration:
        return ""
    return (
        f"all {budget.steps} steps of a fit have equal weights, for the scales take {budget.calibration}, so that "
        "tuned, random and adapted weights are the same; ask for more `--epochs` or `--batches`."
    )


def _scores(found: Findings) -> str:
    policies = [each for each in found.comparisons if each.arm in found.policies]
    holms = [
        dict(zip([each.arm for each in policies], _adjusted(differences), strict=False))
        for differences in (
            [each.error for each in policies], [each.beside_equal for each in policies],
            [each.missed for each in policies],
        )
    ]  # fmt: skip
    rows = [
        [each.arm, f"{1e5 * each.mae:.1f}", f"{each.hit_rate:.2%}",
         between(each.error, 1e5), chance(each.error.p if each.error else None), chance(holms[0].get(each.arm)),
         chance(each.dm), between(each.beside_equal, 1e5), chance(holms[1].get(each.arm)), between(each.missed, -100),
         chance(each.missed.p if each.missed else None), chance(holms[2].get(each.arm))]
        for each in found.comparisons
    ]  # fmt: skip
    header = ("arm", "MAE, 10⁻⁵", "hit rate", "MAE − tuned, 10⁻⁵ (95 %)", "p", "Holm", "DM p",
              "MAE − equal, 10⁻⁵ (95 %)", "Holm", "hits − tuned, points (95 %)", "p", "Holm")  # fmt: skip
    return (
        f"{table(header, rows)}\n\nForecasting no move has a MAE of {1e5 * found.zero:.1f} · 10⁻⁵, and that the "
        f"last move comes again {1e5 * found.persistence:.1f}. Differences are paired by seed, fold and row; intervals "
        f"and p by a bootstrap over {drawn_from(len(found.seeds), found.plan.folds)}; Holm over the policies of its "
        "column; DM is Diebold and Mariano's test of the errors averaged over seeds."
    )


def _last(found: Findings) -> str:
    rows = [
        [each.arm, f"{1e5 * each.last_mae:.1f}", f"{each.last_hit_rate:.2%}", between(each.last, 1e5)]
        for each in found.comparisons
    ]  # fmt: skip
    return (
        "### Where no epoch is chosen\n\nThe models of the last step, in which the weights had all the time there was: "
        "no part of the verdict.\n\n" + table(("arm", "MAE, 10⁻⁵", "hit rate", "MAE − tuned, 10⁻⁵ (95 %)"), rows)
    )


def _weights(found: Findings) -> str:
    names = list(found.cells[found.seeds[0], 0, EQUAL if EQUAL in found.arms else TUNED].weights)
    rows = []
    for arm in found.arms:
        if arm == SINGLE:
            continue
        results = [found.cells[seed, fold, arm] for seed in found.seeds for fold in range(found.plan.folds)]
        means = [float(np.mean([result.weights[name] for result in results])) for name in names]
        spread = float(np.mean([np.std([result.weights[name] for result in results]) for name in names]))
        epochs = float(np.mean([result.epoch for result in results]))
        seconds = sum(result.seconds for result in results) / sum(result.fits for result in results)
        rows.append([arm, *(f"{mean:.2f}" for mean in means), f"{spread:.2f}", f"{epochs:.1f}", f"{seconds:.2f}"])
    singles = [found.cells[seed, fold, SINGLE].about for seed in found.seeds for fold in range(found.plan.folds)
               if SINGLE in found.arms]  # fmt: skip
    counted = ", ".join(f"{name} {singles.count(name)} times" for name in names) if singles else "not measured"
    return (
        "### Where the weights went\n\n"
        + table(("arm", *names, "deviation", "epoch chosen", "CPU s a fit"), rows)
        + f"\n\nMeans over seeds and folds at the end of a fit, and the deviation between fits. The best single loss: "
        f"{counted}."
    )


def _seed_own() -> str:
    rows = [list(row) for row in SEEDS_OWN]
    return (
        "### The table this began with\n\nThe description of this feature claimed “loss improvement”:\n\n"
        + table(("combination", "loss improvement", "final weights"), rows)
        + "\n\nIt is told to come from a “conceptual demonstration” that needs no PyTorch: losses were simulated and "
        "no network was trained. A combined loss that falls says little besides, for it also falls when weight moves "
        "to a smaller loss. What such a claim would have to mean is measured by the table above, which neither "
        "confirms nor refutes those numbers: they are of another thing."
    )


def _adjusted(differences: Sequence[Difference | None]) -> list[float]:
    ps = [each.p for each in differences if each is not None]
    return [float(p) for p in holm(ps)] if ps else []


def _picture(found: Findings, path: Path) -> None:
    others = [each for each in found.comparisons if each.error is not None]
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    shown = (("error", 1e5, "MAE − tuned static, 10⁻⁵ (left is better)"),
             ("missed", 100.0, "wrong signs − tuned static, points (left is better)"))  # fmt: skip
    for panel, (name, factor, title) in zip(panels, shown, strict=True):
        for place, each in enumerate(others):
            difference: Difference = getattr(each, name)
            value, low, high = (factor * number for number in (difference.value, difference.low, difference.high))
            reach = [[max(0.0, value - low)], [max(0.0, high - value)]]
            colour = "#8a8a8a" if each.arm in STATIC else "#1b6ca8"
            panel.errorbar(value, place, xerr=reach, fmt="o", color=colour, capsize=4)
        panel.axvline(0, color="#c0392b", linewidth=1, linestyle=":")
        panel.set_yticks(range(len(others)), [each.arm for each in others])
        panel.set_title(f"{title}, 95 %", fontsize=10)
        panel.grid(alpha=0.25, axis="x")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=110, metadata={"Software": None})
