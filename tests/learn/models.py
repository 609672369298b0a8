"""Trained models to register: checkpoints of a few bytes and what is known of them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from trading_bot.domain.models import ModelStatus, ModelVersion

CREATED = datetime(2024, 1, 31, 12, tzinfo=UTC)
CONFIG = {
    "model": {"name": "lstm", "hidden": 32},
    "symbol": "BTC/USDT",
    "timeframe": "1h",
    "horizon": 12,
    "loss": "huber",
    "trained_until": 1_704_067_200_000,
}


def trained(folder: Path, name: str, number: int = 1, **changes: Any) -> tuple[ModelVersion, Path]:
    """A fresh candidate and its checkpoint, as a training leaves them in `folder`."""
    content = f"weights of {name}".encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.bin"
    path.write_bytes(content)
    values: dict[str, Any] = {
        "id": name,
        "strategy": "neural_forecast",
        "status": ModelStatus.CANDIDATE,
        "created": CREATED + timedelta(days=number),
        "parent": None,
        "sha256": hashlib.sha256(content).hexdigest(),
        "data_hash": "d47a",
        "features": {"names": ["rsi_14"], "length": 30},
        "config": CONFIG,
        "scores": {
            "hit_rate": 0.534,
            "hit_rate_interval": [0.512, 0.556],
            "mae": 0.0097,
            "mae_zero": 0.01,
            "skill": 0.03,
        },
    }
    return ModelVersion(**(values | changes)), path


def meta_label(folder: Path, name: str, number: int = 1, **changes: Any) -> tuple[ModelVersion, Path]:
    """The same of a model that judges the signals of `macd_momentum`."""
    values: dict[str, Any] = {
        "strategy": "macd_momentum",
        "features": {"names": ["rsi_14", "adx_14"]},
        "config": {
            "kind": "meta_label",
            "timeframe": "1h",
            "horizon": 12,
            "symbols": ["BTC/USDT", "ETH/USDT"],
            "trained_from": 1_672_531_200_000,
            "trained_until": 1_704_067_200_000,
            "rows": 812,
        },
        "scores": {
            "gain": 0.0042,
            "gain_interval": [0.001, 0.0074],
            "log_loss": 0.6712,
            "log_loss_before": 0.6741,
            "base_rate": 0.482,
            "rows": 203,
        },
    }
    return trained(folder, name, number, **(values | changes))
