"""All that benchmarks ask of a GPU: to wait, its memory, its name. A CPU has nothing to wait for and no such memory.

Imports no torch, so that `benchmarks.bench` can bound its threads first; with another device than "cpu" it is there.
"""

from __future__ import annotations

import sys
from typing import Any

# What a CPU is given where a GPU is given most of its free memory.
CPU_BYTES = 1 << 30
# Device -> the largest peak before its counter began again.
_earlier_peaks: dict[str, int] = {}


def _torch() -> Any:
    return sys.modules["torch"]


def require_gpu(device: str) -> None:
    """Make a GPU the current device, with float32 products and convolutions that are float32, not TF32.

    Raises SystemExit where there is none.
    """
    torch = _torch()
    if not torch.cuda.is_available():
        raise SystemExit(f"--device {device}: torch finds no GPU. `--device cpu --quick` shows that a benchmark runs.")
    # set_device refuses a device without an index.
    torch.cuda.set_device(torch.device(device).index or 0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def synchronize(device: str) -> None:
    """Wait until the device has finished."""
    if device != "cpu":
        _torch().cuda.synchronize(device)


def start_peak(device: str) -> int | None:
    """Count the largest memory from now on; returns the bytes that are held now, None on a CPU."""
    if device == "cpu":
        return None
    cuda = _torch().cuda
    cuda.synchronize(device)
    _earlier_peaks[device] = largest_peak(device) or 0
    # What the allocator keeps does not count, and taking it from the driver again would add to the time of a run.
    cuda.reset_peak_memory_stats(device)
    return int(cuda.memory_allocated(device))


def peak(device: str) -> int | None:
    """The most bytes of tensors since `start_peak`; None on a CPU."""
    return None if device == "cpu" else int(_torch().cuda.max_memory_allocated(device))


def largest_peak(device: str) -> int | None:
    """The most bytes of tensors since the process began; None on a CPU."""
    now = peak(device)
    return None if now is None else max(now, _earlier_peaks.get(device, 0))


def free_bytes(device: str) -> int:
    """Memory that is free; for a CPU a gigabyte."""
    return CPU_BYTES if device == "cpu" else int(_torch().cuda.mem_get_info(device)[0])


def name(device: str) -> str:
    """The GPU's name; nothing for a CPU."""
    return "" if device == "cpu" else str(_torch().cuda.get_device_name(device))


def described(device: str) -> str:
    """The GPU and what drives it, in words."""
    torch = _torch()
    about = torch.cuda.get_device_properties(device)
    return f"{about.name}, {about.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}, no TF32"
