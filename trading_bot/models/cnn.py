"""Convolutions over time: patterns of 3 candles, of patterns, of those."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from trading_bot.errors import ConfigurationError
from trading_bot.models.inputs import check_batch
from trading_bot.models.layers import dense, forecast_layer
from trading_bot.models.sizes import check_dropout, check_several, check_whole


@dataclass(frozen=True, kw_only=True)
class CNNConfig:
    """Sizes of the CNN; 130,081 parameters as they stand."""

    time: int = 30  # candles in a window
    features: int = 40  # numbers of each candle
    channels: tuple[int, ...] = (32, 64, 128)
    kernels: tuple[int, ...] = (3, 5, 7)  # one for each of `channels`, odd so that there is a middle
    pool: int = 2  # candles that become one after each convolution
    dense: tuple[int, ...] = (128, 64)
    dropout: float = 0.2  # after each dense layer

    def __post_init__(self) -> None:
        check_whole(self, "time", "features", "pool")
        check_several(self, "channels", "kernels", "dense")
        check_dropout(self)
        if len(self.kernels) != len(self.channels):
            raise ConfigurationError(
                f"CNNConfig.kernels are {self.kernels} for channels {self.channels}; wanted as many of the one as of "
                f"the other"
            )
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ConfigurationError(f"CNNConfig.kernels are {self.kernels}; wanted odd numbers, such as (3, 5, 7)")
        least = self.pool ** len(self.channels)
        if self.time < least:
            raise ConfigurationError(
                f"CNNConfig.time is {self.time}; wanted at least {least}, for {len(self.channels)} poolings by "
                f"{self.pool} leave nothing of a shorter window: lengthen it, or take fewer channels or a smaller pool"
            )

    @property
    def pooled(self) -> int:
        """Positions left of the window at the end: 30 → 15 → 7 → 3."""
        shrinkage: int = self.pool ** len(self.channels)
        return self.time // shrinkage


class CNNForecaster(nn.Module):
    """Convolution, BatchNorm, ReLU and pooling thrice; dense layers; forecast.

    The convolutions run over time alone. They are written in two dimensions, as over images one pixel high, because a
    window (time, features) lies in memory as such an image with its channels last, the order PyTorch's kernels like
    best: a training step takes 40 % less time than with Conv1d.

    PyTorch's own first weights are kept: BatchNorm follows each layer but the last and divides their scale out.
    """

    def __init__(self, config: CNNConfig) -> None:
        super().__init__()
        self.config = config
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = config.features
        for number, (channels, kernel) in enumerate(zip(config.channels, config.kernels, strict=True), 1):
            # Padding with 0 is padding with the mean: features are standardised.
            blocks[f"convolution_{number}"] = nn.Sequential(
                nn.Conv2d(inputs, channels, (1, kernel), padding=(0, kernel // 2)),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.MaxPool2d((1, config.pool)),
            )
            inputs = channels
        self.convolutions = nn.Sequential(blocks)
        widths = (inputs * config.pooled, *config.dense)
        self.dense = nn.Sequential(*(dense(a, b, config.dropout) for a, b in pairwise(widths)))
        self.forecast = forecast_layer(widths[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, time, features) float32 → (B, 1); raises TrainingError as `check_batch` does."""
        check_batch(x, (self.config.time, self.config.features), self.training)
        image = x.transpose(1, 2).unsqueeze(2)  # (B, F, 1, T), a view
        patterns = self.convolutions(image)  # (B, C, 1, pooled)
        forecast: torch.Tensor = self.forecast(self.dense(patterns.flatten(1)))  # (B, C · pooled) → (B, 1)
        return forecast
