"""Which features a model is given: chosen inside each training fold, by rank correlation with the forward return.

1. Columns that are constant or more than 5 % missing are dropped.
2. Relevance: Spearman's rank correlation with the forward return.
3. In order of relevance, a column that correlates more than 0.9 with one already kept is dropped.
4. Greedy mRMR (Ding & Peng 2005, as a quotient): next is the column with the largest relevance over its mean
   correlation with those chosen, until there are k. A mean below 1/√n, the standard error of ρ, counts as 1/√n:
   otherwise noise that happens to be orthogonal to the first choice wins over everything that tells of the target.
5. Stability: the same on five contiguous blocks, compared by their Jaccard index.
6. The result is frozen: `save` and `load` of `selection_config`.

A missing value takes the middle rank. All is deterministic; of equals the first column wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from trading_bot.domain.market import Floats
from trading_bot.features.columns import RowNumbers

LEAST_ROWS = 10  # in a fold or a block: a rank correlation of fewer rows says nothing


@dataclass(frozen=True, slots=True)
class Stability:
    """How much the choice depends on the time it was made in.

    Attributes
    ----------
    blocks : the names chosen on each contiguous block, oldest first
    between_blocks : mean Jaccard index over all pairs of blocks, 0..1
    with_whole : Jaccard index of each block's choice with the choice on all rows
    """

    blocks: tuple[tuple[str, ...], ...]
    between_blocks: float
    with_whole: tuple[float, ...]


class FeatureSelector(SelectorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A scikit-learn transformer that keeps `k` columns; a step of a Pipeline, fitted within each fold.

    Parameters
    ----------
    k : how many columns to keep (fewer if fewer are left)
    max_correlation : |ρ| above which the less relevant of two columns goes
    max_missing : share of NaN above which a column goes
    blocks : contiguous blocks of the stability report; 0 for none

    Attributes
    ----------
    n_features_in_, feature_names_in_ : as scikit-learn has them
    ranking_ : int64 (≤ k,), positions of the chosen columns, in the order they were chosen
    relevance_ : float64 (F,), Spearman's ρ with the target; NaN for a column dropped in step 1
    stability_ : `Stability`, or None with `blocks=0`
    """

    _parameter_limits: ClassVar[dict[str, tuple[Any, float, float]]] = {
        "k": (Integral, 1, np.inf),
        "max_correlation": (Real, 0, 1),
        "max_missing": (Real, 0, 1),
        "blocks": (Integral, 0, np.inf),
    }

    def __init__(
        self, k: int = 20, *, max_correlation: float = 0.9, max_missing: float = 0.05, blocks: int = 5
    ) -> None:
        self.k = k
        self.max_correlation = max_correlation
        self.max_missing = max_missing
        self.blocks = blocks

    def fit(self, X: Any, y: Any) -> FeatureSelector:
        """Choose columns.

        Parameters
        ----------
        X : (n, F), rows in order of time; NaN is allowed
        y : (n,), the forward return of each row

        Raises
        ------
        ValueError
            If a parameter is out of its range, rows are too few, lengths differ, `y` is not finite or does not move, or
            no column is left.
        """
        self._check_parameters()
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_all_finite="allow-nan", y_numeric=True)
        needed = LEAST_ROWS * max(1, int(self.blocks))
        if len(X) < needed:
            raise ValueError(
                f"{len(X)} rows are too few to select features; at least {needed} are needed "
                f"({LEAST_ROWS} in each of {max(1, int(self.blocks))} blocks)"
            )
        if np.isinf(X).any():
            raise ValueError("X holds infinity; wanted finite numbers or NaN")
        if (y == y[0]).all():
            raise ValueError(f"the target is {y[0]} in every row; wanted a forward return that moves")
        self.ranking_, self.relevance_ = self._choose(X, y)
        if not len(self.ranking_):
            raise ValueError(
                f"all {X.shape[1]} columns are constant or more than {self.max_missing:.0%} missing; "
                f"give more rows or raise max_missing"
            )
        self.stability_ = self._stability(X, y) if self.blocks else None
        return self

    def _choose(self, X: Floats, y: Floats) -> tuple[RowNumbers, Floats]:
        relevance = np.full(X.shape[1], np.nan)
        usable = usable_columns(X, self.max_missing)
        if not len(usable) or (y == y[0]).all():
            return np.empty(0, np.int64), relevance
        ranks = centred_ranks(np.column_stack((X[:, usable], y)))
        correlation = ranks.T @ ranks
        relevance[usable] = correlation[:-1, -1]
        strength, between = np.abs(correlation[:-1, -1]), np.abs(correlation[:-1, :-1])
        kept = drop_redundant(strength, between, self.max_correlation)
        chosen = most_relevant_least_redundant(strength[kept], between[np.ix_(kept, kept)], int(self.k), len(X) ** -0.5)
        return usable[kept[chosen]], relevance

    def _stability(self, X: Floats, y: Floats) -> Stability:
        names = self._names()
        blocks = tuple(
            tuple(str(names[column]) for column in self._choose(X[rows], y[rows])[0])
            for rows in np.array_split(np.arange(len(X)), int(self.blocks))
        )
        whole = [str(names[column]) for column in self.ranking_]
        pairs = [jaccard(a, b) for a, b in combinations(blocks, 2)]
        return Stability(
            blocks, float(np.mean(pairs)) if pairs else 1.0, tuple(jaccard(block, whole) for block in blocks)
        )

    def _names(self) -> npt.NDArray[np.object_]:
        default = np.array([f"x{column}" for column in range(self.n_features_in_)], dtype=object)
        names: npt.NDArray[np.object_] = getattr(self, "feature_names_in_", default)
        return names

    def _check_parameters(self) -> None:
        for name, (kind, least, most) in self._parameter_limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
                wanted = f"a whole number ≥ {least}" if kind is Integral else f"a number from {least} to {most}"
                raise ValueError(f"{name} is {value!r}; wanted {wanted}")

    def _get_support_mask(self) -> npt.NDArray[np.bool_]:
        check_is_fitted(self, "ranking_")
        mask = np.zeros(self.n_features_in_, np.bool_)
        mask[self.ranking_] = True
        return mask

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.required = True
        return tags


