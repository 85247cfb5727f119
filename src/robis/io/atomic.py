"""Writing files and folders as a whole: next to the target, then renamed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

# Imported where they are used: both are slow to import, and models run without them.
if TYPE_CHECKING:
    pass


@contextmanager
def atomic_file(target: str | Path, *, sole_writer: bool = True) -> Iterator[Path]:
    """Yield a path beside `target` to write to; it becomes `target` only if the block succeeds.

    What killed writers of the same target left behind is removed first, unless others may be at work
    on it right now (`sole_writer=False`).
    """
    partial = _beside(Path(target), sole_writer=sole_writer)
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """Yield a folder beside `target` to fill; it replaces `target` only if the block succeeds.

    What killed writers of the same target left behind is removed first.
    """
    target = Path(target)
    partial = _beside(target, sole_writer=True)
    partial.mkdir()
    try:
        yield partial
        if target.exists():
            shutil.rmtree(target)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _beside(target: Path, *, sole_writer: bool) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    ending = f".partial.{target.name}"
    if sole_writer:
        for leftover in target.parent.iterdir():
            if leftover.name.startswith(".") and leftover.name[9:] == ending:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    return target.with_name(f".{uuid.uuid4().hex[:8]}{ending}")
