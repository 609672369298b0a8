"""Finished fits as lines of a file, so that a run that was stopped goes on; a kill cuts at most the last line short."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trading_bot.domain.market import Floats
from trading_bot.errors import TrainingError


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """One more line; its folder is made if it is not there.

    Raises
    ------
    TrainingError
        If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 1))
            torn = size and file.read(1) != b"\n"  # a kill cut the last line short
            file.write(b"\n" * bool(torn) + json.dumps(values).encode() + b"\n")
    except OSError as error:
        raise TrainingError(f"{path} cannot be written ({error.strerror}); choose another folder") from error


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines that are whole; none if there is no such file.

    Raises
    ------
    TrainingError
        If the file is there and cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise TrainingError(f"{path} cannot be read ({error.strerror}); choose another folder") from error
    for line in content.splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict):
            yield values


def packed(forecast: Floats) -> str:
    """(n,) as text, in single precision."""
    return base64.b64encode(forecast.astype("<f4").tobytes()).decode()


def unpacked(text: str) -> Floats:
    """float64 (n,) of what `packed` gave."""
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float64)
