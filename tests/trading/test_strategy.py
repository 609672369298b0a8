"""Finding, loading and reading strategies: what is taken, and what is said of the rest."""

from __future__ import annotations

import string
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.strategies.markets import random_walk
from trading_bot.domain.market import Candles, Regime
from trading_bot.errors import ConfigurationError, StrategyError
from trading_bot.trading.strategy import (
    Signals,
    by_regime,
    load_strategies,
    read_latest,
    read_signals,
    scan_strategies,
)

CANDLES = random_walk(60)
TEMPLATE = Path(__file__).parents[2] / "trading_bot" / "cli" / "templates" / "strategy.py.txt"

GOOD = """
import numpy as np
from trading_bot.trading.strategy import Signals, by_regime

class $class_name:
    name = "$name"
    warmup = 2
    affinity = by_regime(trending=1, ranging=0, volatile=0.5, choppy=0)

    def signals(self, candles):
        return Signals(np.ones(len(candles)), np.full(len(candles), 0.5))
"""


def good(name: str = "steady") -> str:
    """The text of a strategy file that loads."""
    return string.Template(GOOD).substitute(name=name, class_name=name.title().replace("_", ""))


def write(folder: Path, **files: str) -> Path:
    for stem, text in files.items():
        (folder / f"{stem}.py").write_text(text)
    return folder


def test_strategies_load_in_the_order_asked_for(tmp_path: Path) -> None:
    folder = write(tmp_path, one=good("one"), two=good("two"), _draft="this is no Python")
    assert [s.name for s in load_strategies(folder)] == ["one", "two"]
    assert [s.name for s in load_strategies([folder], ["two", "one"])] == ["two", "one"]
    assert [s.name for s in load_strategies(str(folder), ["two"])] == ["two"]


def test_a_module_may_be_the_strategy_itself(tmp_path: Path) -> None:
    text = (
        "from trading_bot.trading.strategy import Signals, by_regime\n"
        "name, warmup = 'plain', 0\n"
        "affinity = by_regime(trending=1, ranging=1, volatile=1, choppy=1)\n"
        "def signals(candles):\n    return Signals(candles.close * 0 + 1, candles.close * 0 + 1)\n"
    )
    (strategy,) = load_strategies(write(tmp_path, plain=text))
    assert read_signals(strategy, CANDLES).side.tolist() == [1] * 60


def test_a_base_class_in_the_same_file_is_no_second_strategy(tmp_path: Path) -> None:
    text = good("base") + "\nclass Bold(Base):\n    name = 'bold'\n"
    assert [s.name for s in load_strategies(write(tmp_path, bold=text))] == ["bold"]


def test_a_dataclass_with_postponed_annotations_loads(tmp_path: Path) -> None:
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n" + good().replace(
        "class Steady:", "@dataclass\nclass Steady:\n    pace: int = 3\n"
    )
    (strategy,) = load_strategies(write(tmp_path, steady=text))
    assert strategy.name == "steady"


def test_an_edited_file_is_read_anew(tmp_path: Path) -> None:
    first = load_strategies(write(tmp_path, steady=good()))[0].warmup
    second = load_strategies(write(tmp_path, steady=good().replace("warmup = 2", "warmup = 3")))[0].warmup
    assert (first, second) == (2, 3)
    assert not (tmp_path / "__pycache__").exists()


def test_a_file_named_like_an_installed_module_harms_nobody(tmp_path: Path) -> None:
    before = sys.modules["json"]
    load_strategies(write(tmp_path, json=good("json_like")))
    assert sys.modules["json"] is before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class A:\n    def signals(self:\n", ["bad.py, line 2", "syntax"]),
        ("\x00", ["bad.py", "null bytes"]),
        ("import no_such_module\n", ["bad.py, line 1", "no_such_module"]),
        ("x = 1\ny = 1 / 0\n", ["bad.py, line 2", "ZeroDivisionError"]),
        ("import sys\nsys.exit(3)\n", ["bad.py, line 2", "exit"]),
        ("raise SystemExit\n", ["bad.py, line 1", "exit"]),
        ("", ["bad.py", "no strategy", "name, warmup, affinity, signals"]),
        (good("a") + good("b"), ["bad.py", "2 strategies (A, B)"]),
        (good().replace("warmup = 2", ""), ["bad.py", "lacks warmup"]),
        (good().replace("warmup = 2", "warmup = -1"), ["warmup", "≥ 0", "-1"]),
        (good().replace("warmup = 2", "warmup = 2.5"), ["warmup", "whole number", "2.5"]),
        (good().replace("warmup = 2", "warmup = True"), ["warmup", "whole number", "True"]),
        (good().replace('name = "steady"', "name = ''"), ["name", "''"]),
        (good().replace('name = "steady"', "name = 'two words'"), ["name", "'two words'"]),
        (good().replace("by_regime(", "dict("), None),
        (good().replace(", choppy=0)", ")").replace("by_regime(", "dict("), ["affinity lacks choppy", "trending"]),
        (good().replace("by_regime(", "dict(sideways=1, "), ["sideways", "no regime"]),
        (good().replace("trending=1", "trending=-1"), ["affinity for trending", "-1"]),
        (good().replace("trending=1", "trending=float('nan')"), ["affinity for trending", "nan"]),
        (good().replace("trending=1", "trending='much'"), ["affinity for trending", "much"]),
        (good().replace("    warmup", "    def __init__(self, pace): pass\n    warmup"), ["Steady() failed", "pace"]),
        (good().replace("def signals(self, candles)", "signals = 3\n    def other(self, candles)"), ["signals", "int"]),
        (good() + "    latest = 3\n", ["latest should be a method of candles", "int"]),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path: Path, text: str, words: list[str] | None) -> None:
    folder = write(tmp_path, bad=text)
    if words is None:  # plain dictionaries serve as affinities too
        assert load_strategies(folder)[0].affinity[Regime.TRENDING] == 1
        return
    with pytest.raises(StrategyError) as caught:
        load_strategies(folder)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ConfigurationError)


