"""How the losses of an adaptive loss are weighted: one policy a file, and this table of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from trading_bot.errors import TrainingError, unknown
from trading_bot.training.weight_policies.controller_only import ControllerOnly
from trading_bot.training.weight_policies.cov import CoV
from trading_bot.training.weight_policies.dwa import DWA
from trading_bot.training.weight_policies.famo import FAMO
from trading_bot.training.weight_policies.fixed import Fixed
from trading_bot.training.weight_policies.full_adaptive import FullAdaptive
from trading_bot.training.weight_policies.hybrid import Hybrid
from trading_bot.training.weight_policies.learning_based import LearningBased
from trading_bot.training.weight_policies.monitor_only import MonitorOnly
from trading_bot.training.weight_policies.performance_based import PerformanceBased
from trading_bot.training.weight_policies.policy import Alignment, Seen, Setting, WeightPolicy, Wish
from trading_bot.training.weight_policies.random_monitor import RandomMonitor
from trading_bot.training.weight_policies.relobralo import ReLoBRaLo
from trading_bot.training.weight_policies.rlw import RLW
from trading_bot.training.weight_policies.schedule_based import ScheduleBased
from trading_bot.training.weight_policies.softadapt import SoftAdapt
from trading_bot.training.weight_policies.time_average import TimeAverage

__all__ = ["POLICIES", "Alignment", "Seen", "Setting", "WeightPolicy", "Wish", "create_policy", "policy_options"]

POLICIES: Mapping[str, type[WeightPolicy]] = MappingProxyType(
    {
        "fixed": Fixed,
        "schedule_based": ScheduleBased,
        "performance_based": PerformanceBased,
        "learning_based": LearningBased,
        "hybrid": Hybrid,
        "cov": CoV,
        "softadapt": SoftAdapt,
        "relobralo": ReLoBRaLo,
        "dwa": DWA,
        "famo": FAMO,
        "rlw": RLW,
        "monitor_only": MonitorOnly,
        "controller_only": ControllerOnly,
        "full_adaptive": FullAdaptive,
        "random_monitor": RandomMonitor,
        "time_average": TimeAverage,
    }
)


def create_policy(name: str, setting: Setting, **options: Any) -> WeightPolicy:
    """The policy of that name; case does not matter, `-` may stand for `_`.

    Raises
    ------
    TrainingError
        If the name or an option is unknown, or as its class does.
    """
    kind = _kind(name)
    known = policy_options(name)
    for option in options:
        if option not in known:
            raise TrainingError(unknown(f"option of {name}", option, known or ["none"]))
    return kind(setting, **options)


def policy_options(name: str) -> tuple[str, ...]:
    """What can be set of that policy alone."""
    return tuple(each for each in inspect.signature(_kind(name)).parameters if each != "setting")


def _kind(name: str) -> type[WeightPolicy]:
    kind = POLICIES.get(str(name).lower().replace("-", "_"))
    if kind is None:
        raise TrainingError(unknown("adaptation strategy", name, POLICIES))
    return kind
