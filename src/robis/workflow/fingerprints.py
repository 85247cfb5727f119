"""One digest for the content of a split's files, computed once and remembered by path, size and time.

Snakemake sees this digest as a parameter: thousands of images never become thousands of inputs, and
copying or touching a data set changes nothing while any changed byte does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from robis.io.weights import sha256
from robis.workflow.remembered import remembered


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
    for name, digest in remembered(root, names, memory, sha256, threads=threads).items():
        total.update(f"{name}\0{digest}\n".encode())
    return total.hexdigest()[:32]


def file_digest(path: Path, memory: Path) -> str:
    """Digest of one file's content, whatever its name, as 32 hexadecimal digits; remembered as above."""
    return str(remembered(path.parent, [path.name], memory, sha256, threads=1)[path.name])[:32]