def test_an_import_that_fails_deeper_names_the_line_in_the_file(tmp_path: Path) -> None:
    folder = write(tmp_path, bad="import json\n\njson.loads('{')\n")
    with pytest.raises(StrategyError, match=r"bad\.py, line 3: JSONDecodeError"):
        load_strategies(folder)


def test_a_file_cut_anywhere_is_either_a_strategy_or_a_strategy_error(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "strategies" / "atr_breakout.py").read_bytes()
    cuts = range(0, len(text), max(1, len(text) // 200))
    for cut in cuts:
        (tmp_path / f"cut{cut:05}.py").write_bytes(text[:cut].replace(b'"atr_breakout"', f'"cut{cut}"'.encode()))
    files = scan_strategies(tmp_path)
    assert len(files.found) + len(files.broken) == len(cuts) >= 200
    assert len(files.broken) > 100
    assert all("\n" not in str(error) for error in files.broken.values())


def test_ctrl_c_while_loading_is_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        load_strategies(write(tmp_path, bad="raise KeyboardInterrupt\n"))


def test_a_broken_neighbour_harms_only_itself(tmp_path: Path) -> None:
    folder = write(tmp_path, steady=good(), broken="1 / 0\n")
    assert [s.name for s in load_strategies(folder, ["steady"])] == ["steady"]
    with pytest.raises(StrategyError, match=r"broken\.py, line 1"):
        load_strategies(folder)
    with pytest.raises(StrategyError, match=r"broken\.py, line 1"):
        load_strategies(folder, ["steady", "broken"])
    files = scan_strategies(folder)
    assert list(files.found) == ["steady"]
    assert [path.name for path in files.broken] == ["broken.py"]


def test_missing_things_are_named(tmp_path: Path) -> None:
    with pytest.raises(StrategyError, match=r"folder .*nowhere not found"):
        load_strategies(tmp_path / "nowhere")
    with pytest.raises(StrategyError, match=r"no strategy found in .*new-strategy"):
        load_strategies(tmp_path)
    write(tmp_path, steady=good())
    with pytest.raises(StrategyError, match=r"no strategy named 'stedy'.*did you mean 'steady'"):
        load_strategies(tmp_path, ["stedy"])
    with pytest.raises(StrategyError, match="is empty"):
        load_strategies(tmp_path, [])
    with pytest.raises(StrategyError, match="'steady' is listed twice"):
        load_strategies(tmp_path, ["steady", "steady"])


def test_two_of_one_name_are_refused_over_folders_too(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "a", first=good("same"))
    write(tmp_path / "b", second=good("same"))
    with pytest.raises(StrategyError, match=r"two strategies are named 'same'.*first\.py.*second\.py"):
        load_strategies([tmp_path / "a", tmp_path / "b"])
    assert len(load_strategies([tmp_path / "a", tmp_path / "a"])) == 1


def test_the_template_of_new_strategy_loads_and_speaks(tmp_path: Path) -> None:
    text = string.Template(TEMPLATE.read_text()).substitute(name="my_idea", class_name="MyIdea")
    (strategy,) = load_strategies(write(tmp_path, my_idea=text))
    assert strategy.name == "my_idea"
    assert set(read_signals(strategy, random_walk(500)).side) == {-1, 0, 1}


class Saying:
    """A strategy that says what it was told to."""

    name = "saying"
    affinity = by_regime(trending=1, ranging=1, volatile=1, choppy=1)

    def __init__(self, answer: Any, warmup: int = 0) -> None:
        self.answer = answer
        self.warmup = warmup

    def signals(self, candles: Candles) -> Any:
        return self.answer


def columns(side: Any = 1, confidence: Any = 0.5, n: int = 60) -> dict[str, Any]:
    return {
        "side": np.full(n, side, np.float64) if np.isscalar(side) else side,
        "confidence": np.full(n, confidence, np.float64) if np.isscalar(confidence) else confidence,
    }


def with_one(value: float, row: int = 40, elsewhere: float = 0.0) -> np.ndarray[Any, np.dtype[np.float64]]:
    values = np.full(60, elsewhere)
    values[row] = value
    return values


def test_signals_and_frames_are_read_alike() -> None:
    plain = read_signals(Saying(Signals(**columns())), CANDLES)
    framed = read_signals(Saying(pd.DataFrame(columns())), CANDLES)
    indexed = read_signals(Saying(pd.DataFrame(columns(), index=pd.RangeIndex(100, 160))), CANDLES)
    whole = read_signals(Saying(pd.DataFrame({"side": [1] * 60, "confidence": [0.5] * 60}).astype(object)), CANDLES)
    for one in (plain, framed, indexed, whole):
        assert one.side.dtype == np.int8
        assert one.confidence.dtype == np.float64
        np.testing.assert_array_equal(one.side, 1)
        np.testing.assert_array_equal(one.confidence, 0.5)


def test_nothing_said_in_the_warm_up_counts() -> None:
    said = Signals(**columns(with_one(np.nan, row=3, elsewhere=1.0), with_one(np.nan, row=9, elsewhere=1.0)))
    answer = read_signals(Saying(said, warmup=10), CANDLES)
    assert answer.side.tolist() == [0] * 10 + [1] * 50
    assert answer.confidence.tolist() == [0.0] * 10 + [1.0] * 50


def test_the_strategys_own_arrays_stay_as_they_are() -> None:
    said = columns()
    read_signals(Saying(Signals(**said), warmup=10), CANDLES)
    assert said["side"].tolist() == [1.0] * 60


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, ["NoneType", "wanted Signals"]),
        ((1, 0.5), ["tuple", "wanted Signals"]),
        (pd.DataFrame({"side": [1] * 60}), ["DataFrame", "columns side and confidence"]),
        (Signals(**columns(n=59)), ["side", "(59,)", "60 candles"]),
        (Signals(**columns(confidence=np.full((60, 1), 0.5))), ["confidence", "(60, 1)"]),
        (Signals(**columns(with_one(2.0))), ["side 2", "row 40", "-1, 0 or 1"]),
        (Signals(**columns(with_one(0.5))), ["side 0.5", "row 40"]),
        (Signals(**columns(with_one(np.nan))), ["side nan", "row 40"]),
        (Signals(**columns(confidence=with_one(1.01))), ["confidence 1.01", "row 40", "from 0 to 1"]),
        (Signals(**columns(confidence=with_one(-0.1))), ["confidence -0.1"]),
        (Signals(**columns(confidence=with_one(np.nan))), ["confidence nan", "warm-up 30"]),
        (Signals(**columns(side=np.array(["long"] * 60))), ["side", "not numbers"]),
        (Signals(**columns(), note=None), ["note of NoneType", "wanted words"]),  # type: ignore[arg-type]
    ],
)
def test_rubbish_is_refused_with_found_and_wanted(answer: Any, words: list[str]) -> None:
    with pytest.raises(StrategyError) as caught:
        read_signals(Saying(answer, warmup=30), CANDLES)
    for word in ["'saying'", *words]:
        assert word in str(caught.value)


