"""Selection: the six steps against slow independent ones, scikit-learn's contract, and no peeking."""

from __future__ import annotations

import warnings
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import TimeSeriesSplit, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from tests.features.market import candles_of
from trading_bot.features.compute import feature_matrix
from trading_bot.features.selection import FeatureSelector, jaccard, most_relevant_least_redundant
from trading_bot.features.table import CANDIDATES
from trading_bot.features.windows import forward_returns


def table(rows: int = 400, columns: int = 12, seed: int = 3) -> tuple[pd.DataFrame, np.ndarray]:
    """Columns in correlated pairs, some of which tell of the target."""
    random = np.random.default_rng(seed)
    base = random.normal(size=(rows, columns // 2))
    near = base * random.uniform(0.3, 3, columns // 2) + random.normal(size=base.shape)
    values = np.column_stack((base, near))
    target = values @ random.normal(size=columns) + 3 * random.normal(size=rows)
    return pd.DataFrame(values, columns=[f"f{number}" for number in range(columns)]), target


def slow_choice(X: pd.DataFrame, y: np.ndarray, k: int, most: float = 0.9, missing: float = 0.05) -> list[str]:
    """The steps 1 to 4 one number at a time."""
    usable = [name for name in X if X[name].nunique() > 1 and X[name].isna().mean() <= missing]
    filled = {name: X[name].rank().fillna(X[name].rank().mean()) for name in usable}

    def rho(a: Any, b: Any) -> float:
        return abs(float(np.corrcoef(a, b)[0, 1]))

    relevance = {name: rho(filled[name], pd.Series(y).rank()) for name in usable}
    kept: list[str] = []
    for name in sorted(usable, key=lambda name: -relevance[name]):
        if all(rho(filled[name], filled[other]) <= most for other in kept):
            kept.append(name)
    chosen: list[str] = []
    while kept and len(chosen) < k:

        def worth(name: str) -> float:
            redundancy = np.mean([rho(filled[name], filled[other]) for other in chosen]) if chosen else 0
            return relevance[name] / max(float(redundancy), float(len(X) ** -0.5))

        best = max(kept, key=worth)
        kept.remove(best)
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("k", [1, 4, 12])
def test_it_chooses_what_the_slow_steps_choose(seed: int, k: int) -> None:
    X, y = table(seed=seed)
    X["f1"] = X["f0"] + 1e-3 * X["f1"]  # redundant
    X["f2"] = 5.0  # constant
    X.loc[:30, "f3"] = np.nan  # more than 5 % missing
    X.loc[5:14, "f4"] = np.nan  # less
    selector = FeatureSelector(k).fit(X, y)
    expected = slow_choice(X, y, k)
    assert [X.columns[column] for column in selector.ranking_] == expected
    assert selector.get_feature_names_out().tolist() == [name for name in X if name in expected]
    assert not {"f2", "f3"} & set(expected)
    assert not {"f0", "f1"} <= set(expected)
    assert np.isnan(selector.relevance_[[2, 3]]).all()


def test_relevance_is_spearmans() -> None:
    X, y = table()
    found = FeatureSelector().fit(X, y).relevance_
    expected = [spearmanr(X[name], y).statistic for name in X]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_monotone_change_of_a_column_changes_nothing() -> None:
    X, y = table()
    assert (FeatureSelector(5).fit(X, y).ranking_ == FeatureSelector(5).fit(np.exp(X), y).ranking_).all()


def test_of_equals_the_first_column_wins() -> None:
    X, y = table()
    twins = pd.concat([X, X.add_suffix("_twin")], axis=1)
    chosen = FeatureSelector(12).fit(twins, y).get_feature_names_out()
    assert not [name for name in chosen if name.endswith("_twin")]


def test_it_is_deterministic_and_leaves_its_input_alone() -> None:
    X, y = table()
    before = X.copy()
    first, second = FeatureSelector(5).fit(X, y), FeatureSelector(5).fit(X, y)
    assert (first.ranking_ == second.ranking_).all()
    assert first.stability_ == second.stability_
    pd.testing.assert_frame_equal(X, before)


def test_the_stability_report_is_that_of_five_blocks() -> None:
    X, y = table(rows=403)
    selector = FeatureSelector(4).fit(X, y)
    report = selector.stability_
    assert report is not None
    blocks = [
        slow_choice(X.iloc[rows].reset_index(drop=True), y[rows], 4) for rows in np.array_split(np.arange(403), 5)
    ]
    assert [list(block) for block in report.blocks] == blocks
    pairs = [len(set(a) & set(b)) / len(set(a) | set(b)) for a, b in combinations(blocks, 2)]
    assert report.between_blocks == pytest.approx(np.mean(pairs))
    whole = selector.get_feature_names_out().tolist()
    assert report.with_whole == pytest.approx([jaccard(block, whole) for block in blocks])
    assert FeatureSelector(4, blocks=0).fit(X, y).stability_ is None
    assert jaccard([], []) == 1


def test_noise_that_is_orthogonal_to_the_first_choice_does_not_win() -> None:
    """Relevance over a correlation of nearly 0 would be anything."""
    relevance = np.array([0.7, 0.45, 0.03])
    between = np.array([[1, 0.3, 1e-4], [0.3, 1, 0.01], [1e-4, 0.01, 1]])
    assert most_relevant_least_redundant(relevance, between, 2, floor=1e-3).tolist() == [0, 2]
    assert most_relevant_least_redundant(relevance, between, 2, floor=1000**-0.5).tolist() == [0, 1]


def test_what_always_tells_is_stable_and_noise_is_not() -> None:
    random = np.random.default_rng(0)
    telling = pd.DataFrame(random.normal(size=(1000, 2))).add_prefix("t")
    y = telling.to_numpy().sum(axis=1) + random.normal(size=1000)
    noise = pd.DataFrame(random.normal(size=(1000, 40))).add_prefix("n")
    both = FeatureSelector(2).fit(telling.join(noise), y).stability_
    none = FeatureSelector(2).fit(noise, y).stability_
    assert both is not None
    assert none is not None
    assert both.between_blocks > 0.8 > 0.2 > none.between_blocks


def score(predicted: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(predicted, y)[0, 1])


def test_noise_gains_nothing_when_it_is_selected_inside_the_folds() -> None:
    """Chosen on all rows, the best of 500 noise columns seem to predict; chosen in each fold, they do not."""
    random = np.random.default_rng(11)
    X, y = random.normal(size=(300, 500)), random.normal(size=300)
    folds = [(np.setdiff1d(np.arange(300), block), block) for block in np.array_split(np.arange(300), 5)]
    peeked = FeatureSelector(20).fit_transform(X, y)
    outside = score(cross_val_predict(LinearRegression(), peeked, y, cv=folds), y)
    inside = score(cross_val_predict(make_pipeline(FeatureSelector(20), LinearRegression()), X, y, cv=folds), y)
    assert outside > 0.3
    assert abs(inside) < 0.15


def test_a_column_that_knows_only_the_validation_rows_is_not_chosen() -> None:
    random = np.random.default_rng(5)
    X, y = random.normal(size=(600, 40)), random.normal(size=600)
    X[:, :5] += 0.5 * y[:, None]
    train, test = list(TimeSeriesSplit(2, gap=6).split(X))[-1]
    X[test, 39] = y[test]  # the leak
    assert 39 in FeatureSelector(5, blocks=0).fit(X, y).ranking_
    assert 39 not in FeatureSelector(5, blocks=0).fit(X[train], y[train]).ranking_


def test_rows_that_come_later_change_no_earlier_choice() -> None:
    X, y = table()
    half = FeatureSelector(4).fit(X[:200], y[:200])
    X.iloc[200:] = 1e9
    assert (FeatureSelector(4).fit(X[:200], y[:200]).ranking_ == half.ranking_).all()


def test_it_is_a_step_of_a_pipeline() -> None:
    X, y = table()
    pipeline = Pipeline([("scale", StandardScaler()), ("select", FeatureSelector(4)), ("model", LinearRegression())])
    copied = clone(pipeline).set_params(select__k=3).fit(X, y)
    assert copied["model"].n_features_in_ == 3
    assert pipeline["select"].get_params() == {"k": 4, "max_correlation": 0.9, "max_missing": 0.05, "blocks": 5}
    assert not hasattr(pipeline["select"], "ranking_")
    chosen = FeatureSelector(3).fit(X, y).get_feature_names_out()  # ranks know nothing of the scale
    assert copied[:-1].get_feature_names_out().tolist() == chosen.tolist()


def test_it_gives_dataframes_when_asked() -> None:
    X, y = table()
    selector = FeatureSelector(4).set_output(transform="pandas").fit(X, y)
    chosen = selector.transform(X)
    assert list(chosen.columns) == selector.get_feature_names_out().tolist()
    pd.testing.assert_frame_equal(chosen, X[list(chosen.columns)])


def test_missing_values_pass_through() -> None:
    X, y = table()
    selector = FeatureSelector(12, max_correlation=1.0).fit(X, y)
    X.iloc[0, 0] = np.nan
    assert np.isnan(selector.transform(X)[0, 0])


def test_it_keeps_scikit_learns_contract() -> None:
    """All of its checks, but that scikit-learn wants its own words for too few rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional parts that are not installed are skipped with a warning
        results = check_estimator(FeatureSelector(blocks=0, max_missing=0.5), on_fail=None)
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    assert failed <= {"check_fit2d_1sample"}
    assert sum(result["status"] == "passed" for result in results) > 30


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"k": 0}, "k is 0; wanted a whole number ≥ 1"),
        ({"k": 2.5}, "k is 2.5"),
        ({"max_correlation": 1.5}, "max_correlation is 1.5; wanted a number from 0 to 1"),
        ({"max_missing": "a"}, "max_missing is 'a'"),
        ({"blocks": -1}, "blocks is -1"),
    ],
)
def test_a_parameter_out_of_its_range_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureSelector(**changed).fit(*table())


def test_rows_it_cannot_use_are_refused() -> None:
    X, y = table()
    with pytest.raises(ValueError, match=r"40 rows are too few .* at least 50"):
        FeatureSelector().fit(X[:40], y[:40])
    with pytest.raises(ValueError, match=r"the target is 0\.0 in every row"):
        FeatureSelector().fit(X, np.zeros(400))
    with pytest.raises(ValueError, match="all 12 columns are constant"):
        FeatureSelector().fit(X * 0, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        FeatureSelector().fit(X, y[:-1])
    with pytest.raises(ValueError, match="NaN"):
        FeatureSelector().fit(X, np.where(y > 0, np.nan, y))
    with pytest.raises(ValueError, match="infinity"):
        FeatureSelector().fit(X.replace(X.iloc[0, 0], np.inf), y)
    with pytest.raises(ValueError, match="12 features"):
        FeatureSelector().fit(X.to_numpy(), y).transform(X.to_numpy()[:, :5])


def test_a_block_without_any_price_move_chooses_nothing() -> None:
    X, y = table()
    y[:80] = 0
    report = FeatureSelector(3).fit(X, y).stability_
    assert report is not None
    assert report.blocks[0] == ()


def test_twenty_are_chosen_of_all_candidates() -> None:
    candles = candles_of(1500)
    matrix = feature_matrix(candles, CANDIDATES)
    target = forward_returns(candles, 6)
    kept = matrix.index < len(target)
    X = pd.DataFrame(matrix.values.T[kept], columns=list(matrix.names))
    chosen = FeatureSelector().fit(X, target[matrix.index[kept]]).get_feature_names_out()
    assert len(chosen) == 20
    between = np.abs(X[list(chosen)].corr(method="spearman").to_numpy()) - np.eye(20)
    assert between.max() <= 0.9 + 1e-9
