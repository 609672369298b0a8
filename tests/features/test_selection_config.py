"""`feature_selection_config.json`: what is written is read again, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.features.test_selection import table
from trading_bot.errors import ConfigurationError
from trading_bot.features.selection import FeatureSelector
from trading_bot.features.selection_config import FILE_NAME, from_json, load, save, to_json


@pytest.mark.parametrize("blocks", [0, 5])
def test_a_selection_comes_back_as_it_was(tmp_path: Path, blocks: int) -> None:
    X, y = table()
    X["f2"] = 1.0
    selector = FeatureSelector(4, blocks=blocks).fit(X, y)
    path = tmp_path / "feature_selection_results" / FILE_NAME
    save(selector, path)
    again = load(path)
    assert again.get_params() == selector.get_params()
    assert (again.ranking_ == selector.ranking_).all()
    assert (again.feature_names_in_ == selector.feature_names_in_).all()
    assert again.stability_ == selector.stability_
    np.testing.assert_array_equal(again.relevance_, selector.relevance_)
    assert (again.transform(X) == selector.transform(X)).all()
    assert to_json(again) == path.read_text(encoding="utf-8")
    assert [file.name for file in path.parent.iterdir()] == [FILE_NAME]


def test_a_table_without_names_stays_without(tmp_path: Path) -> None:
    X, y = table()
    selector = FeatureSelector(4).fit(X.to_numpy(), y)
    save(selector, tmp_path / FILE_NAME)
    again = load(tmp_path / FILE_NAME)
    assert not hasattr(again, "feature_names_in_")
    assert (again.transform(X.to_numpy()) == selector.transform(X.to_numpy())).all()


def test_other_features_than_those_frozen_are_refused() -> None:
    X, y = table()
    again = from_json(to_json(FeatureSelector(4).fit(X, y)))
    with pytest.raises(ValueError, match="feature names"):
        again.transform(X.rename(columns={"f0": "other"}))


def test_a_selector_that_chose_nothing_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="call fit"):
        save(FeatureSelector(), tmp_path / FILE_NAME)
    assert not list(tmp_path.iterdir())


def changed(**parts: Any) -> str:
    content = json.loads(to_json(FeatureSelector(4).fit(*table())))
    return json.dumps({**content, **parts})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        (changed()[:200], "is not JSON"),
        ("[]", "holds list; wanted an object"),
        ("{}", "has version None; wanted version 1"),
        (changed(version=2), "has version 2"),
        (changed(more=1), "has the keys"),
        (changed(parameters={"k": 3}), "has parameters"),
        (changed(parameters={"k": 0, "max_correlation": 0.9, "max_missing": 0.05, "blocks": 5}), "k is 0"),
        (changed(features=[]), "has features"),
        (changed(features="f0"), "has features"),
        (changed(selected=[]), "has selected"),
        (changed(selected=["f0", "f0"]), "has selected"),
        (changed(selected=["rsi"]), "selects .'rsi'.; wanted names among its features"),
        (changed(selected=[1]), "has selected"),
        (changed(relevance={"f0": 0.1}), "has relevance"),
        (changed(relevance={f"f{n}": 7 for n in range(12)}), "has relevance"),
        (changed(relevance=None), "has relevance"),
        (changed(stability={"blocks": []}), "has stability"),
        (changed(stability=3), "has stability"),
    ],
)
def test_a_text_that_is_none_is_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message) as error:
        load(path)
    assert FILE_NAME in str(error.value)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / FILE_NAME)
    (tmp_path / FILE_NAME).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / FILE_NAME)
