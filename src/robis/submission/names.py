"""The names in a folder or archive compared with those of the upload: what is missing, misnamed or superfluous."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from robis.submission.members import FILE, FOLDER
from robis.submission.report import WHOLE, Report
from robis.submission.upload import MAPS, MASKS, SUFFIXES, File, Upload

WORDS = {MAPS: "maps", MASKS: "masks"}
# What the server does without them (an upload without masks is evaluated, and scored 0).
CONSEQUENCE = {MAPS: "", MASKS: "; the server gives 0 for SegF1 and ClassF1"}


class Entry(NamedTuple):
    """A member's kind and path as stored; the folder that holds the upload ("" for none), and the path below it."""

    kind: str
    stored: str
    top: str | None
    name: str


class Problem(NamedTuple):
    """Where (category and split, or WHOLE), what, and the path of the file or folder that goes wrong there."""

    place: str
    words: str
    name: str


def make_entry(kind: str, stored: str) -> Entry:
    """Split a path; the top is None where the path is no map's or mask's, or is not safe to unpack."""
    name = stored.removeprefix("./").rstrip("/")
    parts = name.split("/")
    if not {"", ".", ".."} & set(parts):
        if parts[0] in SUFFIXES:
            return Entry(kind, stored, "", name)
        if len(parts) > 1 and parts[1] in SUFFIXES and not parts[0].startswith("."):
            return Entry(kind, stored, parts[0], "/".join(parts[1:]))
    return Entry(kind, stored, None, name)


class Names:
    """Which files of an upload are among the entries, and everything that is wrong with the entries' names."""

    def __init__(self, entries: Sequence[Entry], upload: Upload) -> None:
        self.upload = upload
        # The folder of most files; files beside it are in the wrong place.
        tops = Counter(entry.top for entry in entries if entry.kind == FILE and entry.top is not None)
        self.top = tops.most_common(1)[0][0] if tops else ""
        self.folders = {str(folder) for name in upload.files for folder in PurePosixPath(name).parents}
        self.present: set[File] = set()
        self.stored = {entry.name for entry in entries if entry.top == self.top}
        self.problems = [(problem, entry.kind) for entry in entries if (problem := self._compare(entry))]

    def report(self, report: Report) -> None:
        """Add what is wrong with names to a report."""
        for (place, words, name), kind in self.problems:
            report.add(place, words, [name], files=int(kind != FOLDER))

    def report_missing(self, report: Report) -> None:
        """Add files that are not there, by folder where all of a folder's files are missing."""
        for kind, word in WORDS.items():
            files = [file for file in self.upload.files.values() if file.kind == kind]
            if self._report_folder(report, WHOLE, f"no {word} at all{CONSEQUENCE[kind]}", kind, files):
                continue
            for category in self.upload.categories:
                in_category = [file for file in files if file.category == category]
                if self._report_folder(report, category, "missing", f"{kind}/{category}", in_category):
                    continue
                for split in self.upload.splits(category):
                    place, in_split = f"{category}/{split}", [file for file in in_category if file.split == split]
                    if self._report_folder(report, place, "missing", f"{kind}/{place}", in_split):
                        continue
                    if missing := [file.short_name for file in in_split if file not in self.present]:
                        report.add(place, f"{len(missing)} of {len(in_split)} {word} missing", missing)

    def _report_folder(self, report: Report, place: str, words: str, folder: str, files: list[File]) -> bool:
        """Whether all files are missing; then they are one line."""
        if not self.present.isdisjoint(files):
            return False
        report.add(place, words, [f"{folder}/"], files=len(files))
        return True

    def _compare(self, entry: Entry) -> Problem | None:
        kind, stored, top, name = entry
        if name in ("", ".") or (kind == FOLDER and top is None and name == self.top):
            return None
        if stored.startswith("/") or ".." in name.split("/"):
            return Problem(WHOLE, "path that leads out of the upload; expected relative ones without ..", stored)
        if kind not in (FILE, FOLDER):
            return Problem(WHOLE, f"{kind}; expected files and folders only", name)
        file = self.upload.files.get(name) if kind == FILE else None
        if top is None or not (file or (kind == FOLDER and name in self.folders)):
            return self._unexpected(entry)
        if top != self.top:
            expected = f"in {self.top}/" if self.top else "at the top"
            return Problem(WHOLE, f"not where most files are; expected {expected}", stored)
        if file in self.present:
            return Problem("/".join(file.place), "stored twice; expected once", name)
        if file:
            self.present.add(file)
        return None

    def _unexpected(self, entry: Entry) -> Problem:
        """Say of a name that is not the upload's at which folder or file it goes wrong, and what is expected there."""
        parts = entry.name.split("/")
        if entry.top is None and self.top and parts[0] == self.top:
            parts = parts[1:]
        until = next((n for n, part in enumerate(parts, start=1) if part.startswith(".")), 0)
        if until:
            return Problem(WHOLE, "hidden; delete it", "/".join(parts[:until]))
        if entry.top is None and (deep := [n for n, part in enumerate(parts) if part in SUFFIXES]):
            folder = "/".join(parts[: deep[0] + 1])
            return Problem(WHOLE, f"too deep; expected {parts[deep[0]]} at the top or in one folder", folder)
        valid = [sorted(SUFFIXES), self.upload.categories]
        if len(parts) > 2 and parts[1] in self.upload.categories:
            valid.append(self.upload.splits(parts[1]))
        for level, expected in enumerate(valid):
            if level == len(parts):
                break
            if parts[level] not in expected:
                folder = "/".join(parts[: level + 1])
                return Problem(WHOLE, f"does not belong here; expected {', '.join(expected)}", folder)
        if len(parts) < 4:
            return Problem(WHOLE, "a file; expected a folder", entry.name)
        place = f"{parts[1]}/{parts[2]}"
        if len(parts) > 4 or entry.kind == FOLDER:
            return Problem(place, "folder that does not belong here; expected files only", "/".join(parts[:4]))
        return self._misnamed(place, parts)

    def _misnamed(self, place: str, parts: list[str]) -> Problem:
        kind, category, split, found = parts
        ids = self.upload.ids[category, split]
        number = re.match(r"[0-9]{1,9}(?![0-9])", found)
        near = [one for one in ids if number and one.startswith(f"{int(number[0]):03}_")]
        for sample_id in near:
            file = File(kind, category, split, sample_id)
            if file.name not in self.stored:
                return Problem(place, "misnamed", f"{found} (expected {file.short_name})")
        suffix = SUFFIXES[kind]
        return Problem(place, f"superfluous; expected {ids[0]}{suffix} to {ids[-1]}{suffix}", found)
