"""Killed at any moment, a process that writes checkpoints leaves one that is whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from tests.training.writer import tensors_of
from trading_bot.training.checkpoint_file import read_checkpoint

KILLS = 15


def test_the_file_is_whole_after_every_kill(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.training.writer", str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        known = 0
        for kill in range(KILLS):
            print(known + 1, file=process.stdin, flush=True)
            child = int(process.stdout.readline().removeprefix("pid "))
            for _ in range(1 + kill % 3):
                known = int(process.stdout.readline())
            if kill % 3:  # while the next one is written; else before or after that, as it comes
                deadline = time.monotonic() + 10
                while not (tmp_path / f".{path.name}.{child}.tmp").exists():
                    assert time.monotonic() < deadline
            os.kill(child, signal.SIGKILL)
            while (line := process.stdout.readline().strip()) != "gone":
                known = int(line)
            tensors, facts = read_checkpoint(path)
            found = facts["number"]
            assert found in (known, known + 1), "the last one that was told of, or the one after it"
            known = found
            assert all(torch.equal(tensors[name], tensor) for name, tensor in tensors_of(found).items())
        process.stdin.close()
    torn = list(tmp_path.glob(".*.tmp"))
    assert torn, "no kill came in the middle of a write: the test has seen nothing"
