"""Weight files: whether they are there, and their digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from robis.errors import WeightsError
from robis.io.copies import copy_of
from robis.io.names import expanded

# How files begin that are often saved in place of weights.
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file it stands for. Fetch that: git lfs pull"),
    (b"<!doctype html", "an HTML page, perhaps a login or error page. Download the file again"),
    (b"<html", "an HTML page, perhaps a login or error page. Download the file again"),
    (b"<?xml", "an XML text, perhaps an error message of the server. Download the file again"),
    (b"{", "a JSON text, perhaps an index or an error message. Download the weights themselves"),
    (b"\x1f\x8b", "a gzip archive. Unpack it first"),
    (b"\x93numpy", "a NumPy array. Save the weights as .safetensors"),
    (b"\x89hdf", "an HDF5 file, as Keras writes them. Save the weights as .safetensors"),
    (b"\x89png", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"\x08\x00\x00\x00tfl", "a TensorFlow Lite model. Take the weights of the PyTorch model"),
)


def check_file(path: str | Path, key: str, advice: str = "") -> None:
    """Raise WeightsError when the file that a config key names is not there, or plainly is no file of weights.

    Args:
        path: the file; only its beginning is read.
        key: for messages.
        advice: what the message about another kind of file ends with, such as where the right one is published.
    """
    file = copy_of(expanded(path))
    if not file.is_file():
        state = "is a folder" if file.is_dir() else "does not exist"
        raise WeightsError(
            f"{key}: {path} {state}. Put the file there, or set {key} to where it is "
            f"(docs/weights.md says where each is published)."
        )
    if kind := other_kind(file):
        raise WeightsError(f"{key}: {path} is not a readable weights file: it is {kind}. {advice}".rstrip())


def other_kind(path: Path) -> str | None:
    """What a file is that begins as no weights do, and what to do; None where it may be weights."""
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head:
        return "empty. Download the file again"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head[257:262] == b"ustar":
        return "a tar archive. Unpack it first"
    return next((kind for beginning, kind in _BEGINNINGS if start.startswith(beginning)), None)


def sha256(path: str | Path) -> str:
    """Digest of a file's content, as 64 hexadecimal digits."""
    with copy_of(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
