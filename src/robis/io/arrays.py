"""Arrays on disk, mapped into memory."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

# Imported where they are used: both are slow to import, and models run without them.
if TYPE_CHECKING:
    pass
from robis.io.atomic import _beside


def new_array(path: Path, dtype: np.dtype | type, shape: tuple[int, ...]) -> np.ndarray:
    """A new .npy file, mapped for writing, with all its space taken at once.

    Raises OSError when the disk is too full; a map that runs out of disk later would end the process.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with open(path, "r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, max(1, path.stat().st_size))
    return array


def scratch_array(target: str | Path, dtype: np.dtype | type, shape: tuple[int, ...]) -> np.ndarray:
    """A new array on the disk of `target`, mapped for writing, for what does not fit in memory.

    Its file is unlinked as soon as it is mapped: the space is free again when the array is deleted or the process
    ends, in whatever way. Raises OSError when the disk is too full.
    """
    partial = _beside(Path(target), sole_writer=False)
    try:
        return new_array(partial, dtype, shape)
    finally:
        partial.unlink(missing_ok=True)


def release(array: np.ndarray) -> None:
    """Let go of the pages of a memory map: they stay on disk and in the system's cache, not in this process.

    Without it a process that goes through a whole map counts as large as the map.
    """
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
