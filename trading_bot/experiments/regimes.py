"""`python -m trading_bot.experiments.regimes --output docs/evidence` measures the regime detector and writes the page.

Synthetic markets with seeds and parameters that tuning never saw say how often the detector is right; real candles,
whose regimes nobody knows, say how long its regimes last and what the next day did.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trading_bot.domain.market import Candles, Floats, Times
from trading_bot.experiments.regime_baselines import VolatilityThreshold
from trading_bot.experiments.regime_markets import (
    JUDGING_SEEDS,
    JUDGING_SPREAD,
    SYMBOLS,
    TUNING_SEEDS,
    TUNING_SPREAD,
    market,
)
from trading_bot.experiments.regime_report import write
from trading_bot.experiments.regime_scores import (
    Calibration,
    Codes,
    Findings,
    RealRegime,
    Score,
    bootstrap,
    spell_lengths,
)
from trading_bot.learn.config import RegimeConfig
from trading_bot.learn.regime_detector import REGIMES, RegimeDetector
from trading_bot.market_data.file_candles import FileCandles

REAL = ("BTC_USDT-1h.csv.gz", "BTC_EUR-1h.csv.gz", "ETH_EUR-1h.csv.gz", "ADA_EUR-1h.csv.gz")
DAY = 24
_TUNING_MARKETS = 12  # of the tuning seeds, for the baselines


def judge(bars: int, seeds: Sequence[int], folder: Path | None) -> Findings:
    """Everything the page shows."""
    default = RegimeConfig().min_bars
    naive, commonest = _baselines(bars)
    scores = [Score("detector"), Score("volatility threshold"), Score("always the commonest")]
    patience = [Score(f"{min_bars}") for min_bars in (1, 2, 3, 5)]
    detectors = {int(score.name): RegimeDetector(RegimeConfig(min_bars=int(score.name))) for score in patience}
    detectors[default] = RegimeDetector()
    stated: list[Floats] = []
    right: list[Floats] = []
    for seed in seeds:
        synthetic = market(seed, bars, JUDGING_SPREAD)
        pairs: dict[str, list[tuple[Codes, Codes]]] = {}
        for symbol in SYMBOLS:
            candles, truth = synthetic.all()[symbol], synthetic.codes(symbol)
            first = max(detector.warmup for detector in detectors.values())
            for min_bars, detector in detectors.items():
                series = detector.detect_series(candles)
                pairs.setdefault(f"{min_bars}", []).append((truth[first:], series.codes[first:]))
                if min_bars == default:
                    pairs.setdefault("detector", []).append((truth[first:], series.codes[first:]))
                    stated.append(series.confidence[first:])
                    right.append((truth == series.codes)[first:].astype(np.float64))
            told = naive.tell(VolatilityThreshold.ratio(candles)[first:])
            pairs.setdefault("volatility threshold", []).append((truth[first:], told))
            always = np.full(len(truth) - first, commonest, np.int8)
            pairs.setdefault("always the commonest", []).append((truth[first:], always))
        for score in (*scores, *patience):
            score.add(pairs[score.name])
    files = [folder / name for name in REAL if (folder / name).exists()] if folder else []
    return Findings(
        bars=bars,
        main=scores[0],
        unseen_seeds=_on_default_parameters(bars, seeds),
        baselines=scores[1:],
        patience=patience,
        calibration=_calibration(np.concatenate(stated), np.concatenate(right)),
        real=[row for path in files for row in real_regimes(path)],
        hashes={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    )


def _baselines(bars: int) -> tuple[VolatilityThreshold, int]:
    """The threshold detector and the commonest regime, both from tuning markets alone."""
    ratios, truths = [], []
    for seed in TUNING_SEEDS[:_TUNING_MARKETS]:
        synthetic = market(seed, bars, TUNING_SPREAD)
        for symbol in SYMBOLS:
            ratio = VolatilityThreshold.ratio(synthetic.all()[symbol])
            ratios.append(ratio[500:])
            truths.append(synthetic.codes(symbol)[500:])
    truth = np.concatenate(truths)
    return VolatilityThreshold.tuned(np.concatenate(ratios), truth), int(np.bincount(truth).argmax())


def _on_default_parameters(bars: int, seeds: Sequence[int]) -> Score:
    score, detector = Score("default parameters"), RegimeDetector()
    for seed in seeds:
        synthetic = market(seed, bars, 0.0)
        pairs = []
        for symbol in SYMBOLS:
            series = detector.detect_series(synthetic.all()[symbol])
            pairs.append((synthetic.codes(symbol)[series.first :], series.codes[series.first :]))
        score.add(pairs)
    return score


def _calibration(stated: Floats, right: Floats) -> Calibration:
    place = np.clip((stated * 10).astype(int), 3, 9) - 3
    count = np.bincount(place, minlength=7).astype(np.float64)
    several = np.maximum(count, 1)
    return Calibration(
        np.bincount(place, stated, 7) / several, np.bincount(place, right, 7) / several, count / count.sum()
    )


def real_regimes(path: Path) -> list[RealRegime]:
    """Shares, lengths and next days of one file of real candles."""
    source = FileCandles([path])
    candles = source.candles(source.symbols[0], source.timeframe)
    series = RegimeDetector().detect_series(candles)
    told = series.codes[series.first :]
    lengths = spell_lengths(told)
    starts, returns, volatility = _next_days(candles, series.first)
    rows = []
    for code, regime in enumerate(REGIMES):
        here = series.codes[starts] == code
        rows.append(
            RealRegime(
                market=path.name.partition(".")[0],
                regime=regime.value,
                share=float((told == code).mean()),
                mean_bars=float(np.mean(lengths[code])) if lengths[code] else float("nan"),
                days=int(here.sum()),
                next_return=float(returns[here].mean()) if here.any() else float("nan"),
                next_return_interval=bootstrap(returns[here].tolist()),
                next_volatility=float(volatility[here].mean()) if here.any() else float("nan"),
                next_volatility_interval=bootstrap(volatility[here].tolist()),
            )
        )
    return rows


def _next_days(candles: Candles, first: int) -> tuple[Times, Floats, Floats]:
    """Rows 24 bars apart, and return and volatility of the 24 bars after each: days that do not overlap."""
    price = np.log(candles.close)
    starts = np.arange(first, len(candles) - DAY, DAY, dtype=np.int64)
    moves = np.diff(price)
    volatility = np.array([moves[start : start + DAY].std() * DAY**0.5 for start in starts.tolist()])
    return starts, price[starts + DAY] - price[starts], volatility


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m trading_bot.experiments.regimes", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/evidence"), help="folder for regimes.md and pictures")
    parser.add_argument("--bars", type=int, default=8_000, help="bars of each synthetic market")
    parser.add_argument("--markets", type=int, default=len(JUDGING_SEEDS), help="synthetic markets to judge on")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of real candles, if there is")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    seeds = range(JUDGING_SEEDS[0], JUDGING_SEEDS[0] + options.markets)
    findings = judge(options.bars, seeds, options.data if options.data.is_dir() else None)
    findings.seconds = time.monotonic() - started
    options.output.mkdir(parents=True, exist_ok=True)
    # what a reader should type: the options that shape the numbers, not the folders of whoever ran it
    changed = "".join(
        f" --{name} {value}" for name, value in (("bars", options.bars), ("markets", options.markets))
        if value != parser.get_default(name)
    )  # fmt: skip
    command = f"python -m trading_bot.experiments.regimes --output docs/evidence{changed}"
    write(findings, options.output, command, seeds)
    print(f"macro-F1 {findings.main.macro:.3f}; {options.output / 'regimes.md'} written in {findings.seconds:.0f} s")


if __name__ == "__main__":
    main()
