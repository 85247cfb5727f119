"""Names of files and folders: how they are compared, and which of them results can be named after.

The same letter has several spellings in Unicode. macOS writes some file systems and archives with accents as
characters of their own, people type composed letters: names are compared in composed form (NFC), and files are opened
by the name that the disk has.
"""

from __future__ import annotations

import os
import re
import unicodedata
from functools import lru_cache
from pathlib import Path, PurePath

# Snakemake fills in what stands in braces (wildcards) and in angle brackets (path variables).
FORBIDDEN = "/\\{}<>"
# Control characters, line and paragraph separators, and bytes that are no UTF-8.
_UNPRINTABLE = ("Cc", "Zl", "Zp", "Cs")
# File systems allow 255 bytes. Results add up to 26 to the name of a folder or split (`.1234abcd.partial.S.parquet`),
# and `.tiff` to that of an image.
LONGEST_FOLDER = 200
# Snakemake takes a name that ends in 20 times the same letters for a wildcard that recurs without end.
_REPEATED = re.compile(r"(.+)\1{19}$", re.DOTALL)
LONGEST_STEM = 255 - len(".tiff")
# Linux allows 4,096 bytes in a path, macOS 1,024; the results folder comes before an id.
LONGEST_ID = 800


def composed(name: str) -> str:
    """Give a name in the form in which names are compared (NFC)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def expanded(path: str | PurePath) -> Path:
    """A path with the home of `~` or `~user`; as a shell does, it stays as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def shown(name: object) -> str:
    """A name for a message: bytes that are no UTF-8 and control characters escaped, all others as they are."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(name))


@lru_cache(maxsize=10_000)
def folder_problem(name: str) -> str | None:
    """Say why a folder of the results cannot have this name, as the end of a sentence; None where it can.

    For names of data sets, categories and splits.
    """
    if not name:
        return "is empty"
    if letters := [letter for letter in name if letter in FORBIDDEN]:
        return f"contains {letters[0]!r}"
    if name[0] == ".":
        return "begins with a dot"
    if name[-1] == "." or name != name.strip():
        return "begins or ends with a space, or ends with a dot"
    if problem := _unprintable(name) or _too_long(name, LONGEST_FOLDER):
        return problem
    repeated = _REPEATED.search(name)
    return f"ends in {repeated[1]!r} 20 times over" if repeated else None


@lru_cache(maxsize=10_000)
def id_problem(sample_id: str) -> str | None:
    """Say why maps and masks cannot be named after a `sample_id`, as the end of a sentence; None where they can."""
    stem = sample_id.rpartition("/")[2]
    return _unprintable(sample_id) or _too_long(stem, LONGEST_STEM) or _too_long(sample_id, LONGEST_ID, "with folders ")


def _unprintable(name: str) -> str | None:
    if name.isascii() and name.isprintable():
        return None
    for letter in name:
        if "\udc80" <= letter <= "\udcff":
            return "is not UTF-8"
        if unicodedata.category(letter) in _UNPRINTABLE:
            return f"contains the control character {letter!r}"
    return None


def _too_long(name: str, limit: int, what: str = "") -> str | None:
    size = len(name.encode(errors="surrogateescape"))
    return f"is {what}{size} bytes long; at most {limit} leave room for the names of results" if size > limit else None


def on_disk(path: Path) -> Path:
    """Spell a path as the disk does: the same names, in whichever form of Unicode the files have.

    A path that exists stays as it is, and so does one that has no other spelling.
    """
    if str(path).isascii() or os.path.lexists(path):
        return path
    spelled = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        exact = spelled / part
        spelled = exact if os.path.lexists(exact) else spelled / _spellings(spelled).get(composed(part), part)
    return spelled if os.path.lexists(spelled) else path


def _spellings(folder: Path) -> dict[str, str]:
    """Names in a folder by their composed form."""
    try:
        return _read_spellings(folder, folder.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=64)
def _read_spellings(folder: Path, modified: int) -> dict[str, str]:
    return {composed(path.name): path.name for path in folder.iterdir() if not path.name.isascii()}
