"""Which trained selector weighs the strategies, on which market."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from trading_bot.bootstrap.strategies import registered
from trading_bot.errors import ConfigurationError
from trading_bot.settings import Settings

if TYPE_CHECKING:
    from trading_bot.domain.models import ModelVersion
    from trading_bot.trading.strategy_selector import StrategySelector


def promoted_selectors(settings: Settings) -> list[ModelVersion]:
    """The selectors in use; none where `ensemble.method` is another.

    Raises
    ------
    ConfigurationError
        If the method is trm and no selector has been promoted, or networks are switched off.
    """
    if settings.ensemble.method != "trm":
        return []
    from trading_bot.domain.models import ModelStatus
    from trading_bot.learn.model_registry import is_selector

    if not settings.neural.enabled:
        raise ConfigurationError(
            "ensemble.method is trm, which wants a trained network, and neural.enabled is false; set that to true, or "
            "the method to table"
        )
    known = [version for version in registered(settings) if is_selector(version)]
    champions = [version for version in known if version.status is ModelStatus.CHAMPION]
    if not champions:
        found, do = "none", "`trading-bot train-trm` trains one, `models promote` uses it"
        if known:
            found, do = (
                f"{len(known)} not promoted",
                f"`trading-bot models promote {known[-1].id}` puts the newest in use",
            )
        raise ConfigurationError(
            f"ensemble.method is trm, which wants a promoted selector, found {found}; {do}; or set the method to table"
        )
    return champions


def selectors_of(
    settings: Settings, promoted: Sequence[ModelVersion], symbols: Iterable[str], timeframe: str
) -> dict[str, StrategySelector]:
    """A selector for each symbol, none at all without `promoted`; where none fits, one that is silent and says so."""
    if not promoted:
        return {}
    import torch

    from trading_bot.learn.model_registry import models_folder
    from trading_bot.logs import event
    from trading_bot.trading.strategy_selector import StrategySelector, load_selector

    torch.set_num_threads(1)  # a window at a time is too little to share, and one thread's sums have one order
    markets = {(each.config.get("symbol"), each.config.get("timeframe")): each for each in promoted}
    found = {}
    for symbol in symbols:
        version = markets.get((symbol, timeframe))
        if version is not None:
            found[symbol] = load_selector(models_folder(settings.data_dir), version, settings.neural.max_age_days)
            continue
        known = ", ".join(f"{pair} {bars}" for pair, bars in markets)
        refusal = f"none was promoted for {symbol} {timeframe}, only for {known}"
        event("selector", f"{symbol} {timeframe}", f"{refusal}; weights as with ensemble.method table", level="WARNING")
        found[symbol] = StrategySelector(None, None, settings.neural.max_age_days, refusal)
    return found
