"""Walk-forward: a TRM fitted on each fold's past and judged on what followed, beside two that look at nothing.

Judged are decisions `horizon` bars apart, so that no two outcomes overlap. The majority class of the training rows and
the class that earned most in them are chosen always; a choice that cannot beat these has learned nothing of use. Its
probabilities are judged beside the classes' shares in the training rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import f1_score

from trading_bot.domain.market import Floats
from trading_bot.errors import CheckpointError, TrainingError
from trading_bot.training.checkpoint_file import SUFFIX, read_checkpoint, write_checkpoint
from trading_bot.training.fitting import Watcher
from trading_bot.training.forecaster import describe_features
from trading_bot.training.history import TrainingHistory
from trading_bot.training.run_folder import check_settings, settings_hash
from trading_bot.training.scoring import COVERAGE, FEWEST, block_interval
from trading_bot.training.trm_labels import CLASSES, TRMData
from trading_bot.training.trm_trainer import TRMFitConfig, fit_trm, split_rows
from trading_bot.training.walk_forward import Rows, WalkForwardValidator

ARMS = ("trm", "majority", "best_on_train")
DRAWS = 1_000  # of the bootstrap of F1
BLOCK = 2  # decisions, at least: a block of the bootstrap is as long as two horizons


@dataclass(frozen=True, slots=True, eq=False)
class TRMFold:
    """One fold: the rows judged, and what each arm chose.

    Attributes
    ----------
    trained : rows before the fold, those that validate included
    held : of the data, `horizon` apart
    chosen : int64 (rows,), by arm
    probabilities : (rows, classes), the network's
    steps : int64 (rows,), supervision steps that the network took
    """

    number: int
    trained: int
    held: Rows
    chosen: Mapping[str, Rows]
    probabilities: Floats
    steps: Rows
    threshold: float
    history: TrainingHistory


@dataclass(frozen=True, slots=True)
class TRMScore:
    """One arm over rows that were not trained on; intervals are 95 %, by a block bootstrap over time.

    Attributes
    ----------
    accuracy : share of rows whose label was chosen
    macro_f1 : mean over the classes that were labels or were chosen
    pnl : mean of what the chosen class earned over the horizon, net of costs, a ratio
    """

    rows: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    pnl: float
    pnl_interval: tuple[float, float]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class TRMEvaluation:
    """All folds, oldest first."""

    data: TRMData
    folds: tuple[TRMFold, ...]

    @property
    def held(self) -> Rows:
        """Rows judged, of all folds, in order of time."""
        return np.concatenate([fold.held for fold in self.folds])

    def chosen(self, arm: str) -> Rows:
        """What an arm chose in all folds, in order of time."""
        return np.concatenate([fold.chosen[arm] for fold in self.folds])

    @property
    def mean_steps(self) -> float:
        """Supervision steps that the network took, on average."""
        return float(np.concatenate([fold.steps for fold in self.folds]).mean())

    def right(self, arm: str) -> Floats:
        """1 where the label was chosen, else 0."""
        right: Floats = (self.chosen(arm) == self.data.labels[self.held]).astype(np.float64)
        return right

    def pnl(self, arm: str) -> Floats:
        """What the chosen class earned in each row."""
        found: Floats = self.data.pnl[self.held, self.chosen(arm)]
        return found

    def surprise(self) -> Floats:
        """−ln of the probability that the network gave to the label, in each row: its mean is the log loss."""
        parts = [_surprise(fold.probabilities, self.data.labels[fold.held]) for fold in self.folds]
        return np.concatenate(parts)

    def surprise_of_shares(self) -> Floats:
        """The same of the classes' shares in each fold's training rows, one label of each class added."""
        labels = self.data.labels
        shares = (np.tile(class_shares(labels[: fold.trained]), (len(fold.held), 1)) for fold in self.folds)
        return np.concatenate(
            [_surprise(each, labels[fold.held]) for each, fold in zip(shares, self.folds, strict=True)]
        )

    def scores(self) -> dict[str, TRMScore]:
        """Each arm over all folds."""
        labels = self.data.labels[self.held]
        return {arm: score_choices(self.chosen(arm), labels, self.pnl(arm)) for arm in ARMS}


def splits_of(data: TRMData, folds: int) -> list[tuple[Rows, Rows]]:
    """The folds of `walk_forward_trm`, `horizon` rows purged before each; raises TrainingError if they do not fit."""
    return WalkForwardValidator(len(data.labels), 0.2, folds, gap=data.horizon).get_splits()


def check_folds(data: TRMData, config: TRMFitConfig, folds: int) -> None:
    """Refuse what leaves a fold, or the fit on all rows, too little; raises TrainingError."""
    for rows in (len(data.labels), *(len(train) for train, _ in splits_of(data, folds))):
        split_rows(rows, data.horizon, config.validation)


def walk_forward_trm(
    data: TRMData,
    config: TRMFitConfig,
    folds: int,
    watch: Watcher = lambda fit, epoch, values: None,
    folder: Path | None = None,
) -> TRMEvaluation:
    """Fit and judge on each fold.

    Parameters
    ----------
    folder : where finished folds are kept; what is there already is not done again, so it must be of this data

    Raises
    ------
    TrainingError
        If the rows do not allow these folds, or as `fit_trm`.
    CheckpointError
        If a fold that was kept is damaged, of other rows or other settings.
    """
    check_folds(data, config, folds)
    done = []
    asked = settings_hash(config.as_json(), describe_features(data.names, data.length), data.horizon, data.cost)
    for number, (train, test) in enumerate(splits_of(data, folds), start=1):
        held, rows = test[:: data.horizon], len(train)
        kept = None if folder is None else folder / f"fold-{number}{SUFFIX}"
        if kept is not None and kept.exists():
            done.append(_read(kept, number, rows, held, asked))
            continue
        fitted = fit_trm(data, config, rows, _naming(watch, f"fold {number}/{folds}"))
        said = fitted.selector.choose(data.X[held])
        constant = constant_choices(data, rows)
        chosen = {"trm": said.classes, **{arm: np.full(len(held), each) for arm, each in constant.items()}}
        fold = TRMFold(
            number, rows, held, chosen, said.probabilities, said.steps, fitted.selector.threshold, fitted.history
        )
        if kept is not None:
            _write(kept, fold, asked)
        done.append(fold)
    return TRMEvaluation(data, tuple(done))


def class_shares(labels: Rows) -> Floats:
    """Share of each class among labels (n,), one of each added so that none is impossible: (classes,), sum 1."""
    counts = np.bincount(labels, minlength=len(CLASSES)) + 1.0
    shares: Floats = counts / counts.sum()
    return shares


def constant_choices(data: TRMData, rows: int) -> dict[str, int]:
    """The classes that would be chosen always, by what is known of the first `rows` rows."""
    counts = np.bincount(data.labels[:rows], minlength=len(CLASSES))
    return {"majority": int(counts.argmax()), "best_on_train": int(data.pnl[:rows].mean(axis=0).argmax())}


def score_choices(chosen: Rows, labels: Rows, pnl: Floats, seed: int = 0) -> TRMScore:
    """Score choices (n,) against labels (n,), in order of time; `pnl` (n,) is what each choice earned.

    Raises
    ------
    TrainingError
        If there are none, or not as many of each.
    """
    if not len(chosen) or not chosen.shape == labels.shape == pnl.shape:
        raise TrainingError(
            f"choices have shape {chosen.shape}, labels {labels.shape} and profits {pnl.shape}; wanted (n,) of each, "
            "n ≥ 1"
        )
    right = (chosen == labels).astype(np.float64)
    return TRMScore(
        rows=len(labels),
        accuracy=float(right.mean()),
        accuracy_interval=block_interval(right, BLOCK, seed),
        macro_f1=float(f1_score(labels, chosen, average="macro", zero_division=0)),
        macro_f1_interval=f1_interval(chosen[None], labels, seed),
        pnl=float(pnl.mean()),
        pnl_interval=block_interval(pnl, BLOCK, seed),
    )


def f1_interval(chosen: Rows, labels: Rows, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the macro-F1 by the circular block bootstrap, blocks as `block_interval` has them.

    Where fewer than four blocks fit, nothing is known of how it varies: (0, 1).

    Parameters
    ----------
    chosen : (k, n), by k arms whose mean is meant; all draw the same blocks
    labels : (n,)
    """
    n = len(labels)
    length = max(1, BLOCK, round(n ** (1 / 3)))
    if n < FEWEST * length:
        return 0.0, 1.0
    names = np.arange(len(CLASSES))
    is_label, is_chosen = (
        np.broadcast_to(labels[:, None] == names, (*chosen.shape, len(names))),
        chosen[..., None] == names,
    )
    hits = np.stack((is_label & is_chosen, is_label, is_chosen), axis=2).astype(np.int64)  # (k, n, 3, 8)
    cumulated = np.cumsum(np.concatenate((hits, hits[:, :length]), axis=1), axis=1)
    sums = cumulated[:, length - 1 : length - 1 + n].copy()  # of the block that begins at each row
    sums[:, 1:] -= cumulated[:, : n - 1]
    random = np.random.default_rng(seed)
    found = [
        np.mean([_macro_f1(*arm) for arm in sums[:, random.integers(0, n, round(n / length))].sum(axis=1)])
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(found, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def _macro_f1(both: Rows, label: Rows, choice: Rows) -> float:
    """Of counts by class: right choices, labels, choices."""
    there = label + choice > 0
    return float((2 * both[there] / (label + choice)[there]).mean())


def _surprise(probabilities: Floats, labels: Rows) -> Floats:
    """−ln p of each row's label; what rounds to 0 counts as the smallest number there is."""
    found: Floats = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float64).tiny))
    return found


