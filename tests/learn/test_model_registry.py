"""The registry of models: what is kept, what is refused, and what a kill in between leaves behind."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.fakes import MemoryStore
from tests.learn.models import meta_label, trained
from tests.trading.stage import Crash, Fuse, FusedStore
from trading_bot.domain.journal import Training
from trading_bot.domain.models import ModelStatus
from trading_bot.errors import CheckpointError, StorageError, TradingBotError, TrainingError
from trading_bot.learn.model_registry import (
    SELECTOR,
    champions,
    checkpoint_path,
    is_meta_label,
    is_network,
    is_selector,
    keep_file,
    make_champion,
    models_folder,
    named,
    pin,
    promote,
    register,
    rollback,
    selector_name,
    step_back,
    versions,
)
from trading_bot.ports import Store

CANDIDATE, CHAMPION, RETIRED, REJECTED = ModelStatus
OLD, NEW = "nf-20240131-aa", "nf-20240207-bb"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return models_folder(tmp_path / "data")


@pytest.fixture
def store(tmp_path: Path, folder: Path) -> MemoryStore:
    """Two models are registered, the older one is the champion."""
    made = MemoryStore()
    for number, name in enumerate((OLD, NEW)):
        register(made, folder, *trained(tmp_path / "work", name, number))
    promote(made, folder, OLD, 7)
    return made


def standing(store: Store) -> dict[str, tuple[ModelStatus, str | None, int | None]]:
    return {each.id: (each.status, each.parent, each.activated_at_bar) for each in versions(store)}


def test_a_registered_model_is_a_candidate_with_its_own_copy(tmp_path: Path, folder: Path) -> None:
    store = MemoryStore()
    version, checkpoint = trained(tmp_path / "work", NEW)
    folder.mkdir(parents=True)
    (folder / ".nf-1.safetensors.4194305.tmp").touch()
    register(store, folder, version, checkpoint)
    content = checkpoint.read_bytes()
    checkpoint.unlink()
    assert versions(store) == [version]
    assert champions(store) == []
    assert checkpoint_path(folder, version) == folder / f"{NEW}.safetensors"
    assert [path.name for path in folder.iterdir()] == [f"{NEW}.safetensors"], "what a killed writer left is swept"
    assert checkpoint_path(folder, version).read_bytes() == content


def test_registering_again_changes_nothing_and_mends_the_file(store: MemoryStore, folder: Path, tmp_path: Path) -> None:
    version, checkpoint = trained(tmp_path / "work", OLD, 0)
    before, stamp = standing(store), checkpoint_path(folder, version).stat().st_mtime_ns
    register(store, folder, version, checkpoint)
    assert checkpoint_path(folder, version).stat().st_mtime_ns == stamp, "a good file is left alone"
    checkpoint_path(folder, version).write_bytes(b"cut sh")
    register(store, folder, version, checkpoint)
    checkpoint_path(folder, version)
    assert standing(store) == before, "a champion stays one"


def test_what_is_not_what_it_says_is_not_registered(store: MemoryStore, folder: Path, tmp_path: Path) -> None:
    good, checkpoint = trained(tmp_path / "work", "nf-3")
    other = dataclasses.replace(good, sha256="0" * 64)
    with pytest.raises(CheckpointError, match=r"nf-3\.bin is not the one of model nf-3: its sha256 is .*0{12}….*train"):
        register(store, folder, other, checkpoint)
    with pytest.raises(CheckpointError, match=r"gone\.bin of model nf-3 is not there; train the model again"):
        register(store, folder, good, tmp_path / "gone.bin")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        register(store, folder, good, tmp_path)
    with pytest.raises(TrainingError, match="nf-3 is champion; a new one is registered as a candidate"):
        register(store, folder, dataclasses.replace(good, status=CHAMPION), checkpoint)
    with pytest.raises(CheckpointError, match=r"is registered already with another checkpoint.*an id of its own"):
        register(store, folder, dataclasses.replace(good, id=OLD), checkpoint)
    for name in ("../nf", "", ".nf", "a b", "n" * 101):
        with pytest.raises(CheckpointError, match="names its file and should be letters"):
            register(store, folder, dataclasses.replace(good, id=name), checkpoint)
    assert set(standing(store)) == {OLD, NEW}
    assert len(list(folder.iterdir())) == 2


def test_a_promotion_retires_the_champion(store: MemoryStore, folder: Path) -> None:
    champion, replaced = promote(store, folder, NEW, 8)
    assert replaced is not None
    assert (champion.id, replaced.id) == (NEW, OLD)
    assert standing(store) == {OLD: (RETIRED, None, 7), NEW: (CHAMPION, OLD, 8)}
    assert champions(store) == [champion]
    assert [each for each in versions(store) if each.status is RETIRED] == [replaced]


def test_the_first_champion_replaces_nobody(tmp_path: Path, folder: Path) -> None:
    store = MemoryStore()
    register(store, folder, *trained(tmp_path, NEW))
    champion, replaced = promote(store, folder, NEW)
    assert replaced is None
    assert standing(store) == {NEW: (CHAMPION, None, None)}
    assert champions(store) == [champion]


def test_promoting_the_champion_again_changes_nothing(store: MemoryStore, folder: Path) -> None:
    before = standing(store)
    champion, replaced = promote(store, folder, OLD, 9)
    assert champion is replaced
    assert standing(store) == before


def test_a_retired_model_comes_back(store: MemoryStore, folder: Path) -> None:
    promote(store, folder, NEW, 8)
    promote(store, folder, OLD, 9)
    assert standing(store) == {OLD: (CHAMPION, NEW, 9), NEW: (RETIRED, None, 8)}, "a line that begins with NEW now"


def test_a_rejected_model_may_be_promoted(store: MemoryStore, folder: Path, tmp_path: Path) -> None:
    version, checkpoint = trained(tmp_path, "third", 2)
    keep_file(folder, version, checkpoint.read_bytes())
    with store.transaction() as tx:
        tx.add(dataclasses.replace(version, status=REJECTED))
    champion, _ = promote(store, folder, "third", 8)
    assert standing(store)["third"] == (champion.status, OLD, 8) == (CHAMPION, OLD, 8)


@pytest.mark.parametrize("seed", range(20))
def test_rollbacks_come_to_an_end_whatever_was_promoted(folder: Path, tmp_path: Path, seed: int) -> None:
    """They give back every version that was in use since it was last put there, and none twice."""
    store, random = MemoryStore(), Random(seed)
    names = ["a", "b", "c", "d"]
    for number, name in enumerate(names):
        register(store, folder, *trained(tmp_path, name, number))
    line: list[str] = []  # what rollbacks should give, the newest last
    for _ in range(30):
        name = random.choice(names)
        if len(line) > 1 and random.random() < 0.3:
            assert rollback(store, folder, "neural_forecast")[0].id == line[-2]
            line.pop()
        elif not line or name != line[-1]:
            promote(store, folder, name)
            line = [*(each for each in line if each != name), name]
    for name in reversed(line[:-1]):
        assert rollback(store, folder, "neural_forecast")[0].id == name
    with pytest.raises(TradingBotError, match="is the first champion"):
        rollback(store, folder, "neural_forecast")


def test_a_rollback_goes_one_step_into_the_past_each_time(store: MemoryStore, folder: Path, tmp_path: Path) -> None:
    register(store, folder, *trained(tmp_path, "third", 2))
    promote(store, folder, NEW, 8)
    promote(store, folder, "third", 9)
    champion, retired = rollback(store, folder, "neural_forecast", 10)
    assert (champion.id, retired.id) == (NEW, "third")
    assert champions(store) == [champion]
    assert standing(store)[NEW] == (CHAMPION, OLD, 10)
    assert standing(store)["third"][0] is RETIRED
    assert rollback(store, folder, "neural_forecast")[0].id == OLD
    with pytest.raises(TradingBotError, match=f"{OLD} is the first champion of neural_forecast: there is none to go"):
        rollback(store, folder, "neural_forecast")
    with pytest.raises(TradingBotError, match="'neural' has no champion; there are champions of neural_f"):
        rollback(store, folder, "neural")
    with pytest.raises(TradingBotError, match="no model has been promoted yet"):
        rollback(MemoryStore(), folder, "neural")


def test_a_rollback_to_a_damaged_file_keeps_the_champion(store: MemoryStore, folder: Path) -> None:
    promote(store, folder, NEW, 8)
    (folder / f"{OLD}.safetensors").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match=f"is not the one of model {OLD}"):
        rollback(store, folder, "neural_forecast")
    assert [version.id for version in champions(store)] == [NEW]


def test_each_strategy_has_its_own_champion(store: MemoryStore, folder: Path, tmp_path: Path) -> None:
    register(store, folder, *trained(tmp_path, "pattern-1", 5, strategy="neural_pattern"))
    assert promote(store, folder, "pattern-1")[1] is None
    assert [each.id for each in champions(store)] == [OLD, "pattern-1"]


def test_a_damaged_file_is_never_promoted(store: MemoryStore, folder: Path) -> None:
    before = standing(store)
    path = folder / f"{NEW}.safetensors"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match=r"not the one of model nf-20240207-bb.*put the file back"):
        promote(store, folder, NEW)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"is not there; put the file back from a copy, or train"):
        promote(store, folder, NEW)
    assert standing(store) == before


def test_a_beginning_that_only_one_id_has_is_enough(store: MemoryStore, folder: Path) -> None:
    assert promote(store, folder, "nf-202402")[0].id == NEW


def test_an_id_in_full_wins_over_longer_ones(store: MemoryStore, folder: Path, tmp_path: Path) -> None:
    register(store, folder, *trained(tmp_path, f"{NEW}-2", 9))
    assert promote(store, folder, NEW)[0].id == NEW


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nf-20240207-bc", ["no model 'nf-20240207-bc'", f"did you mean '{NEW}'?", "models list"]),
        ("zzz", [f"there are {OLD}, {NEW}", "models list"]),
        ("nf-", ["2 models begin with 'nf-'", f"{OLD}, {NEW}", "more of the id"]),
        ("", ["no model ''"]),
    ],
)
def test_an_id_that_is_none(store: MemoryStore, folder: Path, name: str, words: list[str]) -> None:
    with pytest.raises(TradingBotError) as caught:
        promote(store, folder, name)
    for word in words:
        assert word in str(caught.value)


def test_without_any_model(folder: Path) -> None:
    with pytest.raises(TradingBotError, match="none is registered yet; train one first"):
        promote(MemoryStore(), folder, NEW)


def test_many_ids_are_not_all_listed(folder: Path) -> None:
    store = MemoryStore()
    version, _ = trained(folder, "x")
    with store.transaction() as tx:
        for number in range(30):
            tx.add(dataclasses.replace(version, id=f"nf-{number:02}"))
    with pytest.raises(TradingBotError, match="30 models begin with 'nf': …, nf-25, nf-26, nf-27, nf-28, nf-29; give"):
        promote(store, folder, "nf")


# ── models that judge signals, pins, transactions of others ─────────────────────────────────────────────────────────


def test_a_meta_label_models_checkpoint_is_json(folder: Path, tmp_path: Path) -> None:
    store = MemoryStore()
    version, checkpoint = meta_label(tmp_path, "macd-1")
    register(store, folder, version, checkpoint)
    assert checkpoint_path(folder, version) == folder / "macd-1.json"
    (folder / "macd-1.json").unlink()
    with pytest.raises(CheckpointError, match=r"macd-1\.json of model macd-1 is not there"):
        promote(store, folder, "macd-1")
    register(store, folder, version, checkpoint)
    assert promote(store, folder, "macd-1")[0].status is CHAMPION
    with pytest.raises(TradingBotError, match=r"macd-1 is the first champion .*set learning\.enabled to false"):
        rollback(store, folder, "macd_momentum")


def test_a_file_is_kept_only_if_it_is_the_one(folder: Path, tmp_path: Path) -> None:
    version, checkpoint = meta_label(tmp_path, "macd-1")
    content = checkpoint.read_bytes()
    with pytest.raises(CheckpointError, match=r"the new checkpoint is not the one of model macd-1: .*train the model"):
        keep_file(folder, version, content + b" ")
    assert not folder.exists()
    keep_file(folder, version, content)
    place = checkpoint_path(folder, version)
    stamp = place.stat().st_mtime_ns
    keep_file(folder, version, content)
    assert place.stat().st_mtime_ns == stamp, "a good file is left alone"
    place.write_bytes(b"{")
    keep_file(folder, version, content)
    assert place.read_bytes() == content


def test_only_a_champion_is_pinned(store: MemoryStore, folder: Path) -> None:
    before = standing(store)
    with pytest.raises(TradingBotError, match=f"{NEW} is candidate, and only a champion .*models promote {NEW}` first"):
        pin(store, NEW, True)
    assert not pin(store, NEW, False).pinned
    with pytest.raises(TradingBotError, match="did you mean"):
        pin(store, NEW[:-1] + "x", True)
    for pinned in (True, True, False, False):
        assert pin(store, "nf-202401", pinned) == named(store, OLD)
        assert named(store, OLD).pinned is pinned
    assert standing(store) == before


def test_the_user_replaces_a_pinned_champion(store: MemoryStore, folder: Path) -> None:
    pin(store, OLD, True)
    assert promote(store, folder, OLD)[0].pinned, "it is the champion already: nothing changes"
    champion, replaced = promote(store, folder, NEW)
    assert replaced is not None
    assert (champion.pinned, replaced.pinned) == (False, False)
    pin(store, NEW, True)
    assert [each.pinned for each in rollback(store, folder, "neural_forecast")] == [False, False]
    assert not any(each.pinned for each in versions(store))


def test_a_version_may_be_written_as_champion_at_once(store: MemoryStore, tmp_path: Path) -> None:
    version, _ = trained(tmp_path, "third", 2)
    outcome = Training("neural_forecast", 8, "promoted", "schedule", "better by 1 %", version.id)
    pin(store, OLD, True)
    failing = Failing()
    failing._rows = store._rows
    with pytest.raises(StorageError, match="gone"), failing.transaction() as tx:
        make_champion(tx, version, 8)
    assert standing(failing)[OLD] == (CHAMPION, None, 7)
    with store.transaction() as tx:
        replaced = make_champion(tx, version, 8)
        tx.add(outcome)
        assert make_champion(tx, version, 9) is version, "it is that already"
    assert replaced == named(store, OLD)
    assert standing(store) == {OLD: (RETIRED, None, 7), NEW: (CANDIDATE, None, None), "third": (CHAMPION, OLD, 8)}
    assert not named(store, OLD).pinned


def test_a_step_back_may_lead_to_none(store: MemoryStore, folder: Path) -> None:
    promote(store, folder, NEW, 8)
    steps = []
    for bar in (9, 10):
        with store.transaction() as tx:
            steps.append(step_back(tx, "neural_forecast", bar, or_none=True))
    assert [(champion and champion.id, retired.id) for champion, retired in steps] == [(OLD, NEW), (None, OLD)]
    assert standing(store) == {OLD: (RETIRED, None, 9), NEW: (RETIRED, OLD, 8)}
    with store.transaction() as tx, pytest.raises(TradingBotError, match="has no champion"):
        step_back(tx, "neural_forecast", 11, or_none=True)
    assert promote(store, folder, NEW, 12)[1] is None


# ── failures in between ─────────────────────────────────────────────────────────────────────────────────────────────


def sound(store: Store, folder: Path) -> list[str]:
    """Ids of the champions, each with a whole file, as every registered model has."""
    for version in versions(store):
        checkpoint_path(folder, version)
    return [each.id for each in champions(store)]


@pytest.mark.parametrize("first", ["network", "selector"])
def test_a_selector_and_a_strategy_never_take_each_other_s_place(
    first: str, store: MemoryStore, folder: Path, tmp_path: Path
) -> None:
    kinds = {"network": trained(tmp_path / "work", "net-1", 5, strategy="one"),
             "selector": trained(tmp_path / "work", "sel-1", 6, strategy="one", config={"kind": SELECTOR})}  # fmt: skip
    for each in kinds.values():
        register(store, folder, *each)
    (champion, _), (other, _) = kinds.pop(first), *kinds.values()
    promote(store, folder, champion.id)
    before = standing(store)
    with pytest.raises(TradingBotError, match=rf"{other.id} is a .*, but the champion of one, {champion.id}, is a "):
        promote(store, folder, other.id)
    assert standing(store) == before
    assert [(is_selector(each), is_network(each), is_meta_label(each)) for each in (champion, other)] == [
        (each == "selector", each == "network", False) for each in (first, *kinds)
    ]


def test_the_name_of_a_market_s_selectors() -> None:
    assert selector_name("BTC/USDT", "1h") == "trm_BTC_USDT_1h"
    assert selector_name("BTC/USDT:USDT", "5m") == "trm_BTC_USDT_USDT_5m"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_no_trace(
    store: MemoryStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    new = trained(tmp_path / "work", "nf-3")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(CheckpointError, match=r"nf-3\.safetensors cannot be written: No space left.*free space"):
            register(store, folder, *new)
    assert len(list(folder.iterdir())) == 2
    assert sound(store, folder) == [OLD]
    register(store, folder, *new)
    assert "nf-3" in standing(store)


class Failing(MemoryStore):
    """A database that fails at every commit."""

    def _commit(self, tx: Any) -> None:
        raise StorageError("the database is gone")


def test_a_failed_transaction_keeps_the_old_champion(store: MemoryStore, folder: Path) -> None:
    before = standing(store)
    failing = Failing()
    failing._rows = store._rows
    with pytest.raises(StorageError, match="gone"):
        promote(failing, folder, NEW, 8)
    assert standing(failing) == before
    assert sound(failing, folder) == [OLD]


STEPS: dict[str, Callable[..., Any]] = {"fsync": os.fsync, "replace": os.replace}


def fused(step: Callable[..., Any], fuse: Fuse) -> Callable[..., Any]:
    """A step that makes a file durable, whose process may die before and after it."""

    def call(*arguments: Any) -> Any:
        fuse.point()
        done = step(*arguments)
        fuse.point()
        return done

    return call


def test_a_kill_at_any_point_leaves_the_old_or_the_new_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = trained(tmp_path / "work", OLD, 0), trained(tmp_path / "work", NEW)

    def life(store: Store, folder: Path, fuse: Fuse) -> None:
        with monkeypatch.context() as patch:
            for name, step in STEPS.items():
                patch.setattr(os, name, fused(step, fuse))
            register(FusedStore(store, fuse), folder, *new)
            promote(FusedStore(store, fuse), folder, NEW)

    left_behind: list[list[str]] = []
    survived = False
    while not survived:
        at = len(left_behind) + 1
        store, folder = MemoryStore(), tmp_path / str(at)
        register(store, folder, *old)
        promote(store, folder, OLD)
        try:
            life(store, folder, Fuse(at))
            survived = True
        except Crash:
            pass
        left_behind.append(sound(store, folder))
        life(store, folder, Fuse())  # the next start does the same again
        assert sound(store, folder) == [NEW], f"killed at point {at}"
        assert sorted(path.name for path in folder.iterdir()) == [f"{OLD}.safetensors", f"{NEW}.safetensors"]
    # three steps of files with two points each, two transactions with three each; the last life was not killed
    assert left_behind == [[OLD]] * 11 + [[NEW]] * 2
