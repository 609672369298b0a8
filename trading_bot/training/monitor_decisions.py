"""When a monitor decides, what it is shown, and what is undone when its decisions do harm."""

from __future__ import annotations

from typing import Any, Protocol

from trading_bot.errors import TrainingError
from trading_bot.training import monitor_state as state
from trading_bot.training.monitor_state import LOSSES, NO_OP, Memory, Sight

WORSE = 0.002  # of the metric: a rise by more, after an action, makes that a bad decision
TIMES = 2  # bad decisions in a row


class Decider(Protocol):
    """What chooses an action: `LossMonitorAgent`, or one that does so by chance."""

    @property
    def frozen(self) -> bool:
        """Whether it is at work: what does harm then is undone. One that is to learn what does harm must see it."""

    def decide(self, state: list[float], allowed: list[bool], step: int = 0) -> int: ...


class Decisions:
    """A factor for each auxiliary loss's weight, moved every so many steps.

    Of a frozen decider, the factors of before the first of two bad decisions in a row come back, and it decides no
    more. A decision is bad if the fixed metric on the reward batches has risen when the next one is due.

    Parameters
    ----------
    count : losses, the first of which is the main one
    frequency : steps between decisions
    decider : None never acts

    Raises
    ------
    TrainingError
        If there are more losses than a state has room for.
    """

    def __init__(self, count: int, frequency: int, decider: Decider | None) -> None:
        if not 2 <= count <= LOSSES:
            raise TrainingError(
                f"there are {count} losses; a monitor knows 2 to {LOSSES}: leave some out, or choose another strategy"
            )
        self.count, self.frequency, self.decider = count, frequency, decider

    def begin(self) -> Memory:
        """What to remember before the first step."""
        ones = [1.0] * (self.count - 1)
        return {
            **state.begin(self.count), "factors": ones, "kept": ones, "last": NO_OP, "bad": 0, "off": False,
            "rate": None, "first_rate": None, "actions": [],
        }  # fmt: skip

    def look(self, memory: Memory, seen: Sight) -> list[float]:
        """The factors after this step, (count − 1,)."""
        if self.decider is not None:
            state.notice(memory, seen)
            if seen.step % self.frequency == 0:
                self._decide(memory, seen, self.decider)
        return list(memory["factors"])

    def _decide(self, memory: Memory, seen: Sight, decider: Decider) -> None:
        state.measure(memory, seen)
        if decider.frozen:
            self._judge(memory)
        action = NO_OP
        if not memory["off"]:
            allowed = state.allowed_actions(memory["factors"])
            rate = memory["rate"] / memory["first_rate"] if memory["first_rate"] else 1.0
            found = state.vector(memory, seen, memory["last"], rate)
            action = decider.decide(found, allowed, seen.step)
            if action != NO_OP and memory["bad"] == 0:
                memory["kept"] = list(memory["factors"])
            memory["factors"] = state.act(memory["factors"], action)
        memory["last"] = action
        memory["actions"].append(action)

    def _judge(self, memory: Memory) -> None:
        """The last decision, now that the metric after it is known."""
        if memory["last"] == NO_OP:
            return
        before, now = memory["metrics"][-2:]
        memory["bad"] = memory["bad"] + 1 if now > before + WORSE * abs(before) else 0
        if memory["bad"] >= TIMES:
            memory["factors"], memory["off"], memory["bad"] = list(memory["kept"]), True, 0


class Told:
    """For policies that a learning rate matters to: whoever has the optimizer may tell."""

    memory: dict[str, Any]

    def tell_rate(self, rate: float) -> None:
        """The learning rate of the step that comes."""
        if self.memory["first_rate"] is None:
            self.memory["first_rate"] = rate
        self.memory["rate"] = rate
