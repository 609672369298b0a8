"""Do twenty chosen features forecast as well as all of them, and how much faster is a step?

All candidates, 20 that the feature selection chose within each fold's training rows, and 20 at random: the same losses,
steps and seeds, judged by mean absolute error and hit rate on rows never trained on.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trading_bot import __version__
from trading_bot.domain.market import Candles, Floats
from trading_bot.errors import TrainingError
from trading_bot.experiments.report_section import between, table, write_section
from trading_bot.experiments.statistics import Difference, holm, paired_difference
from trading_bot.experiments.weighted_fit import Budget, Weighting, fit
from trading_bot.features.selection import FeatureSelector
from trading_bot.features.table import CANDIDATES, column_names
from trading_bot.models.registry import build_model
from trading_bot.training.adaptive_loss import COMBINATIONS
from trading_bot.training.evaluation import splits_of
from trading_bot.training.optimizers import create_optimizer
from trading_bot.training.prepared_data import PreparedData, prepare_data
from trading_bot.training.walk_forward import Rows

ALL, CHOSEN, RANDOM = "all", "chosen", "random"
ARMS = (ALL, CHOSEN, RANDOM)
PAGE = "features.md"
TITLE = "## All features or twenty"


@dataclass(frozen=True, slots=True, eq=False)
class FeatureFindings:
    """What was measured.

    Attributes
    ----------
    errors, missed : by arm, [seed][fold] → (rows,)
    zero : mean absolute error of forecasting no move
    names : the features chosen in each fold, in the order they were chosen
    step : by number of features, seconds of a training step of the standard CNN, 64 rows, in each round
    fits : by arm, mean seconds of a fit's CPU
    """

    data: PreparedData
    k: int
    seeds: tuple[int, ...]
    budget: Budget
    zero: float
    errors: Mapping[str, list[list[Floats]]]
    missed: Mapping[str, list[list[Floats]]]
    names: list[tuple[str, ...]]
    step: Mapping[int, Floats]
    fits: Mapping[str, float]


def compare_features(
    candles: Candles, horizon: int, seeds: Sequence[int], folds: int, budget: Budget, k: int = 20,
    tell: Callable[[str], object] = lambda line: None,
) -> FeatureFindings:  # fmt: skip
    """Every arm on every fold with every seed.

    Raises
    ------
    TrainingError, CandleDataError
        If the candles are too few, or a number is out of range.
    """
    candidates = column_names(CANDIDATES)
    if not 1 <= k < len(candidates) or not seeds:
        raise TrainingError(
            f"found k {k} and {len(seeds)} seeds; wanted 1 to {len(candidates) - 1} features and at least one seed"
        )
    whole = prepare_data(candles, horizon, features=candidates)
    parts = splits_of(whole, folds)
    weighting = Weighting(losses=COMBINATIONS["comprehensive"].losses)
    errors: dict[str, list[list[Floats]]] = {arm: [] for arm in ARMS}
    missed: dict[str, list[list[Floats]]] = {arm: [] for arm in ARMS}
    chosen = [choose(whole, train, budget, k) for train, _ in parts]
    seconds = dict.fromkeys(ARMS, 0.0)
    for seed in seeds:
        for arm in ARMS:
            forecasts = []
            for fold, (train, held) in enumerate(parts):
                data = whole if arm == ALL else _part(candles, whole, _names(arm, chosen, candidates, k, seed, fold))
                found = fit(data, train, held, weighting, budget, seed)
                seconds[arm] += found.seconds / len(seeds) / folds
                forecasts.append((found.chosen, whole.y[held].astype(np.float64)))
            errors[arm].append([np.abs(forecast - target) for forecast, target in forecasts])
            missed[arm].append([
                (np.sign(forecast) != np.sign(target))[target != 0].astype(np.float64) for forecast, target in forecasts
            ])  # fmt: skip
            tell(f"seed {seed}  {arm}: MAE {np.concatenate(errors[arm][-1]).mean():.6f}")
    zero = float(np.abs(np.concatenate([whole.y[held] for _, held in parts])).mean(dtype=np.float64))
    step = step_seconds((len(candidates), k), whole.length)
    return FeatureFindings(whole, k, tuple(seeds), budget, zero, errors, missed, chosen, step, seconds)


def choose(data: PreparedData, train: Rows, budget: Budget, k: int) -> tuple[str, ...]:
    """The k features the selection takes from the last bars of the rows that are trained on, validation rows apart."""
    rows = train[: len(train) - round(len(train) * budget.validation) - data.horizon]
    selector = FeatureSelector(k, blocks=0).fit(data.X[rows[0] : rows[-1] + 1, -1], data.y[rows])
    return tuple(data.names[column] for column in selector.ranking_)


def _names(
    arm: str, chosen: Sequence[tuple[str, ...]], candidates: Sequence[str], k: int, seed: int, fold: int
) -> tuple[str, ...]:
    if arm == CHOSEN:
        return chosen[fold]
    columns = np.random.default_rng((seed, fold, 20)).permutation(len(candidates))[:k]
    return tuple(candidates[column] for column in columns)


def _part(candles: Candles, whole: PreparedData, names: tuple[str, ...]) -> PreparedData:
    part = prepare_data(candles, whole.horizon, whole.length, names)
    if not np.array_equal(part.index, whole.index):
        raise TrainingError(
            f"{len(names)} features leave {len(part.index)} rows, all of them {len(whole.index)}; wanted the same rows "
            "for both: load more candles"
        )
    return part


def step_seconds(counts: Sequence[int], length: int, rounds: int = 21, steps: int = 10) -> dict[int, Floats]:
    """Seconds of a step of the standard CNN by number of features, in each round; they take turns, one core's time."""
    turns = {count: _turn(count, length, steps) for count in counts}
    spent: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(rounds + 1):
        for count, turn in turns.items():
            began = time.process_time()
            turn()
            spent[count].append((time.process_time() - began) / steps)
    return {count: np.array(each[1:]) for count, each in spent.items()}  # the first is a warm-up


