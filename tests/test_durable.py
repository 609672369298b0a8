"""Files replaced whole, and what killed writers leave behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trading_bot.durable import remove_leftovers, replacing

DEAD = 4_194_305  # beyond the largest process id


def leave(path: Path, pid: int) -> Path:
    """What a writer of `path` leaves if it is killed while it writes."""
    beside = path.with_name(f".{path.name}.{pid}.tmp")
    beside.touch()
    return beside


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_text("old")
    with pytest.raises(TypeError), replacing(path) as file:
        file.writelines([b"half of the n", "ew"])  # type: ignore[list-item]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with replacing(path) as file:
        file.write(b"new")
    assert path.read_text() == "new"


def test_leftovers_are_swept_and_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "BTC_USDT-1h[1].feather"  # brackets mean themselves
    alive, dead, mine = leave(path, os.getppid()), leave(path, DEAD), leave(path, os.getpid())
    neighbour, stranger = leave(tmp_path / "other.feather", DEAD), tmp_path / ".vimrc.tmp"
    stranger.touch()
    remove_leftovers(path)
    assert not dead.exists()
    assert not mine.exists(), "of an earlier life that had our number, as it has in a container"
    assert set(tmp_path.iterdir()) == {alive, neighbour, stranger}


def test_a_whole_folder_is_swept(tmp_path: Path) -> None:
    inner = tmp_path / "folds"
    inner.mkdir()
    kept, deep = tmp_path / "model.safetensors", leave(inner / "a.safetensors", DEAD)
    kept.touch()
    alive = leave(kept, os.getppid())
    leave(kept, DEAD)
    leave(tmp_path / "run.json", DEAD)
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {kept, alive, inner}
    assert deep.exists(), "folders below are others' business"
    remove_leftovers(tmp_path / "not" / "there")
