"""One checkpoint, one file: tensors as safetensors, the facts as JSON in its header, a checksum over both.

A file is written beside its place, made durable and renamed, so that a kill leaves the old one or the new one. Nothing
in it can run: it holds numbers and text. What was changed after it was written is noticed, wherever the change is.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from trading_bot.durable import replacing
from trading_bot.errors import CheckpointError

SUFFIX = ".safetensors"
FORMAT = "trading_bot.checkpoint.1"
KEY = "trading_bot"
LARGEST = 4 << 30  # bytes; more is no checkpoint of ours

Tensors = Mapping[str, torch.Tensor]


def write_checkpoint(path: Path, tensors: Tensors, facts: Mapping[str, Any], *, durable: bool = True) -> str:
    """Replace `path` by these tensors and facts; the SHA-256 of the file's bytes.

    Parameters
    ----------
    tensors : by name; taken to the CPU, saved as they are
    facts : whatever JSON can say (infinity too)
    durable : wait until the disk has it, so that a power failure loses nothing

    Raises
    ------
    CheckpointError
        If the file cannot be written; the old one is untouched then.
    """
    kept = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts, sort_keys=True)
    header = {"format": FORMAT, "facts": text, "sha256": _digest(kept, text)}
    data = save(kept, {KEY: json.dumps(header, sort_keys=True)})  # of several keys the order would be chance
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=durable) as file:
            file.write(data)
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be written: {error.strerror or error}; make room or choose another folder"
        ) from error
    return hashlib.sha256(data).hexdigest()


def write_described(path: Path, tensors: Tensors, facts: Mapping[str, Any]) -> str:
    """`write_checkpoint`, and the facts beside it as JSON, for people; each whole or not at all."""
    digest = write_checkpoint(path, tensors, facts)
    with replacing(path.with_suffix(".json")) as file:
        file.write((json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())
    return digest


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and facts of a file that `write_checkpoint` wrote.

    Raises
    ------
    CheckpointError
        If it is absent, cut short, changed, or something else.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise _foreign(path, f"it has {size:,} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}; check the path") from None
    try:
        metadata = _metadata(data)
        tensors = load(data)
    except (SafetensorError, ValueError, TypeError, KeyError, RecursionError, OverflowError, RuntimeError) as error:
        raise _foreign(path, f"it cannot be read as safetensors: {' '.join(str(error).split())[:120]}") from None
    if metadata.get("format") != FORMAT or not isinstance(metadata.get("facts"), str):
        raise _foreign(path, f"its format is {str(metadata.get('format'))[:40]!r}, wanted {FORMAT!r}")
    if metadata.get("sha256") != _digest(tensors, metadata["facts"]):
        raise CheckpointError(
            f"checkpoint {path} does not match its checksum: it was changed after it was written; "
            "take another copy or train again"
        )
    facts = json.loads(metadata["facts"])
    if not isinstance(facts, dict):
        raise _foreign(path, f"its facts are a {type(facts).__name__}")
    return tensors, facts


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as `write_checkpoint` returned it."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}; check the path") from None


def _foreign(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is no whole checkpoint of this program: {found}; it may be cut short or something else: "
        "take another copy or train again"
    )


def _metadata(data: bytes) -> dict[str, Any]:
    """The header's own text; `load` gives the tensors alone."""
    (length,) = struct.unpack_from("<Q", data.ljust(8, b"\0"))
    if length > len(data) - 8:
        raise ValueError(f"a header of {length} bytes in a file of {len(data)}")
    header = json.loads(data[8 : 8 + length])
    try:
        metadata = json.loads(header["__metadata__"][KEY])
    except (KeyError, TypeError):
        metadata = None
    if not isinstance(metadata, dict):
        raise TypeError("its header has no facts of this program")
    return metadata


def _digest(tensors: Tensors, facts: str) -> str:
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()
