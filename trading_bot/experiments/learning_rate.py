"""`python -m trading_bot.experiments.learning_rate` measures what the adaptive learning rate saves, in epochs.

Synthetic problems whose difficulty is known: logistic and least-squares, of several conditionings and noises. Every arm
starts at the same weights and takes the same batches in the same order; only the learning rate differs.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from loguru import logger

from trading_bot import __version__
from trading_bot.domain.market import Floats
from trading_bot.experiments.report_section import table, write_section
from trading_bot.learn.adaptive_trainer import AdaptiveTrainer
from trading_bot.learn.learning_rate import FACTOR, SMOOTHING
from trading_bot.learn.linear_model import centred_targets, mean_loss, probabilities
from trading_bot.learn.training_config import LossName, TrainingConfig
from trading_bot.learn.training_data import sample_weights

ROWS, VALIDATION, FEATURES = 4_000, 2_000, 20
TUNING_SEEDS = range(1_000, 1_006)  # the rule was chosen on these …
JUDGING_SEEDS = range(5_000, 5_024)  # … and is judged on these
TITLE = "## Learning rate"
GAP = 0.01  # near enough to the exact minimum, as a share of the way there from no model
ARMS: Mapping[str, Mapping[str, float]] = {
    "adaptive": {"use_adaptive_lr": True},
    "plain decay 0.95": {"use_adaptive_lr": False, "learning_rate_decay": 0.95},
    "constant": {"use_adaptive_lr": False, "learning_rate_decay": 1.0},
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of data: which loss, how ill conditioned, how noisy."""

    loss: LossName
    condition: float  # largest over smallest variance of a feature
    noise: float  # log_loss: what the scores are divided by; squared_error: standard deviation of the noise

    def draw(self, seed: int) -> tuple[Floats, Floats, Floats, Floats]:
        """X (n, d), y (n,), X_val, y_val. Features have mean variance 1 and are mixed by a rotation."""
        random = np.random.default_rng((seed, round(self.condition), round(100 * self.noise)))
        deviation = np.sqrt(np.geomspace(1, 1 / self.condition, FEATURES))
        deviation /= math.sqrt(np.square(deviation).mean())
        rotation = np.linalg.qr(random.normal(size=(FEATURES, FEATURES)))[0]
        latent = random.normal(size=(ROWS + VALIDATION, FEATURES)) * deviation
        scores = latent @ (random.normal(size=FEATURES) / deviation) / math.sqrt(FEATURES)  # standard deviation ≈ 1
        if self.loss == "log_loss":
            y = (random.random(len(scores)) < 1 / (1 + np.exp(-2 * scores / self.noise))).astype(np.float64)
        else:
            y = scores + self.noise * random.normal(size=len(scores))
        X = latent @ rotation
        return X[:ROWS], y[:ROWS], X[ROWS:], y[ROWS:]

    @property
    def name(self) -> str:
        kind = {"log_loss": "logistic", "squared_error": "least squares"}[self.loss]
        return f"{kind}, condition {self.condition:g}, noise {self.noise:g}"


_LOSSES: tuple[LossName, ...] = ("log_loss", "squared_error")
PROBLEMS = tuple(Problem(*parts) for parts in product(_LOSSES, (1.0, 30.0, 300.0), (0.5, 2.0)))


def race(problem: Problem, seed: int, budget: int) -> list[tuple[float, float]]:
    """For each arm: epochs until the validation loss is at the target, budget + 1 where it never is; how far above the
    exact minimum its best epoch stays, as a share of the way from no model to that minimum (negative: below).

    The exact minimum is that over the training rows, judged on the validation rows: it depends on no arm.
    """
    data = problem.draw(seed)
    start, least = exact_losses(problem.loss, *data)
    target = least + GAP * (start - least)
    found = []
    for arm in ARMS.values():
        settings = {"loss": problem.loss, "seed": seed, "early_stopping_patience": budget + 1, **arm}
        trainer = AdaptiveTrainer(TrainingConfig(**settings))  # type: ignore[arg-type]
        losses = np.array([trainer.train_epoch(*data, epoch).val_loss for epoch in range(budget)])
        there = np.flatnonzero(losses <= target)
        needed = there[0] + 1 if len(there) else budget + 1
        found.append((float(needed), float((losses.min() - least) / (start - least))))
    return found


def exact_losses(loss: LossName, X: Floats, y: Floats, X_val: Floats, y_val: Floats) -> tuple[float, float]:
    """Validation losses of no model and of the exact minimum of what the arms minimise, weight decay apart (Newton)."""
    design = np.column_stack([X, np.ones(len(X))])
    weights, theta = sample_weights(len(y)), np.zeros(design.shape[1])
    for _ in range(20):
        scores = design @ theta
        log = loss == "log_loss"
        forecast = probabilities(scores) if log else scores
        curvature = weights * (forecast * (1 - forecast) if log else 1.0)
        theta += np.linalg.solve((design.T * curvature) @ design, design.T @ (weights * (y - forecast)))
    centred = centred_targets(y_val, loss)
    start, least = (mean_loss(X_val, centred, each, loss) for each in (np.zeros_like(theta), theta))
    return start, least


