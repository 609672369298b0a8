"""A Transformer encoder over the window, read at its newest candle (Vaswani et al. 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from trading_bot.errors import ConfigurationError
from trading_bot.models.inputs import check_batch
from trading_bot.models.layers import dense, forecast_layer
from trading_bot.models.sizes import check_dropout, check_whole


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Sizes of the encoder; 410,241 parameters as they stand."""

    time: int = 30  # candles in a window
    features: int = 40  # numbers of each candle
    width: int = 128  # numbers of each candle inside the encoder
    heads: int = 8
    layers: int = 2
    feed_forward: int = 512
    dense: int = 64
    dropout: float = 0.2  # of each sublayer's output, and before the forecast

    def __post_init__(self) -> None:
        check_whole(self, "time", "features", "width", "heads", "layers", "feed_forward", "dense")
        check_dropout(self)
        if self.width % 2 or self.width % self.heads:
            raise ConfigurationError(
                f"AttentionConfig.width is {self.width} with {self.heads} heads; wanted an even multiple of heads, "
                f"such as {2 * self.heads * max(1, round(self.width / (2 * self.heads)))}"
            )


class EncoderLayer(nn.Module):
    """Attention and a feed-forward network, each added to its input and normalised.

    The same function as `nn.TransformerEncoderLayer` (a test holds it to that), for chosen positions only, and with
    dropout where the paper has it: on sublayers' outputs, not on the attention nor inside the feed-forward network.
    """

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.mixed = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, feed_forward)
        self.narrow = nn.Linear(feed_forward, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        """What the positions `asked` (B, Q, D) become when they attend to all of x (B, T, D): (B, Q, D)."""
        query, key, value = self._by_head(x, asked)
        seen = F.scaled_dot_product_attention(query, key, value)  # (B, heads, Q, D / heads)
        seen = self.mixed(seen.transpose(1, 2).flatten(2))  # (B, Q, D)
        asked = self.attention_norm(asked + self.dropout(seen))
        thought = self.narrow(F.relu(self.widen(asked)))
        result: torch.Tensor = self.feed_forward_norm(asked + self.dropout(thought))
        return result

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """How much each position of x (B, T, D) looks at each: (B, heads, T, T), every row adds up to 1."""
        query, key, _ = self._by_head(x, x)
        return torch.softmax(query @ key.transpose(2, 3) / math.sqrt(query.shape[3]), dim=3)

    def _by_head(self, x: torch.Tensor, asked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries of `asked`, keys and values of x: (B, heads, Q or T, D / heads)."""
        query = self.query(asked).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(x).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value


class AttentionForecaster(nn.Module):
    """Projection, positions, encoder layers, the newest candle's position, dense layer, forecast.

    The last layer is asked for the newest position alone: the others would be thrown away, and leaving them out halves
    the time of a step without changing the forecast.
    """

    positions: torch.Tensor

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Linear(config.features, config.width)
        self.register_buffer("positions", sinusoids(config.time, config.width), persistent=False)  # (T, D)
        self.encoder = nn.ModuleList(
            EncoderLayer(config.width, config.heads, config.feed_forward, config.dropout) for _ in range(config.layers)
        )
        # Xavier keeps a sublayer's output at the scale of the input it is added to before the normalisation.
        for layer in (self.project, *self.encoder.modules()):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.dense = dense(config.width, config.dense, config.dropout)
        self.forecast = forecast_layer(config.dense)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, time, features) float32 → (B, 1); raises TrainingError as `check_batch` does."""
        check_batch(x, (self.config.time, self.config.features), self.training)
        x = self.project(x) + self.positions  # (B, T, D)
        for layer in self.encoder[:-1]:
            x = layer(x, x)
        newest = self.encoder[-1](x, x[:, -1:])[:, 0]  # (B, D)
        forecast: torch.Tensor = self.forecast(self.dense(newest))  # (B, 1)
        return forecast

    def attention_weights(self, x: torch.Tensor) -> torch.Tensor:
        """How much each candle looks at each, by layer and head.

        Parameters
        ----------
        x : (B, time, features) float32

        Returns
        -------
        (layers, B, heads, time, time): of the candle in the last but one dimension, on those in the last; each row adds
        up to 1. Dropout, in training mode, applies between the layers. Of the last layer only the row of the newest
        candle takes part in the forecast.
        """
        check_batch(x, (self.config.time, self.config.features), training=False)
        x = self.project(x) + self.positions
        weights = []
        for layer in self.encoder:
            weights.append(cast(EncoderLayer, layer).weights(x))
            x = layer(x, x)
        return torch.stack(weights)


def sinusoids(time: int, width: int) -> torch.Tensor:
    """Positions as sines and cosines of wavelengths from 2π to 10,000 · 2π (Vaswani et al. 2017, 3.5): (T, D)."""
    position = torch.arange(time, dtype=torch.float64)[:, None]  # (T, 1)
    frequency = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)  # (D / 2,)
    angle = position * frequency  # (T, D / 2)
    return torch.stack((angle.sin(), angle.cos()), dim=2).flatten(1).float()  # sine, cosine, sine, …
