"""Versions of trained models: a row in the database for each, its weights in a folder, one champion for a strategy.

The file is there before the row, and a promotion is one transaction: whenever the program ends, either the old or the
new champion is in force, and its file is whole.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from trading_bot.domain.models import ModelStatus, ModelVersion
from trading_bot.durable import remove_leftovers, replacing
from trading_bot.errors import CheckpointError, TradingBotError, TrainingError
from trading_bot.ports import Store, Tx

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # it becomes a file's name


def models_folder(data_dir: Path) -> Path:
    """Where the checkpoints of registered models lie."""
    return data_dir / "models"


# reading --------------------------------------------------------------------------------------------------------------


def versions(store: Store) -> list[ModelVersion]:
    """Every version there is, the oldest first."""
    with store.reading() as tx:
        return tx.find(ModelVersion)


def champions(store: Store) -> list[ModelVersion]:
    """The versions in use, at most one for each strategy."""
    with store.reading() as tx:
        return tx.find(ModelVersion, status=ModelStatus.CHAMPION)


def checkpoint_path(folder: Path, version: ModelVersion) -> Path:
    """The file with the weights of `version`, sure to be the one that was registered.

    Raises
    ------
    CheckpointError
        It is absent, unreadable or was changed.
    """
    path = _place(folder, version.id)
    _read(path, version, "put the file back from a copy, or train the model again")
    return path


# changing -------------------------------------------------------------------------------------------------------------


def register(store: Store, folder: Path, version: ModelVersion, checkpoint: Path) -> None:
    """Keep a trained model as a candidate: a copy of `checkpoint` in `folder`, then a row. Twice is as good as once.

    Raises
    ------
    CheckpointError
        The file is not the one `version` describes, cannot be copied, or another is registered under this id.
    TrainingError
        `version` is no candidate.
    """
    target = _place(folder, version.id)
    if version.status != ModelStatus.CANDIDATE:
        raise TrainingError(f"model {version.id} is {version.status}; a new one is registered as a candidate")
    content = _read(checkpoint, version, "train the model again")
    with store.reading() as tx:
        _same_file(tx.get(ModelVersion, version.id), version)
    try:
        checkpoint_path(folder, version)
    except CheckpointError:  # not there yet, or damaged since
        _write(content, target)
    with store.transaction() as tx:
        if not tx.add(version):
            _same_file(tx.get(ModelVersion, version.id), version)


def promote(
    store: Store, folder: Path, model_id: str, bar_time: int | None = None
) -> tuple[ModelVersion, ModelVersion | None]:
    """Make a version its strategy's champion; the one there was is retired. A retired one may come back.

    Parameters
    ----------
    model_id
        The version's id, or a beginning that no other has.
    bar_time
        Open of the newest bar decided, UTC ms, where it is known.

    Returns
    -------
    champion, replaced
        `replaced` is None if the strategy had no champion, and the champion itself if it was that already: then
        nothing was changed.

    Raises
    ------
    TradingBotError
        There is no such version.
    CheckpointError
        Its file is absent or was changed; the old champion stays.
    """
    with store.reading() as tx:
        wanted = _named(tx, model_id)
    checkpoint_path(folder, wanted)
    with store.transaction() as tx:
        version = _named(tx, wanted.id)  # again: somebody else may have promoted meanwhile
        if version.status is ModelStatus.CHAMPION:
            return version, version
        old = tx.find(ModelVersion, strategy=version.strategy, status=ModelStatus.CHAMPION)
        retired = [dataclasses.replace(each, status=ModelStatus.RETIRED) for each in old]  # one, or none
        champion = dataclasses.replace(
            version,
            status=ModelStatus.CHAMPION,
            parent=retired[-1].id if retired else None,
            activated_at_bar=bar_time,
        )
        for record in (*retired, champion):
            tx.update(record)
    return champion, retired[-1] if retired else None


def rollback(
    store: Store, folder: Path, strategy: str, bar_time: int | None = None
) -> tuple[ModelVersion, ModelVersion]:
    """Put back the version that a strategy's champion replaced.

    What is put back keeps its own parent: another rollback goes one step further into the past, not forth again.

    Returns
    -------
    champion, retired

    Raises
    ------
    TradingBotError
        The strategy has no champion, or it was the first.
    CheckpointError
        The older version's file is absent or was changed; the champion stays.
    """
    with store.reading() as tx:
        wanted = _before(tx, strategy)[0]
    checkpoint_path(folder, wanted)
    with store.transaction() as tx:
        older, current = _before(tx, strategy)
        champion = dataclasses.replace(older, status=ModelStatus.CHAMPION, activated_at_bar=bar_time)
        retired = dataclasses.replace(current, status=ModelStatus.RETIRED)
        for record in (retired, champion):
            tx.update(record)
    return champion, retired


def named(store: Store, model_id: str) -> ModelVersion:
    """The version of this id, or the only one whose id begins so; a TradingBotError if there is none."""
    with store.reading() as tx:
        return _named(tx, model_id)


def champion_of(store: Store, strategy: str) -> ModelVersion:
    """The version a strategy uses; a TradingBotError if it has none."""
    with store.reading() as tx:
        return _champion(tx, strategy)


def _champion(tx: Tx, strategy: str) -> ModelVersion:
    found = tx.find(ModelVersion, strategy=strategy, status=ModelStatus.CHAMPION)
    if found:
        return found[-1]
    with_one = sorted({each.strategy for each in tx.find(ModelVersion, status=ModelStatus.CHAMPION)})
    hint = f"there are champions of {', '.join(with_one)}" if with_one else "no model has been promoted yet"
    raise TradingBotError(f"strategy {strategy!r} has no champion; {hint}")


def _before(tx: Tx, strategy: str) -> tuple[ModelVersion, ModelVersion]:
    """The version a strategy's champion replaced, and that champion."""
    current = _champion(tx, strategy)
    older = tx.get(ModelVersion, current.parent) if current.parent is not None else None
    if older is None:
        raise TradingBotError(
            f"{current.id} is the first champion of {strategy}: there is none to go back to; train another, or set "
            "neural.enabled to false"
        )
    return older, current


