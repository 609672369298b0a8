"""What a strategy is, how its file is found and loaded, and how its answer is checked.

A strategy file is one Python file with one class (or the names below at module level):

    name: str                          # unique among the strategies
    warmup: int                        # bars before the first one it can judge
    affinity: Mapping[Regime, float]   # its base weight in each regime
    signals(candles) -> Signals        # row t from rows ≤ t; a DataFrame with columns side and confidence also serves

and, where a model is behind it:

    model_version: str | None          # id of the model it answers with, as of its latest answer
    latest(candles) -> Signals         # the newest row alone: what signals(candles) ends with, without the rest
"""

from __future__ import annotations

import difflib
import hashlib
import math
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from trading_bot.domain.market import Candles, Floats, Regime
from trading_bot.errors import StrategyError
from trading_bot.learn.affinity import Affinity, by_regime

__all__ = [
    "SILENT",
    "Affinity",
    "Signals",
    "Strategy",
    "StrategyFiles",
    "by_regime",
    "in_one_line",
    "load_file",
    "load_strategies",
    "model_version_of",
    "read_latest",
    "read_signals",
    "scan_strategies",
]

SILENT = "silent"
_ATTRIBUTES = ("name", "warmup", "affinity", "signals")


@dataclass(frozen=True, slots=True, eq=False)
class Signals:
    """One strategy's view of every bar.

    `side` (n,) is +1 wants long, −1 wants out (short where allowed), 0 no opinion; `confidence` (n,) is in [0, 1].
    `note` says of the newest row why it is silent or cautious, for the record: `silent: its model is 93 days old`. One
    that begins with "silent" takes the strategy out of the vote; without it, side 0 votes for neither.
    Like the arrays it is made of candles, model and configuration alone.
    """

    side: npt.NDArray[Any]
    confidence: npt.NDArray[Any]
    note: str = ""


class Strategy(Protocol):
    """Candles in, arrays out.

    Two names more are used where they are there. `model_version: str | None` is the id of the model the latest answer
    came from; every decision records it. `latest(candles) -> Signals`, of length 1, is asked for decisions instead of
    `signals`: a network need not forecast a thousand rows to decide the newest. It equals the last row of `signals`.
    """

    @property
    def name(self) -> str: ...

    @property
    def warmup(self) -> int: ...

    @property
    def affinity(self) -> Affinity: ...

    def signals(self, candles: Candles) -> Any:
        """`Signals`, or a DataFrame with columns side and confidence, one row for each candle."""
        ...


@dataclass(frozen=True, slots=True)
class StrategyFiles:
    """What the strategy folders hold: those that load, by name, and why the others do not, by file."""

    found: Mapping[str, Strategy]
    broken: Mapping[Path, StrategyError]


# Loading --------------------------------------------------------------------------------------------------------------


def load_strategies(folders: Path | str | Sequence[Path | str], names: Sequence[str] | None = None) -> list[Strategy]:
    """The strategies of one or several folders, one a file, in the order of `names` (of their own names without).

    Files whose name begins with an underscore or a dot are left alone. With `names`, a broken file of another
    strategy does no harm.

    Raises
    ------
    StrategyError
        If a folder or a named strategy is missing, a wanted file cannot be loaded, two have one name, or there is none.
    """
    files = scan_strategies(folders)
    if names is None:
        for error in files.broken.values():
            raise error
        if not files.found:
            raise StrategyError(
                f"no strategy found in {_listed(folders)}; wanted a file such as my_strategy.py there: "
                "`trading-bot new-strategy my_strategy` writes one to start from"
            )
        return [files.found[name] for name in sorted(files.found)]
    if not names:
        raise StrategyError("the list of strategies is empty; name at least one, or leave the list out to use all")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise StrategyError(f"strategy {twice[0]!r} is listed twice; list each once")
    return [_named(name, files, folders) for name in names]


def _named(name: str, files: StrategyFiles, folders: Path | str | Sequence[Path | str]) -> Strategy:
    if name in files.found:
        return files.found[name]
    for path, error in files.broken.items():
        if path.stem == name:
            raise error
    nearest = difflib.get_close_matches(name, files.found, 1)
    raise StrategyError(
        f"no strategy named {name!r} in {_listed(folders)}; "
        + (f"did you mean {nearest[0]!r}? " if nearest else "")
        + f"found: {', '.join(sorted(files.found)) or 'none'}"
        + (f"; not loadable: {', '.join(sorted(path.name for path in files.broken))}" if files.broken else "")
    )


