"""A full disk, recognized whichever library ran into it, and reported in one way."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from robis.errors import DiskFullError, RobisError

# No space on the disk, and none left of the user's quota.
FULL = tuple(getattr(errno, name) for name in ("ENOSPC", "EDQUOT") if hasattr(errno, name))
# Written to find out whether a disk is full, when an error does not say.
PROBE = bytes(1 << 16)


@contextmanager
def reporting_full_disk(target: Path, partial: Path | None = None, needed: int | None = None) -> Iterator[None]:
    """Raise DiskFullError for any error of the block that comes from a full disk.

    Args:
        target: file or folder that is written, as the message names it; where `partial` is None and the error itself
            names a file, that is named instead.
        partial: where `target` lies while it is written; its size says how much fitted.
        needed: bytes that it takes, where they are known beforehand.
    """
    try:
        yield
    except RobisError:
        raise
    except Exception as error:
        if not is_disk_full(error, target):
            raise
        raise DiskFullError(_message(target, partial, needed, error)) from error


def is_disk_full(error: BaseException, target: Path | None = None) -> bool:
    """Whether an error, or one that led to it, comes from a full disk or an exhausted quota.

    Some libraries drop the error number: safetensors keeps it in its text, and where NumPy's and torch's writers say
    no more than that they failed, writing a few bytes beside `target` tells.
    """
    chain = list(_causes(error))
    if any(isinstance(cause, OSError) and cause.errno in FULL for cause in chain):
        return True
    if any(f"(os error {number})" in str(cause) for cause in chain for number in FULL):
        return True
    unclear = isinstance(error, RuntimeError) or (isinstance(error, OSError) and error.errno is None)
    return unclear and target is not None and not _has_room(target)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _has_room(target: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=_existing(target.parent)) as stream:
            stream.write(PROBE)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error.errno not in FULL
    return True


def _message(target: Path, partial: Path | None, needed: int | None, error: Exception) -> str:
    takes = ""
    if partial is None:
        named = (cause.filename for cause in _causes(error) if isinstance(cause, OSError) and cause.filename)
        target = Path(next(named, target))
    elif needed is not None:
        takes = f" It takes {in_words(needed)}."
    else:
        written = _size(partial)
        takes = f" It takes more than {in_words(written) if written else 'is free'}."
    return f"{target}: the disk is full.{takes} {_room(target)} Make room and run again; finished results are kept."


def _room(target: Path) -> str:
    folder = _existing(target.parent)
    if hasattr(os, "statvfs"):
        disk = os.statvfs(folder)
        if disk.f_files and not disk.f_favail:
            return f"The disk of {folder} can hold no more files, however small."
    return f"Free in {folder}: {in_words(shutil.disk_usage(folder).free)}, or less where a quota applies."


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def in_words(count: int) -> str:
    """A number of bytes as people read it: 3 bytes, 4.2 kB, 17.0 GB."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    if unit == "bytes":
        return f"{count} byte{'' if count == 1 else 's'}"
    return f"{size:.1f} {unit}"
