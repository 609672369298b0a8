"""Which strategies trade, with which models."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from trading_bot.errors import ConfigurationError
from trading_bot.settings import Settings

if TYPE_CHECKING:
    from trading_bot.domain.models import ModelVersion
    from trading_bot.trading.neural_forecast import NeuralForecast


def chosen_strategies(settings: Settings) -> list[Any]:
    """The strategies of the folder, then the networks that were promoted; `strategies` chooses among both. Where there
    is learning, a strategy of the folder that has no model of its own is wrapped for the one it may be given."""
    from trading_bot.trading.meta_labelled import MetaLabelled

    rules, networks = choose(settings)
    if settings.learning.enabled:
        rules = [each if hasattr(each, "model_version") else MetaLabelled(each) for each in rules]
    return [*rules, *(_network(settings, version) for version in networks)]


def choose(settings: Settings) -> tuple[list[Any], list[ModelVersion]]:
    """The strategies of the folder that are wanted, and the promoted networks that are, not loaded.

    Raises
    ------
    ConfigurationError
        If one that is wanted is not there, or one name stands for both.
    """
    from trading_bot.domain.models import ModelStatus
    from trading_bot.learn.model_registry import is_network
    from trading_bot.trading.strategy import load_strategies

    versions = registered(settings) if settings.neural.enabled else []
    refuse_selectors(settings, versions)
    versions = [version for version in versions if is_network(version)]
    champions = {version.strategy: version for version in versions if version.status is ModelStatus.CHAMPION}
    wanted = list(settings.strategies)
    networks = [name for name in champions if not wanted or name in wanted]
    files = [name for name in wanted if name not in champions]
    for name in files:
        if any(v.strategy == name for v in versions) and not (settings.strategy_path / f"{name}.py").is_file():
            raise ConfigurationError(
                f"strategies has {name!r}, a trained network that has not been promoted; `trading-bot models promote` "
                "does that"
            )
    strategies = load_strategies(settings.strategy_path, files or None) if files or not wanted else []
    taken = {strategy.name for strategy in strategies}
    for name in networks:
        if name in taken or (settings.strategy_path / f"{name}.py").is_file():
            raise ConfigurationError(
                f"strategy {name!r} is a file and a promoted network too; rename the file, or train the network under "
                "another --strategy"
            )
    return strategies, [champions[name] for name in networks]


def refuse_selectors(settings: Settings, versions: Sequence[ModelVersion]) -> None:
    """`strategies` may not name a model that chooses among strategies."""
    from trading_bot.learn.model_registry import is_selector

    for name in settings.strategies:
        if any(v.strategy == name and is_selector(v) for v in versions):
            raise ConfigurationError(
                f"strategies has {name!r}, a selector: it weighs strategies and is none; take it out of the list, and "
                "set ensemble.method to trm"
            )


def registered(settings: Settings) -> list[ModelVersion]:
    """The registered models; none where there is no database yet. One that cannot be read is an error: a backtest
    without the networks it should have had would be taken for one with them."""
    from trading_bot.errors import NoDatabase
    from trading_bot.learn.model_registry import versions
    from trading_bot.storage.store import open_readonly

    try:
        store = open_readonly(settings.database_url)
    except NoDatabase:
        return []
    with closing(store):
        return versions(store)


def _network(settings: Settings, version: ModelVersion) -> NeuralForecast:
    import torch

    from trading_bot.learn.model_registry import models_folder
    from trading_bot.trading.neural_forecast import load_network

    torch.set_num_threads(1)  # a window at a time is too little to share, and one thread's sums have one order
    return load_network(models_folder(settings.data_dir), version, settings.neural.max_age_days)


def take_up_models(settings: Settings, strategies: list[Any]) -> None:
    """Give the rules the models that are in use now."""
    from trading_bot.domain.models import ModelStatus
    from trading_bot.learn.model_registry import is_meta_label, models_folder
    from trading_bot.trading.meta_labelled import MetaLabelled, load_model

    found = {v.strategy: v for v in registered(settings) if v.status is ModelStatus.CHAMPION and is_meta_label(v)}
    for strategy in strategies:
        if isinstance(strategy, MetaLabelled) and strategy.name in found:
            version = found[strategy.name]
            strategy.use(load_model(models_folder(settings.data_dir), version), version.id)
