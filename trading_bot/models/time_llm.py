"""Time-LLM: patches of the window, written as words for a frozen language model (Jin et al. 2024, arXiv 2310.01728)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from loguru import logger
from torch import nn

from trading_bot.errors import ConfigurationError, unknown
from trading_bot.models.inputs import check_batch
from trading_bot.models.layers import forecast_layer
from trading_bot.models.sizes import check_dropout, check_whole
from trading_bot.models.time_llm_backbone import RANDOM, Backbone, local_backbone, random_backbone
from trading_bot.models.time_llm_parts import (
    PatchEmbedding,
    Reprogramming,
    Scale,
    count_patches,
    denormalise,
    normalise,
    patches_of,
    prompts_of,
)

READERS = ("backbone", "attention", "none")


@dataclass(frozen=True, kw_only=True)
class TimeLLMConfig:
    """Sizes of Time-LLM. What is trained depends on the language model's vocabulary and width."""

    time: int = 30  # candles in a window
    features: int = 40  # numbers of each candle
    llm: str = "backbone"  # or what stands in its place: "attention" (one layer), "none" (Tan et al. 2024)
    llm_path: str = RANDOM  # directory of a language model; "random": a tiny one that was never trained
    llm_layers: int = 6  # at most so many of its layers, the first
    llm_seed: int = 0  # of the random one
    description: str = "Candles of a market. Forecast the return that follows."  # the beginning of each prompt
    series: int = 0  # number of the feature that prompts tell about and whose scale in the window is the forecast's
    patch: int = 8  # candles in a patch
    stride: int = 4  # from one patch to the next
    width: int = 32  # numbers of each patch before it is reprogrammed
    heads: int = 4
    prototypes: int = 128  # mixtures of the vocabulary that patches are described with
    channels: int = 32  # numbers of each patch's output that are read
    dropout: float = 0.1  # of the attention, and before the forecast

    def __post_init__(self) -> None:
        check_whole(self, "time", "features", "llm_layers", "patch", "stride", "width", "heads", "prototypes",
                    "channels")  # fmt: skip
        check_dropout(self)
        if self.llm not in READERS:
            raise ConfigurationError(unknown("TimeLLMConfig.llm", self.llm, READERS))
        if self.width % self.heads:
            raise ConfigurationError(
                f"TimeLLMConfig.width is {self.width} with {self.heads} heads; wanted a multiple of heads, such as "
                f"{self.heads * max(1, round(self.width / self.heads))}"
            )
        if self.time < self.patch or self.stride > self.patch:
            raise ConfigurationError(
                f"TimeLLMConfig.patch is {self.patch} with stride {self.stride} and time {self.time}; wanted "
                f"stride ≤ patch ≤ time: shorten the patches or their stride"
            )
        if isinstance(self.series, bool) or not isinstance(self.series, int) or not 0 <= self.series < self.features:
            raise ConfigurationError(
                f"TimeLLMConfig.series is {self.series!r}; wanted the number of a feature, from 0 to "
                f"{self.features - 1}"
            )
        if isinstance(self.llm_seed, bool) or not isinstance(self.llm_seed, int) or self.llm_seed < 0:
            raise ConfigurationError(f"TimeLLMConfig.llm_seed is {self.llm_seed!r}; wanted a whole number ≥ 0")

    @property
    def patches(self) -> int:
        """Patches of a window: 30 candles → 7."""
        return count_patches(self.time, self.patch, self.stride)


class TimeLLM(nn.Module):
    """Instance normalisation, patches, reprogramming, language model after a prompt, forecast, scale of the window.

    The paper reads each feature by itself, which multiplies the language model's work by 40. Here a patch holds all
    features, and the window is read once. A forecast is a return and not the next value of a feature, so of the way
    back only the spread of `series` is given: its mean counts as much as training finds, at first not at all.

    `torch.compile` is of no use to it: the prompts are words that Python writes for each batch.
    """

    def __init__(self, config: TimeLLMConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = PatchEmbedding(config.features * config.patch, config.width)
        self.backbone: Backbone | None = None
        read = config.width
        if config.llm == "backbone":
            self.backbone = _backbone(config)
            read = config.channels
            if read > self.backbone.width:
                raise ConfigurationError(
                    f"TimeLLMConfig.channels is {read}; wanted at most {self.backbone.width}, the width of {self.label}"
                )
            self.prototypes = nn.Linear(self.backbone.vocabulary, config.prototypes, bias=False)
            self.reprogram = Reprogramming(
                config.width, config.heads, self.backbone.width, self.backbone.width, config.dropout
            )
        elif config.llm == "attention":
            self.attend = Reprogramming(config.width, config.heads, config.width, config.width, config.dropout)
            self.norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.forecast = forecast_layer(config.patches * read)
        self.level = nn.Parameter(torch.zeros(1))  # share of the window's mean in the forecast
        if self.backbone is not None and not self.level.is_meta:  # with shapes alone nothing will be read
            logger.log("WARNING" if config.llm_path == RANDOM else "INFO", "Time-LLM reads with {}", self.label)

    @property
    def label(self) -> str:
        """What reads the patches, for logs and reports: a language model never trained says "random"."""
        return self.backbone.label if self.backbone is not None else f"no language model ({self.config.llm})"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, time, features) float32 → (B, 1); raises TrainingError as `check_batch` does."""
        check_batch(x, (self.config.time, self.config.features), training=False)  # no BatchNorm: one row will do
        normal, scale = normalise(x)
        patches = self.embed(patches_of(normal, self.config.patch, self.config.stride))  # (B, P, width)
        read = self._read(patches, x)  # (B, P, channels or width)
        told = self.forecast(self.dropout(read.flatten(1)))  # (B, 1)
        mean, spread = (each[:, 0, self.config.series, None] for each in scale)  # (B, 1)
        return denormalise(told, Scale(self.level * mean, spread))

    def _read(self, patches: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if self.backbone is None:
            return self.norm(patches + self.attend(patches, patches)) if self.config.llm == "attention" else patches
        prototypes = self.backbone.mixtures(self.prototypes.weight)  # (prototypes, width of the language model)
        words = self.reprogram(patches, prototypes[None])
        prompts = prompts_of(x[:, :, self.config.series], self.config.description)
        read: torch.Tensor = self.backbone(prompts, words)[:, :, : self.config.channels]
        return read


def _backbone(config: TimeLLMConfig) -> Backbone:
    if config.llm_path == RANDOM:
        return random_backbone(config.llm_seed, config.llm_layers)
    return local_backbone(config.llm_path, config.llm_layers)