def _named(tx: Tx, model_id: str) -> ModelVersion:
    """The version of this id, or the only one whose id begins so."""
    exact = tx.get(ModelVersion, model_id)
    if exact is not None:
        return exact
    known = {version.id: version for version in tx.find(ModelVersion)}
    begun = [name for name in known if model_id and name.startswith(model_id)]
    if len(begun) == 1:
        return known[begun[0]]
    if begun:
        raise TradingBotError(f"{len(begun)} models begin with {model_id!r}: {_listed(begun)}; give more of the id")
    if not known:
        raise TradingBotError(f"no model {model_id!r}: none is registered yet; train one first")
    near = difflib.get_close_matches(model_id, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {_listed(list(known))};"
    raise TradingBotError(f"no model {model_id!r}; {hint} `trading-bot models list` shows all")


def _listed(names: Sequence[str]) -> str:
    """The newest few."""
    return ", ".join([*(["…"] if len(names) > 5 else []), *names[-5:]])


def _same_file(known: ModelVersion | None, version: ModelVersion) -> None:
    if known is not None and known.sha256 != version.sha256:
        raise CheckpointError(
            f"model {version.id} is registered already with another checkpoint (sha256 {known.sha256[:12]}…, "
            f"now {version.sha256[:12]}…); give the new one an id of its own"
        )


# files ----------------------------------------------------------------------------------------------------------------


def _place(folder: Path, model_id: str) -> Path:
    if not _ID.fullmatch(model_id):
        raise CheckpointError(
            f"a model's id names its file and should be letters, digits, '.', '_' and '-', at most 100, is {model_id!r}"
        )
    return folder / f"{model_id}.safetensors"


def _read(path: Path, version: ModelVersion, remedy: str) -> bytes:
    """The checkpoint at `path`, sure to be that of `version`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {path} of model {version.id} is not there; {remedy}") from None
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {path} of model {version.id} cannot be read: {error.strerror}; check its permissions"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != version.sha256:
        raise CheckpointError(
            f"checkpoint {path} is not the one of model {version.id}: its sha256 is {found[:12]}…, "
            f"wanted {version.sha256[:12]}…; {remedy}"
        )
    return content


def _write(content: bytes, target: Path) -> None:
    """Make `target` hold `content`, durably, or leave it as it was."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        with replacing(target) as file:
            file.write(content)
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {target} cannot be written: {error.strerror}; free space or mend the folder's permissions"
        ) from error
