"""The last transitions of all episodes, drawn from at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Transitions:
    """B of them.

    Attributes
    ----------
    states, following : (B, state)
    actions, rewards, last : (B,)
    allowed : (B, actions), in the state that follows
    heads : (B, heads), 1 where a head learns from it
    """

    states: Tensor
    actions: Tensor
    rewards: Tensor
    following: Tensor
    allowed: Tensor
    last: Tensor
    heads: Tensor


class Replay:
    """A ring of `capacity` transitions.

    Attributes
    ----------
    added : how many ever came
    """

    def __init__(self, capacity: int, state: int, actions: int, heads: int) -> None:
        self.capacity, self.added = capacity, 0
        self._kept = Transitions(
            torch.zeros(capacity, state), torch.zeros(capacity, dtype=torch.int64), torch.zeros(capacity),
            torch.zeros(capacity, state), torch.zeros(capacity, actions, dtype=torch.bool),
            torch.zeros(capacity, dtype=torch.bool), torch.zeros(capacity, heads),
        )  # fmt: skip

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(
        self,
        state: Sequence[float],
        action: int,
        reward: float,
        following: Sequence[float],
        allowed: Sequence[bool],
        last: bool,
        heads: Any,
    ) -> None:
        """One more; the oldest goes where there is no room."""
        place, kept = self.added % self.capacity, self._kept
        for store, value in (
            (kept.states, list(state)), (kept.actions, action), (kept.rewards, reward),
            (kept.following, list(following)), (kept.allowed, list(allowed)), (kept.last, last),
            (kept.heads, heads.astype(np.float32)),
        ):  # fmt: skip
            store[place] = torch.as_tensor(value)
        self.added += 1

    def sample(self, count: int, random: np.random.Generator) -> Transitions:
        """So many, each as likely as any other, the same one possibly twice."""
        rows = torch.from_numpy(random.integers(len(self), size=count))
        return Transitions(*(store[rows] for store in self.tensors(whole=True).values()))

    def tensors(self, *, whole: bool = False) -> dict[str, Tensor]:
        """Everything in it by name, without the room that is left unless `whole`."""
        end = self.capacity if whole else len(self)
        return {name: getattr(self._kept, name)[:end] for name in Transitions.__slots__}

    def restore(self, tensors: dict[str, Tensor], added: int) -> None:
        self.added = added
        for name, tensor in tensors.items():
            getattr(self._kept, name)[: len(tensor)] = tensor
