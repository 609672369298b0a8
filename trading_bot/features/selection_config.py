"""A frozen selection as text: `feature_selection_config.json`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from trading_bot.durable import replacing
from trading_bot.errors import ConfigurationError
from trading_bot.features.selection import FeatureSelector, Stability

FILE_NAME = "feature_selection_config.json"
VERSION = 1
KEYS = {"version", "parameters", "features", "selected", "relevance", "stability"}


def to_json(selector: FeatureSelector) -> str:
    """A fitted selector as JSON: parameters, all columns, those chosen in their order, relevance, stability."""
    names = [str(name) for name in selector._names()] if hasattr(selector, "ranking_") else []
    if not names:
        raise ConfigurationError("this feature selector has chosen nothing yet; call fit before saving it")
    stability = selector.stability_
    content = {
        "version": VERSION,
        "parameters": {
            "k": int(selector.k),
            "max_correlation": float(selector.max_correlation),
            "max_missing": float(selector.max_missing),
            "blocks": int(selector.blocks),
        },
        "features": names,
        "selected": [names[column] for column in selector.ranking_],
        "relevance": {
            name: None if math.isnan(value) else float(value)
            for name, value in zip(names, selector.relevance_, strict=True)
        },
        "stability": stability
        and {
            "blocks": [list(block) for block in stability.blocks],
            "between_blocks": stability.between_blocks,
            "with_whole": list(stability.with_whole),
        },
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str, source: str = FILE_NAME) -> FeatureSelector:
    """The selector a text describes, fitted: it transforms tables whose columns are the text's `features`.

    Raises
    ------
    ConfigurationError
        If the text is not such a description; `source` is named.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"{source} is not JSON ({error}); select the features again to write a new one"
        ) from None
    _check(content, source)
    selector = FeatureSelector(**content["parameters"])
    try:
        selector._check_parameters()
    except ValueError as error:
        raise ConfigurationError(f"{source}: {error}") from None
    names = content["features"]
    selector.n_features_in_ = len(names)
    if names != [f"x{column}" for column in range(len(names))]:  # those of a table without names
        selector.feature_names_in_ = np.array(names, dtype=object)
    selector.ranking_ = np.array([names.index(name) for name in content["selected"]], dtype=np.int64)
    relevance = [content["relevance"][name] for name in names]
    selector.relevance_ = np.array([np.nan if value is None else value for value in relevance], dtype=np.float64)
    stability = content["stability"]
    selector.stability_ = stability and Stability(
        tuple(tuple(block) for block in stability["blocks"]),
        float(stability["between_blocks"]),
        tuple(float(value) for value in stability["with_whole"]),
    )
    return selector


def save(selector: FeatureSelector, path: Path) -> None:
    """Write `to_json` to `path`, whole or not at all."""
    text = to_json(selector)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text.encode())


def load(path: Path) -> FeatureSelector:
    """Read what `save` wrote; a ConfigurationError if it is absent or something else."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error}); wanted a {FILE_NAME} as the feature selection writes it"
        ) from None
    return from_json(text, str(path))


def _check(content: Any, source: str) -> None:
    _want(isinstance(content, dict), source, f"holds {type(content).__name__}", "an object")
    _want(content.get("version") == VERSION, source, f"has version {content.get('version')!r}", f"version {VERSION}")
    _want(set(content) == KEYS, source, f"has the keys {sorted(content)}", f"{sorted(KEYS)}")
    parameters = content["parameters"]
    wanted = {"k", "max_correlation", "max_missing", "blocks"}
    _want(
        isinstance(parameters, dict) and set(parameters) == wanted,
        source,
        f"has parameters {parameters!r}",
        f"{sorted(wanted)}",
    )
    for key in ("features", "selected"):
        _want(_names(content[key]), source, f"has {key} {content[key]!r}", "a list of different names, not empty")
    strange = [name for name in content["selected"] if name not in content["features"]]
    _want(not strange, source, f"selects {strange}", "names among its features")
    relevance = content["relevance"]
    good = isinstance(relevance, dict) and set(relevance) == set(content["features"])
    good = good and all(value is None or _share(value, -1) for value in relevance.values())
    _want(good, source, f"has relevance {relevance!r}", "a number from -1 to 1, or null, for each feature")
    _want(
        content["stability"] is None or _stability(content["stability"]),
        source,
        f"has stability {content['stability']!r}",
        "null, or blocks (lists of names), between_blocks and with_whole (numbers from 0 to 1)",
    )


def _names(value: Any, *, least: int = 1) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= least
        and all(isinstance(name, str) and name for name in value)
        and len(set(value)) == len(value)
    )


def _share(value: Any, least: float = 0) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least - 1e-9 <= value <= 1 + 1e-9


def _stability(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"blocks", "between_blocks", "with_whole"}
        and isinstance(value["blocks"], list)
        and all(_names(block, least=0) for block in value["blocks"])
        and _share(value["between_blocks"])
        and isinstance(value["with_whole"], list)
        and len(value["with_whole"]) == len(value["blocks"])
        and all(_share(share) for share in value["with_whole"])
    )


def _want(held: bool, source: str, found: str, wanted: str) -> None:
    if not held:
        raise ConfigurationError(f"{source} {found}; wanted {wanted}: select the features again to write a new one")
