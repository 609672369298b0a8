"""A checkpoint is read as it was written, or not at all; and nothing in it can run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from trading_bot.errors import CheckpointError
from trading_bot.training.checkpoint_file import FORMAT, KEY, file_sha256, read_checkpoint, write_checkpoint

DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool,
)  # fmt: skip
FACTS = {"kind": "test", "é": "ü\n", "best": float("inf"), "list": [1, None, True, 1e-300], "deep": {"a": {"b": []}}}


def tensors_of(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    made = {str(dtype): (torch.rand(3, 5) * 100).to(dtype) for dtype in DTYPES}
    weight = torch.rand(4, 6, requires_grad=True)
    return {
        **made,
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 7),
        "turned": weight.t(),
        "shared": weight,
        "part": torch.arange(10)[2:8:2],
        "not finite": torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0]),
    }


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        bits, other = (t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (found[name], tensor))
        assert torch.equal(bits, other), name


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "folders" / "a.safetensors"
    digest = write_checkpoint(path, tensors_of(), FACTS)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest() == file_sha256(path)
    return path


def test_round_trip(written: Path) -> None:
    found, facts = read_checkpoint(written)
    assert_same(found, tensors_of())
    assert facts == FACTS
    assert list(written.parent.iterdir()) == [written]
    write_checkpoint(written, {}, {}, durable=False)
    assert read_checkpoint(written) == ({}, {})


def test_the_same_content_is_the_same_bytes(written: Path) -> None:
    assert write_checkpoint(written.with_name("b"), tensors_of(), FACTS) == file_sha256(written)


def test_every_flipped_bit_is_noticed(written: Path, tmp_path: Path) -> None:
    whole, random, changed = written.read_bytes(), np.random.default_rng(5), tmp_path / "changed"
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    places = [*range(64), *random.integers(64, header * 8, 300), *random.integers(header * 8, len(whole) * 8, 300)]
    for place in places:
        data = bytearray(whole)
        data[place // 8] ^= 1 << (place % 8)
        changed.write_bytes(data)
        with pytest.raises(CheckpointError):
            read_checkpoint(changed)
    changed.write_bytes(whole)
    assert_same(read_checkpoint(changed)[0], tensors_of())


def test_every_truncation_and_every_addition_is_noticed(written: Path, tmp_path: Path) -> None:
    whole, cut = written.read_bytes(), tmp_path / "cut"
    lengths = [*range(12), *np.random.default_rng(6).integers(12, len(whole), 50), len(whole) - 1]
    for length in lengths:
        cut.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="cut short or something else"):
            read_checkpoint(cut)
    cut.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError):
        read_checkpoint(cut)


class _Payload:
    """A pickle of it, once loaded, makes a folder."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.marker,)


def headed(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def foreign_files(marker: str) -> dict[str, bytes]:
    def by_torch(content: Any, **options: Any) -> bytes:
        file = io.BytesIO()
        torch.save(content, file, **options)
        return file.getvalue()

    archive, array = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as inside:
        inside.writestr("data.pkl", pickle.dumps(_Payload(marker)))
    np.save(array, np.zeros(3))
    some, bomb = {"w": torch.zeros(2)}, _Payload(marker)

    def ours(**header: str) -> dict[str, str]:
        return {KEY: json.dumps({"format": FORMAT, "facts": "{}", "sha256": "0" * 64, **header})}

    return {
        "weights by torch.save": by_torch(some),
        "the older format of torch.save": by_torch(some, _use_new_zipfile_serialization=False),
        "code by torch.save": by_torch(bomb),
        "code in the older format": by_torch(bomb, _use_new_zipfile_serialization=False),
        "a pickle with code": pickle.dumps(bomb),
        "an old pickle with code": pickle.dumps(bomb, protocol=0),
        "a zip with code": archive.getvalue(),
        "plain safetensors": save(some),
        "safetensors of another program": save(some, {"format": "pt"}),
        "a wrong checksum": save(some, ours()),
        "a later format": save(some, ours(format="trading_bot.checkpoint.2")),
        "no facts": save(some, {KEY: json.dumps({"format": FORMAT})}),
        "facts that are a list": save({}, ours(facts="[]", sha256=hashlib.sha256(b"[]").hexdigest())),
        "JSON": b'{"kind": "forecaster"}',
        "a list of JSON": b"[1, 2, 3]",
        "nothing": b"",
        "zeros": bytes(4096),
        "a header beyond the end": struct.pack("<Q", 1 << 62) + b"{}",
        "a header that is a list": headed([1]),
        "a header that is no text": headed(b"\xff\xfe\xfa\xfb"),
        "a header without end": headed(b'{"a":' * 20_000),
        "a number without end": headed(b'{"__metadata__": ' + b"9" * 10_000 + b"}"),
        "a tensor beyond the end": headed(
            {"__metadata__": ours(), "w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
        ),
        "an unknown kind of number": headed(
            {"__metadata__": ours(), "w": {"dtype": "Z9", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)
        ),
        "an array": array.getvalue(),
        "text": b"epoch,loss\n1,0.5\n" * 100,
        "noise": np.random.default_rng(0).bytes(5000),
    }


def test_foreign_files_are_refused_and_none_of_them_runs(tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    files = foreign_files(str(marker))
    assert len(files) >= 20
    for name, data in files.items():
        path = tmp_path / "foreign"
        path.write_bytes(data)
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(path)
        assert str(path) in str(caught.value), name
        assert len(str(caught.value)) < 500
    assert not marker.exists()
    pickle.loads(files["a pickle with code"])
    assert marker.exists(), "the payload would have run"


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path, words in (
        (tmp_path, "Is a directory"),
        (tmp_path / "absent", "No such file"),
        (tmp_path / "dangling", "No such file"),
    ):
        for read in (read_checkpoint, file_sha256):
            with pytest.raises(CheckpointError, match=f"{path} cannot be read: {words}"):
                read(path)


def test_a_file_too_large_is_not_even_opened(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate((4 << 30) + 1)  # holes take no room
    with pytest.raises(CheckpointError, match="it has 4,294,967,297 bytes"):
        read_checkpoint(path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(written: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*{"fsync": (os, "fsync", full), "replace": (Path, "replace", full)}[call])
    with pytest.raises(CheckpointError, match="cannot be written: No space left on device; make room"):
        write_checkpoint(written, tensors_of(1), {})
    assert_same(read_checkpoint(written)[0], tensors_of())
    assert list(written.parent.iterdir()) == [written]


def test_a_place_that_cannot_be_written_is_told(written: Path) -> None:
    for path in (written / "below a file", written.parent, written.with_name("x" * 300)):
        with pytest.raises(CheckpointError, match=r"cannot be written: .+; make room or choose another folder"):
            write_checkpoint(path, {}, {})
    assert list(written.parent.iterdir()) == [written]
