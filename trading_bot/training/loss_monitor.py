"""The loss monitor: a double DQN that learns which change of a loss's weight pays, and then acts no more by chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trading_bot.errors import CheckpointError, TrainingError
from trading_bot.training.checkpoint_file import read_checkpoint, write_checkpoint
from trading_bot.training.loss_frame import at_least_one, positive, within
from trading_bot.training.monitor_state import ACTIONS, NO_OP, STATE
from trading_bot.training.replay import Replay

KIND = "loss monitor"


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """What a monitor is made of, and how it learns.

    Attributes
    ----------
    explore : decisions over which ε falls in a line
    keep : share of the transitions that one head learns from, so that the heads come to differ
    margin : in rewards, by which every head must prefer an action to no-op before a frozen monitor acts
    """

    state: int = STATE
    actions: int = ACTIONS
    width: int = 64
    heads: int = 3
    gamma: float = 0.9
    learning_rate: float = 5e-4
    tau: float = 0.005
    batch: int = 64
    capacity: int = 10_000
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    explore: int = 600
    keep: float = 0.8
    margin: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one(self, ("state", "actions", "width", "heads", "batch", "capacity", "explore"))
        for name in ("gamma", "tau", "epsilon_start", "epsilon_end"):
            within(name, getattr(self, name), 0.0, 1.0)
        positive("learning_rate", self.learning_rate)
        within("keep", self.keep, 0.01, 1.0)
        within("margin", self.margin, 0.0, math.inf)


class QNetwork(nn.Module):
    """(B, state) → (B, heads, actions): two layers that the heads share, and a linear head each."""

    def __init__(self, config: MonitorConfig) -> None:
        super().__init__()
        self.shape = (config.heads, config.actions)
        self.trunk = nn.Sequential(
            nn.Linear(config.state, config.width), nn.ReLU(), nn.Linear(config.width, config.width), nn.ReLU()
        )
        self.heads = nn.Linear(config.width, config.heads * config.actions)

    def forward(self, states: Tensor) -> Tensor:
        values: Tensor = self.heads(self.trunk(states))
        return values.view(-1, *self.shape)


class LossMonitorAgent:
    """Chooses, at each decision, no-op or a step of one auxiliary loss's weight.

    While it learns it explores: with probability ε any allowed action, else the one its heads value most on average.
    `freeze` ends that for good: then it acts only where every head prefers the action to no-op by the margin, and the
    same state always gives the same action. On fewer cores or more, the same seed gives the same bytes with one thread.

    Attributes
    ----------
    config : of the monitor
    frozen : whether it has learned what it will
    decisions, updates : made while learning

    Raises
    ------
    TrainingError
        If a state or an action has another size than the configuration says, or a frozen monitor is asked to learn.
    """

    def __init__(self, config: MonitorConfig | None = None) -> None:
        self.config = MonitorConfig() if config is None else config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            self.online, self.target = QNetwork(self.config), QNetwork(self.config)
        self.target.load_state_dict(self.online.state_dict())
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=self.config.learning_rate)
        self.replay = Replay(self.config.capacity, self.config.state, self.config.actions, self.config.heads)
        self.decisions = self.updates = 0
        self.frozen = False

    @property
    def epsilon(self) -> float:
        """The probability of an action by chance; 0 once frozen."""
        if self.frozen:
            return 0.0
        c = self.config
        gone = min(1.0, self.decisions / c.explore)
        return c.epsilon_start + (c.epsilon_end - c.epsilon_start) * gone

    @torch.no_grad()
    def values(self, state: Sequence[float]) -> Tensor:
        """What each head expects of each action, (heads, actions)."""
        if len(state) != self.config.state:
            raise TrainingError(f"the state has {len(state)} numbers; wanted {self.config.state}, as it was made for")
        found: Tensor = self.online(torch.tensor([list(state)], dtype=torch.float32))[0]
        return found

    def decide(self, state: Sequence[float], allowed: Sequence[bool], step: int = 0) -> int:
        """The action to take: no-op is 0.

        Parameters
        ----------
        state : (state,) numbers
        allowed : which actions there are
        step : of the training; of no consequence here
        """
        values, possible = self.values(state), torch.tensor(list(allowed))
        if self.frozen:
            lead = (values - values[:, NO_OP : NO_OP + 1]).min(dim=0).values.masked_fill(~possible, -math.inf)
            best = int(lead.argmax())
            return best if best != NO_OP and float(lead[best]) > self.config.margin else NO_OP
        random = np.random.default_rng((self.config.seed, 1, self.decisions))
        by_chance = random.random() < self.epsilon
        self.decisions += 1
        if by_chance:
            return int(random.choice(np.flatnonzero(possible.numpy())))
        return int(values.mean(dim=0).masked_fill(~possible, -math.inf).argmax())

    def remember(
        self,
        state: Sequence[float],
        action: int,
        reward: float,
        following: Sequence[float],
        allowed: Sequence[bool],
        *,
        last: bool,
    ) -> None:
        """Keep a transition: the state after it, what was allowed there, and whether it was the episode's last."""
        self._refuse_if_frozen()
        random = np.random.default_rng((self.config.seed, 2, self.replay.added))
        heads = random.random(self.config.heads) < self.config.keep
        self.replay.add(state, action, reward, following, allowed, last, heads)

    def learn(self, updates: int = 1) -> float | None:
        """So many steps of the optimizer on batches of the replay; the last loss, None while there is too little."""
        self._refuse_if_frozen()
        if len(self.replay) < self.config.batch:
            return None
        found = math.nan
        for _ in range(updates):
            found = self._update()
        return found

    def freeze(self) -> None:
        """Let it learn and explore no more."""
        self.frozen = True

    def _update(self) -> float:
        c = self.config
        random = np.random.default_rng((c.seed, 3, self.updates))
        drawn = self.replay.sample(c.batch, random)
        with torch.no_grad():  # double: the online network chooses, the target network values
            impossible = ~drawn.allowed.unsqueeze(1)
            best = self.online(drawn.following).masked_fill(impossible, -math.inf).argmax(dim=2, keepdim=True)
            after = self.target(drawn.following).gather(2, best).squeeze(2)
            wanted = drawn.rewards.unsqueeze(1) + c.gamma * after * (~drawn.last).unsqueeze(1)
        taken = drawn.actions.view(-1, 1, 1).expand(-1, c.heads, 1)
        found = self.online(drawn.states).gather(2, taken).squeeze(2)
        errors = nn.functional.huber_loss(found, wanted, reduction="none") * drawn.heads
        loss = errors.sum() / drawn.heads.sum().clamp_min(1.0)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.online.parameters(), strict=True):
                slow.lerp_(fast, c.tau)
        self.updates += 1
        return float(loss.detach())

    def _refuse_if_frozen(self) -> None:
        if self.frozen:
            raise TrainingError("the monitor is frozen and learns no more; make a new one, or load what learns still")

    # ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def save(self, path: str | Path, facts: dict[str, Any] | None = None) -> str:
        """Write it; the file's SHA-256. A frozen one is its network alone, another goes on with the same bits."""
        tensors = {f"online.{name}": tensor for name, tensor in self.online.state_dict().items()}
        if not self.frozen:
            tensors |= {f"target.{name}": tensor for name, tensor in self.target.state_dict().items()}
            tensors |= {f"replay.{name}": tensor for name, tensor in self.replay.tensors().items()}
            for number, state in self.optimizer.state_dict()["state"].items():
                tensors |= {f"adam.{number}.{name}": tensor for name, tensor in state.items()}
        return write_checkpoint(Path(path), tensors, {
            "kind": KIND, "config": asdict(self.config), "frozen": self.frozen, "decisions": self.decisions,
            "updates": self.updates, "added": self.replay.added, "facts": facts or {},
        })  # fmt: skip

    @classmethod
    def load(cls, path: str | Path) -> LossMonitorAgent:
        """What `save` wrote.

        Raises
        ------
        CheckpointError
            If it is absent, damaged, or no monitor.
        """
        tensors, facts = read_checkpoint(Path(path))
        if facts.get("kind") != KIND:
            raise CheckpointError(
                f"{path} is no loss monitor but {facts.get('kind') or 'something else'}; give a file that "
                "LossMonitorAgent.save wrote"
            )
        try:
            agent = cls(MonitorConfig(**facts["config"]))
            agent.online.load_state_dict(_part(tensors, "online"))
            agent.decisions, agent.updates = facts["decisions"], facts["updates"]
            agent.frozen = facts["frozen"]
            if not agent.frozen:
                agent.target.load_state_dict(_part(tensors, "target"))
                agent.replay.restore(_part(tensors, "replay"), facts["added"])
                agent._restore_optimizer(_part(tensors, "adam"))
        except (TypeError, KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} was written by another version ({error}); train the monitor again") from None
        return agent

    def _restore_optimizer(self, tensors: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            number, _, what = name.partition(".")
            state.setdefault(int(number), {})[what] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
