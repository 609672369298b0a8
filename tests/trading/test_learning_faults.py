"""What goes wrong while a lesson is put in force: a database, a disk, a kill, a damaged file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import MemoryStore
from tests.service.stand import log_lines
from tests.trading.lessons import (
    FALLEN,
    MARKET,
    NEWEST,
    Rule,
    champion,
    found,
    learner_of,
    lesson,
    model,
    taught,
    verdict,
)
from trading_bot.domain.journal import JobRun, Training
from trading_bot.domain.models import ModelVersion
from trading_bot.errors import StorageError
from trading_bot.learn.model_registry import pin, promote, versions
from trading_bot.ports import Store, Tx
from trading_bot.trading.learning import Learner, Lesson


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


@dataclass
class Breaking:
    """A store that fails at its n-th write from now, loses the answer to a commit, or cannot be read so often."""

    inner: Store
    write: int = -1
    lost: bool = False
    unreadable: int = 0

    @contextmanager
    def transaction(self) -> Iterator[Tx]:
        with self.inner.transaction() as tx:
            yield BreakingTx(tx, self)
        if self.lost:
            self.lost = False
            raise StorageError("no answer")

    def reading(self) -> Any:
        if self.unreadable:
            self.unreadable -= 1
            raise StorageError("cannot be read")
        return self.inner.reading()


class BreakingTx:
    def __init__(self, inner: Tx, store: Breaking) -> None:
        self._inner, self._store = inner, store

    def __getattr__(self, name: str) -> Any:
        if name in ("add", "update"):
            self._store.write -= 1
            if self._store.write == -1:
                raise StorageError("disk full")
        return getattr(self._inner, name)


def everything(learner: Learner) -> Any:
    rows = [found(learner.store, kind) for kind in (Training, ModelVersion, JobRun)]
    return rows, dict(learner.done), learner.in_use, [strategy.model for strategy in learner.strategies]


def eventful(store: Store, folder: Path) -> tuple[Learner, Lesson]:
    """Two generations of one strategy's model, the newer fallen; a lesson that takes it back and promotes twice."""
    learner = learner_of(store, folder, [Rule("rule"), Rule("other"), Rule("third")])
    taught(learner, 0.1, 0.2)
    others = verdict(strategy="other", bias=0.4), verdict("rejected", strategy="third", bias=0.5)
    return learner, lesson(learner, verdict(bias=0.3), *others, fallen={"rule": FALLEN})


def test_a_database_that_refuses_half_way_changes_nothing(folder: Path) -> None:
    calm, made = eventful(MemoryStore(), folder)
    wanted = [each.outcome for each in calm.take(made)]
    assert wanted == ["rolled_back", "promoted", "promoted", "rejected"]
    for write in range(100):
        store = Breaking(MemoryStore())
        learner, made = eventful(store, folder)
        before = everything(learner)
        store.write = write
        try:
            learner.take(made)
        except StorageError:
            assert everything(learner) == before
            assert [each.outcome for each in learner.take(made)] == wanted
            assert everything(learner) == everything(calm)
        else:
            break
    assert write > 8, "every write was the one that failed"


@pytest.mark.parametrize("trouble", [{"lost": True}, {"unreadable": 1}], ids=["answer lost", "unreadable afterwards"])
def test_a_lesson_taken_twice_ends_as_if_taken_once(folder: Path, trouble: dict[str, Any]) -> None:
    """The database has it, and the daemon does not know."""
    calm, made = eventful(MemoryStore(), folder)
    calm.take(made)
    store = Breaking(MemoryStore())
    learner, made = eventful(store, folder)
    for name, value in trouble.items():
        setattr(store, name, value)
    with pytest.raises(StorageError):
        learner.take(made)
    told = learner.take(made)
    assert [each.outcome for each in told] == ["promoted", "promoted", "rejected"]
    assert everything(learner) == everything(calm)


def test_a_database_that_cannot_be_read_is_no_strategy_s_fault(folder: Path) -> None:
    store = Breaking(MemoryStore())
    learner = learner_of(store, folder)
    store.unreadable = 1
    with pytest.raises(StorageError):
        learner.learn(MARKET, NEWEST, "schedule")


def test_a_file_that_cannot_be_written_fails_its_model_alone(store: MemoryStore, folder: Path) -> None:
    learner = learner_of(store, folder, [Rule("rule"), Rule("other")])
    first, second = taught(learner, 0.1, 0.2)
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("in the way")
    with log_lines() as log:
        told = learner.take(lesson(learner, verdict(bias=0.3), verdict("too_little", strategy="other"),
                                   fallen={"rule": FALLEN}))  # fmt: skip
    assert [(each.strategy, each.outcome) for each in told] == [
        ("rule", "rolled_back"), ("rule", "failed"), ("other", "too_little"),
    ]  # fmt: skip
    assert told[1].model is None
    assert "trained, but not kept: checkpoint" in told[1].reason
    assert (champion(store), learner.in_use) == (first, {"rule": first})
    assert {version.id for version in versions(store)} == {first, second}
    assert len([line for line in log if line.startswith("ERROR")]) == 1
    assert learner.due(told[0].time) is None


@pytest.mark.parametrize("content", [None, b"half a fi"], ids=["whole", "torn"])
def test_killed_between_file_and_row(folder: Path, content: bytes | None) -> None:
    """The file of a life that did not get to its row is used, or written again if it is not whole."""
    earlier = learner_of(MemoryStore(), folder)
    (told,) = earlier.take(lesson(earlier, verdict()))
    path = folder / f"{told.model}.json"
    if content is not None:
        path.write_bytes(content)
    store = MemoryStore()
    learner = learner_of(store, folder)
    assert learner.in_use == {}
    learner.take(lesson(learner, verdict()))
    assert [each.name for each in folder.iterdir()] == [path.name]
    assert learner_of(store, folder).strategies[0].model == model()


def test_a_damaged_file_at_the_start_leaves_the_rule_s_own_confidence(store: MemoryStore, folder: Path) -> None:
    (told,) = taught(learner_of(store, folder), 0.1)
    path = folder / f"{told}.json"
    path.write_bytes(path.read_bytes()[:-40])
    with log_lines() as log:
        learner = learner_of(store, folder)
    (line,) = log
    assert line.startswith("ERROR")
    assert f"checkpoint {path} is not the one of model {told}" in line
    assert "the rule's own confidence stands" in line
    assert learner.strategies[0].model is None
    assert learner.in_use == {}, "it does not look as if the model were in use"
    assert not learner.outdated(), "told once"
    (after,) = learner.take(lesson(learner, verdict(bias=0.2)))
    assert learner.in_use == {"rule": after.model}
    assert versions(store)[-1].parent == told


def test_a_parent_s_file_is_damaged_when_it_should_come_back(store: MemoryStore, folder: Path) -> None:
    first, second = taught(learner_of(store, folder), 0.1, 0.2)
    (folder / f"{first}.json").write_bytes(b"{}")
    learner = learner_of(store, folder)  # one that has not seen it whole
    assert learner.in_use == {"rule": second}
    with log_lines() as log:
        (told,) = learner.take(lesson(learner, trigger="drift", fallen={"rule": FALLEN}))
    assert told.reason.endswith(f"{first} should be, but its file is of no use: the rule's own confidence is back")
    assert learner.in_use == {}
    assert learner.strategies[0].model is None
    assert [line for line in log if line.startswith("ERROR") and f"{first}.json" in line]
    pin(store, first, True)  # the registry goes on
    promote(store, folder, second)
    learner.reload()
    assert learner.in_use == {"rule": second}
