"""Writes checkpoints without end, for a test that kills it: `python -m tests.training.writer PATH`.

Each line on stdin starts one writer, forked from a process that has imported PyTorch already. Told on stdout: the
writer's process id, then the number of every checkpoint that is written, then `gone`.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import torch

from trading_bot.training.checkpoint_file import write_checkpoint


def tensors_of(number: int) -> dict[str, torch.Tensor]:
    """Two megabytes that tells which checkpoint it is of."""
    return {"weights": torch.full((524_288,), float(number)), "number": torch.tensor(number)}


def tell(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def write_for_ever(path: Path, first: int) -> None:
    for number in itertools.count(first):
        write_checkpoint(path, tensors_of(number), {"number": number})
        tell(number)


def main(path: Path) -> None:
    torch.set_num_threads(1)  # a fork has the threads of nobody else
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            tell(f"pid {os.getpid()}")
            write_for_ever(path, int(line))
        os.waitpid(child, 0)
        tell("gone")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
