"""Candle files from one format into another: every number the same to the last bit, no file torn or lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from trading_bot.domain.market import Candles, timeframe_ms
from trading_bot.errors import CandleDataError, ConfigurationError, StorageError, unknown
from trading_bot.market_data.candle_files import SUFFIXES, candle_files, missing, parse_name, read, suffix_of
from trading_bot.market_data.candle_writing import FORMATS

_COLUMNS = ("time", "open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class Converted:
    """What became of one file; `notes` say what had to be repaired, `written` is False where it was there already."""

    source: Path
    target: Path
    symbol: str
    timeframe: str
    first: int
    last: int
    rows: int
    written: bool
    erased: bool
    notes: tuple[str, ...] = ()


def convert(
    paths: Sequence[Path],
    to: str,
    *,
    folder: Path | None = None,
    pairs: Sequence[str] = (),
    timeframes: Sequence[str] = (),
    erase: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
) -> list[Converted]:
    """Write the candles of each file in another format, beside it or in `folder`, under the name it has.

    A target with the same candles is left as it is, so that what was stopped can be begun again. A progress bar is
    shown for several files where `console` is a terminal.

    Parameters
    ----------
    paths
        Files, and folders for all candle files in them that are not in this format yet.
    to
        One of `candle_writing.FORMATS`.
    pairs, timeframes
        Only these; empty: all.
    erase
        Delete each source after its target was read back and found the same.
    overwrite
        Replace targets that hold other candles.

    Raises
    ------
    ConfigurationError
        No files, an unknown format, two files for one target, or a target with other candles: nothing is written then.
    CandleDataError
        A file whose contents are not candles; those before it are converted.
    StorageError
        A file cannot be written.
    """
    if to not in FORMATS:
        raise ConfigurationError(unknown("format", to, FORMATS))
    for timeframe in timeframes:
        timeframe_ms(timeframe)
    targets = _targets(_sources(paths, to, folder), to, folder, pairs, timeframes)
    if not overwrite:
        for target, source in targets.items():
            _refuse_other_candles(source, target)
    console = console if console is not None else Console(stderr=True)
    quiet = not console.is_terminal or len(targets) < 2
    steps = track(targets.items(), "converting", len(targets), console=console, disable=quiet)
    return [_convert_one(source, target, to, erase) for target, source in steps]


def _sources(paths: Sequence[Path], to: str, folder: Path | None) -> list[Path]:
    """The files meant by `paths`, each once."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            there = folder is None or folder.resolve() == path.resolve()
            found += [file for file in candle_files(path) if not there or suffix_of(file) != FORMATS[to][0]]
        elif path.exists():
            found.append(path)
        else:
            raise ConfigurationError(missing(path))
    if not found:
        given = ", ".join(map(str, paths)) or "nothing"
        raise ConfigurationError(
            f"no candle files to convert in {given}; wanted such as BTC_USDT-1h.json ({', '.join(SUFFIXES)}), "
            f"not {to} already"
        )
    return list(dict.fromkeys(found))


def _targets(
    sources: Sequence[Path], to: str, folder: Path | None, pairs: Sequence[str], timeframes: Sequence[str]
) -> dict[Path, Path]:
    """Target → source."""
    targets: dict[Path, Path] = {}
    for source in sources:
        named = parse_name(source)
        if named is None:
            raise ConfigurationError(
                f"{source} does not tell symbol and timeframe; wanted a name such as BTC_USDT-1h.json; rename it"
            )
        if (pairs and named[0] not in pairs) or (timeframes and named[1] not in timeframes):
            continue
        target = (folder or source.parent) / (source.name.removesuffix(suffix_of(source)) + FORMATS[to][0])
        if target in targets:
            raise ConfigurationError(f"{targets[target]} and {source} would both become {target}; give one of them")
        if target.resolve() == source.resolve():
            raise ConfigurationError(f"{source} is {to} already; leave it out, or name another --folder")
        targets[target] = source
    if not targets:
        wanted = ", ".join((*pairs, *timeframes))
        raise ConfigurationError(f"none of the {len(sources)} candle files is of {wanted}; `list-data` tells of what")
    return targets


def _refuse_other_candles(source: Path, target: Path) -> None:
    if target.exists() and not _same(_known(target), read(source)[0]):
        raise ConfigurationError(
            f"{target} is there and holds other candles than {source}; move it away, or replace it with --overwrite"
        )


def _convert_one(source: Path, target: Path, to: str, erase: bool) -> Converted:
    candles, notes = read(source)
    written = not target.exists() or not _same(_known(target), candles)
    if written:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            FORMATS[to][1](target, candles)
        except OSError as error:
            raise StorageError(f"candle file {target} cannot be written ({error.strerror}); make room") from error
    if erase:
        _erase(source, target, candles)
    span = int(candles.time[0]), int(candles.time[-1])
    return Converted(source, target, candles.symbol, candles.timeframe, *span, len(candles), written, erase, notes)


def _erase(source: Path, target: Path, candles: Candles) -> None:
    """Delete the source, but only of a target that can be read back."""
    if not _same(_known(target), candles):
        raise StorageError(f"{target} does not hold what was written to it; {source} is kept, check the disk")
    try:
        source.unlink()
    except OSError as error:
        raise StorageError(f"{source} was converted but cannot be deleted ({error.strerror})") from error


def _known(path: Path) -> Candles | None:
    try:
        return read(path)[0]
    except CandleDataError:
        return None


def _same(a: Candles | None, b: Candles) -> bool:
    """Whether both hold the same numbers, to the last bit."""
    return a is not None and all(getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in _COLUMNS)
