"""The model of signals as numbers and as a file: the same bits everywhere, and a damaged file is told as such."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from trading_bot.domain.market import Floats
from trading_bot.errors import CheckpointError
from trading_bot.features.columns import Features
from trading_bot.learn.meta_labels import META_FEATURES, Sides
from trading_bot.learn.meta_model import FORMAT, LIMIT, MetaModel, described, sha256_of

F = len(META_FEATURES)


def made(seed: int = 0, **differing: Any) -> MetaModel:
    """Numbers with all their bits."""
    chance = np.random.default_rng(seed)

    def some(n: int, scale: float = 1.0) -> tuple[float, ...]:
        return tuple((scale * chance.standard_normal(n)).tolist())

    known: dict[str, Any] = {
        "strategy": "ema_trend", "names": META_FEATURES, "mean": some(F), "std": tuple(map(abs, some(F, 2.0))),
        "weights": some(2 * F + 3, 0.3), "bias": 0.1, "intercept": -0.0, "slope": 1 / 3, "baseline": some(4),
        "timeframe": "1h", "horizon": 12, "symbols": ("BTC/USDT", "ETH/USDT"), "trained_from": 1_600_000_000_000,
        "fitted_until": 1_610_000_000_000, "known_until": 1_620_000_000_000, "gain": 0.02, "gain_deviation": 0.3,
        "bars": 900,
    }  # fmt: skip
    return MetaModel(**{**known, **differing})


def rows(n: int, seed: int = 1) -> tuple[Features, Sides, Floats]:
    chance = np.random.default_rng(seed)
    X = (3 * chance.standard_normal((n, F))).astype(np.float32)
    return X, chance.choice([-1, 1], n).astype(np.int8), chance.random(n)


MODEL = made()
CONTENT = MODEL.to_bytes()


def test_the_probability_is_the_formula_s() -> None:
    X, side, own = rows(50)
    said = MODEL.probability(X, side, own)
    for row in range(50):
        z = [
            min(LIMIT, max(-LIMIT, (x - m) / s)) for x, m, s in zip(X[row].tolist(), MODEL.mean, MODEL.std, strict=True)
        ]
        columns = [*z, *(each * side[row] for each in z), side[row], own[row], side[row] * own[row]]
        score = sum(w * each for w, each in zip(MODEL.weights, columns, strict=True)) + MODEL.bias
        np.testing.assert_allclose(said[row], 1 / (1 + np.exp(-(MODEL.intercept + MODEL.slope * score))), rtol=1e-12)
        of_rule = np.dot(MODEL.baseline, [side[row], own[row], side[row] * own[row], 1.0])
        np.testing.assert_allclose(
            MODEL.baseline_probability(side, own)[row], 1 / (1 + np.exp(-of_rule)), rtol=1e-12
        )  # fmt: skip


def test_a_row_has_the_same_bits_alone_and_among_others() -> None:
    X, side, own = rows(400)
    whole, of_rule = MODEL.probability(X, side, own), MODEL.baseline_probability(side, own)
    for n in (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100):
        for first in range(0, 400 - n, max(1, n // 2)):
            part = slice(first, first + n)
            np.testing.assert_array_equal(MODEL.probability(X[part], side[part], own[part]), whole[part])
            np.testing.assert_array_equal(MODEL.baseline_probability(side[part], own[part]), of_rule[part])
    np.testing.assert_array_equal(MODEL.probability(np.asfortranarray(X), side, own), whole)
    np.testing.assert_array_equal(MODEL.probability(X[::-1], side[::-1], own[::-1]), whole[::-1])


@pytest.mark.parametrize("extreme", [1e38, -1e38, np.inf, -np.inf, 1e-38, 0.0])
def test_extreme_features_leave_a_probability(extreme: float) -> None:
    X, side, own = rows(20)
    X[::2] = extreme
    for model in (MODEL, made(slope=1e6), made(std=(1e-12,) * F), made(bias=1e12)):
        said = model.probability(X, side, own)
        assert ((said >= 0) & (said <= 1)).all()


def test_no_row_is_no_answer() -> None:
    X, side, own = rows(0)
    assert MODEL.probability(X, side, own).shape == (0,)


@pytest.mark.parametrize("seed", range(5))
def test_a_file_keeps_every_bit(seed: int) -> None:
    model = made(seed, known_until=2**62, symbols=("ÅÄ/USDT",))
    again = MetaModel.from_bytes(model.to_bytes())
    assert again == model
    assert again.to_bytes() == model.to_bytes()
    assert np.signbit(again.intercept), "even that of minus zero"
    X, side, own = rows(100)
    np.testing.assert_array_equal(again.probability(X, side, own), model.probability(X, side, own))
    np.testing.assert_array_equal(again.baseline_probability(side, own), model.baseline_probability(side, own))


@pytest.mark.parametrize("length", [*np.linspace(0, len(CONTENT) - 2, 50).astype(int).tolist()])
def test_a_file_cut_short_is_refused(length: int) -> None:
    with pytest.raises(
        CheckpointError, match=r"it is no model of a strategy's signals: .*; take another copy or train"
    ):
        MetaModel.from_bytes(CONTENT[:length])


@pytest.mark.parametrize("content", [b"[]", b"[1]", b"null", b"3", b'"x"', b"{}", b'{"format": ["a"]}', b'{"a": 1}'])
def test_another_kind_of_file_is_refused(content: bytes) -> None:
    with pytest.raises(CheckpointError, match=f"its format is .*, wanted '{FORMAT}'; take another copy or train again"):
        MetaModel.from_bytes(content)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[" * 100_000, b"\x00" * 50, CONTENT[::-1]])
def test_rubbish_is_refused(content: bytes) -> None:
    with pytest.raises(CheckpointError, match="it is no model of a strategy's signals"):
        MetaModel.from_bytes(content)


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(CONTENT), **fields}).encode()


NUMBERS: list[Any] = [None, "1.5", True, [], [1.0], {}, float("nan"), float("inf"), 10**400]
WRONG: dict[str, list[Any]] = {
    "mean": [*NUMBERS, 0.5, [0.5] * (F - 1), [0.5] * (F + 1), ["a"] * F, [None] * F, [float("nan")] * F, [[0.5]] * F],
    "std": [*NUMBERS, 0.5, [0.0] * F, [-1.0] * F, [0.5] * (F + 1), [float("inf")] * F],
    "weights": [*NUMBERS, [0.5] * F, [0.5] * (2 * F + 4), [True] * (2 * F + 3)],
    "baseline": [*NUMBERS, [0.5] * 3, [10**400] * 4],
    "bias": NUMBERS,
    "intercept": NUMBERS,
    "slope": [*NUMBERS, -1e-9],
    "gain": NUMBERS,
    "gain_deviation": [*NUMBERS, -0.1],
    "bars": [*NUMBERS, 0, -1, 1.5],
    "horizon": [*NUMBERS, 0, -1, 12.0],
    "trained_from": [*NUMBERS, -1, 1.5],
    "fitted_until": [*NUMBERS, -1, 2**63],
    "known_until": [*NUMBERS, -1, 1.5],
    "strategy": [None, 1, "", ["a"]],
    "symbols": [None, "BTC/USDT", 1, [1], {}],  # of one text every part would be "in" it
    "timeframe": [None, 1, "", "hour", ["1h"]],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=f"its {name} is .*, wanted .*; take another copy or train again"):
        MetaModel.from_bytes(changed(**{name: value}))


def test_every_field_was_made_wrong() -> None:
    assert {each.name for each in dataclasses.fields(MetaModel)} == {*WRONG, "names"}


@pytest.mark.parametrize("name", [each.name for each in dataclasses.fields(MetaModel)])
def test_a_missing_field_is_named(name: str) -> None:
    values = json.loads(CONTENT)
    del values[name]
    with pytest.raises(CheckpointError, match=f"missing or not wanted in it: {name};"):
        MetaModel.from_bytes(json.dumps(values).encode())
    with pytest.raises(CheckpointError, match="missing or not wanted in it: extra;"):
        MetaModel.from_bytes(changed(extra=1))


@pytest.mark.parametrize("names", [None, 3, "rsi_14", [], list(META_FEATURES[:-1]), list(META_FEATURES[::-1]), [[1]]])
def test_a_model_of_other_features_is_refused(names: Any) -> None:
    with pytest.raises(CheckpointError, match="its features are not those this program computes; train again"):
        MetaModel.from_bytes(changed(names=names))


def test_a_model_of_another_format_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"its format is 'trading_bot.meta_label.2', wanted"):
        MetaModel.from_bytes(changed(format="trading_bot.meta_label.2"))


def test_what_the_registry_keeps_of_it() -> None:
    features, config = described(MODEL)
    assert features == {"names": list(META_FEATURES)}
    assert config == {
        "kind": "meta_label", "timeframe": "1h", "horizon": 12, "symbols": ["BTC/USDT", "ETH/USDT"],
        "trained_from": MODEL.trained_from, "trained_until": MODEL.known_until,
    }  # fmt: skip
    assert json.loads(json.dumps([features, config])) == [features, config]
    assert sha256_of(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
