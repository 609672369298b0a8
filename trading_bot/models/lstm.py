"""A bidirectional LSTM over the window; its two final states make the forecast."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from trading_bot.models.inputs import check_batch
from trading_bot.models.layers import dense, forecast_layer
from trading_bot.models.sizes import check_dropout, check_whole


@dataclass(frozen=True, kw_only=True)
class LSTMConfig:
    """Sizes of the LSTM; 602,625 parameters as they stand."""

    time: int = 30  # candles in a window
    features: int = 40  # numbers of each candle
    hidden: int = 128  # of each direction
    layers: int = 2
    dense: int = 128
    dropout: float = 0.2  # between the LSTM's layers and before the forecast

    def __post_init__(self) -> None:
        check_whole(self, "time", "features", "hidden", "layers", "dense")
        check_dropout(self)


class LSTMForecaster(nn.Module):
    """LSTM in both directions, dense layer, forecast.

    Both directions stay inside the window, all of which is past when the forecast is made.

    `torch.compile` takes it and leaves it as it is: Dynamo passes over what holds an `nn.LSTM`, whose loop over time is
    in C++ or cuDNN already. With `torch._dynamo.config.allow_rnn = True` it is one graph.
    """

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.lstm = nn.LSTM(
            config.features,
            config.hidden,
            config.layers,
            batch_first=True,
            bidirectional=True,
            dropout=config.dropout if config.layers > 1 else 0.0,  # there is nothing between fewer
        )
        self.dense = dense(2 * config.hidden, config.dense, config.dropout)
        self.forecast = forecast_layer(config.dense)
        self._first_weights()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, time, features) float32 → (B, 1); raises TrainingError as `check_batch` does."""
        check_batch(x, (self.config.time, self.config.features), self.training)
        _, (final, _) = self.lstm(x)  # (2 · layers, B, H): each layer's forward state, then its backward one
        both = torch.cat((final[-2], final[-1]), dim=1)  # (B, 2H)
        forecast: torch.Tensor = self.forecast(self.dense(both))  # (B, 1)
        return forecast

    def _first_weights(self) -> None:
        """Weights that let the window's first candles be heard at its end.

        An orthogonal matrix keeps the length of what it is multiplied with over 30 steps (Saxe et al. 2014), and a
        forget gate with bias 1 is open at first (Gers et al. 2000). A gate's two biases are added up: one suffices.
        """
        for name, parameter in self.lstm.named_parameters():
            gates = parameter.detach().chunk(4)  # input, forget, cell, output: (H, …) each
            for gate in gates:
                if "bias" in name:
                    nn.init.zeros_(gate)
                elif "weight_hh" in name:
                    nn.init.orthogonal_(gate)
                else:
                    nn.init.xavier_uniform_(gate)
            if "bias_ih" in name:
                nn.init.ones_(gates[1])