class Newest(Saying):
    """Says of the newest row what it was told to."""

    def signals(self, candles: Candles) -> Any:
        raise AssertionError("asked for every row")

    def latest(self, candles: Candles) -> Any:
        return self.answer


def test_the_newest_row_is_the_last_of_all_or_what_latest_says() -> None:
    last = columns(with_one(-1.0, row=59, elsewhere=1.0), with_one(0.25, row=59, elsewhere=1.0))
    said = Signals(**last, note="tired")
    for strategy in (Saying(said), Newest(Signals(np.array([-1]), np.array([0.25]), "tired"))):
        newest = read_latest(strategy, CANDLES)
        assert (newest.side.tolist(), newest.confidence.tolist(), newest.note) == ([-1], [0.25], "tired")
        assert newest.side.dtype == np.int8
        assert newest.confidence.dtype == np.float64
    assert read_latest(Saying(pd.DataFrame(columns() | {"note": "a column"})), CANDLES).note == ""


def test_the_newest_row_is_silent_until_the_warm_up_is_over() -> None:
    rubbish, one = Signals(np.array([7.0]), np.array([np.nan])), Signals(np.array([1]), np.array([1.0]))
    silent = read_latest(Newest(rubbish, warmup=60), CANDLES)
    assert (silent.side.tolist(), silent.confidence.tolist()) == ([0], [0.0])
    assert read_latest(Newest(one, warmup=59), CANDLES).side.tolist() == [1]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (1, ["int", "wanted Signals"]),
        (Signals(**columns()), ["side of shape (60,)", "one value from latest"]),
        (Signals(np.float64(1), np.float64(1)), ["side of shape ()", "one value from latest"]),  # type: ignore[arg-type]
        (Signals(**columns(side=2, n=1)), ["side 2 in row 0 of 1", "-1, 0 or 1"]),
        (Signals(**columns(confidence=1.01, n=1)), ["confidence 1.01", "from 0 to 1"]),
        (Signals(**columns(confidence=np.nan, n=1)), ["confidence nan"]),
    ],
)
def test_rubbish_from_latest_is_refused_too(answer: Any, words: list[str]) -> None:
    with pytest.raises(StrategyError) as caught:
        read_latest(Newest(answer, warmup=30), CANDLES)
    for word in ["'saying'", *words]:
        assert word in str(caught.value)
