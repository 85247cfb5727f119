"""Weight files: whether they are there, and their digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from robis.errors import WeightsError


def check_file(path: str | Path, key: str) -> None:
    """Raise WeightsError when the file that a config key names is not there."""
    if not Path(path).expanduser().is_file():
        raise WeightsError(
            f"{key}: {path} does not exist. Put the file there, or set {key} to where it is "
            f"(docs/weights.md says where each is published)."
        )


def sha256(path: str | Path) -> str:
    """Digest of a file's content, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
