"""Versions of trained models: a row in the database for each, its weights in a folder, one champion for a strategy.

The file is there before the row, and a promotion is one transaction: whenever the program ends, either the old or the
new champion is in force, and its file is whole. `make_champion` and `step_back` are for callers that write more in that
transaction; they look at no file: ask `checkpoint_path` before.
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

# `config["kind"]` of the models that judge a strategy's signals, and of those that choose among strategies; networks,
# each of which is a strategy, name no kind
META_LABEL, SELECTOR = "meta_label", "selector"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # it becomes a file's name


def models_folder(data_dir: Path) -> Path:
    """Where the checkpoints of registered models lie."""
    return data_dir / "models"


def is_meta_label(version: ModelVersion) -> bool:
    """Whether it judges the signals of a strategy, rather than being a network that is one itself."""
    return version.config.get("kind") == META_LABEL


def is_selector(version: ModelVersion) -> bool:
    """Whether it chooses among the strategies, rather than being one."""
    return version.config.get("kind") == SELECTOR


def selector_name(symbol: str, timeframe: str) -> str:
    """What the selectors of one market are promoted under, such as trm_BTC_USDT_1h: each market has one in use."""
    return re.sub(r"[^A-Za-z0-9]+", "_", f"trm_{symbol}_{timeframe}")[:60]


def is_network(version: ModelVersion) -> bool:
    """Whether it is a network that forecasts: a strategy of its own once it is promoted."""
    return version.config.get("kind") is None


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
    path = _place(folder, version)
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
    _place(folder, version)  # before anything is read: an id that cannot name a file
    if version.status != ModelStatus.CANDIDATE:
        raise TrainingError(f"model {version.id} is {version.status}; a new one is registered as a candidate")
    content = _read(checkpoint, version, "train the model again")
    with store.reading() as tx:
        _same_file(tx.get(ModelVersion, version.id), version)
    keep_file(folder, version, content)
    with store.transaction() as tx:
        if not tx.add(version):
            _same_file(tx.get(ModelVersion, version.id), version)


def keep_file(folder: Path, version: ModelVersion, content: bytes) -> None:
    """Make `content` the checkpoint of `version`, durably; a whole one that is there already is left alone.

    Raises
    ------
    CheckpointError
        It is not the one `version` describes, or cannot be written.
    """
    target = _place(folder, version)
    _sure(content, "the new checkpoint", version, "train the model again")
    try:
        checkpoint_path(folder, version)
    except CheckpointError:  # not there yet, or damaged since
        _write(content, target)


def promote(
    store: Store, folder: Path, model_id: str, bar_time: int | None = None
) -> tuple[ModelVersion, ModelVersion | None]:
    """Make a version its strategy's champion; the one there was is retired, pinned or not. Any version may come back.

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
        There is no such version, or the champion it would replace is a model of another kind.
    CheckpointError
        Its file is absent or was changed; the old champion stays.
    """
    with store.reading() as tx:
        wanted = _named(tx, model_id)
    checkpoint_path(folder, wanted)
    with store.transaction() as tx:
        version = _named(tx, wanted.id)  # again: somebody else may have promoted meanwhile
        _same_kind(version, _champions(tx, version.strategy))
        replaced = make_champion(tx, version, bar_time)
        return (version if replaced is version else _named(tx, version.id)), replaced


def make_champion(tx: Tx, version: ModelVersion, bar_time: int | None) -> ModelVersion | None:
    """Write `version` as its strategy's champion; the one there was retires and is no longer pinned.

    Returns
    -------
    ModelVersion or None
        The one it replaced, as it is now; None if there was none. `version` itself if it was the champion already:
        then nothing is written.
    """
    if any(each.id == version.id for each in _champions(tx, version.strategy)):
        return version
    # what once replaced it now follows on what it had replaced: else A, B, A again, and rollbacks would never end
    for each in tx.find(ModelVersion, strategy=version.strategy, parent=version.id):
        tx.update(dataclasses.replace(each, parent=version.parent))
    retired = [_retire(tx, each) for each in _champions(tx, version.strategy)]
    replaced = retired[-1] if retired else None
    _put_in_use(tx, dataclasses.replace(version, parent=replaced.id if replaced else None), bar_time)
    return replaced


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
        wanted = _before(tx, _champion(tx, strategy))
    checkpoint_path(folder, wanted)
    with store.transaction() as tx:
        champion, retired = step_back(tx, strategy, bar_time)
    assert champion is not None  # it is an error to have none
    return champion, retired


def step_back(
    tx: Tx, strategy: str, bar_time: int | None, *, or_none: bool = False
) -> tuple[ModelVersion | None, ModelVersion]:
    """Retire a strategy's champion, pinned or not, and put back the version it replaced.

    Parameters
    ----------
    or_none
        Whether the first champion may be retired too; then there is no champion any more.

    Returns
    -------
    champion, retired

    Raises
    ------
    TradingBotError
        The strategy has no champion, or (without `or_none`) it was the first.
    """
    current = _champion(tx, strategy)
    older = _parent(tx, current) if or_none else _before(tx, current)
    retired = _retire(tx, current)
    return None if older is None else _put_in_use(tx, older, bar_time), retired


def pin(store: Store, model_id: str, pinned: bool) -> ModelVersion:
    """Let only the user replace a champion, or (`pinned` false) trainings too again. Twice is as good as once.

    Parameters
    ----------
    model_id
        The version's id, or a beginning that no other has.

    Returns
    -------
    ModelVersion
        As it is now.

    Raises
    ------
    TradingBotError
        There is no such version, or one that is not in use should be pinned.
    """
    with store.transaction() as tx:
        version = _named(tx, model_id)
        if pinned and version.status is not ModelStatus.CHAMPION:
            raise TradingBotError(
                f"model {version.id} is {version.status}, and only a champion can be pinned; `trading-bot models "
                f"promote {version.id}` first"
            )
        changed = dataclasses.replace(version, pinned=pinned)
        if changed != version:
            tx.update(changed)
    return changed


def named(store: Store, model_id: str) -> ModelVersion:
    """The version of this id, or the only one whose id begins so; a TradingBotError if there is none."""
    with store.reading() as tx:
        return _named(tx, model_id)


def champion_of(store: Store, strategy: str) -> ModelVersion:
    """The version a strategy uses; a TradingBotError if it has none."""
    with store.reading() as tx:
        return _champion(tx, strategy)


def _champions(tx: Tx, strategy: str) -> list[ModelVersion]:
    """One, or none."""
    return tx.find(ModelVersion, strategy=strategy, status=ModelStatus.CHAMPION)


def _champion(tx: Tx, strategy: str) -> ModelVersion:
    if found := _champions(tx, strategy):
        return found[-1]
    with_one = sorted({each.strategy for each in tx.find(ModelVersion, status=ModelStatus.CHAMPION)})
    hint = f"there are champions of {', '.join(with_one)}" if with_one else "no model has been promoted yet"
    raise TradingBotError(f"strategy {strategy!r} has no champion; {hint}")


def _before(tx: Tx, current: ModelVersion) -> ModelVersion:
    """The version that champion `current` replaced; a TradingBotError if it was the first."""
    older = _parent(tx, current)
    if older is None:
        raise TradingBotError(
            f"{current.id} is the first champion of {current.strategy}: there is none to go back to; train another, or "
            f"set {_switch(current)}"
        )
    return older


def _switch(version: ModelVersion) -> str:
    """What in the configuration leaves such a model out."""
    if is_selector(version):
        return "ensemble.method to table"
    return f"{'learning' if is_meta_label(version) else 'neural'}.enabled to false"


def _parent(tx: Tx, version: ModelVersion) -> ModelVersion | None:
    return tx.get(ModelVersion, version.parent) if version.parent is not None else None


def _retire(tx: Tx, version: ModelVersion) -> ModelVersion:
    retired = dataclasses.replace(version, status=ModelStatus.RETIRED, pinned=False)
    tx.update(retired)
    return retired


def _put_in_use(tx: Tx, version: ModelVersion, bar_time: int | None) -> ModelVersion:
    champion = dataclasses.replace(version, status=ModelStatus.CHAMPION, activated_at_bar=bar_time, pinned=False)
    tx.update(champion)
    return champion


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


def _same_kind(version: ModelVersion, champions_now: Sequence[ModelVersion]) -> None:
    """A strategy that forecasts must not take the place of a model that chooses among strategies, nor the reverse."""
    for each in champions_now:
        if is_selector(each) != is_selector(version):
            words = ["a model that is a strategy or judges one", "a selector of strategies"]
            raise TradingBotError(
                f"{version.id} is {words[is_selector(version)]}, but the champion of {version.strategy}, {each.id}, is "
                f"{words[is_selector(each)]}; train it under another name"
            )


def _same_file(known: ModelVersion | None, version: ModelVersion) -> None:
    if known is not None and known.sha256 != version.sha256:
        raise CheckpointError(
            f"model {version.id} is registered already with another checkpoint (sha256 {known.sha256[:12]}…, "
            f"now {version.sha256[:12]}…); give the new one an id of its own"
        )


# files ----------------------------------------------------------------------------------------------------------------


def _place(folder: Path, version: ModelVersion) -> Path:
    if not _ID.fullmatch(version.id):
        raise CheckpointError(
            "a model's id names its file and should be letters, digits, '.', '_' and '-', at most 100, is "
            f"{version.id!r}"
        )
    return folder / f"{version.id}.{'json' if is_meta_label(version) else 'safetensors'}"


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
    _sure(content, f"checkpoint {path}", version, remedy)
    return content


def _sure(content: bytes, what: str, version: ModelVersion, remedy: str) -> None:
    """Refuse content that is not the checkpoint of `version`."""
    found = hashlib.sha256(content).hexdigest()
    if found != version.sha256:
        raise CheckpointError(
            f"{what} is not the one of model {version.id}: its sha256 is {found[:12]}…, "
            f"wanted {version.sha256[:12]}…; {remedy}"
        )


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
