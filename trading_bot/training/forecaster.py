"""A network with everything it needs to forecast: scaler, scale of the target, features, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from trading_bot.domain.market import Floats
from trading_bot.errors import CheckpointError, TradingBotError
from trading_bot.features.columns import Features
from trading_bot.features.table import CANDIDATES
from trading_bot.models.registry import label_of, model_config, rebuild
from trading_bot.training.calibration import Calibration
from trading_bot.training.checkpoint_file import read_checkpoint, write_described
from trading_bot.training.data_loaders import BatchLoader, TimeSeriesDataset
from trading_bot.training.model_checkpoint import load_weights

KIND = "forecaster"
_BATCH = 512


class ScaledForecast(nn.Module):
    """A network whose output is in standard deviations of the target, made to speak in returns.

    The network's numbers are near 1, as its initial weights want them; losses see returns, as their costs want them.
    """

    scale: torch.Tensor

    def __init__(self, network: nn.Module, scale: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("scale", torch.tensor(float(scale), dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, time, features) → (B, 1)
        forecast: torch.Tensor = self.network(x) * self.scale
        return forecast


@dataclass(frozen=True, slots=True, eq=False)
class Forecaster:
    """A fitted network.

    Attributes
    ----------
    network : (B, time, features), normalised → (B, 1), in units of `scale`
    mean, std : float32 (features,), of the rows it was trained on
    scale : standard deviation of the target in those rows
    facts : what it was trained on and how: features, symbol, timeframe, horizon, trained_until, …; JSON
    """

    network: nn.Module
    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    scale: float
    facts: Mapping[str, Any]

    @torch.inference_mode()
    def forecast(self, X: Features) -> Floats:
        """Return over the horizon after each window (n, time, features), float64 (n,).

        Raises
        ------
        TrainingError
            If a value is not finite or the shape is another.
        """
        data = TimeSeriesDataset(X, np.zeros(len(X), np.float32), mean=self.mean, std=self.std)
        device = next(self.network.parameters()).device
        if self.network.training:  # to look is cheap, to tell every layer is not
            self.network.eval()
        parts = [self.network(batch.to(device)).cpu().numpy() for batch, _ in BatchLoader(data, _BATCH)]
        return np.concatenate(parts)[:, 0].astype(np.float64) * self.scale

    @property
    def label(self) -> str | None:
        """The language model that reads for it, in words ("random" if it was never trained); None without one."""
        return label_of(self.network)

    @property
    def calibration(self) -> Calibration | None:
        """How far its forecasts can be trusted; None if that was never measured."""
        found = self.facts.get("calibration")
        return None if found is None else Calibration.from_json(found)

    def save(self, path: Path) -> str:
        """Write it, atomically; the file's SHA-256. The facts are repeated beside it as JSON, for people."""
        facts = {
            "kind": KIND,
            **self.facts,
            "model": model_config(self.network),
            **({} if self.label is None else {"language_model": self.label}),
            "scaler": {"mean": self.mean.tolist(), "std": self.std.tolist(), "target": self.scale},
        }
        return write_described(path, self.network.state_dict(), facts)

    @classmethod
    def load(cls, path: Path) -> Forecaster:
        """What `save` wrote, on the CPU.

        Raises
        ------
        CheckpointError
            If the file is absent, damaged, no forecaster, or for features this program computes otherwise or not.
        """
        tensors, facts = read_checkpoint(path)
        if facts.get("kind") != KIND:
            raise CheckpointError(f"{path} is no forecaster but a {facts.get('kind', 'model')}; `train` writes them")
        check_features(facts["features"], path)
        try:
            network = rebuild(facts["model"])
        except TradingBotError as error:
            raise CheckpointError(f"{path}: its model cannot be rebuilt: {error}; mend that or train again") from None
        load_weights(network, tensors, path)
        network.eval()
        scaler = facts["scaler"]
        mean, std = (np.array(scaler[name], np.float32) for name in ("mean", "std"))
        return cls(network, mean, std, float(scaler["target"]), facts)


def describe_features(names: tuple[str, ...], length: int) -> dict[str, Any]:
    """Features as a checkpoint remembers them: names, window length, and how each is computed."""
    return {"names": list(names), "length": length, "definitions": {name: _definition(name) for name in names}}


def check_features(kept: Mapping[str, Any], source: Path) -> None:
    """Refuse a checkpoint whose features this program does not compute, or not in the same way.

    Raises
    ------
    CheckpointError
    """
    for name in kept["names"]:
        now, then = _definition(name), kept["definitions"].get(name)
        if now != then:
            what = "is unknown here" if now is None else f"is now computed as {now}, was trained on {then}"
            raise CheckpointError(f"{source}: its features differ: {name} {what}; train again")


def _definition(column: str) -> str | None:
    for indicator in CANDIDATES.values():
        if column in indicator.columns:
            parameters = ", ".join(f"{name}={value}" for name, value in sorted(indicator.parameters.items()))
            return f"{indicator.function.__name__}({parameters})[{indicator.columns.index(column)}]"
    return None
