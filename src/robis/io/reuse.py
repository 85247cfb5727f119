"""Rows of an array that a job takes over from its previous result, where all that they depend on is the same.

Snakemake removes the previous result before a job runs. A hard link beside the results keeps its bytes. It takes no
room as long as the result is there as well, and a new one replaces it when the job is done.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from robis.errors import DataError, RobisError
from robis.io.arrays import open_array, release
from robis.io.atomic import atomic_folder, restore_folder
from robis.io.threads import threaded

logger = logging.getLogger(__name__)

# Of the folder: a link to the rows, and for each row the digests of what it was made from and of itself.
ROWS, DIGESTS = "rows.npy", "digests.npy"
DIGEST_BYTES = 16
# Rows copied before the pages of both files are released.
ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Reuse:
    """Where a job keeps its rows for the next run.

    Attributes:
        folder: what it keeps.
        recipe: what all rows depend on besides their own input: settings, code, libraries, model, device.
    """

    folder: Path
    recipe: tuple[str, ...]

    def adding(self, *parts: str) -> Reuse:
        """The same with more in its recipe."""
        return replace(self, recipe=(*self.recipe, *parts))

    def key(self, content: bytes) -> bytes:
        """Digest of the recipe and of a row's input."""
        return _digest("\0".join(self.recipe).encode() + b"\0\0" + content)


class Rows(Protocol):
    """An array, or rows of different sizes."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> np.ndarray: ...


class KeptRows:
    """What is kept of a job's previous result, and the keys of the rows of the new one."""

    def __init__(self, reuse: Reuse | None, keys: Sequence[bytes]) -> None:
        """Take keys as `Reuse.key` makes them, one per row of the new array; none without `reuse`."""
        self._reuse, self.keys = reuse, list(keys)

    def make_room(self, size: int) -> None:
        """Give up what is kept where the disk does not have `size` bytes for the new array beside it."""
        if self._reuse and self._reuse.folder.exists() and shutil.disk_usage(self._reuse.folder).free < size:
            logger.info("The disk has no room for the old and the new result: everything is computed again.")
            shutil.rmtree(self._reuse.folder, ignore_errors=True)

    def fill(self, rows: np.ndarray) -> list[int]:
        """Copy the kept rows that fit into a new array.

        Args:
            rows: the array, which may be mapped for writing.

        Returns:
            Ascending numbers of the other rows. A kept row that is not as it was written counts as missing.
        """
        previous, places = self._open(rows)
        if not places:
            return list(range(len(rows)))
        missing = []
        for number, key in enumerate(self.keys):
            place, digest = places.get(key, (0, b""))
            if digest and _digest(previous[place].tobytes()) == digest:
                rows[number] = previous[place]
            else:
                missing.append(number)
            if number % ROWS_AT_ONCE == 0:
                release(previous)
                release(rows)
        logger.info("%d of %d rows are new or changed.", len(missing), len(rows))
        return missing

    def keep(self, file: Path) -> None:
        """Keep the rows of the finished file for the next run instead of those of the run before.

        Where the file system has no hard links nothing is kept, and the next run computes all rows.
        """
        if self._reuse is None:
            return
        try:
            rows = open_array(file, stage=None)
            pairs = [key + _row_digest(rows, number) for number, key in enumerate(self.keys)]
            digests = np.frombuffer(b"".join(pairs), np.uint8).reshape(len(pairs), 2, DIGEST_BYTES)
            with atomic_folder(self._reuse.folder) as partial:
                os.link(file, partial / ROWS)
                np.save(partial / DIGESTS, digests)
        except (OSError, RobisError) as error:
            logger.info("%s: not kept for the next run (%s).", file, error)
            shutil.rmtree(self._reuse.folder, ignore_errors=True)

    def _open(self, rows: np.ndarray) -> tuple[np.ndarray, dict[bytes, tuple[int, bytes]]]:
        """Kept rows of the kind of `rows`, and number and digest of each by key."""
        nothing: tuple[np.ndarray, dict[bytes, tuple[int, bytes]]] = rows[:0], {}
        if self._reuse is None:
            return nothing
        folder = self._reuse.folder
        with suppress(OSError):
            restore_folder(folder)
        try:
            previous = open_array(folder / ROWS, stage=None, dtypes=[rows.dtype], shape=(None, *rows.shape[1:]))
            digests = open_array(
                folder / DIGESTS, stage=None, dtypes=[np.uint8], shape=(len(previous), 2, DIGEST_BYTES)
            )
        except DataError:
            return nothing
        return previous, {key.tobytes(): (n, digest.tobytes()) for n, (key, digest) in enumerate(digests)}


def kept_for(
    inputs: Rows, reuse: Reuse | None, threads: int = 1, *, others: Sequence[bytes | None] | None = None
) -> KeptRows:
    """The kept rows of an array whose rows are made from those of `inputs`, which may be mapped, and of `others`."""

    def key(number: int) -> bytes:
        row = inputs[number]
        other = (others[number] or b"") if others else b""
        row_key = reuse.key(f"{row.shape} ".encode() + row.tobytes() + other) if reuse else b""
        release(inputs)
        return row_key

    return KeptRows(reuse, list(threaded(key, range(len(inputs) if reuse else 0), threads)))


def _row_digest(rows: np.ndarray, number: int) -> bytes:
    digest = _digest(rows[number].tobytes())
    if number % ROWS_AT_ONCE == 0:
        release(rows)
    return digest


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:DIGEST_BYTES]
