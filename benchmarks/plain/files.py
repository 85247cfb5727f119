"""Loops over files as they are usually written."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def image_sizes(root: Path) -> list[list[int]]:
    """Decode every PNG below a folder, in the order of the names: height and width of each."""
    sizes = []
    for path in sorted(root.rglob("*.png")):
        with Image.open(path) as image:
            sizes.append(list(np.asarray(image.convert("RGB")).shape[:2]))
    return sizes


def pack(root: Path, target: Path) -> Path:
    """Pack a folder as `tarfile.open(..., "w:gz")` does: one thread, level 9."""
    with tarfile.open(target, "w:gz") as tar:
        tar.add(root, arcname=".")
    return target
