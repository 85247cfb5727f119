"""Where models compute, and with which precision."""

from __future__ import annotations

import torch

from robis.errors import ConfigError

_REDUCED = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """The first visible GPU, else the CPU, for "auto"; otherwise the device of that name.

    Raises ConfigError for a name that torch does not know or a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device: {name!r} is none that torch knows. Expected: auto, cpu, cuda, cuda:0.") from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(f"device: {name!r} is not on this machine. Expected: auto, cpu or a GPU that torch sees.")
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision ("bf16", "fp16") on a GPU; on the CPU, and for "float32", everything stays float32."""
    enabled = device.type == "cuda" and precision in _REDUCED
    return torch.autocast(device.type, _REDUCED.get(precision, torch.bfloat16), enabled=enabled)
