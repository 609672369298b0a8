"""The model behind a rule's confidence: the probability that taking its signal pays, calibrated. Numbers and JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from trading_bot.domain.market import Floats, timeframe_ms
from trading_bot.errors import CheckpointError, ConfigurationError
from trading_bot.features.columns import Features
from trading_bot.learn.linear_model import probabilities
from trading_bot.learn.meta_labels import META_FEATURES, Sides
from trading_bot.learn.model_registry import META_LABEL

FORMAT = "trading_bot.meta_label.1"
LIMIT = 5.0  # standard deviations; what is further out counts as this
REMEDY = "take another copy or train again"


@dataclass(frozen=True, slots=True)
class MetaModel:
    """P(signal pays) = σ(intercept + slope · score), score = weights · design + bias.

    Attributes
    ----------
    names, mean, std : of the features, of the rows it was fitted on
    weights : one for each column of `design`
    intercept, slope : Platt's scaling on validation rows; slope ≥ 0
    baseline : what the rule's own confidence tells: coefficients for (side, own, side·own) and the intercept, fitted
        on the same rows; the model's gain over it is what is watched while it is in use
    timeframe, horizon, symbols : of the signals it was fitted on; it speaks of no other
    known_until : open of the newest bar it has learned from or was judged on, UTC ms
    gain, gain_deviation, bars : over the baseline on test rows: mean share of the log loss taken off, its long-run
        standard deviation for one bar, and how many bars
    """

    strategy: str
    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    intercept: float
    slope: float
    baseline: tuple[float, ...]
    timeframe: str
    horizon: int
    symbols: tuple[str, ...]
    trained_from: int
    fitted_until: int
    known_until: int
    gain: float
    gain_deviation: float
    bars: int

    def answers(self, timeframe: str, horizon: int, symbols: tuple[str, ...]) -> bool:
        """Whether it was fitted to answer this question."""
        return (self.timeframe, self.horizon, self.symbols) == (timeframe, horizon, symbols)

    def probability(self, X: Features, side: Sides, own: Floats) -> Floats:
        """For each signal, (n,); a row has the same bits alone and among others."""
        columns = design(scaled(X, np.array(self.mean), np.array(self.std)), side, own)
        score = (columns * np.array(self.weights)).sum(axis=1) + self.bias
        likely: Floats = probabilities(self.intercept + self.slope * score).astype(np.float64, copy=False)
        return likely

    def baseline_probability(self, side: Sides, own: Floats) -> Floats:
        """What the rule's own confidence lets expect, (n,)."""
        *weights, intercept = self.baseline
        score = (own_columns(side, own) * np.array(weights)).sum(axis=1) + intercept
        likely: Floats = probabilities(score).astype(np.float64, copy=False)
        return likely

    def to_bytes(self) -> bytes:
        """As JSON, every bit of its numbers kept."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True, allow_nan=False)
        return text.encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes) -> MetaModel:
        """What `to_bytes` gave.

        Raises
        ------
        CheckpointError
            If it is something else, or of features that this program does not use.
        """
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"it is no model of a strategy's signals: {error}; {REMEDY}") from None
        found = values.pop("format", None) if isinstance(values, dict) else type(values).__name__
        if found != FORMAT:
            raise CheckpointError(f"its format is {str(found)[:40]!r}, wanted {FORMAT!r}; {REMEDY}")
        if odd := {each.name for each in fields(cls)} ^ set(values):
            raise CheckpointError(f"missing or not wanted in it: {', '.join(sorted(odd))[:200]}; {REMEDY}")
        if values["names"] != list(META_FEATURES):
            raise CheckpointError("its features are not those this program computes; train again")
        kept: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in values.items()}
        model = cls(**kept)
        model._check()
        return model

    def _check(self) -> None:
        """Refuse what a damaged or edited file may hold."""
        values: Mapping[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        count = len(self.names)
        rows = (("mean", count), ("std", count), ("weights", 2 * count + 3), ("baseline", 4))
        for name, fits, wanted in (
            *((name, _are_numbers(values[name], length), f"{length} finite numbers") for name, length in rows),
            *((name, _is_number(values[name]), "a finite number") for name in ("bias", "intercept", "gain")),
            *((name, _is_number(values[name], 0), "a number ≥ 0") for name in ("slope", "gain_deviation")),
            *((name, _is_whole(values[name], 1), "a whole number ≥ 1") for name in ("horizon", "bars")),
            *((name, _is_whole(values[name], 0), "UTC ms") for name in ("trained_from", "fitted_until", "known_until")),
            ("strategy", _are_words([values["strategy"]]), "a name"),
            ("symbols", isinstance(values["symbols"], tuple) and _are_words(values["symbols"]), "a list of symbols"),
            ("timeframe", _is_timeframe(values["timeframe"]), "such as '1h'"),
        ):
            if not fits:
                raise CheckpointError(f"its {name} is {str(values[name])[:60]!r}, wanted {wanted}; {REMEDY}")
        if min(self.std) <= 0:
            raise CheckpointError(f"its std is {str(self.std)[:60]!r}, wanted numbers above 0; {REMEDY}")


def _is_number(value: Any, least: float = -1e300) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value < 1e300


def _are_numbers(values: Any, length: int) -> bool:
    return isinstance(values, tuple) and len(values) == length and all(map(_is_number, values))


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def _are_words(values: Sequence[Any]) -> bool:
    return all(isinstance(each, str) and each for each in values)


def _is_timeframe(value: Any) -> bool:
    try:
        return isinstance(value, str) and timeframe_ms(value) > 0
    except ConfigurationError:
        return False


def scaled(X: Features, mean: Floats, std: Floats) -> Floats:
    """Features in standard deviations from their mean, cut at ±`LIMIT`; float64 (n, F)."""
    units: Floats = np.clip((X.astype(np.float64) - mean) / std, -LIMIT, LIMIT)
    return units


def design(z: Floats, side: Sides, own: Floats) -> Floats:
    """The model's columns, (n, 2F + 3): features, features in the signal's direction, side and the rule's own word."""
    return np.concatenate((z, z * side[:, None], own_columns(side, own)), axis=1)


def own_columns(side: Sides, own: Floats) -> Floats:
    """What the rule itself says, (n, 3): its side, its confidence, and that in the side's direction."""
    return np.column_stack((side.astype(np.float64), own, side * own))


def sha256_of(content: bytes) -> str:
    """Hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def described(model: MetaModel) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Its features and its configuration as the registry keeps them."""
    config = {
        "kind": META_LABEL,
        "timeframe": model.timeframe,
        "horizon": model.horizon,
        "symbols": list(model.symbols),
        "trained_from": model.trained_from,
        "trained_until": model.known_until,
    }
    return {"names": list(model.names)}, config
