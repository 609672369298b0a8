"""The two layers that end every network."""

from __future__ import annotations

import torch
from torch import nn


def dense(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    """(B, inputs) → (B, outputs): linear, BatchNorm, ReLU, dropout.

    PyTorch's own first weights are kept: BatchNorm divides their scale out. Where it subtracts the batch's mean, in
    training, it takes the linear layer's bias out too; the bias belongs to the sizes specified, so it stays.
    """
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(dropout))


def forecast_layer(inputs: int) -> nn.Linear:
    """(B, inputs) → (B, 1), small at first.

    Targets are standardised, and a forecast of 0, their mean, is hard to beat: PyTorch's own weights would start with
    a random forecast of variance 1/6, more than a market's signal, to be unlearned first. A tenth of them starts at
    1/600 and is large enough for gradients to pass.
    """
    layer = nn.Linear(inputs, 1)
    with torch.no_grad():
        layer.weight.mul_(0.1)
        layer.bias.zero_()
    return layer
