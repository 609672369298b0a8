"""A tiny network that thinks several times about one window (Jolicoeur-Martineau 2025, arXiv 2510.04871).

It keeps two thoughts of each position: a low one, which is worked on, and a high one, from which the answer is read.
One network refines both, so depth costs time and no parameters. Not in the table of forecasters: it answers with eight
strategies' logits, whether to stop, and its thoughts, not with one number a window.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from trading_bot.errors import ConfigurationError
from trading_bot.models.attention import sinusoids
from trading_bot.models.inputs import check_batch
from trading_bot.models.sizes import check_whole, configured

NAME = "trm"
_EPSILON = 1e-5
_RARELY = -5.0  # bias of the halt head: a chance of 0.7 % to stop before anything is learned


@dataclass(frozen=True, kw_only=True)
class TRMConfig:
    """Sizes of the network and of its recursion; 432,521 parameters as they stand."""

    time: int = 30  # candles in a window
    features: int = 40  # numbers of each candle
    width: int = 128  # numbers of each position
    heads: int = 4
    blocks: int = 2  # of the one network that refines both thoughts
    feed_forward: int = 384
    classes: int = 8
    cycles: int = 2  # T, each ends with a new high thought; only the last has a gradient
    inner_steps: int = 3  # n, refinements of the low thought in a cycle
    supervision_steps: int = 4  # N_sup, at most so many calls of the network for one window

    def __post_init__(self) -> None:
        check_whole(self, *vars(self))
        if self.width % 2 or self.width % self.heads:
            raise ConfigurationError(
                f"TRMConfig.width is {self.width} with {self.heads} heads; wanted an even multiple of heads, such as "
                f"{2 * self.heads * max(1, round(self.width / (2 * self.heads)))}"
            )


class Carry(NamedTuple):
    """What the network thinks after a supervision step: (B, time + 1, width) each, without a gradient."""

    high: torch.Tensor
    low: torch.Tensor

    def take(self, rows: torch.Tensor) -> Carry:
        """The windows of a mask or of row numbers."""
        return Carry(self.high[rows], self.low[rows])


class Block(nn.Module):
    """Attention of all positions to all, then SwiGLU; each is added to its input and normalised after (post-norm).

    No bias anywhere and no weight in the normalisation: 4 · 128² + 3 · 128 · 384 = 212,992 parameters.
    """

    def __init__(self, width: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.mixed = nn.Linear(width, width, bias=False)
        self.gate_and_value = nn.Linear(width, 2 * feed_forward, bias=False)
        self.narrow = nn.Linear(feed_forward, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, L, D) → (B, L, D), each position of length √D."""
        query, key, value = self.query_key_value(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(query, key, value)  # (B, heads, L, D / heads)
        x = normalised(x + self.mixed(seen.transpose(1, 2).flatten(2)))
        gate, value = self.gate_and_value(x).chunk(2, dim=2)
        return normalised(x + self.narrow(F.silu(gate) * value))


class TinyRecursiveModel(nn.Module):
    """One supervision step a call: `cycles` × (`inner_steps` of the low thought, one of the high), then both heads."""

    positions: torch.Tensor
    high_start: torch.Tensor
    low_start: torch.Tensor

    def __init__(self, config: TRMConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.project = nn.Linear(config.features, width)
        self.summary = nn.Parameter(torch.empty(width))  # the CLS token: what is read from is no candle's position
        self.register_buffer("positions", sinusoids(config.time + 1, width), persistent=False)  # (L, D)
        for name in ("high_start", "low_start"):  # what is thought before the window was seen; not trained
            self.register_buffer(name, nn.init.trunc_normal_(torch.empty(width), std=1.0))
        self.network = nn.Sequential(*(Block(width, config.heads, config.feed_forward) for _ in range(config.blocks)))
        self.task = nn.Linear(width, config.classes)
        self.halt = nn.Linear(width, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):  # keeps the scale of what goes through (LeCun)
                nn.init.trunc_normal_(layer.weight, std=1 / math.sqrt(layer.in_features))
        nn.init.normal_(self.summary)
        nn.init.zeros_(self.project.bias)
        with torch.no_grad():
            self.task.weight.mul_(0.1)  # all classes are about as likely at first
            self.task.bias.zero_()
            self.halt.weight.zero_()
            self.halt.bias.fill_(_RARELY)

    def forward(self, x: torch.Tensor, carry: Carry | None = None) -> tuple[torch.Tensor, torch.Tensor, Carry]:
        """Think about windows once more.

        Parameters
        ----------
        x : (B, time, features) float32
        carry : what the call before returned, for the same windows; None at the first

        Returns
        -------
        task_logits (B, classes), halt_logits (B, 1), and the carry for the next call, which no gradient passes

        Raises
        ------
        TrainingError
            As `check_batch` does.
        """
        config = self.config
        check_batch(x, (config.time, config.features), training=False)
        seen = self.embedded(x)  # (B, L, D)
        high, low = self.first_thought(len(x)) if carry is None else carry
        with torch.no_grad():
            for _ in range(config.cycles - 1):
                high, low = self._cycle(seen, high, low)
        high, low = self._cycle(seen, high, low)
        answer = high[:, 0]  # (B, D), the CLS position
        return self.task(answer), self.halt(answer), Carry(high.detach(), low.detach())

    def embedded(self, x: torch.Tensor) -> torch.Tensor:
        """The CLS token and the projected candles, with their positions: (B, time + 1, width)."""
        summary = self.summary.expand(len(x), 1, -1)
        return torch.cat((summary, self.project(x)), dim=1) + self.positions

    def first_thought(self, rows: int) -> Carry:
        """What every window begins with: (rows, time + 1, width) each."""
        length = len(self.positions)
        return Carry(self.high_start.expand(rows, length, -1), self.low_start.expand(rows, length, -1))

    def _cycle(self, seen: torch.Tensor, high: torch.Tensor, low: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        given = high + seen
        for _ in range(self.config.inner_steps):
            low = self.network(low + given)
        high = self.network(high + low)
        return high, low


def normalised(x: torch.Tensor) -> torch.Tensor:
    """Each position brought to a root mean square of 1 (RMSNorm without weights)."""
    return F.rms_norm(x, x.shape[-1:], eps=_EPSILON)


def build_trm(**sizes: Any) -> TinyRecursiveModel:
    """A network, with PyTorch's global seed deciding its first weights.

    Parameters
    ----------
    sizes : fields of `TRMConfig` that differ from their defaults

    Raises
    ------
    ConfigurationError
        If there is no such size, or one is out of range.
    """
    return TinyRecursiveModel(configured(TRMConfig, sizes))


def trm_config(model: TinyRecursiveModel) -> dict[str, Any]:
    """Its name and all sizes, as JSON has them: `rebuild_trm` makes an equal one."""
    sizes: dict[str, Any] = json.loads(json.dumps(vars(model.config)))
    return {"name": NAME, **sizes}


def rebuild_trm(config: Mapping[str, Any]) -> TinyRecursiveModel:
    """A new network of the sizes that `trm_config` described; its weights are random.

    Raises
    ------
    ConfigurationError
        If it describes something else, or as `build_trm` does.
    """
    if not isinstance(config, Mapping) or config.get("name") != NAME:
        raise ConfigurationError(f"found {config!r}; wanted the sizes of a {NAME!r}, as trm_config returns them")
    return build_trm(**{name: size for name, size in config.items() if name != "name"})
