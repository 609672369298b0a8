"""What the loss monitor sees at a decision, and what it may do.

Everything is kept in a dict of plain numbers, so that whoever keeps it can save it as JSON and go on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

LOSSES = 4  # at most, the main one included: what a state has room for
FACTOR = 1.25
REACH = 5.0  # times or a fraction of the main loss's weight: how far the monitor alone may bring an auxiliary one
NO_OP = 0
ACTIONS = 1 + 2 * (LOSSES - 1)  # no-op; then of each auxiliary loss ×1.25, ÷1.25
STATE = 4 * LOSSES + 6 + ACTIONS

FAST, SLOW = 0.1, 0.02  # weight of the newest step in a moving average
LOOK_EVERY = 5  # steps between two looks at the gradients
BATCHES = 2  # reward batches of a decision: always the first ones, so that two decisions compare

Memory = dict[str, Any]


class Sight(Protocol):
    """What is needed of `weight_policies.Seen`."""

    @property
    def step(self) -> int: ...
    @property
    def progress(self) -> float: ...
    @property
    def sizes(self) -> tuple[float, ...]: ...
    @property
    def weights(self) -> tuple[float, ...]: ...
    @property
    def gradients(self) -> Tensor: ...
    @property
    def inner(self) -> Callable[[int], Any]: ...


def begin(count: int) -> Memory:
    """What is known before the first step of so many losses."""
    return {
        "fast": [], "slow": [], "square": [], "first": [], "cosines": [1.0] + [0.0] * (count - 1),
        "norm": None, "first_norm": None, "metrics": [],
    }  # fmt: skip


def notice(memory: Memory, seen: Sight) -> None:
    """One step of training."""
    sizes = list(seen.sizes)
    if not memory["slow"]:
        memory |= {"fast": sizes, "slow": sizes, "first": sizes, "square": [size * size for size in sizes]}
    else:
        memory["fast"] = _moved(memory["fast"], sizes, FAST)
        memory["slow"] = _moved(memory["slow"], sizes, SLOW)
        memory["square"] = _moved(memory["square"], [size * size for size in sizes], SLOW)
    if seen.step % LOOK_EVERY == 1:
        cosines, norm = cosines_to_main(seen)
        memory["cosines"] = _moved(memory["cosines"], cosines, FAST)
        memory["norm"] = norm if memory["norm"] is None else _moved([memory["norm"]], [norm], FAST)[0]
        memory["first_norm"] = memory["norm"] if memory["first_norm"] is None else memory["first_norm"]


def cosines_to_main(seen: Sight) -> tuple[list[float], float]:
    """cos(∇L₀, ∇Lᵢ) at the output, one for each loss, and the norm there of what they make together."""
    gradients = seen.gradients.detach().float()
    units = nn.functional.normalize(gradients, dim=1)
    together = torch.tensor(seen.weights, device=gradients.device) @ gradients
    *cosines, norm = torch.cat([units @ units[0], torch.linalg.vector_norm(together).reshape(1)]).tolist()
    return cosines, norm


def measure(memory: Memory, seen: Sight) -> float:
    """The fixed metric on the reward batches now, which is also remembered."""
    found = math.fsum(float(seen.inner(number).metric) for number in range(BATCHES)) / BATCHES
    memory["metrics"].append(found)
    return found


def vector(memory: Memory, seen: Sight, last: int, rate: float = 1.0) -> list[float]:
    """The state, (STATE,) numbers of a size near 1: four of each loss, six of the training, the last action.

    Of each loss: its fast moving average against the slow one, coefficient of variation, cosine to the main loss and
    log weight. Of the training: progress, learning rate, gradient norm at the output, the last two changes of the
    metric, and by how much less the metric fell on the reward batches than the main loss on the training rows.

    Parameters
    ----------
    last : action
    rate : the learning rate, in units of its first value
    """
    state: list[float] = []
    for place in range(LOSSES):
        state += _of_loss(memory, seen, place) if place < len(seen.sizes) else [0.0] * 4
    metrics = memory["metrics"]
    changes = [0.0, 0.0, *(_log(now, then) for then, now in pairwise(metrics[-3:]))][-2:]
    norm = _log(memory["norm"] or 1.0, memory["first_norm"] or 1.0)
    gap = _log(metrics[-1], metrics[0]) - _log(memory["slow"][0], memory["first"][0])
    state += [
        2 * seen.progress - 1, _cut(_log(rate, 1.0), 3.0), _cut(norm, 2.0),
        *(_cut(5 * change, 2.0) for change in changes), _cut(gap, 2.0),
    ]  # fmt: skip
    return state + [float(last == action) for action in range(ACTIONS)]


def allowed_actions(factors: Sequence[float]) -> list[bool]:
    """Which actions there are, (ACTIONS,), where the auxiliary losses have these factors: none leads out of reach."""
    moved = [factor * step for factor in factors for step in (FACTOR, 1 / FACTOR)]
    found = [True, *(1 / REACH <= factor <= REACH for factor in moved)]
    return found + [False] * (ACTIONS - len(found))


def act(factors: Sequence[float], action: int) -> list[float]:
    """The factors after an action."""
    if action == NO_OP:
        return list(factors)
    place, down = divmod(action - 1, 2)
    step = 1 / FACTOR if down else FACTOR
    return [factor * step if number == place else factor for number, factor in enumerate(factors)]


def _of_loss(memory: Memory, seen: Sight, place: int) -> list[float]:
    slow = memory["slow"][place]
    spread = math.sqrt(max(0.0, memory["square"][place] - slow * slow)) / max(slow, 1e-12)
    ratio, main = seen.weights[place], seen.weights[0]
    return [
        _cut(2 * _log(memory["fast"][place], slow), 2.0), _cut(spread, 2.0), memory["cosines"][place],
        _cut(_log(ratio, main), 3.0),
    ]  # fmt: skip


def _moved(old: Sequence[float], new: Sequence[float], weight: float) -> list[float]:
    return [(1 - weight) * a + weight * b for a, b in zip(old, new, strict=True)]


def _log(now: float, then: float) -> float:
    return math.log(max(now, 1e-12) / max(then, 1e-12))


def _cut(number: float, most: float) -> float:
    return max(-most, min(most, number))
