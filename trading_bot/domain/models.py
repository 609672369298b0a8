"""What is known of a trained model: where it came from, how good it was, and whether it is the one in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class ModelStatus(StrEnum):
    """Of the versions of one strategy's model at most one is the champion."""

    CANDIDATE = "candidate"  # trained, never in use
    CHAMPION = "champion"  # the one in use
    RETIRED = "retired"  # was in use; may be promoted again
    REJECTED = "rejected"  # was tried against the champion (or the bare rule) and not shown to be better


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One trained model; its weights lie in a checkpoint file that `sha256` pins down."""

    id: str
    strategy: str
    status: ModelStatus
    created: datetime
    parent: str | None  # the version it replaced when it was promoted
    sha256: str  # of the checkpoint file, hexadecimal
    data_hash: str  # of the candles it was trained on
    features: Mapping[str, Any]  # {"names": […], "length": bars in a window, …}
    config: Mapping[str, Any]  # {"model": {"name": …, sizes}, "symbol", "timeframe", "horizon", "loss", …}
    scores: Mapping[str, Any]  # out of sample: {"hit_rate", "hit_rate_interval", "mae", "mae_zero", …}
    activated_at_bar: int | None = None  # open of the newest bar when it was promoted, ms; None: never, or not known
    pinned: bool = False  # only the user may replace it