def scan_strategies(folders: Path | str | Sequence[Path | str]) -> StrategyFiles:
    """Load every strategy file of the folders; what is wrong with a file is kept beside those that load.

    Raises
    ------
    StrategyError
        If a folder is missing, or two strategies have one name.
    """
    found: dict[str, Strategy] = {}
    origin: dict[str, Path] = {}
    broken: dict[Path, StrategyError] = {}
    for folder in _paths(folders):
        if not folder.is_dir():
            raise StrategyError(f"strategy folder {folder} not found; create it or correct `strategy_path`")
        for path in sorted(folder.glob("*.py")):
            if path.name.startswith(("_", ".")):
                continue
            try:
                strategy = load_file(path)
            except StrategyError as error:
                broken[path] = error
                continue
            if strategy.name in found and origin[strategy.name].resolve() != path.resolve():
                raise StrategyError(
                    f"two strategies are named {strategy.name!r}, in {origin[strategy.name]} and in {path}; rename one"
                )
            found[strategy.name], origin[strategy.name] = strategy, path
    return StrategyFiles(found, broken)


def _paths(folders: Path | str | Sequence[Path | str]) -> list[Path]:
    return [Path(folders)] if isinstance(folders, (str, Path)) else [Path(folder) for folder in folders]


def _listed(folders: Path | str | Sequence[Path | str]) -> str:
    return ", ".join(str(path) for path in _paths(folders)) or "no folder at all"


def load_file(path: Path) -> Strategy:
    """The one strategy in a file.

    Raises
    ------
    StrategyError
        Naming the file, and the line where there is one.
    """
    module = _run(path)
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and hasattr(value, "signals")
    ]
    leaves = [one for one in classes if not any(other is not one and issubclass(other, one) for other in classes)]
    if callable(getattr(module, "signals", None)):
        strategy: Any = module
    elif len(leaves) == 1:
        strategy = _made(leaves[0], path)
    elif not leaves:
        raise StrategyError(f"{path} holds no strategy; wanted one class with {', '.join(_ATTRIBUTES)}")
    else:
        named = ", ".join(one.__name__ for one in leaves)
        raise StrategyError(f"{path} holds {len(leaves)} strategies ({named}); wanted one strategy a file")
    _check_attributes(strategy, path)
    return strategy  # type: ignore[no-any-return]


