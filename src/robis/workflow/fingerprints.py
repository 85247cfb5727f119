"""One digest for the content of a split's files, computed once and remembered by path, size and time.

Snakemake sees this digest as a parameter: thousands of images never become thousands of inputs, and
copying or touching a data set changes nothing while any changed byte does.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from robis.errors import DataError, DiskFullError
from robis.io.atomic import atomic_file
from robis.io.threads import threaded
from robis.io.weights import sha256

logger = logging.getLogger(__name__)

Remembered = dict[str, tuple[int, int, str]]


def fingerprint(root: Path, names: Iterable[str], memory: Path, *, extra: str = "", threads: int = 8) -> str:
    """Digest of the named files' names and content, and of `extra`, as 32 hexadecimal digits.

    Args:
        root: folder that the names are relative to.
        names: posix paths; their order does not matter.
        memory: JSON file that remembers content digests; written when something new was read.
        extra: anything else that identifies the split, such as labels.
        threads: files read at the same time.

    Raises:
        DataError: a file cannot be read.
    """
    total = hashlib.sha256(extra.encode())
    for name, digest in _digests(root, names, memory, threads).items():
        total.update(f"{name}\0{digest}\n".encode())
    return total.hexdigest()[:32]


def file_digest(path: Path, memory: Path) -> str:
    """Digest of one file's content, whatever its name, as 32 hexadecimal digits; remembered as above."""
    return _digests(path.parent, [path.name], memory, 1)[path.name][:32]


def _digests(root: Path, names: Iterable[str], memory: Path, threads: int) -> dict[str, str]:
    """Content digests by name, in the order of the names; only what is new or changed is read."""
    place = str(root.resolve())
    known = _recall(memory, place)
    stats = {name: _stat(root / name) for name in sorted(set(names))}
    new = [name for name, (size, time) in stats.items() if known.get(name, ())[:2] != (size, time)]
    read = dict(zip(new, threaded(lambda name: sha256(root / name), new, min(threads, len(new))), strict=True))
    seen: Remembered = {
        name: (size, time, read[name] if name in read else known[name][2]) for name, (size, time) in stats.items()
    }
    if seen != known:
        _remember(memory, place, seen)
    return {name: digest for name, (_, _, digest) in seen.items()}


def _remember(memory: Path, place: str, seen: Remembered) -> None:
    try:
        with atomic_file(memory, sole_writer=False) as partial:
            partial.write_text(json.dumps({"root": place, "files": seen}), encoding="utf-8")
    except DiskFullError as error:
        # The plan is as good without; jobs that need room stop by themselves.
        logger.warning("%s Until then, images are read again for every plan.", error)


def _stat(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    return status.st_size, status.st_mtime_ns


def _recall(memory: Path, place: str) -> Remembered:
    """What is remembered of files at this place; another tree may have the same names, sizes and times."""
    try:
        stored = json.loads(memory.read_text(encoding="utf-8"))
        if stored["root"] != place:
            return {}
        return {name: (size, time, digest) for name, (size, time, digest) in stored["files"].items()}
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        # Absent or damaged: everything is read once more.
        return {}
