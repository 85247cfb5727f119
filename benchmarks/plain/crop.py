"""Crop to PNG files, then load and resize them: two passes with files between, as the published code crops."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from PIL import Image


def starts(length: int, window: int, overlap: float) -> list[int]:
    """First pixels of the windows along one axis, by the published rule."""
    step = int(window * (1 - overlap))
    count = max(1, math.ceil((length - window) / step) + 1)
    return [index * step for index in range(count)]


def crop_with_pillow(images: list[Path], tiles: Path, window: int, overlap: float) -> list[Path]:
    """Write every window of every image as a PNG; what lies outside is black. Returns the files in order."""
    tiles.mkdir(parents=True, exist_ok=True)
    written = []
    for path in images:
        image = Image.open(path).convert("RGB")
        for row, y in enumerate(starts(image.height, window, overlap)):
            for column, x in enumerate(starts(image.width, window, overlap)):
                target = tiles / f"{path.stem}_{row}_{column}.png"
                image.crop((x, y, x + window, y + window)).save(target)
                written.append(target)
    return written


def crop_with_opencv(images: list[Path], tiles: Path, window: int, overlap: float) -> list[Path]:
    """The same by OpenCV, whose PNG files are larger and sooner written."""
    tiles.mkdir(parents=True, exist_ok=True)
    written = []
    for path in images:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert image is not None
        height, width = image.shape[:2]
        for row, y in enumerate(starts(height, window, overlap)):
            for column, x in enumerate(starts(width, window, overlap)):
                tile = np.zeros((window, window, 3), np.uint8)
                visible = image[y : y + window, x : x + window]
                tile[: visible.shape[0], : visible.shape[1]] = visible
                target = tiles / f"{path.stem}_{row}_{column}.png"
                cv2.imwrite(str(target), tile)
                written.append(target)
    return written


def load_and_resize(tiles: list[Path], size: int) -> np.ndarray:
    """Read tile files and resize them with Pillow's antialiased bilinear filter: uint8 (N, size, size, 3) RGB."""
    loaded = []
    for path in tiles:
        tile = Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        loaded.append(np.asarray(tile))
    return np.stack(loaded)


def crop_in_memory(images: list[Path], window: int, overlap: float, size: int) -> np.ndarray:
    """The shortest loop over images with Pillow, without files between: uint8 (N, size, size, 3) RGB."""
    tiles = []
    for path in images:
        image = Image.open(path).convert("RGB")
        for y in starts(image.height, window, overlap):
            for x in starts(image.width, window, overlap):
                tile = image.crop((x, y, x + window, y + window)).resize((size, size), Image.Resampling.BILINEAR)
                tiles.append(np.asarray(tile))
    return np.stack(tiles)