def _run(path: Path) -> types.ModuleType:
    """Execute a file as a module under a name of its own, so that it clashes with nothing installed."""
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    module = types.ModuleType(f"trading_bot_strategy_{path.stem}_{digest}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickle look a class's module up there
    try:
        # compiled from the text each time: a cached .pyc may be older than an edit of the same second
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102 - the user's own file
    except (Exception, SystemExit) as error:
        sys.modules.pop(module.__name__, None)
        raise StrategyError(_why(path, error)) from error
    return module


def _why(path: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}, line {error.lineno}: {error.msg}: {(error.text or '').strip()!r}; mend the syntax"
    if isinstance(error, OSError) and error.filename == str(path):
        return f"{path} cannot be read: {error.strerror}"
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f"{path}, line {line}" if line else f"{path}"
    if isinstance(error, SystemExit):
        return f"{where}: the file calls exit while it is loaded; a strategy file only defines its class"
    return f"{where}: {in_one_line(error)}"


def in_one_line(error: BaseException) -> str:
    """What an error says, on one line; our own in their words alone, others behind the name of their kind."""
    words = " ".join(str(error).split())
    if isinstance(error, StrategyError):
        return words
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _made(kind: type, path: Path) -> Any:
    try:
        return kind()
    except (Exception, SystemExit) as error:
        raise StrategyError(
            f"{path}: {kind.__name__}() failed: {in_one_line(error)}; a strategy is made without arguments"
        ) from error


def _check_attributes(strategy: Any, path: Path) -> None:
    missing = [name for name in _ATTRIBUTES if not hasattr(strategy, name)]
    if missing:
        raise StrategyError(f"{path}: the strategy lacks {', '.join(missing)}; wanted {', '.join(_ATTRIBUTES)}")
    name, warmup, affinity = strategy.name, strategy.warmup, strategy.affinity
    if not isinstance(name, str) or not name.isidentifier():
        raise StrategyError(f"{path}: name should be a word such as 'my_strategy', is {name!r}")
    if isinstance(warmup, bool) or not isinstance(warmup, int) or warmup < 0:
        raise StrategyError(f"{path}: warmup should be a whole number of bars ≥ 0, is {warmup!r}")
    for method in ("signals", "latest"):
        found = getattr(strategy, method, None)
        if not callable(found) and (method == "signals" or found is not None):
            raise StrategyError(f"{path}: {method} should be a method of candles, is {type(found).__name__}")
    if not isinstance(affinity, Mapping):
        raise StrategyError(f"{path}: affinity should map every regime to a weight, is {affinity!r}")
    lacking = [str(regime) for regime in Regime if regime not in affinity]
    if lacking:
        raise StrategyError(f"{path}: affinity lacks {', '.join(lacking)}; wanted all of {', '.join(Regime)}")
    for regime, weight in affinity.items():
        if regime not in tuple(Regime):
            raise StrategyError(f"{path}: affinity names {regime!r}, which is no regime; wanted {', '.join(Regime)}")
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not number or not math.isfinite(weight) or weight < 0:
            raise StrategyError(f"{path}: affinity for {regime} should be a number ≥ 0, is {weight!r}")


# Reading --------------------------------------------------------------------------------------------------------------


def read_signals(strategy: Strategy, candles: Candles) -> Signals:
    """Ask `strategy` about `candles` and check what it says.

    Returns
    -------
    Signals
        `side` int8 (n,) and `confidence` float64 (n,); both 0 in the first `warmup` rows, whatever was said there.

    Raises
    ------
    StrategyError
        If the answer has another shape, a side outside {−1, 0, 1}, or a confidence outside [0, 1] or NaN. Errors
        inside the strategy come through as they are.
    """
    rows = len(candles)
    return _checked(strategy, strategy.signals(candles), rows, strategy.warmup, f"one value for each of {rows} candles")


def read_latest(strategy: Strategy, candles: Candles) -> Signals:
    """The last row of `read_signals`, by the strategy's `latest` where it has one; at least one candle.

    Returns
    -------
    Signals
        `side` int8 (1,) and `confidence` float64 (1,), both 0 within the warm-up.

    Raises
    ------
    StrategyError
        As `read_signals`.
    """
    latest = getattr(strategy, "latest", None)
    if latest is None:
        whole = read_signals(strategy, candles)
        return Signals(whole.side[-1:], whole.confidence[-1:], whole.note)
    silent = 1 if len(candles) <= strategy.warmup else 0
    return _checked(strategy, latest(candles), 1, silent, "one value from latest, for the newest candle")


def model_version_of(strategy: Strategy) -> str | None:
    """Id of the model behind the strategy's latest answer; None if there is none.

    Raises
    ------
    StrategyError
        If it is something else.
    """
    version = getattr(strategy, "model_version", None)
    if version is not None and not (isinstance(version, str) and version):
        raise StrategyError(f"strategy {strategy.name!r} has model_version {version!r}; wanted a model's id, or None")
    return version


def _checked(strategy: Strategy, answer: Any, rows: int, silent: int, wanted: str) -> Signals:
    """An answer of so many rows in its own types, the first `silent` of them 0; `wanted` says its shape in words."""
    if not hasattr(answer, "side") or not hasattr(answer, "confidence"):
        raise StrategyError(
            f"strategy {strategy.name!r} returned {type(answer).__name__}; "
            "wanted Signals, or a DataFrame with columns side and confidence"
        )
    side = _column(strategy, "side", answer.side, rows, wanted)
    confidence = _column(strategy, "confidence", answer.confidence, rows, wanted)
    side[:silent] = confidence[:silent] = 0.0
    wrong = (side != 0.0) & (np.abs(side) != 1.0)
    if wrong.any():
        raise _outside(strategy, "side", side, wrong, "-1, 0 or 1")
    wrong = ~((confidence >= 0.0) & (confidence <= 1.0))
    if wrong.any():
        raise _outside(strategy, "confidence", confidence, wrong, "a number from 0 to 1")
    return Signals(side.astype(np.int8), confidence, _note(strategy, answer))


def _column(strategy: Strategy, column: str, values: Any, rows: int, wanted: str) -> Floats:
    """A column as float64 of its own."""
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise StrategyError(f"strategy {strategy.name!r} returned a {column} that is not numbers: {error}") from error
    if array.shape != (rows,):
        raise StrategyError(f"strategy {strategy.name!r} returned a {column} of shape {array.shape}; wanted {wanted}")
    return array


def _note(strategy: Strategy, answer: Any) -> str:
    """What the answer says of itself, on one line; a DataFrame says nothing."""
    note = answer.note if isinstance(answer, Signals) else ""
    if not isinstance(note, str):
        raise StrategyError(f"strategy {strategy.name!r} returned a note of {type(note).__name__}; wanted words")
    return " ".join(note.split())


def _outside(
    strategy: Strategy, column: str, values: Floats, wrong: npt.NDArray[np.bool_], wanted: str
) -> StrategyError:
    row = int(np.flatnonzero(wrong)[0])
    return StrategyError(
        f"strategy {strategy.name!r} returned {column} {values[row]:g} in row {row} of {len(values)} "
        f"(warm-up {strategy.warmup}); wanted {wanted}"
    )
