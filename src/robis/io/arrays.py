"""Arrays on disk, mapped into memory, so that neither writing nor reading one needs memory for all of it."""

from __future__ import annotations

import errno
import io
import math
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from robis.io.atomic import atomic_file, unfinished
from robis.io.damage import damaged, why_unreadable
from robis.io.disk import reporting_full_disk

# Bytes written at a time where a disk cannot reserve room.
ZEROS = 1 << 20
# What a file system answers that cannot reserve room.
CANNOT_RESERVE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def atomic_array(target: str | Path, dtype: DTypeLike, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield a new array to fill, mapped for writing; it becomes the .npy file `target` only if the block succeeds.

    All room on the disk is taken at once, since a map that runs out of disk later would end the process. The header,
    without which the file is no array, is written last, when the values are on the disk: a file of zeros that a power
    cut leaves cannot be taken for a finished one.

    Raises:
        DiskFullError: there is not enough room.
    """
    header = _header(dtype, shape)
    size = len(header) + _bytes(dtype, shape)
    with atomic_file(target, size=size) as partial:
        array = _mapped(partial, dtype, shape, offset=len(header))
        yield array
        if isinstance(array, np.memmap):
            array.flush()
        with open(partial, "r+b") as stream:
            os.fsync(stream.fileno())
            stream.write(header)


def scratch_array(target: str | Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.ndarray:
    """A new array on the disk of `target`, mapped for writing, for what does not fit in memory.

    Its file is unlinked as soon as it is mapped: the room is free again when the array is deleted or the process ends,
    however it ends.

    Raises:
        DiskFullError: there is not enough room.
    """
    with (
        unfinished(Path(target)) as partial,
        reporting_full_disk(Path(target), partial, _bytes(dtype, shape)),
    ):
        return _mapped(partial, dtype, shape)


def open_array(
    path: str | Path,
    *,
    stage: str | None,
    dtypes: Sequence[DTypeLike] | None = None,
    shape: tuple[int | None, ...] | None = None,
) -> np.ndarray:
    """Map a .npy file for reading; its values come from the disk as they are used.

    Args:
        path: the file.
        stage: rule that writes it, for the message; None for a file that robis did not make.
        dtypes: those that it may have; None: any.
        shape: the expected one, in which None stands for any length; None alone: any.

    Returns:
        The array, read-only.

    Raises:
        DataError: the file is missing, empty, cut short, never written, or holds another kind of array.
    """
    path = Path(path)
    try:
        with open(path, "rb") as stream:
            stored, dtype, offset = _read_header(stream)
        _check_length(path, offset + _bytes(dtype, stored))
    except (OSError, ValueError) as error:
        raise damaged(path, f"not a readable .npy file ({why_unreadable(path, error)})", stage) from error
    kinds = [np.dtype(kind) for kind in dtypes or ()]
    if not _fits(stored, shape) or (kinds and dtype not in kinds):
        allowed = " or ".join(map(str, kinds)) or "any type"
        sides = ", ".join("any" if side is None else str(side) for side in shape or ())
        raise damaged(path, f"{dtype} of shape {stored}; expected {allowed} of shape ({sides})", stage)
    if not math.prod(stored):
        return np.empty(stored, dtype)
    return np.memmap(path, dtype, "r", offset, stored)


def release(array: object) -> None:
    """Let go of the pages of a memory map: they stay on disk and in the system's cache, not in this process.

    Without it a process that goes through a whole map counts as large as the map. Anything else stays as it is.
    """
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def blocks(array: np.ndarray, length: int) -> Iterator[tuple[int, np.ndarray]]:
    """Go through an array that may be mapped, in memory for one block.

    Args:
        array: (N, ...).
        length: items per block.

    Yields:
        The number of a block's first item, and the block; its pages are released before the next.
    """
    for start in range(0, len(array), length):
        yield start, array[start : start + length]
        release(array)


def _bytes(dtype: DTypeLike, shape: tuple[int, ...]) -> int:
    return np.dtype(dtype).itemsize * math.prod(shape)


def _header(dtype: DTypeLike, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    layout = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, layout)
    return stream.getvalue()


def _read_header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, dtype and number of the first value's byte. Raises ValueError."""
    start = stream.read(len(np.lib.format.MAGIC_PREFIX))
    if start and not any(start):
        raise ValueError("its values were never written: it begins with zeros")
    if start != np.lib.format.MAGIC_PREFIX:
        raise ValueError("it does not begin as a NumPy file does")
    stream.seek(0)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except ValueError as error:
        raise ValueError("its header is cut short or damaged") from error
    if fortran or dtype.hasobject:
        raise ValueError(f"it holds {'Python objects' if dtype.hasobject else 'values in another order'}")
    return shape, dtype, stream.tell()


def _check_length(path: Path, expected: int) -> None:
    if (size := path.stat().st_size) < expected:
        raise ValueError(f"it is cut short: {size} of {expected} bytes")


def _fits(stored: tuple[int, ...], shape: tuple[int | None, ...] | None) -> bool:
    if shape is None:
        return True
    return len(shape) == len(stored) and all(n in (None, m) for n, m in zip(shape, stored, strict=True))


def _mapped(path: Path, dtype: DTypeLike, shape: tuple[int, ...], offset: int = 0) -> np.ndarray:
    """A new file of zeros with room for an array `offset` bytes from its beginning, and the array."""
    size = offset + _bytes(dtype, shape)
    with open(path, "w+b") as stream:
        _reserve(stream, max(1, size))
    if not math.prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r+", offset, shape)


def _reserve(stream: BinaryIO, size: int) -> None:
    """Take room on the disk for `size` bytes. Raises OSError when there is too little."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(stream.fileno(), 0, size)
            return
        except OSError as error:
            if error.errno not in CANNOT_RESERVE:
                raise
    # macOS, and disks that cannot: zeros that are written take the room as well.
    for start in range(0, size, ZEROS):
        stream.write(bytes(min(ZEROS, size - start)))
    stream.flush()
    os.fsync(stream.fileno())
