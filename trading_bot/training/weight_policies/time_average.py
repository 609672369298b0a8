"""The weights that an adaptive policy had on average, without its adapting: does their moving matter?"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trading_bot.errors import TrainingError
from trading_bot.training.weight_policies.policy import Seen, Setting, WeightPolicy, Wish
from trading_bot.training.weight_policies.simplex import FLOOR, equal, on_simplex, shares


class TimeAverage(WeightPolicy):
    """Constant weights, those of a run before: `weights`, or the mean over the lines of a history it saved as JSON.

    Equal weights if neither is given.

    Parameters
    ----------
    weights : by loss, in any unit
    history : file that `AdaptiveLossTrainer.save_history` wrote of a run with the same losses
    """

    def __init__(
        self, setting: Setting, *, weights: Mapping[str, float] | None = None, history: str | Path | None = None
    ) -> None:
        super().__init__(setting)
        if weights is not None and history is not None:
            raise TrainingError("found both weights and a history; wanted one of them: leave the other out")
        given = weights if history is None else _averages(Path(history), setting.names)
        self.weights = equal(self.count) if given is None else shares("weights", given, setting.names)

    def weigh(self, seen: Seen) -> Wish:
        return Wish(self.weights)


def _averages(path: Path, names: tuple[str, ...]) -> Mapping[str, float]:
    try:
        lines: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["lines"]
        found = [math.fsum(float(line[f"weight_{name}"]) for line in lines) / len(lines) for name in names]
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}; check the path") from None
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise TrainingError(
            f"{path} has no weights of {', '.join(names)} ({type(error).__name__}: {error}); give a history in JSON "
            "that save_history wrote of a run with the same losses"
        ) from None
    return dict(zip(names, on_simplex(found, FLOOR), strict=True))
