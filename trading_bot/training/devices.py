"""Where a training runs."""

from __future__ import annotations

import torch

from trading_bot.errors import TrainingError


def available_devices() -> list[str]:
    """Names of the devices of this machine, the fastest kind first; `cpu` is always there."""
    found = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def pick_device(wanted: str | torch.device = "auto") -> torch.device:
    """The device of that name; `auto` takes CUDA, then MPS, then the CPU.

    Raises
    ------
    TrainingError
        If this machine has no such device; the message says which it has.
    """
    there = available_devices()
    if wanted == "auto":
        return torch.device(there[0])
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError):
        device = None
    known = device is not None and any(
        device.type == name.partition(":")[0] and (device.index is None or f"{device.type}:{device.index}" == name)
        for name in (*there, "cpu:0", *(["mps:0"] if "mps" in there else []))
    )
    if device is None or not known:
        raise TrainingError(
            f"device {str(wanted)!r} is not on this machine; it has {', '.join(there)}: choose one of them, or 'auto'"
        )
    return device
