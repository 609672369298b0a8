"""The LSTM, the CNN and the encoder together, and what weighs their forecasts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from trading_bot.errors import ConfigurationError
from trading_bot.models.attention import AttentionConfig, AttentionForecaster
from trading_bot.models.cnn import CNNConfig, CNNForecaster
from trading_bot.models.inputs import check_batch
from trading_bot.models.layers import dense, forecast_layer
from trading_bot.models.lstm import LSTMConfig, LSTMForecaster
from trading_bot.models.sizes import Architecture, check_dropout, check_several, check_whole, configured

MEMBERS = {  # in the order of the columns of base forecasts
    "lstm": Architecture(LSTMConfig, LSTMForecaster),
    "cnn": Architecture(CNNConfig, CNNForecaster),
    "attention": Architecture(AttentionConfig, AttentionForecaster),
}


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """Sizes of the ensemble; 1,145,959 parameters as they stand.

    `lstm`, `cnn` and `attention` may set sizes of these members, `time` and `features` excepted: all see one window.
    Afterwards they hold all of a member's other sizes, so that the JSON of an ensemble depends on no default.
    """

    time: int = 30  # candles in a window
    features: int = 40  # numbers of each candle
    meta: tuple[int, ...] = (64, 32)
    gate: int = 64
    dropout: float = 0.2  # of the meta layers, and of the members that set none of their own
    lstm: Mapping[str, Any] = field(default_factory=dict, hash=False)
    cnn: Mapping[str, Any] = field(default_factory=dict, hash=False)
    attention: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_whole(self, "time", "features", "gate")
        check_several(self, "meta")
        check_dropout(self)
        for name in MEMBERS:
            sizes = getattr(self, name)
            if not isinstance(sizes, Mapping) or {"time", "features"} & sizes.keys():
                raise ConfigurationError(
                    f"EnsembleConfig.{name} is {sizes!r}; wanted sizes by name, such as {{'dropout': 0.1}}, without "
                    f"time and features, which are the ensemble's"
                )
            complete = vars(self.member(name))
            own = {size: value for size, value in complete.items() if size not in ("time", "features")}
            object.__setattr__(self, name, own)

    def member(self, name: str) -> Any:
        """The configuration of a member, of the class that `MEMBERS` says."""
        shared = {"time": self.time, "features": self.features, "dropout": self.dropout}
        return configured(MEMBERS[name].config, shared | dict(getattr(self, name)))


class Combiner(nn.Module):
    """One forecast from three: their mean under weights that a gate gives, and a correction from the meta layers.

    The gate's weights are a softmax, so their mean stays between the forecasts; the meta layers may leave that range,
    where all three err alike. Both begin near 0: the first forecast is about the plain mean of the three, which weights
    estimated from few rows seldom beat (Clemen 1989), and training has to find evidence to leave it.
    """

    def __init__(self, config: EnsembleConfig) -> None:
        super().__init__()
        self.forecasts = len(MEMBERS)
        widths = (self.forecasts, *config.meta)
        self.meta = nn.Sequential(
            *(dense(a, b, config.dropout) for a, b in pairwise(widths)),
            forecast_layer(widths[-1]),
        )
        scores = nn.Linear(config.gate, self.forecasts)
        with torch.no_grad():
            scores.weight.mul_(0.1)
            scores.bias.zero_()
        self.gate = nn.Sequential(nn.Linear(self.forecasts, config.gate), nn.ReLU(), scores)

    def forward(self, p: torch.Tensor) -> torch.Tensor:
        """Forecasts of the members (B, 3) float32 → (B, 1); raises TrainingError as `check_batch` does."""
        check_batch(p, (self.forecasts,), self.training)
        mean = (self.weights(p) * p).sum(dim=1, keepdim=True)  # (B, 1)
        forecast: torch.Tensor = mean + self.meta(p)
        return forecast

    def weights(self, p: torch.Tensor) -> torch.Tensor:
        """How far each member is trusted, given all their forecasts (B, 3): (B, 3), each row adds up to 1."""
        return torch.softmax(self.gate(p), dim=1)


class EnsembleForecaster(nn.Module):
    """The members, each a network of its own, and the combiner of their forecasts.

    Trained all in one go, the combiner would learn to trust whichever member has the training rows most by heart. So:

    1. on each fold of the training rows fit the `base_models` anew and keep their forecasts of rows they have not seen;
    2. fit `combiner` alone on these out-of-fold forecasts, X (n, 3), like any network;
    3. fit the `base_models` once more on all the training rows.
    """

    def __init__(self, config: EnsembleConfig) -> None:
        super().__init__()
        self.config = config
        self.base_models = nn.ModuleDict({name: member.module(config.member(name)) for name, member in MEMBERS.items()})
        self.combiner = Combiner(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, time, features) float32 → (B, 1); raises TrainingError as `check_batch` does."""
        return self.combine(self.base_forecasts(x))

    def base_forecasts(self, x: torch.Tensor) -> torch.Tensor:
        """(B, time, features) → (B, 3), a column for each of `base_models` in their order."""
        # Where autocast made them bfloat16, the combiner still weighs float32.
        return torch.cat([model(x) for model in self.base_models.values()], dim=1).float()

    def combine(self, p: torch.Tensor) -> torch.Tensor:
        """Forecasts of the members (B, 3) → (B, 1)."""
        forecast: torch.Tensor = self.combiner(p)
        return forecast
