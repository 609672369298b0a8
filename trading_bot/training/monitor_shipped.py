"""The frozen monitor and controller that come with the program, if they were worth it; see docs/evidence."""

from __future__ import annotations

from pathlib import Path

from trading_bot.training.loss_monitor import LossMonitorAgent
from trading_bot.training.meta_controller import MetaLearningController
from trading_bot.training.monitor_decisions import Decider

FOLDER = Path(__file__).parent / "shipped"
MONITOR, CONTROLLER = "loss_monitor.safetensors", "meta_controller.safetensors"


def monitor(given: Decider | str | Path | None) -> Decider | None:
    """The one given, or that of the file given, or the shipped one; None if none is shipped: it never acts.

    One from a file is frozen: at work nothing is left to chance.
    """
    if given is None and not (FOLDER / MONITOR).exists():
        return None
    if given is not None and not isinstance(given, str | Path):
        return given
    agent = LossMonitorAgent.load(FOLDER / MONITOR if given is None else given)
    agent.freeze()
    return agent


def controller(given: MetaLearningController | str | Path | None) -> MetaLearningController | None:
    """As `monitor`; None proposes equal weights."""
    if given is None:
        return MetaLearningController.load(FOLDER / CONTROLLER) if (FOLDER / CONTROLLER).exists() else None
    return MetaLearningController.load(given) if isinstance(given, str | Path) else given