def usable_columns(X: Floats, max_missing: float) -> RowNumbers:
    """Positions of the columns of `X` (n, F) that move and of which no more than `max_missing` is NaN."""
    missing = np.isnan(X)
    least = np.where(missing, np.inf, X).min(axis=0)
    most = np.where(missing, -np.inf, X).max(axis=0)
    return np.flatnonzero((missing.mean(axis=0) <= max_missing) & (least < most))


def centred_ranks(X: Floats) -> Floats:
    """Mean ranks of each column of `X` (n, F), centred and of length 1, so that products are Spearman's ρ.

    A missing value gets the middle rank, that is 0. Nothing needs a stable sort here, and numpy's default one takes a
    fifth of the time of the one in scipy's `rankdata`.
    """
    ranks = np.zeros(X.shape, order="F")
    for column, values in zip(ranks.T, np.ascontiguousarray(X.T), strict=True):
        order = np.argsort(values)[: len(values) - np.count_nonzero(np.isnan(values))]  # NaN is last
        ordered = values[order]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(order) else order
        ends = np.append(starts[1:], len(order))  # of runs of equals, which share their mean rank
        column[order] = np.repeat((starts + ends - len(order)) / 2, ends - starts)
    length = np.linalg.norm(ranks, axis=0)
    result: Floats = ranks / np.where(length > 0, length, 1)
    return result


def drop_redundant(relevance: Floats, between: Floats, most: float) -> RowNumbers:
    """Positions kept, most relevant first, so that no two of them correlate above `most`.

    Parameters
    ----------
    relevance : (F,), |ρ| with the target
    between : (F, F), |ρ| between columns
    """
    kept: list[int] = []
    for column in np.argsort(-relevance, kind="stable"):
        if not kept or between[column, kept].max() <= most:
            kept.append(int(column))
    return np.array(kept, dtype=np.int64)


def most_relevant_least_redundant(relevance: Floats, between: Floats, k: int, floor: float) -> RowNumbers:
    """Greedy mRMR: positions of up to `k` columns in the order they are chosen.

    `relevance` and `between` as of `drop_redundant`; a mean correlation below `floor` counts as `floor`.
    """
    chosen: list[int] = []
    total = np.zeros(len(relevance))
    for _ in range(min(k, len(relevance))):
        worth = relevance / np.maximum(total / max(1, len(chosen)), floor)
        worth[chosen] = -1
        best = int(np.argmax(worth))
        chosen.append(best)
        total += between[:, best]
    return np.array(chosen, dtype=np.int64)


def jaccard(a: tuple[str, ...] | list[str], b: tuple[str, ...] | list[str]) -> float:
    """Shared over all, 0..1; two empty choices agree."""
    together = set(a) | set(b)
    return len(set(a) & set(b)) / len(together) if together else 1.0
