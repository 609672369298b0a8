"""The ready-made combinations, which of them suits what, and an adaptive loss made of one."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trading_bot.durable import replacing
from trading_bot.errors import ConfigurationError, TrainingError, unknown
from trading_bot.training.adaptive_loss_advice import Recommendation, advise, measure_returns
from trading_bot.training.adaptive_loss_function import AdaptiveLossFunction
from trading_bot.training.loss_frame import Loss
from trading_bot.training.loss_functions import create_loss_function
from trading_bot.training.weight_policies import Setting, create_policy, policy_options

Combination = str | Mapping[str, str | Loss]


@dataclass(frozen=True, slots=True)
class CombinationInfo:
    """A ready-made combination.

    Attributes
    ----------
    losses : factory names, by the names its weights are told under
    """

    name: str
    losses: Mapping[str, str]
    best_for: str
    use_case: str


def _table(*entries: CombinationInfo) -> Mapping[str, CombinationInfo]:
    return MappingProxyType({entry.name: entry for entry in entries})


COMBINATIONS = _table(
    CombinationInfo(
        "basic", {"mse": "MSE", "mae": "MAE"},
        "first experiments, a baseline to compare with", "plain regression, a market without surprises",
    ),
    CombinationInfo(
        "trading_focused", {"dlf": "DLF", "trading": "TRADING_LOSS", "sharpe": "SHARPE_LOSS"},
        "what is traded upon, profit after costs", "the return of a position counts, not the error",
    ),
    CombinationInfo(
        "robust_prediction", {"mse": "MSE", "dlf": "DLF", "robust": "ROBUST"},
        "noise, outliers, high volatility", "a few extreme bars would rule a squared error",
    ),
    CombinationInfo(
        "comprehensive",
        {"mse": "MSE", "dlf": "DLF", "trading": "TRADING_LOSS", "asymmetric": "ASYMMETRIC"},
        "forecasts in general, several aims at once", "error, direction and profit all count",
    ),
    CombinationInfo(
        "directional_focused", {"dlf": "DLF", "madl": "MADL", "asymmetric": "ASYMMETRIC"},
        "the sign of the next return, trends", "direction matters more than size",
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AdaptiveLossConfig:
    """What an adaptive loss is made of; everything of it is text and numbers, so that it can be kept as JSON."""

    combination: str | Mapping[str, str] = "trading_focused"
    adaptation_strategy: str = "performance_based"
    adaptation_frequency: int = 50
    performance_window: int = 20
    options: Mapping[str, Any] = field(default_factory=dict)


def create_adaptive_loss(
    combination: Combination = "trading_focused",
    adaptation_strategy: str = "performance_based",
    adaptation_frequency: int = 50,
    performance_window: int = 20,
    *,
    metric: str | Loss | None = None,
    sigma: float | None = None,
    seed: int = 0,
    calibration_steps: int = 100,
    total_steps: int = 1000,
    record_every: int = 10,
    **options: Any,
) -> AdaptiveLossFunction:
    """A combination of losses whose weights adapt.

    Parameters
    ----------
    combination : a name of `COMBINATIONS`, or losses (made, or by their names) by names of your own
    adaptation_strategy : a name of `weight_policies.POLICIES`
    adaptation_frequency : steps between adaptations; policies that adapt at every step take no notice
    performance_window : measurements on inner-validation batches that count
    metric : what never adapts, by name; see `AdaptiveLossFunction`
    sigma : of all losses and the metric; left out, it is 1 until `fit_scale` or a trainer sets it
    seed : of policies that leave something to chance
    calibration_steps, total_steps, record_every : see `AdaptiveLossFunction`
    options : of the policy: `weights`, `start`, `end`, `eta`, `beta`, …

    Raises
    ------
    TrainingError
        If a name or option is unknown, or a number out of range.
    """
    losses = _losses(combination)
    setting = Setting(tuple(losses), adaptation_frequency, performance_window, seed)
    made = create_loss_function(metric) if isinstance(metric, str) else metric
    return AdaptiveLossFunction(
        losses,
        create_policy(adaptation_strategy, setting, **options),
        metric=made,
        calibration_steps=calibration_steps,
        total_steps=total_steps,
        record_every=record_every,
        sigma=sigma,
    )


class LossSelectionManager:
    """Ready-made combinations: what there is, what suits, one of them made, and a choice kept in a file."""

    def list_combinations(self) -> list[str]:
        """Their names."""
        return list(COMBINATIONS)

    def get_combination_info(self, name: str) -> CombinationInfo:
        """What is in one, and what it is for."""
        return _info(name)

    def recommend(
        self, task: str, *, volatility: str = "medium", trend: str = "medium", noise: str = "medium"
    ) -> Recommendation:
        """A combination for a task: `baseline`, `regression`, `trading`, `direction` or `general`.

        Parameters
        ----------
        volatility, trend, noise : of the market: `low`, `medium` or `high`
        """
        return advise(task, {"volatility": volatility, "trend": trend, "noise": noise})

    def recommend_from_data(self, returns: Sequence[float] | Any, task: str = "general") -> Recommendation:
        """The same with the market's character measured from per-bar returns (n,), oldest first, at least 50.

        Raises
        ------
        TrainingError
            If they are too few, not finite, or never move.
        """
        levels, measured = measure_returns(returns)
        return advise(task, levels, measured)

    def create_adaptive_loss(
        self, combination: Combination | AdaptiveLossConfig = "trading_focused", *given: Any, **options: Any
    ) -> AdaptiveLossFunction:
        """As the function of that name, or from a configuration."""
        if isinstance(combination, AdaptiveLossConfig):
            config = combination
            return create_adaptive_loss(
                config.combination, config.adaptation_strategy, config.adaptation_frequency,
                config.performance_window, *given, **{**config.options, **options},
            )  # fmt: skip
        return create_adaptive_loss(combination, *given, **options)

    def save(self, path: str | Path, config: AdaptiveLossConfig) -> None:
        """Write a configuration as JSON, after making the loss once to see that it can be.

        Raises
        ------
        TrainingError
            If the loss cannot be made, the configuration holds what JSON cannot, or the file cannot be written.
        """
        self.create_adaptive_loss(config)
        try:
            text = json.dumps({name: getattr(config, name) for name in _FIELDS}, indent=2, default=_plain)
        except TypeError as error:
            raise TrainingError(f"the configuration cannot be kept: {error}; name the losses and the metric") from None
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as file:
                file.write(f"{text}\n".encode())
        except OSError as error:
            raise TrainingError(f"{target} cannot be written: {error.strerror}; choose another folder") from error

    def load(self, path: str | Path) -> AdaptiveLossConfig:
        """What `save` wrote.

        Raises
        ------
        ConfigurationError
            If the file cannot be read, or holds something else.
        """
        try:
            found = json.loads(Path(path).read_text())
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}; check the path") from None
        except ValueError as error:
            raise ConfigurationError(f"{path} is no JSON ({error}); write it with LossSelectionManager.save") from None
        if not isinstance(found, dict):
            raise ConfigurationError(
                f"{path} holds a {type(found).__name__}; wanted an object with {', '.join(_FIELDS)}"
            )
        for name in found:
            if name not in _FIELDS:
                raise ConfigurationError(f"{path}: {unknown('key', name, _FIELDS)}")
        config = AdaptiveLossConfig(**found)
        try:
            self.create_adaptive_loss(config)
        except (TrainingError, TypeError) as error:
            raise ConfigurationError(f"{path}: {error}") from None
        return config


_FIELDS = tuple(inspect.signature(AdaptiveLossConfig).parameters)
LOSS_OPTIONS = tuple(
    name for name, each in inspect.signature(create_adaptive_loss).parameters.items() if each.kind != each.VAR_KEYWORD
)


def options_of(strategy: str) -> tuple[str, ...]:
    """Everything `create_adaptive_loss` takes with that strategy."""
    return (*LOSS_OPTIONS, *policy_options(strategy))


def _losses(combination: Combination) -> dict[str, Loss]:
    given = _info(combination).losses if isinstance(combination, str) else combination
    if not isinstance(given, Mapping) or not given:
        raise TrainingError(
            f"the combination is {given!r}; wanted one of {', '.join(COMBINATIONS)}, or losses by name such as "
            "{'mse': 'MSE', 'dlf': 'DLF'}"
        )
    return {name: create_loss_function(loss) if isinstance(loss, str) else loss for name, loss in given.items()}


def _info(name: str) -> CombinationInfo:
    entry = COMBINATIONS.get(str(name).lower().replace("-", "_"))
    if entry is None:
        raise TrainingError(unknown("combination", name, COMBINATIONS))
    return entry


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"found a {type(value).__name__}")
