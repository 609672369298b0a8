"""Verb `models`: the trained models there are, and which of them is in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from trading_bot.cli import show
from trading_bot.cli.options import configured, json_option

if TYPE_CHECKING:
    from trading_bot.domain.models import ModelVersion
    from trading_bot.settings import Settings

_COLUMNS = (
    "id",
    "strategy",
    "status",
    "model",
    "pair",
    "timeframe",
    "horizon>",
    "created",
    "trained until",
    "hit rate>",
    "skill>",
)


@click.group()
def models() -> None:
    """Trained models: each is a candidate, a strategy's champion (the one in use) or retired.

    \b
    Example: trading-bot models list
    """


@models.command("list")
@configured()
@json_option
def list_models(settings: Settings, as_json: bool) -> None:
    """Every model that was trained, oldest first.

    Hit rate: how often the direction it forecast out of sample was right, and its interval. Skill: how much smaller
    its mean squared error was than that of forecasting no move at all.

    \b
    Example: trading-bot models list --json
    """
    from trading_bot.learn.model_registry import versions
    from trading_bot.storage.store import open_readonly

    with closing(open_readonly(settings.database_url)) as store:
        found = versions(store)
    if as_json:
        show.print_json(found)
    elif found:
        show.table(_COLUMNS, [_row(version) for version in found])
    else:
        click.echo("no models yet: none has been trained")


@models.command()
@click.argument("model_id", metavar="ID")
@configured()
def promote(settings: Settings, model_id: str) -> None:
    """Take model ID into use; the one before it retires.

    The beginning of the ID is enough where no other begins so. A retired model may come back in this way. No daemon
    is needed; one that runs goes on with the model it started with.

    \b
    Example: trading-bot models promote neural_forecast-20240131
    """
    from trading_bot.learn.model_registry import models_folder
    from trading_bot.learn.model_registry import promote as make_champion
    from trading_bot.storage.store import open_readonly, open_store
    from trading_bot.trading.memory import last_bar

    open_readonly(settings.database_url).close()  # there must be one: a mistyped db_url should not make another
    with closing(open_store(settings.database_url)) as store:
        champion, replaced = make_champion(store, models_folder(settings.data_dir), model_id, last_bar(store))
    if replaced is champion:
        click.echo(f"{champion.id} is the champion of {champion.strategy} already: nothing was changed")
        return
    before = f"replaces {replaced.id}" if replaced is not None else "is its first champion"
    click.echo(f"{champion.strategy}: {champion.id} {before}; a running daemon uses it from its next start")


@models.command()
@click.argument("strategy", default="neural_forecast")
@configured()
def rollback(settings: Settings, strategy: str) -> None:
    """Put back the model that STRATEGY's champion replaced; again, and it is the one before that.

    \b
    Example: trading-bot models rollback neural_forecast
    """
    from trading_bot.learn.model_registry import models_folder
    from trading_bot.learn.model_registry import rollback as put_back
    from trading_bot.storage.store import open_readonly, open_store
    from trading_bot.trading.memory import last_bar

    open_readonly(settings.database_url).close()
    with closing(open_store(settings.database_url)) as store:
        champion, retired = put_back(store, models_folder(settings.data_dir), strategy, last_bar(store))
    click.echo(f"{strategy}: {champion.id} is back, {retired.id} retired; a running daemon uses it from its next start")


@models.command("show")
@click.argument("model_id", metavar="ID")
@configured()
@json_option
def show_model(settings: Settings, model_id: str, as_json: bool) -> None:
    """Everything that is known of model ID (the beginning of it is enough).

    \b
    Example: trading-bot models show neural_forecast-20240131
    """
    from trading_bot.learn.model_registry import named
    from trading_bot.storage.store import open_readonly

    with closing(open_readonly(settings.database_url)) as store:
        version = named(store, model_id)
    if as_json:
        show.print_json(version)
        return
    config, scores = version.config, version.scores
    for label, value in (
        ("Model", f"{version.id}, {version.status} of {version.strategy}"),
        ("Replaced", version.parent or "none"),
        ("Network", _sizes(config.get("model") or {})),
        ("Forecasts", f"{config.get('symbol')} {config.get('timeframe')}, {config.get('horizon')} bars ahead"),
        ("Trained on", f"{show.bar(config.get('trained_from'))} to {show.bar(config.get('trained_until'))}, candles "
                       f"{version.data_hash}"),
        ("Features", f"{len(version.features.get('names', []))} in windows of {version.features.get('length')} bars"),
        ("Training", _sizes(config.get("training") or {})),
        ("Hit rate", _hit_rate(scores) or "-"),
        ("Skill", show.percent(scores.get("skill"))),
        ("Error", f"MAE {show.text(scores.get('mae'))}, that of forecasting zero {show.text(scores.get('mae_zero'))}"),
        ("In use since", show.bar(version.activated_at_bar)),
        ("Checkpoint", f"sha256 {version.sha256}"),
    ):  # fmt: skip
        show.line(label, value)


def _sizes(values: Mapping[str, Any]) -> str:
    name = values.get("name") or values.get("model")
    rest = ", ".join(f"{key} {value}" for key, value in values.items() if key not in ("name", "model", "sizes"))
    return f"{name} ({rest})" if rest else str(name)


def _row(version: ModelVersion) -> Sequence[Any]:
    config, scores = version.config, version.scores
    return (
        version.id,
        version.strategy,
        str(version.status),
        (config.get("model") or {}).get("name"),
        config.get("symbol"),
        config.get("timeframe"),
        config.get("horizon"),
        version.created,
        show.bar(config.get("trained_until")),
        _hit_rate(scores),
        show.percent(scores.get("skill")),
    )


def _hit_rate(scores: Mapping[str, Any]) -> str | None:
    rate, interval = scores.get("hit_rate"), scores.get("hit_rate_interval")
    if rate is None:
        return None
    return f"{rate:.1%}" + (f" ({interval[0]:.1%} to {interval[1]:.1%})" if interval else "")
