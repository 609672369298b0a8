"""What every verb that trains does with its model: keep it as a candidate, for `models promote` to put in use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from trading_bot.domain.models import ModelVersion
    from trading_bot.settings import Settings

_COMMON = ("model", "symbol", "timeframe", "horizon", "trained_from", "trained_until", "training")
_IF_THERE = ("language_model",)


def check_database(settings: Settings) -> None:
    """That it cannot be written should be told before the training."""
    from trading_bot.storage.store import open_store

    open_store(settings.database_url).close()


def check_name(option: str, name: str) -> None:
    """Refuse what cannot be a strategy's name, which becomes part of a file's: wanted is a word of ASCII.

    Raises
    ------
    click.BadParameter
    """
    if not re.fullmatch(r"[A-Za-z]\w{0,59}", name, re.ASCII):
        raise click.BadParameter(f"{option}: found {name!r}, wanted a word such as neural_forecast")
    if name.startswith("trm_"):
        raise click.BadParameter(f"{option}: found {name!r}, but names with trm_ are those of `train-trm`'s selectors")


def register_candidate(
    settings: Settings,
    checkpoint: Path,
    facts: Mapping[str, Any],
    scores: Mapping[str, Any],
    *,
    name: str,
    run: str,
    more: Mapping[str, Any],
) -> ModelVersion:
    """Keep a trained model as a candidate: a row in the database, its checkpoint in the data directory.

    Parameters
    ----------
    facts : of the checkpoint, as its `facts` tell them; without the moment of its creation, it is now
    scores : out of sample
    name : what it is promoted under: a strategy's name, or a selector's
    run : the run's id, which makes the model's; where another run has it (of another --runs, begun in the same second)
        together with the checkpoint's bytes
    more : what only models of this kind have to say of themselves
    """
    from trading_bot.domain.models import ModelStatus, ModelVersion
    from trading_bot.learn.model_registry import models_folder, register, versions
    from trading_bot.storage.store import open_store
    from trading_bot.training.checkpoint_file import file_sha256

    version = ModelVersion(
        id=f"{name}-{run}",
        strategy=name,
        status=ModelStatus.CANDIDATE,
        created=datetime.fromisoformat(facts["created"]) if "created" in facts else datetime.now(UTC),
        parent=None,
        sha256=file_sha256(checkpoint),
        data_hash=facts["data_hash"],
        features=facts["features"],
        config={each: facts[each] for each in (*_COMMON, *(each for each in _IF_THERE if each in facts))} | dict(more),
        scores=scores,
    )
    with closing(open_store(settings.database_url)) as store:
        if any(each.id == version.id and each.sha256 != version.sha256 for each in versions(store)):
            version = replace(version, id=f"{version.id}-{version.sha256[:8]}")
        register(store, models_folder(settings.data_dir), version, checkpoint)
    return version
