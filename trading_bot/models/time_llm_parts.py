"""The parts of Time-LLM that need no language model: instance normalisation, patches, attention, the prompt's words."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

_EPSILON = 1e-5
LAGS = 5  # that the prompt tells


class Scale(NamedTuple):
    """What a window was normalised with; (B, 1, F) each."""

    mean: torch.Tensor
    spread: torch.Tensor


def normalise(x: torch.Tensor) -> tuple[torch.Tensor, Scale]:
    """Each feature of windows (B, T, F) with mean 0 and variance 1 over time, and the way back (RevIN, Kim 2022)."""
    mean = x.mean(dim=1, keepdim=True)
    spread = torch.sqrt(x.var(dim=1, keepdim=True, correction=0) + _EPSILON)  # a feature that stands still becomes 0
    return (x - mean) / spread, Scale(mean, spread)


def denormalise(x: torch.Tensor, scale: Scale) -> torch.Tensor:
    """The inverse of `normalise`."""
    return x * scale.spread + scale.mean


def count_patches(time: int, length: int, stride: int) -> int:
    """How many patches `patches_of` makes of a window."""
    return (time + stride - length) // stride + 1


def patches_of(x: torch.Tensor, length: int, stride: int) -> torch.Tensor:
    """Overlapping pieces of a window, its newest row repeated `stride` times so that the last piece reaches it.

    Parameters
    ----------
    x : (B, T, F), T ≥ length − stride

    Returns
    -------
    (B, P, F · length): each piece has its features one after the other, each in order of time
    """
    longer = torch.cat((x, x[:, -1:].expand(-1, stride, -1)), dim=1)
    return longer.unfold(1, length, stride).flatten(2)  # (B, P, F, length) → (B, P, F · length)


class PatchEmbedding(nn.Module):
    """A convolution over three neighbouring patches: (B, P, F · length) → (B, P, width)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(inputs, width, 3, padding=1, padding_mode="circular", bias=False)
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_in", nonlinearity="leaky_relu")

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.convolution(patches.transpose(1, 2)).transpose(1, 2)
        return embedded


class Reprogramming(nn.Module):
    """Attention of patches to something else: each is described by a mixture of that.

    With text prototypes it writes patches in the language model's own vocabulary (Jin et al. 2024, 3.1).
    """

    def __init__(self, width: int, heads: int, source: int, output: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(source, width, bias=False)  # it would add the same to all scores, which softmax takes out
        self.value = nn.Linear(source, width)
        self.mixed = nn.Linear(width, output)

    def forward(self, patches: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Patches (B, P, width) and what they attend to (B or 1, N, source) → (B, P, output)."""
        source = source.expand(len(patches), -1, -1)
        query, key, value = (
            each.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, P or N, width / heads)
            for each in (self.query(patches), self.key(source), self.value(source))
        )
        seen = F.scaled_dot_product_attention(query, key, value, dropout_p=self.dropout if self.training else 0.0)
        result: torch.Tensor = self.mixed(seen.transpose(1, 2).flatten(2))
        return result


def prompts_of(series: torch.Tensor, description: str) -> list[str]:
    """What the language model is told of each window before it is normalised.

    Parameters
    ----------
    series : (B, T), the feature that is told about; its smallest, largest and middle value, where it went, and the
        lags at which it is most like itself
    description : of the data and the task
    """
    values = series.detach().double().cpu()  # one device and precision, so that all make the same words
    low, high, middle = values.amin(1).tolist(), values.amax(1).tolist(), values.median(1).values.tolist()
    moves = (values[:, -1] - values[:, 0]).tolist()
    return [
        f"<|start_prompt|>{description} Input: {values.shape[1]} steps, min {low[row]:.3f}, max {high[row]:.3f}, "
        f"median {middle[row]:.3f}, trend {_direction(moves[row])}, top lags {', '.join(map(str, lags))}."
        f"<|end_prompt|>"
        for row, lags in enumerate(top_lags(values).tolist())
    ]


def top_lags(values: torch.Tensor, count: int = LAGS) -> torch.Tensor:
    """Lags (B, ≤ count) ≥ 1 of the largest autocovariance of series (B, T), that first; the shorter of equal ones."""
    time = values.shape[1]
    centred = values - values.mean(dim=1, keepdim=True)
    spectrum = torch.fft.rfft(centred, 2 * time)  # padded with zeros, so that no end meets the other
    covariance = torch.fft.irfft(spectrum * spectrum.conj(), 2 * time)[:, 1:time]
    order: torch.Tensor = covariance.round(decimals=9).argsort(dim=1, descending=True, stable=True)
    return order[:, :count] + 1


def _direction(move: float) -> str:
    return "upward" if move > 0 else "downward" if move < 0 else "flat"