def measure(seeds: Sequence[int], budget: int) -> Floats:
    """(problems, seeds, arms, 2): epochs and how far above the minimum, as of `race`."""
    return np.array([[race(problem, seed, budget) for seed in seeds] for problem in PROBLEMS])


def saving(epochs: Floats, against: int) -> tuple[float, float, float]:
    """Share of epochs the first arm needs fewer than another, over all problems; its 95 % interval.

    Bootstrap over seeds, problems and arms of a seed staying together.

    Parameters
    ----------
    epochs : (problems, seeds, arms)
    """
    random = np.random.default_rng(0)
    seeds = epochs.shape[1]
    draws = [_saved(epochs[:, random.integers(seeds, size=seeds)], against) for _ in range(2_000)]
    low, high = np.quantile(draws, (0.025, 0.975))
    return _saved(epochs, against), float(low), float(high)


def _saved(epochs: Floats, against: int) -> float:
    return float(1 - epochs[..., 0].mean() / epochs[..., against].mean())


def section(found: Floats, budget: int, command: str, seconds: float) -> str:
    """The words and tables of the page."""
    epochs, above = found[..., 0], found[..., 1]
    names = list(ARMS)
    results = []
    for arm, name in enumerate(names):
        saved = "" if arm == 0 else "{:.0%} ({:.0%} … {:.0%})".format(*saving(epochs, arm))
        results.append([
            name, f"{epochs[..., arm].mean():.1f}", f"{np.median(epochs[..., arm]):g}",
            f"{(epochs[..., arm] > budget).mean():.0%}", f"{above[..., arm].mean():.2%}", saved,
        ])  # fmt: skip
    rows = [
        [problem.name, *(f"{each:.1f}" for each in means)]
        for problem, means in zip(PROBLEMS, epochs.mean(axis=1), strict=True)
    ]
    faster = sum(means[0] <= means[1:].min() for means in epochs.mean(axis=1))
    return "\n\n".join([
        TITLE,
        f"Written by `{command}` in {seconds:.0f} s (trading_bot {__version__}, numpy {np.__version__}, "
        f"{platform.machine()}, {os.cpu_count()} cores).",
        f"The rule: the rate is multiplied by {FACTOR:g} whenever the moving average (weight {SMOOTHING:g} on the "
        "newest) of what each epoch took off the validation loss is below `early_stopping_threshold`; all other "
        f"settings are the defaults. It was chosen among some thirty on seeds {TUNING_SEEDS[0]}–{TUNING_SEEDS[-1]} and "
        f"is judged here on seeds {JUDGING_SEEDS[0]}–{JUDGING_SEEDS[0] + epochs.shape[1] - 1}.",
        "The metric, fixed before judging: epochs until the validation loss is within "
        f"{GAP:.0%} (of the way from no model to it) of the exact minimum's; {budget + 1} where {budget} epochs do not "
        "suffice. (The first target tried, near the best loss of any arm, depends on the arms and rewards one lucky "
        "epoch; it was replaced while tuning, before a judging seed was seen.) "
        f"{len(PROBLEMS)} kinds of problem, {ROWS:,} rows, {FEATURES} features, {epochs.shape[1]} seeds each; arms "
        "share data and order of batches.",
        table(["arm", "mean epochs", "median", "never there", "best loss above the minimum", "adaptive needs fewer by"],
              results),
        "Intervals (95 %): bootstrap over seeds. The hope was 30–50 % fewer epochs. " + verdict(epochs),
        table(["mean epochs", *names], rows),
        f"Adaptive is the fastest, or as fast as any, in {faster} of {len(PROBLEMS)} kinds. It saves most where noise "
        "must be averaged out and loses where the problem is ill conditioned and small steps are all that is left to "
        "do: there a rate that was cut never comes back.",
    ])  # fmt: skip


def verdict(epochs: Floats) -> str:
    """Whether the hope came true, against each other arm."""
    words = []
    for arm, name in list(enumerate(ARMS))[1:]:
        _, low, high = saving(epochs, arm)
        if low >= 0.30:
            told = "it is met"
        elif low > 0:
            told = f"there is a gain, but {'not surely of that size' if high >= 0.30 else 'a smaller one'}"
        else:
            told = "no gain is shown"
        words.append(f"Against {name}: {told}.")
    return " ".join(words)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m trading_bot.experiments.learning_rate", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/evidence"), help="folder of learning.md")
    parser.add_argument("--seeds", type=int, default=len(JUDGING_SEEDS), help="data sets of each kind of problem")
    parser.add_argument("--epochs", type=int, default=100, help="most an arm may take")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    found = measure(range(JUDGING_SEEDS[0], JUDGING_SEEDS[0] + options.seeds), options.epochs)
    changed = "".join(
        f" --{name} {value}" for name, value in (("seeds", options.seeds), ("epochs", options.epochs))
        if value != parser.get_default(name)
    )  # fmt: skip
    command = f"python -m trading_bot.experiments.learning_rate --output docs/evidence{changed}"
    words = section(found, options.epochs, command, time.monotonic() - started)
    write_section(options.output / "learning.md", words, "# Learning")
    print(f"adaptive needs {saving(found[..., 0], 1)[0]:.0%} fewer epochs than plain decay; learning.md written")


if __name__ == "__main__":
    logger.remove()  # a line for every epoch of thousands of trainings
    main()
