"""What an adaptive loss did, line by line: its components and weights, as a table and as a sum that explains itself."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trading_bot.durable import replacing
from trading_bot.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Line:
    """A few steps of training.

    Attributes
    ----------
    step : the last of them, from 1
    components : mean Lᵢ over them, neither weighted nor scaled; NaN if none was finite
    weights : in force at the last
    """

    step: int
    components: tuple[float, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Effectiveness:
    """Why the combined loss C = Σ wᵢ·Lᵢ/sᵢ changed: `end` − `start` = `change` = `learning` + `reweighting`.

    Attributes
    ----------
    start, end : C of the first and last line with frozen scales
    learning : Σ w̄·ΔL/s over all lines, w̄ the mean weight of two lines that follow: what the model learned
    reweighting : Σ L̄/s·Δw: what merely came of weighing otherwise, and is no merit
    by_loss : both parts, for each loss
    """

    start: float
    end: float
    change: float
    learning: float
    reweighting: float
    by_loss: Mapping[str, Mapping[str, float]]


class LossRecord:
    """Lines of `every` steps each."""

    def __init__(self, names: Sequence[str], every: int) -> None:
        self.names = tuple(names)
        self.every = every
        self.lines: list[Line] = []
        self._pending: list[list[float]] = []

    def add(self, step: int, components: Sequence[float], weights: Sequence[float]) -> None:
        """One step: Lᵢ, NaN where it was skipped, and the weights it was combined with."""
        self._pending.append(list(components))
        if step % self.every == 0:
            self.lines.append(Line(step, tuple(_mean(column) for column in zip(*self._pending, strict=True)),
                                   tuple(weights)))  # fmt: skip
            self._pending = []

    def state(self) -> dict[str, Any]:
        """What `restore` goes on from."""
        lines = [[line.step, list(line.components), list(line.weights)] for line in self.lines]
        return {"lines": lines, "pending": [list(each) for each in self._pending]}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.lines = [Line(step, tuple(losses), tuple(weights)) for step, losses, weights in state["lines"]]
        self._pending = [list(each) for each in state["pending"]]

    def effectiveness(self, scales: Sequence[float], since: int = 0) -> Effectiveness | None:
        """Learning and re-weighting apart, from the lines after step `since`; None if they are fewer than two."""
        lines = [line for line in self.lines if line.step > since and all(map(math.isfinite, line.components))]
        if len(lines) < 2:
            return None
        parts = {}
        for place, name in enumerate(self.names):
            losses = [line.components[place] / scales[place] for line in lines]
            weights = [line.weights[place] for line in lines]
            learned = [(v + w) / 2 * (b - a) for a, b, v, w in _pairs(losses, weights)]
            weighed = [(a + b) / 2 * (w - v) for a, b, v, w in _pairs(losses, weights)]
            parts[name] = {"learning": math.fsum(learned), "reweighting": math.fsum(weighed)}
        start, end = (_combined(line, scales) for line in (lines[0], lines[-1]))
        learning, reweighting = (
            math.fsum(part[kind] for part in parts.values()) for kind in ("learning", "reweighting")
        )
        return Effectiveness(start, end, end - start, learning, reweighting, parts)

    def save(self, path: Path, scales: Sequence[float]) -> None:
        """Write all lines, as JSON or CSV by the suffix of `path`.

        Raises
        ------
        TrainingError
            If the suffix is another, or the file cannot be written.
        """
        if path.suffix == ".json":
            text = json.dumps({"scales": dict(zip(self.names, scales, strict=True)), "lines": self._rows(scales)})
        elif path.suffix == ".csv":
            text = self._csv(scales)
        else:
            raise TrainingError(f"{path.name} ends with {path.suffix!r}; wanted .json or .csv")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(text.encode())
        except OSError as error:
            raise TrainingError(
                f"{path} cannot be written: {error.strerror or error}; make room or choose another folder"
            ) from error

    def _rows(self, scales: Sequence[float]) -> list[dict[str, float | None]]:
        rows = []
        for line in self.lines:
            row: dict[str, float | None] = {"step": line.step, "combined": _combined(line, scales)}
            row |= {f"loss_{name}": value for name, value in zip(self.names, line.components, strict=True)}
            row |= {f"weight_{name}": value for name, value in zip(self.names, line.weights, strict=True)}
            rows.append({name: value if value is None or math.isfinite(value) else None for name, value in row.items()})
        return rows

    def _csv(self, scales: Sequence[float]) -> str:
        text = io.StringIO()
        heads = ["step", "combined", *(f"{kind}_{name}" for kind in ("loss", "weight") for name in self.names)]
        writer = csv.DictWriter(text, heads, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows(scales))
        return text.getvalue()


def _combined(line: Line, scales: Sequence[float]) -> float:
    return math.fsum(w * loss / s for w, loss, s in zip(line.weights, line.components, scales, strict=True))


def _pairs(losses: Sequence[float], weights: Sequence[float]) -> list[tuple[float, float, float, float]]:
    return list(zip(losses[:-1], losses[1:], weights[:-1], weights[1:], strict=True))


def _mean(numbers: Sequence[float]) -> float:
    finite = [number for number in numbers if math.isfinite(number)]
    return math.fsum(finite) / len(finite) if finite else math.nan
