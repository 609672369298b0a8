"""`python -m trading_bot.experiments.learned_trading` measures what learning from trades and weighing strategies earn.

Full backtests on real candles, costs included: models of the signals trained walk-forward or none at all, and weights
by the table, by hedge or equal. Beside them, how often a model is promoted that learned from shuffled labels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from loguru import logger

from trading_bot.experiments.learned_trading_comparisons import compare, settings_of
from trading_bot.experiments.learned_trading_control import (
    Control,
    candles_of,
    live_calibration,
    rules_of,
    trained,
)
from trading_bot.experiments.learned_trading_labels_report import control_section
from trading_bot.experiments.learned_trading_report import PICTURE, Findings, how, picture, section
from trading_bot.experiments.learned_trading_runs import METHODS, Arm, Market, Run, markets_of, simulate
from trading_bot.experiments.report_section import write_section

_FOLDER = Path("../shared/data")
DATA = tuple(_FOLDER / f"{pair}-1h.csv.gz" for pair in ("BTC_USDT", "BTC_EUR", "ETH_EUR", "ADA_EUR"))
Job = tuple[Callable[..., Any], tuple[Any, ...]]


def arms_of(markets: Sequence[Market], methods: Sequence[str], *, both_limits: bool) -> list[Arm]:
    """Every method with meta-labels off and on; without drawdown limits, meta-labels with the first method only."""
    arms = [Arm(market, method, learning) for market in markets for method in methods for learning in (False, True)]
    if both_limits:
        arms += [
            Arm(market, method, learning, limits=False)
            for market in markets
            for method in methods
            for learning in (False, True)
            if not learning or method == methods[0]
        ]
    return arms


def control(market: Market | None, draws: int, bars: int) -> Control:
    """Shuffled labels on the candles of a market, or on the synthetic one."""
    settings = Arm(market or Market(()), "table", learning=True).settings()
    candles = candles_of(market, settings)
    if bars:
        candles = {symbol: rows[: settings.market.history + bars] for symbol, rows in candles.items()}
    name = market.short if market is not None else f"synthetic (seed {settings.synthetic.seed})"
    return trained(name, candles, rules_of(settings), settings, draws)


def measure(arms: Sequence[Arm], markets: Sequence[Market], draws: int, bars: int, workers: int) -> list[Any]:
    """Runs of the arms, then the controls on each market and the synthetic one; longest first."""
    jobs: list[Job] = [
        *((simulate, (arm, bars)) for arm in arms),
        *((control, (market, draws, bars)) for market in (*markets, None)),
    ]
    order = sorted(range(len(jobs)), key=lambda place: place < len(arms) and not arms[place].learning)
    if workers == 1:
        return [function(*given) for function, given in jobs]
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_quiet) as pool:
        submitted = {place: pool.submit(jobs[place][0], *jobs[place][1]) for place in order}
        return [submitted[place].result() for place in range(len(jobs))]


def _quiet() -> None:
    """No line for every decision of years."""
    logger.remove()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m trading_bot.experiments.learned_trading", description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", default=list(DATA), help="candle files; one account a quote")
    parser.add_argument("--output", type=Path, default=Path("docs/evidence"), help="folder of learning.md")
    parser.add_argument("--bars", type=int, default=0, help="bars to decide; 0: all")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="ways to weigh")
    parser.add_argument(
        "--limits", choices=("default", "both"), default="both", help="both: without drawdown limits too"
    )
    parser.add_argument("--draws", type=int, default=12, help="shuffles of each kind, strategy and date")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    markets = markets_of(options.data)
    arms = arms_of(markets, options.methods, both_limits=options.limits == "both")
    found = measure(arms, markets, options.draws, options.bars, options.workers)
    runs: list[Run] = found[: len(arms)]
    controls: list[Control] = found[len(arms) :]
    settings = settings_of(runs)
    compared = [compare(setting) for setting in settings]
    calibrations = {}
    for run in runs:
        if run.arm.learning and run.arm.limits and run.arm.market.short not in calibrations:
            chosen = run.arm.settings()
            calibrations[run.arm.market.short] = live_calibration(
                run, candles_of(run.arm.market, chosen), rules_of(chosen)
            )
    findings = Findings(
        settings=settings,
        comparisons=[each for comparisons, _ in compared for each in comparisons],
        hopes=[each for _, hopes in compared for each in hopes],
        calibrations=calibrations,
        controls=controls,
        hashes=[
            (path.name, digest)
            for market in markets
            for path, digest in zip(market.files, market.hashes(), strict=True)
        ],
        command=_command(parser, options),
        seconds=time.monotonic() - started,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    picture(settings, options.output / PICTURE)
    page = options.output / "learning.md"
    write_section(page, section(findings), "# Learning")
    margin = arms[0].settings().learning.margin
    words = control_section(controls, options.draws, margin, how(findings))
    write_section(page, words, "# Learning")
    print(f"{page} and {PICTURE} written")


def _command(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    words = ["python -m trading_bot.experiments.learned_trading --output docs/evidence"]
    for name, value in vars(options).items():
        if name not in ("output", "workers") and value != parser.get_default(name):
            words.append(f"--{name} {' '.join(map(str, value)) if isinstance(value, list) else value}")
    return " ".join(words)


if __name__ == "__main__":
    _quiet()
    main()