def _write(path: Path, fold: TRMFold, asked: str) -> None:
    tensors = {f"chosen {arm}": torch.from_numpy(each) for arm, each in fold.chosen.items()}
    tensors |= {"probabilities": torch.from_numpy(fold.probabilities), "steps": torch.from_numpy(fold.steps)}
    facts = {"kind": "trm fold", "asked": asked, "trained": fold.trained, "threshold": fold.threshold,
             "history": fold.history}  # fmt: skip
    write_checkpoint(path, tensors, facts)


def _read(path: Path, number: int, trained: int, held: Rows, asked: str) -> TRMFold:
    tensors, facts = read_checkpoint(path)
    check_settings(facts.get("asked"), asked, path)
    shapes: dict[str, tuple[int, ...]] = {f"chosen {arm}": (len(held),) for arm in ARMS}
    shapes |= {"probabilities": (len(held), len(CLASSES)), "steps": (len(held),)}
    if {name: tuple(each.shape) for name, each in tensors.items()} != shapes or facts["trained"] != trained:
        raise CheckpointError(f"{path} is not this fold's: it holds other rows; remove it, and the fold is done again")
    return TRMFold(
        number, trained, held, {arm: tensors[f"chosen {arm}"].numpy() for arm in ARMS},
        tensors["probabilities"].numpy(), tensors["steps"].numpy(), facts["threshold"],
        TrainingHistory(facts["history"]),
    )  # fmt: skip


def _naming(watch: Watcher, fold: str) -> Watcher:
    return lambda fit, epoch, values: watch(f"{fold} {fit}", epoch, values)
