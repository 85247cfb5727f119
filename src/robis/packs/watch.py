"""Inspect every image that comes into a folder, each file exactly once, whatever happens to the process."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robis.errors import DataError
from robis.io.images import is_image, read_image
from robis.io.weights import sha256
from robis.packs.journal import Journal
from robis.packs.outputs import Outputs
from robis.packs.pack import Pack

logger = logging.getLogger(__name__)

# Seconds between two lines about images that wait.
BACKLOG_EVERY = 5.0
# What tells versions of a file apart without reading it: size in bytes, and time of the last change.
State = tuple[int, int]


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds.

    Attributes:
        poll: between two looks at the folder.
        settle: that a file has to stay unchanged before it is read.
        give_up: that an unchanged file may be unreadable before that is reported.
    """

    poll: float = 0.5
    settle: float = 1.0
    give_up: float = 30.0


class Watcher:
    """A watched folder, and the journal and outputs of what was found there.

    A file is known by its path below the folder and its content. A copy or a renamed file is reported, with the result
    of the first, and not inspected again. A file that gets another content is another file.

    Attributes:
        anomalous, failed: how many of the files that this process reported are anomalous, or were not inspected.
    """

    def __init__(
        self,
        pack: Pack,
        folder: Path,
        out: Path,
        *,
        patience: Patience = Patience(),
        any_size: bool = False,
        report: Callable[[dict[str, Any]], None] = lambda entry: None,
    ) -> None:
        """Open the journal; `report` is given every line after it is on the disk.

        Raises DataError where the folder does not exist or would get the outputs itself, or as `Journal`.
        """
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder. Give the folder that images come into.")
        if out.resolve() in (folder.resolve(), *folder.resolve().parents):
            raise DataError(f"{out}: masks would come into the watched folder {folder}. Give another --out.")
        self.pack, self.folder, self.out = pack, folder, out
        self._patience, self._any_size, self._report = patience, any_size, report
        self.anomalous = self.failed = 0
        self._journal, self._outputs = Journal(out, pack.digest), Outputs(out)
        self._states: dict[str, State] = {}
        self._results: dict[str, dict[str, Any]] = {}
        self._reported: set[tuple[str, str]] = set()
        self._since: dict[str, tuple[State, float]] = {}
        self._backlog_at = float("-inf")
        for entry in self._journal.entries:
            self._remember(entry)

    def run(self, stop: Callable[[], bool]) -> None:
        """Look at the folder again and again until `stop` says so; an image that is begun is finished."""
        try:
            while not stop():
                begin = time.monotonic()
                for file in self.settled():
                    self.process(file)
                    # What has come meanwhile may be older than what is still waiting.
                    if stop() or time.monotonic() - begin > self._patience.poll:
                        break
                else:
                    time.sleep(self._patience.poll)
        finally:
            self._journal.close()

    def settled(self) -> list[str]:
        """Files to be read that have not changed for a while, the oldest first."""
        now = time.monotonic()
        waiting = {file: state for file, state in self._scan() if self._states.get(file) != state}
        for file, state in waiting.items():
            if file not in self._since or self._since[file][0] != state:
                self._since[file] = (state, now)
        self._since = {file: since for file, since in self._since.items() if file in waiting}
        ready = [file for file in waiting if now - self._since[file][1] >= self._patience.settle]
        ready.sort(key=lambda file: (waiting[file][1], file))
        self._say_backlog(len(waiting), now)
        return ready

    def _say_backlog(self, waiting: int, now: float) -> None:
        if waiting > 1 and now - self._backlog_at >= BACKLOG_EVERY:
            logger.info("%s: %d images are waiting.", self.folder, waiting)
            self._backlog_at = now

    def _scan(self) -> Iterator[tuple[str, State]]:
        """Path below the folder, and state, of every image that is not hidden."""
        out = self.out.resolve()
        for place, folders, names in os.walk(self.folder):
            here = Path(place)
            folders[:] = [name for name in folders if name[0] != "." and (here / name).resolve() != out]
            for name in filter(is_image, names):
                state = _state(here / name)
                if state:
                    yield (here / name).relative_to(self.folder).as_posix(), state

    def process(self, file: str) -> None:
        """Report a file, unless it changes or vanishes meanwhile, or may still become readable."""
        path = self.folder / file
        state = _state(path)
        if state is None or state != self._since[file][0]:
            return
        try:
            digest = sha256(path)
        except OSError:
            # Removed, renamed, or not to be read yet.
            return
        if (file, digest) in self._reported:
            self._states[file] = state
            return
        known = self._results.get(digest)
        result = {**known["result"], "same_as": known["file"]} if known else self._inspect(file, digest)
        if result is None or _state(path) != state:
            return
        entry = {"file": file, "size": state[0], "mtime_ns": state[1], "sha256": digest, **result}
        self._journal.append(entry)
        self._remember(entry)
        self.anomalous += bool(entry.get("is_anomalous"))
        self.failed += "error" in entry
        self._report(entry)

    def _inspect(self, file: str, digest: str) -> dict[str, Any] | None:
        """The result of an image, whose outputs are on the disk then; None where it may still become readable."""
        begin = time.perf_counter()
        try:
            pixels = read_image(self.folder / file, bit_depth=self.pack.bit_depth)
        except DataError as error:
            unchanged = time.monotonic() - self._since[file][1]
            return {"error": str(error)} if unchanged >= self._patience.give_up else None
        read = 1000 * (time.perf_counter() - begin)
        try:
            result = self.pack.inspect(pixels, any_size=self._any_size, name=file)
        except DataError as error:
            return {"error": str(error)}
        name = self._outputs.name_of(file, digest)
        places = self._outputs.write(name, result)
        values = result.as_json()
        return {"name": name, **values, "milliseconds": {**values["milliseconds"], "read": round(read, 1)}, **places}

    def _remember(self, entry: dict[str, Any]) -> None:
        file, digest = entry["file"], entry["sha256"]
        self._states[file] = (entry["size"], entry["mtime_ns"])
        self._reported.add((file, digest))
        if "error" in entry or "same_as" in entry:
            return
        result = {key: value for key, value in entry.items() if key not in ("file", "size", "mtime_ns", "sha256")}
        self._results.setdefault(digest, {"file": file, "result": result})
        self._outputs.claim(entry["name"], file, digest)


def _state(path: Path) -> State | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
