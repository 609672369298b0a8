"""The folder that a run of training leaves: made once, found again by its name, and only for the candles it was for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from trading_bot.domain.market import Candles, hash_of
from trading_bot.durable import replacing
from trading_bot.errors import CheckpointError, ConfigurationError, unknown


def new_folder(root: Path, moment: datetime, word: str) -> Path:
    """A folder under `root` that was not there, named by the moment and a word.

    Raises
    ------
    ConfigurationError
        If none can be made there.
    """
    name = f"{moment:%Y%m%d-%H%M%S}-{word}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, 100):
            folder = root / (name if attempt == 1 else f"{name}-{attempt}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise unwritable(root, error) from None
    raise ConfigurationError(f"{root / name} and 98 like it exist; remove some or wait a second")


def unwritable(root: Path, error: OSError) -> ConfigurationError:
    """What to tell of a place where no run's folder can be made."""
    return ConfigurationError(
        f"no run can be kept in {root}: {error.strerror}; name a folder that can be written (--runs)"
    )


def find_folder(root: Path, name: str, holding: str) -> Path:
    """The run's folder, which has a file `holding`; `latest` is the newest. A ConfigurationError if there is none."""
    known = sorted(path.parent.name for path in root.glob(f"*/{holding}"))
    if name == "latest" and known:
        name = known[-1]
    if name not in known:
        raise ConfigurationError(f"{unknown('run', name, known or ['none yet'])} in {root}")
    return root / name


def describe_candles(candles: Candles) -> dict[str, Any]:
    """What `candles_of` needs to know them again."""
    return {"symbol": candles.symbol, "timeframe": candles.timeframe, "rows": len(candles),
            "from": int(candles.time[0]), "to": int(candles.time[-1]), "hash": candle_hash(candles)}  # fmt: skip


def candles_of(run_id: str, period: tuple[int, int], data_hash: str, candles: Candles) -> Candles:
    """The candles the run was begun with, without those that came since; a CheckpointError if they are not there."""
    first, last = period
    own = candles[int(candles.time.searchsorted(first)) : int(candles.time.searchsorted(last, "right"))]
    if candle_hash(own) != data_hash:
        raise CheckpointError(
            f"run {run_id} was begun on candles {data_hash}, these are {candle_hash(own)} ({len(own)} of "
            f"{own.symbol}); give the same ones, or begin a new run"
        )
    return own


def candle_hash(candles: Candles) -> str:
    """Hash of candles, by which a run and its model know them."""
    return hash_of({candles.symbol: candles})


def settings_hash(*settings: Any) -> str:
    """Hash of settings, as JSON has them, by which a finished part of a run knows what it was made with."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def check_settings(kept: Any, wanted: str, path: Path) -> None:
    """Refuse a part that was made with other settings, or by a version that computes features otherwise.

    Raises
    ------
    CheckpointError
    """
    if kept != wanted:
        raise CheckpointError(
            f"{path} was made with settings or features {kept}, wanted {wanted}; remove it, and it is done again"
        )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace `path`, whole or not at all."""
    with replacing(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())