def _turn(features: int, length: int, steps: int) -> Callable[[], None]:
    model = build_model("cnn", time=length, features=features)
    optimizer = create_optimizer(model, "adamw")
    generator = torch.Generator().manual_seed(0)
    X, y = torch.randn(64, length, features, generator=generator), torch.randn(64, 1, generator=generator)

    def turn() -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.mse_loss(model(X), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return turn


def summary(found: FeatureFindings) -> dict[str, Any]:
    """The numbers alone."""
    return {
        "arms": {
            arm: {"mae": _mean(found.errors[arm]), "hit_rate": 1 - _mean(found.missed[arm]), "seconds": found.fits[arm]}
            for arm in ARMS
        },
        "step_seconds": {count: float(np.median(each)) for count, each in found.step.items()},
        "chosen": [list(names) for names in found.names],
    }


def write_features(found: FeatureFindings, folder: Path, command: str, source: str, sha256: str) -> None:
    """Put the section into features.md in `folder`."""
    many, few = len(found.data.names), found.k
    labels = {ALL: f"all {many}", CHOSEN: f"{few} chosen", RANDOM: f"{few} at random"}
    pairs = ((CHOSEN, ALL), (RANDOM, ALL), (CHOSEN, RANDOM))
    errors = {pair: _difference(found.errors, *pair, found.data.horizon) for pair in pairs}
    signs = {pair: _difference(found.missed, *pair, found.data.horizon) for pair in pairs}
    adjusted = dict(zip(pairs, holm([each.p for each in errors.values()]), strict=True))
    rows = []
    for arm in ARMS:
        cells = [labels[arm], f"{1e5 * _mean(found.errors[arm]):.1f}", f"{1 - _mean(found.missed[arm]):.2%}",
                 f"{found.fits[arm]:.2f}"]  # fmt: skip
        rows.append([*cells, *(["–", "–"] if arm == ALL else [between(errors[arm, ALL], 1e5),
                                                              between(signs[arm, ALL], -100)])])  # fmt: skip
    told = " ".join(
        _told(f"{labels[arm]} against {labels[other]}", errors[arm, other], float(adjusted[arm, other]))
        for arm, other in pairs
    )
    times = found.step[many] / found.step[few]
    low, middle, high = np.quantile(times, (0.25, 0.5, 0.75))
    header = ("features", "MAE, 10⁻⁵", "hit rate", "CPU s a fit", "MAE − all, 10⁻⁵ (95 %)", "hits − all, points (95 %)")
    words = "\n\n".join([
        TITLE,
        f"Written by `{command}`. {source}: {len(found.data.y):,} windows, return over {found.data.horizon} bars, "
        f"{len(found.names)} walk-forward folds, seeds {', '.join(map(str, found.seeds))}; equal calibrated weights of "
        f"`comprehensive`, {found.budget.steps} steps of {found.budget.batch_size} rows a fit. A small budget; "
        "`--seeds`, `--folds`, `--epochs` and `--batches` give a larger one. The features are chosen within each "
        "fold, from rows that are trained on; twenty at random are drawn anew for each seed and fold.",
        table(header, rows),
        f"{told} Intervals are paired by seed, fold and row (bootstrap over seeds, folds and blocks of two horizons), "
        f"p by Holm over these three. Forecasting no move has a MAE of {1e5 * found.zero:.1f} · 10⁻⁵.",
        f"A step of the standard CNN, 64 rows, one core: {1e3 * np.median(found.step[many]):.2f} ms with {many} "
        f"features, {1e3 * np.median(found.step[few]):.2f} ms with {few}: **{middle:.2f} times as fast** (median of "
        f"{len(times)} rounds in turns; the middle half {low:.2f} … {high:.2f}). The hope was three times.",
        f"In common to all folds: {', '.join(sorted(set.intersection(*map(set, found.names)))) or 'none'}.",
        f"Candles: {source}, sha256 `{sha256}`. trading-bot {__version__}, torch {torch.__version__}, numpy "
        f"{np.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores ({platform.machine()}).",
    ])  # fmt: skip
    write_section(folder / PAGE, words, "# Features")


def _difference(losses: Mapping[str, list[list[Floats]]], arm: str, other: str, horizon: int) -> Difference:
    return paired_difference(losses[arm], losses[other], 2 * horizon)


def _told(what: str, error: Difference, p: float) -> str:
    how = "smaller" if error.value < 0 else "larger"
    shown = f"the error is {how}" if p < 0.05 else "no difference of the error is shown"
    return f"{what[0].upper()}{what[1:]}: {shown} ({between(error, 1e5)}, p {p:.3f})."


def _mean(losses: list[list[Floats]]) -> float:
    return float(np.concatenate([fold for seed in losses for fold in seed]).mean())
