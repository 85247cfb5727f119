"""Files of the same content."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from pathlib import Path

from robis.io.threads import threaded
from robis.io.weights import sha256

# Bytes compared at the beginning, in the middle and at the end before a file is read whole.
_PART = 1024


def identical_files(paths: Iterable[Path], *, threads: int = 1) -> list[list[Path]]:
    """Group files of byte for byte the same content; files that are alone in theirs are left out.

    Most files are told apart by their size, nearly all others by three short parts of them; only what is equal there
    is read whole. Empty files and those that cannot be read are left out. Groups and their files are in the order of
    `paths`.
    """
    keys: dict[Path, tuple[Hashable, ...]] = dict.fromkeys(paths, ())
    for read in (_size, _parts, sha256):
        values = threaded(partial(_or_none, read), keys, threads)
        keys = {path: (*key, value) for (path, key), value in zip(keys.items(), values, strict=True) if value}
        numbers = Counter(keys.values())
        keys = {path: key for path, key in keys.items() if numbers[key] > 1}
    groups: dict[Hashable, list[Path]] = {}
    for path, key in keys.items():
        groups.setdefault(key, []).append(path)
    return list(groups.values())


def _or_none(read: Callable[[Path], Hashable], path: Path) -> Hashable:
    try:
        return read(path)
    except OSError:
        return None


def _size(path: Path) -> int:
    return os.stat(path).st_size


def _parts(path: Path) -> bytes:
    with path.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        parts = [stream.read(_PART)]
        for start in (size // 2, max(0, size - _PART)):
            stream.seek(start)
            parts.append(stream.read(_PART))
    return b"".join(parts)
