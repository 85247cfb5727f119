"""Files and folders that appear whole or not at all, even after a kill or a power cut.

A writer writes beside its target, brings the data to the disk, renames, and brings the folder's new entry to the disk.
Whatever has its final name is therefore complete.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from robis.errors import DataError
from robis.io.disk import reporting_full_disk
from robis.io.threads import threaded

# Of a file or folder while it is written, and of a folder that is being replaced.
PARTIAL, REPLACED = "partial", "replaced"
# Files of a folder that are brought to the disk at the same time. The threads only wait, and file systems write what
# waits together: one after the other takes ten times as long.
WAITING = 8


@contextmanager
def atomic_file(target: str | Path, *, sole_writer: bool = True, size: int | None = None) -> Iterator[Path]:
    """Yield a path beside `target` to write to; it becomes `target` only if the block succeeds.

    Args:
        target: the file; missing folders above it are made.
        sole_writer: remove first what killed writers of the same target left behind. False where others may be at
            work on it right now.
        size: bytes that the file takes, where they are known, for the message about a full disk.

    Raises:
        DiskFullError: the disk is full or the quota exhausted, in whatever words the writing library puts it.
        DataError: another process has removed the unfinished file.
    """
    with _written_beside(Path(target), sole_writer, size) as partial:
        yield partial
        _sync(partial)
        os.replace(partial, target)


@contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """Yield a folder beside `target` to fill; it replaces `target` only if the block succeeds.

    The old folder is moved aside, and deleted once the new one is in its place; a writer that finds it aside, because
    the one before was killed between the two steps, moves it back first. Errors as for `atomic_file`.
    """
    target = Path(target)
    with _written_beside(target, sole_writer=True) as partial:
        partial.mkdir()
        yield partial
        _sync_tree(partial)
        if not os.path.lexists(target):
            os.replace(partial, target)
            return
        old = _beside(target, REPLACED)
        os.replace(target, old)
        try:
            os.replace(partial, target)
        except BaseException:
            os.replace(old, target)
            raise
        _sync_folder(target.parent)
        _remove(old)


def restore_folder(target: Path) -> None:
    """Put back a folder that a killed `atomic_folder` moved aside, and remove what it left unfinished.

    Nobody may write the folder at the same time.
    """
    if target.parent.is_dir():
        _clear(target)


@contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """Yield a path beside `target`, in a folder that exists; whatever lies there at the end is removed."""
    partial = _beside(target, PARTIAL)
    with reporting_full_disk(target):
        _make_folder(target.parent)
    try:
        yield partial
    finally:
        _remove(partial)


@contextmanager
def _written_beside(target: Path, sole_writer: bool, size: int | None = None) -> Iterator[Path]:
    """Yield a path to write to and to rename, and bring the folder's new entry to the disk afterwards."""
    with reporting_full_disk(target):
        made = _make_folder(target.parent)
        if sole_writer:
            _clear(target)
    # The disk is asked inside: once the unfinished file is removed, it is no longer full.
    with unfinished(target) as partial, reporting_full_disk(target, partial, size), _removal(target, partial):
        yield partial
        for folder in dict.fromkeys([target.parent, *(path.parent for path in made)]):
            _sync_folder(folder)


@contextmanager
def _removal(target: Path, partial: Path) -> Iterator[None]:
    """Raise DataError where another process has removed the unfinished file."""
    try:
        yield
    except FileNotFoundError as error:
        if partial.exists() or not str(error.filename).startswith(str(partial)):
            raise
        raise DataError(
            f"{target}: another process that writes the same target has removed its unfinished file. "
            f"Wait for the other one to end (a job may outlive a killed Snakemake), then run again."
        ) from error


def _beside(target: Path, kind: str) -> Path:
    return target.with_name(f".{uuid.uuid4().hex[:8]}.{kind}.{target.name}")


def _clear(target: Path) -> None:
    """Put a folder back that a killed writer moved aside, and remove the other leftovers of writers of `target`."""
    leftover = re.compile(rf"\.[0-9a-f]{{8}}\.({PARTIAL}|{REPLACED})\.{re.escape(target.name)}")
    for path in list(target.parent.iterdir()):
        match = leftover.fullmatch(path.name)
        if match and match[1] == REPLACED and not os.path.lexists(target):
            os.replace(path, target)
        elif match:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it; return the ones that were missing."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _sync_tree(folder: Path) -> None:
    """Bring all files below a folder to the disk, then the folders' entries."""
    folders = [(Path(path), names) for path, _, names in os.walk(folder, topdown=False)]
    files = (path / name for path, names in folders for name in names)
    for _ in threaded(_sync, files, WAITING):
        pass
    for path, _ in folders:
        _sync_folder(path)


def _sync(file: Path) -> None:
    # Windows flushes only what is open for writing.
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk, where the system can do that."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems have no such thing, and write entries at once.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
