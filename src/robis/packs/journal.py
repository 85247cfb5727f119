"""The journal of a watched folder: one JSON line per file, on the disk before anything else happens.

A line that a crash cut short counts for nothing: the file that it was about is inspected again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from robis.errors import DataError
from robis.io.atomic import atomic_file

JOURNAL = "journal.jsonl"


class Journal:
    """An open journal, of which there is one writer at a time.

    Attributes:
        path: the file.
        entries: the lines of earlier runs, without the first one.
    """

    def __init__(self, folder: Path, pack: str) -> None:
        """Open the journal of a folder of outputs, or begin one.

        Args:
            folder: of the outputs.
            pack: digest of the pack, which the first line names.

        Raises:
            DataError: another process writes it, it is damaged, or it was written with another pack.
        """
        self.path = folder / JOURNAL
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / f".{JOURNAL}.lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise DataError(f"{folder}: another `robis inspect --watch` writes there. Give another --out.") from None
        if not self.path.exists():
            with atomic_file(self.path) as partial:
                partial.write_text(_line({"journal": 1, "pack": pack}), encoding="utf-8")
        self.entries = list(self._read(pack))
        self._stream = self.path.open("a", encoding="utf-8")

    def append(self, entry: dict[str, Any]) -> None:
        """Write a line and bring it to the disk."""
        self._stream.write(_line(entry))
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Let other processes write it."""
        self._stream.close()
        self._lock.release()

    def _read(self, pack: str) -> Iterator[dict[str, Any]]:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with self.path.open("r+b") as stream:
                stream.truncate(len(whole))
                os.fsync(stream.fileno())
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise DataError(
                    f"{self.path}: line {number} is not JSON ({error}). Move the journal away, or give another --out."
                ) from error
            if number > 1:
                yield entry
            elif entry.get("pack") != pack:
                raise DataError(
                    f"{self.path}: written with another pack. Give another --out, so that results do not mix."
                )


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=True, allow_nan=False) + "\n"
