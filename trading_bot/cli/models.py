"""Verb `models`: the trained models there are, and which of them is in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from trading_bot.cli import show
from trading_bot.cli.options import configured, json_option
from trading_bot.errors import TradingBotError

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


@models.command()
@click.argument("challenger", metavar="ID")
@click.argument("champion", metavar="[OTHER]", required=False)
@click.option("--data", required=True, metavar="FILE|PAIR", help="Candle file, or a pair of the configuration.")
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Share of the moves' mean square that ID has to explain beyond OTHER.",
)
@configured()
@json_option
def compare(settings: Settings, challenger: str, champion: str | None, data: str, margin: float, as_json: bool) -> None:
    """Compare model ID with OTHER (its strategy's champion) on candles that neither was trained on.

    \b
    Example: trading-bot models compare neural_forecast-20240131 --data candles/BTC_USDT-1h.csv.gz
    """
    from trading_bot.cli.train import training_candles
    from trading_bot.learn import promotion
    from trading_bot.learn.model_registry import champion_of, checkpoint_path, models_folder, named
    from trading_bot.storage.store import open_readonly
    from trading_bot.training.forecaster import Forecaster

    with closing(open_readonly(settings.database_url)) as store:
        new = named(store, challenger)
        old = named(store, champion) if champion is not None else champion_of(store, new.strategy)
    if old.id == new.id:
        raise TradingBotError(f"{new.id} is the champion itself; name another model to compare it with")
    folder = models_folder(settings.data_dir)
    before, now = (Forecaster.load(checkpoint_path(folder, version)) for version in (old, new))
    found = promotion.compare(before, now, training_candles(settings, data), margin)
    if as_json:
        show.print_json({"champion": old.id, "challenger": new.id, "better": found.better, "comparison": found})
        return
    rows = [
        (name, each.rows, f"{each.mae:.5f}", show.percent(each.skill), _hit_rate(each.as_json()))
        for name, each in ((old.id, found.champion), (new.id, found.challenger))
    ]
    show.table(("model", "bars>", "MAE>", "skill>", "hit rate>"), rows,
               f"{show.bar(found.start)} to {show.bar(found.end)}")  # fmt: skip
    low, high = found.gain_interval
    verdict = "is better" if found.better else "is not shown to be better"
    click.echo(f"{new.id} {verdict}: it explains {found.gain:+.2%} more ({low:+.2%} to {high:+.2%}; wanted above "
               f"{margin:.2%}), its sign is right {found.hits:+.1%} more often")  # fmt: skip


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
