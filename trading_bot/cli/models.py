"""Verb `models`: the trained models there are, and which of them is in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from trading_bot.cli import show
from trading_bot.cli.options import configured, json_option, last_option
from trading_bot.cli.records import records
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
    "trained until",
    "hit rate>",
    "skill>",
    "gain>",
)


@click.group()
def models() -> None:
    """Trained models: each is a candidate, a strategy's champion (the one in use), retired or rejected.

    A network is a strategy of its own; a meta-label model, which the daemon trains, judges the signals of another one;
    a selector, which `train-trm` trains, weighs the strategies of one market where ensemble.method is trm.

    \b
    Example: trading-bot models list
    """


@models.command("list")
@configured()
@json_option
def list_models(settings: Settings, as_json: bool) -> None:
    """Every model that was trained, oldest first.

    Of a network, the hit rate tells how often the direction it forecast out of sample was right, with its interval, and
    skill how much smaller its mean squared error was than that of forecasting no move at all. Of a meta-label model,
    gain is the part it took off the log loss of what was in use before, out of sample, with its interval.

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
    """Take model ID into use; the one before it retires, even if it was pinned.

    The beginning of the ID is enough where no other begins so. A retired or rejected model may be promoted too. No
    daemon is needed; one that runs takes up a meta-label model at the next bar, a network when it starts again.

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
    click.echo(f"{champion.strategy}: {champion.id} {before}; {_taken_up(champion)}")


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
    click.echo(f"{strategy}: {champion.id} is back, {retired.id} retired; {_taken_up(champion)}")


@models.command()
@click.argument("model_id", metavar="ID")
@click.option("--off", is_flag=True, help="Take the pin off: trainings may replace it again.")
@configured()
def pin(settings: Settings, model_id: str, off: bool) -> None:
    """Keep champion ID in use: no training replaces it, nor takes it back; `promote` and `rollback` still do.

    \b
    Example: trading-bot models pin macd_momentum-20240131
    """
    from trading_bot.learn.model_registry import pin as set_pin
    from trading_bot.storage.store import open_readonly, open_store

    open_readonly(settings.database_url).close()
    with closing(open_store(settings.database_url)) as store:
        version = set_pin(store, model_id, not off)
    told = (
        "is not pinned: a training may replace it"
        if off
        else "is pinned: only `models promote` or `rollback` replaces it"
    )
    click.echo(f"{version.strategy}: {version.id} {told}")


@models.command("show")
@click.argument("model_id", metavar="ID")
@configured()
@json_option
def show_model(settings: Settings, model_id: str, as_json: bool) -> None:
    """Everything that is known of model ID (the beginning of it is enough).

    \b
    Example: trading-bot models show neural_forecast-20240131
    """
    from trading_bot.learn.model_registry import is_meta_label, is_selector, named
    from trading_bot.storage.store import open_readonly

    with closing(open_readonly(settings.database_url)) as store:
        version = named(store, model_id)
    if as_json:
        show.print_json(version)
        return
    about = _about_meta_label if is_meta_label(version) else _about_selector if is_selector(version) else _about_network
    for label, value in (
        ("Model", f"{version.id} of {version.strategy}"),
        ("Status", _status(version)),
        ("Created", show.text(version.created)),
        ("Replaced", version.parent or "none"),
        *about(version),
        ("In use since", show.bar(version.activated_at_bar)),
        ("Checkpoint", f"sha256 {version.sha256}"),
    ):
        show.line(label, value)


@models.command()
@click.option("-s", "--strategy", metavar="NAME", help="Only this strategy's.")
@last_option
@configured()
@json_option
def trainings(settings: Settings, strategy: str | None, last: int, as_json: bool) -> None:
    """What came of training the strategies' models, and why, newest last.

    \b
    Example: trading-bot models trainings -s macd_momentum --last 5
    """
    from trading_bot.cli.train_strategies import print_trainings
    from trading_bot.domain.journal import Training

    where = {} if strategy is None else {"strategy": strategy}
    with records(settings) as tx:
        found = tx.find(Training, last=last or None, **where)
    if as_json:
        show.print_json(found)
    elif found:
        print_trainings(found)
    else:
        click.echo("no trainings yet")


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
        _networks_only(new)
        old = named(store, champion) if champion is not None else champion_of(store, new.strategy)
        _networks_only(old)
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


def _about_network(version: ModelVersion) -> Sequence[tuple[str, str]]:
    config, scores, features = version.config, version.scores, version.features
    return (
        ("Network", _sizes(config.get("model") or {})),
        *((("Reads with", config["language_model"]),) if "language_model" in config else ()),
        ("Forecasts", f"{config.get('symbol')} {config.get('timeframe')}, {config.get('horizon')} bars ahead"),
        ("Trained on", _trained_on(version)),
        ("Features", f"{len(features.get('names', []))} in windows of {features.get('length')} bars"),
        ("Training", _sizes(config.get("training") or {})),
        ("Hit rate", _hit_rate(scores) or "-"),
        ("Skill", show.percent(scores.get("skill"))),
        ("Error", f"MAE {show.text(scores.get('mae'))}, that of forecasting zero {show.text(scores.get('mae_zero'))}"),
    )


def _about_meta_label(version: ModelVersion) -> Sequence[tuple[str, str]]:
    config, scores = version.config, version.scores
    base_rate, names = scores.get("base_rate"), version.features.get("names", [])
    return (
        ("Judges", f"signals on {', '.join(config.get('symbols', [])) or '-'} {config.get('timeframe')}: whether they "
                   f"pay within {config.get('horizon')} bars"),
        ("Trained on", f"{show.text(config.get('rows'))} signals, {_trained_on(version)}"),
        ("Features", f"{len(names)}: {', '.join(names)}"),
        ("Gain", _gain(scores) or "-"),
        ("Log loss", f"{show.text(scores.get('log_loss'))}, before {show.text(scores.get('log_loss_before'))}"),
        ("Base rate", "-" if base_rate is None else f"{base_rate:.1%} of {show.text(scores.get('rows'))} signals paid"),
    )  # fmt: skip


def _about_selector(version: ModelVersion) -> Sequence[tuple[str, str]]:
    config, scores, features = version.config, version.scores, version.features
    return (
        ("Network", _sizes(config.get("model") or {})),
        ("Weighs", f"{', '.join(config.get('strategies', [])) or '-'} on {config.get('symbol')} "
                   f"{config.get('timeframe')}, by what pays over {config.get('horizon')} bars"),
        ("Trained on", _trained_on(version)),
        ("Features", f"{len(features.get('names', []))} in windows of {features.get('length')} bars"),
        ("Training", _sizes(config.get("training") or {})),
        ("Accuracy", _interval(scores, "accuracy") or "-"),
        ("Earned", f"{_interval(scores, 'pnl', '+.3%') or '-'} a choice, after costs"),
        ("Log loss", f"{show.text(scores.get('log_loss'))}, that of the training's class shares "
                     f"{show.text(scores.get('log_loss_shares'))}"),
        ("Verdict", str(scores.get("verdict", "-"))),
    )  # fmt: skip


def _trained_on(version: ModelVersion) -> str:
    first, last = (show.bar(version.config.get(name)) for name in ("trained_from", "trained_until"))
    return f"{first} to {last}, candles {version.data_hash}"


def _taken_up(version: ModelVersion) -> str:
    """When a change of champion reaches a daemon."""
    from trading_bot.learn.model_registry import is_meta_label, is_selector

    if is_meta_label(version):
        return "a running daemon takes that up within a second, from the next bar"
    where = ", where ensemble.method is trm" if is_selector(version) else ""
    return f"a running daemon uses it from its next start{where}"


def _networks_only(version: ModelVersion) -> None:
    from trading_bot.learn.model_registry import is_meta_label, is_selector

    if is_selector(version):
        raise TradingBotError(
            f"{version.id} is a selector of strategies, wanted a network that forecasts; `trading-bot models show "
            f"{version.id}` has its scores"
        )
    if is_meta_label(version):
        raise TradingBotError(
            f"{version.id} is a meta-label model, wanted a network: the daemon compares such models itself when it "
            f"trains them; `trading-bot models show {version.id}` has the scores"
        )


def _status(version: ModelVersion) -> str:
    return f"{version.status}, pinned" if version.pinned else str(version.status)


def _sizes(values: Mapping[str, Any]) -> str:
    name = values.get("name") or values.get("model")
    rest = ", ".join(f"{key} {value}" for key, value in values.items() if key not in ("name", "model", "sizes"))
    if name is None and rest:
        return rest
    return f"{name} ({rest})" if rest else str(name)


def _row(version: ModelVersion) -> Sequence[Any]:
    config, scores = version.config, version.scores
    symbols = config.get("symbols") or [config.get("symbol")]
    return (
        version.id,
        version.strategy,
        _status(version),
        config.get("kind") or (config.get("model") or {}).get("name"),
        symbols[0] if len(symbols) == 1 else f"{len(symbols)} pairs",
        config.get("timeframe"),
        config.get("horizon"),
        show.bar(config.get("trained_until")),
        _hit_rate(scores),
        show.percent(scores.get("skill")),
        _gain(scores),
    )


def _gain(scores: Mapping[str, Any]) -> str | None:
    gain, interval = scores.get("gain"), scores.get("gain_interval")
    if gain is None:
        return None
    return show.percent(gain) + (f" ({interval[0]:+.2%} to {interval[1]:+.2%})" if interval else "")


def _interval(scores: Mapping[str, Any], name: str, form: str = ".1%") -> str | None:
    """A share with its interval."""
    value, interval = scores.get(name), scores.get(f"{name}_interval")
    if value is None:
        return None
    return f"{value:{form}}" + (f" ({interval[0]:{form}} to {interval[1]:{form}})" if interval else "")


def _hit_rate(scores: Mapping[str, Any]) -> str | None:
    return _interval(scores, "hit_rate")
