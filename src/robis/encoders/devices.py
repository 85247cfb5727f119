"""Where models compute, and with which precision."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from robis.errors import ConfigError

logger = logging.getLogger(__name__)

_REDUCED = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name, as `named_device`; logged for people."""
    device = named_device(name)
    logger.info("Computing on %s.", torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU")
    return device


def named_device(name: str = "auto") -> torch.device:
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


def compute_type(device: torch.device, precision: str) -> torch.dtype:
    """Type of what is computed with a precision ("float32", "bf16", "fp16"): float32 on the CPU whatever it says."""
    return _REDUCED.get(precision, torch.float32) if device.type == "cuda" else torch.float32


@contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Mixed precision ("bf16", "fp16") on a GPU; on the CPU, and for "float32", everything stays float32.

    Convolutions of float32 values too: by default cuDNN rounds them to the ten bits of TF32.
    """
    kind = compute_type(device, precision)
    reduced = kind != torch.float32
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast(device.type, kind if reduced else torch.bfloat16, enabled=reduced):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
