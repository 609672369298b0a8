"""Files that are replaced whole: a kill leaves the old one or the new one, never a torn one."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """A file beside `path` that takes its place once it is written whole; else it is removed.

    Parameters
    ----------
    durable : wait until the disk has the file and its name, so that a power failure loses nothing

    Raises
    ------
    OSError
        Disk full, folder not writable, …; the old file is untouched then.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def remove_leftovers(place: Path) -> None:
    """Delete what killed writers left beside the file `place`, or anywhere in the folder `place` itself.

    A writer that is alive is left alone, unless it has our own number: ours are done, so it was another life's.
    """
    folder, name = (place, "*") if place.is_dir() else (place.parent, glob.escape(place.name))
    for temporary in folder.glob(f".{name}.*.tmp"):
        pid = temporary.name.removesuffix(".tmp").rpartition(".")[2]
        if pid.isdecimal() and (int(pid) == os.getpid() or not _alive(int(pid))):
            temporary.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable (POSIX keeps names in the folder, not in the file)."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
