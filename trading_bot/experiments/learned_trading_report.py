"""The words, tables and picture of what learning and weighing came to."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from trading_bot import __version__, metrics
from trading_bot.experiments.learned_trading_comparisons import (
    DRAWDOWN_HOPE,
    RANGING_HOPE,
    REGIMES,
    Comparison,
    Hope,
    Setting,
    verdict,
)
from trading_bot.experiments.learned_trading_control import Calibration, Control
from trading_bot.experiments.learned_trading_labels_report import calibration, trainings
from trading_bot.experiments.learned_trading_runs import Run
from trading_bot.experiments.learned_trading_scores import (
    BLOCK,
    DRAWS,
    PATH_DRAWS,
    Estimate,
)
from trading_bot.experiments.report_section import table
from trading_bot.experiments.statistics import holm

TITLE = "## Meta-labels and ensemble weights"
PICTURE = "learned-trading.png"
COLOURS = {"table": "#2a6fdb", "hedge": "#e08e0b", "equal": "#1a9850"}


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """Everything the sections show."""

    settings: Sequence[Setting]
    comparisons: Sequence[Comparison]
    hopes: Sequence[Hope]
    calibrations: Mapping[str, Calibration | None]  # by market
    controls: Sequence[Control]
    hashes: Sequence[tuple[str, str]]
    command: str
    seconds: float


def section(findings: Findings) -> str:
    """What trading came to."""
    parts = [TITLE, how(findings), _setup(findings.settings), _arms(findings.settings)]
    if findings.comparisons:
        parts += [_differences(findings.comparisons), _regimes(findings)]
    if findings.hopes:
        parts.append(_hopes(findings.hopes))
    return "\n\n".join([*parts, trainings(findings.settings, findings.controls), calibration(findings.calibrations)])


def how(findings: Findings) -> str:
    """Command, seeds, data, versions, hardware."""
    files = "; ".join(f"{name} sha256 `{digest}`" for name, digest in findings.hashes)
    return (
        f"Written by `{findings.command}` in {findings.seconds / 60:.1f} min (trading_bot {__version__}, Python "
        f"{platform.python_version()}, numpy {np.__version__}, {platform.machine()}, {os.cpu_count()} cores). Seed 0 "
        f"of the bootstrap, of the shuffles and of every training. Candles: {files}."
    )


def _setup(settings: Sequence[Setting]) -> str:
    words = (
        "Every arm is a full backtest with the default configuration, costs included, of the strategies that come "
        "with the bot; symbols of one quote currency share an account. *Meta-labels on*: models are trained on the "
        "way, on what was known at each date, and promoted or not, as the daemon would; *off*: the rules' own "
        "confidences. The metric was fixed beforehand: the account's net return of a bar, marked to market, paired "
        f"bar by bar. Intervals (95 %): circular block bootstrap, blocks of {BLOCK} bars, {DRAWS:,} draws "
        f"({PATH_DRAWS:,} of whole curves for drawdowns). The default limits halve new entries for good once the "
        "account has fallen 10 % from its peak and end them at 15 % (nobody resumes a backtest)."
    )
    if all(setting.limits for setting in settings):
        return words
    return (
        f"{words} That hides what an arm would have done later and keeps drawdowns near 15 %; so the same is shown "
        "without the three drawdown limits, there with meta-labels on for the first way of weighing only. This was "
        "added before any two arms had been compared, after one run had met the limit."
    )


def _arms(settings: Sequence[Setting]) -> str:
    parts = []
    for setting in settings:
        trials = setting.daily()
        rows = []
        for run in setting.runs.values():
            told, deflated = run.summary, metrics.deflated_sharpe(run.daily(), trials)
            rows.append([
                run.arm.name, f"{told['profit_ratio']:+.2%}", _number(told["sharpe"]), _share(deflated),
                _share(told["max_drawdown_account"]), f"{told['trades']}", f"{told['fees_paid']:,.0f}",
                _share(told["exposure"]), _date(run.reduced), _date(run.halted),
            ])  # fmt: skip
        rows.append(_hold(setting.first))
        odds = metrics.backtest_overfitting(np.array(trials))
        told = setting.first.summary
        parts.append(
            f"**{setting.name}** (below: {setting.short}): {told['bars']:,} bars from {told['from'][:10]} to "
            f"{told['to'][:10]}, account of {told['start_equity']:,.0f} {told['quote']}.\n\n"
            + table(
                ["arm", "net return", "Sharpe", "deflated", "max drawdown", "trades", "fees", "in the market",
                 "entries halved", "halted"],
                rows,
            )
            + f"\n\nArms that ended above buy and hold: {_above(setting)} of {len(setting.runs)}."
            + ("" if odds is None else f" Probability of backtest overfitting among the arms: {odds:.0%}.")
        )  # fmt: skip
    parts.append(
        "Sharpe: daily, √365. Deflated: probability that the true Sharpe ratio is above what the best of as many "
        "worthless arms would show. Buy and hold: equal parts of every symbol, no costs.\n\n"
        f"![Equity of the arms beside buy and hold]({PICTURE})"
    )
    return "\n\n".join(parts)


def _above(setting: Setting) -> int:
    return sum(bool(run.equity[-1] > run.hold[-1]) for run in setting.runs.values())


def _hold(run: Run) -> list[str]:
    fall = metrics.max_drawdown(run.hold)
    return [
        "buy and hold", f"{run.hold[-1] / run.summary['start_equity'] - 1:+.2%}",
        _number(metrics.sharpe(run.daily(run.hold))), "", _share(fall.account if fall else None), "", "", "", "", "",
    ]  # fmt: skip


def _differences(comparisons: Sequence[Comparison]) -> str:
    returns = holm([each.p for one in comparisons for each in (one.everywhere, *one.by_regime.values())])
    falls = holm([each.drawdown.p for each in comparisons])
    step = 1 + len(REGIMES)
    rows = [
        [f"{one.setting}: {one.name}", _points(one.everywhere), f"{one.everywhere.p:.3f}", f"{adjusted:.2f}",
         _verdict(one.everywhere, adjusted), _points(one.drawdown), f"{one.drawdown.p:.3f}", f"{fall:.2f}"]
        for one, adjusted, fall in zip(comparisons, returns[::step], falls, strict=True)
    ]  # fmt: skip
    family = [each for one in comparisons for each in (one.everywhere, *one.by_regime.values())]
    apart, sure = sum(not each.null for each in family), sum(each <= 0.05 for each in returns)
    deep, surely = sum(not one.drawdown.null for one in comparisons), sum(each <= 0.05 for each in falls)
    words = (
        f"The family of comparisons of returns, over all bars and by regime, has {len(family)} members. Intervals "
        f"that exclude 0: {apart} ({0.05 * len(family):.0f} would by chance, were all alike and independent), after "
        f"Holm's correction {sure}; of the {len(comparisons)} differences of maximum drawdown {deep}, after Holm's "
        f"correction {surely}."
    )
    if not sure and not surely:
        words += (
            " **This is a null result**: neither meta-labels nor the way of weighing is shown to earn more or less "
            "than what it is compared with, nor to fall less far."
        )
    header = ["percentage points", "Σ net return", "p", "Holm", "verdict", "max drawdown", "p", "Holm"]
    return (
        "Differences between arms: the sum of net returns over all bars, and the maximum drawdown (negative: it falls "
        "less far; how far depends on the order of good and bad weeks, so that its interval need not lie around it)."
        f"\n\n{table(header, rows)}\n\n{words}"
    )


def _regimes(findings: Findings) -> str:
    shares = [
        [setting.short, *(f"{(setting.first.before == regime).mean():.0%}" for regime in REGIMES)]
        for setting in findings.settings
    ]
    adjusted = holm([each.p for one in findings.comparisons for each in (one.everywhere, *one.by_regime.values())])
    step, rows = 1 + len(REGIMES), []
    for place, one in enumerate(findings.comparisons):
        own = adjusted[place * step + 1 : (place + 1) * step]
        cells = [
            f"**{_points(one.by_regime[regime])}**" if p <= 0.05 else _points(one.by_regime[regime])
            for regime, p in zip(REGIMES, own, strict=True)
        ]
        rows.append([f"{one.setting}: {one.name}", *cells])
    return (
        "The same by regime: sums of net returns, in percentage points, over the bars that began in it (the regime "
        "told at the close before; of several symbols the commonest, at a tie that of the first). Bold: excludes 0 "
        f"after Holm's correction.\n\n{table(['percentage points', *REGIMES], rows)}\n\nShare of bars:\n\n"
        + table(["", *REGIMES], shares)
    )


def _hopes(hopes: Sequence[Hope]) -> str:
    rows = [
        [f"{one.setting}: {one.name}", f"{one.sums[0]:+.2%}", f"{one.sums[1]:+.2%}", _relative(one.ranging),
         verdict(one.ranging, RANGING_HOPE), f"{one.falls[0]:.1%}", f"{one.falls[1]:.1%}", _relative(one.drawdown),
         verdict(one.drawdown, DRAWDOWN_HOPE)]
        for one in hopes
    ]  # fmt: skip
    header = ["", "equal: Σ ranging", "this arm", "better by", "+15–25 %", "equal: max drawdown", "this arm",
              "deeper by", "−10–20 %"]  # fmt: skip
    ranging = [verdict(one.ranging, RANGING_HOPE) for one in hopes]
    falls = [verdict(one.drawdown, DRAWDOWN_HOPE) for one in hopes]
    return (
        "The hopes were 15–25 % better in ranging markets and 10–20 % less drawdown, read here as: against equal "
        "weights, the sum of net returns over ranging bars (as a share of the size of equal weights' sum) and the "
        "maximum drawdown. *Met*: the whole interval lies beyond the modest end of the hope; *excluded*: none of it "
        "does; *not shown*: neither. Where equal weights' sum is near 0 the share is large and says little; the "
        f"differences in percentage points stand above.\n\n{table(header, rows)}\n\nIn ranging markets the hope is met "
        f"in {ranging.count('met')} of {len(hopes)}, excluded in {ranging.count('excluded')} and not shown in "
        f"{ranging.count('not shown')}; of drawdown it is met in {falls.count('met')}, excluded in "
        f"{falls.count('excluded')} and not shown in {falls.count('not shown')}."
    )


def picture(settings: Sequence[Setting], path: Path) -> None:
    """Equity over time, each arm and buy and hold as multiples of the start, a panel for each setting."""
    rows = -(-len(settings) // 2)
    figure = Figure(figsize=(11, 3.8 * rows), layout="constrained")
    panels = figure.subplots(rows, 2 if len(settings) > 1 else 1, squeeze=False).ravel()
    for panel, setting in zip(panels, settings, strict=False):
        days = setting.first.time.astype("datetime64[ms]")
        start = setting.first.summary["start_equity"]
        panel.plot(days, setting.first.hold / start, color="#999999", linewidth=0.9, label="buy and hold")
        for (method, learning), run in setting.runs.items():
            panel.plot(
                days, run.equity / start, color=COLOURS[method], linestyle="-" if learning else (0, (4, 1.5)),
                linewidth=1.1, label=run.arm.name,
            )  # fmt: skip
        panel.set_yscale("log")
        panel.set_title(setting.name, fontsize=10)
        panel.set_ylabel("equity, multiple of the start", fontsize=8)
        panel.grid(alpha=0.25, which="both")
        panel.tick_params(axis="x", labelsize=8)
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter("{x:g}")
        panel.tick_params(axis="y", which="both", labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[len(settings) :]:
        panel.set_axis_off()
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _points(found: Estimate) -> str:
    return f"{100 * found.value:+.1f} ({100 * found.low:+.1f} … {100 * found.high:+.1f})"


def _relative(found: Estimate) -> str:
    return f"{found.value:+.0%} ({found.low:+.0%} … {found.high:+.0%})"


def _verdict(found: Estimate, adjusted: float) -> str:
    if found.null:
        return "null"
    return ("better" if found.value > 0 else "worse") if adjusted <= 0.05 else "null after correction"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _date(milliseconds: int | None) -> str:
    return "–" if milliseconds is None else f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d}"
