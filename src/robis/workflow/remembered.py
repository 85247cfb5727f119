"""Facts about files that are found out once and remembered by path, size and time of the file."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from robis.errors import DataError, DiskFullError
from robis.io.atomic import atomic_file
from robis.io.threads import threaded

logger = logging.getLogger(__name__)

Remembered = dict[str, tuple[int, int, Any]]


def remembered(
    root: Path,
    names: Iterable[str],
    memory: Path | None,
    measure: Callable[[Path], Any],
    *,
    threads: int = 8,
    writes: bool = True,
) -> dict[str, Any]:
    """A fact about each file, by name in sorted order; only files that are new or changed are opened.

    Args:
        root: folder that the names are relative to.
        names: posix paths; their order does not matter.
        memory: JSON file that remembers the facts; None: nothing is remembered.
        measure: finds out the fact, which JSON can hold, from a file's path.
        threads: files opened at the same time.
        writes: whether the memory is written when something new was found out.

    Raises:
        DataError: a file cannot be read.
    """
    place = str(root.resolve())
    known = _recall(memory, place) if memory else {}
    stats = {name: _stat(root / name) for name in sorted(set(names))}
    new = [name for name, (size, time) in stats.items() if known.get(name, ())[:2] != (size, time)]
    found = dict(zip(new, threaded(lambda name: measure(root / name), new, min(threads, len(new))), strict=True))
    seen: Remembered = {
        name: (size, time, found[name] if name in found else known[name][2]) for name, (size, time) in stats.items()
    }
    if memory and writes and seen != known:
        _remember(memory, place, seen)
    return {name: fact for name, (_, _, fact) in seen.items()}


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
        return {name: (size, time, fact) for name, (size, time, fact) in stored["files"].items()}
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        # Absent or damaged: everything is read once more.
        return {}
